//! Streams held in memory, and a query over them in one go.

use bytes::Bytes;

use crate::query::{Catalog, Overrides, Query};
use crate::record::{Chunk, Format, Positions, Span};
use crate::source::{Partition, Source, SourceError};
use crate::worker::replay::Replay;

/// A stream held in memory, one partition per text of NDJSON.
#[derive(Clone, Debug)]
pub struct MemorySource {
    stream: String,
    partitions: Vec<Bytes>,
}

impl MemorySource {
    /// Records as NDJSON; empty lines and indentation do not matter.
    pub fn new(stream: &str, partitions: &[&str]) -> MemorySource {
        let partitions = partitions
            .iter()
            .map(|text| Bytes::copy_from_slice(text.as_bytes()))
            .collect();
        MemorySource {
            stream: stream.to_owned(),
            partitions,
        }
    }
}

impl Source for MemorySource {
    fn stream(&self) -> &str {
        &self.stream
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        let partition = |(id, bytes): (u32, &Bytes)| Partition::new(id, 0, bytes.len() as u64);
        Ok((0..).zip(&self.partitions).map(partition).collect())
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        let all = &self.partitions[partition as usize];
        let within = |position| usize::try_from(position).map_or(all.len(), |p| p.min(all.len()));
        let (start, last) = (within(position), until.map_or(all.len(), within));
        let rest = all.slice(start..last);
        if rest.is_empty() {
            return Ok(None);
        }
        // At least one line, then as many as fit.
        let newline = |from: usize| memchr::memchr(b'\n', &rest[from..]).map(|at| from + at + 1);
        let mut end = newline(0).unwrap_or(rest.len());
        while let Some(next) = newline(end).or((end < rest.len()).then_some(rest.len())) {
            if next > max_bytes {
                break;
            }
            end = next;
        }
        Ok(Some(Chunk {
            partition,
            start: position,
            end: position + end as u64,
            format: Format::Json,
            positions: Positions::Bytes,
            bytes: rest.slice(..end),
            spans: vec![Span {
                first: position,
                offset: 0,
                len: end,
                arrival: None,
            }],
            unread: None,
            lost: 0,
        }))
    }

    fn origin(&self, _partition: u32) -> String {
        "memory".to_owned()
    }

    fn is_bounded(&self) -> bool {
        true
    }
}

/// The final rows of a query over streams of one partition each, as the API writes them, in order.
///
/// # Panics
///
/// If the query cannot be built or run.
pub fn batch(query: Query, streams: &[(&str, &str)]) -> Vec<String> {
    let catalog =
        Catalog::of(std::slice::from_ref(&query), &Overrides::default()).expect("the query builds");
    let sources = streams
        .iter()
        .map(|(stream, text)| -> Box<dyn Source> { Box::new(MemorySource::new(stream, &[text])) });
    let replayed = Replay::new(query, catalog, sources.collect())
        .run()
        .expect("the query runs");
    let lines = replayed.rows.into_iter().flat_map(|(row, count)| {
        let end = if row.final_at().is_some() {
            r#","final":true}"#
        } else {
            "}"
        };
        let line = format!(r#"{{"key":{},"value":{}{end}"#, row.key(), row.value());
        std::iter::repeat_n(line, usize::try_from(count).unwrap_or(0))
    });
    lines.collect()
}
