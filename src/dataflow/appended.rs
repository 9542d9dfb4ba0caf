//! The boundary of an answer that is a stream: each record is a row from its arrival until the
//! watermark has passed its time by the retention. Rows never change in between.

use std::collections::BTreeMap;

use differential_dataflow::hashable::Hashable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::changes::{Changes, Lasting, identity_of};
use super::clock::Clock;
use super::decode::Rec;
use super::feed::Mark;
use super::vault::Boundary;
use crate::record::Text;
use crate::row::{EncodeError, Row};
use crate::time::{Epoch, Timestamp};

/// The key of a stream's row: the stream, partition and position of the record it was made from.
pub type Place = (Text, u32, u64);

/// A record as it is kept, to know its row again when that expires; saved as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "T: Serialize + DeserializeOwned")]
pub struct Saved<T> {
    time: i64,
    /// By name: places in the catalog change with the set of queries, saved rows must not.
    stream: Text,
    partition: u32,
    position: u64,
    /// Where the row came up: epoch, worker, and which of theirs. Tells it from every other, also
    /// where several alike are made of one record.
    came: (Epoch, u32, u32),
    record: T,
}

impl<T> Lasting for Saved<T>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_of(&self.came)
    }

    fn owner(&self) -> u64 {
        self.came.hashed()
    }
}

/// A record's row on its way to the answer.
#[derive(Clone, Debug)]
pub struct Arriving<T> {
    row: Row,
    /// None where rows are asked for once and never expire.
    saved: Option<Saved<T>>,
}

impl<T: Clone + Serialize> Arriving<T> {
    /// Encodes a record's row, once.
    pub fn new(record: &Rec<T>, names: &[Text], is_kept: bool) -> Result<Arriving<T>, EncodeError> {
        let stream = &names[usize::from(record.stream)];
        let (partition, position) = (record.partition, record.position);
        let saved = is_kept.then(|| Saved {
            time: record.time,
            stream: stream.clone(),
            partition,
            position,
            came: Default::default(),
            record: record.data.clone(),
        });
        let row = row((stream, partition, position), &record.data)?;
        Ok(Arriving { row, saved })
    }
}

/// The row of a record. It is final from the start, since nothing can change it.
fn row<T: Serialize>(place: (&str, u32, u64), record: &T) -> Result<Row, EncodeError> {
    Row::new(&place, record, Some(Timestamp::MIN))
}

/// One worker's share of the boundary: the records whose rows are shown, by their time.
pub struct Appended<T> {
    worker: u32,
    /// How long after its time a record is shown, in ms.
    keep: i64,
    saving: Changes<Saved<T>>,
    kept: BTreeMap<i64, Vec<Saved<T>>>,
}

impl<T> Appended<T>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    /// Starts with the records saved for this worker.
    pub fn new(
        worker: u32,
        keep: i64,
        boundary: Boundary,
        owns: impl Fn(u64) -> bool + 'static,
    ) -> Appended<T> {
        Appended {
            worker,
            keep,
            saving: Changes::new(boundary, owns),
            kept: BTreeMap::new(),
        }
    }

    /// Takes a closed epoch, with the query's watermark; gives the rows that come and go. What
    /// expires came in an epoch before: every row is there for one epoch at least, since sinks send
    /// what was shown (decision record 0010).
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        arriving: Vec<Arriving<T>>,
    ) -> Result<Vec<(Row, i64)>, EncodeError> {
        let mut rows = Vec::with_capacity(arriving.len());
        // The epoch restored is shown as it was.
        if let Some(restored) = self.saving.restore() {
            for saved in restored.rows {
                rows.push((saved_row(&saved)?, 1));
                self.take(saved);
            }
            self.saving.is_restored();
        } else if clock.mark != Mark::End {
            self.expire(watermark.saturating_sub(self.keep), &mut rows)?;
        }
        for (number, Arriving { row, saved }) in (0..).zip(arriving) {
            rows.push((row, 1));
            if let Some(mut saved) = saved {
                saved.came = (clock.epoch, self.worker, number);
                self.take(saved);
            }
        }
        if clock.mark == Mark::Checkpoint {
            self.saving.save(clock.epoch, 0);
        } else {
            self.saving.hand_over();
        }
        Ok(rows)
    }

    fn take(&mut self, saved: Saved<T>) {
        self.saving.put(|| saved.clone());
        self.kept.entry(saved.time).or_default().push(saved);
    }

    /// Removes the rows of the records that happened not after `until`.
    fn expire(&mut self, until: i64, rows: &mut Vec<(Row, i64)>) -> Result<(), EncodeError> {
        while let Some(oldest) = self.kept.first_entry() {
            if *oldest.key() > until {
                break;
            }
            for saved in oldest.remove() {
                rows.push((saved_row(&saved)?, -1));
                self.saving.gone(|| saved);
            }
        }
        Ok(())
    }
}

fn saved_row<T: Serialize>(saved: &Saved<T>) -> Result<Row, EncodeError> {
    let place = (&*saved.stream, saved.partition, saved.position);
    row(place, &saved.record)
}
