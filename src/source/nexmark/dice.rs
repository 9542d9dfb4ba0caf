//! Numbers that look random: splitmix64, begun anew for each event.

/// What dice are thrown for: each has its own run of numbers.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Event = 1,
    HotUrl = 2,
    Url = 3,
    Delay = 4,
}

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A run of numbers, fixed by its seed, purpose and number.
pub(super) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, purpose: Purpose, n: u64) -> Dice {
        let own = mix(n.wrapping_add((purpose as u64) << 56));
        Dice(mix(seed.wrapping_mul(STEP).wrapping_add(own)))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number from 0 to `bound`, exclusive.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// One of several.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).expect("it is below a length")]
    }

    /// A fraction from 0 to 1, exclusive.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of 26 letters, taken from bits that `rest` holds as a number.
    pub fn letter(rest: u64) -> u8 {
        b'a' + u8::try_from(rest % 26).expect("it is below 26")
    }
}

fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
