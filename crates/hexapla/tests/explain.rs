//! Traces of passes: what they hold is what the model computes, and watching changes no bit of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hexapla::config::{Assembly, ComputeType, RelativePositions};
use hexapla::encode::{Encoder, Input};
use hexapla::explain::{Array, Edits, Patch, Trace, TraceInput, search_edited, trace};
use hexapla::formats::{self, ModelFolder};
use hexapla::generate::generator::{Generator, Prompt};
use hexapla::generate::{SearchInput, SearchOptions};
use hexapla::packed::PackedWeights;
use hexapla::{Engine, Request, Translator};
use serde_json::Value;

const TRANSLATORS: [&str; 12] = [
    "bart_small",
    "m2m_odd_pad",
    "m2m_tied",
    "m2m_untied",
    "marian_old",
    "marian_separate",
    "marian_shared",
    "marian_untied",
    "mbart_small",
    "mt5_small",
    "t5_first",
    "t5_gated",
];

fn golden(name: &str) -> (PathBuf, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let text = fs::read_to_string(folder.join("golden.json")).unwrap();
    (folder, serde_json::from_str(&text).unwrap())
}

fn ids(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

struct Model {
    folder: ModelFolder,
    parameters: PackedWeights,
    compute_type: ComputeType,
}

impl Model {
    fn open(folder: &Path, compute_type: ComputeType) -> Self {
        let folder = formats::open(folder).unwrap();
        let parameters = folder.pack(compute_type).unwrap();
        Model {
            folder,
            parameters,
            compute_type,
        }
    }

    fn trace(&self, input: &TraceInput, edits: &Edits) -> Trace {
        trace(self.folder.model(), &self.parameters, input, edits).unwrap()
    }

    fn engine(&self) -> Engine {
        let parameters = self.folder.pack(self.compute_type).unwrap();
        Engine::new(self.folder.model().clone(), parameters)
    }
}

fn pair(source: &[u32], target: &[u32]) -> TraceInput {
    TraceInput {
        source: source.to_vec(),
        target: Some(target.to_vec()),
        ..TraceInput::default()
    }
}

/// The attentions of a trace: the names that have weights.
fn attentions(trace: &Trace) -> Vec<&str> {
    let names = trace.arrays.keys();
    names
        .filter_map(|name| name.strip_suffix(".weights"))
        .collect()
}

fn array<'a>(trace: &'a Trace, name: &str) -> &'a Array {
    trace
        .arrays
        .get(name)
        .unwrap_or_else(|| panic!("no {name}"))
}

/// `a` is `b`, nearly.
fn near(a: f32, b: f32, bound: f32, what: &str) {
    assert!(
        (a - b).abs() <= bound * b.abs().max(1.0),
        "{what}: {a}, {b}"
    );
}

/// The bucket of a distance between key and query, as T5's authors define it.
fn bucket(distance: isize, relative: RelativePositions, causal: bool) -> usize {
    let (first, buckets, far) = match causal {
        true => (0, relative.buckets, (-distance).max(0) as usize),
        false => {
            let half = relative.buckets / 2;
            let first = if distance > 0 { half } else { 0 };
            (first, half, distance.unsigned_abs())
        }
    };
    let exact = buckets / 2;
    if far < exact {
        return first + far;
    }
    let share =
        (far as f32 / exact as f32).ln() / (relative.max_distance as f32 / exact as f32).ln();
    first + (exact + (share * (buckets - exact) as f32) as usize).min(buckets - 1)
}

/// Weights are the softmax of the scores; these the products of queries and keys, with their scale and what the distance adds; the
/// heads the weighted values.
fn check_attention(model: &Model, trace: &Trace) {
    let config = model.folder.assembly.model();
    let parameters = model.folder.weights().unwrap();
    let names = attentions(trace);
    assert!(!names.is_empty());
    for name in names {
        let part = |part: &str| array(trace, &format!("{name}.{part}"));
        let [q, k, v, scores, weights, out] =
            ["q", "k", "v", "scores", "weights", "heads"].map(part);
        let [heads, queries, keys] = weights.shape[..] else {
            panic!("{name}: {:?}", weights.shape)
        };
        let width = q.shape[2];
        assert_eq!(q.shape, [heads, queries, width], "{name}");
        // Neighbouring heads of queries may share one of keys and values.
        let group = heads / k.shape[0];
        assert_eq!(k.shape, [heads / group, keys, width], "{name}");
        assert_eq!(v.shape, k.shape, "{name}");
        assert_eq!(scores.shape, weights.shape, "{name}");
        let parts: Vec<&str> = name.split('.').collect();
        let [stack_name, "layers", layer, kind] = parts[..] else {
            panic!("{name}")
        };
        let stack = match stack_name {
            "encoder" => config.encoder.as_ref().unwrap(),
            _ => config.decoder.as_ref().unwrap(),
        };
        let layer = &stack.layers[layer.parse::<usize>().unwrap()];
        let attention = match kind {
            "self_attention" => layer.self_attention,
            _ => layer.cross_attention.unwrap(),
        };
        let causal = attention.causal;
        let window = attention.window.unwrap_or(usize::MAX);
        let relative = stack
            .relative_positions
            .filter(|_| kind == "self_attention");
        let relative = relative.map(|relative| {
            let name = format!("{stack_name}.relative_positions.weight");
            let table = parameters.get(parameters.index.find(&name).unwrap());
            move |head: usize, distance: isize| {
                table[bucket(distance, relative, causal) * heads + head]
            }
        });
        for head in 0..heads {
            for query in 0..queries {
                let (score, weight) = (scores.row(&[head, query]), weights.row(&[head, query]));
                let largest = score.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                let exp = |s: f32| f64::from(s - largest).exp();
                // A weight is as exact as its score.
                let bound = 1e-6 * largest.abs().max(1.0);
                let sum: f64 = score.iter().map(|s| exp(*s)).sum();
                let mut sums = vec![0.0; width];
                for key in 0..keys {
                    let seen = !causal || key <= query && query - key < window;
                    let products = q
                        .row(&[head, query])
                        .iter()
                        .zip(k.row(&[head / group, key]));
                    let scaled = products.map(|(a, b)| a * b * attention.scale);
                    let bias = relative
                        .as_ref()
                        .map_or(0.0, |bias| bias(head, key as isize - query as isize));
                    let (sum_of, sizes) = scaled
                        .chain([bias])
                        .fold((0.0, 0.0), |(sum, sizes), x| (sum + x, sizes + x.abs()));
                    if seen {
                        let off: f32 = score[key] - sum_of;
                        assert!(off.abs() <= 1e-6 * sizes, "{name}: {off} of {sizes}");
                        near(weight[key], (exp(score[key]) / sum) as f32, bound, name);
                    } else {
                        assert_eq!((score[key], weight[key]), (f32::NEG_INFINITY, 0.0));
                    }
                    for (sum, value) in sums.iter_mut().zip(v.row(&[head / group, key])) {
                        *sum += weight[key] * value;
                    }
                }
                near(weight.iter().sum(), 1.0, 1e-6, name);
                for (sum, out) in sums.iter().zip(out.row(&[head, query])) {
                    near(*out, *sum, 1e-4, name);
                }
            }
        }
    }
}

/// The heads through the output projection are its output.
fn check_projections(model: &Model, trace: &Trace) {
    let weights = model.folder.weights().unwrap();
    let of = |name: String| {
        let id = weights.index.find(&name)?;
        Some(weights.get(id))
    };
    for name in attentions(trace) {
        let heads = array(trace, &format!("{name}.heads"));
        let output = array(trace, &format!("{name}.output"));
        let matrix = of(format!("{name}.output.weight")).unwrap();
        let bias = of(format!("{name}.output.bias"));
        let d_model = output.shape[1];
        for row in 0..output.shape[0] {
            let joined: Vec<f32> = (0..heads.shape[0])
                .flat_map(|head| heads.row(&[head, row]).to_vec())
                .collect();
            for (column, found) in output.row(&[row]).iter().enumerate() {
                let products = joined.iter().enumerate();
                let sum: f32 = products
                    .map(|(i, x)| x * matrix[i * d_model + column])
                    .sum();
                let bias = bias.map_or(0.0, |bias| bias[column]);
                near(*found, sum + bias, 1e-4, name);
            }
        }
    }
}

/// An edit that changes nothing.
fn of_whole_pass() -> Edits {
    Edits {
        patches: vec![Patch {
            name: "nothing".into(),
            rows: Vec::new(),
            from: Array {
                shape: vec![0, 1],
                data: Vec::new(),
            },
        }],
        ..Edits::default()
    }
}

#[test]
fn a_trace_holds_what_the_model_computes() {
    for name in TRANSLATORS {
        let (folder, golden) = golden(name);
        let model = Model::open(&folder, ComputeType::Float32);
        let engine = model.engine();
        let l = &golden["logits"];
        let pairs = ids(&l["input_ids"]).into_iter();
        for (source, target) in pairs.zip(ids(&l["decoder_input_ids"])) {
            let trace = model.trace(&pair(&source, &target), &Edits::default());
            let logits = engine
                .logits(std::slice::from_ref(&source), std::slice::from_ref(&target))
                .unwrap();
            let found = array(&trace, "output.logits");
            for (found, expected) in found.data.iter().zip(logits[0].iter().flatten()) {
                near(*found, *expected, 1e-4, name);
            }
            check_attention(&model, &trace);
            // A whole pass, bit for bit.
            let whole = model.trace(&pair(&source, &target), &of_whole_pass());
            for (found, expected) in array(&whole, "output.logits")
                .data
                .iter()
                .zip(logits[0].iter().flatten())
            {
                assert_eq!(found.to_bits(), expected.to_bits(), "{name}");
            }
            check_attention(&model, &whole);
            check_projections(&model, &trace);
        }
    }
}

#[test]
fn encoders_alone_are_traced() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders");
    let mut families = BTreeMap::new();
    for entry in fs::read_dir(all).unwrap() {
        let name = format!("encoders/{}", entry.unwrap().file_name().to_str().unwrap());
        let (folder, golden) = golden(&name);
        let model = Model::open(&folder, ComputeType::Float32);
        assert!(matches!(model.folder.assembly, Assembly::Encoder(_)));
        let encoder = Encoder::open(&folder, ComputeType::Float32).unwrap();
        let rows = ids(&golden["input_ids"]);
        let segments: Option<Vec<Vec<u32>>> =
            serde_json::from_value(golden["token_type_ids"].clone()).unwrap();
        let segments = segments.unwrap_or_default();
        for (i, source) in rows.iter().enumerate() {
            let segments = segments.get(i).cloned().unwrap_or_default();
            let input = TraceInput {
                source: source.clone(),
                segments: segments.clone(),
                ..TraceInput::default()
            };
            let trace = model.trace(&input, &Edits::default());
            let input = Input {
                ids: source.clone(),
                segments,
            };
            let hidden = encoder.hidden(&[input]).unwrap();
            let last = format!(
                "encoder.layers.{}.feed_forward_norm",
                encoder.config().layers - 1
            );
            assert_eq!(array(&trace, &last).data, hidden[0].concat(), "{name}");
            check_attention(&model, &trace);
            check_projections(&model, &trace);
        }
        *families.entry(model.folder.family.to_string()).or_insert(0) += 1;
    }
    assert_eq!(families.len(), 7, "{families:?}");
}

#[test]
fn a_trace_of_a_decoder_alone_is_that_of_its_generating() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders");
    let (mut folders, mut windowed) = (0, 0);
    for entry in fs::read_dir(all).unwrap() {
        let name = format!("decoders/{}", entry.unwrap().file_name().to_str().unwrap());
        let (folder, golden) = golden(&name);
        folders += 1;
        for compute_type in [ComputeType::Float32, ComputeType::Bf16, ComputeType::Int8] {
            let model = Model::open(&folder, compute_type);
            let layers = model.folder.assembly.model().decoder.unwrap().layers;
            windowed += usize::from(layers.iter().any(|l| l.self_attention.window.is_some()));
            let config = model.folder.decoder().unwrap().clone();
            let generator = Generator::open(&folder, compute_type).unwrap();
            for ids in ids(&golden["input_ids"]) {
                let prompt = Prompt {
                    max_new_tokens: 12,
                    ids: ids[..ids.len().min(20)].to_vec(),
                    seed_index: 0,
                };
                let options = SearchOptions::for_decoder(&config, &Default::default());
                let found = generator
                    .generate(std::slice::from_ref(&prompt), &options)
                    .unwrap();
                let output = &found[0][0];
                let new = &output.ids[..output.ids.len() - 1];
                let input = TraceInput {
                    target: Some([&prompt.ids, new].concat()),
                    prompt: prompt.ids.len(),
                    ..TraceInput::default()
                };
                let trace = model.trace(&input, &Edits::default());
                check_attention(&model, &trace);
                if compute_type == ComputeType::Float32 {
                    check_projections(&model, &trace);
                }
                // The numbers that the tokens were chosen by, to the bit.
                let logits = array(&trace, "output.logits");
                let first = prompt.ids.len() - 1;
                for (step, (id, log_prob)) in
                    output.ids.iter().zip(&output.token_log_probs).enumerate()
                {
                    let row = logits.row(&[first + step]);
                    let largest = row.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                    assert_eq!(row[*id as usize], largest, "{name}, {compute_type}");
                    let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
                    near(*log_prob, -sum.ln() as f32, 1e-5, &name);
                }
                let whole = model.trace(
                    &TraceInput {
                        prompt: 0,
                        ..input.clone()
                    },
                    &Edits::default(),
                );
                check_attention(&model, &whole);
            }
        }
    }
    assert_eq!((folders, windowed), (13, 9));
}

#[test]
fn a_token_that_is_hidden_in_a_decoder_alone_changes_what_follows_it() {
    let (folder, golden) = golden("decoders/llama_shared");
    let model = Model::open(&folder, ComputeType::Float32);
    let text = ids(&golden["input_ids"])[3][..8].to_vec();
    let input = TraceInput {
        target: Some(text.clone()),
        ..TraceInput::default()
    };
    let plain = model.trace(&input, &Edits::default());
    for hidden in [0, 2] {
        let edits = Edits {
            hidden_source: vec![hidden],
            ..Edits::default()
        };
        let changed = model.trace(&input, &edits);
        let [before, after] = [&plain, &changed].map(|trace| array(trace, "output.logits"));
        for row in 0..text.len() {
            let same = before.row(&[row]) == after.row(&[row]);
            assert_eq!(same, row <= hidden, "token {hidden}, row {row}");
        }
        for name in attentions(&changed) {
            let weights = array(&changed, &format!("{name}.weights"));
            assert!(weights.data.iter().all(|weight| weight.is_finite()));
            assert!(weights.row(&[0, hidden])[hidden] > 0.0);
            assert_eq!(weights.row(&[0, text.len() - 1])[hidden], 0.0);
        }
    }
    let edits = Edits {
        hidden_source: vec![text.len()],
        ..Edits::default()
    };
    let model = (model.folder.model(), &model.parameters);
    assert!(trace(model.0, model.1, &input, &edits).is_err());
}

#[test]
fn edits_act_where_they_say() {
    let (folder, golden) = golden("marian_shared");
    let model = Model::open(&folder, ComputeType::Float32);
    let source = ids(&golden["logits"]["input_ids"])[0].clone();
    let target = ids(&golden["logits"]["decoder_input_ids"])[0].clone();
    assert!(source.len() > 2 && target.len() > 2);
    let input = pair(&source, &target);
    let plain = model.trace(&input, &Edits::default());
    let with = |edits: Edits| model.trace(&input, &edits);
    let differ = |a: &Trace, b: &Trace, name: &str| array(a, name) != array(b, name);
    let attention = "encoder.layers.1.self_attention";

    let off = with(Edits {
        heads_off: vec![(attention.into(), 1)],
        ..Edits::default()
    });
    let heads = array(&off, &format!("{attention}.heads"));
    assert!((0..source.len()).all(|row| heads.row(&[1, row]).iter().all(|x| *x == 0.0)));
    assert!((0..source.len()).all(|row| heads.row(&[0, row]).iter().any(|x| *x != 0.0)));
    assert!(!differ(&off, &plain, "encoder.layers.0.feed_forward.outer"));
    assert!(differ(&off, &plain, "output.logits"));

    let hidden = with(Edits {
        hidden_source: vec![1],
        ..Edits::default()
    });
    for name in attentions(&hidden) {
        let weights = array(&hidden, &format!("{name}.weights"));
        let [heads, queries, _] = weights.shape[..] else {
            panic!()
        };
        let of_source = name.starts_with("encoder") || name.ends_with("cross_attention");
        for head in 0..heads {
            for query in 1..queries {
                let row = weights.row(&[head, query]);
                assert_eq!(row[1] == 0.0, of_source, "{name}");
                near(row.iter().sum(), 1.0, 1e-6, name);
            }
        }
    }

    // Without positions an encoder does not know the order: its rows are those of the words in any order.
    let mut turned = source.clone();
    turned.reverse();
    let unplaced = Edits {
        without_positions: true,
        ..Edits::default()
    };
    let (a, b) = (
        with(unplaced.clone()),
        model.trace(&pair(&turned, &target), &unplaced),
    );
    let last = "encoder.layers.1.feed_forward.outer";
    let (a, b) = (array(&a, last), array(&b, last));
    for row in 0..source.len() {
        for (x, y) in a.row(&[row]).iter().zip(b.row(&[source.len() - 1 - row])) {
            near(*x, *y, 1e-4, "rows in another order");
        }
    }

    let unmasked = with(Edits {
        without_mask: true,
        ..Edits::default()
    });
    let weights = array(&unmasked, "decoder.layers.0.self_attention.weights");
    assert!(weights.row(&[0, 0]).iter().all(|w| *w > 0.0));

    let symmetric = with(Edits {
        keys_are_queries: true,
        ..Edits::default()
    });
    let scores = array(&symmetric, &format!("{attention}.scores"));
    near(
        scores.row(&[0, 0])[2],
        scores.row(&[0, 2])[0],
        1e-5,
        "symmetric scores",
    );

    let alone = with(Edits {
        without_residual: true,
        ..Edits::default()
    });
    let name = "decoder.layers.1.cross_attention";
    assert_eq!(
        array(&alone, &format!("{name}.sum")).data,
        array(&alone, &format!("{name}.output")).data
    );

    // All rows of another sentence in the place of one's own: what follows is that of the other.
    let other = model.trace(&pair(&turned, &target), &of_whole_pass());
    let name = plain
        .arrays
        .keys()
        .filter(|name| name.starts_with("encoder.layers.1."));
    let name = name
        .max_by_key(|name| name.contains("feed_forward_norm"))
        .unwrap();
    let patched = with(Edits {
        patches: vec![Patch {
            name: name.clone(),
            rows: (0..source.len()).collect(),
            from: array(&other, name).clone(),
        }],
        ..Edits::default()
    });
    assert_eq!(
        array(&patched, "output.logits"),
        array(&other, "output.logits")
    );
}

#[test]
fn edits_of_what_is_not_there_are_refused() {
    let (folder, golden) = golden("marian_shared");
    let model = Model::open(&folder, ComputeType::Float32);
    let source = ids(&golden["logits"]["input_ids"])[0].clone();
    let head = |name: &str, head| Edits {
        heads_off: vec![(name.into(), head)],
        ..Edits::default()
    };
    let hidden = |hidden_source| Edits {
        hidden_source,
        ..Edits::default()
    };
    for edits in [
        head("encoder.layers.9.self_attention", 0),
        head("encoder.layers.0.cross_attention", 0),
        head("nothing", 0),
        head("decoder.layers.0.cross_attention", 99),
        hidden(vec![source.len()]),
        hidden((0..source.len()).collect()),
    ] {
        let found = trace(
            model.folder.model(),
            &model.parameters,
            &pair(&source, &[0]),
            &edits,
        );
        assert!(found.is_err(), "{edits:?}");
    }
    for input in [
        pair(&[], &[0]),
        pair(&source, &[]),
        pair(&[u32::MAX], &[0]),
        pair(&source, &[99_999]),
    ] {
        let found = trace(
            model.folder.model(),
            &model.parameters,
            &input,
            &Edits::default(),
        );
        assert!(found.is_err(), "{input:?}");
    }
}

/// The embedded model, taken apart and whole.
fn embedded(compute_type: ComputeType) -> (Model, Translator) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
    let translator = Translator::builder().compute_type(compute_type);
    let translator = translator.open(&folder).unwrap();
    (Model::open(&folder, compute_type), translator)
}

/// Sentences of the test data in three languages, with a tag; nothing where there is no data.
fn sentences(count: usize) -> Option<Vec<String>> {
    let Some(data) = std::env::var_os("HEXAPLA_DATA") else {
        eprintln!("skipped: HEXAPLA_DATA does not name the data");
        return None;
    };
    let mut lines = Vec::new();
    for (name, to) in [("en-de", ["de", "en"]), ("en-zh", ["zh", "en"])] {
        let path = Path::new(&data).join(format!("tatoeba/{name}.test.tsv"));
        let text = fs::read_to_string(path).unwrap();
        let pairs = text.lines().take(count / 4);
        let tagged = pairs.flat_map(|pair| pair.split('\t').take(2).zip(to));
        lines.extend(tagged.map(|(line, to)| format!(">>{to}<< {line}")));
    }
    Some(lines)
}

#[test]
#[ignore = "needs data: set HEXAPLA_DATA"]
fn the_pass_that_is_shown_is_the_one_that_translates() {
    let Some(lines) = sentences(1000) else { return };
    for compute_type in [ComputeType::Float32, ComputeType::Int8] {
        let (model, translator) = embedded(compute_type);
        let start = translator.options().search.start_id;
        let options = SearchOptions {
            beam_size: 1,
            ..translator.options().search
        };
        let requests: Vec<Request> = lines
            .iter()
            .map(|line| Request::new(translator.source_ids(line).unwrap()))
            .collect();
        let found = translator
            .engine()
            .generate(&requests, &options, 1000)
            .unwrap();
        assert_eq!(found.len(), 1000);
        for ((line, request), found) in lines.iter().zip(&requests).zip(&found) {
            let ids = &found[0].ids;
            let mut target = vec![start];
            target.extend(&ids[..ids.len() - 1]);
            let trace = model.trace(&pair(&request.source, &target), &Edits::default());
            let logits = array(&trace, "output.logits");
            for (row, (id, log_prob)) in ids.iter().zip(&found[0].token_log_probs).enumerate() {
                let logits = logits.row(&[row]);
                let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
                let shown = f64::from(logits[*id as usize] - largest) - sum.ln();
                let log_prob = f64::from(*log_prob);
                assert!(
                    (shown - log_prob).abs() < 1e-4,
                    "{line}: {shown}, {log_prob}"
                );
                assert!(
                    logits[*id as usize] == largest || suppressed(&options, logits, *id),
                    "{line}"
                );
            }
        }
    }
}

/// Whether all that is likelier may not be said.
fn suppressed(options: &SearchOptions, logits: &[f32], id: u32) -> bool {
    let likelier = (0u32..)
        .zip(logits)
        .filter(|(_, l)| **l > logits[id as usize]);
    likelier
        .map(|(id, _)| id)
        .all(|id| options.suppressed_ids.contains(&id))
}

#[test]
fn a_search_without_edits_finds_what_a_search_finds() {
    let lines = [
        ">>en<< 狗咬了猫。",
        ">>en<< 我昨天在图书馆看见了你的哥哥。",
        ">>de<< The weather is nice today.",
        ">>zh<< Good night, my friend.",
    ];
    for compute_type in [ComputeType::Float32, ComputeType::Int8] {
        let (model, translator) = embedded(compute_type);
        for (beam_size, line) in [1, 4].into_iter().flat_map(|b| lines.map(|line| (b, line))) {
            let options = SearchOptions {
                beam_size,
                ..translator.options().search
            };
            let request = Request::new(translator.source_ids(line).unwrap());
            let expected =
                translator
                    .engine()
                    .generate(std::slice::from_ref(&request), &options, 100);
            let input = SearchInput {
                prompt: Vec::new(),
                prefix: Vec::new(),
                max_length: request.max_length,
                seed_index: 0,
            };
            let source = &request.source;
            let find = |edits: &Edits| {
                search_edited(
                    model.folder.model(),
                    &model.parameters,
                    source,
                    &input,
                    &options,
                    edits,
                )
            };
            let found = find(&Edits::default()).unwrap();
            let expected = &expected.unwrap()[0];
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!(found.ids, expected.ids, "{line}");
                near(found.score, expected.score, 1e-4, line);
            }
            let without = Edits {
                without_residual: true,
                ..Edits::default()
            };
            assert_ne!(find(&without).unwrap()[0].ids, found[0].ids, "{line}");
        }
    }
}
