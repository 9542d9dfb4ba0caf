//! Sets of values whose copies share what they have in common, so that a boundary can hand out a
//! large set as it is now and go on changing it at the price of the change.
//!
//! A set is a trie over the hashes of its values. A copy is a pointer; adding a value copies the
//! nodes on its way that another copy holds, too, and none if the set is alone. Hashes are seeded
//! by the process, and their order never shows: values are written sorted.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The same for all sets, which are merged.
static HASHER: LazyLock<foldhash::fast::RandomState> = LazyLock::new(Default::default);

/// How many bits of a hash a branch looks at.
const BITS: u32 = 5;
const WIDTH: usize = 1 << BITS;
/// How many values a leaf holds before it becomes a branch.
const LEAF: usize = 24;

/// What is known of a value besides that it is there: nothing, or of which [`Kinds`] it is.
pub trait Mark: Copy + Eq {
    /// How many values have each part of a mark.
    type Counts: Clone;

    /// The counts of no values.
    const NONE: Self::Counts;

    /// Both marks.
    #[must_use]
    fn and(self, other: Self) -> Self;
    /// Counts a value that had one mark, if any, and has another.
    fn count(counts: &mut Self::Counts, had: Option<Self>, has: Self);
}

impl Mark for () {
    type Counts = ();

    const NONE: () = ();

    fn and(self, (): ()) {}
    fn count((): &mut (), _had: Option<()>, (): ()) {}
}

/// Some of `N` kinds, of which there are 32 at most: a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds<const N: usize>(pub u32);

impl<const N: usize> Mark for Kinds<N> {
    type Counts = [u64; N];

    const NONE: [u64; N] = [0; N];

    fn and(self, other: Self) -> Self {
        Kinds(self.0 | other.0)
    }
    fn count(counts: &mut [u64; N], had: Option<Self>, has: Self) {
        let new = has.0 & !had.map_or(0, |had| had.0);
        for (kind, count) in counts.iter_mut().enumerate() {
            *count += u64::from(new >> kind & 1);
        }
    }
}

/// Different values, each with a mark.
#[derive(Clone)]
pub struct Values<V, M: Mark = ()> {
    len: usize,
    counts: M::Counts,
    root: Node<V, M>,
}

#[derive(Clone)]
enum Node<V, M> {
    Empty,
    One(V, M),
    /// Values whose hashes have begun alike so far.
    Leaf(Arc<Vec<(V, M)>>),
    Branch(Arc<[Node<V, M>; WIDTH]>),
}

impl<V, M: Mark> Default for Values<V, M> {
    fn default() -> Self {
        Values {
            len: 0,
            counts: M::NONE,
            root: Node::Empty,
        }
    }
}

impl<V, M: Mark> Values<V, M> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of each kind there are.
    pub fn counts(&self) -> &M::Counts {
        &self.counts
    }
}

impl<V: Hash + Eq + Clone, M: Mark> Values<V, M> {
    /// A set of one value.
    pub fn one(value: V, mark: M) -> Self {
        let mut counts = M::NONE;
        M::count(&mut counts, None, mark);
        Values {
            len: 1,
            counts,
            root: Node::One(value, mark),
        }
    }

    /// Adds those of another set.
    pub fn merge(&mut self, other: &Self) {
        // What is alike is shared with the larger one.
        if self.len < other.len {
            let smaller = std::mem::replace(self, other.clone());
            self.insert_all(&smaller);
        } else {
            self.insert_all(other);
        }
    }

    fn insert_all(&mut self, other: &Self) {
        let insert = &mut |value: &V, mark| self.insert(value.clone(), mark);
        other.root.each(insert);
    }

    /// Adds a value, if it is not there; its mark in any case.
    pub fn insert(&mut self, value: V, mark: M) {
        let hash = HASHER.hash_one(&value);
        let had = self.root.find(&value, hash);
        let has = had.map_or(mark, |had| had.and(mark));
        if had == Some(has) {
            return;
        }
        M::count(&mut self.counts, had, has);
        if had.is_some() {
            self.root.mark(&value, has, hash);
        } else {
            self.root.push(value, mark, hash, 0);
            self.len += 1;
        }
    }
}

impl<V: Hash + Eq + Clone, M: Mark> Node<V, M> {
    /// The mark of a value, if it is there.
    fn find(&self, value: &V, mut hash: u64) -> Option<M> {
        let mut node = self;
        loop {
            match node {
                Node::Empty => return None,
                Node::One(one, mark) => return (one == value).then_some(*mark),
                Node::Leaf(values) => {
                    let found = values.iter().find(|(one, _)| one == value);
                    return found.map(|(_, mark)| *mark);
                }
                Node::Branch(nodes) => {
                    node = &nodes[place(hash)];
                    hash >>= BITS;
                }
            }
        }
    }

    /// Gives a value that is there another mark.
    fn mark(&mut self, value: &V, has: M, hash: u64) {
        match self {
            Node::Empty => {}
            Node::One(_, mark) => *mark = has,
            Node::Leaf(values) => {
                let mut values = Arc::make_mut(values).iter_mut();
                if let Some((_, mark)) = values.find(|(one, _)| one == value) {
                    *mark = has;
                }
            }
            Node::Branch(nodes) => {
                Arc::make_mut(nodes)[place(hash)].mark(value, has, hash >> BITS);
            }
        }
    }

    /// Adds a value that is not there. Of its hash `used` bits were looked at, and are gone.
    fn push(&mut self, value: V, mark: M, hash: u64, used: u32) {
        match self {
            Node::Empty => *self = Node::One(value, mark),
            Node::One(one, had) => {
                *self = Node::Leaf(Arc::new(vec![(one.clone(), *had), (value, mark)]));
            }
            // Of values whose whole hashes are alike, there is no telling apart.
            Node::Leaf(values) if values.len() < LEAF || used + BITS > u64::BITS => {
                Arc::make_mut(values).push((value, mark));
            }
            Node::Leaf(values) => {
                let mut nodes = [const { Node::Empty }; WIDTH];
                let values = Arc::unwrap_or_clone(std::mem::take(values));
                for (value, mark) in values.into_iter().chain([(value, mark)]) {
                    let hash = HASHER.hash_one(&value) >> used;
                    nodes[place(hash)].push(value, mark, hash >> BITS, used + BITS);
                }
                *self = Node::Branch(Arc::new(nodes));
            }
            Node::Branch(nodes) => {
                let node = &mut Arc::make_mut(nodes)[place(hash)];
                node.push(value, mark, hash >> BITS, used + BITS);
            }
        }
    }
}

impl<V, M: Mark> Node<V, M> {
    fn each<'v>(&'v self, logic: &mut impl FnMut(&'v V, M)) {
        match self {
            Node::Empty => {}
            Node::One(one, mark) => logic(one, *mark),
            Node::Leaf(values) => values.iter().for_each(|(value, mark)| logic(value, *mark)),
            Node::Branch(nodes) => nodes.iter().for_each(|node| node.each(logic)),
        }
    }
}

/// Where in a branch the rest of a hash belongs.
#[allow(clippy::cast_possible_truncation, reason = "only its last bits count")]
fn place(hash: u64) -> usize {
    hash as usize % WIDTH
}

impl<V: Ord, M: Mark> Values<V, M> {
    fn sorted(&self) -> BTreeMap<&V, M> {
        let mut sorted = BTreeMap::new();
        self.root.each(&mut |value, mark| {
            sorted.insert(value, mark);
        });
        sorted
    }
}

impl<V: Ord + fmt::Debug, M: Mark> fmt::Debug for Values<V, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sorted().keys()).finish()
    }
}

impl<V: Ord + Serialize> Serialize for Values<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.sorted().keys())
    }
}

impl<'de, V: Hash + Eq + Clone + Deserialize<'de>> Deserialize<'de> for Values<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Values::default();
        for value in Vec::<V>::deserialize(deserializer)? {
            values.insert(value, ());
        }
        Ok(values)
    }
}

/// A value of some kinds, as it is saved.
#[derive(Serialize, Deserialize)]
struct OfKinds<V> {
    value: V,
    kinds: u32,
}

impl<V: Ord + Serialize, const N: usize> Serialize for Values<V, Kinds<N>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sorted = self.sorted().into_iter();
        serializer.collect_seq(sorted.map(|(value, Kinds(kinds))| OfKinds { value, kinds }))
    }
}

impl<'de, V, const N: usize> Deserialize<'de> for Values<V, Kinds<N>>
where
    V: Hash + Eq + Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Values::default();
        for OfKinds { value, kinds } in Vec::<OfKinds<V>>::deserialize(deserializer)? {
            values.insert(value, Kinds(kinds));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hashes badly: many values alike in all of it.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Alike(u16);

    impl Hash for Alike {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            (self.0 % 3).hash(state);
        }
    }

    type Naive<V> = BTreeMap<V, u32>;

    fn same<V: Hash + Ord + Clone + fmt::Debug>(
        values: &Values<V, Kinds<3>>,
        naive: &Naive<V>,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(values.len(), naive.len());
        let of_kind = |kind: u32| {
            naive
                .values()
                .filter(|kinds| *kinds >> kind & 1 == 1)
                .count()
        };
        let counts = [0, 1, 2].map(|kind| of_kind(kind) as u64);
        prop_assert_eq!(*values.counts(), counts);
        let sorted: Vec<_> = values.sorted().into_iter().map(|(v, k)| (v, k.0)).collect();
        let naive: Vec<_> = naive.iter().map(|(v, k)| (v, *k)).collect();
        prop_assert_eq!(sorted, naive);
        Ok(())
    }

    fn holds<V: Hash + Ord + Clone + fmt::Debug>(
        parts: &[Vec<(V, u32)>],
        copied_after: usize,
    ) -> Result<(), TestCaseError> {
        let (mut all, mut naive) = (Values::default(), Naive::new());
        let mut copy = None;
        for (at, part) in parts.iter().enumerate() {
            let mut values = Values::default();
            for (value, kinds) in part {
                values.insert(value.clone(), Kinds(*kinds));
                *naive.entry(value.clone()).or_default() |= kinds;
            }
            all.merge(&values);
            same(&all, &naive)?;
            if at == copied_after {
                copy = Some((all.clone(), naive.clone()));
            }
        }
        // A copy stays as it was.
        if let Some((all, naive)) = copy {
            same(&all, &naive)?;
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_set_is_what_was_added(
            parts in prop::collection::vec(
                prop::collection::vec((0..3000_u16, 0..8_u32), 0..400),
                1..8,
            ),
            copied_after in 0..8_usize,
        ) {
            holds(&parts, copied_after)?;
            let alike = |part: &Vec<(u16, u32)>| -> Vec<_> {
                part.iter().map(|(value, kinds)| (Alike(*value), *kinds)).collect()
            };
            let alike: Vec<_> = parts.iter().map(alike).collect();
            holds(&alike, copied_after)?;
        }
    }

    #[test]
    fn it_is_written_in_order_and_read_back() {
        let (mut values, mut kinds) = (Values::default(), Values::<u32, Kinds<2>>::default());
        for n in 0..1000_u32 {
            values.insert(n * 7919 % 1000, ());
            kinds.insert(n * 7919 % 1000, Kinds(n % 4));
        }
        let json = serde_json::to_string(&values).expect("numbers are JSON");
        let sorted: Vec<u32> = (0..1000).collect();
        assert_eq!(
            json,
            serde_json::to_string(&sorted).expect("numbers are JSON")
        );
        let read: Values<u32> = serde_json::from_str(&json).expect("they are its own");
        assert_eq!(read.sorted(), values.sorted());
        let json = serde_json::to_string(&kinds).expect("numbers are JSON");
        assert!(
            json.starts_with(r#"[{"value":0,"kinds":0},{"value":1,"kinds":"#),
            "{json}"
        );
        let read: Values<u32, Kinds<2>> = serde_json::from_str(&json).expect("they are its own");
        assert_eq!(read.sorted(), kinds.sorted());
        assert_eq!(read.counts(), kinds.counts());
    }
}
