//! The order of the pairs in an epoch, and their batches.

use std::cmp::Reverse;

use crate::batch::{Pair, PairRows};
use crate::random::{SplitMix, mix};

/// The batches of one epoch: pair numbers in random order, at most `batch_tokens` a batch. The same for a seed and an epoch.
///
/// Batches of like lengths would save padding, but there is none, and models learned more slowly from them.
pub fn epoch(pairs: &[Pair], batch_tokens: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut random = SplitMix(mix(seed ^ mix(epoch ^ 0xE90C)));
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    random.shuffle(&mut order);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for i in order {
        let tokens = pairs[i].tokens();
        match batches.last_mut() {
            Some(batch) if tokens <= room => {
                batch.push(i);
                room -= tokens;
            }
            _ => {
                batches.push(vec![i]);
                room = batch_tokens.saturating_sub(tokens);
            }
        }
    }
    batches
}

/// Cuts a batch into `shards` parts of like work, each with its pairs `passes` times, one round after another.
pub fn shard(
    pairs: &[Pair],
    batch: &[usize],
    (shards, passes): (usize, usize),
    decoder_start: u32,
    eos: u32,
) -> Vec<PairRows> {
    let mut parts = vec![PairRows::default(); shards];
    // Dealt out like cards, the longest first.
    let mut batch = batch.to_vec();
    batch.sort_by_key(|i| Reverse(pairs[*i].tokens()));
    for _ in 0..passes {
        for (n, i) in batch.iter().enumerate() {
            parts[n % shards].push(&pairs[*i].source, &pairs[*i].target, decoder_start, eos);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_pair_once_and_batches_keep_their_size() {
        let pairs: Vec<Pair> = (0..500)
            .map(|i| Pair {
                source: vec![1; i * 7 % 31],
                target: vec![1; 1 + i * 5 % 23],
            })
            .collect();
        let batches = epoch(&pairs, 100, 1, 0);
        let mut all: Vec<usize> = batches.iter().flatten().copied().collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..500));
        for batch in &batches {
            assert!(batch.iter().map(|i| pairs[*i].tokens()).sum::<usize>() <= 100);
        }
        assert_eq!(batches, epoch(&pairs, 100, 1, 0));
        assert_ne!(batches, epoch(&pairs, 100, 1, 1));
        assert_ne!(batches, epoch(&pairs, 100, 2, 0));
    }

    #[test]
    fn shards_share_the_work() {
        let pairs: Vec<Pair> = (1..=7)
            .map(|n| Pair {
                source: vec![3],
                target: vec![5; n],
            })
            .collect();
        let parts = shard(&pairs, &[0, 1, 2, 3, 4, 5, 6], (2, 1), 1, 2);
        assert_eq!(parts[0].source.spans.len(), 4);
        assert_eq!(parts[1].source.spans.len(), 3);
        // Lengths 7, 5, 3, 1 and 6, 4, 2, with their ends.
        assert_eq!((parts[0].labels.len(), parts[1].labels.len()), (20, 15));
        assert_eq!(parts[0].labels[6..9], [5, 2, 5]);
        let twice = shard(&pairs, &[0, 1, 2, 3, 4, 5, 6], (2, 2), 1, 2);
        for (once, twice) in parts.iter().zip(&twice) {
            assert_eq!(twice.labels, once.labels.repeat(2));
            assert_eq!(twice.target.spans.len(), 2 * once.target.spans.len());
        }
    }
}
