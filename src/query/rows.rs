//! The rows of a table, and what is known of those who have them.

use super::table::Collection;
use crate::dataflow::leaving::Leave;

/// The rows of a table. Who takes them says what for: rows that are only shown may leave without
/// being taken away one by one.
#[derive(Clone)]
pub(super) struct Rows<'s, D: 'static> {
    rows: Collection<'s, D>,
    leave: Option<Leave>,
}

impl<'s, D: Clone + 'static> Rows<'s, D> {
    /// Rows that go one by one, if any do.
    pub fn new(rows: Collection<'s, D>) -> Rows<'s, D> {
        Rows { rows, leave: None }
    }

    /// Final rows that all go a set time after they became final.
    pub fn leaving(rows: Collection<'s, D>, leave: Leave) -> Rows<'s, D> {
        let leave = Some(leave);
        Rows { rows, leave }
    }

    /// The rows, to make something of them.
    pub fn followed(self) -> Collection<'s, D> {
        if let Some(leave) = &self.leave {
            leave.follow();
        }
        self.rows
    }

    /// The rows, to show them, and how they leave where they are left to do so.
    pub fn shown(self) -> (Collection<'s, D>, Option<Leave>) {
        if let Some(leave) = &self.leave {
            leave.show();
        }
        (self.rows, self.leave)
    }

    /// Rows that are made of these one by one, or left out, and are final when these are: they
    /// leave as these do.
    pub fn alike<U: Clone + 'static>(
        self,
        make: impl FnOnce(Collection<'s, D>) -> Collection<'s, U>,
    ) -> Rows<'s, U> {
        Rows {
            rows: make(self.rows),
            leave: self.leave,
        }
    }
}
