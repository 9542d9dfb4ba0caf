//! Who takes final rows away once their retention has passed.
//!
//! All rows of a window go at one instant, and that may be a million. Where something is made of
//! them, the boundary takes each away, and what is made follows. Where a view alone has them, and
//! everybody can tell by when a row became final that it is gone, nobody has to: the boundary drops
//! its rows, the view lets go of its own, each at once and each a bounded run at a time afterwards.
//! See decision record 0016.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::IntoIter;

use super::feed::Mark;
use super::windows::WindowShape;
use crate::time::Timestamp;

/// Rows of windows that are forgotten in an epoch: a millisecond or two.
const RUN: usize = 8 * 1024;

/// What is known of rows that all go a set time after they became final. A clone is the same.
#[derive(Clone, Debug)]
pub struct Leave {
    /// How many ms later a row goes.
    after: i64,
    followers: Rc<Followers>,
}

/// Who has the rows. Known once the dataflow is built.
#[derive(Debug, Default)]
struct Followers {
    a_view: Cell<bool>,
    others: Cell<bool>,
}

impl Leave {
    /// Of final rows of windows: in a view they leave together, unless so many windows are kept at
    /// once that readers would have to look into too many groups of rows.
    pub fn of(shape: &WindowShape) -> Leave {
        const MOST_GROUPS: i64 = 64;
        let leave = Leave::new(shape.keep - shape.allowed);
        if shape.assigner.windows_in(shape.keep) > MOST_GROUPS {
            leave.follow();
        }
        leave
    }

    /// Rows that go once the watermark has passed their being final by so many ms.
    pub fn new(after: i64) -> Leave {
        Leave {
            after,
            followers: Rc::default(),
        }
    }

    /// Something is made of the rows.
    pub fn follow(&self) {
        self.followers.others.set(true);
    }

    /// A view shows the rows.
    pub fn show(&self) {
        self.followers.a_view.set(true);
    }

    /// Whether views alone have the rows: then these leave there without being taken away.
    pub fn is_left_to_views(&self) -> bool {
        self.followers.a_view.get() && !self.followers.others.get()
    }
}

/// The instants up to which rows have left, epoch by epoch; the same on every worker.
#[derive(Debug)]
pub struct Passing {
    after: i64,
    /// The watermark after the epoch before; of none before the first, which is shown as it was.
    before: Option<i64>,
    passed: i64,
}

impl Passing {
    /// Begins with the first epoch.
    pub fn new(leave: &Leave) -> Passing {
        Passing {
            after: leave.after,
            before: None,
            passed: i64::MIN,
        }
    }

    /// Goes on by an epoch, with the watermark after it. Gives the instant such that rows leave
    /// that became final up to it, if it is later than the last. A row was final before the epoch
    /// in which it leaves (decision record 0010).
    pub fn advance(&mut self, mark: Mark, watermark: i64) -> Option<Timestamp> {
        let before = self.before.replace(watermark)?;
        // A window [.., end) is final at end - 1, and its time is up at end + what it is kept.
        let due = watermark.saturating_sub(self.after).saturating_sub(1);
        let due = due.min(before);
        if mark == Mark::End || due <= self.passed {
            return None;
        }
        self.passed = due;
        Some(Timestamp(due))
    }
}

/// Rows of windows that are not there any more, until they are forgotten.
#[derive(Debug)]
pub struct Forgetting<K, A> {
    windows: VecDeque<(i64, IntoIter<(K, A)>)>,
    rows: usize,
}

impl<K, A> Default for Forgetting<K, A> {
    fn default() -> Self {
        Forgetting {
            windows: VecDeque::new(),
            rows: 0,
        }
    }
}

impl<K, A> Forgetting<K, A> {
    /// Takes the rows of a window, known by its start.
    pub fn add(&mut self, start: i64, rows: Vec<(K, A)>) {
        self.rows += rows.len();
        self.windows.push_back((start, rows.into_iter()));
    }

    /// Forgets a run of rows, or all. One in 64 at least, so that they never pile up, however many
    /// come in an epoch.
    pub fn run(&mut self, all: bool, mut each: impl FnMut(i64, K, A)) {
        let most = if all {
            self.rows
        } else {
            self.rows.min(RUN.max(self.rows / 64))
        };
        let mut left = most;
        while left > 0
            && let Some((start, rows)) = self.windows.front_mut()
        {
            for (key, acc) in rows.by_ref().take(left) {
                each(*start, key, acc);
                left -= 1;
            }
            if rows.len() == 0 {
                self.windows.pop_front();
            }
        }
        self.rows -= most - left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_leave_once_they_were_final_for_an_epoch_and_their_time_is_up() {
        let mut passing = Passing::new(&Leave::new(100));
        let mut at = |watermark| passing.advance(Mark::None, watermark);
        // The first epoch is shown as it was.
        assert_eq!(at(1_000), None);
        assert_eq!(at(1_000), Some(Timestamp(899)));
        assert_eq!(at(1_000), None);
        assert_eq!(at(1_050), Some(Timestamp(949)));
        // What became final in this epoch stays for one, wherever the watermark is.
        assert_eq!(at(9_000), Some(Timestamp(1_050)));
        assert_eq!(at(9_000), Some(Timestamp(8_899)));
        assert_eq!(passing.advance(Mark::End, 20_000), None);
    }

    #[test]
    fn rows_are_left_to_views_that_alone_have_them() {
        let leave = Leave::new(1);
        assert!(!leave.is_left_to_views());
        leave.clone().show();
        assert!(leave.is_left_to_views());
        leave.clone().follow();
        assert!(!leave.is_left_to_views());
    }

    #[test]
    fn rows_are_forgotten_in_runs_in_their_order() {
        let mut forgetting = Forgetting::default();
        let rows = |from: usize, to: usize| (from..to).map(|n| (n, ())).collect::<Vec<_>>();
        let (first, all) = (70 * RUN, 70 * RUN + 5);
        forgetting.add(1, rows(0, first));
        forgetting.add(2, Vec::new());
        forgetting.add(3, rows(first, all));
        let mut seen = Vec::new();
        let mut run = |forgetting: &mut Forgetting<_, ()>, all| {
            let before = seen.len();
            forgetting.run(all, |start, n, ()| seen.push((start, n)));
            seen.len() - before
        };
        assert_eq!(run(&mut forgetting, false), all / 64);
        while run(&mut forgetting, false) > 0 {}
        assert!(forgetting.windows.is_empty());
        forgetting.add(3, rows(all, all + 9));
        assert_eq!(run(&mut forgetting, true), 9);
        assert!(seen.iter().map(|(_, n)| *n).eq(0..all + 9));
        assert!(seen.is_sorted());
    }
}
