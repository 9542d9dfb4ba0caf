//! How worker 0 announces epochs and hands out their chunks; the other workers learn of an epoch
//! only through the dataflow, so that its frontier is the one clock they follow.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError};

use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::record::Chunk;
use crate::time::Epoch;

/// Something a partition did that is not a record: journalled, because a wall clock decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The partition was seen for the first time; it gets the stream's watermark as its floor.
    Appeared,
    /// Nothing came for the idle timeout; it holds the stream's watermark back no longer.
    Idle,
    /// It has records again; it gets the stream's watermark as its floor.
    Revived,
}

/// A change of one partition of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionChange {
    /// The stream, by its place in the catalog.
    pub stream: u16,
    /// The partition.
    pub partition: u32,
    /// What it did.
    pub change: Change,
    /// The position it stands at; where it appeared, that of the first record to be read.
    pub position: u64,
}

/// A chunk of one stream, and which of the epoch's chunks of its partition it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The stream, by its place in the catalog.
    pub stream: u16,
    /// The place among the epoch's chunks of the partition, from 0.
    pub place: u32,
    /// The worker that decodes it, modulo their number; affects speed only.
    pub worker: u64,
    /// The records.
    pub chunk: Chunk,
}

impl Task {
    /// Whether there may be records in it: a chunk can also say that there are none up to its end.
    pub fn has_records(&self) -> bool {
        self.chunk.size() > 0
    }
}

/// One round of input.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Its number.
    pub epoch: Epoch,
    /// What its partitions did, in order, before its records.
    pub changes: Vec<PartitionChange>,
    /// Its records; the chunks of a partition are in order.
    pub tasks: Vec<Task>,
    /// What the whole epoch asks of every operator.
    pub mark: Mark,
}

/// What an epoch asks of every operator besides taking its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Nothing.
    #[default]
    None,
    /// Save the boundaries' rows as of this epoch.
    Checkpoint,
    /// The input has ended: every window closes.
    End,
}

/// An epoch as told to every worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Announcement {
    pub(crate) epoch: Epoch,
    pub(crate) changes: Vec<PartitionChange>,
    /// The chunks of the epoch: stream, partition, place, and the position after the chunk.
    pub(crate) chunks: Vec<(u16, u32, u32, u64)>,
    pub(crate) mark: Mark,
}

/// Where worker 0 finds the plans; the other workers have none.
pub type Plans = Rc<RefCell<Option<Receiver<Plan>>>>;

/// The two streams of the feed.
pub struct Feed<'s> {
    /// The chunks, still on worker 0.
    pub tasks: Stream<'s, Epoch, Vec<Task>>,
    /// The epochs, still on worker 0.
    pub announcements: Stream<'s, Epoch, Vec<Announcement>>,
    /// Where the operator is, to wake it.
    pub address: Vec<usize>,
}

/// Plays plans into the dataflow, each at its epoch. Epochs must increase.
pub fn feed(scope: Scope<'_, Epoch>, plans: Plans) -> Feed<'_> {
    let mut builder = OperatorBuilder::new("Feed".to_owned(), scope);
    let (tasks_out, tasks) = builder.new_output::<Vec<Task>>();
    let (announcements_out, announcements) = builder.new_output::<Vec<Announcement>>();
    let mut tasks_out = OutputBuilder::from(tasks_out);
    let mut announcements_out = OutputBuilder::from(announcements_out);
    let address = builder.operator_info().address.to_vec();
    builder.build(move |capabilities| {
        let mut held: Vec<Capability<Epoch>> = capabilities;
        let receiver = plans.borrow_mut().take();
        move |_frontiers| {
            if held.is_empty() {
                return;
            }
            let Some(receiver) = &receiver else {
                held.clear();
                return;
            };
            loop {
                let plan = match receiver.try_recv() {
                    Ok(plan) => plan,
                    Err(TryRecvError::Empty) => return,
                    Err(TryRecvError::Disconnected) => {
                        held.clear();
                        return;
                    }
                };
                for capability in &mut held {
                    capability.downgrade(&plan.epoch);
                }
                let announcement = Announcement {
                    epoch: plan.epoch,
                    changes: plan.changes,
                    chunks: (plan.tasks.iter())
                        .map(|t| (t.stream, t.chunk.partition, t.place, t.chunk.end))
                        .collect(),
                    mark: plan.mark,
                };
                announcements_out
                    .activate()
                    .session(&held[1])
                    .give(announcement);
                tasks_out
                    .activate()
                    .session(&held[0])
                    .give_iterator(plan.tasks.into_iter());
                for capability in &mut held {
                    capability.downgrade(&(plan.epoch + 1));
                }
            }
        }
    });
    Feed {
        tasks,
        announcements,
        address,
    }
}
