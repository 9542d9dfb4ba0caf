//! What memory holds, and what happens beyond it: bytes of a view's row, a budget that is passed,
//! and bytes that do not grow with time.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::fs::File;
use std::process::{Command, Output};
use std::sync::Mutex;

use waterclock::memory;
use waterclock::row::Row;
use waterclock::time::{Epoch, Timestamp, Window};
use waterclock::view::{History, KeyRange, Labels, QuerySpec, Views};

/// The tests count the bytes of the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A variable that tells a test's child what it is to do.
const BUDGET: &str = "MEMORY_TEST_BUDGET";

fn views(history: History) -> Views {
    let spec = QuerySpec {
        name: "q".into(),
        ..QuerySpec::default()
    };
    let views = Views::new(1, vec![spec], vec![], 1, history);
    views.set_ready();
    views
}

fn publish(views: &Views, epoch: Epoch) {
    let labels = Labels {
        epoch,
        ..Labels::default()
    };
    views.publish(labels);
}

fn short() -> History {
    History {
        epochs: 2,
        ..History::default()
    }
}

/// A row as a windowed count has it.
fn counted(user: u64, start: i64, count: u64) -> Row {
    let window = Window {
        start: Timestamp(start),
        end: Timestamp(start + 300_000),
    };
    let key = (format!("user{user:06}"), window);
    Row::new(&key, &count, Some(Timestamp(start + 299_999))).unwrap()
}

const START: i64 = 1_795_345_200_000;

/// Applies rows in epochs of a thousand, from `epoch` on.
fn fill(views: &Views, epoch: &mut Epoch, rows: impl Iterator<Item = (Row, i64)>) {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        *epoch += 1;
        let some = rows.by_ref().take(1000).collect();
        views.query("q").unwrap().apply(0, *epoch, some);
        publish(views, *epoch);
    }
}

#[test]
fn a_row_of_a_view_takes_what_the_page_on_memory_says() {
    const ROWS: u64 = 100_000;
    let _alone = ALONE.lock();
    let views = views(short());
    let mut epoch = 0;
    let before = memory::allocated();
    // Users come as they please.
    let users = (0..ROWS).map(|n| n * 7919 % ROWS);
    fill(
        &views,
        &mut epoch,
        users.map(|user| (counted(user, START, user % 50), 1)),
    );
    fill(
        &views,
        &mut epoch,
        [0, 1, 2].map(|n| (counted(n, 0, 1), 1)).into_iter(),
    );
    let each = (memory::allocated() - before) as u64 / ROWS;
    let said = views.query("q").unwrap().memory_bytes() as u64 / ROWS;
    println!("a row takes {each} bytes; the view says {said}");
    assert!((200..320).contains(&each), "{each} bytes a row");
    assert!(
        each.abs_diff(said) < each / 5,
        "{each} bytes a row, and the view says {said}"
    );
}

#[test]
fn bytes_do_not_grow_with_time_where_rows_do_not() {
    let _alone = ALONE.lock();
    let views = views(short());
    let (mut epoch, mut start) = (0, START);
    let mut windows = |epoch: &mut Epoch, count: i64| {
        for _ in 0..count {
            let gone = start - 3 * 300_000;
            let rows = (0..2000).map(|user| (counted(user, start, 1), 1));
            let expired = (0..2000).map(|user| (counted(user, gone, 1), -1));
            let is_first = gone < START;
            fill(&views, epoch, rows.chain(expired.filter(|_| !is_first)));
            start += 300_000;
        }
        memory::allocated()
    };
    let early = windows(&mut epoch, 10);
    let late = windows(&mut epoch, 100);
    assert!(late < early + early / 20, "{early} bytes, and later {late}");
}

/// Runs a test of this file in a child that may have so many kilobytes of memory of its own.
fn in_little_memory(test: &str, kilobytes: u64, budget: usize) -> Output {
    let this = std::env::current_exe().unwrap();
    // Mapped files do not count against this limit, as they do not against a container's: the
    // system takes their pages away.
    let script = format!("ulimit -d {kilobytes} && exec \"$0\" --exact {test} --nocapture");
    Command::new("sh")
        .args(["-c", &script])
        .arg(this)
        .env(BUDGET, budget.to_string())
        .output()
        .unwrap()
}

/// Rows of 4 KB each, several times the limit; then all of them are read, and some changed.
#[test]
fn more_rows_than_memory() {
    const ROWS: u64 = 80_000;
    let Ok(budget) = std::env::var(BUDGET) else {
        return;
    };
    let budget: usize = budget.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    if budget > 0 {
        let path = dir.path().join("memory");
        let file = File::options();
        let file = file
            .clone()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap();
        memory::limit(budget, file, 4 << 30).unwrap();
    }
    let views = views(short());
    let text = |n: u64| format!("{n:02000}");
    let row = |n: u64, value: u64| (Row::new(&n, &text(value), None).unwrap(), 1);
    let mut epoch = 0;
    fill(&views, &mut epoch, (0..ROWS).map(|n| row(n, n)));
    let held = memory::in_file();
    let changed = (0..ROWS).step_by(10).flat_map(|n| {
        let (gone, _) = row(n, n);
        [(gone, -1), row(n, n + 1)]
    });
    fill(&views, &mut epoch, changed);
    let (mut next, mut seen) = (None, 0);
    loop {
        let view = views.query("q").unwrap();
        let page = view
            .read(epoch, &KeyRange::all(), next.as_ref(), 1000, None)
            .unwrap();
        for (row, _) in page.rows {
            let value = if seen % 10 == 0 { seen + 1 } else { seen };
            assert_eq!(row.key(), seen.to_string());
            assert_eq!(row.value(), format!("\"{}\"", text(value)));
            seen += 1;
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, ROWS);
    assert!(!memory::is_exhausted());
    drop(views);
    println!("{ROWS} rows were right; {held} bytes of them were in the file");
}

#[test]
fn beyond_the_budget_it_is_slower_and_does_not_die() {
    const LIMIT: u64 = 128 << 10;
    let without = in_little_memory("more_rows_than_memory", LIMIT, 0);
    let said = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success(), "{said}");
    assert!(said.contains("memory allocation of"), "{said}");
    let with = in_little_memory("more_rows_than_memory", LIMIT, 48 << 20);
    let said = String::from_utf8_lossy(&with.stdout);
    assert!(
        with.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&with.stderr)
    );
    assert!(said.contains("80000 rows were right"), "{said}");
    let held = said
        .split("right; ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let held: u64 = held.parse().unwrap();
    assert!(
        held > (2 * LIMIT) << 10,
        "only {held} bytes were in the file"
    );
}
