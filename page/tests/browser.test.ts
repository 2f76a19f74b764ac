import { copyFileSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { AxeBuilder } from "@axe-core/playwright";
import { type Browser, type BrowserContext, type Page, chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { golden } from "./golden";
import { SENTENCE, explain } from "./explain";

const PROGRAM = process.env["HEXAPLA_CHROMIUM"] ?? "/usr/bin/chromium";
let browser: Browser;
let file: string;

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: PROGRAM, args: ["--no-sandbox"] });
  file = explain(SENTENCE, "--to", "en").page;
}, 120_000);

afterAll(async () => {
  await browser.close();
});

interface Opened {
  page: Page;
  context: BrowserContext;
  /** What went wrong: errors of scripts, of the console, and requests of anything but the file. */
  errors: string[];
}

async function open(path: string, settings: { width?: number; dark?: boolean; hash?: string; locale?: string } = {}): Promise<Opened> {
  const context = await browser.newContext({
    viewport: { width: settings.width ?? 1280, height: settings.width && settings.width < 500 ? 844 : 900 },
    colorScheme: settings.dark ? "dark" : "light",
    locale: settings.locale ?? "en-GB",
    offline: true,
  });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) errors.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`file://${path}`) && !request.url().startsWith("data:")) errors.push(`asked for ${request.url()}`);
  });
  await page.goto(`file://${path}${settings.hash ? `#${settings.hash}` : ""}`);
  await page.waitForSelector("html[data-ready]", { timeout: 10_000 });
  return { page, context, errors };
}

describe("the page, opened from a file without a network", () => {
  for (const language of ["zh", "en"] as const)
    for (const dark of [false, true])
      for (const width of [1280, 390])
        it(`${language}, ${dark ? "dark" : "light"}, ${width} wide`, async () => {
          const { page, context, errors } = await open(file, { dark, width, hash: `lang=${language}` });
          expect(await page.evaluate(() => document.documentElement.lang)).toBe(language);
          const title = await page.locator("#cross h2").textContent();
          expect(title).toContain(language === "zh" ? "交叉注意力" : "Cross-attention");
          // Marks of emphasis are for the figure that reads them.
          for (const stop of ["÷√d_k", "softmax", "Σ α·V", "Q·Kᵀ"]) {
            await page.locator("#head").getByRole("radio", { name: stop }).click();
            expect(await page.locator("main").innerText()).not.toMatch(/\*\*|`/);
          }
          // Nothing is wider than the page: figures scroll in their own boxes.
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          expect(wide).toBeLessThanOrEqual(1);
          // With the inspector open, which on a phone lies over the text.
          await page.evaluate((hash) => {
            location.hash = hash;
          }, `lang=${language}&c=encoder.layers.0.self_attention.weights:0.1.2`);
          await page.waitForSelector(".inspector .address");
          const found = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]).analyze();
          const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
          expect(serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary ?? ""}`).join(" | ")}`)).toEqual([]);
          expect(errors).toEqual([]);
          await context.close();
        });

  it("opens in the browser's language where none was asked for", async () => {
    for (const [locale, expected] of [
      ["zh-CN", "zh"],
      ["de-DE", "en"],
    ] as const) {
      const { page, context } = await open(file, { locale });
      expect(await page.evaluate(() => document.documentElement.lang)).toBe(expected);
      await context.close();
    }
  });

  it("shows what an address says, and says in its address what it shows", async () => {
    const { page, context } = await open(file, { hash: "s=head&lang=en&e=2&h=3&t=5&c=encoder.layers.2.self_attention.weights:3.5.1" });
    await expect.poll(() => page.locator(".inspector .address").textContent()).toContain("encoder.layers.2.self_attention.weights[3][5][1]");
    expect(await page.locator("#head").textContent()).toContain("encoder, layer 3, head 4");
    expect(page.url()).toContain("e=2");
    // What no model has is not believed.
    await page.goto(`file://${file}#s=nowhere&e=99&h=99&t=99&c=no.such.array:1.2`);
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    expect(await page.locator("#head").textContent()).toMatch(/head \d/);
    await context.close();
  });
});

describe("a number", () => {
  it("is written out, computed again and found equal, of each kind", async () => {
    const { page, context, errors } = await open(file, { hash: "lang=en" });
    const addresses = [
      "encoder.embedding.sum:3.7",
      "encoder.embedding.tokens:3.7",
      "encoder.embedding.positions:3.7",
      "encoder.layers.0.self_attention_norm:3.7",
      "encoder.layers.0.self_attention.q:2.3.9",
      "encoder.layers.1.self_attention.scores:2.3.9",
      "encoder.layers.1.self_attention.weights:2.3.9",
      "encoder.layers.1.self_attention.heads:2.3.9",
      "encoder.layers.0.self_attention.output:3.9",
      "encoder.layers.1.self_attention.sum:3.9",
      "encoder.layers.0.feed_forward.inner:3.40",
      "encoder.layers.0.feed_forward.outer:3.40",
      "decoder.layers.1.self_attention.scores:0.1.4",
      "decoder.layers.1.cross_attention.flow:0.1.4",
      "decoder.norm:2.5",
    ];
    for (const address of addresses) {
      await page.evaluate((hash) => {
        location.hash = hash;
      }, `lang=en&c=${address}`);
      const [name = "", index = ""] = address.split(":");
      const shown = name + index.split(".").map((i) => `[${i}]`).join("");
      await expect.poll(() => page.locator(".inspector .address").textContent()).toBe(shown);
      const text = (await page.locator(".inspector").textContent()) ?? "";
      expect(text, shown).toContain("recomputed");
      if (!name.endsWith(".tokens")) expect(text, shown).toContain("✓");
      expect(text, shown).not.toContain("✗");
    }
    // A summand leads to where it came from.
    await page.evaluate(() => {
      location.hash = "lang=en&c=encoder.layers.1.self_attention.scores:2.3.9";
    });
    await expect.poll(() => page.locator(".inspector .address").textContent()).toContain("scores");
    await page.locator(".inspector table button").first().click();
    expect(await page.locator(".inspector .address").textContent()).toMatch(/self_attention\.[qk]\[/);
    expect(errors).toEqual([]);
    await context.close();
  });
});

describe("without a mouse", () => {
  it("sections, cells and the inspector are reached", async () => {
    const { page, context } = await open(file);
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("To the text");
    await page.locator("#result").focus();
    await page.keyboard.press("j");
    await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe("pieces");
    await page.keyboard.press("k");
    await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe("result");
    const canvas = page.locator("#head canvas").first();
    await canvas.focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowRight");
    await expect.poll(() => page.locator("#head [aria-live]").first().textContent()).toMatch(/row .+, column .+: /);
    await page.keyboard.press("Enter");
    expect(await page.locator(".inspector .address").textContent()).toContain("scores[0][1][1]");
    await page.keyboard.press("Escape");
    await expect.poll(() => page.locator(".inspector .address").count()).toBe(0);
    await page.locator("#result [role=radio][aria-checked=true]").focus();
    await page.keyboard.press("ArrowRight");
    expect(await page.locator("#result [role=radio][aria-checked=true]").textContent()).toContain("saw");
    // Each figure is a stop, and none a trap.
    const stops: string[] = [];
    await page.locator("#cross").focus();
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      stops.push((await page.evaluate(() => document.activeElement?.closest("section.part")?.id)) ?? "");
    }
    expect(stops).toContain("cross");
    expect(stops).toContain("output");
    await context.close();
  });
});

describe("print", () => {
  it("has every section as text", async () => {
    const { page, context } = await open(file, { hash: "lang=en" });
    const pdf = await page.pdf({ format: "A4" });
    expect(pdf.length).toBeGreaterThan(50_000);
    await page.emulateMedia({ media: "print" });
    for (const section of ["result", "head", "cross", "output", "questions"]) expect(await page.locator(`#${section} h2`).isVisible()).toBe(true);
    expect(await page.locator(".controls").isVisible()).toBe(false);
    await context.close();
  });
});

describe("a picture", () => {
  it("of one head with a number written out, small enough for the README", async () => {
    const context = await browser.newContext({ viewport: { width: 1200, height: 720 }, colorScheme: "light", locale: "en-GB" });
    const page = await context.newPage();
    await page.goto(`file://${file}#lang=en&s=head&t=9&c=encoder.layers.0.self_attention.scores:0.9.8`);
    await page.waitForSelector("html[data-ready]");
    await page.locator("#head").getByRole("radio", { name: "softmax" }).click();
    await page.evaluate(() => {
      location.hash = "lang=en&t=9&c=encoder.layers.0.self_attention.weights:0.9.8";
    });
    await page.waitForSelector(".inspector .good");
    await page.locator("#head h2").evaluate((heading) => window.scrollTo({ top: heading.getBoundingClientRect().top + window.scrollY - 70, behavior: "instant" }));
    await page.waitForTimeout(1000);
    const picture = await page.screenshot();
    expect(picture.length).toBeLessThan(300_000);
    const wanted = process.env["HEXAPLA_PICTURE"];
    if (wanted) writeFileSync(wanted, picture);
    await context.close();
  });
});

describe("hostile input", () => {
  const texts = {
    markup: "</script><script>document.title='taken'</script><b>bold</b> &amp; <!-- -->",
    "right to left": "\u202eabc\u202c שלום \u2066x\u2069 العربية",
    "controls and joiners": "a\u0001b\u200b 👨‍👩‍👧‍👦 e\u0301 \ufeff ｆｕｌｌ",
    long: "word ".repeat(300).trim(),
  };
  for (const [name, text] of Object.entries(texts))
    it(name, async () => {
      const { page: path } = explain(text, "--to", "de", "--no-split", "--max-decoding-length", "40");
      const { page, context, errors } = await open(path, { hash: "lang=en" });
      expect(await page.title()).not.toBe("taken");
      expect(await page.locator("main b").filter({ hasText: "bold" }).count()).toBe(0);
      expect(await page.locator("section.part").count()).toBeGreaterThan(14);
      expect(errors).toEqual([]);
      await context.close();
    });

  it("a page without data, or with broken data, says so", async () => {
    const whole = readFileSync(file, "utf8");
    const start = whole.indexOf('{"arrays"');
    const data = whole.slice(start, whole.indexOf("</script>", start));
    for (const [put, said] of [
      ["", "There is no data"],
      ['{"format":', "cannot be read"],
      ['{"format":"hexapla-trace","version":7}', "version 7"],
      [data.replace(/"data":"[^"]{40}/, '"data":"AAAA'), "cannot be read"],
    ] as const) {
      const path = file.replace("page.html", "broken.html");
      writeFileSync(path, whole.replace(data, () => put));
      const context = await browser.newContext({ locale: "en-GB" });
      const page = await context.newPage();
      await page.goto(`file://${path}`);
      await expect.poll(() => page.locator("[role=alert]").textContent()).toContain(said);
      await context.close();
    }
  });
});

describe("other models", () => {
  it("an encoder alone has its part of the figure, and the same steps", async () => {
    const golden = resolve(import.meta.dirname, "../../crates/hexapla/tests/golden/encoders/bert_masked");
    const folder = mkdtempSync(join(tmpdir(), "hexapla-encoder-"));
    for (const name of ["config.json", "model.safetensors"]) copyFileSync(join(golden, name), join(folder, name));
    const words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "eats"];
    for (let i = words.length; i < 37; i++) words.push(`w${i}`);
    writeFileSync(join(folder, "vocab.txt"), words.join("\n"));
    const { page: path } = explain("the [MASK] eats", "--model", folder);
    const { page, context, errors } = await open(path, { hash: "lang=en&c=encoder.layers.0.self_attention.weights:1.2.0" });
    const sections = await page.locator("section.part").evaluateAll((all) => all.map((section) => section.id));
    expect(sections).toContain("head");
    expect(sections).toContain("output");
    expect(sections).not.toContain("cross");
    expect(sections).not.toContain("beams");
    expect(await page.locator(".inspector").textContent()).toContain("✓");
    expect(await page.locator("svg[aria-label='The model']").textContent()).not.toContain("decoder");
    expect(errors).toEqual([]);
    await context.close();
  });

  it("a decoder alone has its part of the figure, and the same steps", async () => {
    const { page: path, document: given } = explain("the dog bites the man", "--model", golden("decoders/qwen3_odd"), "--max-decoding-length", "6", "--contrast", "dog");
    for (const language of ["zh", "en"] as const)
      for (const dark of [false, true])
        for (const width of [1280, 390]) {
          const { page, context, errors } = await open(path, { dark, width, hash: `lang=${language}` });
          const sections = await page.locator("section.part").evaluateAll((all) => all.map((section) => section.id));
          for (const section of ["positions", "head", "decoder", "output", "beams", "whatif"]) expect(sections).toContain(section);
          expect(sections).not.toContain("cross");
          expect(await page.locator("svg[aria-label='The model'], svg[aria-label='模型全图']").textContent()).not.toMatch(/encoder ×|编码器/);
          expect(await page.locator("main").innerText()).not.toMatch(/\*\*|`|undefined|NaN/);
          const one = width === 1280 && !dark;
          for (const address of one ? [
            "decoder.embedding.sum:1.2",
            "decoder.layers.0.self_attention_norm:4.3",
            "decoder.layers.1.self_attention.query:4.3",
            "decoder.layers.1.self_attention.query_norm:4.3",
            "decoder.layers.1.self_attention.q:1.4.3",
            "decoder.layers.1.self_attention.k:0.4.1",
            "decoder.layers.1.self_attention.scores:1.4.2",
            "decoder.layers.1.self_attention.weights:1.7.2",
            "decoder.layers.0.feed_forward.gate:5.3",
            "decoder.layers.0.feed_forward.gated:5.3",
            "decoder.layers.0.feed_forward.outer:5.3",
            `output.logits:6.${given.output[6]?.id}`,
          ] : ["decoder.layers.1.self_attention.q:1.4.3"]) {
            await page.evaluate((hash) => {
              location.hash = hash;
            }, `lang=${language}&c=${address}`);
            const [name = "", index = ""] = address.split(":");
            const shown = name + index.split(".").map((i) => `[${i}]`).join("");
            await expect.poll(() => page.locator(".inspector .address").textContent()).toBe(shown);
            expect((await page.locator(".inspector").textContent()) ?? "", shown).toContain("✓");
          }
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          expect(wide).toBeLessThanOrEqual(1);
          const found = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]).analyze();
          const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
          expect(serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html).join(" | ")}`)).toEqual([]);
          expect(errors).toEqual([]);
          await context.close();
        }
  });

  it("greedy decoding and word pieces have their page", async () => {
    const { page: path } = explain("Tom sleeps.", "--to", "zh", "--beam-size", "1", "--ui", "zh");
    const { page, context, errors } = await open(path, { locale: "en-GB" });
    expect(await page.evaluate(() => document.documentElement.lang)).toBe("zh");
    expect(await page.locator("#beams").textContent()).toContain("贪心");
    expect(errors).toEqual([]);
    await context.close();
  });
});
