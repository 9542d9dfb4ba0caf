//! Who may ask: only by our own name, from our own pages, and with the token if there is one.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use warp::http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN,
};
use warp::http::uri::Authority;
use warp::http::{HeaderMap, Method, Request, Version};

use super::options::{AccessToken, HttpOptions, Scope};
use super::problem::{Kind, Problem};

/// What probes may fetch without a token, and what holds no data: the dashboard's page, and the
/// description of the service.
const OPEN_PATHS: [&str; 4] = ["/", "/healthz", "/readyz", "/v1/openapi.json"];

/// Decides which requests are let in.
pub(super) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
    /// Digests of the tokens: comparing them says nothing of how much of a guess is right.
    tokens: Vec<(Scope, [u8; 32])>,
}

impl Guard {
    pub(super) fn new(options: &HttpOptions) -> Guard {
        let digest = |token: &AccessToken| (token.scope, Sha256::digest(&token.secret).into());
        Guard {
            hosts: options.hosts.clone(),
            origins: options.origins.clone(),
            tokens: options.tokens.iter().map(digest).collect(),
        }
    }

    /// The origin of a page of another site that may use the service.
    pub(super) fn allowed_origin<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        let origin = request.headers().get(ORIGIN)?;
        let is_allowed =
            |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
        self.origins.iter().any(is_allowed).then(|| origin.clone())
    }

    /// Checks a request that came in at the address `local`.
    ///
    /// A page of another site can make a browser send requests to a loopback address, under its own
    /// origin, or under its own host name once it has pointed that name at us.
    pub(super) fn check<B>(&self, request: &Request<B>, local: IpAddr) -> Result<(), Problem> {
        let host = one(request.headers(), HOST)?;
        match host {
            Some(host) => self.check_host(host, local)?,
            None if request.version() == Version::HTTP_11 => {
                return Err(Problem::parameter("header Host is missing"));
            }
            None => {}
        }
        if let Some(authority) = request.uri().authority() {
            self.check_host(authority.as_str(), local)?;
        }
        if let Some(origin) = one(request.headers(), ORIGIN)?
            && self.allowed_origin(request).is_none()
        {
            let origin_host = origin.split_once("://").map(|(_, host)| host);
            let is_ours = |(a, b): (&str, &str)| a.eq_ignore_ascii_case(b);
            if !origin_host.zip(host).is_some_and(is_ours) {
                return Err(Problem::new(
                    Kind::Forbidden,
                    format!(
                        "origin '{origin}' is not this service: pages of other sites may not use \
                         it, unless http.allow_origins names them"
                    ),
                ));
            }
        }
        // Browsers ask first, without a token, whether a page may ask with one.
        if is_preflight(request) {
            return Ok(());
        }
        self.check_token(request)
    }

    fn check_host(&self, host: &str, local: IpAddr) -> Result<(), Problem> {
        let authority: Option<Authority> = host.parse().ok();
        let name = authority
            .as_ref()
            .map(Authority::host)
            .filter(|_| !host.contains('@'));
        if name.is_some_and(|name| self.is_ours(name, local)) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Forbidden,
            format!("host '{host}' is not a name of this service: add it to the configured hosts"),
        ))
    }

    fn is_ours(&self, name: &str, local: IpAddr) -> bool {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if ["localhost", "127.0.0.1", "[::1]"].into_iter().any(is) {
            return true;
        }
        // An address, unlike a name, cannot be pointed at us by somebody else.
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        bare.parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical() == local.to_canonical())
            || self.hosts.iter().any(|host| is(host))
    }

    fn check_token<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let path = request.uri().path();
        if self.tokens.is_empty() || OPEN_PATHS.contains(&path) {
            return Ok(());
        }
        let given = one(request.headers(), AUTHORIZATION)?.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(given) = given else {
            return Err(Problem::new(
                Kind::Unauthorized,
                "this service asks for a token: send it as 'Authorization: Bearer ...'",
            ));
        };
        let given: [u8; 32] = Sha256::digest(given).into();
        let needed = needed(request.method(), path);
        let (mut is_known, mut is_enough) = (false, false);
        // All of them are compared, to the end, whichever it is.
        for (scope, token) in &self.tokens {
            let is_same = is_same(token, &given);
            is_known |= is_same;
            is_enough |= is_same && (*scope == needed || *scope == Scope::Admin);
        }
        match (is_known, is_enough) {
            (true, true) => Ok(()),
            (true, false) => Err(Problem::new(
                Kind::Forbidden,
                format!("the bearer token does not allow to {}", deed(needed)),
            )),
            (false, _) => Err(Problem::new(
                Kind::Unauthorized,
                "the bearer token is not one of this service's",
            )),
        }
    }
}

/// What a request needs a token for.
fn needed(method: &Method, path: &str) -> Scope {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Scope::Read,
        Method::POST if path.starts_with("/v1/streams/") => Scope::Write,
        _ => Scope::Admin,
    }
}

fn deed(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Write => "post records",
        Scope::Admin => "change how the service runs",
    }
}

/// Compares in a time that does not depend on the bytes.
fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differences = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differences) == 0
}

/// Whether a browser asks what a page of another site may do.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// A header that stands at most once, as text.
pub(super) fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text)),
        _ => Err(Problem::parameter(format!(
            "header {name} must stand once, as visible ASCII"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> Result<(), Kind> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let local = IpAddr::from([192, 168, 1, 5]);
        guard
            .check(&request.body(()).unwrap(), local)
            .map_err(|problem| problem.kind)
    }

    #[test]
    fn only_our_own_names_are_let_in() {
        let options = HttpOptions {
            hosts: vec!["water.example".into()],
            ..HttpOptions::default()
        };
        let guard = Guard::new(&options);
        for host in [
            "localhost:8080",
            "LocalHost",
            "127.0.0.1:1",
            "[::1]:8080",
            "192.168.1.5:80",
            "water.example",
        ] {
            assert_eq!(verdict(&guard, "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "192.168.1.6",
            "localhost.evil.example",
            "a@localhost",
            "",
            "local host",
        ] {
            let refused = verdict(&guard, "/", &[("host", host)]);
            assert_eq!(refused, Err(Kind::Forbidden), "{host}");
        }
        assert_eq!(verdict(&guard, "/", &[]), Err(Kind::Parameter));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(verdict(&guard, "/", &twice), Err(Kind::Parameter));
        let absolute = verdict(&guard, "http://evil.example/", &[("host", "localhost")]);
        assert_eq!(absolute, Err(Kind::Forbidden));
    }

    #[test]
    fn only_our_own_pages_are_let_in() {
        let guard = Guard::new(&HttpOptions::default());
        let from = |origin: &str| {
            verdict(
                &guard,
                "/",
                &[("host", "localhost:8080"), ("origin", origin)],
            )
        };
        assert_eq!(from("http://localhost:8080"), Ok(()));
        for origin in [
            "http://localhost:3000",
            "https://evil.example",
            "null",
            "localhost:8080",
        ] {
            assert_eq!(from(origin), Err(Kind::Forbidden), "{origin}");
        }
    }

    #[test]
    fn a_token_allows_what_its_scope_says() {
        let token = |scope, secret: &str| AccessToken {
            scope,
            secret: secret.into(),
        };
        let options = HttpOptions {
            tokens: vec![
                token(Scope::Read, "r"),
                token(Scope::Write, "w"),
                token(Scope::Admin, "a"),
            ],
            ..HttpOptions::default()
        };
        let guard = Guard::new(&options);
        let with = |method: &str, path: &str, token: &str| {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "localhost");
            let request = request.header("authorization", format!("Bearer {token}"));
            let local = IpAddr::from([127, 0, 0, 1]);
            let verdict = guard.check(&request.body(()).unwrap(), local);
            verdict.map_err(|problem| problem.kind)
        };
        let (read, post) = (("GET", "/v1/queries"), ("POST", "/v1/streams/clicks"));
        let (take, stop) = (
            ("POST", "/v1/checkpoints"),
            ("DELETE", "/v1/streams/clicks"),
        );
        for (token, allowed) in [
            ("r", vec![read]),
            ("w", vec![post]),
            ("a", vec![read, post, take, stop]),
        ] {
            for (method, path) in [read, post, take, stop] {
                let expected = if allowed.contains(&(method, path)) {
                    Ok(())
                } else {
                    Err(Kind::Forbidden)
                };
                assert_eq!(
                    with(method, path, token),
                    expected,
                    "{token} {method} {path}"
                );
            }
        }
        for token in ["", "R", "r ", "rr"] {
            let verdict = with("GET", "/v1/queries", token);
            let is_refused = matches!(verdict, Err(Kind::Unauthorized | Kind::Parameter));
            assert!(is_refused || token.trim() == "r", "{token:?} {verdict:?}");
        }
        for bare in ["/healthz", "/v1/openapi.json", "/"] {
            assert_eq!(verdict(&guard, bare, &[("host", "localhost")]), Ok(()));
        }
    }

    #[test]
    fn malformed_tokens_are_no_tokens() {
        let options = HttpOptions {
            tokens: vec![AccessToken {
                scope: Scope::Admin,
                secret: "secret".into(),
            }],
            ..HttpOptions::default()
        };
        let guard = Guard::new(&options);
        let with = |tokens: &[&str]| {
            let mut headers = vec![("host", "localhost")];
            headers.extend(tokens.iter().map(|token| ("authorization", *token)));
            verdict(&guard, "/v1/queries", &headers)
        };
        assert_eq!(with(&["bearer secret"]), Ok(()));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic secret",
            "secret",
            "Bearer secret secret",
        ] {
            assert_eq!(with(&[bad]), Err(Kind::Unauthorized), "{bad}");
        }
        assert_eq!(with(&[]), Err(Kind::Unauthorized));
        assert_eq!(
            with(&["Bearer secret", "Bearer secret"]),
            Err(Kind::Parameter)
        );
        assert_eq!(with(&["Bearer s\u{e9}cret"]), Err(Kind::Parameter));
        let long = format!("Bearer {}", "x".repeat(60_000));
        assert_eq!(with(&[&long]), Err(Kind::Unauthorized));
    }

    #[test]
    fn pages_of_named_origins_are_let_in() {
        let options = HttpOptions {
            origins: vec!["https://app.example".into()],
            ..HttpOptions::default()
        };
        let guard = Guard::new(&options);
        for (origin, expected) in [
            ("https://app.example", Ok(())),
            ("HTTPS://app.example", Ok(())),
            ("http://app.example", Err(Kind::Forbidden)),
            ("https://app.example.evil", Err(Kind::Forbidden)),
        ] {
            let headers = [("host", "localhost"), ("origin", origin)];
            assert_eq!(verdict(&guard, "/", &headers), expected, "{origin}");
        }
    }
}
