//! Accumulators: what a window keeps of its events. Each merges commutatively, so that neither
//! order, nor batching, nor the number of workers can change a result.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::Wide;
use crate::number::{ExactSum, Float};

/// What is kept of a window's items, and the result read from it.
///
/// `merge` must be commutative and associative; results then depend on nothing but the items.
/// A panic in `one` rejects the item; a panic elsewhere fails the query.
pub trait Aggregate<T>: 'static {
    /// Names the aggregate in the window's saved state: accumulators of one name must mean the
    /// same. State saved under another name is not read.
    const NAME: &'static str = "aggregate";
    /// What is kept; saved in checkpoints by its named fields.
    type Acc: Clone + Debug + Serialize + DeserializeOwned + Send + 'static;
    /// The result.
    type Out;

    /// The name, where it is not a constant.
    fn name(&self) -> String {
        Self::NAME.to_owned()
    }

    /// What is kept of one item.
    fn one(&self, item: &T) -> Self::Acc;
    /// Adds the items of another accumulator.
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);
    /// Adds an item: merging [`one`](Aggregate::one), or something faster that does the same.
    /// Should it panic, the accumulator is thrown away.
    fn add(&self, acc: &mut Self::Acc, item: &T) {
        self.merge(acc, &self.one(item));
    }
    /// The result so far.
    fn finish(&self, acc: &Self::Acc) -> Self::Out;
}

/// Counts items.
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    const NAME: &'static str = "count";
    type Acc = u64;
    type Out = u64;

    fn one(&self, _item: &T) -> u64 {
        1
    }
    fn merge(&self, acc: &mut u64, other: &u64) {
        *acc += other;
    }
    fn finish(&self, acc: &u64) -> u64 {
        *acc
    }
}

/// A number that can be summed exactly.
pub trait Summand: Copy + 'static {
    /// What the sum is kept in.
    type Acc: Clone + Debug + Default + Serialize + DeserializeOwned + Send + 'static;
    /// The type of the sum.
    type Sum;

    /// The sum of this number alone.
    fn one(self) -> Self::Acc;
    /// Adds another sum.
    fn merge(acc: &mut Self::Acc, other: &Self::Acc);
    /// The sum.
    fn sum(acc: &Self::Acc) -> Self::Sum;
    /// The sum as a float, rounded once.
    fn as_float(acc: &Self::Acc) -> f64;
}

macro_rules! integer_summands {
    ($($integer:ty),*) => {$(
        impl Summand for $integer {
            type Acc = Wide;
            type Sum = i128;

            fn one(self) -> Wide {
                Wide(i128::from(self))
            }
            fn merge(acc: &mut Wide, other: &Wide) {
                acc.0 += other.0;
            }
            fn sum(acc: &Wide) -> i128 {
                acc.0
            }
            #[allow(clippy::cast_precision_loss, reason = "rounded once, as documented")]
            fn as_float(acc: &Wide) -> f64 {
                acc.0 as f64
            }
        }
    )*};
}

integer_summands!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Summand for f64 {
    type Acc = ExactSum;
    type Sum = Float;

    fn one(self) -> ExactSum {
        let mut sum = ExactSum::default();
        sum.add(self);
        sum
    }
    fn merge(acc: &mut ExactSum, other: &ExactSum) {
        acc.merge(other);
    }
    fn sum(acc: &ExactSum) -> Float {
        Float(acc.value())
    }
    fn as_float(acc: &ExactSum) -> f64 {
        acc.value()
    }
}

/// An aggregate of a value taken from each item.
pub struct Of<F, N, A> {
    value: F,
    of: PhantomData<fn(A) -> N>,
}

impl<F, N, A> Of<F, N, A> {
    /// Aggregates what `value` takes from each item.
    pub fn new(value: F) -> Self {
        Of {
            value,
            of: PhantomData,
        }
    }
}

impl<F: Clone, N, A> Clone for Of<F, N, A> {
    fn clone(&self) -> Self {
        Of::new(self.value.clone())
    }
}

/// Marks [`Of`] as a sum.
pub enum Sum {}
/// Marks [`Of`] as an average.
pub enum Average {}
/// Marks [`Of`] as a minimum.
pub enum Min {}
/// Marks [`Of`] as a maximum.
pub enum Max {}

impl<T, N: Summand, F: Fn(&T) -> N + 'static> Aggregate<T> for Of<F, N, Sum> {
    const NAME: &'static str = "sum";
    type Acc = N::Acc;
    type Out = N::Sum;

    fn one(&self, item: &T) -> N::Acc {
        (self.value)(item).one()
    }
    fn merge(&self, acc: &mut N::Acc, other: &N::Acc) {
        N::merge(acc, other);
    }
    fn finish(&self, acc: &N::Acc) -> N::Sum {
        N::sum(acc)
    }
}

/// A count and a sum.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Mean<S> {
    count: u64,
    sum: S,
}

impl<T, N: Summand, F: Fn(&T) -> N + 'static> Aggregate<T> for Of<F, N, Average> {
    const NAME: &'static str = "avg";
    type Acc = Mean<N::Acc>;
    type Out = Float;

    fn one(&self, item: &T) -> Mean<N::Acc> {
        Mean {
            count: 1,
            sum: (self.value)(item).one(),
        }
    }
    fn merge(&self, acc: &mut Mean<N::Acc>, other: &Mean<N::Acc>) {
        acc.count += other.count;
        N::merge(&mut acc.sum, &other.sum);
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "counts beyond 2^53 round like the sum does"
    )]
    fn finish(&self, acc: &Mean<N::Acc>) -> Float {
        Float(N::as_float(&acc.sum) / acc.count as f64)
    }
}

macro_rules! extremum {
    ($marker:ty, $name:literal, $better:ident) => {
        impl<T, N, F> Aggregate<T> for Of<F, N, $marker>
        where
            N: Ord + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
            F: Fn(&T) -> N + 'static,
        {
            const NAME: &'static str = $name;
            type Acc = N;
            type Out = N;

            fn one(&self, item: &T) -> N {
                (self.value)(item)
            }
            fn merge(&self, acc: &mut N, other: &N) {
                if (&*acc).$better(other) == other {
                    acc.clone_from(other);
                }
            }
            fn finish(&self, acc: &N) -> N {
                acc.clone()
            }
        }
    };
}

extremum!(Min, "min", min);
extremum!(Max, "max", max);
