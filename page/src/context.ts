import { getContext, setContext } from "svelte";
import { piece } from "./format";
import type { Trace } from "./trace/trace";
import { t } from "./words/catalogue";

const KEY = Symbol("page");

/** What every figure may ask for. */
export class Page {
  constructor(readonly trace: Trace) {}

  get document() {
    return this.trace.document;
  }

  /** Whether the model is a decoder without an encoder: it goes on with its own text. */
  get alone(): boolean {
    return this.trace.graph.encoder === null && this.trace.graph.decoder !== null;
  }

  /** The first row whose output is the model's own, and not the text that it was given. */
  get firstOwn(): number {
    return Math.max(0, this.document.prompt - 1);
  }

  source(id: number): string {
    return piece(this.document.pieces.source[id] ?? `#${id}`);
  }

  target(id: number): string {
    return piece(this.document.pieces.target[id] ?? `#${id}`);
  }

  /** The tokens of a half's rows. */
  rows(half: "encoder" | "decoder"): string[] {
    return half === "encoder"
      ? this.document.source.map((id) => this.source(id))
      : this.document.target.map((id) => this.target(id));
  }

  /** What a row of tokens asks its reader. */
  get chooseToken(): string {
    return t(this.alone ? "bar.anyToken" : "bar.token");
  }

  /** What followed each row of the decoder. */
  get outputs(): string[] {
    return this.document.output.map(({ id }) => this.target(id));
  }
}

export function providePage(page: Page): Page {
  return setContext(KEY, page);
}

export function usePage(): Page {
  return getContext<Page>(KEY);
}
