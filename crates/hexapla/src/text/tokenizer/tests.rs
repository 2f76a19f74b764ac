//! Every kind of tokenizer, trained on a little text and tried on much stranger text.

use proptest::prelude::*;

use super::*;
use crate::config::{TokenizerKind, TokenizerTable};

const TEXTS: [&str; 8] = [
    "a young man and a young woman are walking in the park .",
    "a man is walking a dog in a park; the dog isn't walking the man.",
    "Zwei junge Männer gehen durch den Park, und zwei Hunde auch.",
    "两个年轻人在公园里散步。一个男人和一条狗也在公园里。",
    "公园里有两个男人，一个女人。",
    "The woman said: \"Good morning!\" (and walked on)",
    "one hundred twenty-three men, two hundred women",
    "Hunde und Männer, Frauen und Katzen",
];

const STRANGE: [&str; 14] = [
    "",
    "   ",
    "ein neues Wörterbuch",
    "公園里的龘",
    "👨‍👩‍👧 emoji 🦀!",
    "tab\tand\u{1}control\u{7f}\0",
    "<0x41> <0xE4><0xBD> spells bytes",
    "a </s> b <pad> <s>struck</s> <unk>",
    "Ｆｕｌｌ　ｗｉｄｔｈ，ﬁ ½",
    "▁ marks ▁▁ of its own",
    "line\u{2028}and\u{85}next\r",
    "e\u{301}a\u{300}\u{301} combining",
    "no  squeezing   here ",
    "مرحبا שלום नमस्ते",
];

fn table(kind: TokenizerKind) -> TokenizerTable {
    TokenizerTable {
        kind,
        vocab_size: 450,
        special_tokens: vec![">>de<<".into(), ">>zh<<".into()],
        character_coverage: 1.0,
        ..Default::default()
    }
}

fn trained(kind: TokenizerKind) -> Tokenizer {
    Tokenizer::train(&table(kind), TEXTS).unwrap()
}

const KINDS: [TokenizerKind; 4] = [
    TokenizerKind::Bpe,
    TokenizerKind::ByteBpe,
    TokenizerKind::Unigram,
    TokenizerKind::Pieces,
];
const OPEN_KINDS: [TokenizerKind; 3] = [
    TokenizerKind::Bpe,
    TokenizerKind::ByteBpe,
    TokenizerKind::Unigram,
];

#[test]
fn special_tokens_have_their_ids() {
    for kind in KINDS {
        let t = trained(kind);
        assert_eq!(
            [t.bos_id(), t.pad_id(), t.eos_id(), t.unk_id()],
            [Some(0), Some(1), Some(2), Some(3)]
        );
        assert_eq!(t.token_to_id(">>de<<"), Some(4));
        assert_eq!(t.id_to_token(5).as_deref(), Some(">>zh<<"));
        assert_eq!(t.id_to_token(t.vocab_size() as u32), None);
        assert!(t.vocab_size() <= 450 || kind == TokenizerKind::Pieces);
        let ids = t.encode(">>de<< a man").unwrap();
        assert_eq!(ids[0], 4, "{kind:?}");
        assert_eq!(t.decode(&ids).unwrap().trim_start(), "a man");
    }
}

#[test]
fn text_comes_back() {
    for kind in OPEN_KINDS {
        let t = trained(kind);
        for text in TEXTS.iter().chain(&STRANGE) {
            let ids = t.encode(text).unwrap();
            assert_eq!(
                t.decode(&ids).unwrap(),
                t.normalize(text).unwrap(),
                "{kind:?} {text:?}"
            );
            assert!(ids.iter().all(|id| !t.is_special(*id)), "{kind:?} {text:?}");
            assert_eq!(t.pieces(text).unwrap().len(), ids.len());
        }
    }
    assert_eq!(
        trained(TokenizerKind::ByteBpe)
            .normalize(" a\u{1} \n")
            .unwrap(),
        " a\u{1} \n"
    );
    assert_eq!(
        trained(TokenizerKind::Bpe)
            .normalize(" ａ\u{1}，\u{3000} \n be\u{301}▁")
            .unwrap(),
        "a\u{1}， bé"
    );
}

#[test]
fn upper_case_is_made_lower_but_not_in_special_tokens() {
    for kind in KINDS {
        let lowercase = |special: &str| TokenizerTable {
            special_tokens: vec![special.into()],
            lowercase: true,
            ..table(kind)
        };
        let tokenizer = Tokenizer::train(&lowercase(">>DE<<"), TEXTS).unwrap();
        assert!(tokenizer.tokens().all(|t| {
            t == ">>DE<<"
                || kind == TokenizerKind::ByteBpe
                || t.starts_with("<0x")
                || t == t.to_lowercase()
        }));
        let id = tokenizer.token_to_id(">>DE<<").unwrap();
        let ids = tokenizer.encode(">>DE<< Zwei Männer").unwrap();
        assert_eq!(ids[0], id);
        assert_eq!(ids, tokenizer.encode(">>DE<< zwei männer").unwrap());
        assert_eq!(tokenizer.decode(&ids).unwrap().trim(), "zwei männer");
        let other = Tokenizer::from_json(tokenizer.to_json().to_string()).unwrap();
        assert_eq!(other.encode(">>DE<< ZWEI MÄNNER").unwrap(), ids);
    }
}

#[test]
fn pieces_are_taken_as_they_are_and_joined() {
    let t = Tokenizer::train(
        &table(TokenizerKind::Pieces),
        ["brea@@ king a stick", "a stick"],
    )
    .unwrap();
    assert_eq!(t.vocab_size(), 10);
    // Most frequent first, then by the text.
    assert_eq!(
        t.pieces("a stick brea@@ king").unwrap(),
        ["a", "stick", "brea@@", "king"]
    );
    assert_eq!(t.encode("a stick brea@@ king").unwrap(), [6, 7, 8, 9]);
    assert_eq!(t.decode(&[6, 8, 9, 7]).unwrap(), "a breaking stick");
    assert_eq!(t.decode(&[8]).unwrap(), "brea");
    assert_eq!(t.encode("a new </s> stick").unwrap(), [6, 3, 3, 7]);
    assert_eq!(t.encode("").unwrap(), Vec::<u32>::new());
}

#[test]
fn training_is_deterministic_and_files_come_back() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let (a, b) = (trained(kind), trained(kind));
        assert_eq!(a.to_json(), b.to_json(), "{kind:?}");
        let path = folder.path().join("tokenizer.json");
        a.save(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), a.to_json());
        let read = Tokenizer::open(&path).unwrap();
        for text in TEXTS.iter().chain(&STRANGE) {
            assert_eq!(read.encode(text).unwrap(), a.encode(text).unwrap());
        }
        assert_eq!(
            a.encode_all(&TEXTS).unwrap()[3],
            a.encode(TEXTS[3]).unwrap()
        );
    }
}

#[test]
fn a_vocabulary_too_large_for_the_text_is_told() {
    for kind in OPEN_KINDS {
        let t = Tokenizer::train(
            &TokenizerTable {
                vocab_size: 30_000,
                ..table(kind)
            },
            TEXTS,
        )
        .unwrap();
        assert!(t.vocab_size() < 1000);
        assert!(t.notes()[0].contains("30000"), "{:?}", t.notes());
        let e = Tokenizer::train(
            &TokenizerTable {
                vocab_size: 200,
                ..table(kind)
            },
            TEXTS,
        );
        assert!(e.unwrap_err().to_string().contains("vocab_size"));
        assert!(
            Tokenizer::train(&table(kind), ["", "  "]).is_err() || kind == TokenizerKind::ByteBpe
        );
        Tokenizer::train(&table(kind), ["x"]).unwrap();
    }
}

#[test]
fn rare_characters_fall_back_to_bytes() {
    let common = "他在公园里".repeat(500);
    for kind in [TokenizerKind::Bpe, TokenizerKind::Unigram] {
        let mut table = table(kind);
        table.character_coverage = 0.999;
        let t = Tokenizer::train(&table, [common.as_str(), "龘"]).unwrap();
        assert_eq!(t.token_to_id("龘"), None);
        assert_eq!(t.pieces("龘").unwrap(), ["▁", "<0xE9>", "<0xBE>", "<0x98>"]);
        assert_eq!(t.decode(&t.encode("龘").unwrap()).unwrap(), "龘");
        table.vocab_size = 4 + 2 + 256 + 16;
        let many: String = ('一'..'丰').collect();
        let t = Tokenizer::train(&table, [many.as_str()]).unwrap();
        assert!(t.notes()[0].contains("bytes"), "{:?}", t.notes());
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    for bad in [
        TokenizerTable {
            character_coverage: 0.0,
            ..Default::default()
        },
        TokenizerTable {
            character_coverage: f32::NAN,
            ..Default::default()
        },
        TokenizerTable {
            special_tokens: vec!["a b".into()],
            ..Default::default()
        },
        TokenizerTable {
            special_tokens: vec![String::new()],
            ..Default::default()
        },
        TokenizerTable {
            vocab_size: usize::MAX,
            ..Default::default()
        },
        TokenizerTable {
            codes: Some("c".into()),
            ..Default::default()
        },
    ] {
        let e = Tokenizer::train(&bad, TEXTS).unwrap_err().to_string();
        assert!(e.contains("tokenizer."), "{e}");
    }
}

fn with_codes(codes: &str, texts: &[&str]) -> Result<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codes");
    std::fs::write(&path, codes).unwrap();
    let table = TokenizerTable {
        kind: TokenizerKind::Bpe,
        codes: Some(path),
        ..Default::default()
    };
    Tokenizer::train(&table, texts)
}

#[test]
fn subword_nmt_merges_are_applied() {
    let t = with_codes(
        "#version: 0.2\nl o\nlo w</w>\ne r</w>\nl o\n",
        &["low lower lo", "slow"],
    )
    .unwrap();
    assert_eq!(
        t.pieces("low lower slow").unwrap(),
        ["low", "lo@@", "w@@", "er", "s@@", "low"]
    );
    assert_eq!(
        t.decode(&t.encode("low lower slow").unwrap()).unwrap(),
        "low lower slow"
    );
    assert_eq!(t.pieces("lox").unwrap(), ["lo@@", "<unk>"]);
    for piece in ["low", "lo@@", "w@@", "er", "<unk>"] {
        assert_eq!(t.piece(t.piece_to_id(piece).unwrap()).unwrap(), piece);
    }
    for (bad, line) in [
        ("l o\n", 1),
        ("#version: 0.2\nl o\nabc\n", 3),
        ("#version: 0.2\na b c\n", 2),
        ("#version: 0.2\n b\n", 2),
    ] {
        let e = with_codes(bad, &["low"]).unwrap_err().to_string();
        assert!(e.contains(&format!("codes, line {line}")), "{e}");
    }
}

#[test]
fn pre_tokenised_multi30k_is_reproduced() {
    let Some(folder) = std::env::var_os("HEXAPLA_DATA") else {
        println!("skipped: HEXAPLA_DATA does not name the folder with the data");
        return;
    };
    let folder = Path::new(&folder).join("multi30k/bpe-wu2021");
    let read = |name: &str| crate::text::corpus::read_lines(&folder.join(name)).unwrap();
    let plain = |line: &str| line.replace("@@ ", "");
    let train: Vec<String> = ["train.en", "train.de"]
        .iter()
        .flat_map(|name| read(name))
        .collect();

    let pieces = Tokenizer::train(&table(TokenizerKind::Pieces), &train).unwrap();
    for line in &train {
        let ids = pieces.encode(line).unwrap();
        assert!(!ids.contains(&3));
        assert_eq!(pieces.decode(&ids).unwrap(), plain(line).trim());
    }

    let table = TokenizerTable {
        kind: TokenizerKind::Bpe,
        codes: Some(folder.join("code")),
        ..Default::default()
    };
    let merges = Tokenizer::train(&table, train.iter().map(|line| plain(line))).unwrap();
    let (mut same, mut lines) = (0, 0);
    for name in ["test.2016.en", "test.2016.de", "valid.en", "valid.de"] {
        for line in read(name) {
            let cut = merges.pieces(&plain(&line)).unwrap().join(" ");
            lines += 1;
            same += usize::from(cut == line.trim());
            if cut != line.trim() {
                println!("theirs {line}\nours   {cut}");
            }
        }
    }
    println!("{same} of {lines} lines as subword-nmt cut them");
    assert!(same * 100 >= lines * 99, "{same} of {lines}");
}

#[test]
fn broken_files_are_refused() {
    let good = trained(TokenizerKind::Unigram).to_json().to_string();
    for cut in [0, 1, 10, good.len() / 2, good.len() - 2] {
        assert!(Tokenizer::from_bytes(&good.as_bytes()[..cut]).is_err());
    }
    assert!(Tokenizer::from_bytes(b"\xFF\xFE{}").is_err());
    let bpe = |more: &str| {
        format!(
            r#"{{"version":"1.0","added_tokens":[],"model":{{"type":"BPE","vocab":{{"a":0,"b":1}},"merges":[]}}{more}}}"#
        )
    };
    Tokenizer::from_json(bpe("")).unwrap();
    let attacks = [
        "null".to_string(),
        "[]".to_string(),
        r#"{"model":null}"#.to_string(),
        r#"{"version":"1.0","model":{"type":"BPE","vocab":{},"merges":[]}}"#.to_string(),
        r#"{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}}"#.to_string(),
        r#"{"version":"1.0","model":{"type":"BPE","vocab":{"aaaa":0,"b":1},"merges":["aaaa b"]}}"#.to_string(),
        r#"{"version":"1.0","model":{"type":"BPE","continuing_subword_prefix":"\u00e9\u00e9","vocab":{"a":0,"b":1},"merges":["a b"]}}"#.to_string(),
        r#"{"version":"1.0","model":{"type":"WordLevel","unk_token":"a","vocab":{"a":4000000000}}}"#.to_string(),
        r#"{"version":"1.0","model":{"type":"Unigram","unk_id":7,"vocab":[["a",0.0]]}}"#.to_string(),
        bpe(r#","decoder":{"type":"Strip","content":"a","start":0,"stop":9}"#),
        bpe(r#","decoder":{"type":"Sequence","decoders":[{"type":"Strip","content":"a","start":0,"stop":9}]}"#),
        bpe(r#","pre_tokenizer":{"type":"FixedLength","length":0}"#),
        bpe(r#","normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#),
        bpe(r#","normalizer":{"type":"Precompiled","precompiled_charsmap":"/////wAAAAA="}"#),
        bpe(
            r#","normalizer":{"type":"Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":null}]}"#,
        ),
        bpe(r#","normalizer":{"type":"Replace","pattern":{"Regex":"("},"content":""}"#),
        // Doubles a text 48 times.
        bpe(&format!(
            r#","normalizer":{{"type":"Sequence","normalizers":[{}]}}"#,
            vec![r#"{"type":"Replace","pattern":{"String":"a"},"content":"aa"}"#; 48].join(",")
        )),
    ];
    for json in attacks {
        let e = Tokenizer::from_json(json.clone())
            .expect_err(&json)
            .to_string();
        assert!(e.contains("tokenizer"), "{e}");
    }
    // A map of one empty unit (length 4, one zero, no rule) is whole.
    let map = bpe(r#","normalizer":{"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAAA="}"#);
    Tokenizer::from_json(map).unwrap();
    let e = trained(TokenizerKind::Bpe)
        .decode(&[1_000_000])
        .unwrap_err()
        .to_string();
    assert!(e.contains("1000000"));
}

#[test]
fn what_would_change_text_silently_is_switched_off() {
    let json = r#"{"version":"1.0","truncation":{"direction":"Right","max_length":1,"strategy":"LongestFirst","stride":5},
        "padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"a"},
        "added_tokens":[{"id":2,"content":"[MASK]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "model":{"type":"BPE","dropout":0.9,"vocab":{"a":0,"b":1},"merges":[]}}"#;
    let t = Tokenizer::from_json(json.to_string()).unwrap();
    assert_eq!(t.encode("ab[MASK]ab").unwrap(), [0, 1, 2, 0, 1]);
    assert_eq!(t.to_json(), json);
    assert_eq!(t.decode(&[2]).unwrap(), "");
}

#[test]
fn folders_hold_one_tokenizer_or_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(
        Tokenizers::open_folder(path)
            .unwrap_err()
            .to_string()
            .contains("no tokenizer")
    );
    let side: Vec<String> = TEXTS.iter().map(|text| text.to_string()).collect();
    let pair = Tokenizers::prepare(
        &TokenizerTable {
            joint: false,
            ..table(TokenizerKind::Bpe)
        },
        &side[..3],
        &side[3..5],
    )
    .unwrap();
    assert!(!pair.is_joint());
    pair.save_folder(path, 512).unwrap();
    let read = Tokenizers::open_folder(path).unwrap();
    assert!(!read.is_joint() && read.source.to_json() != read.target.to_json());
    let joint = Tokenizers::prepare(&table(TokenizerKind::Bpe), &side[..3], &side[3..5]).unwrap();
    joint.save_folder(path, 512).unwrap();
    let read = Tokenizers::open_folder(path).unwrap();
    assert!(read.is_joint());
    assert_eq!(read.target.to_json(), joint.source.to_json());
    let config = std::fs::read_to_string(path.join("tokenizer_config.json")).unwrap();
    assert!(config.contains("\"eos_token\": \"</s>\""));
}

#[test]
fn statistics_count_words_and_characters() {
    let t = Tokenizer::train(
        &table(TokenizerKind::Pieces),
        ["ein karate@@ anzug . 你 好"],
    )
    .unwrap();
    let stats = TokenizerStats::of(
        &t,
        ["ein karate@@ anzug .", "ein karate@@ anzug neu", "你 好"],
    )
    .unwrap();
    assert_eq!(
        (stats.lines, stats.tokens, stats.words, stats.word_tokens),
        (3, 10, 6, 8)
    );
    assert_eq!(
        (
            stats.han,
            stats.han_tokens,
            stats.unknown,
            stats.whole_words
        ),
        (2, 2, 1, 4)
    );
    let split = Split {
        word: "karateanzug".into(),
        pieces: vec!["karate@@".into(), "anzug".into()],
        count: 2,
    };
    assert_eq!(stats.splits, [split]);
    assert!(
        stats
            .to_string()
            .contains("tokens per Chinese character          1.00"),
        "{stats}"
    );

    let t = trained(TokenizerKind::ByteBpe);
    let stats = TokenizerStats::of(&t, ["a man 龘"]).unwrap();
    assert_eq!(
        (stats.words, stats.word_tokens, stats.whole_words),
        (2, 2, 2)
    );
    assert_eq!((stats.han, stats.byte_tokens > 0), (1, true));
    let t = trained(TokenizerKind::Unigram);
    let stats = TokenizerStats::of(&t, ["a man, 𠀀"]).unwrap();
    assert_eq!((stats.byte_tokens, stats.unknown), (4, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_comes_back(text in "([a-z äé,.!<>/0-9]|[你好公园。，]|\\PC|[\u{0}-\u{20}]|👨|\u{200D}|▁|\u{301}){0,40}") {
        thread_local! {
            static TRAINED: [Tokenizer; 3] = OPEN_KINDS.map(trained);
        }
        TRAINED.with(|all| -> std::result::Result<(), TestCaseError> {
            for t in all {
                let ids = t.encode(&text).unwrap();
                prop_assert_eq!(t.decode(&ids).unwrap(), t.normalize(&text).unwrap());
                prop_assert!(!ids.iter().any(|id| t.is_special(*id)));
            }
            Ok(())
        })?;
    }
}
