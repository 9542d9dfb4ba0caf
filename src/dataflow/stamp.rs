//! The canonical order of records: event time, stream, partition, position. Ties and "latest" go
//! by it, so that no answer depends on arrival across partitions.

use serde::{Deserialize, Serialize};

use super::decode::Rec;
use crate::record::Text;

/// Where a record stands in the canonical order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The event time in ms.
    pub time: i64,
    /// By name: places in the catalog change with the set of queries, saved rows must not.
    pub stream: Text,
    /// The partition.
    pub partition: u32,
    /// The position in it.
    pub position: u64,
    /// Which of the records made from the one at this position.
    pub part: u16,
}

impl Stamp {
    /// The place of a record, given the names of the streams.
    pub fn of<T>(record: &Rec<T>, names: &[Text]) -> Stamp {
        Stamp {
            time: record.time,
            stream: names[usize::from(record.stream)].clone(),
            partition: record.partition,
            position: record.position,
            part: record.part,
        }
    }

    /// A record that stands here. One of a stream that is not read any more cannot be named: there
    /// is none.
    pub fn record<T>(&self, watermark: i64, data: T, names: &[Text]) -> Option<Rec<T>> {
        let stream = names.iter().position(|name| *name == self.stream)?;
        Some(Rec {
            time: self.time,
            watermark,
            position: self.position,
            partition: self.partition,
            stream: u16::try_from(stream).ok()?,
            part: self.part,
            data,
        })
    }
}
