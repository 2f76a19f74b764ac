//! Going on with a text beyond what a decoder takes at once.

use std::sync::{Mutex, PoisonError};

use super::generator::{Generator, Prompt};
use super::{Hypothesis, SearchOptions};
use crate::batch::check_ids;
use crate::error::{Error, Result};

/// Where the numbers of rounds and of samples stand in the number of a random stream.
const ROUND: u32 = 32;
const SAMPLE: u32 = 54;

impl Generator {
    /// Goes on with a prompt that may be longer than the model takes, until there are `prompt.max_new_tokens` or an end: whenever
    /// the model is full, it reads the newer half of the text anew, and the older one is let go. Penalties of repetition see what is
    /// kept; those of presence and frequency count what was written since.
    /// `each` is given the new tokens of each step, and whether the last one ends the text; it says whether to go on. Samples of a
    /// number draw differently.
    ///
    /// # Errors
    /// As [`Generator::generate`], or that of `each`; or a beam, which would have to let go of each of its hypotheses.
    pub fn slide(
        &self,
        prompt: &Prompt,
        sample: usize,
        options: &SearchOptions,
        each: impl FnMut(&[u32], bool) -> Result<bool> + Send,
    ) -> Result<Hypothesis> {
        if options.beam_size > 1 {
            return Err(Error::settings("a beam cannot slide over a text")
                .at("beam_size")
                .expected("1")
                .found(options.beam_size.to_string())
                .hint("choose greedily or by chance, or stay within the model's length"));
        }
        options.validate(self.config().vocab_size)?;
        check_ids(&prompt.ids, self.config().vocab_size).map_err(|e| e.at("prompt"))?;
        let window = self.max_tokens();
        let each = Mutex::new((each, 0, true));
        let mut ids = prompt.ids.clone();
        let mut whole = Hypothesis::default();
        for round in 0.. {
            let kept = match ids.len() < window {
                true => ids.len(),
                false => (window / 2).max(1),
            };
            let left = prompt.max_new_tokens.saturating_sub(whole.ids.len());
            let stream = ((sample as u64) << SAMPLE) + (round << ROUND);
            let room = window - kept;
            let mut options = SearchOptions {
                n_best: 1,
                ..options.clone()
            };
            options.min_length = options.min_length.saturating_sub(whole.ids.len());
            options.forced_eos_id = options.forced_eos_id.filter(|_| left <= room);
            if round > 0 {
                options.first_suppressed_ids.clear();
            }
            let piece = Prompt {
                ids: ids[ids.len() - kept..].to_vec(),
                max_new_tokens: left.min(room),
                seed_index: prompt.seed_index.wrapping_add(stream),
            };
            let watch = |_: usize, _: usize, chain: &Hypothesis| {
                let mut guard = each.lock().unwrap_or_else(PoisonError::into_inner);
                let (each, told, goes_on) = &mut *guard;
                let new = chain.ids.get(*told..).unwrap_or_default();
                *goes_on = *goes_on && each(new, chain.finished)?;
                *told = chain.ids.len();
                Ok(*goes_on)
            };
            let found = self.generate_watched(&[piece], &options, Some(&watch))?;
            let found = found.into_iter().flatten().next().unwrap_or_default();
            let mut guard = each.lock().unwrap_or_else(PoisonError::into_inner);
            let (each, told, goes_on) = &mut *guard;
            // The last step may have shown nothing.
            if let Some(new @ [_, ..]) = found.ids.get(*told..) {
                *goes_on = *goes_on && each(new, found.finished)?;
            }
            *told = 0;
            ids.extend(&found.ids);
            whole.ids.extend(&found.ids);
            whole.log_prob += found.log_prob;
            whole.token_log_probs.extend(&found.token_log_probs);
            whole.likeliest.extend(found.likeliest.clone());
            whole.finished = found.finished;
            let is_full = whole.ids.len() >= prompt.max_new_tokens;
            if found.finished || !*goes_on || is_full || found.ids.is_empty() {
                break;
            }
        }
        whole.score = whole.log_prob;
        Ok(whole)
    }

    /// Whether a prompt and its output fit into the model at once.
    pub(super) fn fits(&self, prompt: &Prompt) -> bool {
        prompt.ids.len().saturating_add(prompt.max_new_tokens) <= self.max_tokens()
    }

    /// Most tokens of an output where nobody says: as many as there is room for behind a prompt of so many tokens, and half of the
    /// model's length where it is to `slide` over a longer one.
    pub fn room(&self, prompt: usize, slide: bool) -> usize {
        let window = self.max_tokens();
        match slide && prompt >= window {
            true => window / 2,
            false => window.saturating_sub(prompt),
        }
    }

    /// As [`Generator::generate`]; prompts that do not fit slide, one after the other.
    ///
    /// # Errors
    /// As [`Generator::slide`]. [`Error::item`] says in which prompt.
    pub fn generate_sliding(
        &self,
        prompts: &[Prompt],
        options: &SearchOptions,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        slide_where_needed(
            prompts,
            |prompt| self.fits(prompt),
            |fitting| self.generate(fitting, options),
            |_, prompt| {
                let samples = 0..options.n_best;
                let one = |sample| self.slide(prompt, sample, options, |_, _| Ok(true));
                samples.map(one).collect()
            },
        )
    }
}

/// What `together` makes of the prompts that fit, and `alone` of each other one with its number, in the order of all.
pub(super) fn slide_where_needed<T>(
    prompts: &[Prompt],
    fits: impl Fn(&Prompt) -> bool,
    together: impl FnOnce(&[Prompt]) -> Result<Vec<T>>,
    alone: impl Fn(usize, &Prompt) -> Result<T>,
) -> Result<Vec<T>> {
    let numbered = || prompts.iter().enumerate();
    let fitting: Vec<usize> = numbered()
        .filter(|(_, p)| fits(p))
        .map(|(i, _)| i)
        .collect();
    let these: Vec<Prompt> = fitting.iter().map(|i| prompts[*i].clone()).collect();
    let made = together(&these).map_err(|e| match e.item().and_then(|i| fitting.get(i)) {
        Some(number) => e.in_item(*number),
        None => e,
    })?;
    let mut made = made.into_iter();
    numbered()
        .map(|(number, prompt)| match fits(prompt) {
            true => made
                .next()
                .ok_or_else(|| Error::internal("a prompt has no output")),
            false => alone(number, prompt).map_err(|e| e.in_item(number)),
        })
        .collect()
}
