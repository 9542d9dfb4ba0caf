//! Data directories of each format there has been: `tests/formats/N/data`, and what a service
//! answered that was killed on it. They are never rewritten; a build that cannot start from one any
//! more must say so, and the test then says with what words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use service::{Launch, run, until};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;

/// The format of checkpoints that this build writes.
const NEWEST: u64 = 2;
/// The formats that this build starts from.
const FORMATS: [&str; 2] = ["1", "2"];

fn kept(format: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/formats").join(format)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test's directory takes files");
    for entry in fs::read_dir(from).expect("it is kept").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the test's directory takes files");
        }
    }
}

/// The checkpoint of an epoch is of the newest format; and where the one before was of the first,
/// nothing of that is left in it.
fn is_rewritten(data_dir: &Path, format: &str, epoch: u64) {
    let path = data_dir.join(format!("checkpoints/{epoch:020}.json"));
    let text = fs::read(path).expect("it is published");
    let sealed: Value = serde_json::from_slice(&text).expect("it is JSON");
    let manifest = &sealed["body"];
    assert_eq!(manifest["version"], NEWEST, "format {format}");
    let boundaries = manifest["boundaries"].as_object().expect("by name");
    let (mut own, mut others) = (0, 0);
    for (name, boundary) in boundaries {
        assert_eq!(boundary["is_layered"], true, "format {format}: {name}");
        for segment in boundary["segments"].as_array().expect("a list") {
            let file = segment["file"].as_str().expect("a name");
            if file.starts_with(&format!("{epoch:020}.")) {
                own += 1;
            } else {
                others += 1;
            }
        }
    }
    if format == "1" {
        assert!(own > 0, "all rows are written again");
        assert_eq!(others, 0, "and none is read from where they were");
    } else {
        assert!(others > 0, "what did not change is not written again");
    }
}

#[test]
fn a_service_starts_from_every_format_there_was() {
    for format in FORMATS {
        for workers in ["1", "3"] {
            let home = tempfile::tempdir().expect("a place for the test");
            let answers = fs::read(kept(format).join("answers.json")).expect("it is kept");
            let answers: Value = serde_json::from_slice(&answers).expect("it is JSON");
            let answers = answers.as_object().expect("by place");
            let queries: Vec<&str> = (answers.keys().map(String::as_str))
                .filter(|place| !place.contains('/'))
                .collect();
            let launch = Launch::new(home.path()).args(&[
                "--queries",
                &queries.join(","),
                "--workers",
                workers,
            ]);
            copy(&kept(format).join("data"), &launch.data_dir());
            let data = launch.data_dir().to_string_lossy().into_owned();
            let checked = run(&["checkpoint", "verify", "--data-dir", &data]);
            let said = String::from_utf8_lossy(&checked.stdout).into_owned();
            assert!(checked.status.success(), "format {format}: {said}");
            let service = launch.start_ready();
            for (place, rows) in answers {
                let path = if place.contains('/') {
                    format!("/v1/{place}")
                } else {
                    format!("/v1/queries/{place}")
                };
                assert_eq!(
                    service.get(&path).ok()["rows"],
                    *rows,
                    "format {format}: {place}"
                );
            }
            // From the checkpoint, and not from all that was ever posted.
            let newest = fs::read_dir(kept(format).join("data/checkpoints")).expect("it is kept");
            let newest = newest.flatten().filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name.strip_suffix(".json")?.parse::<u64>().ok()
            });
            let since = service.query("total")["since"].as_u64();
            assert_eq!(since, newest.max(), "format {format}");
            // What it writes now is of the newest format, and good.
            let taken = service.command("/v1/checkpoints").ok();
            service.kill();
            let epoch = taken["epoch"].as_u64().expect("it is published");
            is_rewritten(&launch.data_dir(), format, epoch);
            let checked = run(&["checkpoint", "verify", "--data-dir", &data]);
            assert!(checked.status.success(), "format {format}");
        }
    }
}

#[test]
fn a_format_of_a_later_version_is_refused_and_says_which() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path());
    copy(&kept("1").join("data"), &launch.data_dir());
    let run_file = launch.data_dir().join("run.json");
    let text = fs::read_to_string(&run_file).expect("it is kept");
    let body = text.split_once("\"body\":").expect("it is sealed").1;
    let body = body.trim_end().strip_suffix('}').expect("it is sealed");
    let later = body.replacen("\"version\":1", "\"version\":99", 1);
    assert_ne!(later, body);
    let crc = crc32fast::hash(later.as_bytes());
    let sealed = format!("{{\"crc32\":\"{crc:08x}\",\"body\":{later}}}\n");
    fs::write(run_file, sealed).expect("it can be written");
    let (status, said) = launch.refused();
    assert_eq!(status.code(), Some(1), "{said}");
    for word in ["run.json", "newer version", "99"] {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

/// Whether Python with pyarrow is there. Where CI says that it must be, it is an error if not.
fn has_pyarrow(python: &str) -> bool {
    let found = Command::new(python).args(["-c", "import pyarrow"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    let is_required = std::env::var("WATERCLOCK_TEST_PYARROW").is_ok_and(|it| it == "required");
    assert!(found || !is_required, "'{python}' has no pyarrow");
    found
}

const READ: &str = "
import sys, pyarrow.ipc
for path in sys.argv[1:]:
    table = pyarrow.ipc.open_file(path).read_all()
    print(table.num_rows, *table.column_names)
";

#[test]
#[allow(clippy::print_stdout, reason = "says that it did not run")]
fn any_arrow_tool_opens_the_state() {
    let python = std::env::var("WATERCLOCK_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !has_pyarrow(&python) {
        println!("SKIPPED: there is no '{python}' with pyarrow; WATERCLOCK_TEST_PYTHON names one");
        return;
    }
    let home = tempfile::tempdir().expect("a place for the test");
    let query = "clicks_per_user_tumbling";
    let launch = Launch::new(home.path()).args(&["--queries", query, "--workers", "1"]);
    let service = launch.start_ready();
    let clicks = [0, 1, 2].map(|n| format!("{{\"user_id\":\"u{n}\",\"click_time\":0}}"));
    let token = service.token_of("clicks", &clicks.join("\n"));
    service
        .get(&format!("/v1/queries/{query}?after={token}"))
        .ok();
    service.command("/v1/checkpoints").ok();
    let segments = launch.data_dir().join("checkpoints/segments");
    let paths = until("segments", || {
        let entries = fs::read_dir(&segments).ok()?.flatten();
        let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        (!paths.is_empty()).then_some(paths)
    });
    let output = Command::new(&python)
        .args(["-c", READ])
        .args(&paths)
        .output();
    let output = output.expect("it was just there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let read = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(read.lines().count(), paths.len());
    // The windows of three users, under the names that the fields have in Rust.
    let windows = read
        .lines()
        .find(|line| line.starts_with("3 ") && line.contains("key"));
    assert!(windows.is_some(), "{read}");
}
