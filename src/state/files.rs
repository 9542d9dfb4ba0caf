//! Files that are whole or not there: atomic replacement, directory sync, sealed JSON.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::StateError;
use crate::time::reading_plain_times;

/// Ends the names of files that were never finished.
pub const UNFINISHED: &str = ".tmp";

const SEAL_HEAD: &str = "{\"crc32\":\"";
const SEAL_MIDDLE: &str = "\",\"body\":";
const SEAL_END: &str = "}\n";

/// Makes an [`io::Error`] a [`StateError`] that names the file.
pub fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |cause| StateError::Io { doing, path, cause }
}

/// Creates a directory and what leads to it.
pub fn create_dir(path: &Path) -> Result<(), StateError> {
    fs::create_dir_all(path).map_err(failed("create the directory", path))
}

/// Makes creations, renames and removals in a directory durable.
pub fn sync_dir(path: &Path) -> Result<(), StateError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync the directory", path))
}

/// Reads a file; `None` when it is not there.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed("read", path)(cause)),
    }
}

/// Replaces a file so that after any crash it is the old one or the new one, durably.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = Path::new(&unfinished);
    let write = || -> io::Result<()> {
        let mut file = File::create(unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed("write", unfinished))?;
    fs::rename(unfinished, path).map_err(failed("put in place", path))?;
    sync_dir(path.parent().expect("files of state have a directory"))
}

/// The names of the files in a directory, in order.
pub fn names(dir: &Path) -> Result<Vec<String>, StateError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    };
    list().map_err(failed("list", dir))
}

/// Wraps a JSON text with its checksum, so that any changed byte of the whole is noticed.
pub fn seal(body: &str) -> String {
    let crc = crc32fast::hash(body.as_bytes());
    format!("{SEAL_HEAD}{crc:08x}{SEAL_MIDDLE}{body}{SEAL_END}")
}

/// The JSON text that was sealed; `None` when it is not, to the byte, what was sealed.
pub fn unseal(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let head = SEAL_HEAD.len() + 8 + SEAL_MIDDLE.len();
    let end = text.len().checked_sub(SEAL_END.len())?;
    let body = text.get(head..end)?;
    (seal(body) == text).then_some(body)
}

/// Reads what was sealed, of any version up to `known`.
pub fn open_sealed<T: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    known: u64,
) -> Result<T, StateError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let damaged = |place: &str, detail: String| StateError::Damaged {
        path: path.to_owned(),
        place: place.to_owned(),
        detail,
    };
    let body = unseal(bytes)
        .ok_or_else(|| damaged("its checksum", "the bytes do not match it".to_owned()))?;
    let unreadable = |cause: serde_json::Error| damaged("its fields", cause.to_string());
    let Versioned { version: found } = serde_json::from_str(body).map_err(unreadable)?;
    if found > known {
        return Err(StateError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    reading_plain_times(|| serde_json::from_str(body)).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_breaks_with_any_byte() {
        let sealed = seal("{\"a\": [1, \"é\"]}");
        assert_eq!(unseal(sealed.as_bytes()), Some("{\"a\": [1, \"é\"]}"));
        for at in 0..sealed.len() {
            for flip in [1, 0x20, 0xff] {
                let mut bytes = sealed.clone().into_bytes();
                bytes[at] ^= flip;
                assert_eq!(unseal(&bytes), None, "byte {at} changed by {flip:#x}");
            }
            assert_eq!(unseal(&sealed.as_bytes()[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn replacing_leaves_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(names(dir.path()).unwrap(), ["a.json"]);
    }
}
