//! Model folders and tokenizers that are damaged, strange or hostile; token ids that the model does not have.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Table, split};

type Files = BTreeMap<String, Vec<u8>>;
type Change = Box<dyn FnOnce(&mut Files)>;

/// Changes the JSON file `name`; the manifest, which would notice first, goes.
fn edit(files: &mut Files, name: &str, change: impl FnOnce(&mut Value)) {
    files.remove("manifest.json");
    let mut value: Value = serde_json::from_slice(&files[name]).unwrap();
    change(&mut value);
    files.insert(name.into(), value.to_string().into_bytes());
}

fn set(key: &'static str, value: Value) -> impl Fn(&mut Files) {
    move |files| edit(files, "config.json", |config| config[key] = value.clone())
}

/// Makes the first number of a layer norm no number.
fn not_a_number(files: &mut Files) {
    files.remove("manifest.json");
    let bytes = files.get_mut("model.safetensors").unwrap();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    let entry = &header["model.encoder.layers.0.self_attn_layer_norm.bias"];
    let start = 8 + size + entry["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
}

/// Changes a tensor's entry in the weights' header.
fn tensor(change: impl FnOnce(&mut Value)) -> impl FnOnce(&mut Files) {
    move |files| {
        files.remove("manifest.json");
        let bytes = &files["model.safetensors"];
        let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
        change(&mut header["final_logits_bias"]);
        let header = header.to_string();
        let new = [
            &(header.len() as u64).to_le_bytes(),
            header.as_bytes(),
            &bytes[8 + size..],
        ]
        .concat();
        files.insert("model.safetensors".into(), new);
    }
}

#[test]
fn model_folders() {
    let mut table = Table::new();
    table.file("text", "a man\n");
    table.file(
        "ids.json",
        r#"{"input_ids": [[5]], "decoder_input_ids": [[0]]}"#,
    );
    let commands = [
        "translate --model @ a",
        "score --model @ --tsv pairs.tsv",
        "evaluate --model @ --source text --reference text --output new",
        "logits @ --input ids.json",
        "inspect @",
    ];
    for command in commands {
        table.refuse("no such folder", &command.replace('@', "missing"));
        table.refuse("a file", &command.replace('@', "text"));
        std::fs::create_dir_all(table.path("empty")).unwrap();
        table.refuse("an empty folder", &command.replace('@', "empty"));
    }
    let cut = |files: &mut Files| {
        files.remove("manifest.json");
        let bytes = files.get_mut("model.safetensors").unwrap();
        bytes.truncate(bytes.len() - 100);
    };
    let pickled = |files: &mut Files| {
        files.remove("manifest.json");
        let weights = files.remove("model.safetensors").unwrap();
        files.insert("pytorch_model.bin".into(), weights);
    };
    let flipped = |files: &mut Files| {
        *files
            .get_mut("model.safetensors")
            .unwrap()
            .last_mut()
            .unwrap() ^= 1
    };
    let bytes = |name: &'static str, bytes: &'static [u8]| {
        move |files: &mut Files| {
            files.remove("manifest.json");
            files.insert(name.into(), bytes.to_vec());
        }
    };
    let index: &[u8] = br#"{"weight_map": {"a": "../../etc/passwd"}}"#;
    let cases: Vec<(&str, Change)> = vec![
        ("weights cut short", Box::new(cut)),
        (
            "weights of three bytes",
            Box::new(bytes("model.safetensors", b"abc")),
        ),
        (
            "a header larger than its file",
            Box::new(bytes(
                "model.safetensors",
                b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
            )),
        ),
        (
            "a header that is no JSON",
            Box::new(bytes("model.safetensors", b"\x04\0\0\0\0\0\0\0nope")),
        ),
        ("pickled weights only", Box::new(pickled)),
        ("a byte changed", Box::new(flipped)),
        (
            "a file less than the manifest says",
            Box::new(|f: &mut Files| drop(f.remove("generation_config.json"))),
        ),
        (
            "a manifest that is no JSON",
            Box::new(|f: &mut Files| drop(f.insert("manifest.json".into(), b"{".to_vec()))),
        ),
        (
            "a manifest of the future",
            Box::new(|f: &mut Files| {
                let mut manifest: Value = serde_json::from_slice(&f["manifest.json"]).unwrap();
                manifest["format_version"] = json!(99);
                f.insert("manifest.json".into(), manifest.to_string().into_bytes());
            }),
        ),
        (
            "a manifest that points elsewhere",
            Box::new(|f: &mut Files| {
                let mut manifest: Value = serde_json::from_slice(&f["manifest.json"]).unwrap();
                manifest["files"] = json!({"../text": "00"});
                f.insert("manifest.json".into(), manifest.to_string().into_bytes());
            }),
        ),
        (
            "a wrong shape",
            Box::new(tensor(|t| {
                let n = t["shape"][1].as_u64().unwrap();
                t["shape"] = json!([n, 1]);
            })),
        ),
        (
            "an overflowing shape",
            Box::new(tensor(|t| t["shape"] = json!([u64::MAX, u64::MAX]))),
        ),
        (
            "a type of weights that is not supported",
            Box::new(tensor(|t| t["dtype"] = json!("I32"))),
        ),
        (
            "an index that points elsewhere",
            Box::new(move |f: &mut Files| {
                f.remove("manifest.json");
                f.remove("model.safetensors");
                f.insert("model.safetensors.index.json".into(), index.to_vec());
            }),
        ),
        (
            "no config.json",
            Box::new(|f: &mut Files| {
                f.remove("manifest.json");
                f.remove("config.json");
            }),
        ),
        (
            "a config.json that is no JSON",
            Box::new(bytes("config.json", b"{\"d_model\": ")),
        ),
        (
            "a config.json that is a list",
            Box::new(bytes("config.json", b"[1]")),
        ),
        (
            "a config.json that is not UTF-8",
            Box::new(bytes("config.json", b"{\"\xff\": 1}")),
        ),
        (
            "an unpaired surrogate",
            Box::new(bytes("config.json", br#"{"model_type": "\ud800"}"#)),
        ),
        (
            "an unknown key",
            Box::new(set("attention_window", json!(5))),
        ),
        ("a misspelt key", Box::new(set("d_modell", json!(8)))),
        (
            "an unknown model_type",
            Box::new(set("model_type", json!("umt5"))),
        ),
        (
            "a value of another type",
            Box::new(set("d_model", json!("eight"))),
        ),
        (
            "a negative size",
            Box::new(set("encoder_layers", json!(-1))),
        ),
        ("an absurd width", Box::new(set("d_model", json!(u64::MAX)))),
        (
            "absurdly many positions",
            Box::new(set("max_position_embeddings", json!(1u64 << 50))),
        ),
        (
            "a table of positions larger than the memory",
            Box::new(|f: &mut Files| {
                edit(f, "config.json", |c| {
                    c["max_position_embeddings"] = json!(1 << 20);
                    c["d_model"] = json!(1 << 16);
                });
            }),
        ),
        (
            "absurdly many layers",
            Box::new(set("decoder_layers", json!(1_000_000_000))),
        ),
        (
            "more layers than weights",
            Box::new(set("decoder_layers", json!(2))),
        ),
        (
            "a vocabulary larger than the weights'",
            Box::new(|f: &mut Files| {
                edit(f, "config.json", |c| {
                    c["vocab_size"] = json!(1 << 24);
                    c["decoder_vocab_size"] = json!(1 << 24);
                });
            }),
        ),
        (
            "heads that do not divide the width",
            Box::new(set("encoder_attention_heads", json!(3))),
        ),
        (
            "a special id out of range",
            Box::new(set("pad_token_id", json!(100_000))),
        ),
        (
            "generation settings of another type",
            Box::new(|f: &mut Files| {
                edit(f, "generation_config.json", |c| {
                    c["num_beams"] = json!("many")
                });
            }),
        ),
        (
            "absurdly many beams",
            Box::new(|f: &mut Files| {
                edit(f, "generation_config.json", |c| {
                    c["num_beams"] = json!(u32::MAX)
                });
            }),
        ),
    ];
    for (number, (why, change)) in cases.into_iter().enumerate() {
        let name = format!("model{number}");
        table.model(&name, change);
        table.refuse(why, &format!("translate --model {name} a"));
    }
    table.model("nan", not_a_number);
    for command in [
        "translate --model nan a",
        "score --model nan --tsv pairs.tsv",
        "convert nan --output new",
        "convert nan --output new --compute-type float32",
    ] {
        table.refuse("a weight that is no number", command);
    }
    table.model("three", |files| {
        edit(files, "generation_config.json", |c| {
            c["num_return_sequences"] = json!(3)
        });
    });
    table.accept("a line is a line", "translate --model three a", 1);
    table.model("strange", |files| {
        files.insert("source_tokenizer.json".into(), b"{}".to_vec());
        files.insert("target_tokenizer.json".into(), b"{}".to_vec());
    });
    table.refuse("tokenizers from elsewhere", "translate --model strange a");
    table.check("model_folders");
}

#[test]
fn conversions() {
    let mut table = Table::new();
    table.file("text", "a man\n");
    table.refuse("no such folder", "convert missing --output new");
    table.refuse("a file for a model", "convert text --output new");
    table.refuse("a file for a folder", "convert model --output text");
    table.refuse("into itself", "convert model --output ./model");
    table.refuse("where one stands", "convert model --output .");
    table.refuse(
        "a type that is not stored",
        "convert model --output new --compute-type bf16",
    );
    table.usage("no output", "convert model");
    table.usage(
        "an unknown type",
        "convert model --output new --compute-type int3",
    );
    table.accept("int8", "convert model --output int8", 0);
    table.accept("the embedded model", "convert --output embedded", 0);
    table.accept(
        "back to floats",
        "convert int8 --output floats --compute-type float32",
        0,
    );
    let stored = table.accept("it translates", "translate --model int8 a", 1);
    let asked = "translate --model model --compute-type int8 a";
    assert_eq!(
        stored,
        table.accept("as the floats do in int8", asked, 1),
        "stored or not"
    );
    table.accept("int4", "convert model --output int4 --compute-type int4", 0);
    let stored = table.accept("it translates too", "translate --model int4 a", 1);
    let asked = "translate --model model --compute-type int4 a";
    let floats = table.accept("as the floats do in int4", asked, 1);
    assert_eq!(stored, floats, "stored or not");
    let weights = std::fs::read(table.path("int8/model.safetensors")).unwrap();
    let mut flipped = weights.clone();
    flipped[weights.len() / 2] ^= 1;
    table.file("int8/model.safetensors", &flipped);
    for command in [
        "translate --model @ a",
        "inspect @",
        "convert @ --output new",
    ] {
        table.refuse("a byte changed", &command.replace('@', "int8"));
    }
    std::fs::remove_file(table.path("int8/manifest.json")).unwrap();
    table.accept(
        "a byte changed, without a manifest",
        "translate --model int8 a",
        1,
    );
    table.file("int8/model.safetensors", &weights[..weights.len() - 1]);
    table.refuse("weights cut short", "translate --model int8 a");
    table.check("conversions");
}

#[test]
fn tokenizers() {
    let mut table = Table::new();
    table.file("text", "a man\n");
    let bytes = |bytes: &'static [u8]| {
        move |files: &mut Files| {
            files.remove("manifest.json");
            files.insert("tokenizer.json".into(), bytes.to_vec());
        }
    };
    let edited =
        |change: fn(&mut Value)| move |files: &mut Files| edit(files, "tokenizer.json", change);
    let cases: Vec<(&str, Change)> = vec![
        (
            "no tokenizer",
            Box::new(|f: &mut Files| {
                f.remove("manifest.json");
                f.remove("tokenizer.json");
            }),
        ),
        ("an empty tokenizer.json", Box::new(bytes(b""))),
        ("not JSON", Box::new(bytes(b"a man\n"))),
        ("not UTF-8", Box::new(bytes(b"{\"model\": \"\xff\"}"))),
        (
            "JSON cut short",
            Box::new(|f: &mut Files| {
                f.remove("manifest.json");
                let json = f.get_mut("tokenizer.json").unwrap();
                json.truncate(json.len() / 2);
            }),
        ),
        ("JSON of another kind", Box::new(bytes(b"{\"d_model\": 8}"))),
        (
            "an unknown kind of model",
            Box::new(edited(|t| t["model"]["type"] = json!("Magic"))),
        ),
        (
            "a merge of an unknown piece",
            Box::new(edited(|t| t["model"]["merges"] = json!([["nope", "no"]]))),
        ),
        (
            "an absurd id",
            Box::new(edited(|t| t["model"]["vocab"]["new"] = json!(u32::MAX))),
        ),
    ];
    for (number, (why, change)) in cases.into_iter().enumerate() {
        let name = format!("model{number}");
        table.model(&name, change);
        for command in ["translate --model @ a", "tokenizer encode --model @ text"] {
            table.refuse(why, &command.replace('@', &name));
        }
    }
    table.file("source-ids", "[5, 2]\n");
    table.accept(
        "no tokenizer, where none is needed",
        "translate --model model0 --input-ids source-ids",
        1,
    );
    table.model("more", |f| {
        edit(f, "tokenizer.json", |t| {
            let vocabulary = t["model"]["vocab"].as_object_mut().unwrap();
            let id = vocabulary.remove("▁a").unwrap_or(json!(300));
            vocabulary.insert("▁a".into(), json!(5000));
            vocabulary.insert("unused".into(), id);
        });
    });
    table.refuse("more pieces than the model", "translate --model more a");
    table.refuse(
        "more pieces than the model",
        "score --model more --tsv pairs.tsv",
    );
    for command in ["encode", "decode", "stats"] {
        table.refuse(
            "no such tokenizer",
            &format!("tokenizer {command} --model missing text"),
        );
        table.refuse(
            "a text for a tokenizer",
            &format!("tokenizer {command} --model text text"),
        );
    }
    table.file("pieces", "\u{2581}a nope\n");
    table.refuse("an unknown piece", "tokenizer decode --model model pieces");
    for (name, why, text) in [
        ("ids1", "no id", "5 x\n"),
        ("ids2", "a negative id", "5 -1\n"),
        ("ids3", "an id out of range", "5 6\n5 99999\n"),
        (
            "ids4",
            "an id that no number holds",
            "99999999999999999999\n",
        ),
    ] {
        table.file(name, text);
        table.refuse(why, &format!("tokenizer decode --model model --ids {name}"));
    }
    table.file("codes", "#version: 0.2\na b c\n");
    table.file("codes2", "a b\n");
    for (why, args) in [
        ("a vocabulary of nothing", "--vocab-size 0"),
        ("a vocabulary smaller than its alphabet", "--vocab-size 5"),
        ("the same over bytes", "--kind byte-bpe --vocab-size 200"),
        ("an absurd vocabulary", "--vocab-size 18446744073709551615"),
        (
            "a size where the text decides",
            "--kind pieces --vocab-size 100",
        ),
        ("coverage of nothing", "--character-coverage 0"),
        ("coverage of more than all", "--character-coverage 1.5"),
        ("coverage that is no number", "--character-coverage nan"),
        ("an empty special token", "--special-token= "),
        ("broken merges", "--codes codes"),
        ("merges without a header", "--codes codes2"),
        ("merges that are missing", "--codes missing"),
    ] {
        table.refuse(
            why,
            &format!("tokenizer train --input text --output new.json {args}"),
        );
    }
    table.refuse(
        "two tokenizers in a file",
        "tokenizer train --tsv pairs.tsv --separate --output new.json",
    );
    table.refuse(
        "one side for two",
        "tokenizer train --input text --separate --output new",
    );
    table.check("tokenizers");
}

#[test]
fn token_ids() {
    let mut table = Table::new();
    for (number, (why, text)) in [
        ("an empty line", "[5, 2]\n\n"),
        ("an empty array", "[5, 2]\n[]\n"),
        ("no array", "5, 2\n"),
        ("a text", "[\"a\"]\n"),
        ("an unpaired surrogate", "[\"\\ud800\"]\n"),
        ("a negative id", "[5, -1]\n"),
        ("a fraction", "[5.5]\n"),
        ("an id out of range", "[5, 2]\n[5, 99999]\n"),
        ("an id that no number holds", "[99999999999999999999]\n"),
        (
            "a sentence longer than the positions",
            &format!("[{}2]\n", "5, ".repeat(300)),
        ),
        (
            "JSON deeper than any",
            &format!("{}\n", "[".repeat(100_000)),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("ids{number}");
        table.file(&name, text);
        table.refuse(why, &format!("translate --model model --input-ids {name}"));
    }
    table.file("good", "[5, 2]\n[2]\n");
    table.accept("good ids", "translate --model model --input-ids good", 2);

    for (number, (why, text)) in [
        ("an empty file", ""),
        ("no JSON", "nope"),
        ("JSON cut short", r#"{"input_ids": [[5, 2"#),
        ("a list", "[1, 2]"),
        ("a NUL byte", "\u{0}"),
        ("no decoder_input_ids", r#"{"input_ids": [[5]]}"#),
        (
            "texts for ids",
            r#"{"input_ids": [["a"]], "decoder_input_ids": [[0]]}"#,
        ),
        (
            "an unpaired surrogate",
            r#"{"input_ids": "\ud800", "decoder_input_ids": [[0]]}"#,
        ),
        ("an unpaired surrogate as a key", r#"{"\udfff": 1}"#),
        (
            "ids out of range",
            r#"{"input_ids": [[5], [99999]], "decoder_input_ids": [[0], [0]]}"#,
        ),
        (
            "decoder ids out of range",
            r#"{"input_ids": [[5]], "decoder_input_ids": [[4294967295]]}"#,
        ),
        (
            "an empty source",
            r#"{"input_ids": [[]], "decoder_input_ids": [[0]]}"#,
        ),
        (
            "an empty target",
            r#"{"input_ids": [[5]], "decoder_input_ids": [[]]}"#,
        ),
        (
            "different numbers of sentences",
            r#"{"input_ids": [[5], [5]], "decoder_input_ids": [[0]]}"#,
        ),
        (
            "a sentence longer than the positions",
            &format!(
                r#"{{"input_ids": [[{}5]], "decoder_input_ids": [[0]]}}"#,
                "5, ".repeat(300)
            ),
        ),
        ("JSON deeper than any", &"[".repeat(100_000)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("logits{number}.json");
        table.file(&name, text);
        table.refuse(why, &format!("logits model --input {name}"));
    }
    table.file("latin1.json", b"{\"input_ids\": \"\xE4\"}");
    table.refuse("not UTF-8", "logits model --input latin1.json");
    table.refuse("no such file", "logits model --input missing.json");
    table.refuse("a folder", "logits model --input model");
    table.file("none.json", r#"{"input_ids": [], "decoder_input_ids": []}"#);
    table.accept("no sentence at all", "logits model --input none.json", 1);
    table.check("token_ids");
}

#[test]
fn sentences_longer_than_the_model_takes() {
    let mut table = Table::new();
    let long = vec!["book"; 300].join(" ");
    table.file("long", format!("a man\n{long}\n"));
    table.file("short", "a man\na dog\n");
    // What can be cut is cut and comes back as one line.
    table.accept("a long source", "translate --model model --input long", 2);
    table.accept(
        "a long source",
        "translate --model model --input long --no-split",
        2,
    );
    table.refuse(
        "a long prefix",
        "translate --model model --input short --target-prefix long",
    );
    // A line for each pair, whatever it is.
    for (why, args) in [
        (
            "a long source",
            "score --model model --source long --target short",
        ),
        (
            "a long target",
            "score --model model --source short --target long",
        ),
    ] {
        let scores = table.accept(why, args, 2);
        let lines: Vec<&str> = scores.lines().collect();
        assert!(
            lines[0].starts_with('-') && lines[1] == "nan\tnan",
            "{scores}"
        );
    }
    let ran = table.run(
        &split("translate --model model --input short --max-decoding-length 99999999999"),
        b"",
    );
    assert_eq!((ran.code, ran.lines()), (0, 2));
    table.check("long_sentences");
}

/// Random damage to every file of a folder: whatever happens, the program ends with an answer or an error of its own.
#[test]
fn random_damage_never_panics() {
    const BYTES: &[u8] = b"0123456789\"{}[],:-.e\xFF\0 at";
    let table = Table::new();
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for round in 0..40 {
        for name in [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "manifest.json",
        ] {
            if round >= 20 && name == "model.safetensors" {
                continue;
            }
            table.model("damaged", |files| {
                let kept = files["manifest.json"].clone();
                files.remove("manifest.json");
                if name == "manifest.json" {
                    files.insert(name.into(), kept);
                }
                let bytes = files.get_mut(name).unwrap();
                for _ in 0..1 + next(4) {
                    let at = next(bytes.len().min(4096));
                    bytes[at] = BYTES[next(BYTES.len())];
                }
                if round % 4 == 0 {
                    bytes.truncate(next(bytes.len()));
                }
            });
            table.run(
                &[
                    "translate",
                    "--model",
                    "damaged",
                    "--max-decoding-length",
                    "2",
                    "a man",
                ],
                b"",
            );
            if name != "manifest.json" {
                let _ = std::fs::remove_file(table.path("damaged/manifest.json"));
            }
        }
    }
}
