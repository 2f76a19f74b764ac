//! Validation pairs where the recipe names none: drawn by the seed from every body of pairs, in proportion.

use std::collections::HashSet;

use crate::config::DataTable;
use crate::random::{SplitMix, mix};
use crate::text::corpus::SentencePairs;

/// Pairs of one body that were drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// What the body is called.
    pub body: String,
    /// Pairs that were drawn.
    pub drawn: usize,
    /// Pairs that it has, empty and double ones left out.
    pub of: usize,
}

/// Draws `count` of the pairs `numbers`, at most half of them, from each body in proportion. Gives their numbers in order, and
/// what was drawn body by body.
pub(super) fn draw(
    pairs: &SentencePairs,
    numbers: &[usize],
    count: usize,
    seed: u64,
) -> (Vec<usize>, Vec<Drawn>) {
    let bodies = 1 + numbers.iter().map(|i| pairs.body(*i)).max().unwrap_or(0);
    let mut of_body = vec![Vec::new(); bodies];
    for i in numbers {
        of_body[pairs.body(*i)].push(*i);
    }
    let sizes: Vec<usize> = of_body.iter().map(Vec::len).collect();
    let shares = shares(&sizes, count.min(numbers.len() / 2));
    let mut drawn = Vec::new();
    let mut told = Vec::new();
    for (body, (mut all, share)) in of_body.into_iter().zip(shares).enumerate() {
        told.push(Drawn {
            body: pairs.names.get(body).cloned().unwrap_or_default(),
            drawn: share,
            of: all.len(),
        });
        SplitMix(mix(seed ^ mix(0xA11D ^ mix(body as u64)))).shuffle(&mut all);
        drawn.extend_from_slice(all.get(..share).unwrap_or_default());
    }
    drawn.sort_unstable();
    (drawn, told)
}

/// `count` shared out in proportion to `sizes`: whole parts first, then one more each where the rest is largest.
fn shares(sizes: &[usize], count: usize) -> Vec<usize> {
    let all = sizes.iter().sum::<usize>().max(1) as u128;
    let exact = |size: &usize| *size as u128 * count as u128;
    let mut shares: Vec<usize> = sizes.iter().map(|s| (exact(s) / all) as usize).collect();
    let mut by_rest: Vec<usize> = (0..sizes.len()).collect();
    by_rest.sort_by_key(|i| std::cmp::Reverse(exact(&sizes[*i]) % all));
    let left = count - shares.iter().sum::<usize>();
    for i in by_rest.into_iter().take(left) {
        shares[i] += 1;
    }
    shares
}

/// `pairs` without those that are set aside, whose numbers are `drawn`, and without their copies, whichever way round they
/// stand and whatever their tags.
pub(super) fn without(pairs: SentencePairs, drawn: &[usize], table: &DataTable) -> SentencePairs {
    let tags: Vec<&str> = table.tags().collect();
    let untagged = |text: &str| -> String {
        let tag = tags.iter().find_map(|tag| text.strip_prefix(*tag));
        tag.unwrap_or(text).trim().to_string()
    };
    let key = |(source, target): (&str, &str)| {
        let (a, b) = (untagged(source), target.trim().to_string());
        if a <= b { (a, b) } else { (b, a) }
    };
    let held_out: HashSet<(String, String)> = drawn
        .iter()
        .filter_map(|i| {
            Some((
                pairs.source.get(*i)?.as_str(),
                pairs.target.get(*i)?.as_str(),
            ))
        })
        .map(key)
        .collect();
    let kept: Vec<usize> = pairs
        .iter()
        .enumerate()
        .filter(|(_, pair)| !held_out.contains(&key(*pair)))
        .map(|(i, _)| i)
        .collect();
    pairs.keep(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Corpus;

    #[test]
    fn shares_are_in_proportion_and_sum_up() {
        assert_eq!(shares(&[1800, 400], 500), [409, 91]);
        assert_eq!(shares(&[1, 1, 1], 2), [1, 1, 0]);
        assert_eq!(shares(&[5, 0, 5], 3), [2, 0, 1]);
        assert_eq!(shares(&[0], 0), [0]);
        for count in 0..60 {
            assert_eq!(shares(&[7, 11, 100, 2], count).iter().sum::<usize>(), count);
        }
    }

    #[test]
    fn every_body_gives_its_part_and_keeps_the_rest() {
        let pairs = SentencePairs {
            source: (0..2200).map(|i| format!("s{i}")).collect(),
            target: (0..2200).map(|i| format!("t{i}")).collect(),
            bodies: (0..2200).map(|i| usize::from(i >= 1800)).collect(),
            names: vec!["large".into(), "small".into()],
            ..Default::default()
        };
        let numbers: Vec<usize> = (0..2200).collect();
        let (drawn, told) = draw(&pairs, &numbers, 500, 1);
        assert_eq!(drawn.len(), 500);
        assert_eq!(drawn.iter().filter(|i| **i >= 1800).count(), 91);
        assert_eq!(
            (told[1].drawn, told[1].of, told[1].body.as_str()),
            (91, 400, "small")
        );
        // Of a sorted body, from its whole length: the mean is the middle's.
        let mean = drawn[..409].iter().sum::<usize>() as f64 / 409.0;
        assert!((mean - 900.0).abs() < 100.0, "{mean}");
        assert_eq!(draw(&pairs, &numbers, 500, 1).0, drawn);
        assert_ne!(draw(&pairs, &numbers, 500, 2).0, drawn);
        assert_eq!(draw(&pairs, &numbers[..3], 500, 1).0.len(), 1);
    }

    #[test]
    fn copies_go_whichever_way_round_they_stand() {
        let rows = [
            (">>de<< a", "b"),
            (">>en<< b", "a"),
            (">>de<< a", "b"),
            (">>de<< a", "c"),
            ("b", "a"),
        ];
        let pairs = SentencePairs {
            source: rows.iter().map(|r| r.0.into()).collect(),
            target: rows.iter().map(|r| r.1.into()).collect(),
            ..Default::default()
        };
        let corpus = |tag: &str| Corpus {
            tag: Some(tag.into()),
            ..Corpus::default()
        };
        let table = DataTable {
            corpora: vec![corpus(">>de<<"), corpus(">>en<<")],
            ..DataTable::default()
        };
        assert_eq!(without(pairs, &[0], &table).source, [">>de<< a"]);
    }
}
