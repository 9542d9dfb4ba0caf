//! From an answer's changes to the messages of the sinks that follow it. Each worker does this for
//! its own rows, and all rows of a key are on one worker.

use std::sync::Arc;

use super::{Kind, Message, Mode, Outbox};
use crate::row::{Ordered, Row, consolidated};
use crate::time::{Epoch, Timestamp};
use crate::view::changelog::{Finals, has_expired};
use crate::view::{Leaving, View};

/// One worker's way to a view, and to the sinks that follow it.
pub struct Writer {
    shard: usize,
    view: Arc<View>,
    followers: Vec<Follower>,
}

impl Writer {
    /// The way of one worker.
    pub fn new(shard: usize, view: &Arc<View>, outboxes: &[Arc<Outbox>]) -> Writer {
        let follows = |outbox: &&Arc<Outbox>| outbox.spec().query == view.spec().name;
        let followers = outboxes.iter().filter(follows).map(|outbox| Follower {
            outbox: Arc::clone(outbox),
            before: None,
            waiting: Finals::default(),
            has_ended: false,
        });
        Writer {
            shard,
            view: Arc::clone(view),
            followers: followers.collect(),
        }
    }

    /// Takes in what a closed epoch changed, the watermark after it, and which final rows leave.
    /// Called for every epoch, in order, also where nothing changed.
    ///
    /// Sinks never hear of final rows that leave, so that it is all the same to them how.
    pub fn apply(
        &mut self,
        epoch: Epoch,
        watermark: Option<Timestamp>,
        leaving: Leaving,
        rows: Vec<(Row, i64)>,
    ) {
        let changes = consolidated(rows);
        if self.followers.is_empty() {
            self.view.take_in(self.shard, epoch, leaving, changes);
            return;
        }
        self.view
            .take_in(self.shard, epoch, leaving, changes.clone());
        let at = At {
            shard: self.shard,
            view: &self.view,
            epoch,
        };
        for follower in &mut self.followers {
            follower.follow(at, watermark, &changes);
        }
    }
}

/// An epoch as it stands in a worker's part of a view.
#[derive(Clone, Copy)]
struct At<'v> {
    shard: usize,
    view: &'v View,
    epoch: Epoch,
}

struct Follower {
    outbox: Arc<Outbox>,
    /// The watermark before the epoch at hand.
    before: Option<Timestamp>,
    /// Rows that are not final, by when they will be; only for the mode that sends those.
    waiting: Finals,
    has_ended: bool,
}

impl Follower {
    fn follow(&mut self, at: At<'_>, watermark: Option<Timestamp>, changes: &[(Ordered, i64)]) {
        if self.has_ended {
            return;
        }
        let messages = match self.outbox.spec().mode {
            Mode::Upsert => self.upserts(at, changes),
            Mode::Final => Ok(self.finals(watermark, changes)),
        };
        match messages {
            Ok(messages) => self.outbox.put(at.epoch, messages),
            Err(reason) => {
                self.has_ended = true;
                self.outbox.end_before(at.epoch, reason);
            }
        }
        self.before = watermark;
    }

    /// Each touched key's row, or that it has none any more.
    fn upserts(&self, at: At<'_>, changes: &[(Ordered, i64)]) -> Result<Vec<Message>, String> {
        let of_one_key = |(a, _): &(Ordered, i64), (b, _): &(Ordered, i64)| key(a) == key(b);
        let mut messages = Vec::new();
        for changed in changes.chunk_by(of_one_key) {
            // Every key had one row at most before, or the sink would have ended.
            let row = match changed {
                [(_, -1), (row, 1)] | [(row, 1), (_, -1)] => Some(row.row.clone()),
                [(_, -1)] => None,
                [(row, _), ..] => self.only_row(at, row)?,
                [] => continue,
            };
            messages.extend(match row {
                Some(row) => Some(Message {
                    row,
                    kind: Kind::Upsert,
                }),
                // What was final before has expired: readers of the topic keep it.
                None if changed
                    .iter()
                    .all(|(row, _)| has_expired(&row.row, self.before)) =>
                {
                    None
                }
                None => changed.first().map(|(row, _)| Message {
                    row: row.row.clone(),
                    kind: Kind::Tombstone,
                }),
            });
        }
        Ok(messages)
    }

    /// The row that a key has now; an error if it has several.
    fn only_row(&self, at: At<'_>, of: &Ordered) -> Result<Option<Row>, String> {
        match at.view.rows_of(at.shard, &of.row) {
            (row, 0 | 1) => Ok(row),
            (_, count) => Err(format!(
                "an upsert needs one row per key: query '{}' has {count} rows or more for the key \
                 {}; let the query give each key one row, or send final rows (mode = \"final\")",
                self.outbox.spec().query,
                of.row.key()
            )),
        }
    }

    /// The rows that became final.
    fn finals(&mut self, now: Option<Timestamp>, changes: &[(Ordered, i64)]) -> Vec<Message> {
        let became = self.waiting.pass(changes.to_vec(), (self.before, now));
        let messages = became.into_iter().flat_map(|(row, count)| {
            let message = Message {
                row: row.row,
                kind: Kind::Final,
            };
            std::iter::repeat_n(message, usize::try_from(count).unwrap_or(0))
        });
        messages.collect()
    }
}

/// The encoded key of a row.
fn key(row: &Ordered) -> &[u8] {
    row.row.order_of_key()
}
