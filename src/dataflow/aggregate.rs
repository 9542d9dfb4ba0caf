//! Accumulators: what a window keeps of its events. Each is a commutative monoid, so that neither
//! order, nor batching, nor the number of workers can change a result.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::Wide;
use crate::number::{ExactSum, Float};

/// Folds items into an accumulator and reads the result from it.
///
/// `merge` must be commutative and associative with `start` as its neutral element; results then
/// depend on nothing but the items.
pub trait Aggregate<T>: 'static {
    /// What is kept; saved in checkpoints by its named fields.
    type Acc: Clone + Debug + Serialize + DeserializeOwned + Send + 'static;
    /// The result.
    type Out;

    /// The accumulator of no items.
    fn start(&self) -> Self::Acc;
    /// Adds an item.
    fn add(&self, acc: &mut Self::Acc, item: &T);
    /// Adds the items of another accumulator.
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);
    /// The result so far.
    fn finish(&self, acc: &Self::Acc) -> Self::Out;
}

/// Counts items.
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    type Acc = u64;
    type Out = u64;

    fn start(&self) -> u64 {
        0
    }
    fn add(&self, acc: &mut u64, _item: &T) {
        *acc += 1;
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

    /// Adds a number.
    fn add(acc: &mut Self::Acc, number: Self);
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

            fn add(acc: &mut Wide, number: Self) {
                acc.0 += i128::from(number);
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

    fn add(acc: &mut ExactSum, number: f64) {
        acc.add(number);
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

/// An aggregate of a number taken from each item.
pub struct Of<F, N, A> {
    number: F,
    of: PhantomData<fn(A) -> N>,
}

impl<F, N, A> Of<F, N, A> {
    /// Aggregates what `number` takes from each item.
    pub fn new(number: F) -> Self {
        Of {
            number,
            of: PhantomData,
        }
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
    type Acc = N::Acc;
    type Out = N::Sum;

    fn start(&self) -> N::Acc {
        N::Acc::default()
    }
    fn add(&self, acc: &mut N::Acc, item: &T) {
        N::add(acc, (self.number)(item));
    }
    fn merge(&self, acc: &mut N::Acc, other: &N::Acc) {
        N::merge(acc, other);
    }
    fn finish(&self, acc: &N::Acc) -> N::Sum {
        N::sum(acc)
    }
}

/// A count and a sum.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Mean<S> {
    count: u64,
    sum: S,
}

impl<T, N: Summand, F: Fn(&T) -> N + 'static> Aggregate<T> for Of<F, N, Average> {
    type Acc = Mean<N::Acc>;
    type Out = Float;

    fn start(&self) -> Mean<N::Acc> {
        Mean {
            count: 0,
            sum: N::Acc::default(),
        }
    }
    fn add(&self, acc: &mut Mean<N::Acc>, item: &T) {
        N::add(&mut acc.sum, (self.number)(item));
        acc.count += 1;
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
        Float(N::as_float(&acc.sum) / acc.count.max(1) as f64)
    }
}

macro_rules! extremum {
    ($marker:ty, $better:ident) => {
        impl<T, N, F> Aggregate<T> for Of<F, N, $marker>
        where
            N: Ord + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
            F: Fn(&T) -> N + 'static,
        {
            type Acc = Option<N>;
            type Out = N;

            fn start(&self) -> Option<N> {
                None
            }
            fn add(&self, acc: &mut Option<N>, item: &T) {
                let number = (self.number)(item);
                *acc = Some(match acc.take() {
                    None => number,
                    Some(best) => best.$better(number),
                });
            }
            fn merge(&self, acc: &mut Option<N>, other: &Option<N>) {
                if let Some(other) = other {
                    *acc = Some(match acc.take() {
                        None => other.clone(),
                        Some(best) => best.$better(other.clone()),
                    });
                }
            }
            fn finish(&self, acc: &Option<N>) -> N {
                acc.clone().expect("a window row has at least one event")
            }
        }
    };
}

extremum!(Min, min);
extremum!(Max, max);
