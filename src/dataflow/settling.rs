//! Which keys a watermark settles: no row of theirs changes any more, and what is held for their
//! sake can go. That is so in a replay, where rows are made once they are final. A service takes
//! rows back when their retention has passed, and needs what made them until then.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::time::Timestamp;

/// When rows of a key are final.
pub type FinalAt<K> = Rc<dyn Fn(&K) -> Timestamp>;

/// The keys of what is held, by the watermark that settles them.
pub struct Settling<K> {
    final_at: Option<FinalAt<K>>,
    keys: BTreeMap<i64, Vec<K>>,
}

impl<K> Default for Settling<K> {
    /// Nothing settles a key.
    fn default() -> Self {
        Settling::new(None)
    }
}

impl<K> Settling<K> {
    /// What settles a key, if anything does.
    pub fn new(final_at: Option<FinalAt<K>>) -> Settling<K> {
        Settling {
            final_at,
            keys: BTreeMap::new(),
        }
    }

    /// Something is held for the sake of the key.
    pub fn note(&mut self, key: &K)
    where
        K: Clone,
    {
        if let Some(final_at) = &self.final_at {
            let keys = self.keys.entry(final_at(key).0).or_default();
            keys.push(key.clone());
        }
    }

    /// The keys noted that the watermark settles, once.
    pub fn settled(&mut self, watermark: i64) -> impl Iterator<Item = K> + use<K> {
        let rest = watermark
            .checked_add(1)
            .map(|next| self.keys.split_off(&next));
        let settled = std::mem::replace(&mut self.keys, rest.unwrap_or_default());
        settled.into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_settles_the_keys_whose_rows_are_final() {
        let mut settling = Settling::new(Some(Rc::new(|key: &i64| Timestamp(*key)) as _));
        for key in [7, 3, i64::MAX, 3] {
            settling.note(&key);
        }
        for (watermark, keys) in [
            (2, vec![]),
            (3, vec![3, 3]),
            (i64::MAX - 1, vec![7]),
            (i64::MAX, vec![i64::MAX]),
            (i64::MAX, vec![]),
        ] {
            assert_eq!(settling.settled(watermark).collect::<Vec<_>>(), keys);
        }
    }
}
