//! Sets of values whose copies share what they have in common, so that a boundary can hand out a
//! large set as it is now and go on changing it at the price of the change.
//!
//! A set is a trie over the hashes of its values. A copy is a pointer; adding a value copies the
//! nodes on its way that another copy holds, too, and none if the set is alone. Hashes are seeded
//! by the process, and their order never shows: values are written sorted.

use std::collections::BTreeSet;
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

/// Different values.
#[derive(Clone)]
pub struct Values<V> {
    len: usize,
    root: Node<V>,
}

#[derive(Clone)]
enum Node<V> {
    Empty,
    One(V),
    /// Values whose hashes have begun alike so far.
    Leaf(Arc<Vec<V>>),
    Branch(Arc<[Node<V>; WIDTH]>),
}

impl<V> Default for Values<V> {
    fn default() -> Values<V> {
        Values {
            len: 0,
            root: Node::Empty,
        }
    }
}

impl<V> Values<V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<V: Hash + Eq + Clone> Values<V> {
    /// A set of one value.
    pub fn one(value: V) -> Values<V> {
        Values {
            len: 1,
            root: Node::One(value),
        }
    }

    /// Adds a value, if it is not there.
    pub fn insert(&mut self, value: V) {
        let hash = HASHER.hash_one(&value);
        if !self.root.has(&value, hash) {
            self.root.push(value, hash, 0);
            self.len += 1;
        }
    }

    /// Adds those of another set.
    pub fn merge(&mut self, other: &Values<V>) {
        // What is alike is shared with the larger one.
        if self.len < other.len {
            let smaller = std::mem::replace(self, other.clone());
            smaller.root.each(&mut |value| self.insert(value.clone()));
        } else {
            other.root.each(&mut |value| self.insert(value.clone()));
        }
    }
}

impl<V: Hash + Eq + Clone> Node<V> {
    fn has(&self, value: &V, mut hash: u64) -> bool {
        let mut node = self;
        loop {
            match node {
                Node::Empty => return false,
                Node::One(one) => return one == value,
                Node::Leaf(values) => return values.contains(value),
                Node::Branch(nodes) => {
                    node = &nodes[place(hash)];
                    hash >>= BITS;
                }
            }
        }
    }

    /// Adds a value that is not there. Of its hash `used` bits were looked at, and are gone.
    fn push(&mut self, value: V, hash: u64, used: u32) {
        match self {
            Node::Empty => *self = Node::One(value),
            Node::One(one) => *self = Node::Leaf(Arc::new(vec![one.clone(), value])),
            // Of values whose whole hashes are alike, there is no telling apart.
            Node::Leaf(values) if values.len() < LEAF || used + BITS > u64::BITS => {
                Arc::make_mut(values).push(value);
            }
            Node::Leaf(values) => {
                let mut nodes = [const { Node::Empty }; WIDTH];
                let values = Arc::unwrap_or_clone(std::mem::take(values));
                for value in values.into_iter().chain([value]) {
                    let hash = HASHER.hash_one(&value) >> used;
                    nodes[place(hash)].push(value, hash >> BITS, used + BITS);
                }
                *self = Node::Branch(Arc::new(nodes));
            }
            Node::Branch(nodes) => {
                let node = &mut Arc::make_mut(nodes)[place(hash)];
                node.push(value, hash >> BITS, used + BITS);
            }
        }
    }
}

impl<V> Node<V> {
    fn each<'v>(&'v self, logic: &mut impl FnMut(&'v V)) {
        match self {
            Node::Empty => {}
            Node::One(one) => logic(one),
            Node::Leaf(values) => values.iter().for_each(logic),
            Node::Branch(nodes) => nodes.iter().for_each(|node| node.each(logic)),
        }
    }
}

/// Where in a branch the rest of a hash belongs.
#[allow(clippy::cast_possible_truncation, reason = "only its last bits count")]
fn place(hash: u64) -> usize {
    hash as usize % WIDTH
}

impl<V: Ord> Values<V> {
    fn sorted(&self) -> BTreeSet<&V> {
        let mut sorted = BTreeSet::new();
        self.root.each(&mut |value| {
            sorted.insert(value);
        });
        sorted
    }
}

impl<V: Ord + fmt::Debug> fmt::Debug for Values<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sorted().fmt(f)
    }
}

impl<V: Ord + Serialize> Serialize for Values<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.sorted().serialize(serializer)
    }
}

impl<'de, V: Hash + Eq + Clone + Deserialize<'de>> Deserialize<'de> for Values<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Values::default();
        for value in Vec::<V>::deserialize(deserializer)? {
            values.insert(value);
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

    fn holds<V: Hash + Ord + Clone + fmt::Debug>(
        parts: &[Vec<V>],
        copied_after: usize,
    ) -> Result<(), TestCaseError> {
        let (mut all, mut naive) = (Values::default(), BTreeSet::new());
        let mut copy = None;
        for (at, part) in parts.iter().enumerate() {
            let mut values = Values::default();
            for value in part {
                values.insert(value.clone());
                naive.insert(value.clone());
            }
            all.merge(&values);
            prop_assert_eq!(all.len(), naive.len());
            prop_assert_eq!(all.sorted(), naive.iter().collect());
            if at == copied_after {
                copy = Some((all.clone(), naive.clone()));
            }
        }
        if let Some((values, naive)) = copy {
            prop_assert_eq!(
                values.sorted(),
                naive.iter().collect(),
                "a copy stays as it was"
            );
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_set_is_what_was_added(
            parts in prop::collection::vec(prop::collection::vec(0..3000_u16, 0..400), 1..8),
            copied_after in 0..8_usize,
        ) {
            holds(&parts, copied_after)?;
            let alike = |part: &Vec<u16>| part.iter().copied().map(Alike).collect();
            let alike: Vec<Vec<Alike>> = parts.iter().map(alike).collect();
            holds(&alike, copied_after)?;
        }
    }

    #[test]
    fn it_is_written_in_order_and_read_back() {
        let mut values = Values::default();
        (0..1000_u32).for_each(|n| values.insert(n * 7919 % 1000));
        let json = serde_json::to_string(&values).expect("numbers are JSON");
        let sorted: Vec<u32> = (0..1000).collect();
        assert_eq!(
            json,
            serde_json::to_string(&sorted).expect("numbers are JSON")
        );
        let read: Values<u32> = serde_json::from_str(&json).expect("they are its own");
        assert_eq!(read.sorted(), values.sorted());
    }
}
