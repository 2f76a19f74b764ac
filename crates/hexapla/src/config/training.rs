//! The `[training]` table.

use serde::{Deserialize, Serialize};

use super::arithmetic::Precision;

/// What turns gradients into updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam (paper, section 5.3).
    Adam,
    /// Adam with weight decay apart from the gradient.
    Adamw,
    /// Muon (Jordan et al. 2024) for the linear layers, AdamW for all else.
    Muon,
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

/// Where the weights begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialWeights {
    /// Linear layers uniform within ±√(6/(in + out)), tables normal with deviation 1/√d_model.
    Glorot,
    /// Linear layers and tables normal with deviation 0.02; the last layer of each sublayer with 0.02/√(sublayers), as in GPT-2.
    Gpt2,
    /// As in GPT-2, with the last layer of each sublayer at zero: each layer begins as one that changes nothing.
    ZeroProjections,
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
    /// Minutes of steps (and validations, with `count_validations`) after which training ends.
    pub max_minutes: Option<f64>,
    /// Whether `max_minutes` counts validations.
    pub count_validations: bool,
    /// Adam, AdamW or Muon.
    pub optimizer: OptimizerKind,
    /// Where the weights begin; with `task = "language"` as in GPT-2 where absent.
    pub initial_weights: InitialWeights,
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
    /// Muon's decay of the momentum.
    pub momentum: f32,
    /// AdamW's and Muon's weight decay.
    pub weight_decay: f32,
    /// Largest norm of the gradient; 0 is no limit.
    pub clip_norm: f32,
    /// Share of probability spread over the whole vocabulary (paper, section 5.4); with `task = "language"` none where absent.
    pub label_smoothing: f32,
    /// Weight α of R-Drop (Liang et al. 2021): each batch passes twice, under two choices of dropout, and the two
    /// distributions of each token are drawn together; 0 is off.
    pub r_drop: f32,
    /// Probability with which BPE-dropout (Provilkov et al. 2020) passes over a merge; each epoch cuts both sides anew; 0 is
    /// off.
    pub bpe_dropout: f32,
    /// Decay of the exponential moving average of the weights; 0 is none.
    pub ema_decay: f32,
    /// Updates between checkpoints.
    pub save_every: usize,
    /// Number of last checkpoints kept, and averaged into the final model.
    pub average_checkpoints: usize,
    /// Updates between validations.
    pub valid_every: usize,
    /// What validation watches for early stopping and for the best model; with `task = "language"` it is the loss.
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
            count_validations: true,
            optimizer: OptimizerKind::Adam,
            initial_weights: InitialWeights::Glorot,
            learning_rate: 1e-3,
            min_learning_rate: 0.0,
            schedule: ScheduleKind::InverseSqrt,
            warmup_steps: 4000,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-9,
            momentum: 0.95,
            weight_decay: 0.0,
            clip_norm: 1.0,
            label_smoothing: 0.1,
            r_drop: 0.0,
            bpe_dropout: 0.0,
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

impl TrainingTable {
    /// How often each batch passes through the model: twice with R-Drop.
    pub fn passes(&self) -> usize {
        if self.r_drop > 0.0 { 2 } else { 1 }
    }
}
