//! Aggregates made of others: several at once, of some of the items, of different values.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::aggregate::{Aggregate, Average, Count, Max, Min, Of, Sum, Summand};
use super::values::{Kinds, Values};

/// How many items.
///
/// Several aggregates are asked at once as a tuple, each of all items or of those a filter keeps:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use waterclock::prelude::*;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # struct Bid { lot: u32, who: Text, price: i64, at: Timestamp }
/// # impl Event for Bid {
/// #     const STREAM: &'static str = "bids";
/// #     fn time(&self) -> Timestamp { self.at }
/// # }
/// fn lots(flow: Flow) -> Table<u32, (u64, u64, i64, u64)> {
///     flow.stream::<Bid>().key_by(|bid| bid.lot).forever().aggregate((
///         count(),
///         count().filter(|bid: &Bid| bid.price >= 100),
///         max(|bid: &Bid| bid.price),
///         distinct(|bid: &Bid| bid.who.clone()),
///     ))
/// }
/// # let answer = waterclock::testing::batch(Query::new("lots", "", lots), &[(
/// #     "bids",
/// #     r#"{"lot":1,"who":"a","price":30,"at":0}
/// #        {"lot":1,"who":"b","price":120,"at":0}
/// #        {"lot":1,"who":"a","price":99,"at":1}"#,
/// # )]);
/// # assert_eq!(answer, [r#"{"key":1,"value":[3,1,120,2]}"#]);
/// ```
pub fn count() -> Count {
    Count
}

/// The sum of a number; exact, whatever the order.
pub fn sum<T, N: Summand, F: Fn(&T) -> N>(number: F) -> Of<F, N, Sum> {
    Of::new(number)
}

/// The mean of a number: the exact sum, divided once.
pub fn avg<T, N: Summand, F: Fn(&T) -> N>(number: F) -> Of<F, N, Average> {
    Of::new(number)
}

/// The least of a value.
pub fn min<T, V: Ord, F: Fn(&T) -> V>(value: F) -> Of<F, V, Min> {
    Of::new(value)
}

/// The greatest of a value.
pub fn max<T, V: Ord, F: Fn(&T) -> V>(value: F) -> Of<F, V, Max> {
    Of::new(value)
}

/// How many different values there are, exactly: all of them are kept. Where they are many,
/// `count_distinct` of a stage keeps each as a row of its own.
pub fn distinct<T, V: Ord, F: Fn(&T) -> V>(value: F) -> Distinct<F, V> {
    Distinct {
        value,
        of: PhantomData,
    }
}

/// An aggregate that has an answer for no items at all, and so can be asked of some of them.
#[diagnostic::on_unimplemented(
    message = "this aggregate of `{T}` has no answer where a filter keeps nothing",
    note = "`count()`, `sum(..)` and `distinct(..)` can be filtered; instead of a filtered \
            maximum take `max(|item| (keeps(item)).then_some(value(item)))`"
)]
pub trait Neutral<T>: Aggregate<T> {
    /// What is kept of no items.
    fn none(&self) -> Self::Acc;

    /// The same of those items that `keeps` says.
    fn filter<F: Fn(&T) -> bool + 'static>(self, keeps: F) -> Filtered<Self, F>
    where
        Self: Sized,
    {
        Filtered { of: self, keeps }
    }
}

impl<T> Neutral<T> for Count {
    fn none(&self) -> u64 {
        0
    }
}

impl<T, N: Summand, F: Fn(&T) -> N + 'static> Neutral<T> for Of<F, N, Sum> {
    fn none(&self) -> N::Acc {
        N::Acc::default()
    }
}

/// An aggregate of some of the items.
#[derive(Clone, Copy, Debug)]
pub struct Filtered<A, F> {
    of: A,
    keeps: F,
}

impl<T, A: Neutral<T>, F: Fn(&T) -> bool + 'static> Aggregate<T> for Filtered<A, F> {
    const NAME: &'static str = "filtered";
    type Acc = A::Acc;
    type Out = A::Out;

    fn name(&self) -> String {
        format!("filtered-{}", self.of.name())
    }
    fn one(&self, item: &T) -> A::Acc {
        if (self.keeps)(item) {
            self.of.one(item)
        } else {
            self.of.none()
        }
    }
    fn merge(&self, acc: &mut A::Acc, other: &A::Acc) {
        self.of.merge(acc, other);
    }
    fn add(&self, acc: &mut A::Acc, item: &T) {
        if (self.keeps)(item) {
            self.of.add(acc, item);
        }
    }
    fn finish(&self, acc: &A::Acc) -> A::Out {
        self.of.finish(acc)
    }
}

impl<T, A: Neutral<T>, F: Fn(&T) -> bool + 'static> Neutral<T> for Filtered<A, F> {
    fn none(&self) -> A::Acc {
        self.of.none()
    }
}

/// How many different values there are.
pub struct Distinct<F, V> {
    value: F,
    of: PhantomData<fn() -> V>,
}

impl<F: Clone, V> Clone for Distinct<F, V> {
    fn clone(&self) -> Self {
        Distinct {
            value: self.value.clone(),
            of: PhantomData,
        }
    }
}

impl<T, V, F> Aggregate<T> for Distinct<F, V>
where
    V: Ord + Hash + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    F: Fn(&T) -> V + 'static,
{
    const NAME: &'static str = "distinct";
    type Acc = Values<V>;
    type Out = u64;

    fn one(&self, item: &T) -> Values<V> {
        Values::one((self.value)(item), ())
    }
    fn merge(&self, acc: &mut Values<V>, other: &Values<V>) {
        acc.merge(other);
    }
    fn add(&self, acc: &mut Values<V>, item: &T) {
        acc.insert((self.value)(item), ());
    }
    fn finish(&self, acc: &Values<V>) -> u64 {
        acc.len() as u64
    }
}

impl<T, V, F> Neutral<T> for Distinct<F, V>
where
    V: Ord + Hash + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    F: Fn(&T) -> V + 'static,
{
    fn none(&self) -> Values<V> {
        Values::default()
    }
}

impl<F, V> Distinct<F, V> {
    /// How many different values there are among the items that each of `kinds` keeps. A value is
    /// kept once, however many of them keep it: less work than a filtered `distinct` for each.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct Bid { lot: u32, who: Text, price: i64, at: Timestamp }
    /// # impl Event for Bid {
    /// #     const STREAM: &'static str = "bids";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// /// Who bid, and who bid a hundred or more.
    /// fn bidders(flow: Flow) -> Table<u32, [u64; 2]> {
    ///     let bids = flow.stream::<Bid>().key_by(|bid| bid.lot).forever();
    ///     bids.aggregate(distinct(|bid: &Bid| bid.who.clone()).among([
    ///         |_| true,
    ///         |bid| bid.price >= 100,
    ///     ]))
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("bidders", "", bidders), &[(
    /// #     "bids",
    /// #     r#"{"lot":1,"who":"a","price":30,"at":0}
    /// #        {"lot":1,"who":"b","price":120,"at":0}
    /// #        {"lot":1,"who":"a","price":99,"at":1}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":1,"value":[2,1]}"#]);
    /// ```
    pub fn among<T, const N: usize>(self, kinds: [fn(&T) -> bool; N]) -> Among<F, V, T, N>
    where
        F: Fn(&T) -> V,
    {
        const { assert!(N <= 32, "at most 32 kinds") };
        Among {
            distinct: self,
            kinds,
        }
    }
}

/// How many different values there are of several kinds.
pub struct Among<F, V, T, const N: usize> {
    distinct: Distinct<F, V>,
    kinds: [fn(&T) -> bool; N],
}

impl<F, V, T, const N: usize> Among<F, V, T, N> {
    /// Of which kinds an item is.
    fn kinds(&self, item: &T) -> Kinds<N> {
        let kinds = self.kinds.iter().enumerate();
        Kinds(kinds.fold(0, |all, (kind, keeps)| all | u32::from(keeps(item)) << kind))
    }
}

impl<T, V, F, const N: usize> Aggregate<T> for Among<F, V, T, N>
where
    T: 'static,
    V: Ord + Hash + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    F: Fn(&T) -> V + 'static,
{
    type Acc = Values<V, Kinds<N>>;
    type Out = [u64; N];

    fn name(&self) -> String {
        format!("distinct-among-{N}")
    }
    fn one(&self, item: &T) -> Self::Acc {
        match self.kinds(item) {
            Kinds(0) => Values::default(),
            kinds => Values::one((self.distinct.value)(item), kinds),
        }
    }
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
        acc.merge(other);
    }
    fn add(&self, acc: &mut Self::Acc, item: &T) {
        let kinds = self.kinds(item);
        if kinds.0 != 0 {
            acc.insert((self.distinct.value)(item), kinds);
        }
    }
    fn finish(&self, acc: &Self::Acc) -> [u64; N] {
        *acc.counts()
    }
}

impl<T, V, F, const N: usize> Neutral<T> for Among<F, V, T, N>
where
    T: 'static,
    V: Ord + Hash + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    F: Fn(&T) -> V + 'static,
{
    fn none(&self) -> Self::Acc {
        Values::default()
    }
}

macro_rules! several {
    ($($part:ident $at:tt),*) => {
        /// Several at once.
        impl<T, $($part: Aggregate<T>),*> Aggregate<T> for ($($part,)*) {
            const NAME: &'static str = "several";
            type Acc = ($($part::Acc,)*);
            type Out = ($($part::Out,)*);

            fn name(&self) -> String {
                let parts = [$(self.$at.name()),*].join("+");
                format!("several-{:08x}", crc32fast::hash(parts.as_bytes()))
            }
            fn one(&self, item: &T) -> Self::Acc {
                ($(self.$at.one(item),)*)
            }
            fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
                $(self.$at.merge(&mut acc.$at, &other.$at);)*
            }
            fn add(&self, acc: &mut Self::Acc, item: &T) {
                $(self.$at.add(&mut acc.$at, item);)*
            }
            fn finish(&self, acc: &Self::Acc) -> Self::Out {
                ($(self.$at.finish(&acc.$at),)*)
            }
        }

        impl<T, $($part: Neutral<T>),*> Neutral<T> for ($($part,)*) {
            fn none(&self) -> Self::Acc {
                ($(self.$at.none(),)*)
            }
        }
    };
}

several!(A 0, B 1);
several!(A 0, B 1, C 2);
several!(A 0, B 1, C 2, D 3);
several!(A 0, B 1, C 2, D 3, E 4);
several!(A 0, B 1, C 2, D 3, E 4, F 5);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
