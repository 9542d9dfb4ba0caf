//! Where state boundaries save their rows and find them again. The files are another layer's
//! concern: here rows only become columns, off the worker threads.

use std::collections::BTreeMap;
use std::rc::Rc;

use arrow_array::RecordBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::{ColumnError, columns_of, fingerprint, from_batch, to_batch};
use crate::time::Epoch;

/// Rows on their way to a segment: run by the writer, so that the worker only clones.
pub type Encode = Box<dyn FnOnce() -> Result<RecordBatch, ColumnError> + Send>;

/// Keeps the rows of state boundaries over restarts.
pub trait Vault {
    /// The rows saved for a boundary, by all workers; checked before the dataflow is built.
    fn restore(&self, boundary: &str) -> Vec<RecordBatch>;

    /// Takes this worker's rows of a boundary as of a closed epoch.
    fn save(&self, boundary: &str, epoch: Epoch, rows: Encode);
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
        let check = |batch: &RecordBatch| from_batch::<R>(batch).map(|_| ());
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

    /// The saved rows that are this worker's.
    pub fn restore<R: DeserializeOwned>(&self, is_mine: impl Fn(&R) -> bool) -> Vec<R> {
        let batches = self.vault.restore(&self.name);
        let rows = batches.iter().flat_map(|batch| {
            from_batch::<R>(batch).expect("saved rows are checked before the dataflow is built")
        });
        rows.filter(is_mine).collect()
    }

    /// Makes the checkpoint of `epoch` fail: the rows are not to be trusted.
    pub fn refuse(&self, epoch: Epoch) {
        let detail = "the query that owns them failed".to_owned();
        let error = ColumnError::Write {
            row: "a failed query",
            detail,
        };
        self.vault.save(&self.name, epoch, Box::new(|| Err(error)));
    }

    /// Saves this worker's rows as of `epoch`.
    pub fn save<R>(&self, epoch: Epoch, rows: Vec<R>)
    where
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.vault
            .save(&self.name, epoch, Box::new(move || to_batch(&rows)));
    }
}

/// A vault that keeps nothing: for `replay`, and for looking at a dataflow without running it.
pub struct NoVault;

impl Vault for NoVault {
    fn restore(&self, _boundary: &str) -> Vec<RecordBatch> {
        Vec::new()
    }

    fn save(&self, _boundary: &str, _epoch: Epoch, _rows: Encode) {}
}
