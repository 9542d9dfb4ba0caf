//! In which order events arrive: by when they happened and how long they were on their way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::NexmarkOptions;
use super::dice::{Dice, Purpose};
use crate::time::millis_of;

/// The numbers of the events, in order of arrival. Holds the events that happened and have not
/// arrived, so at most as many as happen within the longest delay.
pub(super) struct Arrivals {
    next: u64,
    under_way: BinaryHeap<Reverse<(i64, u64)>>,
}

impl Arrivals {
    /// All of them, but the first `skipped`.
    pub fn new(options: &NexmarkOptions, skipped: u64) -> Arrivals {
        let mut arrivals = Arrivals {
            next: 0,
            under_way: BinaryHeap::new(),
        };
        if options.out_of_order.is_zero() && options.late_ppm == 0 {
            arrivals.next = skipped;
        } else {
            (0..skipped).for_each(|_| {
                arrivals.next(options);
            });
        }
        arrivals
    }

    /// The number of the event that arrives next; none after the last.
    pub fn next(&mut self, options: &NexmarkOptions) -> Option<u64> {
        loop {
            let has_more = options.events == 0 || self.next < options.events;
            let now = options.time(self.next);
            if let Some(Reverse((arrival, n))) = self.under_way.peek().copied()
                && (arrival < now || !has_more)
            {
                self.under_way.pop();
                return Some(n);
            }
            if !has_more {
                return None;
            }
            let arrival = now.saturating_add(delay(options, self.next));
            self.under_way.push(Reverse((arrival, self.next)));
            self.next += 1;
        }
    }
}

/// How long an event is on its way, in ms.
fn delay(options: &NexmarkOptions, n: u64) -> i64 {
    let usual = millis_of(options.out_of_order);
    let late = millis_of(options.late).max(1);
    let dice = &mut Dice::new(options.seed, Purpose::Delay, n);
    if dice.below(1_000_000) < options.late_ppm {
        usual.saturating_add(dice.below(late.unsigned_abs()).cast_signed())
    } else {
        dice.below(usual.unsigned_abs()).cast_signed()
    }
}
