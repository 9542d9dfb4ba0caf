//! Posts: records for a stream.

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use warp::http::HeaderMap;
use warp::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use warp::hyper::body::Bytes;
use warp::reply::Response;

use super::answer::json;
use super::body::{self, Held};
use super::params;
use super::problem::{Kind, Problem};
use super::records::{self, MediaType, SplitError};
use super::state::State;
use super::token::Token;
use crate::view::{LineVerdict, PostAnswer, PostRequest};

/// A larger body is divided and digested off the threads that serve other requests.
const LARGE_BODY: usize = 64 << 10;
/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// `POST /v1/streams/{stream}`.
pub(super) async fn records(
    state: Arc<State>,
    stream: String,
    raw: String,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    params::none(&raw)?;
    let stream = params::decode(&stream, false).unwrap_or(stream);
    let ingest = &state.service.ingest;
    ingest.accepts(&stream)?;
    check_backlog(&state, &stream)?;
    let media_type = media_type(&stream, &headers)?;
    let is_gzip = is_gzip(&headers)?;
    let idempotency_key = idempotency_key(&headers)?;
    let is_large = is_gzip || body.len() > LARGE_BODY;
    let shared = Arc::clone(&state);
    let prepare = move || {
        let State {
            service,
            body_budget,
            ..
        } = &*shared;
        let body = if is_gzip {
            body::inflate(&body, service.options.body_limit, body_budget)?
        } else {
            // The edge holds the share of the budget.
            Held::free(body)
        };
        request(&body.bytes, media_type, idempotency_key).map(|request| (request, body))
    };
    let ((request, are_lines), body) = if is_large {
        spawn_blocking(prepare)
            .await
            .map_err(|_| Problem::stopping())??
    } else {
        prepare()?
    };
    if request.lines.is_empty() {
        // An empty array: nothing to store, and nothing that could be counted twice.
        let position = ingest.end(&stream).unwrap_or(0);
        return Ok(answer(
            &stream,
            &PostAnswer {
                accepted: 0,
                rejected: Vec::new(),
                position,
            },
        ));
    }
    let (reply, outcome) = oneshot::channel();
    let reply = Box::new(move |outcome| {
        // The client may be gone; the records are stored all the same.
        reply.send(outcome).ok();
    });
    ingest.post(&stream, request, reply);
    let mut stored = outcome.await.map_err(|_| Problem::stopping())??;
    records::number_lines(&body.bytes, are_lines, &mut stored.rejected);
    Ok(answer(&stream, &stored))
}

/// Refuses a post while too much of what was acknowledged is not shown yet: more would only wait
/// longer. Before the service is ready nothing is shown, and posts are taken all the same.
fn check_backlog(state: &State, stream: &str) -> Result<(), Problem> {
    let (Ok(labels), Some(end)) = (state.upper(), state.service.ingest.end(stream)) else {
        return Ok(());
    };
    let most = state.service.options.max_backlog;
    if state.fresh.posted(state.now(), &labels, stream, end) <= most {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Overloaded,
        format!(
            "stream '{stream}' is more than {} s behind: post again once it has caught up",
            most.as_secs()
        ),
    ))
}

/// The request for the log, and whether its records stood on lines of their own. The digest is of
/// what was compressed: compressing it again may give other bytes.
fn request(
    body: &[u8],
    media_type: MediaType,
    idempotency_key: Option<String>,
) -> Result<(PostRequest, bool), Problem> {
    let records = records::split(body, media_type).map_err(|error| {
        let kind = match error {
            SplitError::TooMany(_) => Kind::TooLarge,
            SplitError::Empty | SplitError::NotJson(_) => Kind::Body,
        };
        Problem::new(kind, error.to_string())
    })?;
    let request = PostRequest {
        lines: records.lines,
        idempotency_key,
        digest: Sha256::digest(body).into(),
    };
    Ok((request, records.are_lines))
}

fn answer(stream: &str, stored: &PostAnswer) -> Response {
    #[derive(Serialize)]
    struct Wire<'a> {
        accepted: u64,
        rejected: &'a [LineVerdict],
        token: String,
    }
    let token = Token {
        stream: stream.to_owned(),
        position: stored.position,
    }
    .encode();
    let wire = Wire {
        accepted: stored.accepted,
        rejected: &stored.rejected,
        token,
    };
    json(serde_json::to_vec(&wire).expect("text and numbers always serialise"))
}

fn media_type(stream: &str, headers: &HeaderMap) -> Result<MediaType, Problem> {
    let given = headers
        .get(CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    given.as_deref().and_then(MediaType::parse).ok_or_else(|| {
        let given = given.map_or("no content type".to_owned(), |given| format!("'{given}'"));
        Problem::new(
            Kind::MediaType,
            format!(
                "stream '{stream}' takes application/json and application/x-ndjson, not {given}"
            ),
        )
    })
}

/// Whether the body is compressed, with the one coding that is taken.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut given = headers.get_all(CONTENT_ENCODING).iter();
    let (first, more) = (given.next(), given.next());
    let Some(first) = first else { return Ok(false) };
    let is = |name: &str| more.is_none() && first.as_bytes().eq_ignore_ascii_case(name.as_bytes());
    if is("gzip") || is("x-gzip") {
        return Ok(true);
    }
    if is("identity") {
        return Ok(false);
    }
    Err(Problem::new(
        Kind::ContentCoding,
        "header Content-Encoding asks for another coding: compress the body with gzip, or not",
    ))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if keys.next().is_none() && (1..=MAX_KEY).contains(&key.len()) => {
            Ok(Some(key.to_owned()))
        }
        _ => Err(Problem::parameter(format!(
            "header Idempotency-Key must stand once, with 1 to {MAX_KEY} visible ASCII characters"
        ))),
    }
}
