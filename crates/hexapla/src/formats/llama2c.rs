//! The checkpoints of llama2.c (`stories15M.bin`): seven numbers, then all weights in f32. They are read, not written. They have no
//! name in them: what tells them is that their length fits their numbers. Their tokenizer lies beside them, as `tok512.bin` (by the size
//! of the vocabulary) or `tokenizer.bin`: pieces of SentencePiece's BPE with their scores.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::Dtype;

use super::decoders;
use super::location::Location;
use super::names::TensorNames;
use super::safetensors::TensorStore;
use crate::config::{Activation, DecoderConfig, NormKind, RotaryConfig, RotaryScaling};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::text::sentencepiece::{SPACE, SentencePiece};
use crate::weights::Parameter;

const HEADER_BYTES: u64 = 28;
const MOST_TOKENIZER: u64 = 64 << 20;

/// A model of such a file.
#[derive(Debug)]
pub(super) struct Llama2cModel {
    pub(super) config: DecoderConfig,
    pub(super) tensors: TensorStore,
    /// Its tokenizer.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

/// The numbers of a header.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    d_model: u64,
    feed_forward: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    vocab_size: u64,
    positions: u64,
    /// Whether the output layer's table is the embedding's.
    is_tied: bool,
}

impl Sizes {
    fn read(header: [u8; HEADER_BYTES as usize]) -> Option<Self> {
        let (words, _) = header.as_chunks::<4>();
        let mut sizes = [0u64; 7];
        let mut is_tied = true;
        for (i, (size, word)) in sizes.iter_mut().zip(words).enumerate() {
            let number = i32::from_le_bytes(*word);
            // A vocabulary below 0 says that the output has a table of its own.
            is_tied &= i != 5 || number > 0;
            *size = match number {
                1.. => number as u64,
                _ if i == 5 => u64::from(number.unsigned_abs()),
                _ => return None,
            };
        }
        let [
            d_model,
            feed_forward,
            layers,
            heads,
            kv_heads,
            vocab_size,
            positions,
        ] = sizes;
        let fits = vocab_size > 0
            && layers <= 1000
            && d_model.is_multiple_of(heads)
            && heads.is_multiple_of(kv_heads)
            && (d_model / heads).is_multiple_of(2);
        fits.then_some(Sizes {
            d_model,
            feed_forward,
            layers,
            heads,
            kv_heads,
            vocab_size,
            positions,
            is_tied,
        })
    }

    /// The tensors in their order: name, how many layers have one, rows and columns.
    fn tensors(&self) -> Vec<(&'static str, u64, [u64; 2])> {
        let (d, inner) = (self.d_model, self.feed_forward);
        let kv = d / self.heads * self.kv_heads;
        let angles = [self.positions, d / self.heads / 2];
        let mut tensors = vec![
            ("embedding", 1, [self.vocab_size, d]),
            ("self_attention_norm", self.layers, [1, d]),
            ("query", self.layers, [d, d]),
            ("key", self.layers, [kv, d]),
            ("value", self.layers, [kv, d]),
            ("output", self.layers, [d, d]),
            ("feed_forward_norm", self.layers, [1, d]),
            ("gate", self.layers, [inner, d]),
            ("outer", self.layers, [d, inner]),
            ("inner", self.layers, [inner, d]),
            ("norm", 1, [1, d]),
            ("cosines", 1, angles),
            ("sines", 1, angles),
        ];
        if !self.is_tied {
            tensors.push(("classes", 1, [self.vocab_size, d]));
        }
        tensors
    }

    /// The length of a file of these sizes.
    fn bytes(&self) -> Option<u64> {
        let tensors = self.tensors();
        tensors
            .iter()
            .try_fold(HEADER_BYTES, |all, (_, layers, [rows, columns])| {
                let numbers = layers.checked_mul(rows.checked_mul(*columns)?)?;
                all.checked_add(numbers.checked_mul(4)?)
            })
    }
}

/// The sizes of the file at `path`, if it is such a file.
fn sizes_of(path: &Path) -> Option<Sizes> {
    if path.extension()? != "bin" {
        return None;
    }
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok().filter(|m| m.is_file())?.len();
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact(&mut header).ok()?;
    Sizes::read(header).filter(|sizes| sizes.bytes() == Some(length))
}

/// Whether `path` is such a file.
pub(super) fn is_file(path: &Path) -> bool {
    sizes_of(path).is_some()
}

/// Reads the file at `path`.
///
/// # Errors
/// It is no such file, or its tokenizer is broken.
pub(super) fn read(path: &Path) -> Result<Llama2cModel> {
    let wrong = || {
        Error::model("the checkpoint cannot be used")
            .at(path.display().to_string())
            .expected("a checkpoint of llama2.c (version 0)")
            .found("another file")
    };
    let sizes = sizes_of(path).ok_or_else(wrong)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(wrong)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = Folder::from(parent.unwrap_or(Path::new(".")));
    let mut start = HEADER_BYTES;
    let mut locations = BTreeMap::new();
    for (tensor, layers, [rows, columns]) in sizes.tensors() {
        for layer in 0..layers {
            let bytes = rows * columns * 4;
            let location = Location {
                start,
                bytes,
                dtype: Dtype::F32,
                blocks: None,
                shape: match rows {
                    1 => vec![columns as usize],
                    _ => vec![rows as usize, columns as usize],
                },
                zeros: None,
            };
            start += bytes;
            // The angles are computed.
            if !matches!(tensor, "cosines" | "sines") {
                locations.insert(format!("{tensor}.{layer}"), location);
            }
        }
    }
    let head_width = (sizes.d_model / sizes.heads) as usize;
    let config = DecoderConfig {
        vocab_size: sizes.vocab_size as usize,
        d_model: sizes.d_model as usize,
        layers: sizes.layers as usize,
        heads: sizes.heads as usize,
        kv_heads: sizes.kv_heads as usize,
        head_width,
        feed_forward: sizes.feed_forward as usize,
        activation: Activation::Swish,
        gated: true,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        attention_bias: false,
        attention_output_bias: false,
        feed_forward_bias: false,
        query_key_norm: false,
        rotary: Some(RotaryConfig {
            base: 10_000.0,
            width: head_width,
            scaling: RotaryScaling::None,
        }),
        layers_without_positions: Vec::new(),
        window: None,
        layers_with_window: Vec::new(),
        max_position_embeddings: sizes.positions as usize,
        tie_output: sizes.is_tied,
        dropout: 0.0,
        attention_dropout: 0.0,
        // Those of Llama's tokenizer, which its training has.
        bos_token_id: (sizes.vocab_size > 2).then_some(1),
        eos_token_ids: (sizes.vocab_size > 2).then_some(2).into_iter().collect(),
        pad_token_id: None,
    };
    let files = tokenizer(&folder, config.vocab_size)?;
    Ok(Llama2cModel {
        config,
        tensors: TensorStore::of_locations(folder, name, locations),
        files,
    })
}

/// The tokenizer beside a checkpoint, as SentencePiece's file; nothing where there is none.
fn tokenizer(folder: &Folder, vocab_size: usize) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = [format!("tok{vocab_size}.bin"), "tokenizer.bin".to_string()];
    let Some(name) = names.iter().find(|name| folder.contains(name)) else {
        return Ok(BTreeMap::new());
    };
    let bytes = folder.read(name, MOST_TOKENIZER)?;
    let broken = |found: &str| {
        Error::model("the tokenizer cannot be used")
            .at(folder.path_of(name).display().to_string())
            .expected(format!("{vocab_size} pieces, as llama2.c writes them"))
            .found(found.to_string())
            .hint("copy it again, or move it away and work with ids: `--input-ids`")
    };
    // How long the longest piece is stands before them.
    let mut rest = bytes.get(4..).ok_or_else(|| broken("a shorter file"))?;
    let mut pieces = Vec::with_capacity(vocab_size);
    for id in 0..vocab_size {
        let head = rest.split_at_checked(8);
        let (head, behind) = head.ok_or_else(|| broken("a shorter file"))?;
        let (words, _) = head.as_chunks::<4>();
        let (score, length) = (f32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]));
        let text = behind.split_at_checked(length as usize);
        let (text, behind) = text.ok_or_else(|| broken("a shorter file"))?;
        let text = std::str::from_utf8(text).map_err(|_| broken("a piece that is not UTF-8"))?;
        rest = behind;
        pieces.push(match id {
            0 => ("<unk>".to_string(), score, 2),
            1 => ("<s>".to_string(), score, 3),
            2 => ("</s>".to_string(), score, 3),
            3..259 => (format!("<0x{:02X}>", id - 3), score, 6),
            _ => (text.replace(' ', SPACE), score, 1),
        });
    }
    let file = SentencePiece::file_of_bpe(pieces.into_iter(), true);
    Ok([("tokenizer.model".to_string(), file)].into())
}

/// The name of `parameter` in such a file.
pub(super) fn names(config: &DecoderConfig, parameter: &Parameter) -> Result<TensorNames> {
    let unknown =
        || Error::model("a parameter has no name in llama2.c's files").at(&parameter.name);
    let (stem, _) = parameter.name.rsplit_once('.').ok_or_else(unknown)?;
    let (pattern, number) = decoders::numbered(stem);
    let theirs = match (stem, pattern.rsplit('.').next()) {
        ("output", _) => "classes.0".to_string(),
        ("embedding", _) => "embedding.0".to_string(),
        ("decoder.norm", _) => "norm.0".to_string(),
        (_, Some(last)) => format!("{last}.{number}"),
        (_, None) => return Err(unknown()),
    };
    let is_turned = pattern.ends_with(".query") || pattern.ends_with(".key");
    Ok(TensorNames {
        interleaved: is_turned.then_some(config.head_width),
        ..TensorNames::of_pytorch(parameter, vec![theirs.clone()], vec![theirs])
    })
}
