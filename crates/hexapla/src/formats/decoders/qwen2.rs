//! `qwen2`: Qwen 2 and 2.5. As Llama, with biases of queries, keys and values alone; some layers may see a window.

use super::llama::{LLAMA, SETTINGS as OF_LLAMA};
use super::{Choice, DecoderFamily, Settings, Windows};

pub(in crate::formats) const QWEN2: DecoderFamily = DecoderFamily {
    model_type: "qwen2",
    class: "Qwen2ForCausalLM",
    settings: SETTINGS,
    ..LLAMA
};

/// Those of Qwen 2.
pub(super) const SETTINGS: Settings = Settings {
    vocab_size: 151_936,
    kv_heads: Some(("num_key_value_heads", Some(32))),
    feed_forward: ("intermediate_size", Some(22016)),
    max_positions: ("max_position_embeddings", 32768),
    attention_bias: Choice::Always,
    attention_output_bias: Choice::Never,
    feed_forward_bias: Choice::Never,
    windows: Windows::Some,
    bos_token_id: None,
    eos_token_id: None,
    fixed: &[("use_mrope", false)],
    ..OF_LLAMA
};
