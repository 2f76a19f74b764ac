import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";
import type { Plugin } from "vite";

/** The built page, from which the library is compiled. */
const PAGE = resolve(import.meta.dirname, "../crates/hexapla/src/explain/page.html");

/**
 * One file: script and style go into the page, with a policy that lets this one script run and nothing be loaded. `connect-src` is
 * for the live page, which asks the server that it came from; a page in a file has none.
 */
function onePage(): Plugin {
  return {
    name: "one-page",
    enforce: "post",
    generateBundle(_options, bundle) {
      let script = "";
      let style = "";
      for (const file of Object.values(bundle)) {
        if (file.type === "chunk") script += file.code;
        else if (file.fileName.endsWith(".css")) style += String(file.source);
      }
      // Nothing in it may end the element that it stands in.
      script = script.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
      const hash = createHash("sha256").update(script).digest("base64");
      const policy = [
        "default-src 'none'",
        `script-src 'sha256-${hash}'`,
        "style-src 'unsafe-inline'",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
      ].join("; ");
      const html = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        '<link rel="icon" href="data:,">',
        "<title>Hexapla</title>",
        `<style>${style}</style>`,
        "</head>",
        "<body>",
        '<div id="app"></div>',
        '<script type="application/json" id="trace"></script>',
        `<script type="module">${script}</script>`,
        "</body>",
        "</html>",
        "",
      ].join("\n");
      mkdirSync(dirname(PAGE), { recursive: true });
      writeFileSync(process.env["PAGE_OUTPUT"] ?? PAGE, html);
    },
  };
}

export default defineConfig({
  plugins: [svelte(), onePage()],
  build: {
    target: "es2022",
    write: false,
    cssCodeSplit: false,
    modulePreload: false,
    rolldownOptions: { output: { codeSplitting: false } },
  },
  test: { include: ["tests/**/*.test.ts"], testTimeout: 120_000, expect: { poll: { timeout: 20_000 } } },
} as Parameters<typeof defineConfig>[0]);
