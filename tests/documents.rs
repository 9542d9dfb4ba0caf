//! The documents promise commands, a query, an answer and files: they must be those of this tree.

use std::fs;
use std::path::Path;

use clap::Parser;
use waterclock::cli::{Cli, Command};

fn text_of(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

/// README's code blocks in a language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let readme = text_of("README.md");
    let parts = readme.split(&fence).skip(1);
    let blocks = parts.filter_map(|rest| rest.split("\n```").next());
    blocks.map(str::to_owned).collect()
}

#[test]
fn the_readme_is_short() {
    assert!(text_of("README.md").lines().count() <= 150);
}

#[test]
fn its_query_is_the_one_that_ships() {
    let rust = blocks("rust").join("\n");
    let function = rust.split("pub fn query").nth(1).expect("a query");
    assert!(
        text_of("queries/clicks_per_user.rs").contains(function.trim()),
        "{function}"
    );
    let record = rust.split("/// One click").nth(1).expect("a record");
    let record = record
        .split("pub fn query")
        .next()
        .expect("before the query");
    assert!(
        text_of("queries/events.rs").contains(record.trim()),
        "{record}"
    );
}

#[test]
fn its_commands_are_understood() {
    let shell = blocks("sh").join("\n");
    let mut seen = Vec::new();
    for line in shell.lines() {
        let Some(ours) = line.strip_prefix("cargo run --release") else {
            continue;
        };
        let words = ours.split_whitespace().skip_while(|word| *word == "--");
        let cli = Cli::try_parse_from(std::iter::once("waterclock").chain(words));
        seen.push(match cli.expect(line).into_command() {
            Command::Run(_) => "run",
            Command::Replay(_) => "replay",
            Command::Query(_) => "query",
            Command::Tail(_) => "tail",
            Command::Status(_) => "status",
            _ => "another",
        });
    }
    assert_eq!(seen, ["run", "query", "tail", "status", "replay"]);
    assert!(shell.lines().any(|line| line == "cargo test"));
}

#[test]
fn its_answer_has_the_documented_times() {
    let answer: serde_json::Value = serde_json::from_str(&blocks("json")[0]).expect("JSON");
    let window = &answer["rows"][0]["key"][1];
    // 2022-01-01 9:56 to 10:01, and 10:05 less the 5 s a click may be late, as the text says.
    assert_eq!(window["start"], 1_641_030_960_000_u64);
    assert_eq!(window["end"], 1_641_031_260_000_u64);
    assert_eq!(answer["complete_through"], 1_641_031_495_000_u64);
}

#[test]
fn the_documents_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut complaints = Vec::new();
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/coming-from-flink.md",
        "docs/kafka.md",
        "docs/performance.md",
        "docs/serving.md",
        "docs/time.md",
        "docs/writing-queries.md",
        "tests/queries/README.md",
    ] {
        let text = fs::read_to_string(root.join(document)).expect("the document is there");
        let folder = root
            .join(document)
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default();
        for named in named_files(&text) {
            if !root.join(&named).exists() && !folder.join(&named).exists() {
                complaints.push(format!("{document}: names '{named}', which is not there"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Files that a document names: targets of relative links, and quoted paths of this project.
fn named_files(text: &str) -> Vec<String> {
    let linked = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next());
    let linked = linked.filter(|link| !link.is_empty() && !link.contains(':'));
    // Every second part between backticks is quoted; fences stand on lines of their own.
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let quoted = prose
        .iter()
        .flat_map(|part| part.split('`').skip(1).step_by(2));
    let ours = ["src/", "queries/", "tests/", "docs/", "benches/", ".ci/"];
    let is_path = |name: &str| {
        ours.iter().any(|folder| name.starts_with(folder))
            && !name.contains(['<', '*', ' ', '{', ':'])
    };
    linked
        .chain(quoted.filter(|name| is_path(name)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn documents_name_files_by_link_and_quote() {
    let text = "[a](docs/a.md#x) [b](https://b) `src/time.rs` `let x` \n```\n`src/no.rs`\n```\n";
    assert_eq!(named_files(text), ["docs/a.md", "src/time.rs"]);
}
