import { copyFileSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const GOLDEN = resolve(import.meta.dirname, "../../crates/hexapla/tests/golden");

/** A small model with a tokenizer of whole words, as a folder. Its first tokens are these. */
export function golden(name: string, control: string[] = ["<s>", "</s>", "<unk>"]): string {
  const folder = mkdtempSync(join(tmpdir(), "hexapla-golden-"));
  for (const file of ["config.json", "generation_config.json", "model.safetensors"])
    if (existsSync(join(GOLDEN, name, file))) copyFileSync(join(GOLDEN, name, file), join(folder, file));
  const { vocab_size } = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as { vocab_size: number };
  const words = [...control, "the", "dog", "bites", "man"];
  for (let i = words.length; i < vocab_size; i++) words.push(`w${i}`);
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const tokenizer = {
    version: "1.0",
    added_tokens: control.map((content, id) => ({ id, content, ...special })),
    pre_tokenizer: { type: "WhitespaceSplit" },
    model: { type: "WordLevel", unk_token: "<unk>", vocab: Object.fromEntries(words.map((word, id) => [word, id])) },
  };
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  return folder;
}
