//! BLEU and chrF against sacreBLEU: stored values, and a live sacreBLEU where `HEXAPLA_PYTHON` names a Python that has it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use hexapla::metrics::{Bleu, Chrf, SACREBLEU_VERSION, Smoothing, Tokenizer};
use hexapla::random::SplitMix;
use serde::Deserialize;
use serde_json::{Value, json};

/// Score, line and signature.
type Found = (f64, String, String);

/// The arguments of sacreBLEU's class that `settings` names, as ours.
fn run(metric: &str, settings: &Value, hypotheses: &[String], references: &[Vec<String>]) -> Found {
    let references: Vec<&[String]> = references.iter().map(Vec::as_slice).collect();
    if metric == "bleu" {
        let score = bleu(settings).corpus(hypotheses, &references).unwrap();
        (score.score, score.to_string(), score.signature().to_owned())
    } else {
        let score = chrf(settings).corpus(hypotheses, &references).unwrap();
        (score.score, score.to_string(), score.signature().to_owned())
    }
}

fn bleu(settings: &Value) -> Bleu {
    let name = |key: &str| settings[key].as_str().unwrap();
    Bleu {
        tokenizer: Tokenizer::from_name(name("tokenize")).unwrap(),
        smoothing: Smoothing::from_name(name("smooth_method"), settings["smooth_value"].as_f64())
            .unwrap(),
        lowercase: settings["lowercase"].as_bool().unwrap(),
    }
}

fn chrf(settings: &Value) -> Chrf {
    let number = |key: &str, default| settings[key].as_u64().unwrap_or(default);
    let flag = |key: &str| settings[key].as_bool().unwrap_or(false);
    Chrf {
        char_order: number("char_order", 6) as usize,
        word_order: number("word_order", 0) as usize,
        beta: number("beta", 2) as u32,
        lowercase: flag("lowercase"),
        whitespace: flag("whitespace"),
        eps_smoothing: flag("eps_smoothing"),
    }
}

fn assert_same(found: &Found, expected: &Found, context: &str) {
    assert!(
        (found.0 - expected.0).abs() < 1e-9,
        "{context}: {found:?}, not {expected:?}"
    );
    assert_eq!(
        (&found.1, &found.2),
        (&expected.1, &expected.2),
        "{context}"
    );
}

#[derive(Deserialize)]
struct Golden {
    sacrebleu: String,
    corpora: Vec<Corpus>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Corpus {
    name: String,
    hypotheses: Vec<String>,
    references: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct Run {
    metric: String,
    settings: Value,
    corpora: Vec<Found>,
    sentences: Vec<f64>,
}

#[test]
fn scores_lines_and_signatures_equal_the_stored_ones() {
    let golden: Golden = serde_json::from_str(include_str!("golden/metrics.json")).unwrap();
    assert_eq!(golden.sacrebleu, SACREBLEU_VERSION);
    assert_eq!(golden.runs.len(), 78);
    for run_ in &golden.runs {
        let settings = &run_.settings;
        assert_eq!(run_.corpora.len(), golden.corpora.len());
        for (corpus, expected) in golden.corpora.iter().zip(&run_.corpora) {
            let found = run(
                &run_.metric,
                settings,
                &corpus.hypotheses,
                &corpus.references,
            );
            assert_same(&found, expected, &format!("{}, {settings}", corpus.name));
        }
        // The last corpus repeats sentences of the others.
        let mut expected = run_.sentences.iter();
        for corpus in golden.corpora.iter().take(golden.corpora.len() - 1) {
            for (i, hypothesis) in corpus.hypotheses.iter().enumerate() {
                let references: Vec<&String> = corpus.references.iter().map(|r| &r[i]).collect();
                let found = match run_.metric.as_str() {
                    "bleu" => {
                        bleu(settings)
                            .sentence(hypothesis, &references)
                            .unwrap()
                            .score
                    }
                    _ => {
                        chrf(settings)
                            .sentence(hypothesis, &references)
                            .unwrap()
                            .score
                    }
                };
                let expected = expected.next().unwrap();
                assert!(
                    (found - expected).abs() < 1e-9,
                    "{hypothesis:?}, {settings}: {found}, not {expected}"
                );
            }
        }
        assert!(expected.next().is_none());
    }
}

/// Pieces that meet every rule of the tokenizers; white space and punctuation come often.
const PIECES: &str = "the cat Katze ÖL straße 今天 天气 好 。 , “ ” … — 、 !  12 3.14 1,000 - . , ; : ! ? ' \" ( ) [ ] { } \
    & &amp; &quot; &lt; < > / \\ $ € + = ~ ^ ` | # % @ * _ é ñ İ ΟΔΟΣ ß × ½ ² 𠮷 🦀 ❤ ® ‰ ٣ カ ガ 한국 ﷼ <skipped>";

fn random_sentence(random: &mut SplitMix) -> String {
    let pieces: Vec<&str> = PIECES.split(' ').collect();
    let spaces = [
        "", "", " ", " ", " ", "\u{a0}", "\u{3000}", "\u{2028}", "\u{1d}", "\t", "-\n", "\n",
        "\u{200b}",
    ];
    let mut sentence = String::new();
    for _ in 0..random.below(14) {
        sentence += pieces[random.below(pieces.len())];
        sentence += spaces[random.below(spaces.len())];
    }
    sentence
}

/// `sentence` with some characters dropped, doubled or changed in case.
fn disturb(sentence: &str, random: &mut SplitMix) -> String {
    let mut out = String::new();
    for c in sentence.chars() {
        match random.below(24) {
            0 => {}
            1 => out.extend([c, c]),
            2 => out.extend(c.to_uppercase()),
            3 => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

fn random_request(random: &mut SplitMix) -> Value {
    let sentences = 1 + random.below(5);
    let references: Vec<Vec<String>> = (0..1 + random.below(3))
        .map(|_| (0..sentences).map(|_| random_sentence(random)).collect())
        .collect();
    let hypotheses: Vec<String> = (0..sentences)
        .map(|i| match random.below(8) {
            0 => random_sentence(random),
            _ => disturb(&references[random.below(references.len())][i], random),
        })
        .collect();
    let flags: [bool; 4] = std::array::from_fn(|_| random.below(2) == 1);
    let [is_bleu, lowercase, whitespace, eps_smoothing] = flags;
    let settings = if is_bleu {
        let method = Smoothing::NAMES[random.below(4)];
        let value = match method {
            "floor" | "add-k" => [None, Some(0.5), Some(0.03)][random.below(3)],
            _ => None,
        };
        json!({"tokenize": Tokenizer::NAMES[random.below(5)], "smooth_method": method, "smooth_value": value,
            "lowercase": lowercase})
    } else {
        json!({"char_order": 1 + random.below(7), "word_order": random.below(4), "beta": 1 + random.below(3),
            "lowercase": lowercase, "whitespace": whitespace, "eps_smoothing": eps_smoothing})
    };
    let metric = if is_bleu { "bleu" } else { "chrf" };
    json!({"metric": metric, "settings": settings, "hypotheses": hypotheses, "references": references})
}

#[test]
fn scores_equal_a_live_sacrebleu() {
    let Some(python) = std::env::var_os("HEXAPLA_PYTHON") else {
        eprintln!("skipped: HEXAPLA_PYTHON does not name a Python that has sacrebleu");
        return;
    };
    let has = Command::new(&python)
        .args(["-c", "import sacrebleu"])
        .output()
        .unwrap();
    if !has.status.success() {
        eprintln!("skipped: the Python that HEXAPLA_PYTHON names has no sacrebleu");
        return;
    }
    let mut random = SplitMix(20_260_101);
    let requests: Vec<Value> = (0..600).map(|_| random_request(&mut random)).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/reference/metrics.py");
    let mut child = Command::new(&python)
        .arg(script)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The script reads everything before it writes, so that neither side can wait for the other.
    let input = serde_json::to_vec(&requests).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), requests.len());

    let mut between = 0;
    for (request, answer) in requests.iter().zip(&answers) {
        let strings = |v: &Value| -> Vec<String> { serde_json::from_value(v.clone()).unwrap() };
        let references: Vec<Vec<String>> = request["references"]
            .as_array()
            .unwrap()
            .iter()
            .map(strings)
            .collect();
        let found = run(
            request["metric"].as_str().unwrap(),
            &request["settings"],
            &strings(&request["hypotheses"]),
            &references,
        );
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        let expected = (
            answer["score"].as_f64().unwrap(),
            text("line"),
            text("signature"),
        );
        assert_same(&found, &expected, &request.to_string());
        between += usize::from(found.0 > 1.0 && found.0 < 99.0);
    }
    assert!(
        between > 400,
        "only {between} of the random corpora have telling scores"
    );
}
