//! Reads the configuration: defaults, then the file, then the environment.

use std::path::{Path, PathBuf};

use toml::Table;

use super::keys;
use super::settings::Config;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened.
    #[error("cannot read the configuration's file '{path}': {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is no TOML, or a value has the wrong type.
    #[error("the configuration is not understood: {0}")]
    Syntax(String),
    /// There is no such key.
    #[error("unknown configuration key '{key}'; the nearest that exists is '{nearest}'")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The one probably meant.
        nearest: String,
    },
    /// There is no such variable.
    #[error("unknown environment variable '{variable}'; the nearest that exists is '{nearest}'")]
    UnknownVariable {
        /// The variable as set.
        variable: String,
        /// The one probably meant.
        nearest: String,
    },
    /// A variable's text has the wrong form.
    #[error("environment variable '{variable}' is '{value}', but must be {expected}")]
    Variable {
        /// The variable.
        variable: String,
        /// What it is set to.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A value is outside what can work.
    #[error("configuration key '{key}' {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// What is wrong with it, and the way out.
        reason: String,
    },
}

impl Config {
    /// Reads a file, or takes the defaults where there is none, under the environment's variables;
    /// then checks the outcome.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let config = Config::read(path, env)?;
        config.validate()?;
        Ok(config)
    }

    /// Like [`Config::load`], but leaves the check to the caller, who has more to lay over it.
    pub fn read(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let Some(path) = path else {
            return Config::parse(None, env);
        };
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        })?;
        Config::parse(Some(&text), env)
    }

    /// The configuration that a file's text and an environment make; `None` is no file.
    pub fn parse(
        text: Option<&str>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        // Without a file there is the demo, as if the file said only that.
        let text = text.unwrap_or("[demo]");
        let mut table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| ConfigError::Syntax(e.to_string()))?;
        keys::refuse_unknown(&table)?;
        keys::overlay(&mut table, env)?;
        table
            .try_into()
            .map_err(|e: toml::de::Error| ConfigError::Syntax(one_line(&e)))
    }
}

/// The error and the key it is about; the place in the text is lost once variables are laid over.
fn one_line(error: &toml::de::Error) -> String {
    error
        .to_string()
        .lines()
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{PoisonPolicy, SinkConfig, StreamSource};
    use super::*;
    use crate::time::{minutes, seconds};

    const EXAMPLE: &str = include_str!("../../waterclock.example.toml");

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(Some(text), variables(env))
    }

    fn variables(env: &[(&str, &str)]) -> Vec<(String, String)> {
        env.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn refusal(text: &str, env: &[(&str, &str)]) -> String {
        parse(text, env).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_example_file_is_the_default() {
        assert_eq!(parse(EXAMPLE, &[]).unwrap(), Config::default());
        assert_eq!(Config::load(None, []).unwrap(), Config::default());
        let keys = Table::try_from(Config::default()).unwrap();
        let is_named = |section: &str| ["streams", "sinks"].contains(&section);
        for (section, entries) in keys.iter().filter(|(section, _)| !is_named(section)) {
            for key in entries.as_table().unwrap().keys() {
                let line = format!("\n{key} = ");
                assert!(EXAMPLE.contains(&line), "the example lacks {section}.{key}");
            }
        }
    }

    #[test]
    fn the_commented_streams_and_sinks_of_the_example_are_right() {
        let text: Vec<&str> = EXAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix("#: "))
            .collect();
        let config = parse(&text.join("\n"), &[]).unwrap();
        config.validate().unwrap();
        let clicks = &config.sinks["clicks"];
        let named = SinkConfig {
            query: clicks.query.clone(),
            topic: clicks.topic.clone(),
            ..SinkConfig::default()
        };
        assert_eq!(*clicks, named, "it shows the defaults");
        for key in Table::try_from(named).unwrap().keys() {
            assert!(EXAMPLE.contains(&format!("\n#: {key} = ")), "{key}");
        }
        let orders = &config.streams["orders"];
        assert_eq!(orders.source, StreamSource::File);
        assert_eq!(orders.lateness, Some(minutes(1)));
        assert_eq!(config.streams["clicks"].poison, PoisonPolicy::Skip);
    }

    #[test]
    fn a_file_without_demo_has_none() {
        assert_eq!(
            parse("", &[]).unwrap(),
            Config {
                demo: None,
                ..Config::default()
            }
        );
        assert!(
            parse("[demo]\nrate = 5", &[])
                .unwrap()
                .demo
                .is_some_and(|demo| demo.rate == 5)
        );
    }

    #[test]
    fn variables_override_the_file() {
        let env = [
            ("WATERCLOCK_HTTP__LISTEN", "127.0.0.1:9"),
            ("WATERCLOCK_SERVICE__WORKERS", "3"),
            ("WATERCLOCK_SERVICE__QUERIES", "a, b"),
            ("WATERCLOCK_STREAMS__ORDERS__LATENESS", "7s"),
            ("WATERCLOCK_HTTP__INSECURE", "true"),
            ("WATERCLOCK_SERVICE_PORT_HTTP", "kubernetes sets this"),
            ("HOME", "/root"),
        ];
        let text = "[http]\nlisten = '127.0.0.1:1'\n[streams.Orders]\ntail = true\n\
                    source = 'file'\npaths = ['a']";
        let config = parse(text, &env).unwrap();
        assert_eq!(config.http.listen.port(), 9);
        assert_eq!(config.service.workers, 3);
        assert_eq!(config.service.queries, ["a", "b"]);
        assert!(config.http.insecure);
        assert_eq!(config.streams["Orders"].lateness, Some(seconds(7)));
        assert!(config.streams["Orders"].tail);
        let without_file = Config::parse(None, variables(&env[..1])).unwrap();
        assert!(without_file.demo.is_some());
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest() {
        for (text, key, nearest) in [
            ("[http]\nlisten_on = 1", "http.listen_on", "http.listen"),
            ("[htp]\nlisten = 1", "htp.listen", "http.listen"),
            ("[snapshots]", "snapshots", "snapshot"),
            ("workers = 2", "workers", "service.workers"),
            (
                "[streams.s]\npoisn = 1",
                "streams.s.poisn",
                "streams.s.poison",
            ),
            ("[sinks.s]\nqery = 1", "sinks.s.qery", "sinks.s.query"),
            ("[kafka]\nbroker = 1", "kafka.broker", "kafka.brokers"),
        ] {
            let message = refusal(text, &[]);
            assert!(message.contains(&format!("'{key}'")), "{message}");
            assert!(message.contains(&format!("'{nearest}'")), "{message}");
        }
    }

    #[test]
    fn unknown_variables_are_named_with_the_nearest() {
        for (variable, nearest) in [
            ("WATERCLOCK_HTTP__LISTN", "WATERCLOCK_HTTP__LISTEN"),
            ("WATERCLOCK_HTTP_LISTEN", "WATERCLOCK_HTTP__LISTEN"),
            (
                "WATERCLOCK_SERVICE__DATADIR",
                "WATERCLOCK_SERVICE__DATA_DIR",
            ),
            (
                "WATERCLOCK_STREAMS__S__LATE",
                "WATERCLOCK_STREAMS__S__LATENESS",
            ),
        ] {
            let message = refusal("", &[(variable, "1")]);
            assert!(message.contains(&format!("'{variable}'")), "{message}");
            assert!(message.contains(&format!("'{nearest}'")), "{message}");
        }
    }

    #[test]
    fn values_of_the_wrong_form_are_named() {
        let message = refusal("", &[("WATERCLOCK_SERVICE__WORKERS", "two")]);
        assert!(
            message.contains("'two', but must be a whole number"),
            "{message}"
        );
        let message = refusal("[time]\nidle_timeout = '30'", &[]);
        assert!(message.contains("'30' is no duration"), "{message}");
        assert!(message.contains("idle_timeout"), "{message}");
        let message = refusal("[http]\nlisten = 'localhost:80'", &[]);
        assert!(message.contains("http.listen"), "{message}");
        assert!(refusal("[http", &[]).contains("line 1"));
    }
}
