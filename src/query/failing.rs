//! An operator with state whose user code may panic.

use std::rc::Rc;

use super::flow::Fail;
use crate::dataflow::clock::Clock;
use crate::dataflow::decode::guard;
use crate::dataflow::feed::Mark;
use crate::dataflow::vault::Boundary;

/// Runs an operator epoch by epoch until its user code fails. From then on nothing comes out, and
/// each checkpoint of its boundary, if it is one, fails: what was left half done must not be saved,
/// and a restart goes on from an older one.
pub(super) struct Failing {
    boundary: Option<Boundary>,
    fail: Fail,
    has_failed: bool,
}

impl Failing {
    pub fn new(boundary: Option<&Boundary>, fail: &Fail) -> Failing {
        Failing {
            boundary: boundary.cloned(),
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
        if self.has_failed
            && clock.mark == Mark::Checkpoint
            && let Some(boundary) = &self.boundary
        {
            boundary.refuse(clock.epoch);
        }
    }
}
