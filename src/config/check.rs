//! Refuses settings that cannot work, each with the way out.

use std::time::Duration;

use super::load::ConfigError;
use super::settings::{Codec, Config};
use crate::time::{days, hours, millis, minutes, seconds};

impl Config {
    /// Checks what a type cannot say: bounds, and settings that need or exclude each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_service()?;
        self.http.validate()?;
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
        self.validate_store()?;
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

impl Config {
    fn validate_store(&self) -> Result<(), ConfigError> {
        let snapshot = &self.snapshot;
        let bucket = snapshot.store.strip_prefix("s3://");
        if !snapshot.store.is_empty()
            && bucket.is_none_or(|it| it.is_empty() || it.starts_with('/'))
        {
            let reason = "must be written s3://BUCKET/PREFIX, or be empty for the data directory";
            return invalid("snapshot.store", reason);
        }
        let endpoint = &snapshot.store_endpoint;
        let is_url = endpoint.starts_with("http://") || endpoint.starts_with("https://");
        if !endpoint.is_empty() && !is_url {
            let reason = "must begin with http:// or https://";
            return invalid("snapshot.store_endpoint", reason);
        }
        if snapshot.codec == Codec::Abomonation && !cfg!(feature = "abomonation") {
            let reason = "is 'abomonation', which this build does not have: build it with \
                          --features abomonation, or set \"arrow\"";
            return invalid("snapshot.codec", reason);
        }
        let (timeout, takeover) = (snapshot.store_timeout, snapshot.store_takeover);
        lasts("snapshot.store_timeout", timeout, millis(100), minutes(10))?;
        lasts("snapshot.store_takeover", takeover, seconds(1), hours(1))
    }
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
    fn what_cannot_work_is_refused_by_name() {
        for (text, key) in [
            ("[snapshot]\nretain = 1", "snapshot.retain"),
            ("[snapshot]\ninterval = '0s'", "snapshot.interval"),
            ("[snapshot]\nstore = '/tmp'", "snapshot.store"),
            ("[snapshot]\nstore = 's3://'", "snapshot.store"),
            (
                "[snapshot]\nstore_endpoint = 'a:1'",
                "snapshot.store_endpoint",
            ),
            (
                "[snapshot]\nstore_takeover = '0s'",
                "snapshot.store_takeover",
            ),
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
