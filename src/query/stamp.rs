//! The canonical order of records: event time, stream, partition, position. Ties and "latest" go
//! by it, so that no answer depends on arrival across partitions.

use serde::{Deserialize, Serialize};

use crate::dataflow::decode::Rec;
use crate::record::Text;

/// Where a record stands in the canonical order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub time: i64,
    /// By name: places in the catalog change with the set of queries, saved rows must not.
    pub stream: Text,
    pub partition: u32,
    pub position: u64,
    pub part: u16,
}

impl Stamp {
    pub fn of<T>(record: &Rec<T>, names: &[Text]) -> Stamp {
        Stamp {
            time: record.time,
            stream: names[usize::from(record.stream)].clone(),
            partition: record.partition,
            position: record.position,
            part: record.part,
        }
    }
}
