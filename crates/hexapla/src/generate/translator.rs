//! Text in, text out: sentences, ids, search, and back.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::engine::{Engine, Request};
use super::{Alignment, Hypothesis, SearchOptions};
use crate::config::{ComputeType, LanguagePair};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats::{self, Family, generation::GenerationDefaults};
use crate::text::clean::clean;
use crate::text::direction::leading_tag;
use crate::text::segment::{Segment, join_translated, segment, split_long};
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
    /// Number of the first line in the whole text, from 0: sampling draws differently for each line, and errors name it.
    pub first_line: u64,
    /// The token of the source's language, where the model has such tokens; what its tokenizer says where absent.
    pub source_language: Option<u32>,
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
    parts: Vec<Segment<'a>>,
    /// For each part the number of its request; `None` where there is nothing that the model could translate.
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
            let packed = opened.pack(compute_type)?;
            Ok::<_, Error>((opened, packed))
        };
        let mut opened = None;
        // The tokenizer, a hundred thousand small allocations, on this thread: glibc grows the heap of any other than the
        // first a page at a time.
        let tokenizers = rayon::in_place_scope(|scope| {
            scope.spawn(|_| opened = Some(model()));
            Tokenizers::open_folder(folder.clone())
        });
        let (opened, packed) = opened.unwrap_or_else(model)?;
        Ok(Translator {
            tokenizers: tokenizers?,
            engine: Engine::new(opened.model().clone(), packed),
            generation: opened.generation,
            family: opened.family,
            directions: opened
                .manifest
                .map(|manifest| manifest.fields.directions)
                .unwrap_or_default(),
        })
    }

    /// The ids of a source sentence, with its end token and whatever else the tokenizer puts around a text. A leading tag such
    /// as `>>de<<` is part of `text`.
    ///
    /// # Errors
    /// The tokenizer cannot take the text.
    pub fn source_ids(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizers.source.encode(text)?;
        Ok(self.with_template(ids, None))
    }

    fn with_template(&self, ids: Vec<u32>, language: Option<u32>) -> Vec<u32> {
        let eos = self.engine.model().config().eos_token_id;
        self.tokenizers.source.with_template(ids, eos, language)
    }

    /// The ids of pairs as [`Engine::score`] takes them; `languages` are the tokens of the source's and the target's language,
    /// for models that have such.
    ///
    /// # Errors
    /// The tokenizer cannot take a text.
    pub fn pair_ids<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        languages: (Option<u32>, Option<u32>),
    ) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
        let (from, to) = languages;
        let ids = |(source, target): (&str, &str)| {
            let source = self.tokenizers.source.encode(source.trim())?;
            let target = self.tokenizers.target.encode(target.trim())?;
            let target = to.into_iter().chain(target).collect();
            Ok((self.with_template(source, from), target))
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
        let lines: Vec<Cow<str>> = lines
            .iter()
            .map(|line| self.visible(line.as_ref()))
            .collect();
        let mut requests = Vec::new();
        let mut cut = Vec::with_capacity(lines.len());
        for (number, line) in lines.iter().enumerate() {
            let line_number = options.first_line + number as u64;
            let name = || format!("line {}", line_number + 1);
            let prefix = match prefixes.get(&number) {
                Some(text) => self
                    .prefix_ids(text)
                    .map_err(|e| e.at(format!("prefix of {}", name())))?,
                None => Vec::new(),
            };
            // The language comes first, then what was given.
            let prefix = match options.search.forced_bos_id {
                Some(bos) if !prefix.is_empty() && prefix[0] != bos => {
                    [bos].into_iter().chain(prefix).collect()
                }
                _ => prefix,
            };
            let line = self.cut((line_number, line), prefix, options, &mut requests);
            cut.push(line.map_err(|e| e.within(name()))?);
        }
        let found = self
            .engine
            .generate(&requests, &options.search, options.batch_tokens)
            .map_err(|e| {
                e.item_as(|request| match requests.get(request) {
                    Some(request) => format!("line {}", request.line() + 1),
                    None => format!("sentence {}", request + 1),
                })
            })?;
        cut.iter()
            .map(|line| self.join(line, &requests, &found, options))
            .collect()
    }

    /// A line without what no model should see, before it is cut at what stands around that; one with nothing else stays as it
    /// is.
    fn visible<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let source = &self.tokenizers.source;
        let clean = clean(line);
        let (_, text) = leading_tag(&clean, |tag| source.token_to_id(tag).is_some());
        match text.trim().is_empty() {
            true => Cow::Borrowed(line),
            false => clean,
        }
    }

    fn cut<'a>(
        &self,
        (line_number, line): (u64, &'a str),
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
            vec![Segment {
                text,
                separator: "",
            }]
        };
        let sentences = if options.split_sentences {
            segment(text)
        } else {
            Segment::whole(text)
        };
        // Some positions are the end token's and what else stands around a text.
        let room = self
            .engine
            .max_tokens()
            .saturating_sub(source.template_len());
        let room = room.max(1);
        let of_tag = source.encode(tag)?.len();
        let mut result = Line {
            parts: Vec::new(),
            requests: Vec::new(),
        };
        let before = &line[..line.len() - line.trim_start().len()];
        if !tag.is_empty() && !before.is_empty() {
            result.parts.push(Segment {
                text: "",
                separator: before,
            });
            result.requests.push(None);
        }
        for sentence in sentences {
            let ids = source.encode(&tagged(sentence.text))?;
            let mut ids = Some(ids).filter(|ids| ids.len() <= room);
            let parts = match ids {
                Some(_) => whole(sentence.text),
                None => split_long(sentence.text, room, |text| {
                    let ids = source.encode(&tagged(text));
                    ids.map_or(usize::MAX, |ids| ids.len())
                }),
            };
            let last = parts.len().saturating_sub(1);
            for (i, mut part) in parts.into_iter().enumerate() {
                if i == last {
                    part.separator = sentence.separator;
                }
                let ids = match ids.take() {
                    Some(ids) => ids,
                    None => source.encode(&tagged(part.text))?,
                };
                result.requests.push(if ids.len() <= of_tag {
                    // White space, or nothing that the model could see: it comes out as it went in.
                    None
                } else {
                    let ids = self.with_template(ids, options.source_language);
                    let mut request =
                        Request::new(ids).at_line(line_number, result.parts.len() as u64);
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
        for (request, part) in line.requests.iter().zip(&line.parts) {
            let hypotheses = request.map(|r| &found[r]).filter(|h| !h.is_empty());
            let (Some(request), Some(hypotheses)) = (request, hypotheses) else {
                let untouched = if request.is_none() { part.text } else { "" };
                texts.push(untouched.to_string());
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
