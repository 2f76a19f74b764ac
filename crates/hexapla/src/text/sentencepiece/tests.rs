use proptest::prelude::*;
use prost::Message;

use super::proto::{NormalizerSpec, PieceProto, TrainerSpec};
use super::*;

fn piece(text: &str, score: f32, kind: i32) -> PieceProto {
    PieceProto {
        piece: Some(text.into()),
        score: Some(score),
        r#type: Some(kind),
    }
}

/// A model of a few pieces; `kind` is 1 for unigrams and 2 for pairs.
fn proto(kind: i32, byte_fallback: bool) -> ModelProto {
    let mut pieces = vec![
        piece("<unk>", 0.0, 2),
        piece("<s>", 0.0, 3),
        piece("</s>", 0.0, 3),
        piece("<sep>", 0.0, 4),
    ];
    let normal = ["▁a", "▁", "a", "b", "ab", "▁ab", "c", "abc"];
    pieces.extend(
        normal
            .iter()
            .zip(1..)
            .map(|(text, n)| piece(text, -(n as f32), 1)),
    );
    if byte_fallback {
        pieces.extend((0..=255u8).map(|b| piece(&byte_name(b), 0.0, 6)));
    }
    ModelProto {
        pieces,
        trainer_spec: Some(TrainerSpec {
            model_type: Some(kind),
            byte_fallback: Some(byte_fallback),
            ..TrainerSpec::default()
        }),
        normalizer_spec: Some(NormalizerSpec {
            precompiled_charsmap: Some(map_of_a()),
            ..NormalizerSpec::default()
        }),
    }
}

/// `A` becomes `a`: a double array with three nodes.
fn map_of_a() -> Vec<u8> {
    let mut units = vec![0u32; 0x400];
    units[0] = 0x100 << 10;
    units[0x100 ^ 0x41] = 0x41 | 1 << 8 | 0x200 << 10;
    units[0x100 ^ 0x41 ^ 0x200] = 1 << 31;
    let mut bytes = (4 * units.len() as u32).to_le_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend(b"a\0");
    bytes
}

fn model(kind: i32, byte_fallback: bool) -> SentencePiece {
    SentencePiece::from_bytes(&proto(kind, byte_fallback).encode_to_vec()).unwrap()
}

fn cut(model: &SentencePiece, text: &str) -> Vec<String> {
    model
        .encode(text)
        .into_iter()
        .map(|piece| piece.text)
        .collect()
}

#[test]
fn unigrams_take_the_most_probable_way() {
    let unigrams = model(1, false);
    // ▁a + b = −1 − 4, before ▁ab = −6.
    assert_eq!(cut(&unigrams, "ab"), ["▁a", "b"]);
    assert_eq!(cut(&unigrams, "A  c "), ["▁a", "▁", "c"]);
    assert_eq!(cut(&unigrams, ""), Vec::<String>::new());
    // What is not known is one piece.
    assert_eq!(cut(&unigrams, "axyb"), ["▁a", "xy", "b"]);
    assert_eq!(cut(&unigrams, "a<sep>b"), ["▁a", "<sep>", "b"]);
    let ids: Vec<u32> = unigrams.encode("xy").iter().map(|piece| piece.id).collect();
    assert_eq!(ids, [5, 0]);
    assert_eq!(unigrams.decode(&cut(&unigrams, " Ab  c")), "ab c");
    assert_eq!(
        unigrams.decode(&["<s>", "▁a", "<unk>", "</s>"]),
        "a \u{2047} "
    );
}

#[test]
fn pairs_are_merged_by_their_score() {
    let pairs = model(2, false);
    // ▁ and a first, then b.
    assert_eq!(cut(&pairs, "abc"), ["▁ab", "c"]);
    assert_eq!(cut(&pairs, "cabc"), ["▁", "c", "abc"]);
    assert_eq!(cut(&pairs, "a<sep>ab"), ["▁a", "<sep>", "ab"]);
}

#[test]
fn bytes_stand_for_what_is_not_known() {
    for kind in [1, 2] {
        let bytes = model(kind, true);
        let pieces = cut(&bytes, "aé");
        assert_eq!(pieces, ["▁a", "<0xC3>", "<0xA9>"]);
        assert_eq!(bytes.decode(&pieces), "aé");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |change: &dyn Fn(&mut ModelProto)| {
        let mut proto = proto(1, false);
        change(&mut proto);
        let error = SentencePiece::from_bytes(&proto.encode_to_vec()).unwrap_err();
        error.to_string()
    };
    let charsmap = |bytes: Vec<u8>| {
        move |proto: &mut ModelProto| {
            let spec = proto.normalizer_spec.get_or_insert_default();
            spec.precompiled_charsmap = Some(bytes.clone());
        }
    };
    for (told, expected) in [
        (refused(&|p| p.pieces.clear()), "1 to 16777216 pieces"),
        (
            refused(&|p| p.pieces[0].r#type = Some(1)),
            "an unknown piece",
        ),
        (
            refused(&|p| p.pieces[5].r#type = Some(2)),
            "one unknown piece",
        ),
        (refused(&|p| p.pieces[5].r#type = Some(9)), "from 1 to 6"),
        (
            refused(&|p| p.pieces[5].piece = Some("b".into())),
            "each piece once",
        ),
        (
            refused(&|p| p.pieces[5].score = Some(f32::NAN)),
            "finite score",
        ),
        (
            refused(&|p| p.trainer_spec.get_or_insert_default().model_type = Some(3)),
            "one of words",
        ),
        (
            refused(&|p| p.trainer_spec.get_or_insert_default().byte_fallback = Some(true)),
            "a piece for each byte",
        ),
        (refused(&charsmap(vec![1, 2])), "a map of characters"),
        (
            refused(&charsmap(vec![255, 255, 255, 0, 1])),
            "a map of characters",
        ),
    ] {
        assert!(told.contains(expected), "{told}");
    }
    assert!(SentencePiece::from_bytes(b"no model").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever the file says, a text gives pieces or an error.
    #[test]
    fn damaged_models_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut_off in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        kind in 1..3,
        text in "\\PC*",
    ) {
        let mut bytes = proto(kind, true).encode_to_vec();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if !whole {
            bytes.truncate(cut_off.index(bytes.len()));
        }
        if let Ok(model) = SentencePiece::from_bytes(&bytes) {
            for text in [text.as_str(), "AbA <sep> cab\u{e9}", ""] {
                let pieces = cut(&model, text);
                model.decode(&pieces);
            }
        }
    }
}
