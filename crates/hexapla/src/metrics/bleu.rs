//! BLEU (Papineni et al., 2002) as sacreBLEU computes it.

use std::collections::HashMap;
use std::fmt;

use super::tokenize::{Tokenizer, is_space, words};
use super::{SACREBLEU_VERSION, check_streams, count_ngrams, fold_case};
use crate::error::{Error, Result, unknown_name};

/// Longest n-grams that count.
const MAX_ORDER: usize = 4;

/// What stands in for an n-gram precision of zero, whose logarithm would make every score 0
/// (Chen and Cherry, 2014).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Smoothing {
    /// `exp`: half of one match for the first order without any, a quarter for the second, and so on.
    #[default]
    Exp,
    /// `floor`: this many matches (sacreBLEU's default is 0.1).
    Floor(f64),
    /// `add-k`: this many more matches and n-grams for every order above 1 (sacreBLEU's default is 1).
    AddK(f64),
    /// `none`: nothing; one order without a match makes the score 0.
    None,
}

impl Smoothing {
    /// Every method's name, the default first.
    pub const NAMES: [&'static str; 4] = ["exp", "floor", "add-k", "none"];

    /// The method that sacreBLEU calls `name`, with its parameter or sacreBLEU's default for it.
    ///
    /// # Errors
    /// An unknown name; a value for a method that takes none; a value that is negative or not finite.
    pub fn from_name(name: &str, value: Option<f64>) -> Result<Self> {
        let refuse = |expected: &str, value: f64| {
            Err(
                Error::settings(format!("BLEU smoothing `{name}` cannot use this value"))
                    .expected(expected)
                    .found(value.to_string()),
            )
        };
        match (name, value) {
            ("floor" | "add-k", Some(v)) if !(v.is_finite() && v >= 0.0) => {
                refuse("a finite number, at least 0", v)
            }
            ("floor", v) => Ok(Smoothing::Floor(v.unwrap_or(0.1))),
            ("add-k", v) => Ok(Smoothing::AddK(v.unwrap_or(1.0))),
            ("exp" | "none", Some(v)) => refuse("no value", v),
            ("exp", None) => Ok(Smoothing::Exp),
            ("none", None) => Ok(Smoothing::None),
            _ => Err(unknown_name("BLEU smoothing", name, &Self::NAMES)),
        }
    }
}

impl fmt::Display for Smoothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Smoothing::Exp => f.write_str("exp"),
            Smoothing::Floor(value) => write!(f, "floor[{value:.2}]"),
            Smoothing::AddK(value) => write!(f, "add-k[{value:.2}]"),
            Smoothing::None => f.write_str("none"),
        }
    }
}

/// BLEU's settings. The default is sacreBLEU's.
///
/// ```
/// use hexapla::metrics::Bleu;
/// let references = ["the cat sat on the mat"];
/// let score = Bleu::default().corpus(&["the cat sat on a mat"], &[&references])?;
/// assert_eq!(
///     score.to_string(),
///     "BLEU = 53.73 83.3/60.0/50.0/33.3 (BP = 1.000 ratio = 1.000 hyp_len = 6 ref_len = 6)"
/// );
/// assert_eq!(score.signature(), "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0");
/// # Ok::<(), hexapla::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bleu {
    /// How sentences are cut into words.
    pub tokenizer: Tokenizer,
    /// What replaces precisions of zero.
    pub smoothing: Smoothing,
    /// Ignore case.
    pub lowercase: bool,
}

/// A BLEU score and what it is made of. It displays as sacreBLEU's verbose line.
#[derive(Debug, Clone, PartialEq)]
pub struct BleuScore {
    /// 0 to 100.
    pub score: f64,
    /// Smoothed n-gram precisions for n = 1 to 4, 0 to 100.
    pub precisions: [f64; MAX_ORDER],
    /// 1, or less where the hypotheses are shorter than the references.
    pub brevity_penalty: f64,
    /// Words in the hypotheses.
    pub hypothesis_length: u64,
    /// Words in the references nearest in length.
    pub reference_length: u64,
    /// Matching n-grams for n = 1 to 4, before smoothing.
    pub matches: [u64; MAX_ORDER],
    /// The hypotheses' n-grams for n = 1 to 4, before smoothing.
    pub totals: [u64; MAX_ORDER],
    signature: String,
}

impl BleuScore {
    /// sacreBLEU's signature: everything that another needs to compute the same score.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Length of the hypotheses divided by that of the references (0 where these are empty).
    pub fn length_ratio(&self) -> f64 {
        if self.reference_length == 0 {
            0.0
        } else {
            self.hypothesis_length as f64 / self.reference_length as f64
        }
    }
}

impl fmt::Display for BleuScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p1, p2, p3, p4] = self.precisions;
        write!(
            f,
            "BLEU = {:.2} {p1:.1}/{p2:.1}/{p3:.1}/{p4:.1} (BP = {:.3} ratio = {:.3} hyp_len = {} ref_len = {})",
            self.score,
            self.brevity_penalty,
            self.length_ratio(),
            self.hypothesis_length,
            self.reference_length,
        )
    }
}

/// Counts that add up over the sentences of a corpus.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    hypothesis_length: u64,
    reference_length: u64,
    matches: [u64; MAX_ORDER],
    totals: [u64; MAX_ORDER],
}

impl Bleu {
    /// The score of a whole corpus. `references[k][i]` is the k-th reference of hypothesis i.
    ///
    /// # Errors
    /// No hypothesis, no reference, or a stream of references of another length.
    pub fn corpus<H: AsRef<str>, R: AsRef<str>>(
        &self,
        hypotheses: &[H],
        references: &[&[R]],
    ) -> Result<BleuScore> {
        self.score(hypotheses, references, false)
    }

    /// The score of one sentence, over the n-gram orders that it is long enough to have ("effective order").
    ///
    /// # Errors
    /// No reference.
    pub fn sentence<R: AsRef<str>>(&self, hypothesis: &str, references: &[R]) -> Result<BleuScore> {
        let streams: Vec<&[R]> = references.chunks(1).collect();
        self.score(&[hypothesis], &streams, true)
    }

    fn score<H: AsRef<str>, R: AsRef<str>>(
        &self,
        hypotheses: &[H],
        references: &[&[R]],
        effective_order: bool,
    ) -> Result<BleuScore> {
        check_streams("BLEU", hypotheses.len(), references)?;
        let mut counts = Counts::default();
        for (i, hypothesis) in hypotheses.iter().enumerate() {
            let references = references.iter().filter_map(|stream| stream.get(i));
            counts.add(
                &self.prepare(hypothesis.as_ref()),
                &references
                    .map(|r| self.prepare(r.as_ref()))
                    .collect::<Vec<_>>(),
            );
        }
        let (score, precisions) = counts.score(self.smoothing, effective_order);
        Ok(BleuScore {
            score,
            precisions,
            brevity_penalty: counts.brevity_penalty(),
            hypothesis_length: counts.hypothesis_length,
            reference_length: counts.reference_length,
            matches: counts.matches,
            totals: counts.totals,
            signature: self.signature(references.len(), effective_order),
        })
    }

    fn prepare(&self, sentence: &str) -> String {
        let sentence = fold_case(sentence, self.lowercase);
        self.tokenizer.tokenize(sentence.trim_end_matches(is_space))
    }

    fn signature(&self, references: usize, effective_order: bool) -> String {
        format!(
            "nrefs:{references}|case:{}|eff:{}|tok:{}|smooth:{}|version:{SACREBLEU_VERSION}",
            if self.lowercase { "lc" } else { "mixed" },
            if effective_order { "yes" } else { "no" },
            self.tokenizer.name(),
            self.smoothing,
        )
    }
}

impl Counts {
    /// Adds one tokenized sentence and its tokenized references.
    fn add(&mut self, hypothesis: &str, references: &[String]) {
        let hypothesis: Vec<&str> = words(hypothesis).collect();
        let references: Vec<Vec<&str>> = references.iter().map(|r| words(r).collect()).collect();

        // The nearest length counts; of two equally near, the shorter.
        let nearest = references
            .iter()
            .map(Vec::len)
            .min_by_key(|&length| (length.abs_diff(hypothesis.len()), length));
        self.hypothesis_length += hypothesis.len() as u64;
        self.reference_length += nearest.unwrap_or(0) as u64;

        for (n, (matches, totals)) in (1..).zip(self.matches.iter_mut().zip(&mut self.totals)) {
            let mut allowed: HashMap<&[&str], u64> = HashMap::new();
            for reference in &references {
                for (ngram, count) in count_ngrams(reference, n) {
                    let most = allowed.entry(ngram).or_insert(0);
                    *most = count.max(*most);
                }
            }
            for (ngram, count) in count_ngrams(&hypothesis, n) {
                *totals += count;
                *matches += count.min(allowed.get(ngram).copied().unwrap_or(0));
            }
        }
    }

    fn brevity_penalty(&self) -> f64 {
        let (hypothesis, reference) = (self.hypothesis_length, self.reference_length);
        if hypothesis >= reference {
            1.0
        } else if hypothesis == 0 {
            0.0
        } else {
            (1.0 - reference as f64 / hypothesis as f64).exp()
        }
    }

    /// brevity penalty × exp(mean of log precisions), and the precisions.
    fn score(&self, smoothing: Smoothing, effective_order: bool) -> (f64, [f64; MAX_ORDER]) {
        let mut precisions = [0.0; MAX_ORDER];
        if self.matches == [0; MAX_ORDER] {
            return (0.0, precisions);
        }
        let mut orders = MAX_ORDER;
        let mut halvings = 1.0;
        for (i, precision) in precisions.iter_mut().enumerate() {
            let added = match smoothing {
                Smoothing::AddK(k) if i > 0 => k,
                _ => 0.0,
            };
            let matches = self.matches[i] as f64 + added;
            let total = self.totals[i] as f64 + added;
            if total == 0.0 {
                break;
            }
            if effective_order {
                orders = i + 1;
            }
            *precision = match smoothing {
                _ if matches > 0.0 => 100.0 * matches / total,
                Smoothing::Exp => {
                    halvings *= 2.0;
                    100.0 / (halvings * total)
                }
                Smoothing::Floor(value) => 100.0 * value / total,
                Smoothing::AddK(_) | Smoothing::None => 0.0,
            };
        }
        // ln 0 = −∞ and exp(−∞) = 0: an order without any precision makes the score 0.
        let logs: f64 = precisions.iter().take(orders).map(|p| p.ln()).sum();
        (
            self.brevity_penalty() * (logs / orders as f64).exp(),
            precisions,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_order_is_zero_without_smoothing() {
        let unsmoothed = Bleu {
            smoothing: Smoothing::None,
            ..Bleu::default()
        };
        let score = unsmoothed.corpus(&["a b c x"], &[&["a b c d"]]).unwrap();
        assert_eq!((score.score, score.precisions[3]), (0.0, 0.0));
        assert_eq!((score.matches, score.totals), ([3, 2, 1, 0], [4, 3, 2, 1]));
        assert!(
            Bleu::default()
                .corpus(&["a b c x"], &[&["a b c d"]])
                .unwrap()
                .score
                > 0.0
        );
    }

    #[test]
    fn a_short_sentence_can_be_perfect_only_alone() {
        assert!((Bleu::default().sentence("yes", &["yes"]).unwrap().score - 100.0).abs() < 1e-9);
        assert_eq!(
            Bleu::default().corpus(&["yes"], &[&["yes"]]).unwrap().score,
            0.0
        );
    }

    #[test]
    fn the_nearer_then_the_shorter_reference_counts() {
        let score = Bleu::default()
            .sentence("a b c", &["a b c d e", "a", "a b"])
            .unwrap();
        assert_eq!(score.reference_length, 2);
        let score = Bleu::default()
            .sentence("a b c", &["a b c d", "a b"])
            .unwrap();
        assert_eq!(score.reference_length, 2);
        assert!(score.signature().starts_with("nrefs:2|"));
    }

    #[test]
    fn smoothing_values_are_checked() {
        assert_eq!(
            Smoothing::from_name("floor", None).unwrap().to_string(),
            "floor[0.10]"
        );
        assert_eq!(
            Smoothing::from_name("add-k", Some(2.0))
                .unwrap()
                .to_string(),
            "add-k[2.00]"
        );
        assert!(Smoothing::from_name("floor", Some(f64::NAN)).is_err());
        assert!(Smoothing::from_name("exp", Some(1.0)).is_err());
        assert!(
            Smoothing::from_name("expo", None)
                .unwrap_err()
                .to_string()
                .contains("`exp`")
        );
    }
}
