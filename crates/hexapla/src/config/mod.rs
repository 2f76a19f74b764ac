//! Every setting, typed, defaulted once and validated once.

mod activation;
mod alignment;
mod arithmetic;
mod assembly;
mod data;
mod decoder;
mod early_stopping;
mod encoder;
mod language;
mod model;
mod norm;
mod positions;
mod recipe;
mod rotary;
mod stack;
mod task;
mod test_set;
mod tokenizer;
mod training;
mod transformer;

pub use activation::Activation;
pub use alignment::{AlignmentReading, AlignmentStep, AlignmentWeights};
pub use arithmetic::{ComputeType, Precision};
pub use assembly::Assembly;
pub use data::{Corpus, DataTable};
pub use decoder::DecoderConfig;
pub use early_stopping::EarlyStopping;
pub use encoder::{ClassScores, EncoderConfig, EncoderHead};
pub use language::{LanguagePair, tagged_language};
pub use model::ModelTable;
pub use norm::{Norm, NormConfig, NormKind};
pub use positions::{Positions, RelativePositions};
pub use recipe::{FORMAT_VERSION, Recipe};
pub use rotary::{RotaryConfig, RotaryScaling};
pub use stack::{
    AttentionConfig, DenseConfig, EmbeddingConfig, FeedForwardConfig, HeadConfig, LayerConfig,
    ModelConfig, OutputConfig, StackConfig,
};
pub use task::Task;
pub use test_set::TestSet;
pub use tokenizer::{TokenizerKind, TokenizerTable};
pub use training::{InitialWeights, Metric, OptimizerKind, ScheduleKind, TrainingTable};
pub use transformer::TransformerConfig;
