//! Which arithmetic is fastest on this CPU, by a short measurement: some have an instruction for bf16 that is slower than those
//! for f32.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hexapla_kernels::{
    Buffer, Isa, Matrix, MatrixMut, PackedInt8, PackedMatrix, Plus, gemm, gemm_bf16, gemm_int8,
    gemm_packed,
};

use crate::config::{ComputeType, Precision};

/// What is lost at most where a plainer arithmetic is kept: less is noise.
const NOISE: f64 = 0.05;
/// Rounds of a measurement; the shortest time of each arithmetic counts.
const ROUNDS: usize = 5;

/// An arithmetic that was chosen, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Fastest<T> {
    /// The one that was chosen.
    pub chosen: T,
    /// Each that was measured, with its time over that of 32-bit floats.
    pub times: Vec<(T, f64)>,
}

impl<T: Copy + PartialEq> Fastest<T> {
    /// The shortest of `times`, of which the first is that of 32-bit floats. One that is not clearly shorter than one before it is
    /// not taken.
    fn of(times: Vec<(T, Duration)>) -> Self {
        let seconds = |i: usize| times[i].1.as_secs_f64();
        let chosen = (1..times.len()).fold(0, |best, i| {
            if seconds(i) < (1.0 - NOISE) * seconds(best) {
                i
            } else {
                best
            }
        });
        let float = seconds(0).max(f64::MIN_POSITIVE);
        Fastest {
            chosen: times[chosen].0,
            times: times
                .iter()
                .map(|(which, time)| (*which, time.as_secs_f64() / float))
                .collect(),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Fastest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (measured here, products take ", self.chosen)?;
        for (i, (which, time)) in self.times.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{which} {time:.2}")?;
        }
        f.write_str(")")
    }
}

/// The precision with which a training's products are fastest: its three products of a linear layer, measured once (some
/// milliseconds) and kept while the program runs.
pub fn precision() -> &'static Fastest<Precision> {
    static FASTEST: OnceLock<Fastest<Precision>> = OnceLock::new();
    FASTEST.get_or_init(|| {
        // Tokens of a small batch, and the width of a small model.
        const TOKENS: usize = 512;
        const WIDTH: usize = 256;
        let (x, w) = (numbers(TOKENS * WIDTH), numbers(WIDTH * WIDTH));
        let mut y = Buffer::zeros(TOKENS * WIDTH);
        let mut dw = Buffer::zeros(WIDTH * WIDTH);
        let isa = Isa::best();
        let mut three = |product: fn(Isa, MatrixMut, Matrix, Matrix, Plus)| {
            let activations = Matrix::new(&x, TOKENS, WIDTH, WIDTH);
            let weight = Matrix::new(&w, WIDTH, WIDTH, WIDTH);
            let mut forward = |weight| {
                let y = MatrixMut::new(&mut y, TOKENS, WIDTH, WIDTH);
                product(isa, y, activations, weight, Plus::Nothing);
            };
            forward(weight);
            // The gradient of what came in, then that of the weight.
            forward(weight.transposed());
            let dw = MatrixMut::new(&mut dw, WIDTH, WIDTH, WIDTH);
            product(
                isa,
                dw,
                activations.transposed(),
                activations,
                Plus::Nothing,
            );
        };
        Fastest::of(shortest(
            &[Precision::Float32, Precision::Bf16],
            |precision| match precision {
                Precision::Bf16 => three(gemm_bf16),
                _ => three(gemm),
            },
        ))
    })
}

/// The compute type with which the products of inference are fastest, measured as [`precision`] is.
pub fn compute_type() -> &'static Fastest<ComputeType> {
    static FASTEST: OnceLock<Fastest<ComputeType>> = OnceLock::new();
    FASTEST.get_or_init(|| {
        // A batch of sentences in one step of decoding.
        const ROWS: usize = 32;
        const WIDTH: usize = 512;
        let (x, w) = (numbers(ROWS * WIDTH), numbers(WIDTH * WIDTH));
        let isa = Isa::best();
        let weight = Matrix::new(&w, WIDTH, WIDTH, WIDTH);
        let float = PackedMatrix::new(isa, weight);
        let bf16 = PackedMatrix::bf16(isa, weight);
        let int8 = PackedInt8::new(isa, weight);
        let mut y = Buffer::zeros(ROWS * WIDTH);
        let mut product = |compute_type| {
            let x = Matrix::new(&x, ROWS, WIDTH, WIDTH);
            let y = MatrixMut::new(&mut y, ROWS, WIDTH, WIDTH);
            match compute_type {
                ComputeType::Int8 => gemm_int8(y, x, &int8, Plus::Nothing.into()),
                ComputeType::Bf16 => gemm_packed(y, x, &bf16, Plus::Nothing.into()),
                _ => gemm_packed(y, x, &float, Plus::Nothing.into()),
            }
        };
        Fastest::of(shortest(
            &[ComputeType::Float32, ComputeType::Bf16, ComputeType::Int8],
            |compute_type| (0..4).for_each(|_| product(compute_type)),
        ))
    })
}

/// The shortest time of each, measured in turn.
fn shortest<T: Copy>(which: &[T], mut run: impl FnMut(T)) -> Vec<(T, Duration)> {
    let mut times: Vec<(T, Duration)> = which.iter().map(|w| (*w, Duration::MAX)).collect();
    // One round more, which pays for the first use of memory.
    for round in 0..=ROUNDS {
        for (which, time) in &mut times {
            let start = Instant::now();
            run(*which);
            if round > 0 {
                *time = start.elapsed().min(*time);
            }
        }
    }
    times
}

/// `precision`, or instead of [`Precision::Auto`] the fastest.
pub fn decided(precision: Precision) -> Precision {
    match precision {
        Precision::Auto => self::precision().chosen,
        decided => decided,
    }
}

/// `compute_type`, or instead of [`ComputeType::Auto`] the fastest.
pub fn decided_compute_type(compute_type: ComputeType) -> ComputeType {
    match compute_type {
        ComputeType::Auto => self::compute_type().chosen,
        decided => decided,
    }
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 61) as f32 / 61.0 - 0.5).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_is_chosen_where_it_is_clearly_shorter() {
        let of = |times: [u64; 3]| {
            let types = [ComputeType::Float32, ComputeType::Bf16, ComputeType::Int8];
            let times = types.into_iter().zip(times.map(Duration::from_micros));
            Fastest::of(times.collect()).chosen
        };
        assert_eq!(of([100, 160, 40]), ComputeType::Int8);
        assert_eq!(of([100, 160, 97]), ComputeType::Float32);
        assert_eq!(of([100, 40, 39]), ComputeType::Bf16);
        assert_eq!(of([100, 160, 160]), ComputeType::Float32);
    }

    #[test]
    fn what_is_measured_is_kept_and_tells_its_reasons() {
        let (first, second) = (precision(), precision());
        assert_eq!(first, second);
        assert_eq!(first.times[0], (Precision::Float32, 1.0));
        assert_ne!(first.chosen, Precision::Auto);
        assert_ne!(compute_type().chosen, ComputeType::Auto);
        let told = first.to_string();
        assert!(told.starts_with(&first.chosen.to_string()), "{told}");
        assert!(told.contains("float32 1.00, bf16 "), "{told}");
    }
}
