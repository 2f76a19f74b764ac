import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { figures } from "../src/words/figures";
import { QUESTION_SECTIONS, questions } from "../src/words/questions";
import { story } from "../src/words/story";

const words: Record<string, { zh: unknown; en: unknown }> = { ...figures, ...story, ...questions };

/** A text, or what its function makes of some arguments. */
function text(entry: unknown): string {
  return typeof entry === "function" ? String(entry(3, 4, 5, 6)) : String(entry);
}

/** All sources of the page. */
function sources(folder: string): string {
  return readdirSync(folder, { withFileTypes: true })
    .map((entry) => (entry.isDirectory() ? sources(join(folder, entry.name)) : readFileSync(join(folder, entry.name), "utf8")))
    .join("\n");
}

describe("the catalogue", () => {
  it("has each text in both languages, as that language is written", () => {
    for (const [key, { zh, en }] of Object.entries(words)) {
      expect(text(en), key).not.toBe("");
      expect(text(zh), key).not.toBe("");
      if (key.startsWith("language.") || /^head\.(raw|scaled|weights|blend)$/.test(key)) continue;
      expect(/[\u4e00-\u9fff]/.test(text(en)), `${key}: ${text(en)}`).toBe(false);
      // Chinese writes its own punctuation.
      expect(/[\u4e00-\u9fff][,;:!?]/.test(text(zh)), `${key}: ${text(zh)}`).toBe(false);
    }
  });

  it("has no text that is nowhere used", () => {
    const all = sources(resolve(import.meta.dirname, "../src"));
    const made = /^(kind|detail|theme)\.|\.title$|^[aq]\d+$|^head\.|^addnorm\.|^map\./;
    const uses = (key: string) => all.split(`"${key}"`).length + all.split(`'${key}'`).length - 2;
    // One of them is the catalogue's own.
    expect(Object.keys(words).filter((key) => !made.test(key) && uses(key) < 2)).toEqual([]);
  });

  it("answers fifteen questions", () => {
    expect(QUESTION_SECTIONS).toHaveLength(15);
    for (let i = 1; i <= 15; i++) expect(words[`q${i}`] && words[`a${i}`], String(i)).toBeTruthy();
  });

  it("puts no text into the page as markup", () => {
    expect(sources(resolve(import.meta.dirname, "../src"))).not.toMatch(/\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write/);
  });
});
