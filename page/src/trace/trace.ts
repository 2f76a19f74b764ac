import { type Tensor, at, read, row, unpack } from "./arrays";
import { activate } from "./activation";
import type { Activation, Document, Norm, Rotary, Stack } from "./document";
import { type Column, type Graph, type Half, type Sublayer, graphOf, sees } from "./graph";

/** A document with its arrays, and those that follow from them. */
export class Trace {
  readonly graph: Graph;
  readonly sublayers: Map<string, Sublayer>;
  private readonly tensors = new Map<string, Tensor | null>();

  private constructor(
    readonly document: Document,
    private readonly bytes: ArrayBuffer,
  ) {
    this.graph = graphOf(document.model.config);
    const columns = [this.graph.encoder, this.graph.decoder];
    const all = columns.flatMap((column) => column?.sublayers ?? []);
    this.sublayers = new Map(all.map((sublayer) => [sublayer.name, sublayer]));
  }

  static async open(document: Document): Promise<Trace> {
    return new Trace(document, await unpack(document.data));
  }

  /** The value called `name`: as it was recorded, or as others give it; null where the file does not say enough. */
  tensor(name: string): Tensor | null {
    const known = this.tensors.get(name);
    if (known !== undefined) return known;
    const entry = this.document.arrays[name];
    const found = entry ? read(entry, this.bytes) : this.derive(name);
    this.tensors.set(name, found);
    return found;
  }

  /** Whether the file holds it. */
  isRecorded(name: string): boolean {
    return name in this.document.arrays;
  }

  /** The half that a value belongs to. */
  column(name: string): Column | null {
    return name.startsWith("decoder.") ? this.graph.decoder : this.graph.encoder;
  }

  /** Rows of a half: its tokens. */
  ids(half: Half): number[] {
    return half === "encoder" ? this.document.source : this.document.target;
  }

  /** The row of a table for the token `id`, where the file has it. */
  tableRow(table: string, id: number): Float32Array | null {
    const ids = this.tensor(`${table}.ids`);
    const rows = this.tensor(table);
    if (!ids || !rows) return null;
    const place = ids.data.indexOf(id);
    return place < 0 ? null : row(rows, place);
  }

  private derive(name: string): Tensor | null {
    const dot = name.lastIndexOf(".");
    const owner = name.slice(0, dot);
    const part = name.slice(dot + 1);
    const sublayer = this.sublayers.get(owner);
    if (part === "positions") return this.positions(name);
    if (name.endsWith("_norm") || part === "norm") return this.normed(name);
    if (!sublayer) return null;
    switch (part) {
      case "query":
      case "query_norm":
        return this.turnedBack(sublayer, part);
      case "scores":
        return this.scores(sublayer);
      case "heads":
        return this.heads(sublayer);
      case "gated":
        return this.gated(sublayer);
      case "output":
      case "outer":
        return this.difference(sublayer);
      default:
        return null;
    }
  }

  /** Queries before they were turned: all heads of a row, side by side. */
  private turnedBack(sublayer: Sublayer, part: string): Tensor | null {
    const attention = sublayer.attention;
    const q = this.tensor(`${sublayer.name}.q`);
    const frequencies = this.tensor("decoder.rotary.frequencies");
    const isLast = part === (attention?.query_key_norm ? "query_norm" : "query");
    if (!attention?.rotary || !isLast || !q || !frequencies) return null;
    const [heads = 0, rows = 0, width = 0] = q.shape;
    const half = attention.rotary.width / 2;
    const scale = magnitude(attention.rotary);
    const data = new Float32Array(heads * rows * width);
    for (let head = 0; head < heads; head++)
      for (let r = 0; r < rows; r++) {
        const from = row(q, head, r);
        const to = data.subarray((r * heads + head) * width, (r * heads + head + 1) * width);
        to.set(from);
        for (let i = 0; i < half; i++) {
          const angle = r * (frequencies.data[i] ?? 0);
          const [cosine, sine] = [Math.cos(angle) / scale, Math.sin(angle) / scale];
          const [a, b] = [from[i] ?? 0, from[i + half] ?? 0];
          to[i] = a * cosine + b * sine;
          to[i + half] = b * cosine - a * sine;
        }
      }
    return { shape: [rows, heads * width], data, recorded: false, error: (2 * q.error) / scale };
  }

  /** ln w + ln Σ exp(score): a weight's score. */
  private scores(sublayer: Sublayer): Tensor | null {
    const weights = this.tensor(`${sublayer.name}.weights`);
    const sums = this.tensor(`${sublayer.name}.log_sum_exp`);
    if (!weights || !sums) return null;
    const [, queries = 0, keys = 1] = weights.shape;
    const data = weights.data.map((weight, i) => {
      const key = i % keys;
      const query = Math.floor(i / keys) % queries;
      if (sublayer.attention && !sees(sublayer.attention, query, key)) return Number.NEGATIVE_INFINITY;
      return Math.log(weight) + (sums.data[Math.floor(i / keys)] ?? 0);
    });
    return { shape: weights.shape, data, recorded: false, error: 1e-3 };
  }

  /** Σ weight · v. */
  private heads(sublayer: Sublayer): Tensor | null {
    const weights = this.tensor(`${sublayer.name}.weights`);
    const v = this.tensor(`${sublayer.name}.v`);
    if (!weights || !v) return null;
    const [heads = 0, queries = 0, keys = 0] = weights.shape;
    const [kvHeads = 1, , width = 0] = v.shape;
    const data = new Float32Array(heads * queries * width);
    for (let head = 0; head < heads; head++) {
      const shared = Math.floor((head * kvHeads) / heads);
      for (let query = 0; query < queries; query++) {
        const to = data.subarray((head * queries + query) * width, (head * queries + query + 1) * width);
        for (let key = 0; key < keys; key++) {
          const weight = at(weights, [head, query, key]);
          if (weight === 0) continue;
          const value = row(v, shared, key);
          for (let i = 0; i < width; i++) to[i] = (to[i] ?? 0) + weight * (value[i] ?? 0);
        }
      }
    }
    return { shape: [heads, queries, width], data, recorded: false, error: 1e-3 };
  }

  /** How the network of a feed-forward sublayer is made. */
  feedForward(sublayer: Sublayer): { activation: Activation; gated: boolean } {
    const stack = this.graph[sublayer.half]?.stack;
    return stack?.layers[sublayer.layer]?.feed_forward ?? { activation: "relu", gated: false };
  }

  /** What goes on from a gated network's inner rows. */
  private gated(sublayer: Sublayer): Tensor | null {
    const gate = this.tensor(`${sublayer.name}.gate`);
    const inner = this.tensor(`${sublayer.name}.inner`);
    if (!gate || !inner) return null;
    const { activation } = this.feedForward(sublayer);
    const data = gate.data.map((x, i) => activate(activation, x) * (inner.data[i] ?? 0));
    const largest = inner.data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    return { shape: gate.shape, data, recorded: false, error: 1.2 * gate.error * largest + inner.error };
  }

  /** What a sublayer added: what it left less what was there before. */
  private difference(sublayer: Sublayer): Tensor | null {
    const sum = this.tensor(sublayer.sum);
    const before = this.tensor(sublayer.before);
    if (!sum || !before) return null;
    const data = sum.data.map((x, i) => x - (before.data[i] ?? 0));
    return { shape: sum.shape, data, recorded: false, error: sum.error + before.error };
  }

  /** What a norm is given, and how it divides. */
  normInput(name: string): { input: string; norm: Norm } | null {
    const sublayer = this.sublayers.get(name.replace(/_norm$/, ""));
    if (sublayer)
      return { input: sublayer.order === "pre" ? sublayer.before : sublayer.sum, norm: sublayer.norm };
    const column = this.column(name);
    if (column?.stack.norm && name === `${column.half}.norm`) {
      const last = column.sublayers[column.sublayers.length - 1];
      return { input: last ? last.after : column.embedded, norm: column.stack.norm };
    }
    if (column?.stack.embedding.norm && name === `${column.half}.embedding_norm`) {
      const segments = column.stack.embedding.segments > 0;
      return {
        input: `${column.half}.embedding.${segments ? "with_segments" : "sum"}`,
        norm: column.stack.embedding.norm,
      };
    }
    return null;
  }

  private normed(name: string): Tensor | null {
    const of = this.normInput(name);
    const x = of && this.tensor(of.input);
    const scale = this.tensor(`${name}.weight`);
    if (!of || !x || !scale) return null;
    const shift = this.tensor(`${name}.bias`);
    const [rows = 0, width = 1] = x.shape;
    const data = new Float32Array(rows * width);
    for (let r = 0; r < rows; r++) {
      const values = row(x, r);
      const { mean, deviation } = moments(values, of.norm);
      for (let i = 0; i < width; i++)
        data[r * width + i] =
          (((values[i] ?? 0) - mean) / deviation) * (scale.data[i] ?? 1) + (shift?.data[i] ?? 0);
    }
    return { shape: x.shape, data, recorded: false, error: 1e-2 };
  }

  private positions(name: string): Tensor | null {
    const column = this.column(name);
    if (!column) return null;
    const { embedding } = column.stack;
    const rows = this.ids(column.half).length;
    if (embedding.positions === null || embedding.positions === "learned" || embedding.unplaced_token !== null) return null;
    const width = embedding.width;
    const data = new Float32Array(rows * width);
    for (let r = 0; r < rows; r++)
      for (let i = 0; i < width; i++) data[r * width + i] = sinusoid(embedding, r, i).value;
    return { shape: [rows, width], data, recorded: false, error: 0 };
  }
}

/** What sines and cosines are multiplied by. */
export function magnitude(rotary: Rotary): number {
  const yarn = typeof rotary.scaling === "object" ? rotary.scaling["yarn"] : undefined;
  return typeof yarn?.["attention_factor"] === "number" ? yarn["attention_factor"] : 1;
}

/** Mean and divisor of a norm of `values`. */
export function moments(values: Float32Array, norm: Norm): { mean: number; deviation: number } {
  let sum = 0;
  if (norm.kind === "layer") for (const x of values) sum += x;
  const mean = sum / values.length;
  let squares = 0;
  for (const x of values) squares += (x - mean) ** 2;
  return { mean, deviation: Math.sqrt(squares / values.length + norm.eps) };
}

/** Column `i` of the row at `position`, counted from 0: its value, its angle, and whether it is a sine. */
export function sinusoid(
  embedding: Stack["embedding"],
  position: number,
  i: number,
): { value: number; angle: number; exponent: number; sine: boolean } {
  const half = embedding.width / 2;
  const interleaved = embedding.positions === "sinusoidal_interleaved";
  const pair = interleaved ? Math.floor(i / 2) : i % half;
  const sine = interleaved ? i % 2 === 0 : i < half;
  const divisor = embedding.positions === "sinusoidal_halves_fairseq" ? half - 1 : half;
  const exponent = pair / divisor;
  const angle = (position + embedding.position_offset) / 10000 ** exponent;
  return { value: sine ? Math.sin(angle) : Math.cos(angle), angle, exponent, sine };
}
