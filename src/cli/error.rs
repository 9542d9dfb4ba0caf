//! Why a service gave no answer, in sentences for who asked.

use std::path::PathBuf;

/// Why a service gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL names no place to ask.
    #[error("'{0}' is no URL of a service: write http://HOST:PORT, or https://")]
    BadUrl(String),
    /// The file with the token cannot be read.
    #[error("cannot read the token file '{path}': {cause}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file with certificates cannot be used.
    #[error("cannot use the certificates of '{path}': {cause}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Nothing answers there.
    #[error("no answer from {url}: {cause}; is the service running there? (--url names another)")]
    Unreachable {
        /// Where the service was sought.
        url: String,
        /// What went wrong on the way.
        cause: String,
    },
    /// The service said no: its own sentence.
    #[error("{0}")]
    Refused(String),
    /// The service said not now, and that it may change its mind: its own sentence.
    #[error("{0}")]
    Later(String),
    /// What answered does not speak as Waterclock does.
    #[error("{url} does not answer as a waterclock service does: {what}")]
    Foreign {
        /// What was asked.
        url: String,
        /// What was wrong with the answer.
        what: String,
    },
    /// The terminal is gone.
    #[error("cannot write to the terminal: {0}")]
    Terminal(#[from] std::io::Error),
}

/// Says that an answer has not the form it must have.
pub fn foreign(url: &str, what: &str) -> ClientError {
    ClientError::Foreign {
        url: url.to_owned(),
        what: what.to_owned(),
    }
}
