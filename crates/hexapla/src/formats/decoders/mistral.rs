//! `mistral`: as Llama, but every layer sees a window, where there is one.

use super::llama::{LLAMA, SETTINGS as OF_LLAMA};
use super::{Choice, DecoderFamily, Settings, Windows};

pub(in crate::formats) const MISTRAL: DecoderFamily = DecoderFamily {
    model_type: "mistral",
    class: "MistralForCausalLM",
    settings: Settings {
        kv_heads: Some(("num_key_value_heads", Some(8))),
        feed_forward: ("intermediate_size", Some(14336)),
        max_positions: ("max_position_embeddings", 4096 * 32),
        attention_bias: Choice::Never,
        attention_output_bias: Choice::Never,
        feed_forward_bias: Choice::Never,
        windows: Windows::All(4096),
        fixed: &[],
        ..OF_LLAMA
    },
    ..LLAMA
};
