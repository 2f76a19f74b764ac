//! What an encoder alone makes of a text.

use std::collections::{BTreeMap, BTreeSet};

use super::edits::Edits;
use super::explained::{
    Explained, LENS, candidates, describe, distinct, ids_of, near, no_sentence, table,
};
use super::explanation::{Classes, Explanation, OutputToken, Sides, TextDescription};
use super::lens::lens;
use super::trace::{TraceInput, trace};
use super::vocabulary::vocabulary_use;
use crate::config::{ComputeType, EncoderHead};
use crate::encode::{Limit, LongTexts};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats;
use crate::packed::PackedWeights;
use crate::text::tokenizer::EncoderTokenizer;

/// Explains what the encoder in `folder` makes of `text`. `name` is what the model is called.
///
/// # Errors
/// As [`formats::open`]; no encoder alone, no text, or one that is longer than the model.
pub fn explain_encoding(
    folder: &Folder,
    compute_type: ComputeType,
    name: &str,
    text: &str,
) -> Result<(Explained, PackedWeights)> {
    let opened = formats::open(folder.clone())?;
    let head = opened.encoder()?.head.clone();
    let parameters = opened.pack(compute_type)?;
    let tokenizer = EncoderTokenizer::open_folder(folder).map_err(Error::of_model)?;
    let model = opened.model();
    let tokens = tokenizer.tokens(text)?;
    if tokens.is_empty() {
        return Err(no_sentence(0, 0));
    }
    let limit = Limit {
        max_tokens: model.encoder_config().max_position_embeddings,
        long: LongTexts::Refuse,
    };
    let windows = limit.single(&tokenizer, tokens);
    let windows = windows.map_err(|e| e.hint("shorten it: what is explained is one text"))?;
    let text_tokens = windows.into_iter().next().unwrap_or_default();
    let input = TraceInput {
        source: text_tokens.ids.clone(),
        segments: match model.encoder_config().segments {
            0 | 1 => Vec::new(),
            _ => text_tokens.segments.clone(),
        },
        ..TraceInput::default()
    };
    let trace = trace(model, &parameters, &input, &Edits::default())?;
    let candidates = candidates(&trace, "output.logits");
    let likeliest = candidates.iter().filter_map(|row| row.tokens.first());
    let labels = match head {
        EncoderHead::Classes { labels, .. } | EncoderHead::TokenClasses { labels, .. } => labels,
        _ => Vec::new(),
    };
    let classes = trace.arrays.get("head.output").map(|logits| Classes {
        logits: logits
            .data
            .chunks(labels.len().max(1))
            .map(<[f32]>::to_vec)
            .collect(),
        labels,
    });
    let config = model.assembly().model();
    let special: BTreeSet<u32> = text_tokens
        .ids
        .iter()
        .zip(&text_tokens.words)
        .filter(|(_, word)| word.is_none())
        .map(|(id, _)| *id)
        .collect();
    let piece = |id: u32| tokenizer.id_to_token(id).unwrap_or_default();
    let text_ids = distinct(&text_tokens.ids);
    let text_ids = text_ids.into_iter().filter(|id| !special.contains(id));
    let pieces: Vec<(u32, String)> = text_ids.map(|id| (id, piece(id))).collect();
    let vocabulary = config.encoder.as_ref().map(|stack| {
        let entries =
            (0..stack.embedding.vocab_size as u32).filter_map(|id| tokenizer.id_to_token(id));
        vocabulary_use(entries, &pieces)
    });
    let metrics = opened.manifest.as_ref();
    let metrics = metrics.map_or(&[][..], |manifest| &manifest.fields.metrics);
    let mut explanation = Explanation {
        text: TextDescription {
            given: text.to_string(),
            source: text.to_string(),
            sentences: vec![text.to_string()],
            sentence: 0,
            output: String::new(),
            finished: true,
        },
        model: describe(model, &parameters, name, (opened.family, metrics)),
        output: likeliest
            .map(|(id, log_prob)| OutputToken {
                id: *id,
                log_prob: *log_prob,
            })
            .collect(),
        lens: lens(model, &parameters, &trace.arrays, LENS),
        alignment: None,
        neighbours: Sides {
            source: near(model, &parameters, table(&config, false), &input.source),
            target: BTreeMap::new(),
        },
        source: input.source,
        target: Vec::new(),
        prompt: 0,
        vocabulary,
        candidates,
        classes,
        pieces: Sides::default(),
        special: Sides {
            source: special.iter().copied().collect(),
            target: special.into_iter().collect(),
        },
        search: None,
        influence: None,
        contrast: None,
    };
    let ids = ids_of(&explanation);
    let of = |ids: BTreeSet<u32>| ids.into_iter().map(|id| (id, piece(id))).collect();
    explanation.pieces = Sides {
        source: of(ids.source),
        target: of(ids.target),
    };
    Ok((Explained { explanation, trace }, parameters))
}
