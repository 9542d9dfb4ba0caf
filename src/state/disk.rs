//! Checkpoints in a directory: written elsewhere, synced, renamed, and the directory synced.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::StateError;
use super::files::{UNFINISHED, create_dir, failed, names, replace, sync_dir};
use super::objects::{Objects, SEGMENTS, Unfinished};

/// A directory with the objects of checkpoints.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// Looks at a directory that may not be there.
    pub fn at(dir: PathBuf) -> Disk {
        Disk { dir }
    }

    /// Makes the directory where it is not there, and removes what was left unfinished.
    pub fn open(dir: PathBuf) -> Result<Disk, StateError> {
        create_dir(&segments(&dir))?;
        sync_dir(&dir)?;
        for name in names(&dir)? {
            if name.ends_with(UNFINISHED) {
                let path = dir.join(name);
                fs::remove_file(&path).map_err(failed("delete", &path))?;
            }
        }
        Ok(Disk { dir })
    }
}

/// Where segments are: the name of a directory, which ends in no slash.
fn segments(dir: &Path) -> PathBuf {
    dir.join(SEGMENTS.trim_end_matches('/'))
}

impl Objects for Disk {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, StateError> {
        let dir = self.dir.join(folder);
        if !dir.exists() {
            return Ok(Vec::new());
        }
        names(&dir)
    }

    fn scan(&self, name: &str, take: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), StateError> {
        let path = self.path(name);
        let mut read = || -> io::Result<()> {
            let mut file = File::open(&path)?;
            let mut buffer = vec![0; 1 << 18];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => take(&buffer[..n]),
                }
            }
        };
        read().map_err(failed("read", &path))
    }

    fn load(&self, name: &str) -> Result<Vec<u8>, StateError> {
        let path = self.path(name);
        fs::read(&path).map_err(failed("read", &path))
    }

    fn create(&self, name: &str) -> Result<Box<dyn Unfinished>, StateError> {
        let path = self.path(name);
        let file = File::create_new(&path).map_err(failed("create", &path))?;
        Ok(Box::new(file))
    }

    fn settle(&self, _names: &[String]) -> Result<(), StateError> {
        // The files are synced; this is for their directory entries.
        sync_dir(&segments(&self.dir))
    }

    fn publish(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError> {
        // One process owns the directory: none of that name can come in between.
        replace(&self.path(name), &bytes)
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_dir(&self.dir),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(failed("delete", &path)(cause)),
        }
    }

    fn discard(&self, names: &[String]) -> Result<(), StateError> {
        let mut outcome = Ok(());
        for name in names {
            let path = self.path(name);
            let removed = fs::remove_file(&path);
            let gone = |cause: &io::Error| cause.kind() == io::ErrorKind::NotFound;
            if let Err(cause) = removed
                && !gone(&cause)
            {
                outcome = Err(failed("delete", &path)(cause));
            }
        }
        outcome
    }

    fn put_aside(&self, _folder: &str) -> Result<(), StateError> {
        // Done with the whole directory, before it is opened.
        Ok(())
    }
}

impl Unfinished for File {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.sync_all()
    }
}
