//! Who may ask: only by our own name, from our own pages, and with the token if there is one.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use warp::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use warp::http::uri::Authority;
use warp::http::{HeaderMap, Request, Version};

use super::options::HttpOptions;
use super::problem::{Kind, Problem};

/// What probes and the dashboard's page, which holds no data, may fetch without a token.
const OPEN_PATHS: [&str; 3] = ["/", "/healthz", "/readyz"];

/// Decides which requests are let in.
pub(super) struct Guard {
    hosts: Vec<String>,
    /// The digest, so that comparing takes the same time however much of a guess is right.
    token: Option<[u8; 32]>,
}

impl Guard {
    pub(super) fn new(options: &HttpOptions) -> Guard {
        Guard {
            hosts: options.hosts.clone(),
            token: options
                .token
                .as_ref()
                .map(|token| Sha256::digest(token).into()),
        }
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
        if let Some(origin) = one(request.headers(), ORIGIN)? {
            let origin_host = origin.split_once("://").map(|(_, host)| host);
            let is_ours = |(a, b): (&str, &str)| a.eq_ignore_ascii_case(b);
            if !origin_host.zip(host).is_some_and(is_ours) {
                return Err(Problem::new(
                    Kind::Forbidden,
                    format!(
                        "origin '{origin}' is not this service: pages of other sites may not use it"
                    ),
                ));
            }
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
        let Some(expected) = &self.token else {
            return Ok(());
        };
        if OPEN_PATHS.contains(&request.uri().path()) {
            return Ok(());
        }
        let given = one(request.headers(), AUTHORIZATION)?.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match given.map(|token| <[u8; 32]>::from(Sha256::digest(token))) {
            Some(digest) if digest == *expected => Ok(()),
            Some(_) => Err(Problem::new(
                Kind::Unauthorized,
                "the bearer token is not the right one",
            )),
            None => Err(Problem::new(
                Kind::Unauthorized,
                "this service asks for a token: send it as 'Authorization: Bearer ...'",
            )),
        }
    }
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
    fn a_token_is_asked_for_where_there_is_one() {
        let options = HttpOptions {
            token: Some("secret".into()),
            ..HttpOptions::default()
        };
        let guard = Guard::new(&options);
        let with = |path, token: Option<&str>| {
            let mut headers = vec![("host", "localhost")];
            headers.extend(token.map(|token| ("authorization", token)));
            verdict(&guard, path, &headers)
        };
        assert_eq!(with("/v1/queries", None), Err(Kind::Unauthorized));
        assert_eq!(
            with("/v1/queries", Some("Bearer guess")),
            Err(Kind::Unauthorized)
        );
        assert_eq!(
            with("/v1/queries", Some("Basic secret")),
            Err(Kind::Unauthorized)
        );
        assert_eq!(with("/v1/queries", Some("bearer secret")), Ok(()));
        assert_eq!(with("/healthz", None), Ok(()));
    }
}
