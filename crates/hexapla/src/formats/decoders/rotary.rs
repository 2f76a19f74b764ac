//! `rope_parameters`, and what files of before transformers 5 have in its place: `rope_theta` and `rope_scaling`.

use serde_json::{Value, json};

use crate::config::{DecoderConfig, RotaryConfig, RotaryScaling};
use crate::error::Result;
use crate::formats::keys::Keys;

/// The angles of heads of `head_width` columns. `base` is that where no setting says one, `max_positions` the model's longest text.
pub(super) fn read(
    keys: &mut Keys,
    base: f64,
    head_width: usize,
    max_positions: usize,
) -> Result<RotaryConfig> {
    let theta = keys.real("rope_theta")?;
    let old_part = keys.real("partial_rotary_factor")?;
    let old = keys.object("rope_scaling")?;
    let new = keys.object("rope_parameters")?;
    let Some(mut rope) = new.or(old) else {
        return Ok(RotaryConfig {
            base: theta.unwrap_or(base),
            width: part(keys, old_part, head_width)?,
            scaling: RotaryScaling::None,
        });
    };
    let base = rope.real("rope_theta")?.or(theta).unwrap_or(base);
    let of_head = rope.real("partial_rotary_factor")?.or(old_part);
    let kind = rope.text("rope_type")?.or(rope.text("type")?);
    rope.pass_over(&["type"]);
    let scaling = scaling(
        &mut rope,
        kind.as_deref().unwrap_or("default"),
        max_positions,
    )?;
    let width = part(&rope, of_head, head_width)?;
    rope.finish()?;
    Ok(RotaryConfig {
        base,
        width,
        scaling,
    })
}

/// How many columns of a head are turned.
fn part(keys: &Keys, of_head: Option<f64>, head_width: usize) -> Result<usize> {
    match of_head {
        None => Ok(head_width),
        Some(part) if part > 0.0 && part <= 1.0 => Ok((head_width as f64 * part) as usize),
        Some(part) => Err(keys
            .error("partial_rotary_factor")
            .expected("above 0, at most 1")
            .found(part.to_string())),
    }
}

fn scaling(rope: &mut Keys, kind: &str, max_positions: usize) -> Result<RotaryScaling> {
    let needed = |rope: &mut Keys, key: &str| {
        let value = rope.real(key)?;
        value.filter(|v| *v > 0.0).ok_or_else(|| {
            rope.error(key)
                .expected("a number above 0")
                .found(value.map_or("none".into(), |v| v.to_string()))
        })
    };
    let original = |rope: &mut Keys| {
        let positions = rope.size("original_max_position_embeddings")?;
        Ok::<_, crate::error::Error>(positions.unwrap_or(max_positions))
    };
    match kind {
        "default" => {
            rope.pass_over(&["factor", "original_max_position_embeddings"]);
            Ok(RotaryScaling::None)
        }
        "linear" => {
            let factor = needed(rope, "factor")?;
            rope.pass_over(&["original_max_position_embeddings"]);
            Ok(RotaryScaling::Linear { factor })
        }
        "llama3" => Ok(RotaryScaling::Llama3 {
            factor: needed(rope, "factor")?,
            low_freq_factor: needed(rope, "low_freq_factor")?,
            high_freq_factor: needed(rope, "high_freq_factor")?,
            original_max_position_embeddings: original(rope)?,
        }),
        "yarn" => {
            let original = original(rope)?;
            let factor = match rope.real("factor")? {
                Some(factor) => factor,
                None => max_positions as f64 / original.max(1) as f64,
            };
            let growth = |m: f64| match factor > 1.0 {
                true => 0.1 * m * libm::log(factor) + 1.0,
                false => 1.0,
            };
            let (m, all) = (rope.real("mscale")?, rope.real("mscale_all_dim")?);
            let inferred = match (m, all) {
                (Some(m), Some(all)) if m != 0.0 && all != 0.0 => growth(m) / growth(all),
                _ => growth(1.0),
            };
            let or = |value: Option<f64>, absent| value.filter(|v| *v != 0.0).unwrap_or(absent);
            Ok(RotaryScaling::Yarn {
                factor,
                beta_fast: or(rope.real("beta_fast")?, 32.0),
                beta_slow: or(rope.real("beta_slow")?, 1.0),
                attention_factor: rope.real("attention_factor")?.unwrap_or(inferred),
                original_max_position_embeddings: original,
                truncate: rope.flag("truncate")?.unwrap_or(true),
            })
        }
        other => Err(rope
            .error("rope_type")
            .expected("one of default, linear, llama3, yarn")
            .found(other.to_string())),
    }
}

/// `rope_parameters`.
pub(super) fn write(rotary: &RotaryConfig, config: &DecoderConfig) -> Value {
    let mut value = match rotary.scaling {
        RotaryScaling::None => json!({"rope_type": "default"}),
        RotaryScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RotaryScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
        RotaryScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            attention_factor,
            original_max_position_embeddings,
            truncate,
        } => json!({
            "rope_type": "yarn",
            "factor": factor,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "attention_factor": attention_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
            "truncate": truncate,
        }),
    };
    value["rope_theta"] = json!(rotary.base);
    if rotary.width != config.head_width {
        value["partial_rotary_factor"] = json!(rotary.width as f64 / config.head_width as f64);
    }
    value
}
