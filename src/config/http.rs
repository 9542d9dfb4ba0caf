//! `[http]`: where the service is asked, by whom, and how much.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{invalid, lasts, within};
use super::load::ConfigError;
use super::settings::duration_text;
use crate::time::{days, millis, minutes, seconds};

/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Further `Host` names to answer to, besides `localhost` and the address itself.
    pub names: Vec<String>,
    /// Largest request body, in bytes; of a compressed one what comes out.
    pub max_body_bytes: usize,
    /// Most subscriptions open at once.
    pub max_subscribers: usize,
    /// Most connections open at once besides those of subscriptions; more wait.
    pub max_connections: usize,
    /// How long a request may take, besides the time that its client asked to wait.
    #[serde(with = "duration_text")]
    pub request_timeout: Duration,
    /// An answer that lags further behind its input than this says that it is stale.
    #[serde(with = "duration_text")]
    pub stale_after: Duration,
    /// A post is refused while records acknowledged longer ago than this are not shown yet.
    #[serde(with = "duration_text")]
    pub max_backlog: Duration,
    /// File that holds the tokens of those who may do everything, one a line; empty for none.
    pub token_file: PathBuf,
    /// File that holds the tokens of those who may only read; empty for none.
    pub read_token_file: PathBuf,
    /// File that holds the tokens of those who may only post records; empty for none.
    pub write_token_file: PathBuf,
    /// Whether to serve beyond loopback although nothing authenticates the callers.
    pub insecure: bool,
    /// File with the certificate, and those it builds on, as PEM; empty serves without TLS.
    pub tls_certificate: PathBuf,
    /// File with the certificate's private key as PEM.
    pub tls_key: PathBuf,
    /// Origins whose pages may use the service, as `https://example.org`.
    pub allow_origins: Vec<String>,
    /// The tokens themselves: from the environment only.
    #[serde(skip_serializing)]
    pub(super) token: Option<Secret>,
    #[serde(skip_serializing)]
    pub(super) read_token: Option<Secret>,
    #[serde(skip_serializing)]
    pub(super) write_token: Option<Secret>,
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

/// What callers must show, by what it allows. Not `Debug`: it is secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Allow everything.
    pub admin: Vec<String>,
    /// Allow to read.
    pub read: Vec<String>,
    /// Allow to post records.
    pub write: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            names: Vec::new(),
            max_body_bytes: 8 << 20,
            max_subscribers: 1000,
            max_connections: 1024,
            request_timeout: seconds(30),
            stale_after: seconds(10),
            max_backlog: seconds(30),
            token_file: PathBuf::new(),
            read_token_file: PathBuf::new(),
            write_token_file: PathBuf::new(),
            insecure: false,
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            allow_origins: Vec::new(),
            token: None,
            read_token: None,
            write_token: None,
        }
    }
}

impl HttpConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() && !self.asks_for_a_token() && !self.insecure {
            return invalid(
                "http.listen",
                &format!(
                    "is {}, which others can reach, and nothing authenticates them: name a file \
                     with a token in http.token_file, listen on 127.0.0.1, or set \
                     http.insecure = true (--insecure)",
                    self.listen
                ),
            );
        }
        let body = self.max_body_bytes as u64;
        within("http.max_body_bytes", body, 1024, 1 << 30)?;
        let subscribers = self.max_subscribers as u64;
        within("http.max_subscribers", subscribers, 0, 1_000_000)?;
        let connections = self.max_connections as u64;
        within("http.max_connections", connections, 1, 1_000_000)?;
        lasts(
            "http.request_timeout",
            self.request_timeout,
            seconds(1),
            minutes(60),
        )?;
        lasts("http.stale_after", self.stale_after, millis(100), days(365))?;
        lasts("http.max_backlog", self.max_backlog, seconds(1), days(365))?;
        for (key, file, other) in [
            ("http.tls_certificate", &self.tls_certificate, &self.tls_key),
            ("http.tls_key", &self.tls_key, &self.tls_certificate),
        ] {
            if is_set(other) && !is_set(file) {
                return invalid(key, "is missing: TLS needs a certificate and its key");
            }
        }
        let is_origin = |text: &&String| {
            let host = text
                .strip_prefix("https://")
                .or(text.strip_prefix("http://"));
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']))
        };
        match self.allow_origins.iter().find(|text| !is_origin(text)) {
            None => Ok(()),
            Some(text) => invalid(
                "http.allow_origins",
                &format!("names '{text}': write each origin whole, as in \"https://example.org\""),
            ),
        }
    }

    /// Whether callers must show a token.
    fn asks_for_a_token(&self) -> bool {
        let of_env = [&self.token, &self.read_token, &self.write_token];
        let of_files = [
            &self.token_file,
            &self.read_token_file,
            &self.write_token_file,
        ];
        of_env.into_iter().any(Option::is_some) || of_files.into_iter().any(|file| is_set(file))
    }

    /// The tokens callers must show, from the environment and the files; none at all ask for none.
    pub fn tokens(&self) -> Result<Tokens, ConfigError> {
        let read = |name: &str, given: &Option<Secret>, file: &Path| {
            let mut tokens = Vec::new();
            if let Some(Secret(text)) = given {
                tokens.push(usable(text, &format!("http.{name}"))?);
            }
            if is_set(file) {
                let cause = |cause| ConfigError::Read {
                    path: file.to_owned(),
                    cause,
                };
                let text = std::fs::read_to_string(file).map_err(cause)?;
                let key = format!("http.{name}_file");
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                let of_file: Result<Vec<_>, _> = lines.map(|line| usable(line, &key)).collect();
                tokens.extend(of_file?);
                if tokens.is_empty() {
                    usable("", &key)?;
                }
            }
            Ok(tokens)
        };
        Ok(Tokens {
            admin: read("token", &self.token, &self.token_file)?,
            read: read("read_token", &self.read_token, &self.read_token_file)?,
            write: read("write_token", &self.write_token, &self.write_token_file)?,
        })
    }

    /// The files with the certificate and its key, where there is to be TLS.
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        is_set(&self.tls_certificate)
            .then_some((self.tls_certificate.as_path(), self.tls_key.as_path()))
    }
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// The token without the line break an editor leaves; short or unprintable ones are refused.
fn usable(text: &str, key: &str) -> Result<String, ConfigError> {
    let token = text.trim();
    if token.len() >= MIN_TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(token.to_owned());
    }
    Err(ConfigError::Invalid {
        key: key.to_owned(),
        reason: format!(
            "holds no usable token: at least {MIN_TOKEN_BYTES} printable characters without \
             spaces, for example from `openssl rand -hex 32`"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn refusal(text: &str) -> String {
        let config = Config::parse(Some(text), []).unwrap();
        config.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn only_loopback_is_served_unless_the_user_insists() {
        let text = "[http]\nlisten = '0.0.0.0:8080'";
        assert!(refusal(text).contains("http.insecure = true"));
        let insisted = format!("{text}\ninsecure = true");
        Config::parse(Some(&insisted), [])
            .unwrap()
            .validate()
            .unwrap();
        let sixth = Config::parse(Some("[http]\nlisten = '[::1]:8080'"), []).unwrap();
        sixth.validate().unwrap();
    }

    #[test]
    fn a_token_opens_the_service_to_others_and_is_never_shown() {
        let secret = "0123456789abcdef-secret";
        let env = [("WATERCLOCK_HTTP__TOKEN".to_owned(), secret.to_owned())];
        let text = "[http]\nlisten = '0.0.0.0:8080'";
        let config = Config::parse(Some(text), env).unwrap();
        config.validate().unwrap();
        assert_eq!(config.http.tokens().unwrap().admin, [secret]);
        assert!(!format!("{config:?}").contains(secret), "{config:?}");
        let in_file = format!("[http]\ntoken = '{secret}'");
        let error = Config::parse(Some(&in_file), []).unwrap_err().to_string();
        assert!(
            error.contains("http.token_file") && !error.contains(secret),
            "{error}"
        );
    }

    #[test]
    fn tokens_are_read_from_their_files_and_must_be_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let text = format!("[http]\nread_token_file = '{}'", path.display());
        let env = [("WATERCLOCK_HTTP__WRITE_TOKEN".to_owned(), "w".repeat(16))];
        let http = Config::parse(Some(&text), env).unwrap().http;
        let refusal = || http.tokens().err().expect("must be refused").to_string();
        assert!(refusal().contains("tokens'"));
        std::fs::write(&path, "0123456789abcdef\n\nfedcba9876543210\r\n").unwrap();
        let tokens = http.tokens().unwrap();
        assert_eq!(tokens.read, ["0123456789abcdef", "fedcba9876543210"]);
        assert_eq!(tokens.write, ["w".repeat(16)]);
        assert!(tokens.admin.is_empty());
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcdef\nshort"] {
            std::fs::write(&path, bad).unwrap();
            assert!(refusal().contains("at least 16"), "{bad}");
        }
        assert!(Config::default().http.tokens().unwrap() == Tokens::default());
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        for (text, key) in [
            ("tls_key = 'k.pem'", "http.tls_certificate"),
            ("tls_certificate = 'c.pem'", "http.tls_key"),
            ("allow_origins = ['*']", "http.allow_origins"),
            ("allow_origins = ['https://a.b/c']", "http.allow_origins"),
            ("max_connections = 0", "http.max_connections"),
            ("request_timeout = '1ms'", "http.request_timeout"),
        ] {
            let message = refusal(&format!("[http]\n{text}"));
            assert!(message.contains(&format!("'{key}'")), "{message}");
        }
    }
}
