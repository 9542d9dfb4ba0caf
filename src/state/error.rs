//! Why state could not be written, read or owned.

use std::path::PathBuf;

use crate::time::Epoch;

/// Why state could not be written, read or owned.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system refused. Outside's fault; what was published before stands.
    #[error("cannot {doing} {path}: {cause}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// What keeps the checkpoints refused, or cannot be reached.
    #[error("cannot {doing} {object}: {cause}; {way_out}")]
    Bucket {
        /// What was tried.
        doing: &'static str,
        /// The object, or the bucket.
        object: String,
        /// What was said.
        cause: String,
        /// What to do about it.
        way_out: &'static str,
    },
    /// Another process has the directory.
    #[error(
        "the data directory '{path}' is in use by {owner}; stop that one, or name another \
         directory with --data-dir", path = path.display()
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who has it, as far as known.
        owner: String,
    },
    /// The bytes are not what was written.
    #[error("{path} is damaged at {place}: {detail}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// A newer version of the service wrote it.
    #[error(
        "{path} was written by a newer version of waterclock (its format is {found}, this build \
         reads up to {known}); start that version, or use another data directory",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: u64,
        /// The newest format this build reads.
        known: u64,
    },
    /// There are checkpoints, and each is damaged.
    #[error(
        "no checkpoint in '{path}' is whole: {problems}; restore these files from a copy, or start \
         with --from-scratch", path = path.display()
    )]
    NoneValid {
        /// The directory of checkpoints.
        path: PathBuf,
        /// What is wrong with each.
        problems: String,
    },
    /// Journal lines that a restart needs are not there.
    #[error(
        "the journal '{path}' does not reach back to epoch {epoch}: the line of epoch {missing} is \
         not there; restore its files from a copy, or start with --from-scratch",
        path = path.display()
    )]
    Gap {
        /// The journal's directory.
        path: PathBuf,
        /// The epoch asked for.
        epoch: Epoch,
        /// The first epoch known to be missing.
        missing: Epoch,
    },
    /// A write or fsync failed before, so what is on disk is not known.
    #[error("the journal '{path}' failed before; restart to recover", path = path.display())]
    Broken {
        /// The journal's directory.
        path: PathBuf,
    },
    /// The request makes no sense now.
    #[error("{0}")]
    Refused(String),
}
