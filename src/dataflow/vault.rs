//! Where state boundaries save their rows and find them again. The files are another layer's
//! concern: here rows only become columns, off the worker threads.

use std::collections::BTreeMap;
use std::iter::Flatten;
use std::rc::Rc;

use arrow_array::RecordBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::changes::{Lasting, hashing};
use crate::columns::merge::{Layer, Merge, Wanted, is_hashed, is_of_changes, rows_of};
use crate::columns::share::Share;
use crate::columns::{ColumnError, columns_of, fingerprint, from_batch};
use crate::time::Epoch;

/// Takes batches that are to be saved, one segment each.
pub type Take<'t> = dyn FnMut(RecordBatch) -> Result<(), String> + 't;

/// Rows on their way to segments: run by the writer, so that the worker only hands over.
pub type Encode = Box<dyn FnOnce(&mut Take<'_>) -> Result<Written, String> + Send>;

/// Work for another thread than the worker's.
pub type Work = Box<dyn FnOnce() + Send>;

/// What is said of rows that were encoded.
pub struct Written {
    /// A number that is given back with the rows.
    pub note: Option<i64>,
    /// Hears whether the checkpoint counts.
    pub settle: Box<dyn FnOnce(bool) + Send>,
}

/// What is saved of a boundary.
pub struct Saved {
    /// Its layers, the newest last; read while they are iterated.
    pub layers: Vec<Layer>,
    /// Whether the layers are changes; else they are rows, as earlier versions wrote them.
    pub is_of_changes: bool,
    /// Whether all rows are to be saved again, for example in another format.
    pub is_to_be_rewritten: bool,
    /// The number that was saved with the rows.
    pub note: Option<i64>,
    /// About how many rows of this worker there are.
    pub expected: usize,
}

/// Keeps the rows of state boundaries over restarts.
pub trait Vault {
    /// Whether it keeps anything.
    fn is_kept(&self) -> bool {
        true
    }

    /// Which of how many workers it is of, where it keeps their rows apart.
    fn share(&self) -> Option<Share> {
        None
    }

    /// The rows saved for a boundary: at least this worker's; checked before the dataflow is built.
    fn restore(&self, boundary: &str) -> Saved;

    /// Takes this worker's rows of a boundary as of a closed epoch.
    fn save(&self, boundary: &str, epoch: Epoch, rows: Encode);

    /// Whether more work should wait.
    fn is_busy(&self) -> bool;

    /// Does work on another thread, in order with what is saved.
    fn elsewhere(&self, work: Work);
}

/// The rows a boundary begins with.
pub struct Restored<R> {
    /// The rows, read while they are iterated. One call that cannot be inlined for each batch, and
    /// not for each row: it writes the row word by word to where the caller copies it from in
    /// larger pieces, for which the processor waits until its last write into a map has found its
    /// place in the cache. A map of ten million took three times as long.
    pub rows: Flatten<Box<dyn Iterator<Item = Vec<R>>>>,
    /// The number that was saved with them.
    pub note: Option<i64>,
    /// Whether they were saved change by change, and only changes are to be saved next.
    pub is_of_changes: bool,
    /// About how many there are: room for them may be made at once.
    pub expected: usize,
}

/// What is known of a boundary without running it.
#[derive(Clone)]
pub struct BoundaryShape {
    /// Identifies the columns of its rows; the reason if the rows cannot be columns.
    pub fingerprint: Result<u64, String>,
    /// Whether the columns follow from the type alone: then one fingerprint is one shape.
    pub is_traced: bool,
    /// Says whether saved rows can be read by this build.
    pub check: fn(&RecordBatch) -> Result<(), ColumnError>,
}

/// The boundaries of a dataflow by name; the same on every worker.
pub type Boundaries = BTreeMap<String, BoundaryShape>;

/// A boundary's place in the vault.
#[derive(Clone)]
pub struct Boundary {
    name: String,
    vault: Rc<dyn Vault>,
}

impl Boundary {
    /// Registers a boundary with rows of type `R`.
    pub fn new<R>(name: String, vault: Rc<dyn Vault>, all: &mut Boundaries) -> Boundary
    where
        R: Serialize + DeserializeOwned,
    {
        let check = |batch: &RecordBatch| from_batch::<R>(&rows_of(batch)).map(|_| ());
        let fingerprint = fingerprint::<R>().map_err(|error| error.to_string());
        let is_traced = columns_of::<R>().is_some();
        all.insert(
            name.clone(),
            BoundaryShape {
                fingerprint,
                is_traced,
                check,
            },
        );
        Boundary { name, vault }
    }

    /// Whether rows are kept at all.
    pub fn is_kept(&self) -> bool {
        self.vault.is_kept()
    }

    /// The saved rows that are this worker's. Nothing is read before they are iterated, and then
    /// one batch of each layer at a time.
    pub fn restore<R: Lasting>(&self, owns: impl Fn(u64) -> bool + 'static) -> Restored<R> {
        let Saved {
            layers,
            is_of_changes,
            is_to_be_rewritten,
            note,
            expected,
        } = self.vault.restore(&self.name);
        let (name, owns, hashing) = (self.name.clone(), Rc::new(owns), hashing());
        let batches: Layer = if is_of_changes {
            let owns = Rc::clone(&owns);
            let owns = Box::new(move |owner| owns(owner));
            Box::new(Merge::new(layers, Wanted::Owned { hashing, owns }))
        } else {
            Box::new(layers.into_iter().flatten())
        };
        let batches = batches.map(move |batch| {
            let is_told = batch.as_ref().is_ok_and(|it| is_hashed(it, hashing));
            let mut rows = decoded::<R>(&name, batch);
            // Of the others the merge has let none through.
            if !is_told {
                rows.retain(|row| owns(row.owner()));
            }
            rows
        });
        let batches: Box<dyn Iterator<Item = Vec<R>>> = Box::new(batches);
        Restored {
            rows: batches.flatten(),
            expected,
            note,
            is_of_changes: is_of_changes && !is_to_be_rewritten,
        }
    }

    /// Which of how many workers it is of, where rows are kept apart.
    pub(super) fn share(&self) -> Option<Share> {
        self.vault.share()
    }

    /// Makes the checkpoint of `epoch` fail: the rows are not to be trusted.
    pub fn refuse(&self, epoch: Epoch) {
        let why = "the query that owns them failed".to_owned();
        self.save_with(epoch, Box::new(|_| Err(why)));
    }

    /// Saves what `rows` encodes, as of `epoch`.
    pub(super) fn save_with(&self, epoch: Epoch, rows: Encode) {
        self.vault.save(&self.name, epoch, rows);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.vault.is_busy()
    }

    pub(super) fn elsewhere(&self, work: Work) {
        self.vault.elsewhere(work);
    }
}

/// The rows of a batch.
fn decoded<R: DeserializeOwned>(
    boundary: &str,
    batch: Result<RecordBatch, crate::columns::merge::MergeError>,
) -> Vec<R> {
    // Files were verified a moment ago: who changes them now has the process start again.
    let batch = batch.unwrap_or_else(|error| panic!("the saved state '{boundary}': {error}"));
    let rows = if is_of_changes(&batch) {
        rows_of(&batch)
    } else {
        batch
    };
    from_batch::<R>(&rows).expect("saved rows are checked before the dataflow is built")
}

/// A vault that keeps nothing: for `replay`, and for looking at a dataflow without running it.
pub struct NoVault;

impl Vault for NoVault {
    fn is_kept(&self) -> bool {
        false
    }

    fn restore(&self, _boundary: &str) -> Saved {
        Saved {
            layers: Vec::new(),
            is_of_changes: false,
            is_to_be_rewritten: false,
            note: None,
            expected: 0,
        }
    }

    fn save(&self, _boundary: &str, _epoch: Epoch, _rows: Encode) {}

    fn is_busy(&self) -> bool {
        false
    }

    fn elsewhere(&self, _work: Work) {}
}
