//! Aggregates that estimate in little memory. They merge in any order, and give the same answer
//! whatever it was; how far off they may be is known.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use datasketches::hll::{HllSketch, HllType, HllUnion};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sketches_ddsketch::{Config, DDSketch};

use super::aggregate::Aggregate;
use super::several::Neutral;
use crate::number::Float;

/// About how many different values there are: within 2% in two cases of three, and exactly or
/// nearly so up to some hundreds (`HyperLogLog` of 4096 registers, at most about 4 KiB).
pub fn approx_distinct<T, V: Hash, F: Fn(&T) -> V>(value: F) -> ApproxDistinct<F, V> {
    ApproxDistinct {
        value,
        of: PhantomData,
    }
}

/// About the value below which a share of the values lies, such as 0.99: within 1% of that value
/// (a `DDSketch` of at most 2048 counters). A share below 0 or above 1 is taken as 0 or 1.
pub fn quantile<T, F: Fn(&T) -> f64>(share: f64, value: F) -> Quantile<F> {
    let share = share.clamp(0.0, 1.0);
    Quantile { share, value }
}

/// How many different values there are, about.
pub struct ApproxDistinct<F, V> {
    value: F,
    of: PhantomData<fn() -> V>,
}

impl<F: Clone, V> Clone for ApproxDistinct<F, V> {
    fn clone(&self) -> Self {
        ApproxDistinct {
            value: self.value.clone(),
            of: PhantomData,
        }
    }
}

/// The binary logarithm of the number of registers.
const REGISTERS: u8 = 12;

/// Different values, hashed; saved as the bytes of a `DataSketches` HLL sketch.
#[derive(Clone)]
pub struct Hashes(HllUnion);

impl Hashes {
    fn new() -> Hashes {
        Hashes(HllUnion::new(REGISTERS).expect("4 to 21 is a possible size"))
    }
}

impl fmt::Debug for Hashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hashes").field(&self.0.estimate()).finish()
    }
}

impl Serialize for Hashes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sketch = self.0.to_sketch(HllType::Hll8);
        sketch.serialize().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let mut hashes = Hashes::new();
        // Columns are traced with bytes that are no sketch; those of ours have a checksum.
        if let Ok(sketch) = HllSketch::deserialize(&bytes) {
            hashes.0.update(&sketch);
        }
        Ok(hashes)
    }
}

impl<T, V: Hash + 'static, F: Fn(&T) -> V + 'static> Aggregate<T> for ApproxDistinct<F, V> {
    const NAME: &'static str = "approx-distinct";
    type Acc = Hashes;
    type Out = u64;

    fn one(&self, item: &T) -> Hashes {
        let mut hashes = Hashes::new();
        hashes.0.update_value((self.value)(item));
        hashes
    }
    fn merge(&self, acc: &mut Hashes, other: &Hashes) {
        acc.0.update(&other.0.to_sketch(HllType::Hll8));
    }
    fn add(&self, acc: &mut Hashes, item: &T) {
        acc.0.update_value((self.value)(item));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate is not negative, and far below 2^64"
    )]
    fn finish(&self, acc: &Hashes) -> u64 {
        // Not the running estimate, which depends on the order in which values came.
        acc.0.composite_estimate().round() as u64
    }
}

impl<T, V: Hash + 'static, F: Fn(&T) -> V + 'static> Neutral<T> for ApproxDistinct<F, V> {
    fn none(&self) -> Hashes {
        Hashes::new()
    }
}

/// The value below which a share of the values lies, about.
#[derive(Clone, Copy, Debug)]
pub struct Quantile<F> {
    share: f64,
    value: F,
}

/// Values, counted by size.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sizes(DDSketch);

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sizes").field(&self.0.count()).finish()
    }
}

impl<T, F: Fn(&T) -> f64 + 'static> Aggregate<T> for Quantile<F> {
    const NAME: &'static str = "quantile";
    type Acc = Sizes;
    type Out = Float;

    fn one(&self, item: &T) -> Sizes {
        let mut sizes = DDSketch::new(Config::defaults());
        sizes.add((self.value)(item));
        Sizes(sizes)
    }
    fn merge(&self, acc: &mut Sizes, other: &Sizes) {
        acc.0
            .merge(&other.0)
            .expect("all sketches are made with one configuration");
    }
    fn add(&self, acc: &mut Sizes, item: &T) {
        acc.0.add((self.value)(item));
    }
    fn finish(&self, acc: &Sizes) -> Float {
        let value = acc.0.quantile(self.share).ok().flatten();
        Float(value.unwrap_or_default())
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "the numbers are small")]
mod tests {
    use super::*;
    use crate::columns::{from_batch, to_batch};

    /// Aggregates the numbers below `n` in parts, in an order of their own.
    fn all<A: Aggregate<u64>>(aggregate: &A, n: u64, step: u64, parts: usize) -> A::Acc {
        let ordered: Vec<u64> = (0..n).map(|i| i * step % n).collect();
        let size = ordered.len().div_ceil(parts);
        let fold = |items: &[u64]| {
            let mut accs = items.iter().map(|item| aggregate.one(item));
            let mut acc = accs.next().expect("a part has items");
            accs.for_each(|one| aggregate.merge(&mut acc, &one));
            acc
        };
        let mut accs = ordered.chunks(size).map(fold);
        let mut acc = accs.next().expect("there are parts");
        accs.for_each(|part| aggregate.merge(&mut acc, &part));
        acc
    }

    #[test]
    fn distinct_counts_are_near_and_do_not_depend_on_the_order() {
        let aggregate = approx_distinct(|n: &u64| *n);
        for n in [1, 10, 100, 997, 9973] {
            let expected = aggregate.finish(&all(&aggregate, n, 1, 1));
            let error = (expected as f64 - n as f64).abs() / n as f64;
            assert!(error < 0.05, "{expected} of {n}");
            for (step, parts) in [(1, 2), (7, 1), (31, 3)] {
                let acc = all(&aggregate, n, step, parts);
                assert_eq!(aggregate.finish(&acc), expected, "{n} by {step} in {parts}");
                let saved = to_batch(&[(acc,)]).expect("it has columns");
                let restored: Vec<(Hashes,)> = from_batch(&saved).expect("they are its own");
                assert_eq!(aggregate.finish(&restored[0].0), expected, "{n} restored");
            }
        }
    }

    #[test]
    fn quantiles_are_near_and_do_not_depend_on_the_order() {
        for share in [0.0, 0.5, 0.99, 1.0] {
            let aggregate = quantile(share, |n: &u64| *n as f64 + 1.0);
            let n = 9973;
            let expected = aggregate.finish(&all(&aggregate, n, 1, 1));
            let exact = 1.0 + share * (n - 1) as f64;
            assert!(
                (expected.0 - exact).abs() <= exact * 0.011,
                "{expected:?} of {exact}"
            );
            for (step, parts) in [(1, 2), (7, 1), (31, 3)] {
                let acc = all(&aggregate, n, step, parts);
                assert_eq!(aggregate.finish(&acc), expected);
                let saved = to_batch(&[(acc,)]).expect("it has columns");
                let restored: Vec<(Sizes,)> = from_batch(&saved).expect("they are its own");
                assert_eq!(aggregate.finish(&restored[0].0), expected);
            }
        }
    }
}
