//! What a dataflow under test gives out: rows, what was not taken, saved state, and its progress.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;

use crate::columns::merge::Layer;
use crate::dataflow::bounded::{Shown, Sink};
use crate::dataflow::vault::{Encode, Saved, Vault, Work};
use crate::query::{Answers, Fail, Outlet};
use crate::row::Row;
use crate::time::Epoch;
use crate::worker::run::{Hands, Said};

/// Rows and how often each occurs, in order.
pub type Bag = Vec<(Row, i64)>;

/// What is saved of state boundaries, by name.
pub(super) type Boundaries = BTreeMap<String, Kept>;

/// What is saved of one boundary.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    layers: Vec<Vec<RecordBatch>>,
    is_of_changes: bool,
    note: Option<i64>,
}

impl Kept {
    /// Adds what was saved later.
    fn add(&mut self, later: &Kept) {
        if !(self.is_of_changes && later.is_of_changes) {
            self.layers.clear();
        }
        self.layers.extend(later.layers.iter().cloned());
        (self.is_of_changes, self.note) = (later.is_of_changes, later.note);
    }
}

/// Whose rows: a query's, what was late for it, or what a stream rejected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Query(String),
    Late(String),
    Rejected(String),
}

/// What the harness hears.
pub(super) enum Heard {
    Said(Said),
    /// A worker panicked: no epoch will close any more.
    Panicked,
}

/// What all workers gave out.
#[derive(Default)]
pub(super) struct Captured {
    pub changes: BTreeMap<Of, BTreeMap<Epoch, Bag>>,
    pub totals: BTreeMap<Of, u64>,
    /// What the dataflow began with.
    restored: Boundaries,
    /// What was saved at each epoch.
    saved: BTreeMap<Epoch, Boundaries>,
}

impl Captured {
    /// The state as of an epoch that was saved.
    pub fn saved(&self, epoch: Epoch) -> Option<Boundaries> {
        let newest = self.saved.get(&epoch)?;
        let mut state = self.restored.clone();
        state.retain(|name, _| newest.contains_key(name));
        for (name, later) in self.saved.range(..=epoch).flat_map(|(_, saved)| saved) {
            state.entry(name.clone()).or_default().add(later);
        }
        Some(state)
    }
}

/// The captured output, shared with the workers.
#[derive(Clone, Default)]
pub(super) struct Capture(Arc<Mutex<Captured>>);

impl Capture {
    pub fn lock(&self) -> MutexGuard<'_, Captured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What makes a worker its vault, which starts with `restored`, and its outlet.
    pub fn hands(
        &self,
        restored: Boundaries,
        heard: Sender<Heard>,
    ) -> Arc<dyn Fn(usize) -> Hands + Send + Sync> {
        self.lock().restored.clone_from(&restored);
        let (capture, restored) = (self.clone(), Arc::new(restored));
        Arc::new(move |_worker| Hands {
            vault: Rc::new(Safe {
                capture: capture.clone(),
                restored: Arc::clone(&restored),
            }),
            outlet: Box::new(Out {
                capture: capture.clone(),
                heard: heard.clone(),
            }),
        })
    }

    fn sink(&self, of: &Of) -> Sink {
        let (capture, of) = (self.clone(), of.clone());
        Box::new(move |epoch, rows| {
            let mut captured = capture.lock();
            let epochs = captured.changes.entry(of.clone()).or_default();
            epochs.entry(epoch).or_default().extend(rows);
        })
    }

    fn shown(&self, of: Of) -> Shown {
        let (rows, capture) = (self.sink(&of), self.clone());
        let total = move |total| {
            capture.lock().totals.insert(of.clone(), total);
        };
        Shown {
            rows,
            total: Box::new(total),
        }
    }
}

struct Safe {
    capture: Capture,
    restored: Arc<Boundaries>,
}

impl Vault for Safe {
    fn restore(&self, boundary: &str) -> Saved {
        let kept = self.restored.get(boundary).cloned().unwrap_or_default();
        let layer = |batches: Vec<RecordBatch>| -> Layer { Box::new(batches.into_iter().map(Ok)) };
        Saved {
            layers: kept.layers.into_iter().map(layer).collect(),
            is_of_changes: kept.is_of_changes,
            is_to_be_rewritten: false,
            note: kept.note,
            expected: 0,
        }
    }

    fn save(&self, boundary: &str, epoch: Epoch, rows: Encode) {
        let mut layer = Vec::new();
        let mut take = |batch| {
            layer.push(batch);
            Ok(())
        };
        let written = rows(&mut take).expect("the catalog says that the rows can be columns");
        (written.settle)(true);
        let mut captured = self.capture.lock();
        let boundaries = captured.saved.entry(epoch).or_default();
        let kept = boundaries.entry(boundary.to_owned()).or_default();
        kept.layers.push(layer);
        (kept.is_of_changes, kept.note) = (true, written.note);
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn elsewhere(&self, work: Work) {
        work();
    }
}

struct Out {
    capture: Capture,
    heard: Sender<Heard>,
}

impl Outlet for Out {
    fn rows(&self, query: &str) -> Answers {
        let mut take = self.capture.sink(&Of::Query(query.to_owned()));
        Answers::Rows(Box::new(move |epoch, _watermark, rows| {
            if !rows.is_empty() {
                take(epoch, rows);
            }
        }))
    }

    fn late(&self, query: &str) -> Shown {
        self.capture.shown(Of::Late(query.to_owned()))
    }

    fn failed(&self, query: &str) -> Fail {
        let query = query.to_owned();
        Rc::new(move |reason| panic!("query '{query}' failed: {reason}"))
    }

    fn rejected(&self, stream: &str) -> Shown {
        self.capture.shown(Of::Rejected(stream.to_owned()))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The harness may have given up already.
            let _ = self.heard.send(Heard::Panicked);
        }
    }
}

/// Orders rows, and adds up how often each occurs.
pub(super) fn net(rows: impl IntoIterator<Item = (Row, i64)>) -> Bag {
    let mut bag = BTreeMap::new();
    for (row, diff) in rows {
        *bag.entry(row).or_insert(0) += diff;
    }
    bag.into_iter().filter(|(_, count)| *count != 0).collect()
}
