import { type Tensor, at, row } from "./arrays";
import { activate } from "./activation";
import type { Norm } from "./document";
import { type Sublayer, sees } from "./graph";
import { type Trace, magnitude, moments, sinusoid } from "./trace";

/** Where a number stands. */
export interface Address {
  name: string;
  index: number[];
}

export function showAddress(address: Address): string {
  return address.name + address.index.map((i) => `[${i}]`).join("");
}

export function sameAddress(a: Address | null, b: Address | null): boolean {
  return !!a && !!b && a.name === b.name && a.index.join() === b.index.join();
}

/** Ways in which numbers are made; each has its section of the paper, and its file. */
export const KINDS = {
  embed: { paper: "3.4", file: "ops/embedding.rs" },
  lookup: { paper: "3.4", file: "ops/embedding.rs" },
  position: { paper: "3.5", file: "model/positions.rs" },
  norm: { paper: "3.1", file: "ops/layer_norm.rs" },
  rms: { paper: "Zhang & Sennrich 2019", file: "ops/rms_norm.rs" },
  project: { paper: "3.2.2", file: "ops/linear.rs" },
  turn: { paper: "Su 2021", file: "ops/rotary.rs" },
  score: { paper: "3.2.1", file: "ops/attention.rs" },
  mask: { paper: "3.2.3", file: "ops/attention.rs" },
  softmax: { paper: "3.2.1", file: "ops/attention.rs" },
  blend: { paper: "3.2.1", file: "ops/attention.rs" },
  concat: { paper: "3.2.2", file: "ops/linear.rs" },
  residual: { paper: "3.1", file: "ops/pointwise.rs" },
  inner: { paper: "3.3", file: "ops/linear.rs" },
  gate: { paper: "Shazeer 2020", file: "ops/gate.rs" },
  outer: { paper: "3.3", file: "ops/linear.rs" },
  flow: { paper: "Kobayashi 2020", file: "explain/flow.rs" },
  logit: { paper: "3.4", file: "ops/cross_entropy.rs" },
  probability: { paper: "3.4", file: "generate/log_softmax.rs" },
} as const;

export type DerivationKind = keyof typeof KINDS;

/** One summand: two factors, or one number. */
export interface Term {
  label: string;
  factors: { value: number; address: Address | null }[];
  value: number;
}

/** How a number is made of others. */
export interface Derivation {
  kind: DerivationKind;
  /** Summands, or what an exponential is divided by. */
  terms: Term[];
  /** What it comes to; null where the file does not hold what is needed. */
  recomputed: number | null;
  /** What the model computed, where the file holds that. */
  recorded: number | null;
  /** How far the two may be apart, by how numbers are stored. */
  tolerance: number;
  /** Named numbers of the formula. */
  notes: { label: string; value: number }[];
  /** Values that light up: whole rows that it is made of. */
  rows: Address[];
  /** Matrix that the file does not hold. */
  missing: string | null;
}

/** Products at least this small, beside the largest, are not worth a line of their own. */
const LARGEST_TERMS = 8;

/** The terms that weigh most, in order of their size. */
export function largestTerms(terms: Term[], count = LARGEST_TERMS): Term[] {
  return [...terms].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, count);
}

/** How the number at `address` is made; null for one that was learned or given. */
export function derive(trace: Trace, address: Address): Derivation | null {
  const { name } = address;
  const dot = name.lastIndexOf(".");
  const owner = name.slice(0, dot);
  const part = name.slice(dot + 1);
  const sublayer = trace.sublayers.get(owner);
  if (name === "output.logits") return logit(trace, address);
  if (name === "output.probabilities") return probability(trace, address);
  if (name.endsWith(".embedding.sum")) return embed(trace, address);
  if (name.endsWith(".embedding.tokens")) return lookup(trace, address);
  if (part === "positions") return position(trace, address);
  if (trace.normInput(name)) return norm(trace, address);
  if (!sublayer) return null;
  switch (part) {
    case "q":
    case "k":
    case "v":
      return project(trace, address, sublayer, part);
    case "query":
    case "key":
      return projectRow(trace, address, sublayer, part);
    case "query_norm":
    case "key_norm":
      return headNorm(trace, address, sublayer, part);
    case "scores":
      return score(trace, address, sublayer);
    case "weights":
      return softmax(trace, address, sublayer);
    case "heads":
      return blend(trace, address, sublayer);
    case "output":
      return concat(trace, address, sublayer);
    case "flow":
      return flow(trace, address, sublayer);
    case "gated":
      return gate(trace, address, sublayer);
    case "gate":
    case "inner":
    case "outer":
      return feedForward(trace, address, sublayer, part);
    case "sum":
      return residual(trace, address, sublayer);
    default:
      return null;
  }
}

function value(tensor: Tensor | null, index: number[]): number {
  return tensor ? at(tensor, index) : Number.NaN;
}

function recorded(trace: Trace, address: Address): number | null {
  if (!trace.isRecorded(address.name)) return null;
  const tensor = trace.tensor(address.name);
  return tensor ? at(tensor, address.index) : null;
}

function sum(terms: Term[]): number {
  return terms.reduce((total, term) => total + term.value, 0);
}

/** The sum of the sizes of terms: rounding errors are parts of it. */
function size(terms: Term[]): number {
  return terms.reduce((total, term) => total + Math.abs(term.value), 0);
}

function empty(kind: DerivationKind, trace: Trace, address: Address): Derivation {
  return {
    kind,
    terms: [],
    recomputed: null,
    recorded: recorded(trace, address),
    tolerance: trace.tensor(address.name)?.error ?? 0,
    notes: [],
    rows: [],
    missing: null,
  };
}

function embed(trace: Trace, address: Address): Derivation {
  const [r = 0, c = 0] = address.index;
  const result = empty("embed", trace, address);
  const half = trace.column(address.name)?.half ?? "encoder";
  const tokens = { name: `${half}.embedding.tokens`, index: [r, c] };
  const positions = { name: `${half}.embedding.positions`, index: [r, c] };
  const row = lookup(trace, tokens);
  const of = row.recomputed;
  const added = trace.column(address.name)?.stack.embedding.positions !== null;
  const position = added ? trace.tensor(positions.name) : null;
  if (of !== null) result.terms.push(term("token", of, tokens));
  if (position) result.terms.push(term("position", value(position, [r, c]), positions));
  if (of !== null && (position || !added)) result.recomputed = sum(result.terms);
  result.tolerance += row.tolerance + 0.01 * size(result.terms);
  return result;
}

function lookup(trace: Trace, address: Address): Derivation {
  const [r = 0, c = 0] = address.index;
  const result = empty("lookup", trace, address);
  const column = trace.column(address.name);
  if (!column) return result;
  const { table, scale } = column.stack.embedding;
  const id = trace.ids(column.half)[r] ?? 0;
  const found = trace.tableRow(table, id);
  if (!found) return { ...result, missing: table };
  const own = found[c] ?? 0;
  result.terms = [
    {
      label: "token",
      factors: [
        { value: own, address: { name: table, index: [id, c] } },
        { value: scale, address: null },
      ],
      value: own * scale,
    },
  ];
  // The table's rows have 8 bits.
  const tolerance = (trace.tensor(table)?.error ?? 0) * scale;
  return { ...result, tolerance, recomputed: own * scale, notes: [{ label: "scale", value: scale }] };
}

function position(trace: Trace, address: Address): Derivation {
  const [r = 0, c = 0] = address.index;
  const result = empty("position", trace, address);
  const column = trace.column(address.name);
  if (!column) return result;
  const { embedding } = column.stack;
  if (embedding.positions === "learned" || embedding.positions === null) return { ...result, missing: "learned" };
  const { value: found, angle, exponent, sine } = sinusoid(embedding, r, c);
  return {
    ...result,
    recomputed: found,
    tolerance: result.tolerance + 1e-5,
    notes: [
      { label: "position", value: r + embedding.position_offset },
      { label: "exponent", value: exponent },
      { label: "angle", value: angle },
      { label: sine ? "sin" : "cos", value: found },
    ],
  };
}

function norm(trace: Trace, address: Address): Derivation {
  const [r = 0, c = 0] = address.index;
  const result = empty("norm", trace, address);
  const of = trace.normInput(address.name);
  const x = of && trace.tensor(of.input);
  const scale = trace.tensor(`${address.name}.weight`);
  if (!of || !x || !scale) return result;
  const shift = trace.tensor(`${address.name}.bias`);
  const learned = { gamma: scale.data[c] ?? 1, beta: shift?.data[c] ?? 0 };
  return normed(result, row(x, r), c, of.norm, learned, { error: x.error, row: { name: of.input, index: [r] } });
}

/** Number `c` of the norm of `values`. */
function normed(
  result: Derivation,
  values: Float32Array,
  c: number,
  kind: Norm,
  { gamma, beta }: { gamma: number; beta: number },
  from: { error: number; row: Address },
): Derivation {
  const { mean, deviation } = moments(values, kind);
  const own = values[c] ?? 0;
  const rms = kind.kind === "rms";
  return {
    ...result,
    kind: rms ? "rms" : "norm",
    recomputed: ((own - mean) / deviation) * gamma + beta,
    tolerance: result.tolerance + (0.002 * Math.abs(own - mean) + 2 * from.error) * Math.abs(gamma / deviation) + 0.002 * Math.abs(beta),
    notes: [
      { label: "x", value: own },
      ...(rms ? [] : [{ label: "mean", value: mean }]),
      { label: rms ? "RMS" : "deviation", value: deviation },
      { label: "γ", value: gamma },
      ...(rms ? [] : [{ label: "β", value: beta }]),
    ],
    rows: [from.row],
  };
}

/** The norm of one head of a row of queries or keys. */
function headNorm(trace: Trace, address: Address, s: Sublayer, part: "query_norm" | "key_norm"): Derivation {
  const [r = 0, c = 0] = address.index;
  const result = empty("rms", trace, address);
  const name = `${s.name}.${part === "query_norm" ? "query" : "key"}`;
  const x = trace.tensor(name);
  const scale = trace.tensor(`${address.name}.weight`);
  const width = s.attention?.head_width ?? 1;
  if (!x || !s.attention?.query_key_norm) return { ...result, missing: name };
  const first = c - (c % width);
  const values = row(x, r).subarray(first, first + width);
  const learned = { gamma: scale?.data[c % width] ?? 1, beta: 0 };
  return normed(result, values, c % width, s.attention.query_key_norm, learned, { error: x.error, row: { name, index: [r] } });
}

/** A row as a product in int8 has it: rounded to 127 steps of its largest number. */
function asInput(trace: Trace, values: Float32Array): Float32Array {
  const type = trace.document.model.compute_type;
  if (type !== "int8" && type !== "auto") return values;
  let largest = 0;
  for (const x of values) largest = Math.max(largest, Math.abs(x));
  const step = largest / 127 || 1;
  return values.map((x) => Math.round(x / step) * step);
}

/** x · W + b for one output. */
function product(
  trace: Trace,
  result: Derivation,
  input: { name: string; index: number[]; values: Float32Array },
  matrix: string,
  output: number,
): void {
  const weight = trace.tensor(`${matrix}.weight`);
  const bias = trace.tensor(`${matrix}.bias`);
  result.rows.push({ name: input.name, index: input.index });
  if (!weight) {
    result.missing = `${matrix}.weight`;
    return;
  }
  const column = row(weight, output);
  const rounded = asInput(trace, input.values);
  rounded.forEach((x, i) => {
    const w = column[i] ?? 0;
    result.terms.push({
      label: String(i),
      factors: [
        { value: x, address: { name: input.name, index: [...input.index, i] } },
        { value: w, address: { name: `${matrix}.weight`, index: [output, i] } },
      ],
      value: x * w,
    });
  });
  const offset = bias?.data[output] ?? 0;
  if (bias) result.notes.push({ label: "b", value: offset });
  result.recomputed = sum(result.terms) + offset;
  // Halves are off by 2⁻¹¹ of their size; in int8 a row that is stored as halves may be rounded to a neighbouring step.
  const steps = trace.document.model.compute_type === "float32" ? 2 ** -10 : 2 ** -6;
  result.tolerance += steps * Math.sqrt(result.terms.reduce((t, x) => t + x.value ** 2, 0)) * 4 + 1e-3 * Math.abs(offset);
  // A sum of many errors grows with the root of their number.
  const length = (values: Float32Array) => Math.sqrt(values.reduce((t, x) => t + x * x, 0));
  result.tolerance += 2.5 * (weight.error * length(rounded) + (trace.tensor(input.name)?.error ?? 0) * length(column));
}

function project(trace: Trace, address: Address, s: Sublayer, part: "q" | "k" | "v"): Derivation {
  const [head = 0, r = 0, c = 0] = address.index;
  const result = empty("project", trace, address);
  const source = part === "q" ? s.input : s.memory;
  const x = trace.tensor(source);
  const width = s.attention?.head_width ?? 1;
  const matrix = `${s.name}.${{ q: "query", k: "key", v: "value" }[part]}`;
  if (part !== "v" && (s.attention?.rotary || s.attention?.query_key_norm)) return turn(trace, address, s, matrix);
  if (!x) return result;
  product(trace, result, { name: source, index: [r], values: row(x, r) }, matrix, head * width + c);
  // The decoder's cache keeps 8 bits of a fraction.
  if (part !== "q" && s.half === "decoder") result.tolerance += 2 ** -8 * Math.abs(result.recorded ?? 0);
  return result;
}

/** All heads of a row, as the linear layer gave them. */
function projectRow(trace: Trace, address: Address, s: Sublayer, part: "query" | "key"): Derivation {
  const [r = 0, c = 0] = address.index;
  const result = empty("project", trace, address);
  const x = trace.tensor(s.input);
  if (x) product(trace, result, { name: s.input, index: [r], values: row(x, r) }, `${s.name}.${part}`, c);
  return result;
}

/** A number of a query or a key, which is turned together with its partner: `projection` made both. */
function turn(trace: Trace, address: Address, s: Sublayer, projection: string): Derivation {
  const [head = 0, r = 0, c = 0] = address.index;
  const result = empty("turn", trace, address);
  const attention = s.attention;
  if (!attention) return result;
  const { rotary } = attention;
  const name = attention.query_key_norm ? `${projection}_norm` : projection;
  const before = trace.isRecorded(name) ? trace.tensor(name) : null;
  const number = (column: number): { value: number; tolerance: number } | null => {
    if (before) return { value: at(before, [r, column]), tolerance: before.error };
    if (attention.query_key_norm) return null;
    const made = derive(trace, { name: projection, index: [r, column] });
    return made && made.recomputed !== null ? { value: made.recomputed, tolerance: made.tolerance } : null;
  };
  const first = head * attention.head_width;
  const own = number(first + c);
  if (!own) return { ...result, missing: before ? null : `${projection}.weight` };
  const addressOf = (column: number): Address => ({ name, index: [r, column] });
  // Keys are kept with 8 bits of a fraction.
  const kept = address.name.endsWith(".k") ? 2 ** -8 * Math.abs(result.recorded ?? 0) : 0;
  const tolerance = result.tolerance + kept + own.tolerance + 2 ** -10 * Math.abs(own.value);
  if (!rotary || c >= rotary.width)
    return { ...result, terms: [term("x", own.value, addressOf(first + c))], recomputed: own.value, tolerance };
  const frequencies = trace.tensor("decoder.rotary.frequencies");
  const half = rotary.width / 2;
  const partner = c < half ? c + half : c - half;
  const other = number(first + partner);
  if (!frequencies || !other) return { ...result, missing: frequencies ? `${projection}.weight` : "frequencies" };
  const angle = r * (frequencies.data[c % half] ?? 0);
  const cosine = Math.cos(angle) * magnitude(rotary);
  const sine = Math.sin(angle) * magnitude(rotary) * (c < half ? -1 : 1);
  result.terms = [
    { label: "x", factors: [{ value: own.value, address: addressOf(first + c) }, { value: cosine, address: null }], value: own.value * cosine },
    { label: "y", factors: [{ value: other.value, address: addressOf(first + partner) }, { value: sine, address: null }], value: other.value * sine },
  ];
  return {
    ...result,
    recomputed: sum(result.terms),
    tolerance: tolerance + other.tolerance + 2 ** -10 * Math.abs(other.value),
    notes: [
      { label: "position", value: r },
      { label: "angle", value: angle },
      { label: "cos", value: cosine },
      { label: "±sin", value: sine },
    ],
  };
}

function term(label: string, number: number, address: Address | null): Term {
  return { label, factors: [{ value: number, address }], value: number };
}

/** What self-attention adds to a score by the distance between query and key, in models that do so. */
export function relativePosition(trace: Trace, s: Sublayer, head: number, query: number, key: number): number | null {
  if (s.kind !== "self_attention") return null;
  const numbers = trace.tensor(`${s.name.split(".")[0]}.relative_positions`);
  const middle = ((numbers?.shape[1] ?? 0) - 1) / 2;
  return numbers ? at(numbers, [head, middle + key - query]) : null;
}

function score(trace: Trace, address: Address, s: Sublayer): Derivation {
  const [head = 0, query = 0, key = 0] = address.index;
  const result = empty("score", trace, address);
  const attention = s.attention;
  if (!attention) return result;
  if (!sees(attention, query, key))
    return { ...result, kind: "mask", recomputed: Number.NEGATIVE_INFINITY };
  const q = trace.tensor(`${s.name}.q`);
  const k = trace.tensor(`${s.name}.k`);
  if (!q || !k) return result;
  const shared = Math.floor((head * attention.kv_heads) / attention.heads);
  const queries = row(q, head, query);
  const keys = row(k, shared, key);
  queries.forEach((x, i) => {
    const y = keys[i] ?? 0;
    result.terms.push({
      label: String(i),
      factors: [
        { value: x, address: { name: `${s.name}.q`, index: [head, query, i] } },
        { value: y, address: { name: `${s.name}.k`, index: [shared, key, i] } },
      ],
      value: x * y,
    });
  });
  const dot = sum(result.terms);
  const added = relativePosition(trace, s, head, query, key);
  return {
    ...result,
    recomputed: dot * attention.scale + (added ?? 0),
    tolerance: result.tolerance + size(result.terms) * attention.scale * (2 ** -10 + (q.error + k.error) / 4) + 2e-3,
    notes: [
      { label: "q·k", value: dot },
      { label: attention.scale === 1 ? "×" : "1/√d_k", value: attention.scale },
      ...(added === null ? [] : [{ label: "+", value: added }]),
    ],
    rows: [
      { name: `${s.name}.q`, index: [head, query] },
      { name: `${s.name}.k`, index: [shared, key] },
    ],
  };
}

function softmax(trace: Trace, address: Address, s: Sublayer): Derivation {
  const [head = 0, query = 0, key = 0] = address.index;
  const result = empty("softmax", trace, address);
  const scores: number[] = [];
  const keys = trace.tensor(`${s.name}.weights`)?.shape[2] ?? 0;
  for (let other = 0; other < keys; other++) {
    const made = score(trace, { name: `${s.name}.scores`, index: [head, query, other] }, s).recomputed;
    if (made === null) return result;
    scores.push(made);
  }
  const largest = Math.max(...scores);
  scores.forEach((x, other) => {
    const power = Math.exp(x - largest);
    result.terms.push({
      label: String(other),
      factors: [{ value: x, address: { name: `${s.name}.scores`, index: [head, query, other] } }],
      value: power,
    });
  });
  const total = sum(result.terms);
  return {
    ...result,
    recomputed: (result.terms[key]?.value ?? 0) / total,
    tolerance: result.tolerance + 0.01 * (recordedOr(result) + 0.01),
    notes: [
      { label: "max", value: largest },
      { label: "Σ", value: total },
    ],
    rows: [{ name: `${s.name}.scores`, index: [head, query] }],
  };
}

function recordedOr(result: Derivation): number {
  return Math.abs(result.recorded ?? 1);
}

function blend(trace: Trace, address: Address, s: Sublayer): Derivation {
  const [head = 0, query = 0, c = 0] = address.index;
  const result = empty("blend", trace, address);
  const weights = trace.tensor(`${s.name}.weights`);
  const v = trace.tensor(`${s.name}.v`);
  if (!weights || !v || !s.attention) return result;
  const shared = Math.floor((head * s.attention.kv_heads) / s.attention.heads);
  row(weights, head, query).forEach((weight, key) => {
    const y = at(v, [shared, key, c]);
    result.terms.push({
      label: String(key),
      factors: [
        { value: weight, address: { name: `${s.name}.weights`, index: [head, query, key] } },
        { value: y, address: { name: `${s.name}.v`, index: [shared, key, c] } },
      ],
      value: weight * y,
    });
  });
  return {
    ...result,
    recomputed: sum(result.terms),
    tolerance: result.tolerance + 2 ** -9 * size(result.terms) + 2 * v.error,
    rows: [{ name: `${s.name}.weights`, index: [head, query] }],
  };
}

/** The heads of a row, side by side. */
export function concatenated(trace: Trace, s: Sublayer, r: number): Float32Array | null {
  const heads = trace.tensor(`${s.name}.heads`);
  if (!heads) return null;
  const [count = 0, , width = 0] = heads.shape;
  const all = new Float32Array(count * width);
  for (let head = 0; head < count; head++) all.set(row(heads, head, r), head * width);
  return all;
}

function concat(trace: Trace, address: Address, s: Sublayer): Derivation {
  const [r = 0, c = 0] = address.index;
  const result = empty("concat", trace, address);
  const values = concatenated(trace, s, r);
  if (!values) return result;
  product(trace, result, { name: `${s.name}.heads`, index: [r], values }, `${s.name}.output`, c);
  // Their addresses are by heads.
  const width = s.attention?.head_width ?? 1;
  result.terms.forEach((term, i) => {
    const first = term.factors[0];
    if (first?.address) first.address.index = [Math.floor(i / width), r, i % width];
  });
  result.rows = [{ name: `${s.name}.heads`, index: [-1, r] }];
  return result;
}

function flow(trace: Trace, address: Address, s: Sublayer): Derivation {
  const [head = 0, query = 0, key = 0] = address.index;
  const result = empty("flow", trace, address);
  const weight = value(trace.tensor(`${s.name}.weights`), [head, query, key]);
  const v = trace.tensor(`${s.name}.v`);
  const matrix = trace.tensor(`${s.name}.output.weight`);
  if (!v || !s.attention) return result;
  if (!matrix) return { ...result, missing: `${s.name}.output.weight` };
  const shared = Math.floor((head * s.attention.kv_heads) / s.attention.heads);
  const values = row(v, shared, key);
  const width = s.attention.head_width;
  let squares = 0;
  for (let out = 0; out < (matrix.shape[0] ?? 0); out++) {
    const column = row(matrix, out);
    let total = 0;
    for (let i = 0; i < width; i++) total += (values[i] ?? 0) * (column[head * width + i] ?? 0);
    squares += total * total;
  }
  const length = Math.sqrt(squares);
  return {
    ...result,
    recomputed: weight * length,
    tolerance: result.tolerance + 0.02 * weight * length,
    notes: [
      { label: "α", value: weight },
      { label: "‖v·W_O‖", value: length },
    ],
    rows: [{ name: `${s.name}.v`, index: [shared, key] }],
  };
}

function feedForward(trace: Trace, address: Address, s: Sublayer, part: "gate" | "inner" | "outer"): Derivation {
  const [r = 0, c = 0] = address.index;
  const { activation, gated } = trace.feedForward(s);
  const result = empty(part === "outer" ? "outer" : gated ? "project" : "inner", trace, address);
  const source = part === "outer" ? `${s.name}.${gated ? "gated" : "inner"}` : s.input;
  const x = trace.tensor(source);
  if (!x) return { ...result, missing: source };
  product(trace, result, { name: source, index: [r], values: row(x, r) }, `${s.name}.${part}`, c);
  if (part === "inner" && !gated && result.recomputed !== null) {
    result.notes.push({ label: "sum", value: result.recomputed });
    result.recomputed = activate(activation, result.recomputed);
  }
  return result;
}

/** One linear layer's number, activated, times another's. */
function gate(trace: Trace, address: Address, s: Sublayer): Derivation {
  const result = empty("gate", trace, address);
  const [gate, inner] = [`${s.name}.gate`, `${s.name}.inner`];
  const [a, b] = [trace.tensor(gate), trace.tensor(inner)];
  if (!a || !b) return { ...result, missing: a ? inner : gate };
  const [x, y] = [at(a, address.index), at(b, address.index)];
  const opened = activate(trace.feedForward(s).activation, x);
  result.terms = [
    {
      label: "gate",
      factors: [
        { value: opened, address: { name: gate, index: address.index } },
        { value: y, address: { name: inner, index: address.index } },
      ],
      value: opened * y,
    },
  ];
  return {
    ...result,
    recomputed: opened * y,
    tolerance: result.tolerance + 2 ** -9 * Math.abs(opened * y) + 1.2 * a.error * Math.abs(y) + b.error * Math.abs(opened),
    notes: [
      { label: "x·W", value: x },
      { label: "f(x·W)", value: opened },
    ],
  };
}

function residual(trace: Trace, address: Address, s: Sublayer): Derivation {
  const [r = 0, c = 0] = address.index;
  const result = empty("residual", trace, address);
  const before = trace.tensor(s.before);
  const output = trace.tensor(s.output);
  if (!before || !output) return result;
  // What was found as the difference of the two proves nothing about their sum.
  if (!output.recorded) return { ...result, missing: s.output };
  result.terms = [
    term("x", at(before, [r, c]), { name: s.before, index: [r, c] }),
    term("sublayer(x)", at(output, [r, c]), { name: s.output, index: [r, c] }),
  ];
  return {
    ...result,
    recomputed: sum(result.terms),
    tolerance: result.tolerance + 2 ** -10 * size(result.terms) + before.error + output.error,
  };
}

/** `index` is the row and the token's id. */
function logit(trace: Trace, address: Address): Derivation {
  const [r = 0, id = 0] = address.index;
  const result = empty("logit", trace, address);
  const candidates = trace.document.candidates[r];
  const own = candidates?.tokens.find(([token]) => token === id);
  if (candidates && own && own[1] !== null) result.recorded = own[1] + candidates.log_sum_exp;
  const column = trace.graph.decoder ?? trace.graph.encoder;
  const head = trace.document.model.config.head;
  const tokens = head?.output && "tokens" in head.output ? head.output.tokens : null;
  const table = tokens?.table;
  const scale = tokens?.scale ?? 1;
  const x = column && trace.tensor(column.output);
  if (!column || !x || !table || head?.dense) return result;
  const weights = trace.tableRow(table, id);
  if (!weights) return { ...result, missing: table };
  const values = asInput(trace, row(x, r));
  values.forEach((y, i) => {
    const w = weights[i] ?? 0;
    result.terms.push({
      label: String(i),
      factors: [
        { value: y, address: { name: column.output, index: [r, i] } },
        { value: w, address: { name: table, index: [id, i] } },
      ],
      value: y * w,
    });
  });
  const bias = trace.document.arrays["output.bias"] ? value(trace.tensor("output.bias"), [id]) : 0;
  return {
    ...result,
    recomputed: (sum(result.terms) + bias) * scale,
    tolerance:
      scale * 2 ** -6 * 4 * Math.sqrt(result.terms.reduce((t, y) => t + y.value ** 2, 0)) +
      0.01 * Math.abs(result.recorded ?? 0) +
      scale * 2.5 * (trace.tensor(table)?.error ?? 0) * Math.sqrt(values.reduce((t, y) => t + y * y, 0)),
    notes: scale === 1 ? [] : [{ label: "1/√d_model", value: scale }],
    rows: [{ name: column.output, index: [r] }],
  };
}

function probability(trace: Trace, address: Address): Derivation {
  const [r = 0, id = 0] = address.index;
  const result = empty("probability", trace, address);
  const candidates = trace.document.candidates[r];
  const own = candidates?.tokens.find(([token]) => token === id);
  if (!candidates || !own || own[1] === null) return result;
  const logit = own[1] + candidates.log_sum_exp;
  return {
    ...result,
    terms: [term("logit", logit, { name: "output.logits", index: [r, id] })],
    recomputed: Math.exp(logit - candidates.log_sum_exp),
    recorded: Math.exp(own[1]),
    tolerance: 1e-4,
    notes: [
      { label: "logit", value: logit },
      { label: "ln Σ exp", value: candidates.log_sum_exp },
    ],
  };
}
