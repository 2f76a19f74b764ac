//! From the files that a recipe names to ids: reading, audit, tokenizer, filters.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::batch::Pair;
use crate::config::{DataTable, Positions, Recipe, TransformerConfig};
use crate::error::{Error, Result};
use crate::files::sha256_file;
use crate::text::corpus::{Audit, FilterReport, SentencePairs, TokenLengths, select};
use crate::text::tokenizer::Tokenizers;

/// Most pairs of an epoch, repeated ones included.
const MAX_VISITS: usize = 1 << 28;

/// Everything that training reads.
#[derive(Debug)]
pub struct Data {
    /// Cuts both sides.
    pub tokenizers: Tokenizers,
    /// Training pairs, as often as an epoch visits each.
    pub train: Vec<Pair>,
    /// Validation pairs.
    pub valid: Vec<Pair>,
    /// Validation pairs as text.
    pub valid_text: SentencePairs,
    /// Validation pairs that were left out, as a side has more than `max_tokens`.
    pub valid_too_long: usize,
    /// What the data looks like.
    pub audit: Audit,
    /// Which pairs were left out.
    pub filters: FilterReport,
    /// SHA-256 of each file.
    pub hashes: BTreeMap<String, String>,
}

impl Data {
    /// Reads what `recipe` names. The tokenizer is trained once and kept in `folder`.
    ///
    /// # Errors
    /// A file is missing or broken, or no pair is left to train on.
    pub fn prepare(recipe: &Recipe, folder: &Path) -> Result<Self> {
        for path in recipe.data.files() {
            // It is read twice, and again where a training goes on.
            if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
                return Err(Error::new("the data can be read but once")
                    .at(path.display().to_string())
                    .expected("a file")
                    .found("a pipe or a device")
                    .hint("write it to a file first"));
            }
        }
        let train = SentencePairs::open(&recipe.data)?;
        let valid = SentencePairs::open_valid(&recipe.data)?;
        let hashes = recipe
            .data
            .files()
            .into_iter()
            .map(|path| Ok((path.display().to_string(), sha256_file(path)?)))
            .collect::<Result<_>>()?;
        Self::from_pairs(recipe, train, valid, folder, hashes)
    }

    /// As [`Data::prepare`], from pairs in memory. Tokenizers that are kept in `folder` already are used.
    ///
    /// # Errors
    /// No pair is left to train on, or the tokenizer cannot be made.
    pub fn from_pairs(
        recipe: &Recipe,
        train: SentencePairs,
        valid: Option<SentencePairs>,
        folder: &Path,
        hashes: BTreeMap<String, String>,
    ) -> Result<Self> {
        let (clean, _) = select(&train, None, &recipe.data);
        let mut usable = train.clone().keep(&clean);
        // Duplicates and empty pairs are counted by the report, so it is made from all pairs but the validation's.
        let (train, valid_text) = match valid {
            Some(valid) => (train, valid),
            None => {
                let valid = usable.split_off(recipe.data.valid_pairs);
                let set_aside = &clean[usable.len()..];
                (without(train, set_aside, &valid, &recipe.data), valid)
            }
        };
        let audit = Audit::of(&train, Some(&valid_text));
        let tokenizers = Self::keep_tokenizers(folder, recipe.data.max_tokens, || {
            Tokenizers::prepare(&recipe.tokenizer, &usable.source, &usable.target)
        })?;
        tokenizers.check(&recipe.tokenizer, recipe.data.tags())?;
        let source = tokenizers.source.encode_all(&train.source)?;
        let target = tokenizers.target.encode_all(&train.target)?;
        let lengths = |side: &[Vec<u32>]| side.iter().map(Vec::len).collect::<Vec<_>>();
        let lengths = TokenLengths {
            source: &lengths(&source),
            target: &lengths(&target),
        };
        let (kept, filters) = select(&train, Some(lengths), &recipe.data);
        if kept.is_empty() {
            return Err(Error::new("no sentence pair is left to train on")
                .at("data")
                .expected("at least one pair that passes the filters")
                .found(filters.to_string())
                .hint("see [data] in the recipe: max_tokens, max_ratio, remove_duplicates"));
        }
        let (mut source, mut target) = (source, target);
        let take = |side: &mut Vec<Vec<u32>>, i: usize| {
            side.get_mut(i).map(std::mem::take).unwrap_or_default()
        };
        let visits: usize = kept.iter().map(|i| train.copies(*i)).sum();
        if visits > MAX_VISITS {
            return Err(Error::new("an epoch has too many pairs")
                .at("data.corpora: repeat")
                .expected(format!(
                    "at most {MAX_VISITS} pairs, repeated ones included"
                ))
                .found(visits.to_string())
                .hint("lower the repetitions"));
        }
        let mut pairs = Vec::with_capacity(visits);
        for i in &kept {
            let pair = Pair {
                source: take(&mut source, *i),
                target: take(&mut target, *i),
            };
            pairs.extend(std::iter::repeat_n(pair, train.copies(*i)));
        }
        let valid = tokenizers
            .source
            .encode_all(&valid_text.source)?
            .into_iter()
            .zip(tokenizers.target.encode_all(&valid_text.target)?)
            .map(|(source, target)| Pair { source, target });
        // One endless line would decide how many positions the model has, and how much memory a validation takes.
        let most = recipe.data.max_tokens;
        let (fitting, valid): (Vec<usize>, Vec<Pair>) = valid
            .enumerate()
            .filter(|(_, pair)| pair.source.len().max(pair.target.len()) <= most)
            .unzip();
        let too_long = valid_text.len() - fitting.len();
        Ok(Data {
            tokenizers,
            train: pairs,
            valid,
            valid_text: valid_text.keep(&fitting),
            valid_too_long: too_long,
            audit,
            filters,
            hashes,
        })
    }

    /// The tokenizers that are kept in the training folder `folder`, or those that `make` makes, which are kept from then on.
    ///
    /// # Errors
    /// The kept ones are broken, or new ones cannot be made or written.
    pub fn keep_tokenizers(
        folder: &Path,
        max_length: usize,
        make: impl FnOnce() -> Result<Tokenizers>,
    ) -> Result<Tokenizers> {
        let kept = folder.join("tokenizer");
        if kept.is_dir() {
            return Tokenizers::open_folder(&kept);
        }
        let tokenizers = make()?;
        crate::files::write_folder_atomically(
            &kept,
            |_| false,
            |new| tokenizers.save_folder(new, max_length).map(|_| ()),
        )?;
        Ok(tokenizers)
    }

    /// The recipe's model with the tokenizer's sizes and special ids.
    ///
    /// # Errors
    /// The recipe's model does not fit together, or the tokenizer lacks an end token.
    pub fn model_config(&self, recipe: &Recipe) -> Result<TransformerConfig> {
        let mut c = recipe.model.resolve()?;
        let (source, target) = (&self.tokenizers.source, &self.tokenizers.target);
        c.source_vocab_size = source.vocab_size();
        c.target_vocab_size = target.vocab_size();
        if !self.tokenizers.is_joint() && recipe.model.share_embeddings.is_none() {
            c.share_embeddings = false;
        }
        let eos = target.eos_id().filter(|id| source.eos_id() == Some(*id));
        c.eos_token_id = eos.ok_or_else(|| {
            Error::new("the tokenizer has no end token")
                .at("tokenizer")
                .expected("`</s>`, with one id on both sides")
                .found("none")
                .hint("train one with `hexapla tokenizer train`")
        })?;
        c.pad_token_id = target.pad_id().unwrap_or(c.eos_token_id);
        c.decoder_start_token_id = target.bos_id().unwrap_or(c.eos_token_id);
        if c.positions == Positions::SinusoidalHalvesFairseq {
            c.position_offset = c.pad_token_id as usize + 1;
        }
        let longest = self
            .train
            .iter()
            .chain(&self.valid)
            .map(Pair::tokens)
            .max()
            .unwrap_or(0);
        c.max_position_embeddings = c.max_position_embeddings.max(longest + 1);
        c.validate()?;
        Ok(c)
    }
}

/// `pairs` without those that are set aside for validation, whose numbers are `set_aside`; where duplicates are removed, without
/// their later copies too, which would be the first ones left.
fn without(
    pairs: SentencePairs,
    set_aside: &[usize],
    valid: &SentencePairs,
    table: &DataTable,
) -> SentencePairs {
    let same: HashSet<(&str, &str)> = match table.remove_duplicates {
        true => valid.iter().collect(),
        false => HashSet::new(),
    };
    let mut left_out = set_aside.iter().peekable();
    let kept: Vec<usize> = pairs
        .iter()
        .enumerate()
        .filter(|(i, pair)| left_out.next_if_eq(&i).is_none() && !same.contains(pair))
        .map(|(i, _)| i)
        .collect();
    pairs.keep(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_copy_of_a_validation_pair_is_trained_on() {
        let lines = || (0..40).flat_map(|i| [format!("a{i} b"), format!("a{i} b")]);
        let pairs = SentencePairs {
            source: lines().collect(),
            target: lines().collect(),
            ..Default::default()
        };
        let mut recipe = Recipe::default();
        recipe.data.valid_pairs = 10;
        recipe.tokenizer.vocab_size = 300;
        let folder = tempfile::tempdir().unwrap();
        let data = Data::from_pairs(&recipe, pairs, None, folder.path(), BTreeMap::new()).unwrap();
        assert_eq!((data.valid.len(), data.train.len()), (10, 30));
        assert!(data.train.iter().all(|pair| !data.valid.contains(pair)));
        assert_eq!(data.filters.duplicate, 30);
    }
}
