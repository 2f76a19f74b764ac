import type { Attention, Layer, ModelConfig, Norm, Stack } from "./document";

export type Half = "encoder" | "decoder";
export type Kind = "self_attention" | "cross_attention" | "feed_forward";

/** A sublayer, and the names of the values around it. */
export interface Sublayer {
  half: Half;
  layer: number;
  kind: Kind;
  /** Such as `encoder.layers.0.self_attention`. */
  name: string;
  order: Layer["order"];
  norm: Norm;
  /** What it adds to: the value that the sublayer before it left. */
  before: string;
  /** What it is given: `before`, or its norm (pre-norm). */
  input: string;
  /** Of attention: where keys and values come from. */
  memory: string;
  /** What it computes. */
  output: string;
  /** `before` + `output`. */
  sum: string;
  /** The value of its norm. */
  normed: string;
  /** What it leaves to the next one. */
  after: string;
  attention: Attention | null;
}

/** One half of the figure. */
export interface Column {
  half: Half;
  stack: Stack;
  /** What the first sublayer is given. */
  embedded: string;
  sublayers: Sublayer[];
  /** What the last one leaves, after the last norm where there is one. */
  output: string;
}

/** The model as a graph of named values. */
export interface Graph {
  encoder: Column | null;
  decoder: Column | null;
}

/** Whether the mask lets a query look at a key. */
export function sees(attention: Attention, query: number, key: number): boolean {
  if (attention.causal && key > query) return false;
  return attention.window === null || key > query - attention.window;
}

export function graphOf(config: ModelConfig): Graph {
  const encoder = config.encoder ? column("encoder", config.encoder, config, null) : null;
  const decoder = config.decoder
    ? column("decoder", config.decoder, config, encoder?.output ?? null)
    : null;
  return { encoder, decoder };
}

function column(half: Half, stack: Stack, config: ModelConfig, memory: string | null): Column {
  const embedded = `${half}.${embeddedName(stack, config)}`;
  const sublayers: Sublayer[] = [];
  let before = embedded;
  stack.layers.forEach((layer, number) => {
    const kinds: [Kind, Attention | null][] = [["self_attention", layer.self_attention]];
    if (layer.cross_attention) kinds.push(["cross_attention", layer.cross_attention]);
    kinds.push(["feed_forward", null]);
    for (const [kind, attention] of kinds) {
      const name = `${half}.layers.${number}.${kind}`;
      const normed = `${name}_norm`;
      const input = layer.order === "pre" ? normed : before;
      const after = layer.order === "pre" ? `${name}.sum` : normed;
      sublayers.push({
        half,
        layer: number,
        kind,
        name,
        order: layer.order,
        norm: layer.norm,
        before,
        input,
        memory: kind === "cross_attention" ? (memory ?? input) : input,
        output: kind === "feed_forward" ? `${name}.outer` : `${name}.output`,
        sum: `${name}.sum`,
        normed,
        after,
        attention,
      });
      before = after;
    }
  });
  return { half, stack, embedded, sublayers, output: stack.norm ? `${half}.norm` : before };
}

function embeddedName(stack: Stack, config: ModelConfig): string {
  if (stack.embedding.width !== config.d_model) return "embedding_projection";
  if (stack.embedding.norm) return "embedding_norm";
  if (stack.embedding.segments > 0) return "embedding.with_segments";
  return "embedding.sum";
}
