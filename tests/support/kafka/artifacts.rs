//! Kafka's jars, fetched once into `target/` by Maven.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Names the goal that copies jars; pinned, because Maven's own default is old.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// The class path of Kafka, or why there is none.
pub fn class_path() -> Result<String, String> {
    version_of("java", "-version")?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the directory for tests is in the target directory");
    let name = format!("kafka-{}", version());
    let jars = target.join(&name);
    if !jars.exists() {
        version_of("mvn", "-version")?;
        fetch(target, &name).map_err(|error| format!("Kafka's jars cannot be fetched: {error}"))?;
    }
    Ok(format!("{}/*", jars.display()))
}

/// The one place that says it is the pom.
fn version() -> &'static str {
    let pom = include_str!("pom.xml");
    let begin = pom.split("<kafka.version>").nth(1);
    let version = begin.and_then(|rest| rest.split('<').next());
    version.expect("the pom names the version of Kafka")
}

fn version_of(program: &str, flag: &str) -> Result<(), String> {
    let asked = Command::new(program)
        .arg(flag)
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("`{program} {flag}` says {}", output.status)),
        Err(error) => Err(format!("`{program}` is needed: {error}")),
    }
}

/// Fills the folder. Several tests may do so at a time: one works, the others wait for it, and the
/// folder appears with all that belongs into it.
fn fetch(target: &Path, name: &str) -> io::Result<()> {
    let lock = File::create(target.join(format!("{name}.lock")))?;
    lock.lock()?;
    let jars = target.join(name);
    if jars.exists() {
        return Ok(());
    }
    let partial = target.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kafka/pom.xml");
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(pom)
        .args([COPY, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", partial.display()))
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(io::Error::other(format!("mvn: {}\n{said}", output.status)));
    }
    fs::rename(&partial, &jars)
}
