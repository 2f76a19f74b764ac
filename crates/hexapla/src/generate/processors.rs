//! Constraints on the next token, in the order in which transformers applies them.

use super::log_softmax::Row;
use super::options::SearchOptions;

/// Whether [`process`] looks at the tokens before.
pub(super) fn needs_history(options: &SearchOptions) -> bool {
    options.repetition_penalty != 1.0
        || options.no_repeat_ngram_size > 0
        || options.presence_penalty != 0.0
        || options.frequency_penalty != 0.0
}

/// Changes one hypothesis' scores: biases, repetition penalty, n-grams, suppressed ids, minimum length.
///
/// `history` starts with the start token (and may be empty where [`needs_history`] says no); `generated` is the
/// number of tokens after it, `forced` that of those that the search had no choice in. `scratch` is only there to be used
/// again.
pub(super) fn process(
    row: &mut Row,
    options: &SearchOptions,
    history: &[u32],
    (generated, forced): (usize, usize),
    scratch: &mut Vec<u32>,
) {
    for &(token, bias) in &options.logit_bias {
        row.set(token, row.scores[token as usize] + bias);
    }
    if options.repetition_penalty != 1.0 {
        scratch.clear();
        scratch.extend_from_slice(history);
        scratch.sort_unstable();
        scratch.dedup();
        for &token in &*scratch {
            let score = row.scores[token as usize];
            let penalised = if score < 0.0 {
                score * options.repetition_penalty
            } else {
                score / options.repetition_penalty
            };
            row.set(token, penalised);
        }
    }
    if options.presence_penalty != 0.0 || options.frequency_penalty != 0.0 {
        scratch.clear();
        scratch.extend_from_slice(&history[history.len() - generated..]);
        scratch.sort_unstable();
        for same in scratch.chunk_by(|a, b| a == b) {
            let penalty = options.frequency_penalty * same.len() as f32;
            let score = row.scores[same[0] as usize];
            row.set(same[0], score - penalty - options.presence_penalty);
        }
    }
    let size = options.no_repeat_ngram_size;
    if size > 0 && history.len() >= size {
        let last = &history[history.len() + 1 - size..];
        for ngram in history
            .windows(size)
            .filter(|ngram| ngram.starts_with(last))
        {
            row.set(ngram[size - 1], f32::NEG_INFINITY);
        }
    }
    let at_first: &[u32] = if generated == forced {
        &options.first_suppressed_ids
    } else {
        &[]
    };
    let never = options
        .suppressed_ids
        .iter()
        .filter(|id| !options.is_end(**id));
    for &token in never.chain(at_first) {
        row.set(token, f32::NEG_INFINITY);
    }
    if options.ignore_eos || generated < options.min_length {
        for end in options.ends() {
            row.set(end, f32::NEG_INFINITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: f32 = f32::NEG_INFINITY;

    fn processed(options: &SearchOptions, history: &[u32]) -> Vec<f32> {
        let mut scores = vec![1.0, -1.0, 2.0, -2.0, 0.0];
        let mut bounds = Vec::new();
        let mut row = Row {
            scores: &mut scores,
            bounds: &mut bounds,
        };
        let greatest = row.bound();
        assert_eq!(greatest, 2.0);
        process(
            &mut row,
            options,
            history,
            (
                history.len() - 1,
                usize::from(options.forced_bos_id.is_some()),
            ),
            &mut Vec::new(),
        );
        assert!(scores.iter().all(|s| *s <= bounds[0]));
        scores
    }

    #[test]
    fn repetitions_are_penalised_once_whatever_their_number() {
        let mut options = SearchOptions::new(4, 0);
        options.repetition_penalty = 2.0;
        assert_eq!(
            processed(&options, &[4, 2, 3, 2, 3]),
            [1.0, -1.0, 1.0, -4.0, 0.0]
        );
        options.repetition_penalty = 0.25;
        assert_eq!(
            processed(&options, &[4, 2, 1]),
            [1.0, -0.25, 8.0, -2.0, 0.0]
        );
    }

    #[test]
    fn what_the_output_has_is_penalised_as_often_as_asked() {
        let mut options = SearchOptions::new(4, 0);
        options.presence_penalty = 0.5;
        // The first one is no output.
        let found = processed(&options, &[4, 2, 3, 2, 3]);
        assert_eq!(found, [1.0, -1.0, 1.5, -2.5, 0.0]);
        options.frequency_penalty = 0.25;
        let found = processed(&options, &[4, 2, 3, 2]);
        assert_eq!(found, [1.0, -1.0, 1.0, -2.75, 0.0]);
        // A penalty below 0 makes tokens likelier.
        options.frequency_penalty = -1.0;
        let found = processed(&options, &[4, 2, 2, 2]);
        assert_eq!(found, [1.0, -1.0, 4.5, -2.0, 0.0]);
    }

    #[test]
    fn ngrams_do_not_occur_twice() {
        let mut options = SearchOptions::new(4, 0);
        options.no_repeat_ngram_size = 2;
        assert_eq!(processed(&options, &[4]), [1.0, -1.0, 2.0, -2.0, 0.0]);
        assert_eq!(
            processed(&options, &[4, 2, 3, 2, 1, 2]),
            [1.0, NEVER, 2.0, NEVER, 0.0]
        );
        // The start token is part of the first n-gram.
        assert_eq!(
            processed(&options, &[4, 2, 3, 4]),
            [1.0, -1.0, NEVER, -2.0, 0.0]
        );
        options.no_repeat_ngram_size = 1;
        assert_eq!(
            processed(&options, &[4, 2]),
            [1.0, -1.0, NEVER, -2.0, NEVER]
        );
        options.no_repeat_ngram_size = usize::MAX;
        assert_eq!(processed(&options, &[4, 2]), [1.0, -1.0, 2.0, -2.0, 0.0]);
    }

    #[test]
    fn some_tokens_are_not_the_first() {
        let mut options = SearchOptions::new(4, 0);
        options.first_suppressed_ids = vec![0, 2];
        assert_eq!(processed(&options, &[4]), [NEVER, -1.0, NEVER, -2.0, 0.0]);
        assert_eq!(processed(&options, &[4, 1]), [1.0, -1.0, 2.0, -2.0, 0.0]);
        options.forced_bos_id = Some(1);
        assert_eq!(
            processed(&options, &[4, 1]),
            [NEVER, -1.0, NEVER, -2.0, 0.0]
        );
    }

    #[test]
    fn the_end_waits_for_the_minimum_and_cannot_be_suppressed() {
        let mut options = SearchOptions::new(4, 0);
        options.min_length = 2;
        options.suppressed_ids = vec![0, 3];
        assert_eq!(processed(&options, &[4, 2]), [NEVER, -1.0, 2.0, NEVER, 0.0]);
        assert_eq!(
            processed(&options, &[4, 2, 2]),
            [1.0, -1.0, 2.0, NEVER, 0.0]
        );
        options.ignore_eos = true;
        assert_eq!(
            processed(&options, &[4, 2, 2]),
            [NEVER, -1.0, 2.0, NEVER, 0.0]
        );
    }
}
