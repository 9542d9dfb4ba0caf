//! What pages of other sites may do, where the configuration names them: everything that a client
//! with the same token may.

use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue, VARY,
};
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

/// Headers that a page may send.
const SENT: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-None-Match, \
     Last-Event-ID",
);

/// Headers of an answer that a page may look at.
const SHOWN: HeaderValue = HeaderValue::from_static(
    "ETag, Retry-After, Waterclock-As-Of, Waterclock-Complete-Through, Waterclock-Age-Ms, \
     Waterclock-Positions, Waterclock-Next",
);

/// Answers a browser that asks what a page may do.
pub(super) fn preflight() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, HEAD, POST");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(600));
    response
}

/// Lets the page of this origin see an answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
    headers.append(VARY, HeaderValue::from_static("Origin"));
}
