//! Refuses settings that cannot work, each with the way out.

use std::time::Duration;

use super::load::ConfigError;
use super::settings::{Config, HttpConfig};
use crate::time::{days, millis, seconds};

/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;

impl Config {
    /// Checks what a type cannot say: bounds, and settings that need or exclude each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_service()?;
        self.validate_http()?;
        self.validate_bounds()?;
        self.validate_streams()?;
        self.validate_sinks()
    }

    fn validate_service(&self) -> Result<(), ConfigError> {
        if self.service.data_dir.as_os_str().is_empty() {
            return invalid("service.data_dir", "is empty: name a directory");
        }
        within("service.workers", self.service.workers as u64, 0, 256)
    }

    fn validate_http(&self) -> Result<(), ConfigError> {
        let has_token = self.http.token.is_some() || !self.http.token_file.as_os_str().is_empty();
        if !self.http.listen.ip().is_loopback() && !has_token && !self.http.insecure {
            return invalid(
                "http.listen",
                &format!(
                    "is {}, which others can reach, and nothing authenticates them: name a file \
                     with a token in http.token_file, listen on 127.0.0.1, or set \
                     http.insecure = true (--insecure)",
                    self.http.listen
                ),
            );
        }
        within(
            "http.max_body_bytes",
            self.http.max_body_bytes as u64,
            1024,
            1 << 30,
        )?;
        let subscribers = self.http.max_subscribers as u64;
        within("http.max_subscribers", subscribers, 0, 1_000_000)
    }

    fn validate_bounds(&self) -> Result<(), ConfigError> {
        within("epoch.heartbeat_ms", self.epoch.heartbeat_ms, 1, 60_000)?;
        let in_flight = self.epoch.max_in_flight_bytes as u64;
        within("epoch.max_in_flight_bytes", in_flight, 64 << 10, 64 << 30)?;
        lasts(
            "time.idle_timeout",
            self.time.idle_timeout,
            millis(100),
            days(3650),
        )?;
        lasts(
            "time.max_ahead",
            self.time.max_ahead,
            millis(0),
            days(36_500),
        )?;
        lasts(
            "snapshot.interval",
            self.snapshot.interval,
            millis(100),
            days(1),
        )?;
        // One generation alone would leave nothing to start from when it is damaged.
        within("snapshot.retain", self.snapshot.retain as u64, 2, 1000)?;
        within(
            "log.segment_bytes",
            self.log.segment_bytes,
            64 << 10,
            4 << 30,
        )?;
        lasts("log.retain", self.log.retain, seconds(0), days(36_500))?;
        within("history.epochs", self.history.epochs as u64, 1, 1_000_000)?;
        within(
            "history.bytes",
            self.history.bytes as u64,
            64 << 10,
            64 << 30,
        )?;
        lasts("history.span", self.history.span, seconds(0), days(365))?;
        match &self.demo {
            Some(demo) => within("demo.rate", u64::from(demo.rate), 1, 1_000_000),
            None => Ok(()),
        }
    }
}

impl HttpConfig {
    /// The token callers must show, from the environment or the file; `None` asks for none.
    pub fn token(&self) -> Result<Option<String>, ConfigError> {
        if let Some(token) = &self.token {
            return usable_token(&token.0, "http.token").map(Some);
        }
        if self.token_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let text =
            std::fs::read_to_string(&self.token_file).map_err(|cause| ConfigError::Read {
                path: self.token_file.clone(),
                cause,
            })?;
        usable_token(&text, "http.token_file").map(Some)
    }
}

/// The token without the line break an editor leaves; short or unprintable ones are refused.
fn usable_token(text: &str, key: &str) -> Result<String, ConfigError> {
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

pub(super) fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    invalid(key, &format!("is {value}, but must be {least} to {most}"))
}

pub(super) fn lasts(
    key: &str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    invalid(
        key,
        &format!("is {value:?}, but must be {least:?} to {most:?}"),
    )
}

pub(super) fn invalid(key: &str, reason: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Invalid {
        key: key.to_owned(),
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let config = Config::parse(Some(text), []).unwrap();
        config.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn the_default_is_valid() {
        Config::default().validate().unwrap();
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
        assert_eq!(config.http.token().unwrap().as_deref(), Some(secret));
        assert!(!format!("{config:?}").contains(secret), "{config:?}");
        let in_file = format!("[http]\ntoken = '{secret}'");
        let error = Config::parse(Some(&in_file), []).unwrap_err().to_string();
        assert!(
            error.contains("http.token_file") && !error.contains(secret),
            "{error}"
        );
    }

    #[test]
    fn a_token_is_read_from_its_file_and_must_be_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let text = format!("[http]\ntoken_file = '{}'", path.display());
        let http = Config::parse(Some(&text), []).unwrap().http;
        assert!(http.token().unwrap_err().to_string().contains("token'"));
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        assert_eq!(http.token().unwrap().as_deref(), Some("0123456789abcdef"));
        for bad in ["", "short", "0123456789 abcdef"] {
            std::fs::write(&path, bad).unwrap();
            assert!(
                http.token()
                    .unwrap_err()
                    .to_string()
                    .contains("at least 16"),
                "{bad}"
            );
        }
        assert_eq!(Config::default().http.token().unwrap(), None);
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (text, key) in [
            ("[snapshot]\nretain = 1", "snapshot.retain"),
            ("[snapshot]\ninterval = '0s'", "snapshot.interval"),
            ("[epoch]\nheartbeat_ms = 0", "epoch.heartbeat_ms"),
            ("[demo]\nrate = 0", "demo.rate"),
            ("[service]\ndata_dir = ''", "service.data_dir"),
            ("[streams.a]\nsource = 'file'", "streams.a.paths"),
            ("[streams.a]\npaths = ['x']", "streams.a.paths"),
            ("[streams.a]\ntail = true", "streams.a.tail"),
            ("[streams.'../a']\ntail = true", "streams.../a"),
            ("[streams.a]\ntopic = 'x'", "streams.a.topic"),
            ("[streams.a]\nsource = 'kafka'", "kafka.brokers"),
            ("[streams.a]\nformat = 'debezium'", "streams.a.format"),
            (
                "[streams.a]\nsource = 'file'\npaths = ['x']\nformat = 'raw'",
                "streams.a.format",
            ),
            (
                "[kafka.properties]\n'sasl.password' = 'x'",
                "kafka.properties",
            ),
        ] {
            let message = refusal(text);
            assert!(message.contains(&format!("'{key}'")), "{message}");
        }
    }
}
