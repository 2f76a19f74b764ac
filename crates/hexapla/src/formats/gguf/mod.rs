//! GGUF, the files of llama.cpp: a decoder with its settings, its tokenizer and its chat template in one file. They are read, not
//! written.
//!
//! Heads of Llama lie there with the two halves of their rotated pairs side by side, and are put apart again. A word of Qwen's
//! halves lies as it does here.

mod blocks;
mod file;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::Path;

use file::Value;

pub(in crate::formats) use blocks::BlockFormat;

use super::decoders;
use super::generation::GenerationDefaults;
use super::location::Location;
use super::names::TensorNames;
use super::safetensors::TensorStore;
use crate::config::{Activation, DecoderConfig, NormKind, RotaryConfig, RotaryScaling};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::weights::Parameter;

/// What the names of such files end with.
const EXTENSION: &str = "gguf";

/// A model of such a file.
#[derive(Debug)]
pub(super) struct GgufModel {
    pub(super) config: DecoderConfig,
    pub(super) generation: GenerationDefaults,
    pub(super) tensors: TensorStore,
    /// What would lie beside the model in a folder: its tokenizer, its chat template.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Whether pairs of turned numbers lie side by side.
    pub(super) interleaved: bool,
}

/// Whether `path` is such a file.
pub(super) fn is_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| e.eq_ignore_ascii_case(EXTENSION)) && path.is_file()
}

/// Reads the file at `path`.
///
/// # Errors
/// A damaged file, an architecture or a kind of tokenizer that is not known, or a setting that would change what is computed.
pub(super) fn read(path: &Path) -> Result<GgufModel> {
    let refuse = |(expected, found): (String, String)| {
        Error::model("the GGUF file cannot be used")
            .at(path.display().to_string())
            .expected(expected)
            .found(found)
            .hint("copy or download the file again, or take the model's safetensors")
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| refuse(("a name in UTF-8".into(), "another".into())))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = Folder::from(parent.unwrap_or(Path::new(".")));
    let (opened, length) = folder.open(name)?;
    let header = file::read(opened, length).map_err(refuse)?;
    let settings = Settings {
        path,
        metadata: &header.metadata,
    };
    let architecture = settings.text("general.architecture")?;
    let Some((_, interleaved)) = ARCHITECTURES
        .iter()
        .find(|(known, _)| *known == architecture)
    else {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        return Err(refuse((
            format!("one of the architectures {}", known.join(", ")),
            format!("`{architecture}`"),
        )));
    };
    let factors = match header.tensors.get(ROTARY_FACTORS) {
        None => None,
        Some(location) => {
            let one = [(ROTARY_FACTORS.to_string(), location.clone())];
            let store = TensorStore::of_locations(folder.clone(), name, one.into());
            Some(store.read(ROTARY_FACTORS, &location.shape)?)
        }
    };
    let config = settings.config(architecture, &header.tensors, factors.as_deref())?;
    let turned = config.rotary.map_or(0, |rotary| rotary.width);
    if *interleaved && turned != config.head_width {
        let key = format!("{architecture}.rope.dimension_count");
        return Err(settings.wrong(&key, &config.head_width.to_string()));
    }
    let mut files = tokenizer::files(&settings)?;
    if let Some(Value::Text(template)) = header.metadata.get("tokenizer.chat_template") {
        files.insert("chat_template.jinja".into(), template.clone().into_bytes());
    }
    let mut tensors = header.tensors;
    tensors.remove(ROTARY_FACTORS);
    Ok(GgufModel {
        tensors: TensorStore::of_locations(folder, name, tensors),
        config,
        generation: GenerationDefaults::default(),
        files,
        interleaved: *interleaved,
    })
}

/// Those that are read, and whether pairs of turned numbers lie side by side in them.
const ARCHITECTURES: &[(&str, bool)] = &[
    ("llama", true),
    ("qwen2", false),
    ("qwen3", false),
    ("smollm3", true),
];
/// What the angles of Llama 3.1 are divided by.
const ROTARY_FACTORS: &str = "rope_freqs.weight";

/// The metadata of a file.
pub(super) struct Settings<'a> {
    path: &'a Path,
    metadata: &'a BTreeMap<String, Value>,
}

impl Settings<'_> {
    fn error(&self, key: &str) -> Error {
        Error::model("the model cannot be used with this setting")
            .at(format!("{}, `{key}`", self.path.display()))
            .hint("only a model that is computed exactly as its maker meant is run")
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = match self.metadata.get(key) {
            None => "none".to_string(),
            Some(value) => format!("{value:?}").chars().take(60).collect(),
        };
        self.error(key).expected(expected).found(found)
    }

    fn text(&self, key: &str) -> Result<&str> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(self.wrong(key, "a text")),
        }
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Whole(n)) => match usize::try_from(*n) {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(self.wrong(key, "a whole number, 0 or more")),
            },
            Some(_) => Err(self.wrong(key, "a whole number, 0 or more")),
        }
    }

    fn needed(&self, key: &str) -> Result<usize> {
        let size = self.size(key)?;
        size.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    fn real(&self, key: &str) -> Result<Option<f64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Real(x)) if x.is_finite() => Ok(Some(*x)),
            Some(Value::Whole(n)) => Ok(Some(*n as f64)),
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    fn id(&self, key: &str) -> Result<Option<u32>> {
        let id = self.size(key)?.map(u32::try_from).transpose();
        id.map_err(|_| self.wrong(key, "a token's id"))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn config(
        &self,
        architecture: &str,
        tensors: &BTreeMap<String, Location>,
        factors: Option<&[f32]>,
    ) -> Result<DecoderConfig> {
        let key = |name: &str| format!("{architecture}.{name}");
        let d_model = self.needed(&key("embedding_length"))?;
        let heads = self.needed(&key("attention.head_count"))?;
        let layers = self.needed(&key("block_count"))?;
        let head_width = match self.size(&key("attention.key_length"))? {
            Some(width) => width,
            None if heads > 0 => d_model / heads,
            None => return Err(self.wrong(&key("attention.head_count"), "at least 1")),
        };
        if self
            .size(&key("attention.value_length"))?
            .is_some_and(|width| width != head_width)
        {
            return Err(self.wrong(&key("attention.value_length"), &head_width.to_string()));
        }
        for (name, most) in [("expert_count", 0), ("attention.sliding_window", 0)] {
            if self.size(&key(name))?.is_some_and(|n| n > most) {
                return Err(self.wrong(&key(name), "none"));
            }
        }
        let has = |name: &str| tensors.contains_key(name);
        let table = tensors.get("token_embd.weight").map(|t| t.shape.as_slice());
        let max_positions = self.needed(&key("context_length"))?;
        let is_smollm3 = architecture == "smollm3";
        let plain = RotaryConfig {
            base: self.real(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            width: self
                .size(&key("rope.dimension_count"))?
                .unwrap_or(head_width),
            scaling: self.scaling(&key)?,
        };
        let rotary = match factors {
            None => plain,
            Some(factors) => llama3(plain, factors).ok_or_else(|| {
                self.error(ROTARY_FACTORS)
                    .expected("the factors of Llama 3.1's formula")
                    .found("others")
                    .hint("take the model's safetensors, whose config.json says the formula")
            })?,
        };
        Ok(DecoderConfig {
            vocab_size: table.and_then(|shape| shape.first()).copied().unwrap_or(0),
            d_model,
            layers,
            heads,
            kv_heads: self.size(&key("attention.head_count_kv"))?.unwrap_or(heads),
            head_width,
            feed_forward: self.needed(&key("feed_forward_length"))?,
            activation: Activation::Swish,
            gated: true,
            norm: NormKind::Rms,
            norm_eps: self
                .real(&key("attention.layer_norm_rms_epsilon"))?
                .unwrap_or(1e-5) as f32,
            attention_bias: has("blk.0.attn_q.bias"),
            attention_output_bias: has("blk.0.attn_output.bias"),
            feed_forward_bias: has("blk.0.ffn_up.bias"),
            query_key_norm: has("blk.0.attn_q_norm.weight"),
            rotary: Some(rotary),
            layers_without_positions: match is_smollm3 {
                true => (0..layers).filter(|i| (i + 1) % 4 == 0).collect(),
                false => Vec::new(),
            },
            window: None,
            layers_with_window: Vec::new(),
            max_position_embeddings: max_positions,
            tie_output: !has("output.weight"),
            dropout: 0.0,
            attention_dropout: 0.0,
            bos_token_id: self.id("tokenizer.ggml.bos_token_id")?,
            eos_token_ids: {
                let ends = ["eos_token_id", "eot_token_id"];
                let mut ids = Vec::new();
                for end in ends {
                    ids.extend(self.id(&format!("tokenizer.ggml.{end}"))?);
                }
                ids.dedup();
                ids
            },
            pad_token_id: self.id("tokenizer.ggml.padding_token_id")?,
        })
    }

    fn scaling(&self, key: &impl Fn(&str) -> String) -> Result<RotaryScaling> {
        let kind = key("rope.scaling.type");
        let kind = match self.metadata.get(&kind) {
            None => "none",
            Some(_) => self.text(&kind)?,
        };
        let factor = self.real(&key("rope.scaling.factor"))?.unwrap_or(1.0);
        match kind {
            "none" => Ok(RotaryScaling::None),
            "linear" => Ok(RotaryScaling::Linear { factor }),
            _ => Err(self.wrong(&key("rope.scaling.type"), "none or linear")),
        }
    }
}

/// The rotary positions whose angles are those of `plain` divided by `factors`, if these are Llama 3.1's: all files of that kind have
/// the same bounds, and differ in the factor of the slowest angles alone.
fn llama3(plain: RotaryConfig, factors: &[f32]) -> Option<RotaryConfig> {
    // Asked first: what the file holds bounds what is computed.
    if factors.len() != plain.width / 2 {
        return None;
    }
    let most = factors.iter().copied().fold(1.0, f32::max);
    let scaled = RotaryConfig {
        scaling: match (plain.scaling, most > 1.0) {
            (RotaryScaling::None, true) => RotaryScaling::Llama3 {
                factor: f64::from(most),
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            },
            (other, _) => other,
        },
        ..plain
    };
    let angles = plain.frequencies().into_iter().zip(scaled.frequencies());
    let is_same = |((plain, scaled), factor): ((f64, f64), &f32)| {
        (plain / scaled / f64::from(*factor) - 1.0).abs() < 1e-4
    };
    angles.zip(factors).all(is_same).then_some(scaled)
}

/// The names of `parameter` in such a file.
pub(super) fn names(
    config: &DecoderConfig,
    parameter: &Parameter,
    interleaved: bool,
) -> Result<TensorNames> {
    let unknown = || Error::model("a parameter has no name in GGUF files").at(&parameter.name);
    let (stem, kind) = parameter.name.rsplit_once('.').ok_or_else(unknown)?;
    let (pattern, number) = decoders::numbered(stem);
    let mut body = NAMES.iter();
    let (_, theirs) = body
        .find(|(ours, _)| *ours == pattern)
        .ok_or_else(unknown)?;
    let name = vec![format!("{}.{kind}", theirs.replacen('*', &number, 1))];
    let is_turned = pattern.ends_with(".query") || pattern.ends_with(".key");
    Ok(TensorNames {
        interleaved: (interleaved && is_turned).then_some(config.head_width),
        ..TensorNames::of_pytorch(parameter, name.clone(), name)
    })
}

/// Our names and theirs.
const NAMES: &[(&str, &str)] = &[
    ("embedding", "token_embd"),
    ("decoder.layers.*.self_attention.query", "blk.*.attn_q"),
    ("decoder.layers.*.self_attention.key", "blk.*.attn_k"),
    ("decoder.layers.*.self_attention.value", "blk.*.attn_v"),
    (
        "decoder.layers.*.self_attention.output",
        "blk.*.attn_output",
    ),
    (
        "decoder.layers.*.self_attention.query_norm",
        "blk.*.attn_q_norm",
    ),
    (
        "decoder.layers.*.self_attention.key_norm",
        "blk.*.attn_k_norm",
    ),
    ("decoder.layers.*.self_attention_norm", "blk.*.attn_norm"),
    ("decoder.layers.*.feed_forward.gate", "blk.*.ffn_gate"),
    ("decoder.layers.*.feed_forward.inner", "blk.*.ffn_up"),
    ("decoder.layers.*.feed_forward.outer", "blk.*.ffn_down"),
    ("decoder.layers.*.feed_forward_norm", "blk.*.ffn_norm"),
    ("decoder.norm", "output_norm"),
    ("output", "output"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// As llama.cpp's converter computes them for a context of 8192.
    fn factors(base: f64, width: usize, factor: f64) -> Vec<f32> {
        let of_pair = |j: usize| {
            let wavelength = std::f64::consts::TAU * base.powf(2.0 * j as f64 / width as f64);
            let smooth = (8192.0 / wavelength - 1.0) / 3.0;
            let factor = match wavelength {
                w if w < 8192.0 / 4.0 => 1.0,
                w if w > 8192.0 => factor,
                _ => 1.0 / ((1.0 - smooth) / factor + smooth),
            };
            factor as f32
        };
        (0..width / 2).map(of_pair).collect()
    }

    #[test]
    fn factors_of_angles_are_those_of_llama_3() {
        let plain = |width| RotaryConfig {
            base: 500_000.0,
            width,
            scaling: RotaryScaling::None,
        };
        for (width, factor) in [(128, 8.0), (64, 32.0)] {
            let factors = factors(500_000.0, width, factor);
            let found = llama3(plain(width), &factors).unwrap();
            let angles = plain(width)
                .frequencies()
                .into_iter()
                .zip(found.frequencies());
            for ((plain, found), factor) in angles.zip(&factors) {
                assert!((plain / found / f64::from(*factor) - 1.0).abs() < 1e-6);
            }
            // Others are not guessed at.
            for j in [0, width / 4, width / 2 - 1] {
                let mut other = factors.clone();
                other[j] *= 1.01;
                assert!(llama3(plain(width), &other).is_none(), "{width} {j}");
            }
            assert!(llama3(plain(width), &factors[1..]).is_none());
            assert!(llama3(plain(width), &[]).is_none());
            assert!(llama3(plain(usize::MAX / 2), &factors).is_none());
            let linear = RotaryConfig {
                scaling: RotaryScaling::Linear { factor: 2.0 },
                ..plain(width)
            };
            assert!(llama3(linear, &factors).is_none());
        }
        assert_eq!(llama3(plain(8), &[1.0; 4]), Some(plain(8)));
    }
}
