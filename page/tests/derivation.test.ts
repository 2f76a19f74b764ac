import { describe, expect, it } from "vitest";
import { at } from "../src/trace/arrays";
import { type Address, type DerivationKind, KINDS, derive, showAddress } from "../src/trace/derivation";
import { Trace } from "../src/trace/trace";
import { SENTENCE, explain } from "./explain";
import { golden } from "./golden";

/** Draws that are the same each time (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}

/** Some addresses of every value that the figures show. */
function addresses(trace: Trace, each: number): Address[] {
  const draw = random(7);
  const found: Address[] = [];
  const columns = [trace.graph.encoder, trace.graph.decoder].flatMap((column) => (column ? [column] : []));
  const names = columns.flatMap((column) => [
    `${column.half}.embedding.tokens`,
    `${column.half}.embedding.sum`,
    `${column.half}.embedding.positions`,
    column.output,
    ...column.sublayers.flatMap((s) => [
      s.sum,
      s.normed,
      s.output,
      ...(s.attention
        ? ["q", "k", "v", "query", "key", "query_norm", "key_norm", "scores", "weights", "heads", "flow"].map((part) => `${s.name}.${part}`)
        : [`${s.name}.inner`, `${s.name}.gate`, `${s.name}.gated`]),
    ]),
  ]);
  for (const name of names) {
    const shape = name.endsWith(".tokens")
      ? [trace.ids(name.startsWith("encoder") ? "encoder" : "decoder").length, trace.document.model.config.d_model]
      : trace.tensor(name)?.shape;
    if (!shape) continue;
    for (let i = 0; i < each; i++) found.push({ name, index: shape.map((size) => Math.floor(draw() * size)) });
  }
  trace.document.candidates.forEach(({ tokens }, row) => {
    for (const [id] of tokens.slice(0, 5)) {
      found.push({ name: "output.logits", index: [row, id] }, { name: "output.probabilities", index: [row, id] });
    }
  });
  return found;
}

/** What the paper's model does not do: these are of decoders alone. */
const OF_DECODERS: DerivationKind[] = ["rms", "turn", "gate"];

/** Recomputes each, and counts by kind those that could be compared. `widest` is the share of a value that its bound may be. */
function check(trace: Trace, each: number, widest = 0.2): Map<DerivationKind, number> {
  const compared = new Map<DerivationKind, number>();
  for (const address of addresses(trace, each)) {
    const made = derive(trace, address);
    expect(made, showAddress(address)).not.toBeNull();
    if (!made || made.recomputed === null || made.recorded === null) continue;
    const apart = made.recomputed === made.recorded ? 0 : Math.abs(made.recomputed - made.recorded);
    const shown = `${showAddress(address)}: recomputed ${made.recomputed}, recorded ${made.recorded}`;
    expect(apart, shown).toBeLessThanOrEqual(made.tolerance);
    // A bound that lets anything pass would prove nothing.
    if (Number.isFinite(made.recorded)) expect(made.tolerance, shown).toBeLessThan(1.5 * widest + widest * Math.abs(made.recorded));
    compared.set(made.kind, (compared.get(made.kind) ?? 0) + 1);
  }
  return compared;
}

describe("every number is what its derivation says", () => {
  it("in int8, each kind on every layer", async () => {
    const { document } = explain(SENTENCE, "--to", "en");
    expect(document.detail).toBe("everything");
    const compared = check(await Trace.open(document), 6);
    // What is not recorded by itself has no value of the model to compare with.
    const without = new Set<DerivationKind>(["lookup", ...OF_DECODERS]);
    for (const kind of Object.keys(KINDS) as DerivationKind[])
      if (!without.has(kind)) expect(compared.get(kind) ?? 0, kind).toBeGreaterThan(0);
  });

  it("in float32, within what half precision leaves", async () => {
    const { document } = explain("Tom has three cats.", "--to", "de", "--compute-type", "float32");
    const compared = check(await Trace.open(document), 4);
    expect([...compared.values()].reduce((a, b) => a + b, 0)).toBeGreaterThan(300);
  });

  for (const [name, kinds] of [
    ["gpt2_odd", ["norm", "inner"]],
    ["llama_yarn", OF_DECODERS],
    ["llama_shared", OF_DECODERS],
    ["qwen3_odd", OF_DECODERS],
    ["smollm3_gaps", [...OF_DECODERS, "project"]],
    ["mistral_window", [...OF_DECODERS, "mask"]],
  ] as [string, DerivationKind[]][])
    it(`of a decoder alone: ${name}`, async () => {
      const { document } = explain("the dog bites the man", "--model", golden(`decoders/${name}`), "--max-decoding-length", "6");
      expect(document.detail).toBe("everything");
      const compared = check(await Trace.open(document), 12);
      for (const kind of [...kinds, "score", "softmax", "outer", "residual", "logit"] as DerivationKind[])
        expect(compared.get(kind) ?? 0, kind).toBeGreaterThan(0);
    });

  for (const [name, kinds] of [
    ["t5_first", ["rms", "inner"]],
    ["t5_gated", ["rms", "gate"]],
    ["encoders/mpnet_bare", ["norm"]],
  ] as [string, DerivationKind[]][])
    it(`with relative positions: ${name}`, async () => {
      const { document } = explain("the dog bites the man", "--model", golden(name, ["<pad>", "</s>", "<unk>"]));
      const trace = await Trace.open(document);
      // Attention over the source speaks very loud in these, and its matrix is kept in eight bits.
      const compared = check(trace, 12, trace.graph.decoder ? 2 : 0.2);
      const every = [...kinds, "score", "softmax", "outer", "residual"] as DerivationKind[];
      for (const kind of trace.graph.decoder ? ([...every, "logit"] as DerivationKind[]) : every) expect(compared.get(kind) ?? 0, kind).toBeGreaterThan(0);
    });

  it("where the sentence is long, with what is kept of it", async () => {
    const text = `${SENTENCE.replace("。", "，")}`.repeat(8);
    const { document } = explain(text, "--to", "en", "--no-split", "--max-decoding-length", "60");
    expect(["half_but_inner", "bytes", "layer_ends"]).toContain(document.detail);
    const trace = await Trace.open(document);
    check(trace, 2);
    // Scores follow from weights.
    const scores = trace.tensor("encoder.layers.0.self_attention.scores");
    const made = scores && derive(trace, { name: "encoder.layers.0.self_attention.scores", index: [1, 2, 3] });
    expect(made?.recomputed).toBeCloseTo(scores ? at(scores, [1, 2, 3]) : Number.NaN, 1);
  });
});
