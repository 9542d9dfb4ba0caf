//! What may be configured: one TOML file, overridden by environment variables. Every key has a
//! default; an unknown one is an error. Nothing here reads a clock or opens anything but the file.
//!
//! `waterclock.example.toml` lists every key with its default; a test keeps the two alike.

mod check;
mod http;
mod keys;
mod load;
mod settings;
mod sinks;
mod streams;

pub use http::{HttpConfig, Tokens};
pub use load::ConfigError;
pub use settings::{
    Codec, Config, DemoConfig, EpochConfig, HistoryConfig, KafkaConfig, LogConfig, MemoryConfig,
    OnLost, PoisonPolicy, RecordFormat, ServiceConfig, SnapshotConfig, StreamConfig, StreamSource,
    TimeConfig,
};
pub use sinks::SinkConfig;
