//! Files as a source: NDJSON or CSV, read to their end or followed as they grow.

mod lent;
mod opened;
mod reader;
mod split;
#[cfg(test)]
mod tests;

pub use reader::{FileFormat, FileOptions, FileSource};
