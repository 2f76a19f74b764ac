//! Every setting, typed, defaulted once and validated once.
//!
//! Files are TOML. A key that no table knows is refused with the nearest known name.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, unknown_name};
use crate::files::read_limited;

const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// The non-linearity between the two linear layers of a feed-forward block (paper, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, x), as in the paper.
    Relu,
    /// x·Φ(x) with the exact error function.
    Gelu,
    /// x·sigmoid(x), also called SiLU.
    Swish,
}

/// Where layer norm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// `norm(x + sublayer(x))`, as in the paper.
    Post,
    /// `x + sublayer(norm(x))`.
    Pre,
}

/// How a token's place in its sentence enters the model (paper, section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Sine in the even places, cosine in the odd ones: the paper's equation.
    SinusoidalInterleaved,
    /// The paper's angles, sines in the first half of the vector and cosines in the second: Marian.
    SinusoidalHalves,
    /// Halves with angles `pos / 10000^(j/(d/2 - 1))`: fairseq, M2M-100.
    SinusoidalHalvesFairseq,
    /// A trained table.
    Learned,
}

/// The shape and the mathematics of one Transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// Rows of the source embedding.
    pub source_vocab_size: usize,
    /// Rows of the target embedding and of the output.
    pub target_vocab_size: usize,
    /// Width of every token's vector.
    pub d_model: usize,
    /// Number of encoder layers.
    pub encoder_layers: usize,
    /// Number of decoder layers.
    pub decoder_layers: usize,
    /// Attention heads of an encoder layer; divides `d_model`.
    pub encoder_heads: usize,
    /// Attention heads of a decoder layer; divides `d_model`.
    pub decoder_heads: usize,
    /// Inner width of an encoder layer's feed-forward block.
    pub encoder_feed_forward: usize,
    /// Inner width of a decoder layer's feed-forward block.
    pub decoder_feed_forward: usize,
    /// Non-linearity of the feed-forward blocks.
    pub activation: Activation,
    /// Post-norm or pre-norm.
    pub norm: Norm,
    /// A last layer norm after each stack.
    pub final_norm: bool,
    /// Added to the variance in layer norm.
    pub layer_norm_eps: f32,
    /// Kind of positions.
    pub positions: Positions,
    /// Number of the first position (0 for Marian, 2 for M2M-100).
    pub position_offset: usize,
    /// Longest sentence, in tokens.
    pub max_position_embeddings: usize,
    /// Multiply embeddings by √d_model.
    pub scale_embedding: bool,
    /// Source and target use one embedding table.
    pub share_embeddings: bool,
    /// The output layer uses the target embedding table.
    pub tie_output: bool,
    /// The output layer has a bias.
    pub output_bias: bool,
    /// Dropout on embeddings and on every sublayer's output.
    pub dropout: f32,
    /// Dropout on attention probabilities.
    pub attention_dropout: f32,
    /// Dropout inside the feed-forward block.
    pub activation_dropout: f32,
    /// Id of the padding token. Never computed on, never generated.
    pub pad_token_id: u32,
    /// Id that ends a sentence.
    pub eos_token_id: u32,
    /// Id that starts the decoder.
    pub decoder_start_token_id: u32,
    /// First id the decoder must produce, if any (the target language of M2M-100).
    pub forced_bos_token_id: Option<u32>,
}

/// Most numbers in a table of positions: one GiB of them.
const MAX_POSITION_NUMBERS: usize = 1 << 28;

impl TransformerConfig {
    /// Names of the presets.
    pub const PRESETS: [&'static str; 4] = ["tiny", "small", "base", "big"];

    /// `tiny`, `small`, `base` (the paper's) or `big`, with vocabularies of size 0 that the tokenizer fills in.
    ///
    /// # Errors
    /// An unknown name is refused with the nearest known one.
    pub fn preset(name: &str) -> Result<Self> {
        let (layers, d_model, feed_forward, heads) = match name {
            "tiny" => (4, 128, 256, 4),
            "small" => (3, 256, 1024, 4),
            "base" => (6, 512, 2048, 8),
            "big" => (6, 1024, 4096, 16),
            _ => return Err(unknown_name("preset", name, &Self::PRESETS).at("preset")),
        };
        Ok(TransformerConfig {
            source_vocab_size: 0,
            target_vocab_size: 0,
            d_model,
            encoder_layers: layers,
            decoder_layers: layers,
            encoder_heads: heads,
            decoder_heads: heads,
            encoder_feed_forward: feed_forward,
            decoder_feed_forward: feed_forward,
            activation: Activation::Relu,
            norm: Norm::Post,
            final_norm: false,
            layer_norm_eps: 1e-5,
            positions: Positions::SinusoidalHalves,
            position_offset: 0,
            max_position_embeddings: 512,
            scale_embedding: true,
            share_embeddings: true,
            tie_output: true,
            output_bias: true,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            pad_token_id: 0,
            eos_token_id: 0,
            decoder_start_token_id: 0,
            forced_bos_token_id: None,
        })
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// Names the first setting that does not fit, what would, and what it is.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key: &str, expected: String, found: String| {
            Err(
                Error::new("the model's configuration does not fit together")
                    .at(key)
                    .expected(expected)
                    .found(found)
                    .hint("change this setting, or what it must fit"),
            )
        };
        for (key, value, limit) in [
            ("source_vocab_size", self.source_vocab_size, 1 << 24),
            ("target_vocab_size", self.target_vocab_size, 1 << 24),
            ("d_model", self.d_model, 1 << 16),
            ("encoder_heads", self.encoder_heads, 1 << 12),
            ("decoder_heads", self.decoder_heads, 1 << 12),
            ("encoder_feed_forward", self.encoder_feed_forward, 1 << 20),
            ("decoder_feed_forward", self.decoder_feed_forward, 1 << 20),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1 << 20,
            ),
        ] {
            if value == 0 || value > limit {
                return refuse(key, format!("1 to {limit}"), value.to_string());
            }
        }
        for (key, layers) in [
            ("encoder_layers", self.encoder_layers),
            ("decoder_layers", self.decoder_layers),
        ] {
            if layers == 0 || layers > 1000 {
                return refuse(key, "1 to 1000".into(), layers.to_string());
            }
        }
        for (key, heads) in [
            ("encoder_heads", self.encoder_heads),
            ("decoder_heads", self.decoder_heads),
        ] {
            if !self.d_model.is_multiple_of(heads) {
                return refuse(
                    key,
                    format!("a divisor of d_model {}", self.d_model),
                    heads.to_string(),
                );
            }
        }
        if self.positions != Positions::Learned && !self.d_model.is_multiple_of(2) {
            return refuse(
                "d_model",
                "an even number (sinusoidal positions)".into(),
                self.d_model.to_string(),
            );
        }
        if self.positions == Positions::SinusoidalHalvesFairseq && self.d_model < 4 {
            return refuse("d_model", "at least 4".into(), self.d_model.to_string());
        }
        // Checked before the table is computed, and before its rows are asked for.
        let rows = self
            .max_position_embeddings
            .saturating_add(self.position_offset);
        if rows.saturating_mul(self.d_model) > MAX_POSITION_NUMBERS {
            return refuse(
                "max_position_embeddings",
                format!(
                    "at most {} with position_offset {} and d_model {}",
                    (MAX_POSITION_NUMBERS / self.d_model).saturating_sub(self.position_offset),
                    self.position_offset,
                    self.d_model
                ),
                self.max_position_embeddings.to_string(),
            );
        }
        if self.positions == Positions::SinusoidalHalvesFairseq
            && self.pad_token_id as usize >= rows
        {
            return refuse(
                "pad_token_id",
                format!("below the number of positions {rows}"),
                self.pad_token_id.to_string(),
            );
        }
        if self.share_embeddings && self.source_vocab_size != self.target_vocab_size {
            return refuse(
                "share_embeddings",
                "equal source and target vocabularies".into(),
                format!("{} and {}", self.source_vocab_size, self.target_vocab_size),
            );
        }
        for (key, p) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
        ] {
            if !(0.0..1.0).contains(&p) {
                return refuse(key, "at least 0 and below 1".into(), p.to_string());
            }
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return refuse(
                "layer_norm_eps",
                "between 0 and 1".into(),
                self.layer_norm_eps.to_string(),
            );
        }
        for (key, id) in [
            ("pad_token_id", Some(self.pad_token_id)),
            ("eos_token_id", Some(self.eos_token_id)),
            ("decoder_start_token_id", Some(self.decoder_start_token_id)),
            ("forced_bos_token_id", self.forced_bos_token_id),
        ] {
            if let Some(id) = id.filter(|id| *id as usize >= self.target_vocab_size) {
                return refuse(
                    key,
                    format!("below target_vocab_size {}", self.target_vocab_size),
                    id.to_string(),
                );
            }
        }
        Ok(())
    }
}

/// The `[model]` table: a preset and what differs from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelTable {
    /// `tiny`, `small`, `base` or `big`; `small` where absent.
    pub preset: Option<String>,
    /// See [`TransformerConfig::d_model`].
    pub d_model: Option<usize>,
    /// Sets both stacks' depth.
    pub layers: Option<usize>,
    /// See [`TransformerConfig::encoder_layers`].
    pub encoder_layers: Option<usize>,
    /// See [`TransformerConfig::decoder_layers`].
    pub decoder_layers: Option<usize>,
    /// Attention heads of both stacks.
    pub heads: Option<usize>,
    /// Inner width of both stacks' feed-forward blocks.
    pub feed_forward: Option<usize>,
    /// See [`TransformerConfig::encoder_feed_forward`].
    pub encoder_feed_forward: Option<usize>,
    /// See [`TransformerConfig::decoder_feed_forward`].
    pub decoder_feed_forward: Option<usize>,
    /// See [`Activation`].
    pub activation: Option<Activation>,
    /// See [`Norm`].
    pub norm: Option<Norm>,
    /// See [`TransformerConfig::final_norm`]; on with `norm = "pre"` where absent.
    pub final_norm: Option<bool>,
    /// See [`Positions`]; where absent, `sinusoidal_halves` with post-norm, `sinusoidal_halves_fairseq` with pre-norm.
    pub positions: Option<Positions>,
    /// See [`TransformerConfig::max_position_embeddings`].
    pub max_position_embeddings: Option<usize>,
    /// See [`TransformerConfig::share_embeddings`].
    pub share_embeddings: Option<bool>,
    /// See [`TransformerConfig::tie_output`].
    pub tie_output: Option<bool>,
    /// See [`TransformerConfig::output_bias`]; off with `norm = "pre"` where absent.
    pub output_bias: Option<bool>,
    /// See [`TransformerConfig::dropout`].
    pub dropout: Option<f32>,
    /// See [`TransformerConfig::attention_dropout`].
    pub attention_dropout: Option<f32>,
    /// See [`TransformerConfig::activation_dropout`].
    pub activation_dropout: Option<f32>,
}

impl ModelTable {
    /// The full configuration, vocabulary and special ids still to be filled in by the tokenizer.
    ///
    /// # Errors
    /// An unknown preset.
    pub fn resolve(&self) -> Result<TransformerConfig> {
        let mut c = TransformerConfig::preset(self.preset.as_deref().unwrap_or("small"))?;
        fn set<T: Clone>(place: &mut T, value: &Option<T>) {
            if let Some(v) = value {
                *place = v.clone();
            }
        }
        set(&mut c.norm, &self.norm);
        if c.norm == Norm::Pre {
            // What M2M-100's layout can express.
            c.final_norm = true;
            c.positions = Positions::SinusoidalHalvesFairseq;
            c.output_bias = false;
        }
        set(&mut c.d_model, &self.d_model);
        set(&mut c.encoder_layers, &self.layers);
        set(&mut c.decoder_layers, &self.layers);
        set(&mut c.encoder_layers, &self.encoder_layers);
        set(&mut c.decoder_layers, &self.decoder_layers);
        set(&mut c.encoder_heads, &self.heads);
        set(&mut c.decoder_heads, &self.heads);
        set(&mut c.encoder_feed_forward, &self.feed_forward);
        set(&mut c.decoder_feed_forward, &self.feed_forward);
        set(&mut c.encoder_feed_forward, &self.encoder_feed_forward);
        set(&mut c.decoder_feed_forward, &self.decoder_feed_forward);
        set(&mut c.activation, &self.activation);
        set(&mut c.final_norm, &self.final_norm);
        set(&mut c.positions, &self.positions);
        set(
            &mut c.max_position_embeddings,
            &self.max_position_embeddings,
        );
        set(&mut c.share_embeddings, &self.share_embeddings);
        set(&mut c.tie_output, &self.tie_output);
        set(&mut c.output_bias, &self.output_bias);
        set(&mut c.dropout, &self.dropout);
        set(&mut c.attention_dropout, &self.attention_dropout);
        set(&mut c.activation_dropout, &self.activation_dropout);
        Ok(c)
    }
}

/// The `[data]` table: where the sentence pairs are and which are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataTable {
    /// Source sentences, one a line (with `target`).
    pub source: Option<PathBuf>,
    /// Target sentences, one a line (with `source`).
    pub target: Option<PathBuf>,
    /// Or one file: source, tab, target; further columns are ignored.
    pub tsv: Option<PathBuf>,
    /// Swap the two sides of `tsv`.
    pub reverse: bool,
    /// Validation pairs, as above.
    pub valid_source: Option<PathBuf>,
    /// Validation pairs, as above.
    pub valid_target: Option<PathBuf>,
    /// Validation pairs, as above.
    pub valid_tsv: Option<PathBuf>,
    /// Where no validation file is named: this many pairs are set aside from training.
    pub valid_pairs: usize,
    /// Longest side of a training pair, in tokens.
    pub max_tokens: usize,
    /// Largest ratio of the two sides' lengths in tokens (pairs of up to 10 tokens pass).
    pub max_ratio: f32,
    /// Remove pairs that stand in the data more than once.
    pub remove_duplicates: bool,
}

impl Default for DataTable {
    fn default() -> Self {
        DataTable {
            source: None,
            target: None,
            tsv: None,
            reverse: false,
            valid_source: None,
            valid_target: None,
            valid_tsv: None,
            valid_pairs: 500,
            max_tokens: 256,
            max_ratio: 4.0,
            remove_duplicates: true,
        }
    }
}

/// How a tokenizer cuts text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Byte-pair encoding with byte fallback.
    Bpe,
    /// Byte-pair encoding over bytes, as in GPT-2.
    ByteBpe,
    /// Unigram language model, as in SentencePiece, with byte fallback.
    Unigram,
    /// The text is cut already: pieces separated by spaces, `@@` marking pieces that join the next.
    Pieces,
}

/// The `[tokenizer]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerTable {
    /// A `tokenizer.json` to use instead of training one.
    pub file: Option<PathBuf>,
    /// subword-nmt merges to use instead of training (`kind = "bpe"`).
    pub codes: Option<PathBuf>,
    /// Kind of cut.
    pub kind: TokenizerKind,
    /// Number of pieces, special ones included.
    pub vocab_size: usize,
    /// One vocabulary for both sides.
    pub joint: bool,
    /// Pieces that are never cut, such as `>>de<<`.
    pub special_tokens: Vec<String>,
    /// Share of the characters in the data that get a piece of their own; the rarest fall back to bytes.
    pub character_coverage: f32,
}

impl Default for TokenizerTable {
    fn default() -> Self {
        TokenizerTable {
            file: None,
            codes: None,
            kind: TokenizerKind::Unigram,
            vocab_size: 8000,
            joint: true,
            special_tokens: Vec::new(),
            character_coverage: 0.9995,
        }
    }
}

/// Adam's variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam (paper, section 5.3).
    Adam,
    /// Adam with weight decay apart from the gradient.
    Adamw,
}

/// How the learning rate moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Linear warm-up, then proportional to 1/√step (paper, equation 3).
    InverseSqrt,
    /// Linear warm-up, then half a cosine down to `min_learning_rate` at `max_steps`.
    Cosine,
    /// Linear warm-up, then constant.
    Constant,
}

/// What validation watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Label-smoothed cross-entropy; less is better.
    Loss,
    /// BLEU of real decoding.
    Bleu,
    /// chrF of real decoding.
    Chrf,
    /// Per cent of real decoding's lines that are the reference exactly.
    ExactMatch,
}

/// Arithmetic of the large matrix products in training. Weights, activations, gradients and sums are f32 in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats throughout.
    Float32,
    /// The factors of the linear layers' and the output layer's products are rounded to bf16. With AVX-512 BF16 this is
    /// about twice as fast; elsewhere it computes the same rounding, slower.
    Bf16,
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "float32" => Ok(Precision::Float32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(unknown_name("precision", name, &["float32", "bf16"])),
        }
    }
}

/// Arithmetic of the matrix products of inference. Activations between them, norms and softmax are f32 in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeType {
    /// As the folder stores its weights: int8 where it does, else 32-bit floats.
    #[default]
    Default,
    /// 32-bit floats.
    Float32,
    /// Both factors rounded to bf16, sums in f32.
    Bf16,
    /// Weights in 8 bits with one scale for each output, activations in 8 bits with one scale for each row; sums are
    /// exact. A quarter of the memory, and the fastest.
    Int8,
    /// The fastest: int8.
    Auto,
}

impl std::str::FromStr for ComputeType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "default" => Ok(ComputeType::Default),
            "float32" => Ok(ComputeType::Float32),
            "bf16" => Ok(ComputeType::Bf16),
            "int8" => Ok(ComputeType::Int8),
            "auto" => Ok(ComputeType::Auto),
            _ => Err(unknown_name(
                "compute type",
                name,
                &["default", "float32", "bf16", "int8", "auto"],
            )),
        }
    }
}

/// The `[training]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingTable {
    /// Keys every random choice.
    pub seed: u64,
    /// Arithmetic of the large matrix products.
    pub precision: Precision,
    /// Parts of a batch that may run at once. The loss curve depends on it, never on the number of threads.
    pub shards: usize,
    /// Most tokens of one batch, counted on the longer of its two sides.
    pub batch_tokens: usize,
    /// Batches summed before each update.
    pub accumulate: usize,
    /// Updates after which training ends.
    pub max_steps: usize,
    /// Passes over the data after which training ends.
    pub max_epochs: Option<usize>,
    /// Minutes of steps and validations after which training ends.
    pub max_minutes: Option<f64>,
    /// Adam or AdamW.
    pub optimizer: OptimizerKind,
    /// Highest learning rate, reached at the end of warm-up.
    pub learning_rate: f32,
    /// Where the cosine ends.
    pub min_learning_rate: f32,
    /// Shape of the learning rate.
    pub schedule: ScheduleKind,
    /// Updates of linear warm-up.
    pub warmup_steps: usize,
    /// Adam's decay of the first moment.
    pub beta1: f32,
    /// Adam's decay of the second moment.
    pub beta2: f32,
    /// Adam's ε.
    pub eps: f32,
    /// AdamW's weight decay.
    pub weight_decay: f32,
    /// Largest norm of the gradient; 0 is no limit.
    pub clip_norm: f32,
    /// Share of probability spread over the whole vocabulary (paper, section 5.4).
    pub label_smoothing: f32,
    /// Decay of the exponential moving average of the weights; 0 is none.
    pub ema_decay: f32,
    /// Updates between checkpoints.
    pub save_every: usize,
    /// Number of last checkpoints kept, and averaged into the final model.
    pub average_checkpoints: usize,
    /// Updates between validations.
    pub valid_every: usize,
    /// What validation watches for early stopping and for the best model.
    pub metric: Metric,
    /// Validations without progress after which training stops; 0 is never.
    pub patience: usize,
    /// Value of the metric at which training stops, if any.
    pub goal: Option<f64>,
    /// Beam width of validation's decoding.
    pub valid_beam_size: usize,
    /// Updates with a gradient that is not finite, in a row, after which training stops.
    pub max_skipped_steps: usize,
}

impl Default for TrainingTable {
    fn default() -> Self {
        TrainingTable {
            seed: 1,
            precision: Precision::Float32,
            shards: 2,
            batch_tokens: 4096,
            accumulate: 1,
            max_steps: 100_000,
            max_epochs: None,
            max_minutes: None,
            optimizer: OptimizerKind::Adam,
            learning_rate: 1e-3,
            min_learning_rate: 0.0,
            schedule: ScheduleKind::InverseSqrt,
            warmup_steps: 4000,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-9,
            weight_decay: 0.0,
            clip_norm: 1.0,
            label_smoothing: 0.1,
            ema_decay: 0.0,
            save_every: 500,
            average_checkpoints: 5,
            valid_every: 500,
            metric: Metric::Bleu,
            patience: 10,
            goal: None,
            valid_beam_size: 1,
            max_skipped_steps: 20,
        }
    }
}

/// A whole recipe: the file given to `hexapla train --config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The model.
    pub model: ModelTable,
    /// The data.
    pub data: DataTable,
    /// The tokenizer.
    pub tokenizer: TokenizerTable,
    /// Training.
    pub training: TrainingTable,
}

impl Recipe {
    /// Reads a recipe; `place` names the file in errors.
    ///
    /// # Errors
    /// Broken TOML, an unknown key (with the nearest known one), a value of the wrong type or range.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let recipe: Recipe = toml::from_str(text).map_err(|e| toml_error(&e, text, place))?;
        recipe.validate().map_err(|e| e.within(place))?;
        Ok(recipe)
    }

    /// Reads the recipe in the file `path`.
    ///
    /// # Errors
    /// As [`Recipe::parse`], or the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let bytes = read_limited(path, MAX_RECIPE_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|e| {
            Error::new("the recipe cannot be read")
                .at(&place)
                .expected("a text in UTF-8")
                .found(e.to_string())
                .hint("is this the recipe?")
        })?;
        Self::parse(&text, &place)
    }

    /// Checks all that can be checked before the data is read.
    ///
    /// # Errors
    /// Names the first key out of range.
    pub fn validate(&self) -> Result<()> {
        let mut model = self.model.resolve().map_err(|e| e.within("model"))?;
        // The tokenizer will say; here only the other sizes are looked at.
        (model.source_vocab_size, model.target_vocab_size) = (1, 1);
        model.validate().map_err(|e| e.within("model"))?;
        let d = &self.data;
        if d.max_tokens == 0 {
            return out_of_range("data.max_tokens", "at least 1", "0".into());
        }
        if !(d.max_ratio >= 1.0 && d.max_ratio.is_finite()) {
            return out_of_range(
                "data.max_ratio",
                "a finite number, at least 1",
                d.max_ratio.to_string(),
            );
        }
        self.validate_training()
    }

    fn validate_training(&self) -> Result<()> {
        let t = &self.training;
        let refuse = |key: &str, expected: &str, found: String| {
            out_of_range(&format!("training.{key}"), expected, found)
        };
        if let Some(minutes) = t.max_minutes.filter(|m| !(*m > 0.0 && m.is_finite())) {
            return refuse(
                "max_minutes",
                "a finite number above 0",
                minutes.to_string(),
            );
        }
        for (key, value, limit) in [
            ("valid_beam_size", t.valid_beam_size, 1024),
            ("accumulate", t.accumulate, 1 << 20),
            ("batch_tokens", t.batch_tokens, 1 << 30),
        ] {
            if value > limit {
                return refuse(key, &format!("at most {limit}"), value.to_string());
            }
        }
        for (key, value) in [
            ("shards", t.shards),
            ("batch_tokens", t.batch_tokens),
            ("accumulate", t.accumulate),
            ("max_steps", t.max_steps),
            ("save_every", t.save_every),
            ("valid_every", t.valid_every),
            ("average_checkpoints", t.average_checkpoints),
            ("valid_beam_size", t.valid_beam_size),
            ("max_skipped_steps", t.max_skipped_steps),
        ] {
            if value == 0 {
                return refuse(key, "at least 1", value.to_string());
            }
        }
        if t.shards > 256 {
            return refuse("shards", "at most 256", t.shards.to_string());
        }
        for (key, value) in [
            ("beta1", t.beta1),
            ("beta2", t.beta2),
            ("label_smoothing", t.label_smoothing),
            ("ema_decay", t.ema_decay),
        ] {
            if !(0.0..1.0).contains(&value) {
                return refuse(key, "at least 0 and below 1", value.to_string());
            }
        }
        for (key, value) in [
            ("learning_rate", t.learning_rate),
            ("min_learning_rate", t.min_learning_rate),
            ("eps", t.eps),
            ("weight_decay", t.weight_decay),
            ("clip_norm", t.clip_norm),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return refuse(key, "a finite number, at least 0", value.to_string());
            }
        }
        for (key, value) in [("goal", t.goal), ("max_minutes", t.max_minutes)] {
            if let Some(value) = value.filter(|v| !(*v >= 0.0 && v.is_finite())) {
                return refuse(key, "a finite number, at least 0", value.to_string());
            }
        }
        Ok(())
    }
}

fn out_of_range(key: &str, expected: &str, found: String) -> Result<()> {
    Err(Error::new("a setting of the recipe is out of range")
        .at(key)
        .expected(expected)
        .found(found)
        .hint("leave the setting out for its default"))
}

/// Turns a TOML error into ours: file and line, and for an unknown key the nearest known one.
fn toml_error(error: &toml::de::Error, text: &str, place: &str) -> Error {
    let line = error
        .span()
        .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    let place = format!("{place}, line {line}");
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((wrong, known)) if message.starts_with("unknown field") => {
            unknown_name("key", wrong, known).at(place)
        }
        Some((wrong, known)) if message.starts_with("unknown variant") => {
            unknown_name("value", wrong, known).at(place)
        }
        _ => Error::new("the recipe cannot be read")
            .at(place)
            .expected("TOML, each value of its setting's type")
            .found(message.to_string())
            .hint("docs/training.md shows a recipe; texts stand in quotes, numbers do not"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_preset_is_the_papers() {
        let c = TransformerConfig::preset("base").unwrap();
        assert_eq!(
            (c.d_model, c.encoder_heads, c.encoder_feed_forward),
            (512, 8, 2048)
        );
        assert_eq!((c.encoder_layers, c.decoder_layers), (6, 6));
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        let e = Recipe::parse("[model]\nd_modell = 3\n", "r.toml")
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("r.toml, line 2") && e.contains("`d_model`"),
            "{e}"
        );
        let e = Recipe::parse("[training]\nschedule = \"cosin\"\n", "r.toml")
            .unwrap_err()
            .to_string();
        assert!(e.contains("`cosine`"), "{e}");
        let e = Recipe::parse("[model]\nd_model = \"x\"\n", "r.toml")
            .unwrap_err()
            .to_string();
        assert!(e.contains("line 2"), "{e}");
    }

    #[test]
    fn a_preset_can_be_changed_piece_by_piece() {
        let r = Recipe::parse(
            "[model]\npreset = \"tiny\"\nlayers = 2\ndropout = 0.3\n",
            "r",
        )
        .unwrap();
        let c = r.model.resolve().unwrap();
        assert_eq!(
            (c.d_model, c.encoder_layers, c.decoder_layers, c.dropout),
            (128, 2, 2, 0.3)
        );
    }

    #[test]
    fn a_precision_is_named_in_a_recipe_or_alone() {
        for (name, precision) in [("float32", Precision::Float32), ("bf16", Precision::Bf16)] {
            let text = format!("[training]\nprecision = \"{name}\"\n");
            let recipe = Recipe::parse(&text, "r").unwrap();
            assert_eq!(recipe.training.precision, precision);
            assert_eq!(name.parse(), Ok(precision));
        }
        let e = Recipe::parse("[training]\nprecision = \"bf61\"\n", "r").unwrap_err();
        assert!(e.to_string().contains("`bf16`"), "{e}");
        let e = "bf61".parse::<Precision>().unwrap_err();
        assert!(e.to_string().contains("`bf16`"), "{e}");
    }

    #[test]
    fn ranges_are_checked() {
        assert!(Recipe::parse("[training]\nshards = 0\n", "r").is_err());
        assert!(Recipe::parse("[training]\nlabel_smoothing = 1.5\n", "r").is_err());
        let mut c = TransformerConfig::preset("tiny").unwrap();
        (c.source_vocab_size, c.target_vocab_size) = (10, 10);
        c.validate().unwrap();
        c.encoder_heads = 3;
        assert!(c.validate().unwrap_err().to_string().contains("divisor"));
    }
}
