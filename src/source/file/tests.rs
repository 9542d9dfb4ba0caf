//! Tests of files as a source: cuts, positions, growth, rotation, and records too large to hold.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use proptest::prelude::*;

use super::{FileOptions, FileSource};
use crate::record::{Chunk, Format, Positions};
use crate::source::{Source, SourceError};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn open(path: &PathBuf, options: FileOptions) -> FileSource {
    FileSource::open("s", std::slice::from_ref(path), options).unwrap()
}

fn tailed() -> FileOptions {
    FileOptions {
        tail: true,
        ..FileOptions::default()
    }
}

fn append(path: &PathBuf, text: &str) {
    File::options()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

fn chunks(source: &mut FileSource, from: u64, max: usize, until: Option<u64>) -> Vec<Chunk> {
    let (mut at, mut all) = (from, Vec::new());
    while let Some(mut chunk) = source.read(0, at, max, until).unwrap() {
        let size = chunk.size();
        chunk.fetch();
        assert_eq!(
            (chunk.positions, size),
            (Positions::Bytes, chunk.bytes.len())
        );
        assert_eq!(chunk.spans.len(), 1);
        let span = &chunk.spans[0];
        assert_eq!(
            (span.first, span.offset, span.len),
            (chunk.start, 0, chunk.bytes.len())
        );
        assert_eq!(span.arrival, None);
        at = chunk.end;
        all.push(chunk);
    }
    all
}

fn texts(chunks: &[Chunk]) -> Vec<String> {
    chunks
        .iter()
        .map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned())
        .collect()
}

/// Position and text of each NDJSON record.
fn records(chunks: &[Chunk]) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    for chunk in chunks {
        let mut at = chunk.start;
        for line in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
            all.push((at, String::from_utf8(line.to_vec()).unwrap()));
            at += line.len() as u64;
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_of_lines_in_any_chunks_is_the_same(
        text in "([a-c]{0,30}\n){0,20}[a-c]{0,5}",
        reads in prop::collection::vec((0_usize..22, 0_u64..400, 0_usize..100), 1..10),
    ) {
        let files = Files::new();
        let path = files.write("f.ndjson", text.as_bytes());
        let mut source = open(&path, FileOptions::default());
        let whole = records(&chunks(&mut source, 0, 1 << 20, None));
        prop_assert_eq!(whole.iter().map(|(_, line)| &**line).collect::<String>(), &*text);
        for (from, until, max) in reads {
            let from = whole.get(from).map_or(text.len() as u64, |(at, _)| *at);
            let got = records(&chunks(&mut source, from, max, Some(until)));
            let expected: Vec<_> =
                whole.iter().filter(|(at, _)| *at >= from && *at < until).cloned().collect();
            prop_assert_eq!(got, expected);
        }
    }

    /// Lines that others read are cut as those read at once, also those longer than a look.
    #[test]
    fn unread_lines_are_the_same_chunks(
        lines in prop::collection::vec(prop_oneof![0_usize..30, 3000_usize..14_000], 0..8),
        has_end in any::<bool>(),
        max in prop_oneof![1_usize..100, 1000_usize..30_000],
    ) {
        let lines: Vec<String> = lines.iter().map(|len| "x".repeat(*len)).collect();
        let text = lines.join("\n") + if has_end { "\n" } else { "" };
        let files = Files::new();
        let path = files.write("f.ndjson", text.as_bytes());
        let read = chunks(&mut open(&path, FileOptions::default()), 0, max, None);
        let mut source = open(&path, FileOptions::default());
        source.leave_unread();
        prop_assert_eq!(chunks(&mut source, 0, max, None), read);
    }
}

#[test]
fn what_cannot_be_read_any_more_is_said_by_the_source() {
    let files = Files::new();
    let path = files.write("f.ndjson", b"one\ntwo\n");
    let mut source = open(&path, FileOptions::default());
    source.leave_unread();
    let mut chunk = source.read(0, 0, 5, None).unwrap().unwrap();
    assert_eq!((chunk.end, &*chunk.bytes, chunk.size()), (4, &b""[..], 4));
    source.partitions().unwrap();
    files.write("f.ndjson", b"one");
    chunk.fetch();
    assert_eq!(&*chunk.bytes, b"");
    files.write("f.ndjson", b"one\ntwo\n");
    let error = source.partitions().unwrap_err().to_string();
    assert!(error.contains("f.ndjson' shrank from 8 to "), "{error}");
}

#[test]
fn a_last_line_without_a_line_break_counts_unless_more_may_come() {
    let files = Files::new();
    let path = files.write("f.ndjson", b"one\ntwo");
    let mut source = open(&path, FileOptions::default());
    assert!(source.is_bounded());
    assert_eq!(texts(&chunks(&mut source, 0, 4, None)), ["one\n", "two"]);
    append(&path, "x\nthree\n");
    assert_eq!(
        texts(&chunks(&mut source, 0, 100, None)),
        ["one\ntwo"],
        "its end is fixed"
    );

    let path = files.write("t.ndjson", b"one\ntwo");
    let mut source = open(&path, tailed());
    assert!(!source.is_bounded());
    assert_eq!(texts(&chunks(&mut source, 0, 100, None)), ["one\n"]);
    assert_eq!(chunks(&mut source, 4, 100, None), []);
    append(&path, "x");
    assert_eq!(chunks(&mut source, 4, 2, None), []);
    append(&path, "\nthree\nfou");
    assert_eq!(source.partitions().unwrap()[0].end, 18);
    assert_eq!(
        texts(&chunks(&mut source, 4, 2, None)),
        ["twox\n", "three\n"]
    );
    append(&path, "r\n");
    assert_eq!(texts(&chunks(&mut source, 15, 100, None)), ["four\n"]);
}

#[test]
fn a_followed_file_that_shrinks_or_is_replaced_is_named() {
    let files = Files::new();
    let path = files.write("f.ndjson", b"one\ntwo\n");
    let mut source = open(&path, tailed());
    assert_eq!(chunks(&mut source, 0, 100, None).len(), 1);
    fs::rename(&path, files.0.path().join("f.1")).unwrap();
    assert_eq!(
        chunks(&mut source, 8, 100, None),
        [],
        "between two files nothing is wrong yet"
    );
    files.write("f.ndjson", b"new\n");
    let error = source.read(0, 8, 100, None).unwrap_err();
    assert!(matches!(error, SourceError::Replaced { .. }));
    assert!(
        error.to_string().contains("f.ndjson' was replaced"),
        "{error}"
    );

    let mut source = open(&path, tailed());
    files.write("f.ndjson", b"n\n");
    let error = source.read(0, 4, 100, None).unwrap_err();
    assert!(
        error.to_string().contains("shrank from 4 to 2 bytes"),
        "{error}"
    );
    let error = open(&path, tailed()).read(0, 4, 100, None).unwrap_err();
    assert!(matches!(
        error,
        SourceError::Gone {
            position: 4,
            end: 2,
            ..
        }
    ));
}

#[test]
fn csv_is_cut_outside_quotes_and_its_header_is_no_record() {
    let files = Files::new();
    let text = b"\xEF\xBB\xBFid,\"te\nxt\"\r\n1,\"a\nb\"\r\n2,plain\r\n3,\"x\"\"\n\"";
    let path = files.write("f.CSV", text);
    let mut source = open(&path, FileOptions::default());
    let expected = ["1,\"a\nb\"\r\n", "2,plain\r\n", "3,\"x\"\"\n\""];
    for max in [1, 5, 12] {
        let chunks = chunks(&mut source, 0, max, None);
        assert_eq!(texts(&chunks), expected, "at most {max}");
        assert_eq!(chunks[0].start, 15);
        let Format::Csv { header } = &chunks[0].format else {
            panic!("CSV")
        };
        assert_eq!(**header, ["id".to_string(), "te\nxt".to_string()]);
    }
    assert_eq!(
        texts(&chunks(&mut source, 0, 1000, None)),
        [expected.concat()]
    );
    let second = 15 + expected[0].len() as u64;
    assert_eq!(
        texts(&chunks(&mut source, 0, 1000, Some(second))),
        [expected[0]]
    );
}

#[test]
fn a_followed_csv_waits_for_its_header_and_for_open_quotes() {
    let files = Files::new();
    let path = files.write("f.csv", b"\nid,te");
    let mut source = open(&path, tailed());
    assert_eq!(chunks(&mut source, 0, 100, None), []);
    append(&path, "xt\n1,\"a\n");
    assert_eq!(chunks(&mut source, 0, 100, None), []);
    append(&path, "\"\n2,");
    let chunks = chunks(&mut source, 0, 100, None);
    assert_eq!(texts(&chunks), ["1,\"a\n\"\n"]);
    assert_eq!(chunks[0].start, 9);
}

#[test]
fn headers_that_cannot_be_read_are_told() {
    let files = Files::new();
    for (bytes, reason) in [
        (&b"a,b\r1,2\r3,4"[..], "carriage returns alone"),
        (b"a,\xFF\n", "header cannot be read"),
        (&vec![b'x'; (1 << 20) + 1], "no header within"),
    ] {
        let path = files.write("f.csv", bytes);
        let error = open(&path, FileOptions::default())
            .read(0, 0, 100, None)
            .unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let path = files.write("empty.csv", b"");
    assert_eq!(
        chunks(&mut open(&path, FileOptions::default()), 0, 100, None),
        []
    );
}

#[test]
fn a_record_too_large_is_given_in_part_spoiled_and_passed_over() {
    let files = Files::new();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20));
    let text = format!("{{\"n\":1}}\n{large}\n{{\"n\":2}}\n");
    let path = files.write("f.ndjson", text.as_bytes());
    for tail in [false, true] {
        let options = FileOptions {
            tail,
            max_record: 100,
            ..FileOptions::default()
        };
        let chunks = chunks(&mut open(&path, options), 0, 50, None);
        assert_eq!(chunks.len(), 3);
        assert_eq!((chunks[1].start, chunks[1].bytes.len()), (8, 100));
        assert!(serde_json::from_slice::<serde_json::Value>(&chunks[1].bytes).is_err());
        assert_eq!(&*chunks[2].bytes, b"{\"n\":2}\n");
    }
    // Spaces behind a whole object would make a part that decodes.
    let path = files.write(
        "s.ndjson",
        format!("{{\"n\":1}}{}", " ".repeat(500)).as_bytes(),
    );
    let options = FileOptions {
        max_record: 100,
        ..FileOptions::default()
    };
    let part = chunks(&mut open(&path, options), 0, 50, None).remove(0);
    assert_eq!(part.end, 507);
    assert!(serde_json::from_slice::<serde_json::Value>(&part.bytes).is_err());
}

#[test]
fn a_too_large_csv_record_has_more_fields_than_the_header() {
    let files = Files::new();
    let quoted = format!("1,\"{}\n\"\n2,b\n", "x\n".repeat(200));
    let plain = format!("1,{}\n2,b\n", "x".repeat(200));
    for body in [quoted, plain] {
        let path = files.write("f.csv", format!("id,text\n{body}").as_bytes());
        let options = FileOptions {
            max_record: 100,
            ..FileOptions::default()
        };
        let chunks = chunks(&mut open(&path, options), 0, 10, None);
        assert_eq!(chunks.len(), 2);
        assert!(chunks[0].bytes.len() <= 100);
        let mut builder = csv::ReaderBuilder::new();
        let mut reader = builder.has_headers(false).from_reader(&*chunks[0].bytes);
        assert!(reader.byte_records().next().unwrap().unwrap().len() > 2);
        assert_eq!(&*chunks[1].bytes, b"2,b\n");
    }
}

#[test]
fn a_too_large_record_of_a_followed_file_is_waited_for() {
    let files = Files::new();
    let path = files.write("f.ndjson", "x".repeat(300).as_bytes());
    let mut source = open(
        &path,
        FileOptions {
            max_record: 100,
            ..tailed()
        },
    );
    assert_eq!(chunks(&mut source, 0, 10, None), []);
    append(&path, &"y".repeat(300));
    assert_eq!(chunks(&mut source, 0, 10, None), []);
    append(&path, "\nnext\n");
    let chunks = chunks(&mut source, 0, 10, None);
    assert_eq!(
        (chunks[0].start, chunks[0].end, chunks[0].bytes.len()),
        (0, 601, 100)
    );
    assert_eq!(&*chunks[1].bytes, b"next\n");
}

#[test]
fn several_files_are_partitions_and_what_is_no_file_is_refused() {
    let files = Files::new();
    let paths = [
        files.write("b.ndjson", b"b\n"),
        files.write("a.csv", b"id\n1\n"),
    ];
    let mut source = FileSource::open("s", &paths, FileOptions::default()).unwrap();
    let ends: Vec<_> = source
        .partitions()
        .unwrap()
        .iter()
        .map(|p| (p.id, p.end))
        .collect();
    assert_eq!(ends, [(0, 2), (1, 5)]);
    let chunk = source.read(1, 0, 100, None).unwrap().unwrap();
    assert_eq!(
        (chunk.partition, chunk.start, &*chunk.bytes),
        (1, 3, &b"1\n"[..])
    );
    assert!(matches!(
        source.read(2, 0, 100, None),
        Err(SourceError::Gone { partition: 2, .. })
    ));
    for path in [files.0.path().to_path_buf(), files.0.path().join("none")] {
        let error = FileSource::open("s", &[path], FileOptions::default())
            .err()
            .unwrap();
        assert!(matches!(error, SourceError::Io { .. }));
    }
}
