import { tick } from "svelte";
import type { Document } from "./trace/document";

/** What is changed in the model. */
export interface AskedEdits {
  heads_off: [string, number][];
  hidden_source: number[];
  without_positions: boolean;
  without_mask: boolean;
  without_residual: boolean;
  keys_are_queries: boolean;
}

/** What the page asks of the program that serves it; docs/explain.md describes it. */
export interface Asked {
  text: string;
  to?: string;
  beam_size?: number;
  sentence?: number;
  prefix: number[];
  edits: AskedEdits;
  patch?: { text: string; name: string; rows: number[] };
}

const NO_EDITS: AskedEdits = {
  heads_off: [],
  hidden_source: [],
  without_positions: false,
  without_mask: false,
  without_residual: false,
  keys_are_queries: false,
};

/** The program that serves this page, if one does: a page that was written to a file has none. */
class Live {
  available = $state(false);
  /** Languages to translate into, where the model has several. */
  languages = $state<string[]>([]);
  asked = $state<Asked>({ text: "", prefix: [], edits: { ...NO_EDITS } });
  busy = $state(false);
  error = $state("");
  /** What came out for this text before anything was changed. */
  before = $state("");
  private shown: ((document: Document) => Promise<void>) | null = null;

  start(document: Document, languages: string[], shown: (document: Document) => Promise<void>): void {
    this.available = true;
    this.languages = languages;
    this.asked.text = document.text.given;
    this.before = document.text.output;
    this.shown = shown;
  }

  get changed(): boolean {
    const { edits, patch, prefix } = this.asked;
    return (
      prefix.length > 0 ||
      patch !== undefined ||
      edits.heads_off.length > 0 ||
      edits.hidden_source.length > 0 ||
      edits.without_positions ||
      edits.without_mask ||
      edits.without_residual ||
      edits.keys_are_queries
    );
  }

  /** Another text: what was changed for the last one is undone. */
  async say(text: string, to: string | undefined): Promise<void> {
    const { to: _, patch: __, ...rest } = $state.snapshot(this.asked);
    await this.ask({ ...rest, text, prefix: [], edits: { ...NO_EDITS }, ...(to ? { to } : {}) });
  }

  /** The same text with other changes. */
  async change(change: Partial<Pick<Asked, "prefix" | "patch">> & { edits?: Partial<AskedEdits> }): Promise<void> {
    const asked = $state.snapshot(this.asked);
    await this.ask({ ...asked, ...change, edits: { ...asked.edits, ...change.edits } });
  }

  async undo(): Promise<void> {
    const { patch: _, ...rest } = $state.snapshot(this.asked);
    await this.ask({ ...rest, prefix: [], edits: { ...NO_EDITS } });
  }

  private async ask(asked: Asked): Promise<void> {
    if (this.busy) return;
    // What has the keyboard loses it: while the program computes, and as the page is made anew.
    const id = globalThis.document.activeElement?.id;
    this.busy = true;
    this.error = "";
    try {
      const answer = await fetch("explain", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });
      const text = await answer.text();
      if (!answer.ok) {
        this.error = said(text);
        return;
      }
      const document = JSON.parse(text) as Document;
      this.asked = asked;
      if (!this.changed) this.before = document.text.output;
      await this.shown?.(document);
    } catch (error) {
      this.error = String(error);
    } finally {
      this.busy = false;
      await tick();
      if (id) globalThis.document.getElementById(id)?.focus({ preventScroll: true });
    }
  }
}

/** The words of an error, however it came. */
function said(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === "string" ? error : text;
  } catch {
    return text;
  }
}

export const live = new Live();
