//! Errors over HTTP: RFC 9457 problem details, one sentence that names the object.

use serde::Serialize;
use warp::http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use warp::http::{Response as HttpResponse, StatusCode};
use warp::reply::Response;

use super::accept::Format;
use crate::view::{IngestError, ReadError};

/// What went wrong, as far as a program needs to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A parameter of the address is wrong.
    Parameter,
    /// The body is wrong.
    Body,
    /// The secret is missing or wrong.
    Unauthorized,
    /// The host or origin is not ours.
    Forbidden,
    /// Nothing is at this address.
    NotFound,
    /// The address is there, but not with this method.
    Method(&'static str),
    /// The client takes no format that there is.
    NotAcceptable,
    /// The client was too slow.
    Slow,
    /// The request contradicts what is there.
    Conflict,
    /// The history asked for is given up.
    Gone,
    /// The body is too large.
    TooLarge,
    /// The body is of a type that is not taken.
    MediaType,
    /// The body is compressed in a way that is not taken.
    ContentCoding,
    /// More is waiting than is let wait.
    Overloaded,
    /// A defect of ours.
    Internal,
    /// Not now, but soon.
    NotReady,
    /// What was waited for did not come in time.
    WaitedTooLong,
    /// The query has failed for good.
    QueryFailed,
    /// The disk does not take it.
    Storage,
    /// The disk is full.
    Full,
    /// Memory, and what stands in for it, is used up.
    Memory,
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Kind::Parameter | Kind::Body => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Kind::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Kind::Slow => StatusCode::REQUEST_TIMEOUT,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Gone => StatusCode::GONE,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::MediaType | Kind::ContentCoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::NotReady | Kind::WaitedTooLong | Kind::QueryFailed | Kind::Storage => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Kind::Full | Kind::Memory => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    /// The last part of the problem's type, and its title.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Parameter => ("bad-parameter", "A parameter is wrong"),
            Kind::Body => ("bad-body", "The body cannot be read"),
            Kind::Unauthorized => ("unauthorized", "A token is needed"),
            Kind::Forbidden => ("forbidden", "This caller is not allowed"),
            Kind::NotFound => ("not-found", "There is no such thing"),
            Kind::Method(_) => ("bad-method", "The method does not apply"),
            Kind::NotAcceptable => ("not-acceptable", "No such format is served"),
            Kind::Slow => ("too-slow", "The request took too long to arrive"),
            Kind::Conflict => ("conflict", "The request contradicts what is there"),
            Kind::Gone => ("history-gone", "The history asked for is gone"),
            Kind::TooLarge => ("too-large", "The body is too large"),
            Kind::MediaType => ("bad-media-type", "The body's type is not taken"),
            Kind::ContentCoding => ("bad-coding", "The body's compression is not taken"),
            Kind::Overloaded => ("overloaded", "Too much is waiting"),
            Kind::Internal => ("internal", "The service made a mistake"),
            Kind::NotReady => ("not-ready", "The service is not ready"),
            Kind::WaitedTooLong => ("waited-too-long", "What was waited for did not come"),
            Kind::QueryFailed => ("query-failed", "The query has failed"),
            Kind::Storage => ("storage", "The disk refused"),
            Kind::Full => ("storage-full", "The disk is full"),
            Kind::Memory => ("memory-full", "Memory is used up"),
        }
    }

    /// Seconds after which the same request may succeed.
    fn retry_after(self) -> Option<u16> {
        match self {
            Kind::Overloaded | Kind::NotReady | Kind::WaitedTooLong => Some(1),
            Kind::Storage | Kind::Full | Kind::Memory => Some(5),
            _ => None,
        }
    }
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    /// A sentence that names the object.
    pub(super) detail: String,
}

impl warp::reject::Reject for Problem {}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem {
            kind,
            detail: detail.into(),
        }
    }

    pub(super) fn parameter(detail: impl Into<String>) -> Problem {
        Problem::new(Kind::Parameter, detail)
    }

    /// Final rows are asked of a query that has none.
    pub(super) fn no_final(query: &str) -> Problem {
        Problem::parameter(format!(
            "query '{query}' has no final rows: no window closes all that its rows depend on"
        ))
    }

    pub(super) fn stopping() -> Problem {
        Problem::new(
            Kind::NotReady,
            "the service is stopping: try again in a moment",
        )
    }

    pub(super) fn not_acceptable() -> Problem {
        let formats = Format::ALL.map(Format::media_type).join(", ");
        let detail = format!("header Accept asks for none of the formats served: {formats}");
        Problem::new(Kind::NotAcceptable, detail)
    }

    /// The object of the answer.
    fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Wire<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
        }
        let (slug, title) = self.kind.words();
        serde_json::to_vec(&Wire {
            r#type: format!("urn:waterclock:problem:{slug}"),
            title,
            status: self.kind.status().as_u16(),
            detail: &self.detail,
        })
        .expect("text and numbers always serialise")
    }

    /// The whole answer as it goes over a connection that ends with it.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let body = self.body();
        let status = self.kind.status();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    }

    pub(super) fn into_response(self) -> Response {
        let status = self.kind.status();
        let body = self.body();
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.kind.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self.kind {
            Kind::Method(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Kind::ContentCoding => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            }
            Kind::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        let kind = match &error {
            ReadError::NotReady => Kind::NotReady,
            ReadError::Gone { .. } => Kind::Gone,
            ReadError::Failed { .. } => Kind::QueryFailed,
            ReadError::Future { .. } | ReadError::BadKey { .. } | ReadError::BadPosition => {
                Kind::Parameter
            }
        };
        Problem::new(kind, error.to_string())
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Problem {
        let kind = match &error {
            IngestError::UnknownStream(_) => Kind::NotFound,
            IngestError::NotPostable(..) | IngestError::KeyReused(_) => Kind::Conflict,
            IngestError::Overloaded(_) => Kind::Overloaded,
            IngestError::Storage { cause, .. } if is_disk_full(cause) => Kind::Full,
            IngestError::Storage { .. } => Kind::Storage,
            IngestError::Memory(_) => Kind::Memory,
            IngestError::Stopping => Kind::NotReady,
        };
        Problem::new(kind, error.to_string())
    }
}

/// Whether the system's words say that the disk, or our share of it, is full.
fn is_disk_full(cause: &str) -> bool {
    let cause = cause.to_ascii_lowercase();
    ["no space left", "quota exceeded", "disk full"]
        .iter()
        .any(|words| cause.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: impl Into<Problem>) -> (u16, Option<u16>) {
        let kind = error.into().kind;
        (kind.status().as_u16(), kind.retry_after())
    }

    #[test]
    fn every_refusal_of_a_read_has_its_status() {
        assert_eq!(of(ReadError::NotReady), (503, Some(1)));
        assert_eq!(of(ReadError::Future { at: 2, upper: 1 }), (400, None));
        assert_eq!(of(ReadError::Gone { at: 1, since: 2 }), (410, None));
        assert_eq!(of(ReadError::BadPosition), (400, None));
        assert_eq!(
            of(ReadError::Failed {
                query: "q".into(),
                reason: "r".into()
            }),
            (503, None)
        );
    }

    #[test]
    fn every_refusal_of_a_post_has_its_status() {
        let storage = |cause: &str| IngestError::Storage {
            stream: "s".into(),
            cause: cause.into(),
        };
        assert_eq!(of(IngestError::UnknownStream("s".into())), (404, None));
        assert_eq!(
            of(IngestError::NotPostable("s".into(), "a file".into())),
            (409, None)
        );
        assert_eq!(of(IngestError::KeyReused("k".into())), (409, None));
        assert_eq!(of(IngestError::Overloaded("s".into())), (429, Some(1)));
        assert_eq!(of(storage("input/output error")), (503, Some(5)));
        assert_eq!(
            of(storage("No space left on device (os error 28)")),
            (507, Some(5))
        );
        assert_eq!(of(IngestError::Memory("s".into())), (507, Some(5)));
        assert_eq!(of(IngestError::Stopping), (503, Some(1)));
    }
}
