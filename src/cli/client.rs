//! The terminal's side of HTTP: asks a running service, blocking, and reads its JSON answers.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, RequestBuilder};

use super::answers::{
    CheckpointList, Diff, Posted, Pull, QueryList, SinkList, Snapshot, StreamList,
};
use super::args::ServiceUrl;
use super::error::{ClientError, foreign};
use crate::view::CheckpointInfo;

/// Longest wait for an answer: a read may itself wait 30 s for what it includes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer read, in bytes: a page of 10,000 rows is far smaller.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// What to read of a query.
#[derive(Clone, Debug, Default)]
pub struct PullRequest {
    /// Its name.
    pub query: String,
    /// Only the rows of this key.
    pub key: Option<String>,
    /// Only rows whose key begins with this.
    pub prefix: Option<String>,
    /// The most rows.
    pub limit: Option<u64>,
    /// The `next` of an answer.
    pub cursor: Option<String>,
    /// The epoch to answer.
    pub at: Option<u64>,
    /// The token of a post to include.
    pub after: Option<String>,
    /// How old an answer may be, such as `10s`.
    pub max_staleness: Option<String>,
}

/// A running service.
#[derive(Clone)]
pub struct Client {
    base: String,
    agent: Agent,
    /// Kept out of what can be shown: this type is not `Debug`.
    token: Option<String>,
}

impl Client {
    /// The service at its URL. Nothing is sent yet.
    pub fn new(service: &ServiceUrl) -> Result<Client, ClientError> {
        let url = &service.url;
        let token = service.token().map_err(|cause| ClientError::Token {
            path: service.token_file.clone().unwrap_or_default(),
            cause,
        })?;
        let base = url.trim_end_matches('/');
        let secure = base.strip_prefix("https://");
        let host = secure.or(base.strip_prefix("http://")).unwrap_or_default();
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ClientError::BadUrl(url.to_owned()));
        }
        let mut agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            // The service is meant, not whatever proxy the environment names.
            .proxy(None);
        if secure.is_some() {
            agent = agent.tls_config(tls(service.ca_file.as_deref())?);
        }
        let agent = agent.build().into();
        Ok(Client {
            base: base.to_owned(),
            agent,
            token,
        })
    }

    /// Rows of a query.
    pub fn pull(&self, read: &PullRequest) -> Result<Pull, ClientError> {
        let mut path = format!("/v1/queries/{}", percent_encoded(&read.query));
        if let Some(key) = &read.key {
            path = format!("{path}/key/{}", percent_encoded(key));
        }
        let number = |n: &u64| n.to_string();
        let (limit, at) = (
            read.limit.as_ref().map(number),
            read.at.as_ref().map(number),
        );
        let given = [
            ("limit", &limit),
            ("at", &at),
            ("prefix", &read.prefix),
            ("cursor", &read.cursor),
            ("after", &read.after),
            ("max_staleness", &read.max_staleness),
        ];
        let given = given
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        self.get(&path, &given.collect::<Vec<_>>())
    }

    /// Several queries at one epoch, the newest.
    pub fn snapshot(&self, queries: &[&str]) -> Result<Snapshot, ClientError> {
        let parameters = [("queries", &*queries.join(",")), ("limit", "10000")];
        self.get("/v1/snapshot", &parameters)
    }

    /// What changed in a query's answer between two epochs.
    pub fn diff(&self, query: &str, from: u64, to: u64) -> Result<Diff, ClientError> {
        let path = format!("/v1/queries/{}/diff", percent_encoded(query));
        self.get(
            &path,
            &[("from", &from.to_string()), ("to", &to.to_string())],
        )
    }

    /// Every query.
    pub fn queries(&self) -> Result<QueryList, ClientError> {
        self.get("/v1/queries", &[])
    }

    /// Every stream.
    pub fn streams(&self) -> Result<StreamList, ClientError> {
        self.get("/v1/streams", &[])
    }

    /// Every sink.
    pub fn sinks(&self) -> Result<SinkList, ClientError> {
        self.get("/v1/sinks", &[])
    }

    /// The retained checkpoints.
    pub fn checkpoints(&self) -> Result<CheckpointList, ClientError> {
        self.get("/v1/checkpoints", &[])
    }

    /// Takes a checkpoint now; one with a label is kept until it is deleted.
    pub fn take_checkpoint(&self, label: Option<&str>) -> Result<CheckpointInfo, ClientError> {
        let label = label.map(|label| format!("?label={}", percent_encoded(label)));
        let path = format!("/v1/checkpoints{}", label.unwrap_or_default());
        self.send(&path, "application/json", None, "{}")
    }

    /// Posts records, one a line. A post that is repeated under its key counts once.
    pub fn post(
        &self,
        stream: &str,
        records: &str,
        key: Option<&str>,
    ) -> Result<Posted, ClientError> {
        let path = format!("/v1/streams/{}", percent_encoded(stream));
        self.send(&path, "application/x-ndjson", key, records)
    }

    /// Asks for a path; `parameters` become its query string.
    fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let url = self.url(path, parameters);
        let request = self.agent.get(&url).header("Accept", "application/json");
        self.read(&url, self.authorized(request).call())
    }

    fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &str,
        key: Option<&str>,
        body: &str,
    ) -> Result<T, ClientError> {
        let url = self.url(path, &[]);
        let request = self
            .agent
            .post(&url)
            .header("Content-Type", content_type)
            .header("Accept", "application/json");
        let request = match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        self.read(&url, self.authorized(request).send(body))
    }

    /// Asks for a path whose answer goes on for as long as it is read, after the event with this
    /// id if there is one.
    pub fn follow(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        last_id: &str,
    ) -> Result<impl Read + use<>, ClientError> {
        let url = self.url(path, parameters);
        let request = self.agent.get(&url).header("Accept", "text/event-stream");
        let request = match last_id {
            "" => request,
            id => request.header("Last-Event-ID", id),
        };
        let request = request
            .config()
            .timeout_global(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .build();
        let answer = self.authorized(request).call();
        let mut answer = answer.map_err(|cause| self.unreachable(cause.to_string()))?;
        if !answer.status().is_success() {
            return Err(self.refusal(&url, &mut answer));
        }
        Ok(answer.into_body().into_reader())
    }

    /// Says that nothing came from the service.
    pub fn unreachable(&self, cause: String) -> ClientError {
        ClientError::Unreachable {
            url: self.base.clone(),
            cause,
        }
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn url(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let mut url = format!("{}{path}", self.base);
        for (i, (name, value)) in parameters.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url += name;
            url.push('=');
            url += &percent_encoded(value);
        }
        url
    }

    fn read<T: DeserializeOwned>(
        &self,
        url: &str,
        answer: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let mut answer = answer.map_err(|cause| self.unreachable(cause.to_string()))?;
        if !answer.status().is_success() {
            return Err(self.refusal(url, &mut answer));
        }
        let body = self.body(&mut answer)?;
        serde_json::from_slice(&body).map_err(|error| foreign(url, &error.to_string()))
    }

    fn body(&self, answer: &mut Response<ureq::Body>) -> Result<Vec<u8>, ClientError> {
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        let body = body.read_to_vec();
        body.map_err(|cause| self.unreachable(cause.to_string()))
    }

    /// What an answer that is no success says.
    fn refusal(&self, url: &str, answer: &mut Response<ureq::Body>) -> ClientError {
        let status = answer.status();
        let may_change = answer.headers().contains_key("retry-after");
        let body = match self.body(answer) {
            Ok(body) => body,
            Err(error) => return error,
        };
        let detail = serde_json::from_slice::<Value>(&body)
            .ok()
            .and_then(|problem| {
                let sentence = problem.get("detail").or_else(|| problem.get("title"))?;
                sentence.as_str().map(str::to_owned)
            });
        match detail {
            Some(detail) if may_change => ClientError::Later(detail),
            Some(detail) => ClientError::Refused(detail),
            None => foreign(url, &format!("its status is {status}")),
        }
    }
}

/// TLS that trusts whom the file names, or whom the machine does.
fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, ClientError> {
    let unusable = |path: &Path, cause: String| ClientError::Certificates {
        path: path.to_owned(),
        cause,
    };
    let roots = match ca_file {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(path, error.to_string()))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let roots = roots
        .iter()
        .map(|root| Certificate::from_der(root).to_owned());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// Text as one segment of a path, or one value of a query string.
pub fn percent_encoded(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(byte.into());
        } else {
            encoded.push('%');
            encoded.push(HEX[usize::from(byte >> 4)].into());
            encoded.push(HEX[usize::from(byte & 15)].into());
        }
    }
    encoded
}

#[cfg(test)]
pub mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// Answers one connection after the other with the given status line and body, and returns the
    /// request lines seen.
    pub fn serve(answers: Vec<(&'static str, String)>) -> (String, JoinHandle<Vec<String>>) {
        serve_and_keep(answers, |request| {
            let line = request.lines().next();
            line.unwrap_or_default().to_owned()
        })
    }

    /// The same, and returns of each request what `keep` says.
    pub fn serve_and_keep(
        answers: Vec<(&'static str, String)>,
        keep: fn(&str) -> String,
    ) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || {
                answers
                    .into_iter()
                    .map(|(status, body)| keep(&answer_one(&listener, status, &body)))
                    .collect()
            });
        (url, server.unwrap())
    }

    fn answer_one(listener: &TcpListener, status: &str, body: &str) -> String {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        // A request is whole when its headers have ended and `{}`, if posted, has arrived.
        loop {
            let n = socket.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&request);
            let posted = text.starts_with("POST");
            if n == 0 || text.ends_with("{}") || (!posted && text.contains("\r\n\r\n")) {
                break;
            }
        }
        let length = body.len();
        write!(
            socket,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        String::from_utf8_lossy(&request).into_owned()
    }

    pub fn at(url: &str) -> ServiceUrl {
        ServiceUrl {
            url: url.to_owned(),
            token_file: None,
            ca_file: None,
        }
    }

    #[test]
    fn a_missing_token_file_is_named() {
        let service = ServiceUrl {
            token_file: Some("no/such".into()),
            ..at("http://h:1")
        };
        let error = Client::new(&service).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("'no/such'")));
    }

    #[test]
    fn an_answer_is_read_and_parameters_are_encoded() {
        let (url, server) = serve(vec![("200 OK", "{\"a\":1}".to_owned())]);
        let client = Client::new(&at(&format!("{url}/"))).unwrap();
        let path = format!("/v1/queries/{}", percent_encoded("a/b"));
        let answer: Value = client
            .get(&path, &[("prefix", "[\"u 1\"]"), ("limit", "5")])
            .unwrap();
        assert_eq!(answer["a"], 1);
        let line = "GET /v1/queries/a%2Fb?prefix=%5B%22u%201%22%5D&limit=5 HTTP/1.1";
        assert_eq!(server.join().unwrap(), [line]);
    }

    #[test]
    fn a_refusal_is_the_services_own_sentence() {
        let problem = "{\"status\":404,\"title\":\"not found\",\"detail\":\"no query 'x'\"}";
        let (url, server) = serve(vec![("404 Not Found", problem.to_owned())]);
        let error = Client::new(&at(&url)).unwrap().diff("x", 1, 2).unwrap_err();
        assert_eq!(error.to_string(), "no query 'x'");
        server.join().unwrap();
    }

    #[test]
    fn a_foreign_answer_is_called_so() {
        for (status, body) in [("200 OK", "<html>"), ("502 Bad Gateway", "oops")] {
            let (url, server) = serve(vec![(status, body.to_owned())]);
            let error = Client::new(&at(&url))
                .unwrap()
                .take_checkpoint(None)
                .unwrap_err();
            assert!(matches!(error, ClientError::Foreign { .. }), "{error}");
            assert_eq!(server.join().unwrap(), ["POST /v1/checkpoints HTTP/1.1"]);
        }
    }

    #[test]
    fn nobody_there_is_said_with_the_place() {
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let url = format!("http://{closed}");
        let error = Client::new(&at(&url)).unwrap().queries().unwrap_err();
        assert!(error.to_string().contains(&url), "{error}");
        for bad in [
            "",
            "localhost:8080",
            "https://",
            "http://",
            "http://a b",
            "ftp://h",
        ] {
            assert!(
                matches!(Client::new(&at(bad)), Err(ClientError::BadUrl(_))),
                "{bad}"
            );
        }
    }
}
