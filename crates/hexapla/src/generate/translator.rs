//! Text in, text out: sentences, ids, search, and back.

use std::collections::{BTreeMap, BTreeSet};

use super::engine::{Engine, Request};
use super::{Alignment, Hypothesis, SearchOptions};
use crate::config::{ComputeType, LanguagePair};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats::{self, Family, generation::GenerationDefaults};
use crate::text::direction::leading_tag;
use crate::text::segment::{join_translated, segment, split_long};
use crate::text::tokenizer::Tokenizers;

/// A model folder made ready to translate.
#[derive(Debug)]
pub struct Translator {
    /// The model.
    pub engine: Engine,
    /// Its tokenizers.
    pub tokenizers: Tokenizers,
    /// What the folder says about generation.
    pub generation: GenerationDefaults,
    /// Whose layout the folder has.
    pub family: Family,
    /// Source and target language of each direction that it was trained on; nothing where the folder does not say.
    pub directions: BTreeSet<LanguagePair>,
}

/// How to translate.
#[derive(Debug, Clone, PartialEq)]
pub struct TranslateOptions {
    /// How to search.
    pub search: SearchOptions,
    /// Source tokens of a batch.
    pub batch_tokens: usize,
    /// Longest output of a sentence in tokens; where absent, three times its source plus ten.
    pub max_decoding_length: Option<usize>,
    /// Cut lines into sentences. What the model cannot take whole is cut in any case.
    pub split_sentences: bool,
    /// Number of the first line in the whole text, from 0: sampling draws differently for each line.
    pub first_line: u64,
}

/// One translation of one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Translation {
    /// The text.
    pub text: String,
    /// Mean of the sentences' scores.
    pub score: f32,
    /// Sum of the tokens' log-probabilities.
    pub log_prob: f32,
    /// Each piece with its log-probability, end tokens included.
    pub tokens: Vec<(String, f32)>,
    /// Source and target token numbers, where attention was asked for. Counted through the whole line.
    pub alignment: Option<Alignment>,
    /// Whether every sentence came to its end.
    pub finished: bool,
}

/// A line's sentences and the requests made of them.
struct Line<'a> {
    /// Text and separator.
    parts: Vec<crate::text::segment::Segment<'a>>,
    /// For each part the number of its request; `None` where there is nothing to translate.
    requests: Vec<Option<usize>>,
}

impl Translator {
    /// Opens a model folder, with its matrices in `compute_type`.
    ///
    /// # Errors
    /// As [`formats::open`] and [`Tokenizers::open_folder`].
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let folder = folder.into();
        // Either may take most of the time from the start to the first word.
        let model = || {
            let opened = formats::open(folder.clone())?;
            let prepared = opened.prepare(compute_type)?;
            Ok::<_, Error>((opened, prepared))
        };
        let mut opened = None;
        // The tokenizer, a hundred thousand small allocations, on this thread: glibc grows the heap of any other than the
        // first a page at a time.
        let tokenizers = rayon::in_place_scope(|scope| {
            scope.spawn(|_| opened = Some(model()));
            Tokenizers::open_folder(folder.clone())
        });
        let (opened, prepared) = opened.unwrap_or_else(model)?;
        Ok(Translator {
            tokenizers: tokenizers?,
            engine: Engine::new(opened.model().clone(), prepared),
            generation: opened.generation,
            family: opened.family,
            directions: opened
                .manifest
                .map(|manifest| manifest.fields.directions)
                .unwrap_or_default(),
        })
    }

    /// The ids of a source sentence, end token included. A leading tag such as `>>de<<` is part of `text`.
    ///
    /// # Errors
    /// The tokenizer cannot take the text.
    pub fn source_ids(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizers.source.encode(text)?;
        ids.push(self.engine.model().config().eos_token_id);
        Ok(ids)
    }

    /// The ids of pairs as [`Engine::score`] takes them.
    ///
    /// # Errors
    /// The tokenizer cannot take a text.
    pub fn pair_ids<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
        let ids = |(source, target)| {
            let target = self.tokenizers.target.encode(target)?;
            Ok((self.source_ids(source)?, target))
        };
        pairs.into_iter().map(ids).collect()
    }

    /// The ids of a text that a translation is to start with.
    ///
    /// # Errors
    /// The tokenizer cannot take the text, or it leaves the model no room to go on.
    pub fn prefix_ids(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizers.target.encode(text)?;
        if ids.len() >= self.engine.max_tokens() {
            return Err(Error::new("a target prefix is too long")
                .at("prefix")
                .expected(format!("fewer than {} tokens", self.engine.max_tokens()))
                .found(format!("{} tokens", ids.len()))
                .hint("shorten the prefix, or cut the line into sentences"));
        }
        Ok(ids)
    }

    /// Translates each of `lines`: for each the `n_best` translations, best first. `prefixes` gives target text that a
    /// line's first sentence starts with, by line number.
    ///
    /// # Errors
    /// Settings that do not fit, or a text that the tokenizer refuses.
    pub fn translate<S: AsRef<str>>(
        &self,
        lines: &[S],
        prefixes: &BTreeMap<usize, String>,
        options: &TranslateOptions,
    ) -> Result<Vec<Vec<Translation>>> {
        let mut requests = Vec::new();
        let mut cut = Vec::with_capacity(lines.len());
        for (number, line) in lines.iter().enumerate() {
            let prefix = match prefixes.get(&number) {
                Some(text) => self
                    .prefix_ids(text)
                    .map_err(|e| e.at(format!("prefix of line {}", number + 1)))?,
                None => Vec::new(),
            };
            let place = options.first_line + number as u64;
            cut.push(self.cut((place, line.as_ref()), prefix, options, &mut requests)?);
        }
        let found = self
            .engine
            .generate(&requests, &options.search, options.batch_tokens)?;
        cut.iter()
            .map(|line| self.join(line, &requests, &found, options))
            .collect()
    }

    fn cut<'a>(
        &self,
        (place, line): (u64, &'a str),
        mut prefix: Vec<u32>,
        options: &TranslateOptions,
        requests: &mut Vec<Request>,
    ) -> Result<Line<'a>> {
        let source = &self.tokenizers.source;
        let (tag, text) = leading_tag(line, |tag| source.token_to_id(tag).is_some());
        let tagged = |text: &str| match tag {
            "" => text.to_string(),
            tag => format!("{tag} {text}"),
        };
        let whole = |text| {
            vec![crate::text::segment::Segment {
                text,
                separator: "",
            }]
        };
        let sentences = if options.split_sentences {
            segment(text)
        } else {
            whole(text)
        };
        // One place is the end token's.
        let room = self.engine.max_tokens().saturating_sub(1).max(1);
        let mut result = Line {
            parts: Vec::new(),
            requests: Vec::new(),
        };
        for sentence in sentences {
            let count = |text: &str| {
                source
                    .encode(&tagged(text))
                    .map_or(usize::MAX, |ids| ids.len())
            };
            let parts = if count(sentence.text) > room {
                split_long(sentence.text, room, count)
            } else {
                whole(sentence.text)
            };
            let last = parts.len().saturating_sub(1);
            for (i, mut part) in parts.into_iter().enumerate() {
                if i == last {
                    part.separator = sentence.separator;
                }
                result.requests.push(if part.text.trim().is_empty() {
                    None
                } else {
                    let mut request = Request::new(self.source_ids(&tagged(part.text))?)
                        .at_place(place, result.parts.len() as u64);
                    request.prefix = std::mem::take(&mut prefix);
                    let max_length = options.max_decoding_length.unwrap_or(request.max_length);
                    request.max_length = max_length.max(request.prefix.len() + 1);
                    requests.push(request);
                    Some(requests.len() - 1)
                });
                result.parts.push(part);
            }
        }
        Ok(result)
    }

    fn join(
        &self,
        line: &Line,
        requests: &[Request],
        found: &[Vec<Hypothesis>],
        options: &TranslateOptions,
    ) -> Result<Vec<Translation>> {
        let wanted = options.search.n_best;
        let available = line
            .requests
            .iter()
            .flatten()
            .map(|r| found[*r].len())
            .max()
            .unwrap_or(wanted);
        (0..wanted.min(available.max(1)))
            .map(|n| self.join_nth(line, requests, found, options, n))
            .collect()
    }

    fn join_nth(
        &self,
        line: &Line,
        requests: &[Request],
        found: &[Vec<Hypothesis>],
        options: &TranslateOptions,
        n: usize,
    ) -> Result<Translation> {
        let mut texts = Vec::new();
        let mut t = Translation {
            text: String::new(),
            score: 0.0,
            log_prob: 0.0,
            tokens: Vec::new(),
            alignment: options.search.attention.then(Alignment::default),
            finished: true,
        };
        let (mut sources, mut targets, mut sentences) = (0, 0, 0.0f32);
        for request in &line.requests {
            let hypotheses = request.map(|r| &found[r]).filter(|h| !h.is_empty());
            let (Some(request), Some(hypotheses)) = (request, hypotheses) else {
                texts.push(String::new());
                continue;
            };
            let h = hypotheses
                .get(n)
                .unwrap_or(&hypotheses[hypotheses.len() - 1]);
            texts.push(self.tokenizers.target.decode(h.tokens())?);
            t.score += h.score;
            t.log_prob += h.log_prob;
            t.finished &= h.finished;
            sentences += 1.0;
            for (id, log_prob) in h.ids.iter().zip(&h.token_log_probs) {
                t.tokens.push((
                    self.tokenizers.target.id_to_token(*id).unwrap_or_default(),
                    *log_prob,
                ));
            }
            let length = requests[*request].source.len();
            if let (Some(all), Some(these)) = (&mut t.alignment, h.alignment(length)) {
                all.pairs
                    .extend(these.pairs.iter().map(|(s, t)| (s + sources, t + targets)));
            }
            sources += length;
            targets += h.tokens().len();
        }
        t.score /= sentences.max(1.0);
        t.text = join_translated(&line.parts, &texts).replace('\n', " ");
        Ok(t)
    }
}
