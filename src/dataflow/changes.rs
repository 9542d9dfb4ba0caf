//! What changed of a boundary's rows since its last segment.
//!
//! A boundary says of each row that it stands as it is now, or that it is gone. That is a copy of
//! the row, in a list that leaves the worker when it is long enough; only elsewhere is it sorted,
//! so that of each row its last state is left. A boundary whose rows nobody keeps pays a
//! comparison.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use differential_dataflow::hashable::Hashable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::vault::{Boundary, Restored, Take, Written};
use crate::columns::merge::{BATCH_ROWS, Marks, changes_of};
use crate::columns::share::Share;
use crate::columns::to_batch;
use crate::row::{EncodeError, Encoder};
use crate::time::Epoch;

/// Changes that are worth handing over.
const HANDED_OVER: usize = 4 * 1024;
/// Changes that a worker keeps, while nobody takes them, before it makes them fewer.
const KEPT: usize = 1 << 20;

/// The row is gone.
const GONE: i8 = -1;
/// The row is gone, and no layer has heard of it.
const NOTHING: i8 = 0;
/// The row stands.
const STANDS: i8 = 1;
/// The row stands, and no layer has heard of it.
const CAME: i8 = 2;

/// A row of a boundary that is saved change by change.
pub trait Lasting: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// Tells the row from every other; rows are sorted by it. What is not in it may change.
    fn identity(&self) -> Result<Vec<u8>, EncodeError>;

    /// The hash by which rows are dealt to workers.
    fn owner(&self) -> u64;

    /// Whether a worker has the rows whose owner it is, and no others.
    fn is_dealt() -> bool {
        true
    }
}

/// Encodes what identifies a row so that its bytes order as it does.
pub fn identity_of(of: &impl Serialize) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::default();
    of.serialize(&mut encoder)?;
    Ok(encoder.out)
}

/// Encodes what identifies one of several rows of a key: of what tells it apart only a digest.
pub fn identity_among(
    key: &impl Serialize,
    apart: &impl Serialize,
) -> Result<Vec<u8>, EncodeError> {
    let mut identity = identity_of(key)?;
    let digest = Sha256::digest(identity_of(apart)?);
    identity.extend_from_slice(&digest[..16]);
    Ok(identity)
}

/// Tells this build's way of hashing owners from that of another.
pub fn hashing() -> u64 {
    ("waterclock", 7_u64, -7_i64).hashed()
}

/// The changes of one worker's share of a boundary.
pub struct Changes<R> {
    boundary: Boundary,
    fresh: Vec<(R, i8)>,
    /// How many fresh ones are to be made fewer.
    too_many: usize,
    /// Whether changes are noted: not while rows come back from where they are saved already.
    is_noting: bool,
    net: Arc<Mutex<Net<R>>>,
    restored: Option<Restored<R>>,
}

impl<R: Lasting> Changes<R> {
    /// Begins with the rows saved for this worker. `owns` tells by their owner which those are.
    pub fn new(boundary: Boundary, owns: impl Fn(u64) -> bool + 'static) -> Changes<R> {
        let restored = Some(boundary.restore(owns));
        let is_noting = boundary.is_kept();
        Changes {
            boundary,
            fresh: Vec::new(),
            too_many: KEPT,
            is_noting,
            net: Arc::default(),
            restored,
        }
    }

    /// The rows to begin with, once; to be followed by [`is_restored`](Changes::is_restored).
    pub fn restore(&mut self) -> Option<Restored<R>> {
        let restored = self.restored.take()?;
        // What was saved as a whole is saved again, as changes.
        self.is_noting &= !restored.is_of_changes;
        Some(restored)
    }

    /// Notes changes from here on.
    pub fn is_restored(&mut self) {
        self.is_noting = self.boundary.is_kept();
    }

    /// Whether changes are noted now.
    pub fn is_noting(&self) -> bool {
        self.is_noting
    }

    /// The row stands as it is now.
    pub fn put(&mut self, row: impl FnOnce() -> R) {
        self.note(row, STANDS);
    }

    /// The row stands, and there was none of its identity: if it goes before the next checkpoint,
    /// nothing is saved of it.
    pub fn came(&mut self, row: impl FnOnce() -> R) {
        self.note(row, CAME);
    }

    /// The row is gone.
    pub fn gone(&mut self, row: impl FnOnce() -> R) {
        self.note(row, GONE);
    }

    fn note(&mut self, row: impl FnOnce() -> R, diff: i8) {
        if self.is_noting {
            self.fresh.push((row(), diff));
        }
    }

    /// Hands over what there is, if it is worth it. Called once an epoch.
    pub fn hand_over(&mut self) {
        if self.fresh.len() < HANDED_OVER {
            return;
        }
        if !self.boundary.is_busy() {
            let (net, fresh) = (Arc::clone(&self.net), std::mem::take(&mut self.fresh));
            self.boundary
                .elsewhere(Box::new(move || locked(&net).add(fresh)));
        } else if self.fresh.len() >= self.too_many {
            let mut net = Net::default();
            net.add(std::mem::take(&mut self.fresh));
            net.tidy();
            self.fresh = net
                .rows
                .into_iter()
                .map(|(_, row, diff)| (row, diff))
                .collect();
            self.too_many = KEPT.max(2 * self.fresh.len());
        }
    }

    /// Saves what changed, as of `epoch`, with a number that is given back with the rows.
    pub fn save(&mut self, epoch: Epoch, note: i64) {
        let (net, fresh) = (Arc::clone(&self.net), std::mem::take(&mut self.fresh));
        let share = self.boundary.share().filter(|_| R::is_dealt());
        let encode = move |take: &mut Take<'_>| {
            let mut locked = locked(&net);
            locked.add(fresh);
            let encoded = locked.encode(take, share);
            if encoded.is_err() {
                locked.settle(false);
            }
            encoded?;
            drop(locked);
            Ok(Written {
                note: Some(note),
                settle: Box::new(move |is_saved| self::locked(&net).settle(is_saved)),
            })
        };
        self.boundary.save_with(epoch, Box::new(encode));
    }
}

/// Net changes, and those on their way to disk.
struct Net<R> {
    /// Sorted, and of each row the last change, up to `tidied`; as they came from there.
    rows: Vec<(Box<[u8]>, R, i8)>,
    tidied: usize,
    /// Given to a checkpoint of which is not known whether it counts.
    given: Vec<(Box<[u8]>, R, i8)>,
    /// Why not all changes are here.
    failed: Option<String>,
}

impl<R> Default for Net<R> {
    fn default() -> Net<R> {
        Net {
            rows: Vec::new(),
            tidied: 0,
            given: Vec::new(),
            failed: None,
        }
    }
}

fn locked<R>(net: &Mutex<Net<R>>) -> MutexGuard<'_, Net<R>> {
    // What a panic left half added is made whole by nothing: the writer that panicked is gone.
    net.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What two changes of a row come to.
fn both(earlier: i8, later: i8) -> i8 {
    match (matches!(earlier, CAME | NOTHING), later > 0) {
        (true, true) => CAME,
        (true, false) => NOTHING,
        (false, true) => STANDS,
        (false, false) => GONE,
    }
}

impl<R: Lasting> Net<R> {
    fn add(&mut self, fresh: Vec<(R, i8)>) {
        self.rows.reserve(fresh.len());
        for (row, diff) in fresh {
            match row.identity() {
                Ok(identity) => self.rows.push((identity.into(), row, diff)),
                Err(error) => self.failed = Some(error.to_string()),
            }
        }
        // Sorting costs each row a few times what it costs once, and memory follows the net.
        if self.rows.len() > 2 * self.tidied + BATCH_ROWS {
            self.tidy();
        }
    }

    /// Leaves of each row its last change.
    fn tidy(&mut self) {
        self.rows.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        self.rows.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(later, kept);
                kept.2 = both(later.2, kept.2);
            }
            is_same
        });
        self.rows.retain(|(.., diff)| *diff != NOTHING);
        self.tidied = self.rows.len();
    }

    fn encode(&mut self, take: &mut Take<'_>, share: Option<Share>) -> Result<(), String> {
        if let Some(why) = &self.failed {
            return Err(why.clone());
        }
        self.tidy();
        self.given = std::mem::take(&mut self.rows);
        self.tidied = 0;
        for chunk in self.given.chunks(BATCH_ROWS) {
            let rows: Vec<R> = chunk.iter().map(|(_, row, _)| row.clone()).collect();
            let owners: Vec<u64> = rows.iter().map(Lasting::owner).collect();
            let is_ours = |share: &Share| owners.iter().all(|owner| share.owns(*owner));
            let share = share.filter(is_ours);
            let identities = chunk.iter().map(|(identity, ..)| identity.clone());
            let marks = Marks {
                share,
                identities: identities.collect(),
                owners,
                diffs: chunk.iter().map(|(.., diff)| diff.signum()).collect(),
            };
            let batch = to_batch(&rows).map_err(|error| error.to_string())?;
            let batch = changes_of(&batch, marks, hashing()).map_err(|error| error.to_string())?;
            take(batch)?;
        }
        Ok(())
    }

    /// Forgets what was saved, or keeps it for the next checkpoint.
    fn settle(&mut self, is_saved: bool) {
        let mut given = std::mem::take(&mut self.given);
        if !is_saved {
            given.append(&mut self.rows);
            self.rows = given;
            self.tidy();
        }
    }
}
