//! `hexapla evaluate --calibration`: what a model's confidence is worth.

use std::fmt;
use std::path::{Path, PathBuf};

use hexapla::chart::{Curve, Series, picture};
use hexapla::error::Result;
use hexapla::files::write_atomically;
use hexapla::generate::translator::{Translation, Translator};
use hexapla::metrics::Chrf;
use hexapla::metrics::calibration::{Calibration, separation, spearman};
use hexapla::text::direction::Direction;

/// Bins of confidences, as usual in the literature on calibration.
const BINS: usize = 15;

/// Bins of the two plots over translations, of which there are fewer than tokens.
const SENTENCE_BINS: usize = 10;

/// Source tokens of a batch.
const BATCH_TOKENS: usize = 2048;

/// A model's confidence on a test set.
pub(crate) struct Confidence {
    /// Of the likeliest token at each position of the references, and whether it is the reference's.
    tokens: Calibration,
    /// Of each translation.
    sentences: Vec<f64>,
    /// Each translation's chrF, 0 to 100.
    chrf: Vec<f64>,
    /// Another text and the confidences of its translations.
    other: Option<(PathBuf, Vec<f64>)>,
}

impl Confidence {
    /// Compares `translations` of `sources` with `references`, one for each, and reads the model's confidence in the
    /// references' own tokens.
    ///
    /// # Errors
    /// A reference that the model cannot take.
    pub(crate) fn measure(
        model: &Translator,
        direction: &Direction,
        (sources, references): (&[String], &[String]),
        translations: &[Translation],
    ) -> Result<Self> {
        let pairs = sources.iter().zip(references);
        let pairs = pairs.map(|(source, target)| (source.as_str(), target.as_str()));
        let pairs = model.pair_ids(pairs, Some(direction))?;
        // A reference that is longer than the model takes says nothing of its confidence.
        let most = model.engine().max_tokens();
        let pairs: Vec<_> = pairs
            .into_iter()
            .filter(|(source, target)| source.len().max(target.len() + 1) <= most)
            .collect();
        let predicted = model.engine().predict(&pairs, BATCH_TOKENS)?;
        let predicted = predicted.iter().flatten();
        let chrf = Chrf::default();
        let chrf = translations.iter().zip(references).map(|(t, reference)| {
            Ok(chrf
                .sentence(&t.text, std::slice::from_ref(reference))?
                .score)
        });
        Ok(Confidence {
            tokens: Calibration::new(
                predicted.map(|p| (f64::from(p.probability), f64::from(u8::from(p.correct)))),
                BINS,
            ),
            sentences: translations.iter().map(of_translation).collect(),
            chrf: chrf.collect::<Result<_>>()?,
            other: None,
        })
    }

    /// Sets the translations of another text, of `path`, beside those of the test set.
    pub(crate) fn compare(&mut self, path: &Path, translations: &[Translation]) {
        let confidences = translations.iter().map(of_translation).collect();
        self.other = Some((path.to_path_buf(), confidences));
    }

    /// Draws it all to an SVG file.
    pub(crate) fn draw(&self, path: &Path) -> Result<()> {
        let chrf = self.chrf.iter().map(|score| score / 100.0);
        let sentences = self.sentences.iter().copied().zip(chrf);
        let right = Curve {
            logarithmic: false,
            title: "Tokens".into(),
            x_label: "confidence: probability of the likeliest token".into(),
            y_label: "share that is the reference's".into(),
            series: vec![
                Series {
                    name: format!("{} tokens of the references", self.tokens.count()),
                    points: points(&self.tokens, 1.0),
                },
                Series {
                    name: "as often right as confident".into(),
                    points: vec![(0.0, 0.0), (1.0, 1.0)],
                },
            ],
        };
        let x_label = "confidence: geometric mean of the tokens' probabilities";
        let quality = Curve {
            logarithmic: false,
            title: "Translations".into(),
            x_label: x_label.into(),
            y_label: "mean chrF".into(),
            series: vec![Series {
                name: format!("{} translations of the test set", self.sentences.len()),
                points: points(&Calibration::new(sentences, SENTENCE_BINS), 100.0),
            }],
        };
        let others = self.other.iter();
        let others = others.map(|(path, confidences)| (path.display().to_string(), confidences));
        let all = [("the test set".to_string(), &self.sentences)];
        let spread = Curve {
            logarithmic: false,
            title: "How confident".into(),
            x_label: x_label.into(),
            y_label: "% of translations".into(),
            series: all
                .into_iter()
                .chain(others)
                .map(|(name, confidences)| Series {
                    name,
                    points: shares(confidences),
                })
                .collect(),
        };
        write_atomically(path, |w| {
            std::io::Write::write_all(w, picture(&[right, quality, spread]).as_bytes())
        })
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (confidence, correct) = self.tokens.means();
        write!(
            f,
            "tokens: confidence {:.1} %, right {:.1} %, expected calibration error {:.2} % ({BINS} bins, {} tokens)",
            100.0 * confidence,
            100.0 * correct,
            100.0 * self.tokens.expected_error(),
            self.tokens.count()
        )?;
        write!(f, "\ntranslations: {}", Spread(&self.sentences))?;
        if let Some(r) = spearman(&self.sentences, &self.chrf) {
            write!(f, ", rank correlation with chrF {r:.3}")?;
        }
        if let Some((path, other)) = &self.other {
            write!(f, "\n{}: {}", path.display(), Spread(other))?;
            if let Some(share) = separation(other, &self.sentences) {
                write!(f, ", below the test set {:.1} % of the time", 100.0 * share)?;
            }
        }
        Ok(())
    }
}

/// Mean and quantiles of confidences.
struct Spread<'a>(&'a [f64]);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: usize| sorted.get((sorted.len().max(1) - 1) * share / 100);
        let [low, middle, high] = [10, 50, 90].map(|share| at(share).copied().unwrap_or(0.0));
        let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        write!(
            f,
            "confidence {mean:.3} (10 %, 50 %, 90 %: {low:.3}, {middle:.3}, {high:.3}; {} lines)",
            sorted.len()
        )
    }
}

/// The geometric mean of a translation's token probabilities, 0 to 1; 0 for one without tokens.
fn of_translation(translation: &Translation) -> f64 {
    match translation.tokens.len() {
        0 => 0.0,
        n => (f64::from(translation.log_prob) / n as f64).exp(),
    }
}

/// Per cent of the confidences in each bin, at the bin's middle.
fn shares(confidences: &[f64]) -> Vec<(f64, f64)> {
    let binned = Calibration::new(confidences.iter().map(|c| (*c, 0.0)), SENTENCE_BINS);
    let all = confidences.len().max(1) as f64;
    let middle = |i: usize| (i as f64 + 0.5) / SENTENCE_BINS as f64;
    let bins = binned.bins.iter().enumerate();
    bins.map(|(i, b)| (middle(i), 100.0 * b.count as f64 / all))
        .collect()
}

/// Confidence and correctness, times `scale`, of the bins that hold anything.
fn points(calibration: &Calibration, scale: f64) -> Vec<(f64, f64)> {
    let filled = calibration.bins.iter().filter(|b| b.count > 0);
    filled.map(|b| (b.confidence, scale * b.correct)).collect()
}
