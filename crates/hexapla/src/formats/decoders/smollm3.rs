//! `smollm3`: as Llama, but every fourth layer, or those that a setting names, does not turn queries and keys.

use super::llama::{LLAMA, SETTINGS as OF_LLAMA};
use super::{DecoderFamily, Settings, Windows};

pub(in crate::formats) const SMOLLM3: DecoderFamily = DecoderFamily {
    model_type: "smollm3",
    class: "SmolLM3ForCausalLM",
    settings: Settings {
        vocab_size: 128_256,
        d_model: ("hidden_size", 2048),
        layers: ("num_hidden_layers", 36),
        heads: ("num_attention_heads", 16),
        kv_heads: Some(("num_key_value_heads", Some(4))),
        max_positions: ("max_position_embeddings", 32768),
        rotary_base: Some(2_000_000.0),
        windows: Windows::WithoutPositions,
        tie_output: true,
        bos_token_id: Some(128_000),
        eos_token_id: Some(128_001),
        fixed: &[],
        ..OF_LLAMA
    },
    ..LLAMA
};
