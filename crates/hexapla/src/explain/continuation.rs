//! How a decoder alone goes on with a text.

use std::collections::{BTreeMap, BTreeSet};

use super::edits::Edits;
use super::explained::{
    Explained, LENS, candidates, describe, distinct, first_output, ids_of, near, no_sentence, table,
};
use super::explanation::{Candidates, Explanation, OutputToken, Sides, TextDescription};
use super::influence::Given;
use super::lens::lens;
use super::likeliest::log_sum_exp;
use super::pieces::Pieces;
use super::trace::{Trace, TraceInput, trace};
use super::translation::{ExplainOptions, contrast_with, watched};
use super::tree::SearchTree;
use super::vocabulary::vocabulary_use;
use crate::config::DecoderConfig;
use crate::error::{Error, Result};
use crate::generate::generator::Prompt;
use crate::generate::language_model::{GenerateOptions, LanguageModel};
use crate::generate::running::Model as _;
use crate::generate::state_decoder::StateDecoder;
use crate::generate::{Hypothesis, SearchOptions};
use crate::ops::Run;
use crate::tensor::Arena;

/// Tokens that are written where nobody says how many: a page has room for about so many beside a text.
const NEW_TOKENS: usize = 24;

/// Numbers that are kept of scores, weights and logits: a GiB of them.
const MOST_NUMBERS: usize = 1 << 28;

/// Explains how `language_model` goes on with `text`. `name` is what the model is called. Stop strings end nothing here, and of
/// `options` the word for contrast and the influence are used: a text is not cut into sentences, and nothing is changed.
///
/// # Errors
/// No text, one that leaves the model no room, a word for contrast that the vocabulary has not, or what [`LanguageModel::generate`]
/// refuses.
pub fn explain_continuation(
    language_model: &LanguageModel,
    name: &str,
    text: &str,
    generate: &GenerateOptions,
    options: &ExplainOptions,
) -> Result<Explained> {
    if text.trim().is_empty() {
        return Err(no_sentence(0, 0));
    }
    let prompt = &language_model.prompts(&[text], generate)?[0];
    let prompt = &Prompt {
        max_new_tokens: match generate.max_new_tokens {
            None => prompt.max_new_tokens.min(NEW_TOKENS),
            Some(tokens) => tokens,
        },
        ..prompt.clone()
    };
    let generator = language_model.generator();
    generator.check(prompt)?;
    let (model, parameters) = (generator.model(), generator.parameters());
    check_size(generator.config(), prompt)?;
    let (best, tree) = searched(language_model, prompt, &generate.search)?;
    // What follows each row: the rest of the prompt, then the output.
    let followed = [&prompt.ids[1..], &best.ids].concat();
    let mut target = prompt.ids.clone();
    target.extend(&best.ids[..best.ids.len() - 1]);
    let input = TraceInput {
        target: Some(target.clone()),
        prompt: prompt.ids.len(),
        ..TraceInput::default()
    };
    let trace = trace(model, parameters, &input, &Edits::default())?;
    let candidates = candidates(&trace, "output.logits");
    let given = Given {
        model,
        parameters,
        source: &[],
        target: &target,
        output: &followed,
    };
    let tokenizer = language_model.tokenizer();
    let pieces = Pieces::of(|token| tokenizer.token_to_id(token).is_some());
    let piece = |id: u32| pieces.readable(tokenizer.id_to_token(id).unwrap_or_default());
    let contrast = options.contrast.as_deref();
    let contrast = contrast.map(|word| {
        // What was given was no choice of the model.
        let own = candidates.iter().enumerate().map(|(row, all)| Candidates {
            tokens: match row + 1 < prompt.ids.len() {
                true => Vec::new(),
                false => all.tokens.clone(),
            },
            ..*all
        });
        contrast_with(&given, piece, word, &own.collect::<Vec<_>>())
    });
    let config = model.assembly().model();
    let is_text = |id: &u32| !tokenizer.is_special(*id);
    let text_ids = distinct(&target).into_iter().filter(is_text);
    let text_pieces: Vec<(u32, String)> = text_ids.map(|id| (id, piece(id))).collect();
    let entries = (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.id_to_token(id));
    let entries = entries.map(|token| pieces.readable(token));
    let log_prob = |(row, id): (usize, &u32)| OutputToken {
        id: *id,
        log_prob: match (row + 1).checked_sub(prompt.ids.len()) {
            Some(step) => best.token_log_probs[step],
            None => given_log_prob(&trace, row, *id),
        },
    };
    let written: Vec<u32> = target.iter().chain(&best.ids).copied().collect();
    let mut explanation = Explanation {
        text: TextDescription {
            given: text.to_string(),
            source: text.to_string(),
            sentences: vec![text.to_string()],
            sentence: 0,
            output: continuation(language_model, prompt, &best)?,
            finished: best.finished,
        },
        model: describe(
            model,
            parameters,
            name,
            (language_model.family(), language_model.metrics()),
        ),
        source: Vec::new(),
        prompt: prompt.ids.len(),
        output: followed.iter().enumerate().map(log_prob).collect(),
        vocabulary: Some(vocabulary_use(entries, &text_pieces)),
        lens: lens(model, parameters, &trace.arrays, LENS),
        neighbours: Sides {
            source: BTreeMap::new(),
            target: near(model, parameters, table(&config, true), &written),
        },
        influence: options.influence.then(|| given.influence()),
        contrast: contrast.transpose()?,
        search: Some(tree),
        target,
        candidates,
        pieces: Sides::default(),
        special: Sides::default(),
        classes: None,
        alignment: None,
    };
    let ids: BTreeSet<u32> = ids_of(&explanation).target;
    explanation.pieces.target = ids.iter().map(|id| (*id, piece(*id))).collect();
    explanation.special.target = ids.into_iter().filter(|id| !is_text(id)).collect();
    Ok(Explained { explanation, trace })
}

/// Refuses a text whose tables would fill the memory.
fn check_size(config: &DecoderConfig, prompt: &Prompt) -> Result<()> {
    let numbers = |tokens: usize| {
        let tables = (2 * config.layers * config.heads).saturating_mul(tokens.saturating_pow(2));
        tables.saturating_add(tokens * config.vocab_size)
    };
    let tokens = prompt.ids.len() + prompt.max_new_tokens;
    if numbers(tokens) <= MOST_NUMBERS {
        return Ok(());
    }
    let most = (1..tokens).rev().find(|n| numbers(*n) <= MOST_NUMBERS);
    Err(
        Error::input("the text is too long to keep all that the model computes")
            .at("the text")
            .expected(format!(
                "at most {} tokens, those that are written among them",
                most.unwrap_or(0)
            ))
            .found(format!(
                "{} tokens and {} new ones",
                prompt.ids.len(),
                prompt.max_new_tokens
            ))
            .hint("shorten it, or write fewer: --max-decoding-length"),
    )
}

/// The model's log-probability of a token that it was given.
fn given_log_prob(trace: &Trace, row: usize, id: u32) -> f32 {
    let logits = trace.arrays.get("output.logits");
    let row = logits.map(|logits| logits.row(&[row])).unwrap_or_default();
    let logit = row.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    logit - log_sum_exp(row)
}

/// The text of an output behind its prompt.
fn continuation(model: &LanguageModel, prompt: &Prompt, best: &Hypothesis) -> Result<String> {
    let mut stream = model.tokenizer().stream(&prompt.ids)?;
    let mut text = String::new();
    for id in best.tokens() {
        text.push_str(&stream.push(*id)?);
    }
    text.push_str(&stream.finish()?);
    Ok(text)
}

/// Goes on as generating does, and keeps what the search saw.
fn searched(
    language_model: &LanguageModel,
    prompt: &Prompt,
    options: &SearchOptions,
) -> Result<(Hypothesis, SearchTree)> {
    let mut options = options.clone();
    // Losers of a beam are shown too, which changes nothing of the search.
    options.n_best = match options.sampling {
        Some(_) => 1,
        None => options.beam_size,
    };
    let generator = language_model.generator();
    options.validate(generator.config().vocab_size)?;
    let arena = Arena::default();
    let run = Run::inference(&arena, generator.parameters()).alone(true);
    let mut decoder = StateDecoder::new(generator.model(), run);
    generator.read(&mut decoder, &[prompt], false);
    let (found, tree) = watched(decoder, &generator.input(prompt), &options)?;
    Ok((first_output(found)?, tree))
}
