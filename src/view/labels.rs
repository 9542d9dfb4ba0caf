//! What an epoch is complete for: positions and watermarks, published with it.

use std::collections::BTreeMap;

use crate::time::{Epoch, Timestamp};

/// What is known of a closed epoch, the same for every view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// The run: changes only when the journal's tail was lost.
    pub run: u64,
    /// The closed epoch.
    pub epoch: Epoch,
    /// Per stream what the epoch includes.
    pub streams: BTreeMap<String, StreamLabel>,
}

/// What an epoch includes of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamLabel {
    /// No event with a time at or before it is expected any more; `None` before the first event.
    pub watermark: Option<Timestamp>,
    /// Its partitions.
    pub partitions: BTreeMap<u32, PartitionLabel>,
}

/// What an epoch includes of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionLabel {
    /// The next position not yet included.
    pub position: u64,
    /// The position after the last record the source has, as far as known at that epoch.
    pub end: u64,
    /// The partition's own watermark.
    pub watermark: Option<Timestamp>,
    /// Whether it holds the stream's watermark back no longer because nothing came for a while.
    pub idle: bool,
}

impl Labels {
    /// The event-time watermark over the named streams: the minimum, `None` while any has none.
    pub fn complete_through<'a>(
        &self,
        streams: impl IntoIterator<Item = &'a str>,
    ) -> Option<Timestamp> {
        streams
            .into_iter()
            .map(|name| self.streams.get(name).and_then(|stream| stream.watermark))
            .min()
            .flatten()
    }
}
