//! Floats that order and sum exactly, so that no answer depends on the order of its input.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// A float with a total order (IEEE 754 `totalOrder`), fit for keys and values.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Float(pub f64);

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Float {}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// The exact sum of any finite floats in any order: a fixed-point number of limbs of 32 bits over
/// the whole range of a double (a Kulisch accumulator), of which only the used limbs are kept.
/// Rounded once, when read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactSum {
    /// `(limb, value)`, ascending by limb: the sum of `value * 2^(32 * limb - 1088)`. Values may
    /// be negative and wider than 32 bits, up to 2^42 additions before a carry is due.
    limbs: Vec<(u8, i64, u64)>,
}

/// The exponent of limb 0: below the smallest subnormal, and a multiple of 32.
const LOWEST: i32 = -1088;

impl ExactSum {
    /// Adds a finite float; NaN and infinities, which decoding refuses, are ignored.
    pub fn add(&mut self, number: f64) {
        if number == 0.0 || !number.is_finite() {
            return;
        }
        let bits = number.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, exponent) = if exponent == 0 {
            (fraction, -1074)
        } else {
            (fraction | 1 << 52, exponent - 1075)
        };
        let above = exponent - LOWEST;
        let limb = u8::try_from(above / 32).expect("a double spans 66 limbs");
        let value = i128::from(mantissa) << (above % 32);
        self.add_limb(limb, if number < 0.0 { -value } else { value });
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &ExactSum) {
        for &(limb, high, low) in &other.limbs {
            self.add_limb(limb, joined(high, low));
        }
    }

    fn add_limb(&mut self, limb: u8, value: i128) {
        match self.limbs.binary_search_by_key(&limb, |(limb, ..)| *limb) {
            Ok(at) => {
                let (_, high, low) = &mut self.limbs[at];
                let sum = joined(*high, *low) + value;
                (*high, *low) = split(sum);
            }
            Err(at) => {
                let (high, low) = split(value);
                self.limbs.insert(at, (limb, high, low));
            }
        }
    }

    /// The sum, rounded to the nearest double, ties to even.
    pub fn value(&self) -> f64 {
        let mut digits = [0_u32; 72];
        let mut carry = 0_i128;
        let mut limbs = self.limbs.iter().peekable();
        for (place, digit) in digits.iter_mut().enumerate() {
            if let Some((_, high, low)) = limbs.next_if(|(limb, ..)| usize::from(*limb) == place) {
                carry += joined(*high, *low);
            }
            *digit = low_half(carry);
            carry >>= 32;
        }
        // What is left is the sign: two's complement over all digits.
        let negative = carry < 0;
        if negative {
            let mut add = 1_u32;
            for digit in &mut digits {
                let (flipped, overflows) = (!*digit).overflowing_add(add);
                *digit = flipped;
                add = u32::from(overflows);
            }
        }
        let magnitude = rounded(&digits);
        if negative { -magnitude } else { magnitude }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the lowest 32 bits, whatever the sign"
)]
fn low_half(value: i128) -> u32 {
    value as u32
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the two halves"
)]
fn split(value: i128) -> (i64, u64) {
    ((value >> 64) as i64, value as u64)
}

fn joined(high: i64, low: u64) -> i128 {
    i128::from(high) << 64 | i128::from(low)
}

/// The nearest double to a non-negative fixed-point number, ties to even.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a bit's place is below 72 * 32, and a mantissa is at most 2^53"
)]
fn rounded(digits: &[u32; 72]) -> f64 {
    let Some(top) = digits.iter().rposition(|digit| *digit != 0) else {
        return 0.0;
    };
    let bit = |at: i32| at >= 0 && digits[(at / 32) as usize] >> (at % 32) & 1 == 1;
    let highest = top as i32 * 32 + 31 - digits[top].leading_zeros() as i32;
    // The lowest bit kept: 53 bits below the highest, but none below the smallest subnormal.
    let lowest = (highest - 52).max(-1074 - LOWEST);
    let mantissa = (lowest..=highest)
        .rev()
        .fold(0_u64, |mantissa, at| mantissa << 1 | u64::from(bit(at)));
    let half = bit(lowest - 1);
    let beyond = (0..lowest - 1).any(bit);
    let up = half && (beyond || mantissa & 1 == 1);
    // A double holds mantissas up to 2^53; the scaling is exact but for the range's end.
    let mantissa = (mantissa + u64::from(up)) as f64;
    let exponent = lowest + LOWEST;
    // Two steps, because 2^-1074 and 2^971 are not both in reach of one factor.
    let half_way = exponent / 2;
    mantissa * 2_f64.powi(half_way) * 2_f64.powi(exponent - half_way)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these sums are exact, to the last bit")]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn finite() -> impl Strategy<Value = f64> {
        proptest::num::f64::ANY.prop_filter("finite", |number| number.is_finite())
    }

    fn sum(numbers: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        for number in numbers {
            sum.add(*number);
        }
        sum.value()
    }

    #[test]
    fn sums_are_exact() {
        assert!(
            sum(&[0.1, 0.2, -0.3]) > 0.0,
            "the exact sum of three doubles is not 0"
        );
        assert_eq!(sum(&[1e308, 1.0, -1e308]), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
        assert_eq!(sum(&[1.0, f64::EPSILON / 2.0]), 1.0);
        assert_eq!(sum(&[1.0, f64::EPSILON / 2.0, 5e-324]), 1.0 + f64::EPSILON);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[]), 0.0);
    }

    proptest! {
        #[test]
        fn one_number_is_itself(number in finite()) {
            prop_assert_eq!(sum(&[number]), number);
        }

        #[test]
        fn order_does_not_matter(mut numbers in vec(-1e300_f64..1e300, 0..40)) {
            let forward = sum(&numbers);
            numbers.reverse();
            prop_assert_eq!(forward.to_bits(), sum(&numbers).to_bits());
        }

        #[test]
        fn integers_sum_like_integers(numbers in vec(-1_000_000_i32..1_000_000, 0..100)) {
            let floats: Vec<f64> = numbers.iter().map(|n| f64::from(*n)).collect();
            prop_assert_eq!(sum(&floats), f64::from(numbers.iter().sum::<i32>()));
        }

        #[test]
        fn a_number_and_its_negative_cancel(rest in -1e9_f64..1e9, gone in -1e300_f64..1e300) {
            prop_assert_eq!(sum(&[gone, rest, -gone]), rest);
        }
    }
}
