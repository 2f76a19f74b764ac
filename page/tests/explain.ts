import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Document } from "../src/trace/document";

/** The program: what `cargo test` built, where nothing else is said. */
export const PROGRAM = process.env["HEXAPLA_PROGRAM"] ?? resolve(import.meta.dirname, "../../target/debug/hexapla");

/** What the page is shown with where nothing else is said. */
export const SENTENCE = "我昨天在图书馆看见了你的哥哥。";

/** Runs `hexapla explain`; the page and the JSON are in a folder of their own. */
export function explain(text: string, ...flags: string[]): { page: string; document: Document } {
  const folder = mkdtempSync(join(tmpdir(), "hexapla-page-"));
  const [page, json] = [join(folder, "page.html"), join(folder, "trace.json")];
  execFileSync(PROGRAM, ["explain", text, "--output", page, "--json", json, ...flags], { stdio: ["ignore", "pipe", "pipe"] });
  return { page, document: JSON.parse(readFileSync(json, "utf8")) as Document };
}
