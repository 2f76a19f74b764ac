//! A line on its way through the model: cut into sentences, and joined again from their translations.

use std::borrow::Cow;

use super::engine::Request;
use super::{Alignment, Hypothesis, TranslateOptions};
use crate::error::Result;
use crate::text::clean::clean;
use crate::text::direction::leading_tag;
use crate::text::segment::{Segment, join_translated, segment, split_long};
use crate::text::tokenizer::Tokenizers;

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
    /// Source and target token numbers, where it was asked for. Counted through the whole line, with all that stands around its
    /// sentences; tags, end tokens and the like are aligned with nothing.
    pub alignment: Option<Alignment>,
    /// Whether every sentence came to its end.
    pub finished: bool,
}

/// A line's sentences and the requests made of them.
pub(super) struct Line<'a> {
    /// Text and separator.
    parts: Vec<Segment<'a>>,
    /// For each part the number of its request; `None` where there is nothing that the model could translate.
    requests: Vec<Option<usize>>,
}

impl Line<'_> {
    /// The texts that are translated, in the order of their requests.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let parts = self.parts.iter().zip(&self.requests);
        parts.filter_map(|(part, request)| request.map(|_| part.text))
    }
}

/// What a search found for each request, and how that is aligned if it was asked.
pub(super) struct Found {
    pub(super) hypotheses: Vec<Vec<Hypothesis>>,
    pub(super) alignments: Vec<Vec<Alignment>>,
}

/// What cuts and joins lines.
pub(super) struct LineCutter<'a> {
    pub(super) tokenizers: &'a Tokenizers,
    pub(super) eos_token_id: u32,
    /// Longest sentence that the model takes.
    pub(super) max_tokens: usize,
}

impl LineCutter<'_> {
    /// `ids` of a source with what stands around them.
    pub(super) fn with_template(&self, ids: Vec<u32>, language: Option<u32>) -> Vec<u32> {
        self.tokenizers
            .source
            .with_template(ids, self.eos_token_id, language)
    }

    /// A line without what no model should see, before it is cut at what stands around that; one with nothing else stays as it
    /// is.
    pub(super) fn visible<'a>(&self, line: Cow<'a, str>) -> Cow<'a, str> {
        let source = &self.tokenizers.source;
        let clean = clean(&line);
        let (_, text) = leading_tag(&clean, |tag| source.token_to_id(tag).is_some());
        match (text.trim().is_empty(), clean) {
            (false, Cow::Owned(clean)) => Cow::Owned(clean),
            _ => line,
        }
    }

    /// The sentences of a line, whose requests are added to `requests`. `language` is the token of the source's language, where the
    /// model has such tokens.
    pub(super) fn cut<'a>(
        &self,
        (number, line, language): (u64, &'a str, Option<u32>),
        mut prefix: Vec<u32>,
        options: &TranslateOptions,
        requests: &mut Vec<Request>,
    ) -> Result<Line<'a>> {
        let source = &self.tokenizers.source;
        let (tag, text) = leading_tag(line, |tag| source.token_to_id(tag).is_some());
        let source_prefix = options.source_prefix.as_deref().unwrap_or_default();
        let before_each = match tag {
            "" => source_prefix.to_string(),
            tag => format!("{source_prefix}{tag} "),
        };
        let with_prefix = |text: &str| format!("{before_each}{text}");
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
        let room = self.max_tokens.saturating_sub(source.template_len());
        let room = room.max(1);
        let nothing = source.encode("")?.len();
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
            let ids = source.encode(&with_prefix(sentence.text))?;
            let mut ids = Some(ids).filter(|ids| ids.len() <= room);
            let parts = match ids {
                Some(_) => whole(sentence.text),
                None => split_long(sentence.text, room, |text| {
                    let ids = source.encode(&with_prefix(text));
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
                    None => source.encode(&with_prefix(part.text))?,
                };
                let own = match before_each.is_empty() {
                    true => ids.len(),
                    false => source.encode(part.text)?.len(),
                };
                result.requests.push(if own <= nothing {
                    // White space, or nothing that the model could see: it comes out as it went in.
                    None
                } else {
                    let ids = self.with_template(ids, language);
                    let mut request = Request::new(ids).at_line(number, result.parts.len() as u64);
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

    /// The translations of a line, the best first.
    pub(super) fn join(
        &self,
        line: &Line,
        requests: &[Request],
        found: &Found,
        options: &TranslateOptions,
    ) -> Result<Vec<Translation>> {
        let wanted = options.search.n_best;
        let available = line
            .requests
            .iter()
            .flatten()
            .map(|r| found.hypotheses[*r].len())
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
        found: &Found,
        options: &TranslateOptions,
        n: usize,
    ) -> Result<Translation> {
        let mut texts = Vec::new();
        let mut t = Translation {
            text: String::new(),
            score: 0.0,
            log_prob: 0.0,
            tokens: Vec::new(),
            alignment: options.alignment.as_ref().map(|_| Alignment::default()),
            finished: true,
        };
        let (mut sources, mut targets, mut sentences) = (0, 0, 0.0f32);
        for (request, part) in line.requests.iter().zip(&line.parts) {
            let hypotheses = request
                .map(|r| &found.hypotheses[r])
                .filter(|h| !h.is_empty());
            let (Some(request), Some(hypotheses)) = (request, hypotheses) else {
                let untouched = if request.is_none() { part.text } else { "" };
                texts.push(untouched.to_string());
                continue;
            };
            let n = n.min(hypotheses.len() - 1);
            let h = &hypotheses[n];
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
            let these = found.alignments.get(*request).and_then(|all| all.get(n));
            if let (Some(all), Some(these)) = (&mut t.alignment, these) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerKind, TokenizerTable, TransformerConfig};
    use crate::formats::generation::GenerationDefaults;
    use crate::text::tokenizer::Tokenizer;

    #[test]
    fn a_sentence_of_one_token_is_translated_behind_whatever_stands_before_it() {
        let recipe = TokenizerTable {
            kind: TokenizerKind::ByteBpe,
            vocab_size: 300,
            special_tokens: vec![">>de<<".into()],
            ..TokenizerTable::default()
        };
        let tokenizer = Tokenizer::train(&recipe, ["a Hello Hello Hello", " Hello"]).unwrap();
        assert_eq!(tokenizer.encode(" Hello").unwrap().len(), 1);
        let cutter = LineCutter {
            tokenizers: &Tokenizers::joint(tokenizer),
            eos_token_id: 2,
            max_tokens: 50,
        };
        let config = TransformerConfig::preset("tiny").unwrap();
        let plain = TranslateOptions::for_folder(&config, &GenerationDefaults::default());
        for (prefix, line, ids) in [
            (None, ">>de<< Hello", Some(">>de<< Hello")),
            (None, "Hello", Some("Hello")),
            (None, ">>de<<", None),
            (None, "", None),
            (Some("say: "), "Hello", Some("say: Hello")),
            (Some("He"), "llo", Some("Hello")),
            (Some("say: "), "", None),
            (Some("say: "), ">>de<< Hello", Some("say: >>de<< Hello")),
        ] {
            let mut options = plain.clone();
            options.source_prefix = prefix.map(String::from);
            let mut requests = Vec::new();
            let cut = cutter.cut((0, line, None), Vec::new(), &options, &mut requests);
            cut.unwrap();
            let found: Vec<Vec<u32>> = requests.into_iter().map(|r| r.source).collect();
            let of_text = |text: &str| {
                let ids = cutter.tokenizers.source.encode(text).unwrap();
                cutter.with_template(ids, None)
            };
            assert_eq!(
                found,
                ids.map(of_text).into_iter().collect::<Vec<_>>(),
                "{prefix:?} {line}"
            );
        }
    }
}
