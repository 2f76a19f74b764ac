//! What is told of a text's way through a model: the document, the search's tree, and how close the arrays are.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use half::f16;
use hexapla::config::ComputeType;
use hexapla::explain::{
    ArrayNames, DOCUMENT_BYTES, ExplainOptions, Explained, document, explain_translation, page,
    write_arrays,
};
use hexapla::{ErrorKind, Translator};
use serde_json::Value;

fn demo(compute_type: ComputeType) -> Translator {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
    let builder = Translator::builder().compute_type(compute_type);
    builder.to("en").open(&folder).unwrap()
}

fn explain(model: &Translator, text: &str, options: &ExplainOptions) -> Explained {
    explain_translation(model, "demo", text, &model.options(), options).unwrap()
}

fn influence() -> ExplainOptions {
    ExplainOptions {
        influence: true,
        ..ExplainOptions::default()
    }
}

fn parsed(explained: &Explained, model: &Translator, most: usize) -> Value {
    let text = document(explained, model.engine().parameters(), most).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The numbers of an array of a document.
fn numbers(document: &Value, name: &str) -> Vec<f32> {
    let data = STANDARD.decode(document["data"].as_str().unwrap()).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(&data[..]).read_to_end(&mut bytes).unwrap();
    let entry = &document["arrays"][name];
    let number = |field: &str| entry[field].as_u64().unwrap() as usize;
    let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
    let count: usize = shape.iter().product();
    let at = |start: usize, i: usize, size: usize| &bytes[start + i * size..][..size];
    let start = number("offset");
    let f32_at = |start, i| f32::from_le_bytes(at(start, i, 4).try_into().unwrap());
    (0..count)
        .map(|i| match entry["dtype"].as_str().unwrap() {
            "f32" => f32_at(start, i),
            "f16" => f16::from_le_bytes(at(start, i, 2).try_into().unwrap()).to_f32(),
            "i8" => {
                let row = i / shape[shape.len() - 1];
                f32::from(bytes[start + i] as i8) * f32_at(number("scales"), row)
            }
            other => panic!("{other}"),
        })
        .collect()
}

#[test]
fn the_page_is_about_the_translation() {
    for compute_type in [ComputeType::Int8, ComputeType::Float32] {
        let model = demo(compute_type);
        for text in ["我昨天在图书馆看见了你的哥哥。", "Ich habe drei Katzen."] {
            let translated = &model.translate_with(&[text], &model.options()).unwrap()[0][0];
            let explained = explain(&model, text, &influence());
            let e = &explained.explanation;
            assert_eq!(e.text.output, translated.text);
            assert_eq!(e.output.len(), translated.tokens.len());
            for (token, (piece, log_prob)) in e.output.iter().zip(&translated.tokens) {
                assert_eq!(&e.pieces.target[&token.id], piece);
                assert_eq!(token.log_prob, *log_prob);
            }
            // Each row's distribution has the chosen token with its log-probability.
            assert_eq!(e.candidates.len(), e.target.len());
            for (row, token) in e.candidates.iter().zip(&e.output) {
                let own = row.tokens.iter().find(|(id, _)| *id == token.id).unwrap();
                assert!((own.1 - token.log_prob).abs() < 1e-4);
                assert!(row.tokens.is_sorted_by(|a, b| a.1 >= b.1));
            }
            // The lens ends with the output itself.
            let last = e.lens.last().unwrap();
            assert_eq!(last.name, "decoder.layers.1.feed_forward.sum");
            assert_eq!(e.lens.len(), 7);
            for (lens, row) in last.tokens.iter().zip(&e.candidates) {
                for (a, b) in lens.iter().zip(&row.tokens) {
                    assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-4, "{a:?} {b:?}");
                }
            }
            // A whole pass says nearly what the steps said.
            let influence = e.influence.as_ref().unwrap();
            for (whole, token) in influence.log_probs.iter().zip(&e.output) {
                assert!((whole - token.log_prob).abs() < 0.05, "{whole} {token:?}");
            }
            assert_eq!(influence.heads.len(), 6 * 4 + 2 * 8);
            assert_eq!(influence.source.len(), e.source.len());
            let strongest = influence.source.iter().flatten().copied();
            assert!(strongest.fold(0.0, f32::min) < -1.0);
            for near in e
                .neighbours
                .source
                .values()
                .chain(e.neighbours.target.values())
            {
                assert_eq!(near.nearest.len(), 10);
                assert!(near.nearest.iter().all(|(_, cosine)| *cosine < 1.0001));
            }
        }
    }
}

#[test]
fn the_tree_holds_winners_and_losers() {
    let model = demo(ComputeType::Default);
    for beam_size in [1, 4] {
        let mut options = model.options();
        options.search.beam_size = beam_size;
        let text = "我昨天在图书馆看见了你的哥哥。";
        let explained =
            explain_translation(&model, "demo", text, &options, &ExplainOptions::default());
        let e = explained.unwrap().explanation;
        let tree = e.search.unwrap();
        assert_eq!(tree.beam_size, beam_size);
        let mut wanted = options.clone();
        wanted.search.n_best = beam_size;
        let found = &model.translate_with(&[text], &wanted).unwrap()[0];
        assert_eq!(tree.finished.len(), found.len());
        for (finished, translation) in tree.finished.iter().zip(found) {
            assert_eq!(finished.score, translation.score);
            let (mut path, mut node) = (Vec::new(), Some(finished.node));
            while let Some(at) = node {
                let here = tree.nodes[at];
                assert!(here.kept && here.parent.is_none_or(|parent| parent < at));
                path.push(here.log_prob);
                node = here.parent;
            }
            path.reverse();
            let tokens: Vec<f32> = translation.tokens.iter().map(|(_, p)| *p).collect();
            assert_eq!(path.len(), tokens.len());
            for (a, b) in path.iter().zip(&tokens) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
        }
        // At no step more are kept than the beam is wide, but for those that end there.
        let mut depths = vec![0usize; tree.nodes.len()];
        let mut kept = BTreeMap::<usize, usize>::new();
        for (i, node) in tree.nodes.iter().enumerate() {
            depths[i] = node.parent.map_or(0, |parent| depths[parent] + 1);
            *kept.entry(depths[i]).or_default() += usize::from(node.kept);
        }
        assert!(
            kept.values().all(|count| *count <= 2 * beam_size),
            "{kept:?}"
        );
        assert!(tree.nodes.iter().filter(|node| !node.kept).count() > 10);
    }
}

#[test]
fn a_document_is_as_close_as_there_is_room() {
    let model = demo(ComputeType::Default);
    // 60 tokens, which the page holds whole.
    let text = "我昨天在图书馆看见了你的哥哥，他正在读一本关于中国历史的书，我们一起聊了很久，后来又去喝了一杯咖啡，然后一起回家。";
    let mut options = model.options();
    options.split_sentences = false;
    let asked = influence();
    let explained = explain_translation(&model, "demo", text, &options, &asked).unwrap();
    assert!(explained.explanation.source.len() >= 55);
    let mut last = usize::MAX;
    let mut seen = Vec::new();
    for most in [
        DOCUMENT_BYTES,
        2_900_000,
        2_000_000,
        1_500_000,
        1_100_000,
        700_000,
        400_000,
        1000,
    ] {
        let json = document(&explained, model.engine().parameters(), most).unwrap();
        let document: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(document["format"], "hexapla-trace");
        assert_eq!(document["version"], 1);
        let detail = document["detail"].as_str().unwrap().to_string();
        assert!(json.len() <= most || detail == "nothing", "{detail}");
        assert!(json.len() <= last, "{detail}");
        last = json.len();
        // What is there is what was computed, within the error that it tells.
        for (name, array) in &explained.trace.arrays {
            let entry = &document["arrays"][name];
            if entry.is_null() {
                continue;
            }
            assert_eq!(entry["shape"], serde_json::json!(array.shape), "{name}");
            let error = entry["error"].as_f64().unwrap() as f32;
            if most == DOCUMENT_BYTES {
                let largest = array.data.iter().filter(|x| x.is_finite());
                let largest = largest.fold(0.0f32, |a, b| a.max(b.abs()));
                assert!(error <= largest / 1024.0, "{name}: {error} of {largest}");
            }
            for (kept, x) in numbers(&document, name).iter().zip(&array.data) {
                let same = kept == x || (kept - x).abs() <= error * 1.01;
                assert!(same, "{detail} {name}: {kept} {x}");
            }
        }
        seen.push(detail);
    }
    assert_eq!(seen[0], "half", "{seen:?}");
    assert_eq!(seen[seen.len() - 1], "nothing", "{seen:?}");
    seen.dedup();
    assert!(seen.len() >= 5, "{seen:?}");
    // The weights of some layers are there as they are in the model.
    let document = parsed(&explained, &model, DOCUMENT_BYTES);
    let whole = page(&document.to_string(), None);
    assert!(whole.len() < DOCUMENT_BYTES + 300_000, "{}", whole.len());
}

#[test]
fn why_this_word_and_not_that_one() {
    let model = demo(ComputeType::Default);
    let of = |word: &str| ExplainOptions {
        contrast: Some(word.into()),
        ..ExplainOptions::default()
    };
    let explained = explain(&model, "我昨天在图书馆看见了你的哥哥。", &of("at"));
    let e = explained.explanation;
    let contrast = e.contrast.unwrap();
    assert_eq!(e.pieces.target[&contrast.instead], "▁at");
    assert!(contrast.difference < 0.0);
    assert_eq!(contrast.change.len(), e.source.len());
    assert!(contrast.change.iter().any(|change| change.abs() > 0.5));
    let refused = explain_translation(
        &model,
        "demo",
        "我爱你。",
        &model.options(),
        &of("hippopotamus"),
    );
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("--contrast"), "{error}");
}

#[test]
fn a_sentence_is_chosen_and_nothing_is_no_sentence() {
    let model = demo(ComputeType::Default);
    let second = ExplainOptions {
        sentence: 1,
        ..ExplainOptions::default()
    };
    let text = "我爱你。 汤姆睡觉了。";
    let e = explain(&model, text, &second).explanation;
    assert_eq!(e.text.sentences.len(), 2);
    assert_eq!(e.text.source, "汤姆睡觉了。");
    for (text, options) in [
        ("我爱你。", second),
        (" ", ExplainOptions::default()),
        ("", ExplainOptions::default()),
    ] {
        let refused = explain_translation(&model, "demo", text, &model.options(), &options);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Input, "`{text}`");
    }
}

#[test]
fn arrays_are_written_whole() {
    let model = demo(ComputeType::Default);
    let explained = explain(&model, "我爱你。", &ExplainOptions::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.safetensors");
    let metadata = BTreeMap::from([("source".to_string(), "我爱你。".to_string())]);
    for (names, wanted) in [
        (ArrayNames::Own, "decoder.layers.1.cross_attention.weights"),
        (
            ArrayNames::TransformerLens,
            "decoder_blocks.1.cross_attn.hook_pattern",
        ),
    ] {
        write_arrays(&path, &explained.trace.arrays, names, &metadata).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = file.tensor(wanted).unwrap();
        let own = &explained.trace.arrays["decoder.layers.1.cross_attention.weights"];
        let data: Vec<u8> = own.data.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(tensor.data(), data);
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let told = header.metadata().as_ref().unwrap();
        assert_eq!(told["source"], "我爱你。");
    }
    let nowhere = folder.path().join("none/trace.safetensors");
    let refused = write_arrays(
        &nowhere,
        &explained.trace.arrays,
        ArrayNames::Own,
        &metadata,
    );
    assert!(refused.is_err());
}
