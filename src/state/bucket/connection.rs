//! Requests to a bucket, with names below one prefix and errors that say what to do.

use std::fmt::Write;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload, RetryConfig,
};

use super::BucketOptions;
use crate::state::error::StateError;

/// How long it takes at most to reach the server.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a request is tried again, as long as there is time.
const RETRIES: usize = 10;
/// How often a request is made anew of which is not known whether it was carried out.
const ATTEMPTS: usize = 3;

/// What became of an object that was not to be there.
pub(super) enum New {
    /// It is ours.
    Put,
    /// Another one is there: its bytes.
    Taken(Vec<u8>),
}

/// A bucket's objects below a prefix.
#[derive(Debug)]
pub(super) struct Connection {
    url: String,
    prefix: Path,
    store: AmazonS3,
}

impl Connection {
    /// Prepares; nothing is asked yet.
    pub fn new(options: &BucketOptions) -> Result<Connection, StateError> {
        let url = options.url.trim_end_matches('/').to_owned();
        let refused = |cause: String| StateError::Bucket {
            doing: "use",
            object: url.clone(),
            cause,
            way_out: "write snapshot.store as s3://BUCKET/PREFIX",
        };
        let place = url.strip_prefix("s3://").unwrap_or_default();
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(refused("it names no bucket".to_owned()));
        }
        let prefix = Path::parse(prefix).map_err(|error| refused(error.to_string()))?;
        // Two libraries of ours speak TLS; whoever comes first says with what.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_timeout(options.timeout);
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: options.timeout,
            backoff: BackoffConfig {
                max_backoff: Duration::from_secs(5),
                ..BackoffConfig::default()
            },
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry);
        let from_env = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        let from_env = from_env
            .into_iter()
            .find_map(|name| std::env::var(name).ok());
        let endpoint = Some(options.endpoint.clone()).filter(|endpoint| !endpoint.is_empty());
        if let Some(endpoint) = endpoint.or(from_env) {
            let is_plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
        }
        if !options.region.is_empty() {
            builder = builder.with_region(&options.region);
        }
        let store = builder
            .build()
            .map_err(|error| refused(error.to_string()))?;
        Ok(Connection { url, prefix, store })
    }

    /// An object as messages name it.
    pub fn name_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    fn at(&self, name: &str) -> Path {
        name.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), Path::join)
    }

    /// Makes a refusal an error that names the object and the way out.
    fn failed(&self, doing: &'static str, name: &str) -> impl FnOnce(Error) -> StateError {
        let object = self.name_of(name);
        move |error| {
            let said = said(&error);
            if matches!(error, Error::NotFound { .. }) && !said.contains("NoSuchBucket") {
                let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "it is not there");
                let path = object.into();
                return StateError::Io { doing, path, cause };
            }
            let way_out = match &error {
                Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to those of a user that may \
                     list, read, write and delete there"
                }
                Error::NotFound { .. } => "make the bucket, or name another in snapshot.store",
                Error::NotImplemented { .. } => "use a server that knows If-None-Match",
                _ => {
                    "see whether the server runs, and snapshot.store_endpoint and the keys in the \
                      environment are right"
                }
            };
            StateError::Bucket {
                doing,
                object,
                cause: said,
                way_out,
            }
        }
    }

    /// The names of the objects in a folder.
    pub async fn names(&self, folder: &str) -> Result<Vec<String>, StateError> {
        let at = self.at(folder);
        let listed = self.store.list_with_delimiter(Some(&at)).await;
        let listed = listed.map_err(self.failed("list", folder))?;
        let names = listed
            .objects
            .iter()
            .filter_map(|it| it.location.filename());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Hands over the bytes of an object. A connection that breaks is made again where it broke.
    pub async fn scan(
        &self,
        name: &str,
        take: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(), StateError> {
        let read = async {
            let mut pieces = self.store.get(&self.at(name)).await?.into_stream();
            while let Some(piece) = pieces.try_next().await? {
                take(&piece);
            }
            Ok(())
        };
        read.await.map_err(self.failed("read", name))
    }

    /// Puts an object, in place of any other.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        let put = self.store.put(&self.at(name), bytes.into()).await;
        put.map(|_| ()).map_err(self.failed("write", name))
    }

    /// Begins an object that goes up in parts.
    pub async fn begin_parts(&self, name: &str) -> Result<Box<dyn MultipartUpload>, Error> {
        self.store.put_multipart(&self.at(name)).await
    }

    /// Puts an object if there is none of its name.
    pub async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<New, StateError> {
        let payload = PutPayload::from(bytes.clone());
        let mut attempt = 1;
        loop {
            let put = self
                .store
                .put_opts(&self.at(name), payload.clone(), PutMode::Create.into())
                .await;
            let Err(error) = put else {
                return Ok(New::Put);
            };
            // What broke off may have been carried out, and may not be made again blindly.
            match (&error, self.bytes(name).await) {
                (_, Ok(there)) if there == bytes => return Ok(New::Put),
                (Error::AlreadyExists { .. }, Ok(there)) => return Ok(New::Taken(there)),
                _ if attempt == ATTEMPTS => return Err(self.failed("write", name)(error)),
                (Error::AlreadyExists { .. } | Error::Generic { .. }, _) => attempt += 1,
                _ => return Err(self.failed("write", name)(error)),
            }
        }
    }

    /// All bytes of an object.
    pub async fn bytes(&self, name: &str) -> Result<Vec<u8>, StateError> {
        let mut bytes = Vec::new();
        self.scan(name, &mut |piece| bytes.extend_from_slice(piece))
            .await?;
        Ok(bytes)
    }

    /// Deletes objects, whether they are there or not.
    pub async fn delete(&self, names: &[String]) -> Result<(), StateError> {
        let Some(first) = names.first() else {
            return Ok(());
        };
        let paths: Vec<_> = names.iter().map(|name| Ok(self.at(name))).collect();
        let mut deleted = self.store.delete_stream(stream::iter(paths).boxed());
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("delete", first)(error)),
            }
        }
        Ok(())
    }

    /// Copies objects into a folder, under the names they have.
    pub async fn copy(&self, names: &[String], folder: &str) -> Result<(), StateError> {
        for name in names {
            let to = self.at(&format!("{folder}{name}"));
            let copied = self.store.copy(&self.at(name), &to).await;
            copied.map_err(self.failed("copy", name))?;
        }
        Ok(())
    }
}

/// An error with all that led to it, each said once.
fn said(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let deeper_text = deeper.to_string();
        if !text.contains(&deeper_text) {
            // Writing to a string does not fail.
            let _ = write!(text, ": {deeper_text}");
        }
        cause = deeper.source();
    }
    text
}
