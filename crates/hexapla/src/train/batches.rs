//! The order of the examples in an epoch, and their batches.

use std::cmp::Reverse;

use crate::batch::TrainingRows;
use crate::random::{SplitMix, mix};
use crate::train::examples::EpochExamples;

/// The batches of one epoch: numbers of examples, whose `lengths` are in tokens, in random order, at most `batch_tokens` a batch. The same for a seed and an epoch.
///
/// Batches of like lengths would save padding, but there is none, and models learned more slowly from them.
pub fn epoch(lengths: &[usize], batch_tokens: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut random = SplitMix(mix(seed ^ mix(epoch ^ 0xE90C)));
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    random.shuffle(&mut order);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for i in order {
        let tokens = lengths[i];
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

/// Cuts a batch into `shards` parts of like work, each with its examples `passes` times, one round after another.
pub fn shard(
    (examples, lengths): (&dyn EpochExamples, &[usize]),
    batch: &[usize],
    (shards, passes): (usize, usize),
) -> Vec<TrainingRows> {
    let mut parts = vec![TrainingRows::default(); shards];
    // Dealt out like cards, the longest first.
    let mut batch = batch.to_vec();
    batch.sort_by_key(|i| Reverse(lengths[*i]));
    for _ in 0..passes {
        for (n, i) in batch.iter().enumerate() {
            examples.push(*i, &mut parts[n % shards]);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Pair;
    use crate::train::examples::Examples;
    use crate::train::pairs::{Marks, TrainingPairs};

    #[test]
    fn an_epoch_has_every_pair_once_and_batches_keep_their_size() {
        let lengths: Vec<usize> = (0..500)
            .map(|i| 1 + (i * 7 % 31).max(1 + i * 5 % 23))
            .collect();
        let batches = epoch(&lengths, 100, 1, 0);
        let mut all: Vec<usize> = batches.iter().flatten().copied().collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..500));
        for batch in &batches {
            assert!(batch.iter().map(|i| lengths[*i]).sum::<usize>() <= 100);
        }
        assert_eq!(batches, epoch(&lengths, 100, 1, 0));
        assert_ne!(batches, epoch(&lengths, 100, 1, 1));
        assert_ne!(batches, epoch(&lengths, 100, 2, 0));
    }

    #[test]
    fn shards_share_the_work() {
        let pairs: Vec<Pair> = (1..=7)
            .map(|n| Pair {
                source: vec![3],
                target: vec![5; n],
            })
            .collect();
        let pairs = TrainingPairs::fixed(&pairs, Marks { start: 1, end: 2 });
        let epoch = pairs.of_epoch(0);
        let lengths = epoch.lengths();
        let cut = |passes| shard((&*epoch, &lengths), &[0, 1, 2, 3, 4, 5, 6], (2, passes));
        let parts = cut(1);
        assert_eq!(parts[0].source.spans.len(), 4);
        assert_eq!(parts[1].source.spans.len(), 3);
        // Lengths 7, 5, 3, 1 and 6, 4, 2, with their ends.
        assert_eq!((parts[0].labels.len(), parts[1].labels.len()), (20, 15));
        assert_eq!(parts[0].labels[6..9], [5, 2, 5]);
        let twice = cut(2);
        for (once, twice) in parts.iter().zip(&twice) {
            assert_eq!(twice.labels, once.labels.repeat(2));
            assert_eq!(twice.target.spans.len(), 2 * once.target.spans.len());
        }
    }
}
