//! chrF (Popović, 2015) and chrF++ (Popović, 2017) as sacreBLEU computes them.

use std::fmt;
use std::hash::Hash;

use super::tokenize::{is_space, words};
use super::{SACREBLEU_VERSION, check_streams, count_ngrams, fold_case};
use crate::error::{Error, Result};

/// chrF's settings. The default is sacreBLEU's chrF2.
///
/// ```
/// use hexapla::metrics::Chrf;
/// let references = ["the cat sat on the mat"];
/// let score = Chrf::plus_plus().corpus(&["the cat sat on a mat"], &[&references])?;
/// assert_eq!(score.to_string(), "chrF2++ = 67.44");
/// assert_eq!(score.signature(), "nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.6.0");
/// # Ok::<(), hexapla::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chrf {
    /// Longest n-grams of characters.
    pub char_order: usize,
    /// Longest n-grams of words: 0 for chrF, 2 for chrF++.
    pub word_order: usize,
    /// How many times as much recall counts as precision.
    pub beta: u32,
    /// Ignore case.
    pub lowercase: bool,
    /// White space counts as a character.
    pub whitespace: bool,
    /// Average F-scores over all orders, with a tiny value for an order that is absent, as chrF++.py, Moses and
    /// NLTK do; otherwise average precision and recall over the orders that are present.
    pub eps_smoothing: bool,
}

impl Default for Chrf {
    fn default() -> Self {
        Chrf {
            char_order: 6,
            word_order: 0,
            beta: 2,
            lowercase: false,
            whitespace: false,
            eps_smoothing: false,
        }
    }
}

/// A chrF score. It displays as sacreBLEU's line.
#[derive(Debug, Clone, PartialEq)]
pub struct ChrfScore {
    /// 0 to 100.
    pub score: f64,
    name: String,
    signature: String,
}

impl ChrfScore {
    /// `chrF2`, `chrF2++`: the metric with its β.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// sacreBLEU's signature: everything that another needs to compute the same score.
    pub fn signature(&self) -> &str {
        &self.signature
    }
}

impl fmt::Display for ChrfScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:.2}", self.name, self.score)
    }
}

/// n-grams of one order: in the hypothesis, in the reference, in both.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Matches {
    hypothesis: u64,
    reference: u64,
    both: u64,
}

/// A sentence ready for counting.
struct Prepared {
    characters: Vec<char>,
    words: Vec<String>,
}

impl Chrf {
    /// Longest order that is accepted; it bounds the work that settings can ask for.
    pub const MAX_ORDER: usize = 64;

    /// chrF++: n-grams of one and two words count too.
    pub fn plus_plus() -> Self {
        Chrf {
            word_order: 2,
            ..Chrf::default()
        }
    }

    /// The score of a whole corpus. `references[k][i]` is the k-th reference of hypothesis i.
    ///
    /// # Errors
    /// No hypothesis, no reference, a stream of references of another length, or orders that are both 0 or too large.
    pub fn corpus<H: AsRef<str>, R: AsRef<str>>(
        &self,
        hypotheses: &[H],
        references: &[&[R]],
    ) -> Result<ChrfScore> {
        self.check_orders()?;
        check_streams("chrF", hypotheses.len(), references)?;
        let mut total = vec![Matches::default(); self.char_order + self.word_order];
        for (i, hypothesis) in hypotheses.iter().enumerate() {
            let hypothesis = self.prepare(hypothesis.as_ref());
            let references = references.iter().filter_map(|stream| stream.get(i));
            let best = self.best_matches(&hypothesis, references.map(|r| self.prepare(r.as_ref())));
            for (total, sentence) in total.iter_mut().zip(best) {
                total.hypothesis += sentence.hypothesis;
                total.reference += sentence.reference;
                total.both += sentence.both;
            }
        }
        Ok(ChrfScore {
            score: self.f_score(&total),
            name: format!("chrF{}{}", self.beta, "+".repeat(self.word_order)),
            signature: self.signature(references.len()),
        })
    }

    /// The score of one sentence.
    ///
    /// # Errors
    /// As [`Chrf::corpus`].
    pub fn sentence<R: AsRef<str>>(&self, hypothesis: &str, references: &[R]) -> Result<ChrfScore> {
        let streams: Vec<&[R]> = references.chunks(1).collect();
        self.corpus(&[hypothesis], &streams)
    }

    fn check_orders(&self) -> Result<()> {
        let (characters, words) = (self.char_order, self.word_order);
        if characters.max(words) > Self::MAX_ORDER || characters.max(words) == 0 {
            return Err(Error::settings("cannot compute chrF")
                .expected(format!("orders up to {}, not both 0", Self::MAX_ORDER))
                .found(format!("character order {characters}, word order {words}")));
        }
        Ok(())
    }

    fn prepare(&self, sentence: &str) -> Prepared {
        let sentence = fold_case(sentence, self.lowercase);
        let words = if self.word_order > 0 {
            split_punctuation(&sentence)
        } else {
            Vec::new()
        };
        Prepared {
            characters: sentence
                .chars()
                .filter(|&c| self.whitespace || !is_space(c))
                .collect(),
            words,
        }
    }

    /// The matches with the reference that gives the best score, the first of equals.
    fn best_matches(
        &self,
        hypothesis: &Prepared,
        references: impl Iterator<Item = Prepared>,
    ) -> Vec<Matches> {
        let mut best = (-1.0, Vec::new());
        for reference in references {
            let characters = (1..=self.char_order)
                .map(|n| matches(&hypothesis.characters, &reference.characters, n));
            let words =
                (1..=self.word_order).map(|n| matches(&hypothesis.words, &reference.words, n));
            let found: Vec<Matches> = characters.chain(words).collect();
            let score = self.f_score(&found);
            if score > best.0 {
                best = (score, found);
            }
        }
        best.1
    }

    /// F_β = (1 + β²)·P·R / (β²·P + R), from 0 to 100.
    fn f_score(&self, orders: &[Matches]) -> f64 {
        const EPS: f64 = 1e-16;
        let factor = f64::from(self.beta).powi(2);
        let f = |precision: f64, recall: f64, otherwise: f64| {
            let denominator = factor * precision + recall;
            if denominator > 0.0 {
                (1.0 + factor) * precision * recall / denominator
            } else {
                otherwise
            }
        };
        let share = |part: u64, whole: u64| {
            if whole > 0 {
                part as f64 / whole as f64
            } else {
                EPS
            }
        };
        let rates = orders
            .iter()
            .map(|m| (share(m.both, m.hypothesis), share(m.both, m.reference)));
        if self.eps_smoothing {
            let sum: f64 = rates
                .map(|(precision, recall)| f(precision, recall, EPS))
                .sum();
            return 100.0 * sum / orders.len() as f64;
        }
        let (mut precision, mut recall, mut present) = (0.0, 0.0, 0.0);
        for ((p, r), order) in rates.zip(orders) {
            if order.hypothesis > 0 && order.reference > 0 {
                (precision, recall, present) = (precision + p, recall + r, present + 1.0);
            }
        }
        if present == 0.0 {
            return 0.0;
        }
        100.0 * f(precision / present, recall / present, 0.0)
    }

    fn signature(&self, references: usize) -> String {
        let yes_no = |flag| if flag { "yes" } else { "no" };
        format!(
            "nrefs:{references}|case:{}|eff:{}|nc:{}|nw:{}|space:{}|version:{SACREBLEU_VERSION}",
            if self.lowercase { "lc" } else { "mixed" },
            yes_no(!self.eps_smoothing),
            self.char_order,
            self.word_order,
            yes_no(self.whitespace),
        )
    }
}

fn matches<T: Hash + Eq>(hypothesis: &[T], reference: &[T], n: usize) -> Matches {
    let allowed = count_ngrams(reference, n);
    let found = count_ngrams(hypothesis, n);
    Matches {
        // An order that the reference is too short for counts for nothing in the hypothesis either.
        hypothesis: if allowed.is_empty() {
            0
        } else {
            found.values().sum()
        },
        reference: allowed.values().sum(),
        both: found
            .iter()
            .map(|(ngram, count)| *count.min(allowed.get(ngram).unwrap_or(&0)))
            .sum(),
    }
}

/// Words, with one ASCII punctuation mark cut off the end, or else off the beginning. `(hi)` gives `(hi` and `)`.
fn split_punctuation(sentence: &str) -> Vec<String> {
    let mut out = Vec::new();
    for word in words(sentence) {
        let head = word.trim_end_matches(|c: char| c.is_ascii_punctuation());
        let tail = word.trim_start_matches(|c: char| c.is_ascii_punctuation());
        // A mark is one byte long, so that both cuts lie between characters.
        let cut = match word.len() {
            1 => None,
            length if head.len() < length => Some(length - 1),
            length if tail.len() < length => Some(1),
            _ => None,
        };
        match cut {
            Some(index) => {
                let (first, second) = word.split_at(index);
                out.extend([first.to_owned(), second.to_owned()]);
            }
            None => out.push(word.to_owned()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_is_cut_off_each_word() {
        assert_eq!(
            split_punctuation("(hi) \"so... a . ? é. (é 好。"),
            [
                "(hi", ")", "\"so..", ".", "a", ".", "?", "é", ".", "(", "é", "好。"
            ]
        );
    }

    #[test]
    fn equal_is_100_and_disjoint_is_0() {
        for chrf in [Chrf::default(), Chrf::plus_plus()] {
            assert_eq!(
                chrf.sentence("same words", &["same words"]).unwrap().score,
                100.0
            );
            assert_eq!(chrf.sentence("abc", &["xyz"]).unwrap().score, 0.0);
            assert_eq!(chrf.sentence("", &[""]).unwrap().score, 0.0);
        }
    }

    #[test]
    fn orders_are_bounded() {
        for (char_order, word_order) in [(0, 0), (65, 0), (6, usize::MAX)] {
            let chrf = Chrf {
                char_order,
                word_order,
                ..Chrf::default()
            };
            assert!(chrf.sentence("a", &["a"]).is_err());
        }
    }
}
