//! The epoch journal: one line per epoch, written before the epoch is shown.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::data_dir::DataDir;
use super::error::StateError;
use super::files::{failed, names, sync_dir};
use super::journal_file::{Found, JournalEntry, Line, LineReader};
use crate::time::Epoch;

/// How far beyond the epoch at hand numbers are reserved: two minutes of epochs that follow the
/// clock. A sync within half of it renews the reservation in passing.
const RESERVE: u64 = 120_000;

/// The epoch journal, open for appending.
///
/// Files are named after the first epoch they may hold and rotated with each checkpoint. A line
/// survives the death of the process from the moment [`append`](Journal::append) returns, and the
/// loss of power once it is synced.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    path: PathBuf,
    file: Arc<File>,
    /// Bytes of whole lines in the file.
    len: u64,
    last: Epoch,
    reserved: Epoch,
    high_water: Epoch,
    durable: Arc<Durable>,
}

/// What is known to be on disk, shared with syncs under way.
#[derive(Debug, Default)]
struct Durable {
    epoch: AtomicU64,
    reserved: AtomicU64,
    broken: AtomicBool,
}

impl Journal {
    /// Opens the journal of a data directory. A line that the dying process had not finished is
    /// dropped; any other damage in the last file is an error.
    pub fn open(data: &DataDir) -> Result<Journal, StateError> {
        let dir = data.journal_path();
        let (path, tail) = match files(&dir)?.pop() {
            Some((_, path)) => (path.clone(), repair(&path, false)?),
            None => (create(&dir, 0)?.0, Tail::default()),
        };
        let file = append_to(&path)?;
        // The lines read may be in the page cache only.
        file.sync_all().map_err(failed("sync", &path))?;
        let len = tail.len;
        let line = match tail.line {
            Some(line) => Some(line),
            None => last_line(&dir)?,
        };
        let (last, reserved) = line
            .as_ref()
            .map_or((0, 0), |l| (l.entry.epoch, l.reserved));
        // Lines of a run that ended with power may be lost, and with them the epochs they used.
        let tail_was_lost = line.is_some_and(|line| line.entry.run != data.run());
        let high_water = if tail_was_lost { reserved } else { last }.max(data.floor());
        let durable = Durable {
            epoch: last.into(),
            reserved: reserved.into(),
            ..<_>::default()
        };
        Ok(Journal {
            dir,
            path,
            file: Arc::new(file),
            len,
            last,
            reserved,
            high_water,
            durable: Arc::new(durable),
        })
    }

    /// At least every epoch that was ever used: new ones must be greater.
    pub fn high_water(&self) -> Epoch {
        self.high_water
    }

    /// The newest epoch whose line is synced.
    pub fn durable(&self) -> Epoch {
        self.durable.epoch.load(Ordering::Acquire)
    }

    /// Writes an epoch's line with one write. It is synced at once only where the epoch's number
    /// is beyond those reserved: at the very first, and after a pause of minutes.
    ///
    /// After an error the epoch must not be shown.
    pub fn append(&mut self, entry: &JournalEntry) -> Result<(), StateError> {
        self.check()?;
        let epoch = entry.epoch;
        if epoch <= self.high_water {
            return Err(StateError::Refused(format!(
                "epoch {epoch} is not greater than epoch {}, which was used before",
                self.high_water
            )));
        }
        if epoch.saturating_add(RESERVE / 2) > self.reserved {
            self.reserved = epoch.saturating_add(RESERVE);
        }
        let line = Line {
            previous: self.last,
            reserved: self.reserved,
            entry: entry.clone(),
        };
        let bytes = line.encode();
        if let Err(cause) = (&*self.file).write_all(&bytes) {
            // What a full disk left of the line must not stand before the next one; one that is
            // read-only now has left nothing.
            let is_as_before = |file: &File| file.metadata().is_ok_and(|it| it.len() == self.len);
            if !is_as_before(&self.file) && self.file.set_len(self.len).is_err() {
                self.durable.broken.store(true, Ordering::Release);
            }
            return Err(failed("append to", &self.path)(cause));
        }
        self.len += bytes.len() as u64;
        self.last = epoch;
        self.high_water = epoch;
        if epoch > self.durable.reserved.load(Ordering::Acquire) {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes every line appended so far durable.
    pub fn sync(&mut self) -> Result<(), StateError> {
        self.check()?;
        self.unsynced()
            .map_or(Ok(()), |unsynced| unsynced.sync().map(|_| ()))
    }

    /// The lines appended and not yet synced, to be synced by another thread; `None` when there
    /// are none.
    pub fn unsynced(&self) -> Option<Unsynced> {
        (self.last > self.durable()).then(|| Unsynced {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            epoch: self.last,
            reserved: self.reserved,
            durable: Arc::clone(&self.durable),
        })
    }

    /// Continues in a new file, so that [`forget_before`](Journal::forget_before) can drop what
    /// came before: called once for each checkpoint.
    pub fn rotate(&mut self) -> Result<(), StateError> {
        self.sync()?;
        if self.len > 0 {
            let (path, file) = create(&self.dir, self.last + 1)?;
            (self.path, self.file, self.len) = (path, Arc::new(file), 0);
        }
        Ok(())
    }

    /// Deletes files that hold only epochs up to `epoch`, that of the oldest checkpoint retained.
    /// The newest line stays in any case.
    pub fn forget_before(&mut self, epoch: Epoch) -> Result<(), StateError> {
        self.sync()?;
        let mut files = files(&self.dir)?;
        if self.len == 0 {
            files.pop();
        }
        for pair in files.windows(2) {
            let [(_, path), (next, _)] = pair else {
                continue;
            };
            if *next > epoch.saturating_add(1) {
                break;
            }
            fs::remove_file(path).map_err(failed("delete", path))?;
        }
        sync_dir(&self.dir)
    }

    /// The entries of epochs after `epoch`, in order. A line that is damaged, out of order or
    /// missing is an error in its place.
    pub fn read_after(&self, epoch: Epoch) -> Result<JournalReader, StateError> {
        JournalReader::open(&self.dir, epoch)
    }

    /// Whether an epoch is one of this journal's, as far back as it goes.
    pub fn knows(&self, epoch: Epoch) -> Result<bool, StateError> {
        let mut files = files(&self.dir)?;
        files.retain(|(start, _)| *start <= epoch.saturating_add(1));
        for (_, path) in files.iter().rev().take(2) {
            let mut reader = LineReader::open(path)?;
            while let Found::Line(line) = reader.read()? {
                if line.entry.epoch == epoch || line.previous == epoch {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn check(&self) -> Result<(), StateError> {
        if self.durable.broken.load(Ordering::Acquire) {
            return Err(StateError::Broken {
                path: self.dir.clone(),
            });
        }
        Ok(())
    }
}

/// Journal lines that are written and not yet durable.
#[derive(Debug)]
pub struct Unsynced {
    path: PathBuf,
    file: Arc<File>,
    epoch: Epoch,
    reserved: Epoch,
    durable: Arc<Durable>,
}

impl Unsynced {
    /// Waits until they are durable and tells the newest of their epochs. After an error nothing
    /// more can be appended: what a failed sync left on disk is not known.
    pub fn sync(self) -> Result<Epoch, StateError> {
        if let Err(cause) = self.file.sync_data() {
            self.durable.broken.store(true, Ordering::Release);
            return Err(failed("sync", &self.path)(cause));
        }
        self.durable.epoch.fetch_max(self.epoch, Ordering::AcqRel);
        self.durable
            .reserved
            .fetch_max(self.reserved, Ordering::AcqRel);
        Ok(self.epoch)
    }
}

/// The entries after an epoch. Ends after the first error.
#[derive(Debug)]
pub struct JournalReader {
    dir: PathBuf,
    after: Epoch,
    /// The epoch of the last line read.
    last: Option<Epoch>,
    files: std::vec::IntoIter<PathBuf>,
    reader: Option<LineReader>,
    /// Whether a line may be unfinished: the last one, of a journal that is not ours to repair.
    may_be_torn: bool,
    failed: bool,
}

impl JournalReader {
    /// The entries of epochs after `epoch` in a data directory that another process may own; a
    /// last line that is not finished was never shown, and ends them.
    pub fn inspect(data_dir: &Path, epoch: Epoch) -> Result<JournalReader, StateError> {
        let reader = JournalReader::open(&data_dir.join("journal"), epoch)?;
        Ok(JournalReader {
            may_be_torn: true,
            ..reader
        })
    }

    fn open(dir: &Path, epoch: Epoch) -> Result<JournalReader, StateError> {
        let mut files = files(dir)?;
        let first = files
            .iter()
            .rposition(|(start, _)| *start <= epoch.saturating_add(1))
            .unwrap_or(0);
        files.drain(..first);
        let files: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
        Ok(JournalReader {
            dir: dir.to_owned(),
            after: epoch,
            last: None,
            files: files.into_iter(),
            reader: None,
            may_be_torn: false,
            failed: false,
        })
    }

    fn read(&mut self) -> Result<Option<JournalEntry>, StateError> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some(path) = self.files.next() else {
                    return Ok(None);
                };
                self.reader = Some(LineReader::open(&path)?);
                continue;
            };
            let line = match reader.read()? {
                Found::Line(line) => line,
                Found::End => {
                    self.reader = None;
                    continue;
                }
                Found::Torn if self.may_be_torn && self.files.len() == 0 => return Ok(None),
                Found::Torn => return Err(reader.damaged("the line is cut off".to_owned())),
                Found::Damaged(detail) => return Err(reader.damaged(detail)),
            };
            let epoch = line.entry.epoch;
            let missing = match self.last {
                Some(last) => line.previous != last,
                None => epoch > self.after && line.previous > self.after,
            };
            if missing {
                let (path, after) = (self.dir.clone(), self.after);
                return Err(StateError::Gap {
                    path,
                    epoch: after,
                    missing: line.previous,
                });
            }
            self.last = Some(epoch);
            if epoch > self.after {
                return Ok(Some(line.entry));
            }
        }
    }
}

impl Iterator for JournalReader {
    type Item = Result<JournalEntry, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Drops what a loss of power left behind the last whole line, and tells the run of that line; 0
/// when there is none.
pub fn drop_lost_tail(dir: &Path) -> Result<u64, StateError> {
    if let Some((_, path)) = files(dir)?.pop() {
        repair(&path, true)?;
    }
    Ok(last_line(dir)?.map_or(0, |line| line.entry.run))
}

/// Whether there is no line at all.
pub fn is_empty(dir: &Path) -> Result<bool, StateError> {
    for (_, path) in files(dir)? {
        let length = fs::metadata(&path).map_err(failed("read", &path))?.len();
        if length > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// At least every epoch that the journal can tell was used, as far as it can be read.
pub fn highest_epoch(dir: &Path) -> Result<Epoch, StateError> {
    let mut highest = 0;
    for (start, path) in files(dir)? {
        highest = highest.max(start);
        let mut reader = LineReader::open(&path)?;
        while let Found::Line(line) = reader.read()? {
            highest = highest.max(line.reserved);
        }
    }
    Ok(highest)
}

/// The end of a journal file.
#[derive(Debug, Default)]
struct Tail {
    /// Its last line.
    line: Option<Line>,
    /// Bytes of its whole lines.
    len: u64,
}

/// Cuts off an unfinished line, or, where power was lost, everything after the last whole line.
fn repair(path: &Path, power_was_lost: bool) -> Result<Tail, StateError> {
    let mut reader = LineReader::open(path)?;
    let mut line = None;
    let what = loop {
        match reader.read()? {
            Found::Line(next) => line = Some(next),
            Found::End => {
                return Ok(Tail {
                    line,
                    len: reader.offset,
                });
            }
            Found::Torn => break "an unfinished line",
            Found::Damaged(_) if power_was_lost => break "lines that were not synced",
            Found::Damaged(detail) => return Err(reader.damaged(detail)),
        }
    };
    let len = reader.offset;
    let file = append_to(path)?;
    let before = file.metadata().map_err(failed("read", path))?.len();
    tracing::warn!(file = %path.display(), bytes = before - len, "dropping {what} of the journal");
    file.set_len(len)
        .and_then(|()| file.sync_all())
        .map_err(failed("shorten", path))?;
    Ok(Tail { line, len })
}

/// The newest line of all files.
fn last_line(dir: &Path) -> Result<Option<Line>, StateError> {
    for (_, path) in files(dir)?.iter().rev() {
        let mut reader = LineReader::open(path)?;
        let mut last = None;
        loop {
            match reader.read()? {
                Found::Line(line) => last = Some(line),
                Found::End if last.is_some() => return Ok(last),
                Found::End => break,
                Found::Torn => return Err(reader.damaged("the line is cut off".to_owned())),
                Found::Damaged(detail) => return Err(reader.damaged(detail)),
            }
        }
    }
    Ok(None)
}

/// The journal's files by the first epoch they may hold.
fn files(dir: &Path) -> Result<Vec<(Epoch, PathBuf)>, StateError> {
    let named = |name: String| {
        let start = name.strip_suffix(".jsonl")?.parse().ok()?;
        Some((start, dir.join(name)))
    };
    Ok(names(dir)?.into_iter().filter_map(named).collect())
}

fn create(dir: &Path, start: Epoch) -> Result<(PathBuf, File), StateError> {
    let path = dir.join(format!("{start:020}.jsonl"));
    let file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(&path)
        .map_err(failed("create", &path))?;
    if let Err(cause) = sync_dir(dir) {
        // An empty newest file would hide where the last line is.
        drop(fs::remove_file(&path));
        return Err(cause);
    }
    Ok((path, file))
}

fn append_to(path: &Path) -> Result<File, StateError> {
    OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(failed("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_that_cannot_be_undone_nothing_is_appended() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let mut journal = Journal::open(&data).unwrap();
        let entry = |epoch| JournalEntry {
            epoch,
            run: 1,
            ..JournalEntry::default()
        };
        journal.append(&entry(1)).unwrap();
        // The device takes nothing, and cannot be shortened either.
        let good = std::mem::replace(
            &mut journal.file,
            Arc::new(append_to(Path::new("/dev/full")).unwrap()),
        );
        assert!(matches!(
            journal.append(&entry(2)),
            Err(StateError::Io { .. })
        ));
        journal.file = good;
        assert!(matches!(
            journal.append(&entry(2)),
            Err(StateError::Broken { .. })
        ));
        assert!(matches!(journal.sync(), Err(StateError::Broken { .. })));
        drop((journal, data));
        let journal = Journal::open(&DataDir::open(dir.path()).unwrap()).unwrap();
        assert_eq!(journal.high_water(), 1);
    }
}
