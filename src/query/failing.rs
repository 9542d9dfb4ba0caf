//! A boundary whose user code may panic.

use std::rc::Rc;

use super::flow::Fail;
use crate::dataflow::clock::Clock;
use crate::dataflow::decode::guard;
use crate::dataflow::feed::Mark;
use crate::dataflow::vault::Boundary;

/// Runs a boundary epoch by epoch until its user code fails. From then on nothing comes out, and
/// each checkpoint fails: what was left half done must not be saved, and a restart goes on from an
/// older one.
pub(super) struct Failing {
    boundary: Boundary,
    fail: Fail,
    has_failed: bool,
}

impl Failing {
    pub fn new(boundary: &Boundary, fail: &Fail) -> Failing {
        Failing {
            boundary: boundary.clone(),
            fail: Rc::clone(fail),
            has_failed: false,
        }
    }

    /// Runs one epoch, whose changes go to `out`.
    pub fn retire<C>(
        &mut self,
        clock: &Clock,
        out: &mut Vec<C>,
        epoch: impl FnOnce(&mut Vec<C>) -> Result<(), String>,
    ) {
        if !self.has_failed
            && let Err(reason) = guard(|| epoch(out)).and_then(|outcome| outcome)
        {
            self.has_failed = true;
            out.clear();
            (self.fail)(reason);
        }
        if self.has_failed && clock.mark == Mark::Checkpoint {
            self.boundary.refuse(clock.epoch);
        }
    }
}
