//! Whose rows a batch of changes has, where they are one worker's: others need not read it.

use std::fmt;
use std::str::FromStr;

/// The rows whose owner's hash leaves `me` when divided by `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The worker.
    pub me: u64,
    /// How many workers there are; at least 1.
    pub of: u64,
    /// How owners are hashed.
    pub hashing: u64,
}

impl Share {
    /// Whether a row of this owner is in it.
    pub fn owns(&self, owner: u64) -> bool {
        owner % self.of == self.me
    }

    /// Whether a row may be in both.
    pub fn meets(&self, other: &Share) -> bool {
        let both = greatest_divisor(self.of, other.of);
        self.hashing != other.hashing || self.me % both == other.me % both
    }

    /// Into how many parts of one size its rows fall of which the other has one, if they meet.
    pub fn parts_for(&self, other: &Share) -> u64 {
        if self.hashing == other.hashing {
            other.of / greatest_divisor(self.of, other.of)
        } else {
            other.of
        }
    }
}

/// The greatest number that divides both.
fn greatest_divisor(one: u64, other: u64) -> u64 {
    let (mut greatest, mut rest) = (one, other);
    while rest > 0 {
        (greatest, rest) = (rest, greatest % rest);
    }
    greatest
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} by {:016x}", self.me, self.of, self.hashing)
    }
}

impl FromStr for Share {
    type Err = ();

    fn from_str(text: &str) -> Result<Share, ()> {
        let (share, hashing) = text.split_once(" by ").ok_or(())?;
        let (me, of) = share.split_once('/').ok_or(())?;
        let number = |text: &str| text.parse::<u64>().map_err(drop);
        let (me, of) = (number(me)?, number(of)?);
        let hashing = u64::from_str_radix(hashing, 16).map_err(drop)?;
        (me < of).then_some(Share { me, of, hashing }).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_meet_where_some_owner_is_in_both() {
        let shares = (1..8).flat_map(|of| (0..of).map(move |me| Share { me, of, hashing: 7 }));
        let shares: Vec<Share> = shares.collect();
        for a in &shares {
            for b in &shares {
                let of_both = (0..840)
                    .filter(|owner| a.owns(*owner) && b.owns(*owner))
                    .count();
                assert_eq!(a.meets(b), of_both > 0, "{a} {b}");
                if a.meets(b) {
                    let of_one = (0..840).filter(|owner| a.owns(*owner)).count();
                    let parts = usize::try_from(a.parts_for(b)).unwrap();
                    assert_eq!(of_one, of_both * parts, "{a} {b}");
                }
                assert!(a.meets(&Share { hashing: 8, ..*b }), "nothing is known");
            }
            assert_eq!(a.to_string().parse(), Ok(*a));
        }
        for text in ["", "1/0 by 7", "2/2 by 7", "0/1", "0/1 by x"] {
            assert_eq!(text.parse::<Share>(), Err(()), "{text}");
        }
    }
}
