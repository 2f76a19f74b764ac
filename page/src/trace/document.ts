/** The document that a page is given: `hexapla-trace`, version 1. docs/explain.md describes it. */
export interface Document {
  format: "hexapla-trace";
  version: 1;
  created_by: string;
  model: Model;
  text: {
    given: string;
    source: string;
    sentences: string[];
    sentence: number;
    output: string;
    finished: boolean;
  };
  /** Ids that the encoder reads. */
  source: number[];
  /** Ids that the decoder reads, the start token first. */
  target: number[];
  /** How many of them a decoder alone was given. */
  prompt: number;
  /** What followed each row. */
  output: { id: number; log_prob: number | null }[];
  pieces: Sides<Record<string, string>>;
  special: Sides<number[]>;
  candidates: { log_sum_exp: number; tokens: [number, number | null][] }[];
  classes: { labels: string[]; logits: number[][] } | null;
  search: SearchTree | null;
  lens: { name: string; tokens: [number, number | null][][] }[];
  alignment: AlignmentReading | null;
  neighbours: Sides<Record<string, { norm: number; nearest: [number, number][] }>>;
  influence: Influence | null;
  vocabulary: { size: number; shared: Record<string, [number, string[]]> } | null;
  contrast: { row: number; instead: number; difference: number; change: number[] } | null;
  detail: Detail;
  arrays: Record<string, ArrayEntry>;
  data: string;
}

/** Where it is read which source token an output token stands for; layers and heads from 0. */
export interface AlignmentReading {
  layer: number;
  /** All where absent. */
  heads?: number[];
  step: "output" | "input";
  weights: "attention" | "norm";
}

export interface Sides<T> {
  source: T;
  target: T;
}

export type Detail =
  | "everything"
  | "half"
  | "half_but_inner"
  | "bytes"
  | "layer_ends"
  | "weights"
  | "cross_weights"
  | "nothing";

export interface ArrayEntry {
  dtype: "f32" | "f16" | "i8" | "i32";
  shape: number[];
  offset: number;
  scales?: number;
  error: number;
}

export interface SearchTree {
  beam_size: number;
  /** Whether tokens were drawn by chance. */
  sampled: boolean;
  length_penalty: number;
  nodes: { parent: number | null; id: number; log_prob: number | null; kept: boolean }[];
  finished: { node: number; log_prob: number; score: number }[];
}

export interface Influence {
  log_probs: number[];
  heads: { attention: string; head: number; change: number[] }[];
  source: number[][];
}

export interface Model {
  name: string;
  family: string;
  compute_type: string;
  parameters: number;
  config: ModelConfig;
  metrics: string[];
}

export interface ModelConfig {
  d_model: number;
  encoder: Stack | null;
  decoder: Stack | null;
  head: Head | null;
}

export interface Stack {
  embedding: {
    table: string;
    vocab_size: number;
    width: number;
    scale: number;
    /** None where attention knows them. */
    positions: Positions | null;
    position_offset: number;
    max_positions: number;
    unplaced_token: number | null;
    segments: number;
    norm: Norm | null;
  };
  relative_positions: { buckets: number; max_distance: number } | null;
  layers: Layer[];
  norm: Norm | null;
}

export type Positions =
  | "sinusoidal_interleaved"
  | "sinusoidal_halves"
  | "sinusoidal_halves_fairseq"
  | "learned"
  | "relative";

export interface Layer {
  self_attention: Attention;
  cross_attention: Attention | null;
  feed_forward: { width: number; activation: Activation; gated: boolean; bias: boolean };
  norm: Norm;
  order: "pre" | "post";
}

export type Activation = "relu" | "relu_squared" | "gelu" | "swish" | "gelu_tanh" | "gelu_sigmoid" | "tanh";

export interface Attention {
  heads: number;
  kv_heads: number;
  head_width: number;
  scale: number;
  bias: boolean;
  causal: boolean;
  /** How many tokens a token sees at most, itself and those before it. */
  window: number | null;
  query_key_norm: Norm | null;
  rotary: Rotary | null;
}

/** Angles by which pairs of queries and keys are turned; their frequencies are an array of the file. */
export interface Rotary {
  base: number;
  width: number;
  scaling: string | Record<string, Record<string, unknown>>;
}

export interface Norm {
  kind: "layer" | "rms";
  eps: number;
}

export interface Head {
  first_row: boolean;
  dense: { width: number; activation: Activation } | null;
  norm: Norm | null;
  output:
    | { tokens: { table: string; vocab_size: number; bias: boolean; /** 1 where absent. */ scale?: number } }
    | { classes: number }
    | null;
}
