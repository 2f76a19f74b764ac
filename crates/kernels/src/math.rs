//! Elementary functions without branches, so that the compiler can vectorize loops over them.

/// Adding and subtracting 1.5·2²³ rounds to the nearest integer.
const ROUND: f32 = 12_582_912.0;
/// What is below has an e^x that is no normal number; it counts as 0.
const SMALLEST: f32 = -87.336_54;

/// e^x to about 1 unit in the last place; 0 below −87.3, infinity above 88.7, NaN stays NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by its Taylor polynomial of degree 7; 2^n by the exponent's bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-87.4, 88.8);
    let (n, r) = whole_and_remainder(clamped);
    let p = exp_of_remainder(r);
    // In two factors, so that n = 128 and n = −126 neither overflow nor lose bits too early.
    let half = (n * 0.5).mul_add(1.0, ROUND) - ROUND;
    let value = p * power_of_two(half) * power_of_two(n - half);
    let value = if x < SMALLEST { 0.0 } else { value };
    let value = if x > 88.722_84 { f32::INFINITY } else { value };
    if x.is_nan() { x } else { value }
}

/// `x = n · ln 2 + r` with a whole n.
#[inline(always)]
fn whole_and_remainder(x: f32) -> (f32, f32) {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let n = x.mul_add(std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = n.mul_add(-LN2_HIGH, x);
    (n, n.mul_add(-LN2_LOW, r))
}

/// e^r for |r| ≤ ln 2 / 2.
#[inline(always)]
fn exp_of_remainder(r: f32) -> f32 {
    let mut p = 1.0 / 5040.0;
    for c in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = r.mul_add(p, c);
    }
    p
}

/// [`exp`] of a number that is at most 88, bit for bit, in two thirds of the steps.
#[inline(always)]
pub(crate) fn exp_small(x: f32) -> f32 {
    // A NaN goes through.
    let clamped = if x < -87.4 { -87.4 } else { x };
    let (n, r) = whole_and_remainder(clamped);
    let value = exp_of_remainder(r) * power_of_two(n);
    if x < SMALLEST { 0.0 } else { value }
}

/// 2^n for whole n in −126..=127; any number for others.
#[inline(always)]
fn power_of_two(n: f32) -> f32 {
    // The sum's lowest bits are n, in two's complement; the shift leaves n + 127 where the exponent stands.
    f32::from_bits((n + ROUND).to_bits().wrapping_add(127) << 23)
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function to about 4e-7 of its value: its Taylor series near 0, a continued exponential form elsewhere.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    // Near zero: x times a polynomial in x² (the Taylor series of erf, 2/√π · Σ (−1)ⁿ x²ⁿ⁺¹ / (n! (2n+1))).
    let t = x * x;
    let mut near = 0.0f32;
    for c in [
        1.0 / 76_204_800.0,
        -1.0 / 6_894_720.0,
        1.0 / 685_440.0,
        -1.0 / 75_600.0,
        1.0 / 9_360.0,
        -1.0 / 1_320.0,
        1.0 / 216.0,
        -1.0 / 42.0,
        1.0 / 10.0,
        -1.0 / 3.0,
        1.0,
    ] {
        near = near.mul_add(t, c);
    }
    let near = std::f32::consts::FRAC_2_SQRT_PI * x * near;
    // Farther out: Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7).
    let a = x.abs();
    let k = 1.0 / 0.327_591_1f32.mul_add(a, 1.0);
    let mut p = 1.061_405_4f32;
    for c in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        p = p.mul_add(k, c);
    }
    let far = (1.0 - p * k * exp(-t)).copysign(x);
    if a < 0.9 { near } else { far }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_of_the_exact_value() {
        let mut worst = 0.0f64;
        for i in -872_000..887_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            if exact < f64::from(f32::MIN_POSITIVE) {
                continue;
            }
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.5e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(1000.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn exp_small_is_exp() {
        for i in -900_000..=10_000 {
            let x = i as f32 * 1e-4;
            assert_eq!(exp(x).to_bits(), exp_small(x).to_bits(), "{x}");
        }
        assert_eq!(exp_small(f32::NEG_INFINITY), 0.0);
        assert!(exp_small(f32::NAN).is_nan());
    }

    #[test]
    fn erf_is_close() {
        // Reference values by numerical integration in f64.
        for i in -400..=400 {
            let x = f64::from(i) * 0.01;
            let steps = 2000;
            let h = x / f64::from(steps);
            let f = |t: f64| (-t * t).exp();
            let mut sum = f(0.0) + f(x);
            for j in 1..steps {
                sum += f(h * f64::from(j)) * if j % 2 == 1 { 4.0 } else { 2.0 };
            }
            let exact = sum * h / 3.0 * std::f64::consts::FRAC_2_SQRT_PI;
            let found = f64::from(erf(x as f32));
            assert!(
                (found - exact).abs() < 6e-7,
                "erf({x}) = {exact}, found {found}"
            );
        }
    }
}
