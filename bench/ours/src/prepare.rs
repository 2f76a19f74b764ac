//! The files of a piece of work: what `cargo xtask bench` reads in `bench/definitions` becomes jobs for both sides.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla::formats::{self, ConvertModel, convert};
use hexapla::text::tokenizer::{DecoderTokenizer, EncoderTokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::protocol;
use crate::train::{Sentences, write_weights};

/// A piece of work.
#[derive(Debug, Deserialize)]
#[serde(tag = "program", rename_all = "snake_case")]
pub(crate) enum Spec {
    Train(TrainSpec),
    Translate(TranslateSpec),
    Embed(EmbedSpec),
    Generate(GenerateSpec),
}

/// Steps on random sentences of one length, or on an epoch of those in `data`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainSpec {
    /// Where the files go.
    folder: PathBuf,
    threads: usize,
    d_model: usize,
    heads: usize,
    feed_forward: usize,
    layers: usize,
    precision: String,
    /// Whether a decoder stands alone, and goes on with texts; otherwise both halves translate.
    #[serde(default)]
    decoder_alone: bool,
    /// In what is timed; 0.1 where absent.
    dropout: Option<f32>,
    #[serde(default)]
    vocabulary: usize,
    #[serde(default)]
    sentences: usize,
    /// Tokens of each sentence, end token included.
    #[serde(default)]
    length: usize,
    /// Of a batch; where absent, `sentences` says how many.
    tokens: Option<usize>,
    data: Option<PathBuf>,
    /// An epoch is made in so many runs.
    parts: Option<usize>,
}

/// Decoding of random sources.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TranslateSpec {
    folder: PathBuf,
    threads: usize,
    model: PathBuf,
    compute_type: String,
    streams: usize,
    batch: usize,
    beam: usize,
    words: usize,
    vocabulary: usize,
    sentences: Option<usize>,
    #[serde(default)]
    checked: usize,
    #[serde(default)]
    source_word: f64,
    #[serde(default)]
    hypothesis_word: f64,
}

/// Vectors of texts, or scores of pairs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbedSpec {
    folder: PathBuf,
    threads: usize,
    model: PathBuf,
    /// Whether its head's logits are wanted.
    #[serde(default)]
    head: bool,
    compute_type: String,
    batch: usize,
    texts: usize,
    /// Tokens of a text, those that the model adds counted; or
    #[serde(default)]
    length: usize,
    /// a file whose lines begin with a text and a tab.
    data: Option<PathBuf>,
    /// Millions of multiplications and additions of the products for each token.
    token: f64,
}

/// Going on with prompts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateSpec {
    folder: PathBuf,
    threads: usize,
    model: PathBuf,
    compute_type: String,
    /// Tokens of a prompt.
    prompt: usize,
    new_tokens: usize,
    streams: usize,
    /// What prompts are cut from.
    text: PathBuf,
    tolerance: f64,
    /// GB of weights that a step reads.
    reads: f64,
}

/// What `cargo xtask bench` is told.
#[derive(Debug, Serialize)]
struct Prepared {
    /// What is timed, for our side and the peer's.
    timed: [PathBuf; 2],
    /// What is compared.
    checked: [PathBuf; 2],
    /// Where outputs need not be equal: what our side computes in f32.
    reference: Option<PathBuf>,
    /// The command whose answers are compared.
    check: String,
    /// How far two losses may be apart, as a share.
    tolerance: f64,
    /// The commands of a short run: the first warms, the second is timed.
    trial: [String; 2],
    /// The commands that warm and that are a run, where these are not left to the clock.
    run: Option<[String; 2]>,
    /// Giga-operations of the products for each target token.
    gop: f64,
}

/// Random words, the same each time: Knuth's generator, whose high bits are the good ones.
struct Words(u64);

impl Words {
    /// An id from `first` on, of `count`.
    fn next(&mut self, first: u32, count: u32) -> u32 {
        let grown = self.0.wrapping_mul(6364136223846793005);
        self.0 = grown.wrapping_add(1442695040888963407);
        first + (self.0 >> 33) as u32 % count
    }
}

/// Writes the files and tells where they are.
pub(crate) fn run(spec: &Spec) -> Result<()> {
    let prepared = match spec {
        Spec::Train(spec) => spec.prepare()?,
        Spec::Translate(spec) => spec.prepare()?,
        Spec::Embed(spec) => spec.prepare()?,
        Spec::Generate(spec) => spec.prepare()?,
    };
    protocol::say(&json!(prepared));
    Ok(())
}

fn write(folder: &Path, name: &str, value: &impl Serialize) -> Result<PathBuf> {
    let path = folder.join(name);
    let text = json!(value).to_string();
    std::fs::write(&path, text).map_err(|e| Error::io("cannot write the job", &path, &e))?;
    Ok(path)
}

impl TrainSpec {
    fn prepare(&self) -> Result<Prepared> {
        let (batches, vocabulary) = match &self.data {
            Some(data) => epoch(data, self.tokens.unwrap_or(4096))?,
            None => (vec![self.batch()], self.vocabulary),
        };
        let count = batches.len();
        let job = |dropout: f32, name: &str| {
            let job = json!({
                "d_model": self.d_model,
                "heads": self.heads,
                "feed_forward": self.feed_forward,
                "layers": self.layers,
                "vocabulary": vocabulary,
                "decoder_alone": self.decoder_alone,
                "dropout": dropout,
                "label_smoothing": if self.decoder_alone { 0.0 } else { 0.1 },
                "learning_rate": 1e-4,
                "precision": self.precision,
                "threads": self.threads,
                "weights": self.folder.join("weights.safetensors"),
                "batches": self.folder.join("batches.json"),
            });
            write(&self.folder, name, &job)
        };
        write(&self.folder, "batches.json", &batches)?;
        let dropout = self.dropout.unwrap_or(0.1);
        let (timed, checked) = (job(dropout, "timed.json")?, job(0.0, "checked.json")?);
        write_weights(&crate::read(&checked.to_string_lossy())?)?;
        let steps = |n: usize| format!("run {n}");
        Ok(Prepared {
            timed: [timed.clone(), timed],
            checked: [checked.clone(), checked],
            reference: None,
            check: steps(3),
            tolerance: if self.precision == "bf16" { 1e-3 } else { 1e-4 },
            trial: if count > 1 {
                [5, 10].map(steps)
            } else {
                [2, 3].map(steps)
            },
            // A tenth of an epoch first, so that allocators have seen most lengths.
            run: self
                .parts
                .map(|parts| [10, parts].map(|n| steps(count.div_ceil(n)))),
            gop: operations(self, vocabulary) / 1e9,
        })
    }

    /// Random sentences of one length.
    fn batch(&self) -> Sentences {
        let mut random = Words(7);
        let mut word = |_| random.next(1, self.vocabulary as u32 - 1);
        let mut batch = Sentences::default();
        for _ in 0..self
            .tokens
            .map_or(self.sentences, |tokens| tokens / self.length)
        {
            if self.decoder_alone {
                batch.push_text((0..=self.length).map(&mut word).collect());
                continue;
            }
            let mut words = || (1..self.length).map(&mut word).collect::<Vec<_>>();
            let (source, target) = (words(), words());
            batch.push(source, &target);
        }
        batch
    }
}

/// Operations of a step's matrix products for each target token: forward once, backward twice, two for each multiplication.
/// Attention is counted in full, although the causal half could be left out.
fn operations(spec: &TrainSpec, vocabulary: usize) -> f64 {
    let (d, f, t) = (spec.d_model, spec.feed_forward, spec.length);
    let encoder = 4 * d * d + 2 * d * f + 2 * t * d;
    if spec.decoder_alone {
        return (6 * (spec.layers * encoder + vocabulary * d)) as f64;
    }
    let decoder = 8 * d * d + 2 * d * f + 4 * t * d;
    (6 * (spec.layers * (encoder + decoder) + vocabulary * d)) as f64
}

/// A pair of sentences in ids.
type IdPair = (Vec<u32>, Vec<u32>);

/// The pairs of a tokenised corpus in batches, and the size of its joint vocabulary. Ids are given as words come; 0 is kept.
fn epoch(folder: &Path, tokens: usize) -> Result<(Vec<Sentences>, usize)> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|e| Error::io("skipped: no data", &path, &e))
    };
    let mut ids = HashMap::new();
    let mut of = |line: &str| -> Vec<u32> {
        let id = |word: &str| {
            let next = ids.len() as u32 + 1;
            *ids.entry(word.to_string()).or_insert(next)
        };
        line.split_whitespace().map(id).collect()
    };
    let (english, german) = (read("train.en")?, read("train.de")?);
    let pairs = english.split('\n').zip(german.split('\n'));
    let pairs = pairs.map(|(en, de)| (of(en), of(de)));
    let pairs = pairs
        .filter(|(en, de)| !en.is_empty() && !de.is_empty())
        .collect();
    Ok((sorted_batches(pairs, tokens), ids.len() + 1))
}

/// Like lengths together, at most `tokens` a batch counted as its longest side padded, in an order that mixes lengths.
fn sorted_batches(mut pairs: Vec<IdPair>, tokens: usize) -> Vec<Sentences> {
    pairs.sort_by_key(|(source, target)| (target.len(), source.len()));
    let mut batches: Vec<Sentences> = Vec::new();
    let (mut count, mut longest) = (0, 0);
    for (source, target) in pairs {
        let length = source.len().max(target.len()) + 1;
        if batches.is_empty() || longest.max(length) * (count + 1) > tokens {
            batches.push(Sentences::default());
            (count, longest) = (0, 0);
        }
        (count, longest) = (count + 1, longest.max(length));
        if let Some(batch) = batches.last_mut() {
            batch.push(source, &target);
        }
    }
    mixed(batches)
}

/// The items in steps of about 0.618 of their number: every one once, neighbours far apart.
fn mixed<T>(items: Vec<T>) -> Vec<T> {
    let n = items.len();
    let coprime =
        |step: &usize| (2..=*step).all(|d| !step.is_multiple_of(d) || !n.is_multiple_of(d));
    let step = (n * 618 / 1000..n).find(coprime).unwrap_or(1).max(1);
    let mut slots: Vec<Option<T>> = items.into_iter().map(Some).collect();
    (0..n).filter_map(|i| slots[i * step % n].take()).collect()
}

impl TranslateSpec {
    fn prepare(&self) -> Result<Prepared> {
        let ours = our_model(&self.model, &self.compute_type)?;
        let count = self.sentences.unwrap_or((2 * self.batch).max(8));
        let job = |model: &Path, compute_type: &str, sentences: usize, name: &str| {
            let job = json!({
                "model": model,
                "compute_type": compute_type,
                "threads": self.threads,
                "streams": self.streams,
                "batch": self.batch,
                "beam": self.beam,
                "tokens": self.words,
                "sources": sources(sentences, self.words, self.vocabulary as u32),
            });
            write(&self.folder, name, &job)
        };
        let (model, own) = (&self.model, self.compute_type.as_str());
        // A first word decides over its whole sentence, so the few sentences of a short job would decide by chance: more are
        // decoded, once, where outputs need not be equal.
        let exact = own == "float32";
        let many = if exact {
            count
        } else {
            count.max(self.checked)
        };
        let reference = (!exact).then(|| job(model, "float32", many, "reference.json"));
        let one = || "run".to_string();
        Ok(Prepared {
            timed: [
                job(&ours, own, count, "ours.json")?,
                job(model, own, count, "peer.json")?,
            ],
            checked: [
                job(&ours, own, many, "checked-ours.json")?,
                job(model, own, many, "checked-peer.json")?,
            ],
            reference: reference.transpose()?,
            check: "outputs".into(),
            tolerance: 0.0,
            trial: [one(), one()],
            run: Some([one(), one()]),
            gop: (self.source_word + self.beam as f64 * self.hypothesis_word) / 1e3,
        })
    }
}

/// The model as our side reads it in this number type: CTranslate2 has a folder of its own for int8, and so have we.
fn our_model(folder: &Path, compute_type: &str) -> Result<PathBuf> {
    let number_type: ComputeType = compute_type.parse()?;
    if number_type == ComputeType::Float32 {
        return Ok(folder.into());
    }
    let own = folder.join(format!("hexapla-{compute_type}"));
    let model = formats::open(folder)?;
    let job = ConvertModel {
        model: &model,
        around: None,
        compute_type: number_type,
        replace: true,
    };
    convert(&job, &own)?;
    Ok(own)
}

/// Tokens of a text whose losses are compared.
const LOSS_TOKENS: usize = 128;

impl GenerateSpec {
    fn prepare(&self) -> Result<Prepared> {
        let text = std::fs::read_to_string(&self.text)
            .map_err(|e| Error::io("cannot read the text", &self.text, &e))?;
        let tokenizer = DecoderTokenizer::open_folder(&self.model.as_path().into())?;
        let ids = tokenizer.encode(&text, false)?;
        let windows = |count: usize| -> Vec<&[u32]> {
            let windows = ids.chunks_exact(self.prompt);
            windows.take(count).collect()
        };
        let prompts = windows(self.streams);
        let texts = windows(4).into_iter();
        let texts: Vec<&[u32]> = texts
            .map(|ids| &ids[..self.prompt.min(LOSS_TOKENS)])
            .collect();
        if prompts.len() < self.streams || texts.len() < 4 {
            return Err(Error::input("the text is too short")
                .at(self.text.display().to_string())
                .found(format!("{} tokens", ids.len())));
        }
        let job = |model: &Path, name: &str| {
            let job = json!({
                "model": model,
                "compute_type": self.compute_type,
                "threads": self.threads,
                "prompts": prompts,
                "new_tokens": self.new_tokens,
                "texts": texts,
                "longest_text": self.prompt,
            });
            write(&self.folder, name, &job)
        };
        let ours = job(&our_model(&self.model, &self.compute_type)?, "ours.json")?;
        let peer = job(&self.model, "peer.json")?;
        let one = || "run".to_string();
        Ok(Prepared {
            timed: [ours.clone(), peer.clone()],
            checked: [ours, peer],
            reference: None,
            check: "losses".into(),
            tolerance: self.tolerance,
            trial: [one(), one()],
            run: Some([one(), one()]),
            gop: self.reads / self.streams as f64,
        })
    }
}

/// Ids of `[CLS]` and `[SEP]` of BERT's uncased vocabulary, and of its whole words.
const CLS: u32 = 101;
const SEP: u32 = 102;
const WHOLE_WORDS: std::ops::Range<u32> = 1996..29_000;

impl EmbedSpec {
    fn prepare(&self) -> Result<Prepared> {
        let texts = match &self.data {
            Some(path) => self.lines(path)?,
            None => self.random(),
        };
        // Of a pair the query is a fifth.
        let segments = |text: &Vec<u32>| -> Vec<u32> {
            let query = if self.head {
                text.len() / 5
            } else {
                text.len()
            };
            (0..text.len()).map(|i| u32::from(i >= query)).collect()
        };
        let segments: Vec<Vec<u32>> = texts.iter().map(segments).collect();
        let job = |model: &Path, compute_type: &str, name: &str| {
            let job = json!({
                "model": model,
                "head": self.head,
                "compute_type": compute_type,
                "threads": self.threads,
                "batch": self.batch,
                "texts": texts,
                "segments": segments,
            });
            write(&self.folder, name, &job)
        };
        let (model, own) = (&self.model, self.compute_type.as_str());
        let ours = job(&our_model(model, own)?, own, "ours.json")?;
        let peer = job(model, own, "peer.json")?;
        let reference = (own != "float32").then(|| job(model, "float32", "reference.json"));
        let one = || "run".to_string();
        Ok(Prepared {
            timed: [ours.clone(), peer.clone()],
            checked: [ours, peer],
            reference: reference.transpose()?,
            check: "outputs".into(),
            tolerance: 0.0,
            trial: [one(), one()],
            run: Some([one(), one()]),
            gop: 2.0 * self.token / 1e3,
        })
    }

    fn random(&self) -> Vec<Vec<u32>> {
        let mut random = Words(7);
        let mut text = || {
            let words = self.length.saturating_sub(2);
            let count = WHOLE_WORDS.end - WHOLE_WORDS.start;
            let words = (0..words).map(|_| random.next(WHOLE_WORDS.start, count));
            [CLS].into_iter().chain(words).chain([SEP]).collect()
        };
        (0..self.texts).map(|_| text()).collect()
    }

    /// The longest first, as sentence-transformers has them: a batch is filled up to its longest.
    fn lines(&self, path: &Path) -> Result<Vec<Vec<u32>>> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::io("skipped: no data", path, &e))?;
        let tokenizer = EncoderTokenizer::open_folder(&self.model.as_path().into())?;
        let ids = |line: &str| {
            let text = line.split('\t').next().unwrap_or_default();
            Ok(tokenizer.finish(tokenizer.tokens(text)?, None)?.ids)
        };
        let mut texts: Vec<Vec<u32>> = text
            .lines()
            .take(self.texts)
            .map(ids)
            .collect::<Result<_>>()?;
        texts.sort_by_key(|ids| std::cmp::Reverse(ids.len()));
        Ok(texts)
    }
}

/// Random sources of `words` words and the end token.
fn sources(sentences: usize, words: usize, vocabulary: u32) -> Vec<Vec<u32>> {
    let mut random = Words(7);
    let mut sentence = || {
        let word = |_| random.next(2, vocabulary - 3);
        (0..words).map(word).chain([0]).collect()
    };
    (0..sentences).map(|_| sentence()).collect()
}

/// A source as text, for programs that take text.
pub(crate) fn words(count: &Value) -> Result<()> {
    let count = count["words"].as_u64().unwrap_or(1) as usize;
    let source = sources(1, count, 32_000).remove(0);
    let words: Vec<String> = source[..count].iter().map(|id| format!("w{id}")).collect();
    protocol::say(&json!({ "words": words }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_costs_what_the_peers_table_says() {
        // That table leaves attention out, which is at most 3 % here: layers, d_model, feed_forward, vocabulary, target tokens.
        for (sizes, length, expected) in [
            ([4, 128, 256, 10_000, 2048], 16, 31.8),
            ([3, 256, 1024, 8_000, 2048], 16, 92.8),
            ([6, 512, 2048, 32_000, 1536], 24, 557.0),
        ] {
            let [layers, d_model, feed_forward, vocabulary, tokens] = sizes;
            let spec = json!({
                "program": "train", "folder": "", "threads": 1, "heads": 1, "precision": "float32",
                "layers": layers, "d_model": d_model, "feed_forward": feed_forward, "length": length,
            });
            let Spec::Train(spec) = serde_json::from_value(spec).unwrap() else {
                panic!("another program");
            };
            let step = operations(&spec, vocabulary) * tokens as f64 / 1e9;
            assert!(
                (step / expected - 1.0).abs() < 0.03,
                "{layers} layers: {step}"
            );
        }
    }

    #[test]
    fn batches_hold_every_pair_once_and_keep_their_size() {
        let words = |i: u32, n: u32, most: u32| vec![i; 1 + (i * n % most) as usize];
        let pairs: Vec<IdPair> = (1..500)
            .map(|i| (words(i, 7, 31), words(i, 5, 23)))
            .collect();
        let batches = sorted_batches(pairs, 100);
        let labels = batches.iter().flat_map(|b| &b.labels);
        let mut all: Vec<u32> = labels.map(|l| l[0]).collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(1..500));
        for b in &batches {
            let longest = b.source.iter().chain(&b.labels).map(Vec::len).max();
            assert!(b.source.len() * longest.unwrap() <= 100);
        }
        for n in 0..40 {
            let mut items = mixed((0..n).collect());
            items.sort_unstable();
            assert!(items.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn sources_are_words_and_an_end() {
        let all = sources(50, 24, 32_000);
        assert_eq!(all, sources(50, 24, 32_000));
        assert!(all.iter().all(|s| s.len() == 25 && s[24] == 0));
        let words = || all.iter().flat_map(|s| &s[..24]);
        assert!(words().all(|w| (2..31_999).contains(w)));
        assert!(words().collect::<std::collections::HashSet<_>>().len() > 1000);
    }
}
