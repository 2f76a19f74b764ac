//! `qwen3`: as Qwen 2, with a norm of each head of queries and keys in the place of their biases.

use super::llama::LLAMA;
use super::qwen2::SETTINGS as OF_QWEN2;
use super::{Choice, DecoderFamily, Settings};

pub(in crate::formats) const QWEN3: DecoderFamily = DecoderFamily {
    model_type: "qwen3",
    class: "Qwen3ForCausalLM",
    settings: Settings {
        head_width: Some(("head_dim", Some(128))),
        attention_bias: Choice::Setting("attention_bias"),
        attention_output_bias: Choice::Setting("attention_bias"),
        query_key_norm: true,
        ..OF_QWEN2
    },
    ..LLAMA
};
