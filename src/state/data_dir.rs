//! The data directory: one owner at a time, and the number of its run.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::StateError;
use super::files::{create_dir, failed, open_sealed, read, replace, seal, sync_dir};
use super::journal::{self, Journal};
use crate::time::Epoch;

/// The version of `run.json` that this build writes, and the newest it reads.
const VERSION: u64 = 1;

/// A data directory that this process owns until it is dropped or closed.
///
/// A process that dies by itself leaves the page cache whole: in the same boot the journal's tail
/// is complete and the *run* goes on. When the boot is another, or unknown, and the directory was
/// not closed, lines that were not yet synced may be lost, and what they had shown cannot be shown
/// again: a new run begins.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    record: RunRecord,
    /// Locked; the system unlocks it when the process ends in whatever way.
    _lock: File,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct RunRecord {
    version: u64,
    run: u64,
    boot: Option<String>,
    closed: bool,
    /// At least every epoch used before the directory was last started over.
    #[serde(default)]
    floor: Epoch,
    /// What decides how the journalled epochs are read.
    #[serde(default)]
    settings: Option<String>,
}

impl DataDir {
    /// Opens a data directory, creating it where it is not there.
    pub fn open(path: impl AsRef<Path>) -> Result<DataDir, StateError> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        DataDir::open_in_boot(path, boot.as_deref().map(str::trim))
    }

    /// Opens a data directory in the boot of that id; `None` where the system does not say.
    pub fn open_in_boot(path: impl AsRef<Path>, boot: Option<&str>) -> Result<DataDir, StateError> {
        let path = path.as_ref();
        create_dir(path)?;
        let lock = lock(path)?;
        for name in ["log", "journal", "checkpoints"] {
            create_dir(&path.join(name))?;
        }
        sync_dir(path)?;
        let last = read_record(path)?;
        let (known, floor) = last.as_ref().map_or((0, 0), |last| (last.run, last.floor));
        let settings = last.as_ref().and_then(|last| last.settings.clone());
        let boot = boot.map(str::to_owned);
        let run = match last {
            Some(last) if last.closed || (boot.is_some() && last.boot == boot) => last.run,
            _ => {
                // Before the record says so: a crash in between only repeats it.
                let seen = journal::drop_lost_tail(&path.join("journal"))?;
                known.max(seen) + 1
            }
        };
        if known != 0 && run != known {
            tracing::warn!(
                run,
                "the machine stopped while the service ran: a new run begins"
            );
        }
        let record = RunRecord {
            version: VERSION,
            run,
            boot,
            closed: false,
            floor,
            settings,
        };
        write_record(path, &record)?;
        Ok(DataDir {
            path: path.to_owned(),
            record,
            _lock: lock,
        })
    }

    /// The run: changes only when the journal's tail may have been lost.
    pub fn run(&self) -> u64 {
        self.record.run
    }

    /// Begins a new run if the journalled epochs would now read otherwise than when they were
    /// shown: `settings` identifies everything that decides it, such as queries and lateness
    /// bounds. To be called before the journal is opened.
    pub fn settle(&mut self, settings: &str) -> Result<(), StateError> {
        if self.record.settings.as_deref() == Some(settings) {
            return Ok(());
        }
        if self.record.settings.replace(settings.to_owned()).is_some() {
            self.record.run += 1;
            tracing::warn!(
                run = self.record.run,
                "queries or settings changed: a new run begins"
            );
        }
        write_record(&self.path, &self.record)
    }

    /// Begins the run after another one, whose epochs were up to `floor`: that of checkpoints which
    /// outlived their data directory. To be called before the journal is opened.
    pub fn follow(&mut self, run: u64, floor: Epoch) -> Result<(), StateError> {
        self.record.run = self.record.run.max(run + 1);
        self.record.floor = self.record.floor.max(floor);
        write_record(&self.path, &self.record)
    }

    /// Whether no epoch was ever journalled here since the directory was made or started over.
    pub fn is_new(&self) -> Result<bool, StateError> {
        journal::is_empty(&self.journal_path())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the embedded streams keep their records.
    pub fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the journal is.
    pub fn journal_path(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where the checkpoints are.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// At least every epoch used before the directory was last started over.
    pub(super) fn floor(&self) -> Epoch {
        self.record.floor
    }

    /// Puts checkpoints and journal aside, whatever their condition, and begins a new run; tells
    /// where they are now. The log stays. To be called before either is opened.
    pub fn start_over(&mut self) -> Result<PathBuf, StateError> {
        let aside = self.path.join(format!("aside-run-{}", self.record.run));
        self.record.floor = self
            .floor()
            .max(journal::highest_epoch(&self.journal_path())?);
        self.record.run += 1;
        write_record(&self.path, &self.record)?;
        create_dir(&aside)?;
        // In this order: a journal without checkpoints is read from its start or refused, while
        // checkpoints without their journal would be believed.
        for part in [self.checkpoints_path(), self.journal_path()] {
            let target = aside.join(part.file_name().expect("both have names"));
            fs::rename(&part, target).map_err(failed("put aside", &part))?;
            create_dir(&part)?;
            sync_dir(&aside)?;
            sync_dir(&self.path)?;
        }
        Ok(aside)
    }

    /// Gives the directory up, saying that nothing is missing: the run outlives a reboot then.
    pub fn close(mut self, mut journal: Journal) -> Result<(), StateError> {
        journal.sync()?;
        self.record.closed = true;
        write_record(&self.path, &self.record)
    }
}

fn lock(path: &Path) -> Result<File, StateError> {
    let file_path = path.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file_path)
        .map_err(failed("open", &file_path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = fs::read_to_string(&file_path)
                .ok()
                .filter(|text| !text.is_empty());
            let owner = owner.map_or("another process".to_owned(), |text| text.trim().to_owned());
            return Err(StateError::InUse {
                path: path.to_owned(),
                owner,
            });
        }
        Err(TryLockError::Error(cause)) => return Err(failed("lock", &file_path)(cause)),
    }
    // Only for the message above: nothing depends on what the file says.
    let owner = format!("process {}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all(owner.as_bytes()))
        .map_err(failed("write", &file_path))?;
    Ok(file)
}

fn read_record(path: &Path) -> Result<Option<RunRecord>, StateError> {
    let path = path.join("run.json");
    read(&path)?
        .map(|bytes| open_sealed(&path, &bytes, VERSION))
        .transpose()
}

fn write_record(path: &Path, record: &RunRecord) -> Result<(), StateError> {
    let body = serde_json::to_string(record).expect("numbers and text are JSON");
    replace(&path.join("run.json"), seal(&body).as_bytes())
}
