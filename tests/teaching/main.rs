//! What the compiler says to those who get a query wrong: each case names lines it has to say.
//!
//! The compiler is called itself, with the library this test was built with. `trybuild` would
//! build everything anew, and compares whole messages, which change from release to release.

use std::path::{Path, PathBuf};
use std::process::Command;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/teaching/cases")
}

/// The folder of what cargo built, and the library in it that was built last.
fn library() -> (PathBuf, PathBuf) {
    let test = std::env::current_exe().expect("a test is a file");
    let deps = test.parent().expect("it lies in a folder").to_owned();
    let files = std::fs::read_dir(&deps).expect("the folder can be read");
    let libraries = files.filter_map(|file| {
        let file = file.ok()?;
        let name = file.file_name().into_string().ok()?;
        let is_rlib = file.path().extension().is_some_and(|rlib| rlib == "rlib");
        let is_ours = name.starts_with("libwaterclock-") && is_rlib;
        let built = file.metadata().ok()?.modified().ok()?;
        is_ours.then(|| (built, file.path()))
    });
    let (_, library) = libraries
        .max()
        .expect("the test was linked with the library");
    (deps, library)
}

/// What the compiler says to a case; nothing if it takes it.
fn said(case: &Path) -> Option<String> {
    let (deps, library) = library();
    let out = tempfile::tempdir().expect("a folder for what is built");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut waterclock = std::ffi::OsString::from("waterclock=");
    waterclock.push(library);
    let output = Command::new(compiler)
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--cap-lints=allow",
        ])
        .arg("--extern")
        .arg(waterclock)
        .arg("-L")
        .arg(deps)
        .arg("--out-dir")
        .arg(out.path())
        .arg(case)
        .output()
        .expect("there is a compiler");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(said)
}

/// The text without line breaks, bars and indentation, which depend on the compiler.
fn plain(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| *word != "|");
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_wrong_is_said_with_what_to_write_instead() {
    let mut count = 0;
    for case in std::fs::read_dir(cases()).expect("there are cases") {
        let case = case.expect("the folder can be read").path();
        let text = std::fs::read_to_string(&case).expect("a case can be read");
        let said = said(&case).unwrap_or_else(|| panic!("{} compiles", case.display()));
        for line in text.lines().filter_map(|line| line.strip_prefix("//~ ")) {
            let is_said = plain(&said).contains(&plain(line));
            assert!(is_said, "{}: not said: {line}\nbut\n{said}", case.display());
        }
        assert!(text.contains("//~ "), "{} expects nothing", case.display());
        count += 1;
    }
    assert!(count > 6, "{count} cases");
}

#[test]
fn what_is_right_compiles() {
    let right = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/teaching/right.rs");
    assert_eq!(said(&right), None);
}
