//! Refuses settings that cannot work, each with the way out.

use std::time::Duration;

use super::load::ConfigError;
use super::settings::{Config, StreamConfig, StreamSource};
use crate::time::{days, millis, seconds};

impl Config {
    /// Checks what a type cannot say: bounds, and settings that need or exclude each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_service()?;
        self.validate_http()?;
        self.validate_bounds()?;
        for (name, stream) in &self.streams {
            validate_stream_name(name)?;
            validate_stream(name, stream)?;
        }
        Ok(())
    }

    fn validate_service(&self) -> Result<(), ConfigError> {
        if self.service.data_dir.as_os_str().is_empty() {
            return invalid("service.data_dir", "is empty: name a directory");
        }
        within("service.workers", self.service.workers as u64, 0, 256)
    }

    /// Nobody is asked for a name yet, so only who is on the machine may call.
    fn validate_http(&self) -> Result<(), ConfigError> {
        if !self.http.listen.ip().is_loopback() && !self.http.insecure {
            return invalid(
                "http.listen",
                &format!(
                    "is {}, which others can reach, and nothing authenticates them: listen on \
                     127.0.0.1 behind a proxy that does, or set http.insecure = true (--insecure)",
                    self.http.listen
                ),
            );
        }
        within(
            "http.max_body_bytes",
            self.http.max_body_bytes as u64,
            1024,
            1 << 30,
        )
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

/// A stream's name becomes a directory and a part of URLs.
fn validate_stream_name(name: &str) -> Result<(), ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    let key = format!("streams.{name}");
    invalid(
        &key,
        "is no stream name: use 1 to 64 letters, digits, '_' or '-'",
    )
}

fn validate_stream(name: &str, stream: &StreamConfig) -> Result<(), ConfigError> {
    let key = |key: &str| format!("streams.{name}.{key}");
    if let Some(lateness) = stream.lateness {
        lasts(&key("lateness"), lateness, millis(0), days(3650))?;
    }
    match stream.source {
        StreamSource::File if stream.paths.is_empty() => invalid(
            &key("paths"),
            "is missing: a stream read from files needs at least one",
        ),
        StreamSource::Log if !stream.paths.is_empty() => {
            invalid(&key("paths"), "is for files only: add source = \"file\"")
        }
        StreamSource::Log if stream.format.is_some() => invalid(
            &key("format"),
            "is for files only: what is posted is always JSON",
        ),
        StreamSource::Log if stream.tail => {
            invalid(&key("tail"), "is for files only: a log is always followed")
        }
        _ => Ok(()),
    }
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    invalid(key, &format!("is {value}, but must be {least} to {most}"))
}

fn lasts(key: &str, value: Duration, least: Duration, most: Duration) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    invalid(
        key,
        &format!("is {value:?}, but must be {least:?} to {most:?}"),
    )
}

fn invalid(key: &str, reason: &str) -> Result<(), ConfigError> {
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
        ] {
            let message = refusal(text);
            assert!(message.contains(&format!("'{key}'")), "{message}");
        }
    }
}
