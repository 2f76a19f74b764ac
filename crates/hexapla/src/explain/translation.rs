//! How a text is translated: from the text to all that is known of its way.

use std::collections::{BTreeMap, BTreeSet};

use super::edited::EditedDecoder;
use super::edits::{Edits, Patch};
use super::explained::{
    CANDIDATES, Explained, LENS, candidates, describe, distinct, first_output, ids_of, near,
    no_sentence, table,
};
use super::explanation::{Candidates, Contrast, Explanation, OutputToken, Sides, TextDescription};
use super::flow::flow;
use super::influence::Given;
use super::lens::lens;
use super::pieces::Pieces;
use super::trace::{Trace, TraceInput, trace, trace_source};
use super::tree::{SearchTree, WatchedDecoder};
use super::vocabulary::{VocabularyUse, vocabulary_use, without_sign};
use crate::error::{Error, Result};
use crate::generate::engine::Request;
use crate::generate::state_decoder::StateDecoder;
use crate::generate::translator::Translator;
use crate::generate::{
    Hypothesis, SearchInput, SearchOptions, StepDecoder, TranslateOptions, search,
};
use crate::ops::Run;
use crate::tensor::Arena;
use crate::text::tokenizer::Tokenizer;

/// What is asked of an explanation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExplainOptions {
    /// Which sentence of the text, from 0.
    pub sentence: usize,
    /// A word that the model might have said instead.
    pub contrast: Option<String>,
    /// Whether each head and each source token is left out in turn, which takes a pass for each.
    pub influence: bool,
    /// Target tokens that the output starts with.
    pub prefix: Vec<u32>,
    /// What is changed in the model.
    pub edits: Edits,
    /// Rows of the encoder that come from another text.
    pub patch: Option<TextPatch>,
}

/// Rows of a value of the encoder that are those of another text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPatch {
    /// The other text, one sentence.
    pub text: String,
    /// The value's name, such as `encoder.layers.0.feed_forward_norm`.
    pub name: String,
    /// Which rows.
    pub rows: Vec<usize>,
}

/// Explains how `translator` translates `text`. `name` is what the model is called.
///
/// # Errors
/// Nothing to translate, no such sentence, a word for contrast that the vocabulary has not, or what [`Translator::translate_with`]
/// refuses.
pub fn explain_translation(
    translator: &Translator,
    name: &str,
    text: &str,
    translate: &TranslateOptions,
    options: &ExplainOptions,
) -> Result<Explained> {
    let (search_options, sentences) = translator.sentences(text, translate)?;
    let Some((sentence, request)) = sentences.get(options.sentence) else {
        return Err(no_sentence(options.sentence, sentences.len()));
    };
    let request = &Request {
        prefix: [&request.prefix[..], &options.prefix].concat(),
        ..request.clone()
    };
    let edits = &edits_of(translator, translate, options)?;
    let found = searched(translator, request, &search_options, edits)?;
    let (model, parameters) = (
        translator.engine().model(),
        translator.engine().parameters(),
    );
    let best = &found.output;
    let mut target = vec![search_options.start_id];
    target.extend(&best.ids[..best.ids.len().saturating_sub(1)]);
    let input = TraceInput {
        source: request.source.clone(),
        target: Some(target.clone()),
        ..TraceInput::default()
    };
    let mut trace = trace(model, parameters, &input, edits)?;
    let candidates = candidates(&trace, "output.logits");
    let lens = lens(model, parameters, &trace.arrays, LENS);
    for name in attentions(&trace, ".cross_attention") {
        if let Some(array) = flow(parameters, &trace.arrays, &name) {
            trace.arrays.insert(format!("{name}.flow"), array);
        }
    }
    let config = model.assembly().model();
    let given = Given {
        model,
        parameters,
        source: &request.source,
        target: &target,
        output: &best.ids,
    };
    // Of a model that was changed, what each head and token is worth would be another question.
    let influence = (options.influence && *edits == Edits::default()).then(|| given.influence());
    let tokenizers = translator.tokenizers();
    let contrast = options.contrast.as_deref();
    let contrast = contrast
        .map(|word| contrast_with(&given, readable(&tokenizers.target), word, &candidates))
        .transpose()?;
    let near = |table: Option<&str>, ids: &[u32]| near(model, parameters, table, ids);
    let written: Vec<u32> = target.iter().chain(&best.ids).copied().collect();
    let neighbours = Sides {
        source: near(table(&config, false), &request.source),
        target: near(table(&config, true), &written),
    };
    let mut explanation = Explanation {
        text: TextDescription {
            given: text.to_string(),
            source: sentence.clone(),
            sentences: sentences.iter().map(|(text, _)| text.clone()).collect(),
            sentence: options.sentence,
            output: tokenizers.target.decode(best.tokens())?,
            finished: best.finished,
        },
        model: describe(
            model,
            parameters,
            name,
            (translator.family(), translator.metrics()),
        ),
        source: request.source.clone(),
        output: best
            .ids
            .iter()
            .zip(&best.token_log_probs)
            .map(|(id, log_prob)| OutputToken {
                id: *id,
                log_prob: *log_prob,
            })
            .collect(),
        vocabulary: Some(use_of(&tokenizers.source, &request.source)),
        target,
        prompt: 0,
        pieces: Sides::default(),
        special: Sides::default(),
        candidates,
        classes: None,
        search: Some(found.tree),
        lens,
        // What a manifest names need not be there.
        alignment: Some(translator.alignment_reading())
            .filter(|reading| translator.engine().check_alignment(reading).is_ok()),
        neighbours,
        influence,
        contrast,
    };
    name_pieces(&mut explanation, translator);
    Ok(Explained { explanation, trace })
}

/// Writes down what each id that occurs is.
fn name_pieces(explanation: &mut Explanation, translator: &Translator) {
    let tokenizers = translator.tokenizers();
    let of = |tokenizer: &Tokenizer, ids: BTreeSet<u32>, is_source: bool| {
        let piece = readable(tokenizer);
        let pieces: BTreeMap<u32, String> = ids.iter().map(|id| (*id, piece(*id))).collect();
        let special = ids.into_iter();
        let special = special.filter(|id| !translator.is_text(*id, is_source));
        (pieces, special.collect())
    };
    let ids = ids_of(explanation);
    let source = of(&tokenizers.source, ids.source, true);
    let target = of(&tokenizers.target, ids.target, false);
    explanation.pieces = Sides {
        source: source.0,
        target: target.0,
    };
    explanation.special = Sides {
        source: source.1,
        target: target.1,
    };
}

/// Why the output is not `word`, at the row where it was likeliest.
pub(super) fn contrast_with(
    given: &Given,
    piece: impl Fn(u32) -> String,
    word: &str,
    candidates: &[Candidates],
) -> Result<Contrast> {
    let (row, instead) = contrasted(piece, word, candidates, given.output)?;
    let (difference, change) = given.contrast(row, instead);
    Ok(Contrast {
        row,
        instead,
        difference,
        change,
    })
}

/// A search's best output, and its tree.
struct Searched {
    output: Hypothesis,
    tree: SearchTree,
}

/// Searches as translating does, and keeps what the search saw.
fn searched(
    translator: &Translator,
    request: &Request,
    options: &SearchOptions,
    edits: &Edits,
) -> Result<Searched> {
    let mut options = options.clone();
    if options.sampling.is_none() {
        // The losers too. That changes nothing of the search.
        options.n_best = options.beam_size;
    }
    let engine = translator.engine();
    let (model, parameters) = (engine.model(), engine.parameters());
    let input = SearchInput {
        prompt: Vec::new(),
        prefix: request.prefix.clone(),
        max_length: request.max_length.clamp(1, engine.max_tokens()),
        seed_index: request.seed_index,
    };
    let (found, tree) = if *edits == Edits::default() {
        let arena = Arena::default();
        let mut run = Run::inference(&arena, parameters).alone(true);
        let source = [&request.source].into_iter().collect();
        let memory = model.encode(&mut run, &source);
        let mut decoder = StateDecoder::new(model, run);
        decoder.add_sources(&source, memory, false);
        watched(decoder, &input, &options)?
    } else {
        let decoder = EditedDecoder::new(model, parameters, &request.source, edits)?;
        watched(decoder, &input, &options)?
    };
    Ok(Searched {
        output: first_output(found)?,
        tree,
    })
}

/// What a search finds, and its tree.
pub(super) fn watched(
    decoder: impl StepDecoder,
    input: &SearchInput,
    options: &SearchOptions,
) -> Result<(Vec<Hypothesis>, SearchTree)> {
    let mut watched = WatchedDecoder::new(decoder, options);
    let found = search(&mut watched, std::slice::from_ref(input), options)?;
    let found: Vec<_> = found.into_iter().flatten().collect();
    let tree = watched.finish(&found);
    Ok((found, tree))
}

/// The edits that are asked for, with the rows of the other text.
fn edits_of(
    translator: &Translator,
    translate: &TranslateOptions,
    options: &ExplainOptions,
) -> Result<Edits> {
    let mut edits = options.edits.clone();
    let Some(patch) = &options.patch else {
        return Ok(edits);
    };
    let (_, sentences) = translator.sentences(&patch.text, translate)?;
    let Some((_, request)) = sentences.into_iter().next() else {
        return Err(no_sentence(0, 0).at("the other text"));
    };
    let input = TraceInput {
        source: request.source,
        ..TraceInput::default()
    };
    let engine = translator.engine();
    let model = engine.model();
    let other = trace_source(model, engine.parameters(), &input)?;
    let Some(from) = other
        .arrays
        .get(&patch.name)
        .filter(|array| array.shape.len() == 2)
    else {
        return Err(Error::input("the encoder has no such rows")
            .at("patch")
            .expected("the name of a value of the encoder with a row for each token")
            .found(format!("`{}`", patch.name))
            .hint("docs/explain.md lists the names"));
    };
    edits.patches.push(Patch {
        name: patch.name.clone(),
        rows: patch.rows.clone(),
        from: from.clone(),
    });
    Ok(edits)
}

/// The attentions whose names end so.
fn attentions(trace: &Trace, end: &str) -> Vec<String> {
    let names = trace.arrays.keys();
    names
        .filter_map(|name| name.strip_suffix(".weights"))
        .filter(|name| name.ends_with(end))
        .map(String::from)
        .collect()
}

/// The form of each id that people can read.
fn readable(tokenizer: &Tokenizer) -> impl Fn(u32) -> String {
    let pieces = Pieces::of(|token| tokenizer.token_to_id(token).is_some());
    move |id| pieces.readable(tokenizer.id_to_token(id).unwrap_or_default())
}

/// The pieces of `ids` that are text, among the vocabulary.
fn use_of(tokenizer: &Tokenizer, ids: &[u32]) -> VocabularyUse {
    let pieces = Pieces::of(|token| tokenizer.token_to_id(token).is_some());
    let text = distinct(ids).into_iter();
    let text = text.filter(|id| !tokenizer.is_special(*id));
    let text = text.filter_map(|id| Some((id, pieces.readable(tokenizer.id_to_token(id)?))));
    let entries = tokenizer.tokens().map(|token| pieces.readable(token));
    vocabulary_use(entries, &text.collect::<Vec<_>>())
}

/// The row at which `word` was likeliest, and its token there.
fn contrasted(
    piece: impl Fn(u32) -> String,
    word: &str,
    candidates: &[Candidates],
    output: &[u32],
) -> Result<(usize, u32)> {
    let is_it = |id: u32| {
        let piece = piece(id);
        piece == word || without_sign(&piece) == word
    };
    let rows = candidates.iter().zip(output).enumerate();
    let found = rows.flat_map(|(row, (candidates, chosen))| {
        let others = candidates.tokens.iter().filter(move |(id, _)| id != chosen);
        others.map(move |(id, log_prob)| (row, *id, *log_prob))
    });
    let best = found
        .filter(|(_, id, _)| is_it(*id))
        .max_by(|a, b| a.2.total_cmp(&b.2));
    best.map(|(row, id, _)| (row, id)).ok_or_else(|| {
        let first = candidates.iter().zip(output).find_map(|(row, chosen)| {
            let other = row.tokens.iter().find(|(id, _)| id != chosen)?;
            Some(without_sign(&piece(other.0)).to_string())
        });
        Error::input("the model did not consider this word")
            .at("--contrast")
            .expected(format!(
                "a piece that is among the {CANDIDATES} likeliest somewhere, such as `{}`",
                first.unwrap_or_default()
            ))
            .found(format!("`{word}`"))
            .hint("the page lists them at each step; of a word that is cut, name its first piece")
    })
}
