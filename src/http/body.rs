//! Request bodies, read into memory within bounds.

use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::hyper::body::{Body, Bytes};

use super::problem::{Kind, Problem};

/// A client that is refused may still be sending. As long as it sends at most this much it is heard
/// out, so that it reads the refusal instead of a broken connection.
const PATIENCE: usize = 256 << 20;

/// How much of a gzip body is taken apart at a time.
const INFLATED: usize = 64 << 10;

/// A body, and its share of what all bodies may take.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Bytes whose share somebody else holds.
    pub(super) fn free(bytes: Bytes) -> Held {
        Held {
            bytes,
            _share: None,
        }
    }
}

/// Reads a body of at most `limit` bytes; with a `refusal` its bytes are only passed over.
pub(super) async fn read<B>(
    mut body: B,
    limit: usize,
    budget: &Arc<Semaphore>,
    refusal: Option<Problem>,
) -> Result<Held, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut refusal = refusal;
    let mut parts = Parts::default();
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::new(
                Kind::Body,
                "the body broke off before its end",
            ));
        };
        // Trailers carry nothing for us.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen = seen.saturating_add(data.len());
        if refusal.is_none() {
            refusal = parts.push(data, seen, limit, budget).err();
        }
        if refusal.is_some() {
            parts = Parts::default();
            if seen > limit.max(PATIENCE) {
                break;
            }
        }
    }
    match refusal {
        Some(problem) => Err(problem),
        None => Ok(parts.join()),
    }
}

/// Takes a gzip body apart, within the same bounds: what counts is what comes out.
pub(super) fn inflate(body: &[u8], limit: usize, budget: &Arc<Semaphore>) -> Result<Held, Problem> {
    let mut decoder = MultiGzDecoder::new(body);
    let (mut parts, mut seen) = (Parts::default(), 0_usize);
    loop {
        let mut part = vec![0; INFLATED];
        let len = decoder.read(&mut part).map_err(|error| {
            Problem::new(Kind::Body, format!("the body is not whole gzip: {error}"))
        })?;
        if len == 0 {
            return Ok(parts.join());
        }
        part.truncate(len);
        seen += len;
        parts.push(part.into(), seen, limit, budget)?;
    }
}

/// Says that a body is larger than it may be.
pub(super) fn too_large(limit: usize) -> Problem {
    let detail = format!("the body is larger than {limit} bytes: send it in parts");
    Problem::new(Kind::TooLarge, detail)
}

#[derive(Default)]
struct Parts {
    parts: Vec<Bytes>,
    share: Option<OwnedSemaphorePermit>,
}

impl Parts {
    fn push(
        &mut self,
        data: Bytes,
        seen: usize,
        limit: usize,
        budget: &Arc<Semaphore>,
    ) -> Result<(), Problem> {
        if seen > limit {
            return Err(too_large(limit));
        }
        let wanted = u32::try_from(data.len()).map_err(|_| too_large(limit))?;
        let share = Arc::clone(budget)
            .try_acquire_many_owned(wanted)
            .map_err(|_| {
                Problem::new(
                    Kind::Overloaded,
                    "too many bytes of posts are arriving at once: try again in a moment",
                )
            })?;
        match &mut self.share {
            Some(held) => held.merge(share),
            held => *held = Some(share),
        }
        self.parts.push(data);
        Ok(())
    }

    fn join(mut self) -> Held {
        let bytes = match self.parts.len() {
            0 => Bytes::new(),
            1 => self.parts.swap_remove(0),
            _ => self.parts.concat().into(),
        };
        Held {
            bytes,
            _share: self.share,
        }
    }
}
