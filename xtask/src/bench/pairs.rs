//! Two sides measured in turn, A B A B, and what their ratio is.
//!
//! Machines are shared and drift, so only the ratio of two neighbouring runs counts: the median over the pairs, with the
//! smallest and the largest.

use serde::{Deserialize, Serialize};

use crate::Result;

/// Where numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of at least one number; of an even number of them the median is the mean of the middle two.
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Spread { median, low, high })
    }
}

/// The runs of both sides, pair by pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pairs(pub(crate) Vec<(f64, f64)>);

impl Pairs {
    /// Ours and the peer in turn, `n` times each.
    pub(crate) fn in_turn(
        n: usize,
        mut ours: impl FnMut() -> Result<f64>,
        mut peer: impl FnMut() -> Result<f64>,
    ) -> Result<Pairs> {
        let pairs = (0..n.max(1)).map(|_| Ok((ours()?, peer()?)));
        Ok(Pairs(pairs.collect::<Result<_>>()?))
    }

    /// Ours divided by the peer's.
    pub(crate) fn ratio(&self) -> Spread {
        self.spread(|(ours, peer)| ours / peer)
    }

    /// Our runs.
    pub(crate) fn ours(&self) -> Spread {
        self.spread(|(ours, _)| ours)
    }

    /// The peer's runs.
    pub(crate) fn peer(&self) -> Spread {
        self.spread(|(_, peer)| peer)
    }

    fn spread(&self, of: impl Fn((f64, f64)) -> f64) -> Spread {
        let values: Vec<f64> = self.0.iter().map(|p| of(*p)).collect();
        Spread::of(&values).unwrap_or(Spread {
            median: f64::NAN,
            low: f64::NAN,
            high: f64::NAN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_median_is_the_middle() {
        let spread = Spread::of(&[3.0, 1.0, 10.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 3.0, 10.0));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 10.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_ratio_is_taken_pair_by_pair() {
        // The machine halves its speed for the second pair: the ratio of the medians would say 1.5.
        let pairs = Pairs(vec![(20.0, 10.0), (10.0, 5.0), (22.0, 11.0)]);
        let ratio = pairs.ratio();
        assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 2.0, 2.0));
        assert_eq!(pairs.ours().median, 20.0);
        assert_eq!(pairs.peer().median, 10.0);
    }

    #[test]
    fn sides_take_turns() {
        let order = RefCell::new(String::new());
        let side = |name: char| {
            let order = &order;
            move || {
                order.borrow_mut().push(name);
                Ok(1.0)
            }
        };
        let pairs = Pairs::in_turn(3, side('A'), side('B')).unwrap();
        assert_eq!(*order.borrow(), "ABABAB");
        assert_eq!(pairs.0.len(), 3);
        assert!(Pairs::in_turn(3, || Err("no".into()), || Ok(1.0)).is_err());
    }
}
