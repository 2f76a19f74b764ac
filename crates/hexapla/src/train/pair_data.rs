//! From the sentence pairs that a recipe names to ids: reading, audit, tokenizer, filters.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::batch::Pair;
use crate::config::{DataTable, Positions, Recipe, TransformerConfig};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::text::corpus::{Audit, FilterReport, SentencePairs, TokenLengths, learnable, select};
use crate::text::tokenizer::Tokenizers;
use crate::train::held_out::{self, Drawn};
use crate::train::provenance;

/// Most pairs of an epoch, repeated ones included.
const MAX_VISITS: usize = 1 << 28;

/// Sentence pairs, and what is made of them.
#[derive(Debug)]
pub struct PairData {
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
    /// Where no validation pairs were named: how many were drawn from each body.
    pub drawn: Vec<Drawn>,
    /// What the data looks like.
    pub audit: Audit,
    /// Which pairs were left out.
    pub filters: FilterReport,
    /// SHA-256 of each file.
    pub hashes: BTreeMap<String, String>,
}

impl PairData {
    /// Reads what `recipe` names. The tokenizer is trained once and kept in `folder`.
    ///
    /// # Errors
    /// A file is missing or broken, or no pair is left to train on.
    pub fn prepare(recipe: &Recipe, folder: &Path) -> Result<Self> {
        let train = SentencePairs::open(&recipe.data)?;
        let valid = SentencePairs::open_valid(&recipe.data)?;
        let mut hashes = train.hashes.clone();
        hashes.extend(valid.iter().flat_map(|valid| valid.hashes.clone()));
        Self::from_pairs(recipe, train, valid, folder, hashes)
    }

    /// As [`PairData::prepare`], from pairs in memory. Tokenizers that are kept in `folder` already are used.
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
        let mut audit = Audit::of(&train);
        let cleaned = |pairs: SentencePairs| match recipe.version() {
            1 => pairs,
            _ => pairs.cleaned(),
        };
        let (all, named) = (cleaned(train), valid.map(cleaned));
        let HeldOut {
            train,
            valid: valid_text,
            drawn,
        } = HeldOut::choose(recipe, all, named);
        audit.compare(&train, &valid_text);
        let (clean, _) = select(&train, None, &recipe.data);
        let learnable = learnable(&train, &clean, &recipe.data);
        let tokenizers = Self::keep_tokenizers(folder, recipe.data.max_tokens, || {
            let text = train.clone().keep(&learnable);
            Tokenizers::prepare(&recipe.tokenizer, &text.source, &text.target)
        })?;
        tokenizers.check(&recipe.tokenizer, recipe.data.tags())?;
        let source = tokenizers.source.encode_all_as_they_are(&train.source)?;
        let target = tokenizers.target.encode_all_as_they_are(&train.target)?;
        let lengths = |side: &[Vec<u32>]| side.iter().map(Vec::len).collect::<Vec<_>>();
        let lengths = TokenLengths {
            source: &lengths(&source),
            target: &lengths(&target),
        };
        let (kept, filters) = select(&train, Some(lengths), &recipe.data);
        if kept.is_empty() {
            return Err(Error::input("no sentence pair is left to train on")
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
            return Err(Error::settings("an epoch has too many pairs")
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
        let valid_source = tokenizers
            .source
            .encode_all_as_they_are(&valid_text.source)?;
        let valid_target = tokenizers
            .target
            .encode_all_as_they_are(&valid_text.target)?;
        let valid = valid_source
            .into_iter()
            .zip(valid_target)
            .map(|(source, target)| Pair { source, target });
        // One endless line would decide how many positions the model has, and how much memory a validation takes.
        let most = recipe.data.max_tokens;
        let (fitting, valid): (Vec<usize>, Vec<Pair>) = valid
            .enumerate()
            .filter(|(_, pair)| pair.source.len().max(pair.target.len()) <= most)
            .unzip();
        let too_long = valid_text.len() - fitting.len();
        Ok(PairData {
            tokenizers,
            train: pairs,
            valid,
            valid_text: valid_text.keep(&fitting),
            valid_too_long: too_long,
            drawn,
            audit,
            filters,
            hashes,
        })
    }

    /// Keeps the validation pairs that were drawn in the training folder `folder`, where a person, and `hexapla evaluate`, finds
    /// them: source, tab, target.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep_drawn(&self, folder: &Path) -> Result<()> {
        if self.drawn.is_empty() {
            return Ok(());
        }
        let column = |text: &str| text.replace('\t', " ");
        write_atomically(&folder.join(DRAWN_FILE), |w| {
            self.valid_text
                .iter()
                .try_for_each(|(s, t)| writeln!(w, "{}\t{}", column(s), column(t)))
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
        provenance::keep_tokenizer(
            folder,
            |kept| Tokenizers::open_folder(kept),
            make,
            |made, new| made.save_folder(new, max_length).map(|_| ()),
        )
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
            Error::model("the tokenizer has no end token")
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

/// The pairs apart: those to learn from and those to validate on.
struct HeldOut {
    train: SentencePairs,
    valid: SentencePairs,
    /// Where they were drawn: from which bodies.
    drawn: Vec<Drawn>,
}

impl HeldOut {
    fn choose(recipe: &Recipe, all: SentencePairs, named: Option<SentencePairs>) -> Self {
        let table = &recipe.data;
        if let Some(valid) = named {
            return HeldOut {
                train: all,
                valid,
                drawn: Vec::new(),
            };
        }
        let (clean, _) = select(&all, None, table);
        if recipe.version() == 1 {
            return Self::last(all, &clean, table);
        }
        let seed = recipe.training.seed;
        let (numbers, drawn) = held_out::draw(&all, &clean, table.valid_pairs, seed);
        HeldOut {
            valid: all.clone().keep(&numbers),
            train: held_out::without(all, &numbers, table),
            drawn,
        }
    }

    /// The rules of version 1: the last of the clean pairs are set aside. Where duplicates are removed, their later copies go
    /// too, which would be the first ones left.
    fn last(all: SentencePairs, clean: &[usize], table: &DataTable) -> Self {
        let mut usable = all.clone().keep(clean);
        let valid = usable.split_off(table.valid_pairs);
        let mut left_out = clean[usable.len()..].iter().peekable();
        let same: HashSet<(&str, &str)> = match table.remove_duplicates {
            true => valid.iter().collect(),
            false => HashSet::new(),
        };
        let kept: Vec<usize> = all
            .iter()
            .enumerate()
            .filter(|(i, pair)| left_out.next_if_eq(&i).is_none() && !same.contains(pair))
            .map(|(i, _)| i)
            .collect();
        HeldOut {
            train: all.keep(&kept),
            valid,
            drawn: Vec::new(),
        }
    }
}

/// The file of [`PairData::keep_drawn`].
pub const DRAWN_FILE: &str = "validation.tsv";

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
        let data =
            PairData::from_pairs(&recipe, pairs, None, folder.path(), BTreeMap::new()).unwrap();
        assert_eq!((data.valid.len(), data.train.len()), (10, 30));
        assert!(data.train.iter().all(|pair| !data.valid.contains(pair)));
        assert_eq!(data.filters.duplicate, 30);
        data.keep_drawn(folder.path()).unwrap();
        let kept = SentencePairs::from_tsv(&folder.path().join(DRAWN_FILE), false).unwrap();
        assert_eq!(kept.source, data.valid_text.source);
    }

    #[test]
    fn version_1_sets_the_last_pairs_aside_and_takes_text_as_it_is() {
        let lines = || (0..40).map(|i| format!("a{i}\u{AD} b"));
        let pairs = SentencePairs {
            source: lines().collect(),
            target: lines().collect(),
            ..Default::default()
        };
        let mut recipe = Recipe::default();
        (recipe.data.valid_pairs, recipe.tokenizer.vocab_size) = (10, 300);
        let prepare = |version| {
            let recipe = Recipe {
                format_version: Some(version),
                ..recipe.clone()
            };
            let folder = tempfile::tempdir().unwrap();
            PairData::from_pairs(&recipe, pairs.clone(), None, folder.path(), BTreeMap::new())
                .unwrap()
        };
        let (old, new) = (prepare(1), prepare(2));
        assert_eq!(old.valid_text.source, pairs.source[30..]);
        assert!(old.drawn.is_empty());
        assert_ne!(new.valid_text.source, pairs.source[30..]);
        assert!(!new.valid_text.source[0].contains('\u{AD}'));
        assert_eq!((new.drawn[0].drawn, new.drawn[0].of), (10, 40));
        assert_eq!(
            (old.audit.source.invisible, new.audit.source.invisible),
            (40, 40)
        );
    }
}
