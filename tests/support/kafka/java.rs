//! A Java program that ends no later than the test that started it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Becomes the program. Beside it stays a shell that waits for a line: if the line never comes,
/// because the test was killed, it kills the program and removes its files.
const SCRIPT: &str = r#"
exec 3<&0
home=$1
shift
{ read -r _ <&3 || { kill -9 $$; until rm -rf "$home"; do :; done; }; } >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"#;

/// For a quick start: no optimizing compiler, no collector threads, no shared statistics file.
const QUICK: [&str; 3] = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
];

/// The command that runs a class of Kafka. `temp` takes what it unpacks, and leaves there if it is
/// killed.
pub fn java(class_path: &str, temp: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(QUICK)
        .arg("-Xmx512m")
        .arg(format!("-Djava.io.tmpdir={}", temp.display()))
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .args(["-cp", class_path, class]);
    command
}

/// A program in the background.
pub struct Java {
    child: Child,
}

impl Java {
    /// Starts it; what it prints is appended to `log`, and `home` is removed if the test dies.
    pub fn start(program: &Command, home: &Path, log: &Path) -> Java {
        let log = File::options().create(true).append(true).open(log);
        let log = log.expect("the test's directory takes files");
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(home)
            .arg(program.get_program())
            .args(program.get_args())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            .spawn()
            .expect("there is a shell");
        Java { child }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Asks it to end, as a supervisor does.
    pub fn ask_to_end(&self) {
        // `kill` is part of every shell; the standard library only knows signal 9.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.child.id())])
            .status();
        assert!(sent.expect("there is a shell").success());
    }

    /// Kills it with signal 9.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        // Its process id is ours until we have waited, so the watcher is sent home before.
        if let Some(mut watcher) = self.child.stdin.take() {
            drop(watcher.write_all(b"\n"));
        }
        drop(self.child.wait());
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        self.end();
    }
}
