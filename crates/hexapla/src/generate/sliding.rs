//! Going on with a text beyond what a decoder takes at once.

use std::sync::{Mutex, PoisonError};

use super::generator::{Generator, Prompt};
use super::{Hypothesis, SearchOptions};
use crate::error::{Error, Result};

/// Where the numbers of rounds and of samples stand in the number of a random stream.
const ROUND: u32 = 32;
const SAMPLE: u32 = 56;

impl Generator {
    /// Goes on with a prompt that may be longer than the model takes, until there are `prompt.max_new_tokens` or an end: whenever
    /// the model is full, it reads the newer half of the text anew, and the older one is let go. Penalties see what the model sees.
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
        let options = SearchOptions {
            n_best: 1,
            ..options.clone()
        };
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
            let piece = Prompt {
                ids: ids[ids.len() - kept..].to_vec(),
                max_new_tokens: left.min(window - kept),
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
            whole.finished = found.finished;
            let is_full = whole.ids.len() >= prompt.max_new_tokens;
            if found.finished || !*goes_on || is_full || found.ids.is_empty() {
                break;
            }
        }
        whole.score = whole.log_prob;
        Ok(whole)
    }
}
