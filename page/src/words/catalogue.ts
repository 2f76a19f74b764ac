import { view } from "../view.svelte";
import { figures } from "./figures";
import { questions } from "./questions";
import { story } from "./story";

/** Languages of the page. */
export type Language = "zh" | "en";

/** A text, or what makes one of numbers and names. */
// biome-ignore lint/suspicious/noExplicitAny: each entry has its own arguments, which `t` gives back.
export type Text = string | ((...given: any[]) => string);
export type Entry = { zh: Text; en: Text };

const words = { ...figures, ...story, ...questions } satisfies Record<string, Entry>;

export type Key = keyof typeof words;
type Given<K extends Key> = (typeof words)[K]["en"] extends (...given: infer A) => string ? A : [];

/** The text called `key` in the page's language. `**bold**` and `` `code` `` are marks for `Prose.svelte`. */
export function t<K extends Key>(key: K, ...given: Given<K>): string {
  const text: Text = words[key][view.language];
  return typeof text === "string" ? text : text(...given);
}
