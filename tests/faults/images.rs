//! What a directory looks like after the first calls of a trace: to a process that starts after a
//! kill, and to one that starts after a loss of power, which takes what was not synced.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::layer::Call;

/// What outlives the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The process was killed: everything it did stands.
    Kill,
    /// Power was lost, and nothing stands that was not synced: neither bytes nor names.
    Power,
    /// Power was lost; names reached the disk, the bytes in them only where they were synced.
    PowerKeptNames,
    /// Power was lost; of the bytes that were not synced the first half reached the disk.
    PowerTore,
}

pub const POWER: [Ending; 3] = [Ending::Power, Ending::PowerKeptNames, Ending::PowerTore];

/// Directories (no bytes) and files by their path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image(pub BTreeMap<String, Option<Vec<u8>>>);

impl Image {
    /// What a directory holds.
    pub fn of(dir: &Path) -> Image {
        fn collect(dir: &Path, below: &str, image: &mut Image) {
            for entry in fs::read_dir(dir).expect("it is there").flatten() {
                let name = format!("{below}{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() {
                    collect(&entry.path(), &format!("{name}/"), image);
                    image.0.insert(name, None);
                } else {
                    let bytes = fs::read(entry.path()).expect("it is there");
                    image.0.insert(name, Some(bytes));
                }
            }
        }
        let mut image = Image::default();
        collect(dir, "", &mut image);
        image
    }

    /// Makes a directory of it.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("the test's directory takes files");
        for (name, bytes) in &self.0 {
            // A directory comes before what is in it.
            let made = match bytes {
                None => fs::create_dir_all(dir.join(name)),
                Some(bytes) => fs::write(dir.join(name), bytes),
            };
            made.expect("the test's directory takes files");
        }
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// A file's number; none for a directory.
type Names = BTreeMap<String, Option<usize>>;

/// A directory as its trace makes it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: Vec<File>,
    names: Names,
    synced_names: Names,
}

impl Disk {
    /// A directory that is all on disk.
    pub fn of(image: &Image) -> Disk {
        let mut disk = Disk::default();
        for (name, bytes) in &image.0 {
            let file = bytes.as_ref().map(|bytes| {
                let (now, synced) = (bytes.clone(), bytes.clone());
                disk.files.push(File { now, synced });
                disk.files.len() - 1
            });
            disk.names.insert(name.clone(), file);
        }
        disk.synced_names.clone_from(&disk.names);
        disk
    }

    /// Does what a call did.
    pub fn apply(&mut self, call: &Call) {
        if call.failed {
            return;
        }
        let path = call.path.clone();
        match call.op.as_str() {
            "answer" => {}
            "create" => {
                self.files.push(File::default());
                self.names.insert(path, Some(self.files.len() - 1));
            }
            // The directory itself is a given.
            "mkdir" if path.is_empty() => {}
            "mkdir" => drop(self.names.insert(path, None)),
            "unlink" | "rmdir" => drop(self.names.remove(&path)),
            "rename" => self.rename(&path, &call.other),
            "link" => {
                let file = self.names[&path];
                self.names.insert(call.other.clone(), file);
            }
            "truncate" => self.file(&path).now.resize(call.offset, 0),
            "write" => {
                let now = &mut self.file(&path).now;
                let end = call.offset + call.bytes.len();
                now.resize(now.len().max(end), 0);
                now[call.offset..end].copy_from_slice(&call.bytes);
            }
            "fsync" => {
                let file = self.file(&path);
                file.synced.clone_from(&file.now);
            }
            "syncdir" => self.sync_names(&path),
            other => panic!("what does '{other}' do to a directory? say it here"),
        }
    }

    fn file(&mut self, path: &str) -> &mut File {
        let file = self.names.get(path).copied().flatten();
        let file = file.unwrap_or_else(|| panic!("nothing says where '{path}' comes from"));
        &mut self.files[file]
    }

    fn rename(&mut self, from: &str, to: &str) {
        let is_below = |name: &str| name == from || name.starts_with(&format!("{from}/"));
        let moved: Vec<String> = self.names.keys().filter(|n| is_below(n)).cloned().collect();
        for name in moved {
            let file = self.names.remove(&name).expect("it was just seen");
            self.names
                .insert(format!("{to}{}", &name[from.len()..]), file);
        }
    }

    fn sync_names(&mut self, dir: &str) {
        let is_in = |name: &String| parent(name) == dir;
        self.synced_names.retain(|name, _| !is_in(name));
        let now = self.names.iter().filter(|(name, _)| is_in(name));
        self.synced_names
            .extend(now.map(|(name, file)| (name.clone(), *file)));
    }

    /// What is there after an end at this place.
    pub fn image(&self, ending: Ending) -> Image {
        let names = match ending {
            Ending::Kill | Ending::PowerKeptNames => &self.names,
            Ending::Power | Ending::PowerTore => &self.synced_names,
        };
        let bytes = |file: &File| match ending {
            Ending::Kill => file.now.clone(),
            Ending::Power | Ending::PowerKeptNames => file.synced.clone(),
            Ending::PowerTore => {
                let half = usize::midpoint(file.now.len(), file.synced.len());
                file.now[..half.min(file.now.len())].to_vec()
            }
        };
        let is_reached = |name: &str| {
            let mut above = name;
            while !parent(above).is_empty() {
                above = parent(above);
                if !names.contains_key(above) {
                    return false;
                }
            }
            true
        };
        let reached = names.iter().filter(|(name, _)| is_reached(name));
        let file = |(name, file): (&String, &Option<usize>)| {
            (name.clone(), file.map(|file| bytes(&self.files[file])))
        };
        Image(reached.map(file).collect())
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}
