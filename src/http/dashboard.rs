//! The dashboard: one static page that reads the same API as everybody.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use warp::http::Response as HttpResponse;
use warp::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use warp::reply::Response;

const PAGE: &str = include_str!("dashboard.html");

/// Allows the page its own style and script, by their digests, and requests to us: nothing else.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; connect-src 'self'; img-src data:; style-src '{}'; script-src '{}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest("<style>", "</style>"),
        digest("<script>", "</script>"),
    );
    HeaderValue::try_from(policy).expect("the policy is visible ASCII")
});

/// `GET /`.
pub(super) fn page() -> Response {
    let mut response = HttpResponse::new(PAGE.into());
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

/// The digest of what stands between two tags, as the policy writes it.
fn digest(open: &str, close: &str) -> String {
    let start = PAGE.find(open).map_or(0, |at| at + open.len());
    let len = PAGE[start..].find(close).unwrap_or(0);
    format!(
        "sha256-{}",
        STANDARD.encode(Sha256::digest(&PAGE[start..start + len]))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_one_script_and_no_address_of_others() {
        for tag in ["<style>", "</style>", "<script>", "</script>"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
        for forbidden in [
            "innerHTML",
            "http://",
            "https://",
            " style=",
            " onclick=",
            "eval(",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
    }
}
