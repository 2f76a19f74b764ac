import type { Address } from "./trace/derivation";
import type { Language } from "./words/catalogue";

export type Theme = "auto" | "light" | "dark";

/** What is looked at. It stands behind the `#` of the page's address, so that a link shows the same. */
class View {
  language = $state<Language>("en");
  theme = $state<Theme>("auto");
  /** The section that is being read. */
  section = $state("result");
  /** A layer of the encoder, and of the decoder. */
  encoderLayer = $state(0);
  decoderLayer = $state(0);
  head = $state(0);
  /** A token of the source, and a step of the decoder. */
  token = $state(0);
  step = $state(0);
  /** What cross-attention is drawn by. */
  measure = $state<"weights" | "flow">("weights");
  /** The number that the inspector shows. */
  cell = $state<Address | null>(null);
  /** Numbers that it is made of. */
  lit = $state<Address[]>([]);

  inspect(address: Address): void {
    this.cell = address;
  }

  /** As the end of an address. */
  get hash(): string {
    const parts = new URLSearchParams();
    parts.set("s", this.section);
    parts.set("lang", this.language);
    parts.set("e", String(this.encoderLayer));
    parts.set("d", String(this.decoderLayer));
    parts.set("h", String(this.head));
    parts.set("t", String(this.token));
    parts.set("y", String(this.step));
    if (this.theme !== "auto") parts.set("theme", this.theme);
    if (this.measure !== "weights") parts.set("m", this.measure);
    if (this.cell) parts.set("c", `${this.cell.name}:${this.cell.index.join(".")}`);
    return parts.toString();
  }

  /** Takes what `hash` says, within the bounds of the model. */
  read(hash: string, most: { e: number; d: number; h: number; t: number; y: number }): void {
    const parts = new URLSearchParams(hash.replace(/^#/, ""));
    const number = (key: "e" | "d" | "h" | "t" | "y", old: number): number => {
      const text = parts.get(key);
      if (text === null || !/^\d{1,6}$/.test(text)) return old;
      return Math.min(Number(text), Math.max(0, most[key] - 1));
    };
    const language = parts.get("lang");
    if (language === "zh" || language === "en") this.language = language;
    const theme = parts.get("theme");
    if (theme === "light" || theme === "dark") this.theme = theme;
    this.encoderLayer = number("e", this.encoderLayer);
    this.decoderLayer = number("d", this.decoderLayer);
    this.head = number("h", this.head);
    this.token = number("t", this.token);
    this.step = number("y", this.step);
    if (parts.get("m") === "flow") this.measure = "flow";
    const cell = /^([\w.]{1,120}):(\d+(?:\.\d+){0,3})$/.exec(parts.get("c") ?? "");
    if (cell?.[1] && cell[2]) this.cell = { name: cell[1], index: cell[2].split(".").map(Number) };
    this.section = parts.get("s") ?? this.section;
  }
}

export const view = new View();
