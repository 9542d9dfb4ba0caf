//! Merging sorted layers of changes: of each row what the newest layer says, in one pass.
//!
//! A batch of changes is rows with three columns more: what identifies the row, by which batches
//! are sorted; the number by which rows are dealt to workers; and whether the row stands or is
//! gone.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, UInt64Type};
use arrow_array::{ArrayRef, BinaryArray, Int8Array, RecordBatch, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::interleave::interleave_record_batch;

use super::share::Share;

/// Bytes that identify a row: two rows with the same are the same row at different times.
pub const IDENTITY: &str = "_identity";
/// The hash by which rows are dealt to workers.
pub const OWNER: &str = "_owner";
/// 1 where the row stands as it is here, -1 where it is gone.
pub const DIFF: &str = "_diff";
/// Key of the schema's metadata that tells one way of hashing from another.
const HASHING: &str = "hashing";
/// Key of the schema's metadata that says whose rows they are, if they are one worker's.
const SHARE: &str = "share";

/// Rows of one batch: whoever merges holds no more than that of each layer at a time.
pub const BATCH_ROWS: usize = 64 * 1024;

/// Rows of one batch that a worker takes back: they are still in its cache when it has made them
/// rows again.
const RESTORED_ROWS: usize = 4 * 1024;

/// A layer cannot be read, or its columns are not those of changes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MergeError(pub String);

impl From<ArrowError> for MergeError {
    fn from(cause: ArrowError) -> MergeError {
        MergeError(cause.to_string())
    }
}

/// The batches of one layer: each sorted, all of one before all of the next, each row at most once.
pub type Layer = Box<dyn Iterator<Item = Result<RecordBatch, MergeError>>>;

/// What stands beside each row of a batch of changes.
#[derive(Debug, Default)]
pub struct Marks {
    /// What identifies each row.
    pub identities: Vec<Box<[u8]>>,
    /// The hash by which each row is dealt to workers.
    pub owners: Vec<u64>,
    /// 1 where the row stands, -1 where it is gone.
    pub diffs: Vec<i8>,
    /// What all rows are in, if it is known.
    pub share: Option<Share>,
}

/// Adds the columns of changes to rows. `hashing` tells how owners were computed.
pub fn changes_of(
    rows: &RecordBatch,
    marks: Marks,
    hashing: u64,
) -> Result<RecordBatch, MergeError> {
    let identities = BinaryArray::from_iter_values(marks.identities.iter());
    let added: [(&str, ArrayRef); 3] = [
        (IDENTITY, Arc::new(identities)),
        (OWNER, Arc::new(UInt64Array::from(marks.owners))),
        (DIFF, Arc::new(Int8Array::from(marks.diffs))),
    ];
    let mut fields = rows.schema().fields().to_vec();
    let mut columns = rows.columns().to_vec();
    for (name, column) in added {
        let field = Field::new(name, column.data_type().clone(), false);
        fields.push(Arc::new(field));
        columns.push(column);
    }
    let metadata = [(HASHING.to_owned(), format!("{hashing:016x}"))];
    let schema = Schema::new_with_metadata(fields, metadata);
    let schema = with_share(schema, marks.share);
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn with_share(mut schema: Schema, share: Option<Share>) -> SchemaRef {
    let metadata = &mut schema.metadata;
    match share {
        Some(share) => metadata.insert(SHARE.to_owned(), share.to_string()),
        None => metadata.remove(SHARE),
    };
    Arc::new(schema)
}

/// What a batch says that all its rows are in.
pub fn share_of(batch: &RecordBatch) -> Option<Share> {
    batch.schema_ref().metadata().get(SHARE)?.parse().ok()
}

/// Whether the owners of a batch's rows were hashed in that way.
pub fn is_hashed(batch: &RecordBatch, hashing: u64) -> bool {
    batch.schema_ref().metadata().get(HASHING) == Some(&format!("{hashing:016x}"))
}

/// Whether a batch has the columns of changes.
pub fn is_of_changes(batch: &RecordBatch) -> bool {
    batch.column_by_name(IDENTITY).is_some()
}

/// The rows of a batch without the columns of changes.
pub fn rows_of(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let is_row =
        |place: &usize| ![IDENTITY, OWNER, DIFF].contains(&schema.field(*place).name().as_str());
    let places: Vec<usize> = (0..schema.fields().len()).filter(is_row).collect();
    batch
        .project(&places)
        .expect("the places are those of the batch")
}

/// Which rows a merge gives out.
pub enum Wanted {
    /// All that stand.
    Standing,
    /// All that stand and whose owner's hash this accepts. Of batches whose owners were hashed in
    /// another way all are given out, even ones that newer layers know better of others.
    Owned {
        /// How owners are hashed now.
        hashing: u64,
        /// Whether a hash is wanted.
        owns: Box<dyn Fn(u64) -> bool>,
    },
    /// All, also that a row is gone: there may be older layers below.
    Changes,
}

/// Merges layers, the newest last. Gives batches of changes, each sorted; those of one schema
/// follow one another in order.
pub struct Merge {
    layers: Vec<Layer>,
    heads: BinaryHeap<Head>,
    wanted: Wanted,
    /// Into whose batches rows are dealt; the worker does not matter.
    dealt: Option<Share>,
    /// The row dealt with last: older layers' say about it does not count.
    last: Option<(Rc<Held>, usize)>,
    schemas: Vec<SchemaRef>,
    /// By schema, and by worker where rows are dealt.
    gathered: BTreeMap<Group, Gathered>,
    is_started: bool,
}

/// A batch of a layer, with its columns of changes at hand.
struct Held {
    batch: RecordBatch,
    identities: BinaryArray,
    owners: UInt64Array,
    diffs: Int8Array,
    schema: usize,
    /// Whether owners can be compared with those of now.
    is_comparable: bool,
    /// Among how many workers its rows are dealt, if they are.
    of: Option<u64>,
    /// Where the batch is among those gathered.
    places: RefCell<BTreeMap<Group, usize>>,
}

impl Held {
    /// The first row from one on that is not before an identity. Looks twice as far each time: it
    /// may be the next row, or none of many.
    fn not_before(&self, from: usize, identity: &[u8]) -> usize {
        let rows = self.batch.num_rows();
        let is_before = |row: usize| self.identities.value(row) < identity;
        let (mut low, mut step) = (from, 1);
        while low + step <= rows && is_before(low + step - 1) {
            (low, step) = (low + step, step * 2);
        }
        let mut high = (low + step).min(rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A schema, and a worker where rows are dealt.
type Group = (usize, Option<u64>);

/// Where a layer is.
struct Head {
    held: Rc<Held>,
    at: usize,
    layer: usize,
}

impl Head {
    fn identity(&self) -> &[u8] {
        self.held.identities.value(self.at)
    }
}

impl Ord for Head {
    /// The greatest is the next: least identity, and of those the newest layer.
    fn cmp(&self, other: &Head) -> Ordering {
        let next = other.identity().cmp(self.identity());
        next.then(self.layer.cmp(&other.layer))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// Rows on their way out.
#[derive(Default)]
struct Gathered {
    batches: Vec<Rc<Held>>,
    rows: Vec<(usize, usize)>,
}

impl Merge {
    /// Merges layers, the newest last.
    pub fn new(layers: Vec<Layer>, wanted: Wanted) -> Merge {
        Merge {
            layers,
            heads: BinaryHeap::new(),
            wanted,
            dealt: None,
            last: None,
            schemas: Vec::new(),
            gathered: BTreeMap::new(),
            is_started: false,
        }
    }

    /// Has each batch be of one worker's rows, as far as owners are hashed like this.
    #[must_use]
    pub fn dealt(mut self, among: Option<Share>) -> Merge {
        self.dealt = among;
        self
    }

    /// The layer's next batch that has rows.
    fn load(&mut self, layer: usize) -> Result<Option<Rc<Held>>, MergeError> {
        for batch in &mut self.layers[layer] {
            let batch = batch?;
            if batch.num_rows() > 0 {
                return self.hold(batch).map(|held| Some(Rc::new(held)));
            }
        }
        Ok(None)
    }

    fn hold(&mut self, batch: RecordBatch) -> Result<Held, MergeError> {
        let column = |name: &str, kind: DataType| {
            let column = batch
                .column_by_name(name)
                .filter(|c| *c.data_type() == kind);
            column.ok_or_else(|| MergeError(format!("it has no column '{name}' of type {kind}")))
        };
        let identities = column(IDENTITY, DataType::Binary)?.as_binary().clone();
        let owners = column(OWNER, DataType::UInt64)?
            .as_primitive::<UInt64Type>()
            .clone();
        let diffs = column(DIFF, DataType::Int8)?
            .as_primitive::<Int8Type>()
            .clone();
        // Whose rows they are makes no other shape.
        let schema = with_share(batch.schema().as_ref().clone(), None);
        let known = self.schemas.iter().position(|known| *known == schema);
        let place = known.unwrap_or(self.schemas.len());
        if known.is_none() {
            self.schemas.push(Arc::clone(&schema));
        }
        let is_comparable = match &self.wanted {
            Wanted::Owned { hashing, .. } => is_hashed(&batch, *hashing),
            Wanted::Standing | Wanted::Changes => false,
        };
        let dealt = self.dealt.filter(|share| is_hashed(&batch, share.hashing));
        let of = dealt.map(|share| share.of);
        Ok(Held {
            batch,
            identities,
            owners,
            diffs,
            schema: place,
            is_comparable,
            of,
            places: RefCell::default(),
        })
    }

    /// Takes rows until a batch is full; says of which schema.
    fn fill(&mut self) -> Result<Option<Group>, MergeError> {
        if !self.is_started {
            self.is_started = true;
            for layer in 0..self.layers.len() {
                if let Some(held) = self.load(layer)? {
                    self.advance(held, 0, layer)?;
                }
            }
        }
        while let Some(Head { held, at, layer }) = self.heads.pop() {
            let is_known = self.last.as_ref().is_some_and(|(last, row)| {
                last.identities.value(*row) == held.identities.value(at)
            });
            // Up to where no other layer has a row, all are taken in one go.
            let end = match self.heads.peek() {
                Some(next) => held.not_before(at + 1, next.identity()),
                None => held.batch.num_rows(),
            };
            let (reached, full) = self.take(&held, at + usize::from(is_known)..end);
            self.last = Some((Rc::clone(&held), reached - 1));
            self.advance(held, reached, layer)?;
            if full.is_some() {
                return Ok(full);
            }
        }
        Ok(None)
    }

    /// Puts the layer at its next row. Another owner's rows are passed over: what any layer says of
    /// them does not matter.
    fn advance(&mut self, held: Rc<Held>, at: usize, layer: usize) -> Result<(), MergeError> {
        let (mut held, mut at) = (held, at);
        loop {
            let rows = held.batch.num_rows();
            let next = match &self.wanted {
                Wanted::Owned { owns, .. } if held.is_comparable => {
                    (at..rows).find(|row| owns(held.owners.value(*row)))
                }
                _ => Some(at).filter(|at| *at < rows),
            };
            if let Some(at) = next {
                self.heads.push(Head { held, at, layer });
                return Ok(());
            }
            let Some(more) = self.load(layer)? else {
                return Ok(());
            };
            (held, at) = (more, 0);
        }
    }

    /// Gathers those of some rows that are wanted, until a batch is full; says how far it came, and
    /// of which schema the batch is.
    fn take(&mut self, held: &Rc<Held>, rows: Range<usize>) -> (usize, Option<Group>) {
        let mut places = held.places.borrow_mut();
        let full = match &self.wanted {
            Wanted::Owned { .. } => RESTORED_ROWS,
            Wanted::Standing | Wanted::Changes => BATCH_ROWS,
        };
        for at in rows.clone() {
            let stands = || held.diffs.value(at) > 0;
            let is_wanted = match &self.wanted {
                Wanted::Changes => true,
                Wanted::Standing => stands(),
                Wanted::Owned { owns, .. } => {
                    stands() && (!held.is_comparable || owns(held.owners.value(at)))
                }
            };
            if !is_wanted {
                continue;
            }
            let group = (held.schema, held.of.map(|of| held.owners.value(at) % of));
            let gathered = self.gathered.entry(group).or_default();
            let place = *places.entry(group).or_insert_with(|| {
                gathered.batches.push(Rc::clone(held));
                gathered.batches.len() - 1
            });
            gathered.rows.push((place, at));
            if gathered.rows.len() >= full {
                return (at + 1, Some(group));
            }
        }
        (rows.end, None)
    }

    fn flush(&mut self, group: Group) -> Result<RecordBatch, MergeError> {
        let gathered = self.gathered.remove(&group).unwrap_or_default();
        for held in &gathered.batches {
            held.places.borrow_mut().remove(&group);
        }
        let batches: Vec<&RecordBatch> = gathered.batches.iter().map(|held| &held.batch).collect();
        let merged = interleave_record_batch(&batches, &gathered.rows)?;
        let (schema, me) = group;
        let share = self.dealt.zip(me).map(|(share, me)| Share { me, ..share });
        let schema = with_share(self.schemas[schema].as_ref().clone(), share);
        Ok(RecordBatch::try_new(schema, merged.columns().to_vec())?)
    }
}

impl Iterator for Merge {
    type Item = Result<RecordBatch, MergeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let full = match self.fill() {
            Ok(Some(schema)) => Some(schema),
            Ok(None) => self.gathered.keys().next().copied(),
            Err(error) => {
                self.heads.clear();
                self.gathered.clear();
                return Some(Err(error));
            }
        };
        full.map(|schema| self.flush(schema))
    }
}

#[cfg(test)]
mod tests;
