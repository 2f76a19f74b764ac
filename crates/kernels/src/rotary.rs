//! Rotary positions: pairs of numbers turned by an angle, and back (Su et al. 2021, "RoFormer", equation 34).

use crate::isa::multiversion;

multiversion! {
    /// Turns the pairs of each head of a row, number j of a head with number j + n/2 of its n first numbers. `turns` holds the
    /// n/2 cosines and then the n/2 sines; a head's numbers beyond the first n stay. With `back` the other way round.
    pub fn rotate(row: &mut [f32], head_width: usize, turns: &[f32], back: bool) -> () {
        let half = turns.len() / 2;
        assert!(2 * half == turns.len() && 2 * half <= head_width, "pairs within a head");
        assert!(row.len().is_multiple_of(head_width), "whole heads");
        let (cosines, sines) = turns.split_at(half);
        let sign = if back { -1.0 } else { 1.0 };
        for head in row.chunks_exact_mut(head_width) {
            let (first, rest) = head.split_at_mut(half);
            let second = &mut rest[..half];
            for j in 0..half {
                let (cosine, sine) = (cosines[j], sign * sines[j]);
                let (a, b) = (first[j], second[j]);
                first[j] = a * cosine - b * sine;
                second[j] = b * cosine + a * sine;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::numbers;

    #[test]
    fn a_pair_is_turned_by_its_angle_and_back_on_every_instruction_set() {
        for (heads, width, half) in [(3, 10, 5), (2, 9, 3), (4, 64, 32), (1, 2, 1)] {
            let angles: Vec<f32> = numbers(half, 2);
            let turns: Vec<f32> = angles
                .iter()
                .map(|a| a.cos())
                .chain(angles.iter().map(|a| a.sin()))
                .collect();
            let x = numbers(heads * width, 1);
            let mut scalar = x.clone();
            rotate(Isa::SCALAR, &mut scalar, width, &turns, false);
            for (i, (found, x_i)) in scalar.iter().zip(&x).enumerate() {
                let (head, j) = (i / width * width, i % width);
                // The definition, as multiplication of complex numbers.
                let angle = |j: usize| f64::from(angles[j]);
                let number = |j: usize| f64::from(x[head + j]);
                let expected = match j {
                    j if j < half => number(j) * angle(j).cos() - number(j + half) * angle(j).sin(),
                    j if j < 2 * half => {
                        let j = j - half;
                        number(j + half) * angle(j).cos() + number(j) * angle(j).sin()
                    }
                    _ => f64::from(*x_i),
                };
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-5,
                    "{i}: {found} {expected}"
                );
            }
            for isa in Isa::available() {
                let mut found = x.clone();
                rotate(isa, &mut found, width, &turns, false);
                assert_eq!(found, scalar, "{isa:?}");
                rotate(isa, &mut found, width, &turns, true);
                for (found, x) in found.iter().zip(&x) {
                    assert!((found - x).abs() < 1e-5);
                }
            }
        }
    }
}
