//! Where the files of checkpoints are: objects that are whole or not there, by name.
//!
//! Two places there are: a directory ([`disk`](super::disk)), and S3 ([`bucket`](super::bucket)).
//! Names are the same in both, so that a directory can be copied to a bucket, and back.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use super::error::StateError;

/// The folder of segments; manifests are at the top.
pub const SEGMENTS: &str = "segments/";

/// A place for the objects of checkpoints.
pub trait Objects: fmt::Debug + Send + Sync {
    /// An object as messages name it.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of the objects in a folder, without the folder, in order.
    fn names(&self, folder: &str) -> Result<Vec<String>, StateError>;

    /// Hands over the bytes of an object, one piece after another.
    fn scan(&self, name: &str, take: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), StateError>;

    /// All bytes of an object.
    fn load(&self, name: &str) -> Result<Vec<u8>, StateError> {
        let mut bytes = Vec::new();
        self.scan(name, &mut |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Begins an object that is not there yet.
    fn create(&self, name: &str) -> Result<Box<dyn Unfinished>, StateError>;

    /// Waits until finished objects are durable; the first failure of one of them.
    fn settle(&self, names: &[String]) -> Result<(), StateError>;

    /// Puts an object in place, durably and at once, if there is none of its name.
    fn publish(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError>;

    /// Removes an object durably, if it is there.
    fn remove(&self, name: &str) -> Result<(), StateError>;

    /// Removes objects, those on their way too. What comes back after a crash is removed later.
    fn discard(&self, names: &[String]) -> Result<(), StateError>;

    /// Whether it outlives the data directory.
    fn is_apart(&self) -> bool {
        false
    }

    /// Keeps all objects out of the way in a folder of their own.
    fn put_aside(&self, folder: &str) -> Result<(), StateError>;
}

/// An object that is being written; given up when it is dropped.
pub trait Unfinished: Write {
    /// Has all that was written kept. It is durable once it was settled.
    fn finish(self: Box<Self>) -> std::io::Result<()>;
}
