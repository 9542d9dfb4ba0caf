//! The house rules as a test: who may import whom, and what no file may hold. Each message says
//! what to do instead.

use std::fs;
use std::path::{Path, PathBuf};

use code::{code_of, imports, line_of, names_crate};

#[path = "support/code.rs"]
mod code;

/// The modules of the engine, lowest first. Below the edges a module may use those before it in
/// this list; no two edges know each other.
const LAYERS: [(u8, &[&str]); 5] = [
    (1, &["memory", "time", "number", "record", "row"]),
    (2, &["columns", "dataflow"]),
    (3, &["view", "query"]),
    (
        4,
        &[
            "config",
            "telemetry",
            "source",
            "sink",
            "state",
            "worker",
            "http",
        ],
    ),
    (5, &["cli", "testing", "commands", "main", "lib"]),
];

/// Edges that may use other edges all the same: workers drive the traits of sources, sinks, state.
const EDGE_USES: [(&str, &[&str]); 1] = [("worker", &["source", "sink", "state"])];

/// The only places that may name a crate, as path prefixes; tests and examples may name any.
const OWNERS: [(&str, &[&str]); 30] = [
    (
        "timely",
        &[
            "src/dataflow/",
            "src/query/",
            "src/worker/",
            "src/lib.rs",
            "queries/",
        ],
    ),
    (
        "differential_dataflow",
        &["src/dataflow/", "src/query/", "src/worker/", "queries/"],
    ),
    ("warp", &["src/http/"]),
    ("hyper", &["src/http/"]),
    ("hyper_util", &["src/http/"]),
    ("http_body_util", &["src/http/"]),
    ("tokio_rustls", &["src/http/"]),
    ("flate2", &["src/http/"]),
    ("zstd", &["src/http/"]),
    ("futures_util", &["src/http/", "src/state/bucket"]),
    ("object_store", &["src/state/bucket"]),
    ("abomonation", &["src/state/image.rs"]),
    ("arrow_data", &["src/state/image.rs"]),
    ("tokio_tungstenite", &["src/http/"]),
    ("rustix", &["src/commands/", "src/memory/"]),
    ("tikv_jemallocator", &["src/memory/"]),
    ("tikv_jemalloc_ctl", &["src/memory/"]),
    ("tikv_jemalloc_sys", &["src/memory/"]),
    (
        "tokio",
        &[
            "src/http/",
            "src/source/",
            "src/sink/",
            "src/state/",
            "src/worker/",
            "src/main.rs",
            "src/commands/",
        ],
    ),
    ("rdkafka", &["src/source/kafka", "src/sink/kafka"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("ureq", &["src/cli/", "src/source/registry"]),
    (
        "rustls",
        &[
            "src/http/",
            "src/cli/",
            "src/source/registry",
            "src/state/bucket",
        ],
    ),
    ("rustls_native_certs", &["src/cli/", "src/source/registry"]),
    ("jiff", &["src/dataflow/calendar.rs"]),
    ("datasketches", &["src/dataflow/sketches.rs"]),
    ("sketches_ddsketch", &["src/dataflow/sketches.rs"]),
    ("apache_avro", &["src/dataflow/schemas/"]),
    ("protox", &["src/dataflow/schemas/"]),
    ("prost_reflect", &["src/dataflow/schemas/"]),
];

/// What a file of queries may take from the engine.
const FOR_QUERIES: [&str; 3] = ["prelude", "Query", "queries"];

const MAX_LINES: usize = 500;
const MAX_COLUMNS: usize = 100;

#[test]
fn the_sources_keep_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "queries", "tests", "benches", "examples"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(
        files.len() > 10,
        "the sources are not where this test looks for them"
    );
    let sources: Vec<(String, String)> = files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root).expect("collected below the root");
            let text = fs::read_to_string(path).expect("a source file is UTF-8 text");
            (name.to_string_lossy().replace('\\', "/"), text)
        })
        .collect();
    let tests: Vec<String> = sources
        .iter()
        .flat_map(|(path, text)| test_modules(path, text))
        .collect();
    let mut complaints = Vec::new();
    for (path, text) in &sources {
        let is_test = ["tests/", "benches/"]
            .iter()
            .any(|folder| path.starts_with(folder))
            || tests.iter().any(|module| is_of(path, module));
        complaints.extend(check(path, text, is_test));
    }
    complaints.extend(lonely_files(root, &files));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// Folders of the engine with a single file in them; `a.rs` counts into the folder `a`.
fn lonely_files(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let is_alone = |file: &&PathBuf| {
        let folder = file.parent().unwrap_or(root);
        let above = folder.with_extension("rs");
        let beside = files.iter().filter(|other| other.parent() == Some(folder));
        folder.starts_with(root.join("src")) && beside.count() == 1 && !files.contains(&above)
    };
    let what = "alone in its folder; make it one file above";
    files
        .iter()
        .filter(is_alone)
        .map(|file| format!("{}: {what}", file.display()))
        .collect()
}

/// Every complaint about one file, as `path:line: what to do`.
fn check(path: &str, text: &str, is_test: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain =
        |line: usize, what: String| complaints.push(format!("{path}:{line}: {what}"));
    if !text.starts_with("//! ") {
        complain(
            1,
            "begin with one `//!` sentence: what the file is for".to_owned(),
        );
    }
    let count = text.lines().count();
    if count > MAX_LINES {
        complain(
            count,
            format!("{count} lines; split it where the subject changes ({MAX_LINES})"),
        );
    }
    let code = code_of(text);
    let tests_begin = if is_test { 0 } else { tests_begin(&code) };
    for (i, (line, code)) in text.lines().zip(code.lines()).enumerate() {
        let is_test = i >= tests_begin;
        let found = text_complaint(line, is_test)
            .into_iter()
            .chain(code_complaint(path, code, is_test));
        found.for_each(|what| complain(i + 1, what));
    }
    for (at, module) in imports(&code, "crate") {
        if let Some(what) = layer_complaint(path, &module) {
            complain(line_of(&code, at), what);
        }
    }
    if path.starts_with("queries/") {
        for (at, name) in imports(&code, "waterclock") {
            if !FOR_QUERIES.contains(&name.as_str()) {
                let what = format!("a query sees `waterclock::prelude` only, not `{name}`");
                complain(line_of(&code, at), what);
            }
        }
    }
    complaints
}

/// Rules about a line as it is written, comments and strings too.
fn text_complaint(line: &str, is_test: bool) -> Option<String> {
    let unfinished = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    if let Some(word) = unfinished.into_iter().find(|word| line.contains(word)) {
        return Some(format!(
            "{word}: do it now, or open an issue and leave no mark here"
        ));
    }
    if line.chars().count() > MAX_COLUMNS {
        return Some(format!("longer than {MAX_COLUMNS} columns; break it"));
    }
    (!line.is_ascii() && !is_test)
        .then(|| "not ASCII; write \\u{..} in a string, a word elsewhere".to_owned())
}

/// Rules about a line's code, without comments and strings.
fn code_complaint(path: &str, code: &str, is_test: bool) -> Vec<String> {
    let row = row_of(path);
    let is_example = path.starts_with("examples/");
    let mut found = Vec::new();
    let mut forbid = |pattern: &str, when: bool, instead: &str| {
        if when && code.contains(pattern) {
            found.push(format!("`{pattern}`: {instead}"));
        }
    };
    for unfinished in [
        concat!("to", "do!("),
        concat!("unimplemen", "ted!("),
        concat!("db", "g!("),
    ] {
        forbid(unfinished, true, "finish it, or leave it out");
    }
    forbid(
        ".unwrap()",
        !is_test,
        "return the error, or `expect` with why it cannot fail",
    );
    forbid(
        "#[ignore",
        true,
        "a test that is not run proves nothing; make it fast or remove it",
    );
    forbid(
        "sleep(",
        is_test,
        "wait for the thing itself, with a deadline",
    );
    let below_edges = row.is_some_and(|row| row < 4);
    for clock in ["SystemTime::now", "Instant::now"] {
        forbid(
            clock,
            below_edges,
            "time is an argument below row 4; let the edge pass it",
        );
    }
    forbid(
        "std::net::",
        below_edges,
        "no I/O below row 4; give the edge a port to implement",
    );
    for (name, owners) in OWNERS {
        let is_owner = owners.iter().any(|owner| path.starts_with(owner));
        if !is_test && !is_example && !is_owner && names_crate(code, name) {
            found.push(format!(
                "`{name}` belongs to {}; keep it there",
                owners.join(", ")
            ));
        }
    }
    found
}

/// The top-level module a file of `src/` belongs to.
fn module_of(path: &str) -> Option<&str> {
    path.strip_prefix("src/")?.split(['/', '.']).next()
}

fn place_of(module: &str) -> Option<(u8, usize)> {
    LAYERS.iter().find_map(|(row, modules)| {
        modules
            .iter()
            .position(|name| *name == module)
            .map(|place| (*row, place))
    })
}

fn row_of(path: &str) -> Option<u8> {
    module_of(path).and_then(place_of).map(|(row, _)| row)
}

/// Why this file may not use that module of its crate.
fn layer_complaint(path: &str, used: &str) -> Option<String> {
    let module = module_of(path)?;
    let Some((row, place)) = place_of(module) else {
        return Some(format!(
            "module `{module}` has no row; give it one in tests/tidy.rs"
        ));
    };
    // Names of the crate root, such as macros, have no row.
    let (used_row, used_place) = place_of(used)?;
    if module == used || row == 5 {
        return None;
    }
    if row == 4 && used_row == 4 {
        let allowed = EDGE_USES
            .iter()
            .any(|(edge, uses)| *edge == module && uses.contains(&used));
        let what = format!("edge `{module}` uses edge `{used}`; let main.rs join them by a port");
        return (!allowed).then_some(what);
    }
    ((used_row, used_place) > (row, place)).then(|| {
        format!(
            "`{module}` (row {row}) uses `{used}` (row {used_row}), which stands above it; \
             move what both need below, or pass it in"
        )
    })
}

/// The line, counted from 0, from which on a file is tests: its last part.
fn tests_begin(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let begin = lines
        .windows(2)
        .position(|w| w[0] == "#[cfg(test)]" && w[1].ends_with('{'));
    begin.unwrap_or(lines.len())
}

/// The modules in files of their own that this file declares for tests, as paths without ending.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => format!("{folder}/{}", file.trim_end_matches(".rs")),
    };
    let code = code_of(text);
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|w| w[0] == "#[cfg(test)]");
    let named = declared.filter_map(|w| w[1].strip_suffix(';')?.split("mod ").nth(1));
    named.map(|name| format!("{folder}/{name}")).collect()
}

/// Whether the file is the module's, or of one below it.
fn is_of(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

mod rules {
    //! Each rule fails on a snippet that breaks it.

    use super::*;

    fn complaint(path: &str, code: &str) -> String {
        check(
            path,
            &format!("//! Purpose.\n{code}\n"),
            path.starts_with("tests/"),
        )
        .join("\n")
    }

    #[test]
    fn imports_go_down_only() {
        assert_eq!(complaint("src/view/pull.rs", "use crate::row::Row;"), "");
        let up = complaint("src/view/pull.rs", "use crate::http::Problem;");
        assert_eq!(
            up,
            "src/view/pull.rs:2: `view` (row 3) uses `http` (row 4), which stands above it; \
             move what both need below, or pass it in"
        );
        assert!(complaint("src/time.rs", "use crate::record::Event;").contains("stands above"));
        assert!(complaint("src/view/mod.rs", "use crate::query::Flow;").contains("stands above"));
        let group = "use crate::{row::Row, time::{Epoch, Timestamp}, worker::Feed};";
        assert!(complaint("src/query/flow.rs", group).contains("uses `worker`"));
        let split = "use crate::{\n    row::Row,\n    worker::Feed,\n};";
        assert!(complaint("src/query/flow.rs", split).contains("uses `worker`"));
        assert!(complaint("src/new/mod.rs", "use crate::row::Row;").contains("has no row"));
    }

    #[test]
    fn edges_meet_in_main_only() {
        assert!(complaint("src/http/mod.rs", "use crate::source::Source;").contains("by a port"));
        assert_eq!(
            complaint("src/worker/feed.rs", "use crate::source::Source;"),
            ""
        );
        assert!(complaint("src/worker/feed.rs", "use crate::http::Problem;").contains("by a port"));
        assert_eq!(complaint("src/main.rs", "use crate::http::serve;"), "");
    }

    #[test]
    fn a_crate_has_an_owner() {
        for (path, code) in [
            ("src/view/mod.rs", "use timely::progress::Antichain;"),
            ("src/worker/run.rs", "fn f(r: warp::Reply) {}"),
            ("src/query/flow.rs", "tokio::spawn(f);"),
            ("src/state/mod.rs", "use hyper;"),
        ] {
            assert!(
                complaint(path, code).contains("keep it there"),
                "{path} {code}"
            );
        }
        assert_eq!(
            complaint("src/view/mod.rs", "let untimely::x = 1; // timely::x"),
            ""
        );
        assert_eq!(
            complaint("src/query/flow.rs", "use timely::dataflow::Scope;"),
            ""
        );
        assert_eq!(complaint("examples/a.rs", "use rdkafka::ClientConfig;"), "");
    }

    #[test]
    fn no_clock_below_the_edges() {
        let code = "let now = std::time::Instant::now();";
        assert!(complaint("src/view/mod.rs", code).contains("let the edge pass it"));
        assert_eq!(complaint("src/http/mod.rs", code), "");
    }

    #[test]
    fn queries_see_the_prelude_only() {
        assert_eq!(complaint("queries/a.rs", "use waterclock::prelude::*;"), "");
        assert!(complaint("queries/a.rs", "use waterclock::http::x;").contains("not `http`"));
    }

    #[test]
    fn nothing_unfinished_stays() {
        for code in [
            concat!("// TO", "DO: later"),
            concat!("to", "do!()"),
            concat!("db", "g!(x);"),
        ] {
            assert_ne!(complaint("src/time.rs", code), "", "{code}");
        }
        let unwrap = "fn f() { x.unwrap(); }";
        assert!(complaint("src/time.rs", unwrap).contains("why it cannot fail"));
        let tested = format!("#[cfg(test)]\nmod tests {{\n{unwrap}\n}}");
        assert_eq!(complaint("src/time.rs", &tested), "");
        assert_eq!(
            complaint("src/time.rs", "/// `x.unwrap()` is not for us."),
            ""
        );
        assert!(complaint("tests/a.rs", "#[ignore]").contains("proves nothing"));
        assert!(complaint("tests/a.rs", "thread::sleep(x);").contains("with a deadline"));
    }

    #[test]
    fn modules_for_tests_are_known() {
        let text = "mod a;\n#[cfg(test)]\nmod tests;\n";
        assert_eq!(test_modules("src/http/mod.rs", text), ["src/http/tests"]);
        assert_eq!(test_modules("src/columns.rs", text), ["src/columns/tests"]);
        assert!(is_of("src/http/tests.rs", "src/http/tests"));
        assert!(is_of("src/http/tests/pull.rs", "src/http/tests"));
        assert!(!is_of("src/http/tests_of.rs", "src/http/tests"));
    }

    #[test]
    fn files_have_a_purpose_and_a_size() {
        assert!(check("src/time.rs", "use std::fmt;\n", false)[0].contains("what the file is for"));
        assert!(complaint("src/time.rs", &"\n".repeat(500)).contains("split it"));
        assert!(complaint("src/time.rs", &"x".repeat(101)).contains("break it"));
        assert!(complaint("src/time.rs", "// \u{e9}").contains("not ASCII"));
    }
}
