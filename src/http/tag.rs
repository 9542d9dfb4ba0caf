//! Entity tags: whether a client has an answer already, told before anything is read.
//!
//! A tag stands for all that an answer says besides its epoch, which moves on while nothing
//! happens: the run, the request, the epoch that last changed the rows, positions and watermark.
//! A page with a cursor in it stands for its own epoch as well, because the cursor ends with it.

use sha2::{Digest, Sha256};
use warp::http::header::{ETAG, HeaderValue};
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::accept::{Accepts, Format};
use super::moment::Subject;
use crate::time::Epoch;
use crate::view::Labels;

/// Which page is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) limit: usize,
    /// Where it begins, however that is written.
    pub(super) position: &'a [u8],
}

/// The two tags that an answer may have.
pub(super) struct Tags {
    whole: String,
    paged: String,
}

impl Tags {
    /// The tags of an answer by its labels, and the epoch that last changed its rows.
    pub(super) fn of(
        subject: &Subject<'_>,
        asked: Asked<'_>,
        accepts: &Accepts,
        labels: &Labels,
        changed_at: Epoch,
    ) -> Tags {
        let mut hasher = Sha256::new();
        let mut add = |number: u64| hasher.update(number.to_le_bytes());
        add(labels.run);
        add(u64::from(subject.scope));
        add(asked.limit as u64);
        add(accepts.format.unwrap_or(Format::Json) as u64);
        add(accepts.coding as u64);
        add(changed_at);
        for name in &subject.streams {
            let Some(label) = labels.streams.get(*name) else {
                continue;
            };
            add(label
                .watermark
                .map_or(u64::MAX, |time| time.0.cast_unsigned()));
            for (partition, label) in &label.partitions {
                add(u64::from(*partition));
                add(label.position);
            }
        }
        hasher.update(asked.position);
        let digest = hasher.finalize();
        let digest = digest
            .iter()
            .take(8)
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        Tags {
            paged: format!("W/\"{digest}-{}\"", labels.epoch),
            whole: format!("W/\"{digest}\""),
        }
    }

    /// The tag that the client has, if it has the answer.
    pub(super) fn known(&self, accepts: &Accepts) -> Option<&str> {
        [&self.whole, &self.paged]
            .into_iter()
            .find(|tag| accepts.knows(tag))
            .map(String::as_str)
    }

    /// The same where the epochs are what the answer is about.
    pub(super) fn known_at_its_epoch(&self, accepts: &Accepts) -> Option<&str> {
        Some(self.paged.as_str()).filter(|tag| accepts.knows(tag))
    }

    /// Tells the client the tag of an answer, which may go on on another page.
    pub(super) fn mark(&self, headers: &mut HeaderMap, has_next: bool) {
        insert(headers, if has_next { &self.paged } else { &self.whole });
    }
}

/// Says that the client has the answer already.
pub(super) fn not_modified(tag: &str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    insert(response.headers_mut(), tag);
    response
}

fn insert(headers: &mut HeaderMap, tag: &str) {
    let tag = HeaderValue::try_from(tag).expect("a tag is visible ASCII");
    headers.insert(ETAG, tag);
}
