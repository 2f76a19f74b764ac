//! All arrays of a trace as a file of safetensors.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::str::FromStr;

use safetensors::tensor::{Dtype, TensorView};

use super::arrays::{Array, Arrays};
use crate::error::{Error, Result, unknown_name};
use crate::files::write_atomically;

/// What arrays are called in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArrayNames {
    /// As everywhere here: `encoder.layers.0.self_attention.weights`.
    #[default]
    Own,
    /// As TransformerLens calls what its hooks see, in its shapes. What has no name there is left out.
    TransformerLens,
}

impl FromStr for ArrayNames {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "hexapla" => Ok(ArrayNames::Own),
            "transformerlens" => Ok(ArrayNames::TransformerLens),
            _ => Err(unknown_name(
                "names of arrays",
                name,
                &["hexapla", "transformerlens"],
            )),
        }
    }
}

/// Writes `arrays` in f32 to `path`, with `metadata`.
///
/// # Errors
/// The file cannot be written.
pub fn write_arrays(
    path: &Path,
    arrays: &Arrays,
    names: ArrayNames,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let renamed;
    let arrays = match names {
        ArrayNames::Own => arrays,
        ArrayNames::TransformerLens => {
            renamed = transformer_lens(arrays);
            &renamed
        }
    };
    let bytes: Vec<(&String, &Array, Vec<u8>)> = arrays
        .iter()
        .map(|(name, array)| {
            let bytes = array.data.iter().flat_map(|x| x.to_le_bytes());
            (name, array, bytes.collect())
        })
        .collect();
    let broken = |e: safetensors::SafeTensorError| {
        Error::internal("cannot lay out arrays").found(e.to_string())
    };
    let views = bytes
        .iter()
        .map(|(name, array, bytes)| {
            let view = TensorView::new(Dtype::F32, array.shape.clone(), bytes);
            Ok((*name, view.map_err(broken)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    let file = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
    write_atomically(path, |writer| writer.write_all(&file))
}

/// The arrays that TransformerLens has names for, in its shapes: `[1, rows, heads, width]` for queries, keys, values and heads,
/// `[1, heads, queries, keys]` for weights, `[1, rows, width]` for rows.
fn transformer_lens(arrays: &Arrays) -> Arrays {
    let both = arrays.keys().any(|name| name.starts_with("encoder."))
        && arrays.keys().any(|name| name.starts_with("decoder."));
    let mut renamed = Arrays::new();
    for (name, array) in arrays {
        let Some((half, rest)) = name.split_once(".layers.") else {
            continue;
        };
        let Some((layer, rest)) = rest.split_once('.') else {
            continue;
        };
        let blocks = match (both, half) {
            (true, half) => format!("{half}_blocks.{layer}"),
            (false, _) => format!("blocks.{layer}"),
        };
        let attention = |of: &str| match (of, both, half) {
            ("cross_attention", ..) => "cross_attn",
            (_, true, "decoder") => "self_attn",
            _ => "attn",
        };
        let renaming = match rest.rsplit_once('.') {
            Some((of @ ("self_attention" | "cross_attention"), part)) => {
                let hook = match part {
                    "q" => "hook_q",
                    "k" => "hook_k",
                    "v" => "hook_v",
                    "heads" => "hook_z",
                    "weights" => "hook_pattern",
                    "scores" => "hook_attn_scores",
                    _ => continue,
                };
                format!("{blocks}.{}.{hook}", attention(of))
            }
            Some(("feed_forward", "inner")) => format!("{blocks}.mlp.hook_post"),
            Some(("feed_forward", "outer")) => format!("{blocks}.hook_mlp_out"),
            _ => continue,
        };
        let by_rows = ["hook_q", "hook_k", "hook_v", "hook_z"]
            .iter()
            .any(|hook| renaming.ends_with(hook));
        let mut array = if by_rows {
            rows_first(array)
        } else {
            array.clone()
        };
        array.shape.insert(0, 1);
        renamed.insert(renaming, array);
    }
    renamed
}

/// `[heads, rows, width]` as `[rows, heads, width]`.
fn rows_first(array: &Array) -> Array {
    let [heads, rows, width] = [0, 1, 2].map(|i| array.shape[i]);
    let all = (0..rows).flat_map(|row| (0..heads).map(move |head| (head, row)));
    Array {
        shape: vec![rows, heads, width],
        data: all
            .flat_map(|(head, row)| array.row(&[head, row]))
            .copied()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_have_the_names_and_shapes_of_transformer_lens() {
        let array = |shape: &[usize]| Array {
            shape: shape.to_vec(),
            data: (0..shape.iter().product::<usize>())
                .map(|x| x as f32)
                .collect(),
        };
        let arrays = Arrays::from([
            (
                "encoder.layers.0.self_attention.q".into(),
                array(&[2, 3, 2]),
            ),
            (
                "decoder.layers.1.self_attention.weights".into(),
                array(&[2, 3, 3]),
            ),
            (
                "decoder.layers.1.cross_attention.heads".into(),
                array(&[2, 3, 2]),
            ),
            ("decoder.layers.1.feed_forward.inner".into(), array(&[3, 5])),
            ("output.logits".into(), array(&[3, 9])),
        ]);
        let named = transformer_lens(&arrays);
        let shapes: Vec<(&str, &[usize])> = named
            .iter()
            .map(|(name, array)| (name.as_str(), array.shape.as_slice()))
            .collect();
        assert_eq!(
            shapes,
            [
                ("decoder_blocks.1.cross_attn.hook_z", &[1, 3, 2, 2][..]),
                ("decoder_blocks.1.mlp.hook_post", &[1, 3, 5]),
                ("decoder_blocks.1.self_attn.hook_pattern", &[1, 2, 3, 3]),
                ("encoder_blocks.0.attn.hook_q", &[1, 3, 2, 2]),
            ]
        );
        let q = &named["encoder_blocks.0.attn.hook_q"].data;
        assert_eq!(q[..6], [0.0, 1.0, 6.0, 7.0, 2.0, 3.0]);
        let alone = Arrays::from([(
            "encoder.layers.0.self_attention.k".into(),
            array(&[2, 3, 2]),
        )]);
        assert!(transformer_lens(&alone).contains_key("blocks.0.attn.hook_k"));
        assert!("bertviz".parse::<ArrayNames>().is_err());
    }
}
