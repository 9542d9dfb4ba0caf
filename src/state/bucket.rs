//! Checkpoints in a bucket of S3, or of what speaks like it.
//!
//! Uploads go on beside the thread that writes, a few at a time: at most [`UPLOADS`] objects of up
//! to [`PART`] bytes wait in memory, and one more is being filled by each thread that writes. What
//! is longer goes up in parts. Whoever reads or settles waits; no worker does after the start.

mod claim;
mod connection;
mod uploads;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::{MultipartUpload, PutPayload};
use tokio::runtime::{Handle, Runtime};

use super::error::StateError;
use super::objects::{Objects, SEGMENTS, Unfinished};
use claim::Claim;
use connection::{Connection, New};
use uploads::Uploads;

/// Bytes that go up in one request.
const PART: usize = 8 << 20;
/// Objects that go up at a time, beside those that go up in parts.
const UPLOADS: usize = 4;

/// Where a bucket is, and how patient to be with it. Keys come from the environment, as for other
/// clients of S3: `AWS_ACCESS_KEY_ID` and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// `s3://BUCKET/PREFIX`: the service's own prefix.
    pub url: String,
    /// The server; AWS itself, or what `AWS_ENDPOINT_URL` says, when empty.
    pub endpoint: String,
    /// The region; what `AWS_REGION` says when empty.
    pub region: String,
    /// How long one request may take, and how long it is tried again.
    pub timeout: Duration,
    /// After how long without a sign of life another service may go on in its place.
    pub takeover: Duration,
}

/// The objects below a prefix of a bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    connection: Arc<Connection>,
    uploads: Arc<Uploads>,
    /// What proves that nobody else writes here; looking needs none.
    claim: Option<Arc<Claim>>,
    runtime: Option<Runtime>,
}

impl Bucket {
    /// Looks at a bucket.
    pub fn open(options: &BucketOptions) -> Result<Bucket, StateError> {
        let connection = Connection::new(options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bucket")
            .enable_all()
            .build()
            .map_err(|cause| StateError::Refused(format!("cannot start a thread: {cause}")))?;
        Ok(Bucket {
            connection: Arc::new(connection),
            uploads: Arc::default(),
            claim: None,
            runtime: Some(runtime),
        })
    }

    /// Takes a prefix for the service of a data directory that this process owns. Refused by name
    /// where another service has it.
    pub fn own(options: &BucketOptions, data_dir: &Path) -> Result<Bucket, StateError> {
        let mut bucket = Bucket::open(options)?;
        let connection = Arc::clone(&bucket.connection);
        let claim = Claim::new(connection, data_dir, options.takeover)?;
        let claim = Arc::new(claim);
        bucket.handle().block_on(claim.take())?;
        bucket.handle().spawn(Arc::clone(&claim).renew());
        bucket.claim = Some(claim);
        Ok(bucket)
    }

    fn handle(&self) -> &Handle {
        let runtime = self.runtime.as_ref();
        runtime.expect("it is there until the drop").handle()
    }

    /// That nobody else writes here, as of now.
    fn is_ours(&self) -> Result<(), StateError> {
        match &self.claim {
            Some(claim) => self.handle().block_on(claim.again()),
            None => Err(StateError::Refused(
                "the bucket is only looked at".to_owned(),
            )),
        }
    }
}

impl Objects for Bucket {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.connection.name_of(name))
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, StateError> {
        self.handle().block_on(self.connection.names(folder))
    }

    fn scan(&self, name: &str, take: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), StateError> {
        self.handle().block_on(self.connection.scan(name, take))
    }

    fn create(&self, name: &str) -> Result<Box<dyn Unfinished>, StateError> {
        self.uploads.check()?;
        Ok(Box::new(Upload {
            connection: Arc::clone(&self.connection),
            uploads: Arc::clone(&self.uploads),
            handle: self.handle().clone(),
            name: name.to_owned(),
            buffer: Vec::new(),
            parts: None,
        }))
    }

    fn settle(&self, names: &[String]) -> Result<(), StateError> {
        self.uploads.settle(names)
    }

    fn publish(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        self.is_ours()?;
        match self
            .handle()
            .block_on(self.connection.put_new(name, bytes))?
        {
            New::Put => Ok(()),
            New::Taken(_) => Err(StateError::Refused(format!(
                "{} is there already, and another service wrote it: give each a prefix of its own",
                self.connection.name_of(name)
            ))),
        }
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        self.handle()
            .block_on(self.connection.delete(&[name.to_owned()]))
    }

    fn discard(&self, names: &[String]) -> Result<(), StateError> {
        self.uploads.forget(names);
        self.handle().block_on(self.connection.delete(names))
    }

    fn is_apart(&self) -> bool {
        true
    }

    fn put_aside(&self, folder: &str) -> Result<(), StateError> {
        self.is_ours()?;
        // Manifests last: until then all is as it was.
        for from in [SEGMENTS, ""] {
            let names = self.names(from)?;
            let names: Vec<String> = names
                .into_iter()
                .map(|name| format!("{from}{name}"))
                .collect();
            let copied = self.connection.copy(&names, folder);
            self.handle().block_on(copied)?;
        }
        for from in ["", SEGMENTS] {
            let names = self.names(from)?;
            let names: Vec<String> = names
                .into_iter()
                .map(|name| format!("{from}{name}"))
                .collect();
            self.handle().block_on(self.connection.delete(&names))?;
        }
        Ok(())
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // Inside a runtime nothing may wait: the next service waits then, for a sign of life.
        if let Some(claim) = &self.claim
            && Handle::try_current().is_err()
        {
            runtime.block_on(claim.leave());
        }
        runtime.shutdown_background();
    }
}

/// An object that is being filled.
struct Upload {
    connection: Arc<Connection>,
    uploads: Arc<Uploads>,
    handle: Handle,
    name: String,
    buffer: Vec<u8>,
    /// Of an object that is too long for one request.
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    /// Sends what is buffered as a part.
    fn send_part(&mut self) -> io::Result<()> {
        let payload = PutPayload::from(std::mem::take(&mut self.buffer));
        let sent = self.handle.block_on(async {
            if self.parts.is_none() {
                self.parts = Some(self.connection.begin_parts(&self.name).await?);
            }
            let parts = self.parts.as_mut().expect("they were just begun");
            parts.put_part(payload).await
        });
        sent.map_err(io::Error::other)
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PART {
            self.send_part()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Unfinished for Upload {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.parts.is_none() {
            let (connection, name) = (Arc::clone(&self.connection), self.name.clone());
            let bytes = std::mem::take(&mut self.buffer);
            let uploads = Arc::clone(&self.uploads);
            uploads.begin(&self.name);
            self.handle.spawn(async move {
                let put = connection.put(&name, bytes).await;
                uploads.ended(&name, put);
            });
            return Ok(());
        }
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        let mut parts = self.parts.take().expect("it was just there");
        let done = self.handle.block_on(parts.complete());
        if done.is_err() {
            self.parts = Some(parts);
        }
        done.map(|_| ()).map_err(io::Error::other)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut parts) = self.parts.take() {
            // Parts that stay behind cost until the bucket's rules remove them.
            self.handle.spawn(async move { drop(parts.abort().await) });
        }
    }
}
