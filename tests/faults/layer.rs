//! The layer between a service and its disk: what it is told to do, and what it saw.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::service::Launch;

/// A call that changed something below the data directory, or an answer that said yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `write`, `fsync`, `rename`, ..., or `answer`.
    pub op: String,
    pub failed: bool,
    /// Where bytes were written; the length a file was cut to.
    pub offset: usize,
    /// What was written.
    pub bytes: Vec<u8>,
    /// Below the data directory.
    pub path: String,
    /// Where a rename led.
    pub other: String,
}

impl Call {
    /// What is done to what kind of file: rules are about sites.
    pub fn site(&self) -> String {
        let mut site = format!("{} ", self.op);
        for letter in self.path.chars() {
            match letter {
                '0'..='9' if site.ends_with('#') => {}
                '0'..='9' => site.push('#'),
                other => site.push(other),
            }
        }
        site
    }
}

/// How often each site was passed.
pub fn sites(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut sites = BTreeMap::new();
    for call in calls {
        *sites.entry(call.site()).or_default() += 1;
    }
    sites
}

/// The layer of one service, whose files are beside its data directory.
pub struct Layer {
    home: PathBuf,
}

impl Layer {
    pub fn new(home: &Path) -> Layer {
        let layer = Layer {
            home: home.to_owned(),
        };
        layer.rules(&[]);
        layer
    }

    /// Puts it under a service.
    pub fn under(&self, launch: &Launch) -> Launch {
        let launch = launch.clone();
        let data_dir = launch.data_dir();
        launch
            .env("LD_PRELOAD", library())
            .env("FAULTS_ROOT", &data_dir)
            .env("FAULTS_RULES", &self.home.join("rules"))
            .env("FAULTS_TRACE", &self.home.join("trace"))
    }

    /// The same, on a machine that was started again.
    pub fn in_another_boot(&self, launch: &Launch) -> Launch {
        self.in_boot(launch, "another")
    }

    /// The same, in the boot of that id.
    pub fn in_boot(&self, launch: &Launch, id: &str) -> Launch {
        let boot = self.home.join("boot");
        fs::write(&boot, id).expect("the test's directory takes files");
        self.under(launch).env("FAULTS_BOOT", &boot)
    }

    /// Forgets what happened so far.
    pub fn forget(&self) {
        fs::write(self.home.join("trace"), "").expect("the test's directory takes files");
    }

    /// The rules from now on: `ACTION FROM TO SITE` each, as `layer.c` says.
    pub fn rules(&self, rules: &[&str]) {
        let (new, rules_path) = (self.home.join("rules.new"), self.home.join("rules"));
        fs::write(&new, rules.join("\n") + "\n").expect("the test's directory takes files");
        fs::rename(new, rules_path).expect("it was just written");
    }

    /// What happened so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.read().0
    }

    /// What the rules did so far: `ACTION SITE` each.
    pub fn landed(&self) -> Vec<String> {
        self.read().1
    }

    fn read(&self) -> (Vec<Call>, Vec<String>) {
        let trace = fs::read(self.home.join("trace")).unwrap_or_default();
        let (mut calls, mut landed) = (Vec::new(), Vec::new());
        let mut rest = &trace[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&rest[..end]).expect("names are text");
            rest = &rest[end + 1..];
            if let Some(what) = line.strip_prefix("! ") {
                landed.push(what.to_owned());
                continue;
            }
            let mut words = line.splitn(5, ' ');
            let mut word = || words.next().expect("a call has five words");
            let (op, failure) = (word().to_owned(), word());
            let [offset, length] = [word(), word()].map(|word| word.parse().unwrap_or(0));
            let (path, other) = word().split_once('\t').unwrap_or_default();
            // The last call may be only half there yet: behind its bytes there is a line break.
            let Some((bytes, after)) = rest.split_at_checked(length + usize::from(length > 0))
            else {
                break;
            };
            rest = after;
            calls.push(Call {
                op,
                failed: failure != "0",
                offset,
                bytes: bytes[..length].to_vec(),
                path: path.to_owned(),
                other: other.to_owned(),
            });
        }
        (calls, landed)
    }
}

/// The layer as a library to preload, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let library = place.join("faults.so");
        // Others may be using the one that is there.
        let new = place.join(format!("faults.{}", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/layer.c");
        let compiled = Command::new("cc")
            .args([
                "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-ldl", "-o",
            ])
            .arg(&new)
            .status();
        assert!(compiled.expect("there is a C compiler").success());
        fs::rename(new, &library).expect("it was just written");
        library
    })
}
