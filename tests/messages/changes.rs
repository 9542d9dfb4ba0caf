//! Changes of a database's rows in Debezium's envelope fold into a table.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::record::{Format, Message};
use waterclock::testing::{Round, Steps};

use super::{keyed, reasons, start, written};

/// A row of the table `customers`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Customer {
    id: u32,
    #[serde(default)]
    name: Text,
    #[serde(skip)]
    changed_at: Timestamp,
}

impl Event for Customer {
    const STREAM: &'static str = "customers";
    const LATENESS: Duration = seconds(0);

    fn time(&self) -> Timestamp {
        self.changed_at
    }

    fn receive(&mut self, envelope: &Envelope<'_>) {
        self.changed_at = envelope.timestamp.unwrap_or_default();
    }

    /// The row whose key is all that is left of it.
    fn tombstone(envelope: &Envelope<'_>) -> Option<Customer> {
        #[derive(Deserialize)]
        struct Key {
            id: u32,
        }
        let key: Key = serde_json::from_slice(envelope.key?).ok()?;
        assert_ne!(key.id, 13, "user code may do anything");
        Some(Customer {
            id: key.id,
            name: Text::default(),
            changed_at: envelope.timestamp.unwrap_or_default(),
        })
    }
}

impl Entity for Customer {
    type Key = u32;

    fn key(&self) -> u32 {
        self.id
    }
}

fn customers(flow: Flow) -> Table<u32, Customer> {
    flow.table::<Customer>()
}

/// How many customers have each name: behind the table, where a negative count would show.
fn names(flow: Flow) -> Table<Text, u64> {
    flow.table::<Customer>()
        .map(|_, customer| (customer.name.clone(), ()))
        .count_rows()
}

fn row(id: u32, name: &str) -> String {
    format!(r#"{{"id":{id},"name":"{name}","unused":[1,{{"a":null}}]}}"#)
}

/// A change that was committed then; rows that are empty are null.
fn change(op: &str, before: &str, after: &str, ms: i64) -> String {
    let or_null = |row: &str| {
        if row.is_empty() {
            "null".to_owned()
        } else {
            row.to_owned()
        }
    };
    let (before, after) = (or_null(before), or_null(after));
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"ts_ms":{ms}}},"op":"{op}","ts_ms":{}}}"#,
        ms + 7
    )
}

/// The same beside its schema, as Kafka Connect writes it by default.
fn with_schema(change: &str) -> String {
    format!(r#"{{"schema":{{"type":"struct","fields":[{{"field":"op"}}]}},"payload":{change}}}"#)
}

/// Messages of a key, where an empty text is a tombstone.
fn take(steps: &mut Steps, first: u64, changes: &[(u32, String)]) {
    let keys: Vec<_> = changes
        .iter()
        .map(|(id, _)| format!(r#"{{"id":{id}}}"#))
        .collect();
    let changes = changes
        .iter()
        .map(|(_, change)| (!change.is_empty()).then_some(&**change));
    let messages = (first..).zip(keys.iter().zip(changes));
    let messages: Vec<Message> = messages
        .map(|(position, (key, change))| keyed(position, key, change))
        .collect();
    // Each in a chunk of its own, so that several workers decode them.
    let round = Round::new().chunks(1);
    steps.epoch(round.messages("customers", 0, Format::Debezium, &messages));
}

const TOMBSTONE: String = String::new();

#[test]
fn changes_fold_into_the_table() {
    for wrap in [
        |change: String| change,
        |change: String| with_schema(&change),
    ] {
        let mut steps = start("customers", customers);
        take(
            &mut steps,
            0,
            &[
                (1, wrap(change("r", "", &row(1, "Ada"), 0))),
                (2, wrap(change("r", "", &row(2, "Bob"), 0))),
                (3, wrap(change("c", "", &row(3, "Cyd"), 10))),
            ],
        );
        let rows = written(&steps.rows("customers"));
        let (ada, bob) = (r#"1 {"id":1,"name":"Ada"}"#, r#"2 {"id":2,"name":"Bob"}"#);
        assert_eq!(rows, [ada, bob, r#"3 {"id":3,"name":"Cyd"}"#]);

        take(
            &mut steps,
            3,
            &[
                (3, wrap(change("u", &row(3, "Cyd"), &row(3, "Cid"), 20))),
                (2, wrap(change("d", &row(2, "Bob"), "", 30))),
                (2, TOMBSTONE),
                (1, wrap(change("d", &row(1, "Ada"), "", 40))),
                (1, TOMBSTONE),
                (1, wrap(change("c", "", &row(1, "Ann"), 50))),
            ],
        );
        let rows = written(&steps.rows("customers"));
        assert_eq!(
            rows,
            [r#"1 {"id":1,"name":"Ann"}"#, r#"3 {"id":3,"name":"Cid"}"#]
        );
        assert_eq!(reasons(&steps.late("customers")), [""; 0]);
        assert_eq!(reasons(&steps.rejected("customers")), [""; 0]);

        // A second snapshot says what is known.
        take(
            &mut steps,
            9,
            &[(1, wrap(change("r", "", &row(1, "Ann"), 60)))],
        );
        assert_eq!(written(&steps.rows("customers")), rows);
        assert_eq!(steps.late_total("customers"), 0);
    }
}

#[test]
fn what_does_not_fit_is_applied_and_listed() {
    let queries = vec![
        Query::new("customers", "", customers),
        Query::new("names", "", names),
    ];
    let mut steps = Steps::start(queries, 2);
    take(
        &mut steps,
        0,
        &[
            (1, change("d", &row(1, "Ada"), "", 10)),
            (2, change("u", "", &row(2, "Bob"), 20)),
            (2, change("c", "", &row(2, "Bob"), 30)),
            (3, change("c", "", &row(3, "Bob"), 40)),
            (3, change("d", &row(3, "Bob"), "", 50)),
            (3, change("d", &row(3, "Bob"), "", 60)),
        ],
    );
    let expected = [
        "0 deletes a row that is not there",
        "1 updates a row that is not there",
        "2 inserts a row that is there",
        "5 deletes a row that is not there",
    ];
    for query in ["customers", "names"] {
        assert_eq!(reasons(&steps.late(query)), expected, "{query}");
        assert_eq!(steps.late_total(query), 4);
    }
    assert_eq!(
        written(&steps.rows("customers")),
        [r#"2 {"id":2,"name":"Bob"}"#]
    );
    assert_eq!(written(&steps.rows("names")), [r#""Bob" 1"#]);
}

#[test]
fn the_order_of_the_topic_counts_whatever_the_databases_clock_said() {
    let mut steps = start("customers", customers);
    // All in one epoch, and then one by one.
    take(
        &mut steps,
        0,
        &[
            (1, change("c", "", &row(1, "new"), 5_000)),
            (1, change("u", "", &row(1, "newer"), 1_000)),
            (2, change("c", "", &row(2, "x"), 100)),
        ],
    );
    assert_eq!(
        written(&steps.rows("customers")),
        [r#"1 {"id":1,"name":"newer"}"#, r#"2 {"id":2,"name":"x"}"#]
    );
    take(
        &mut steps,
        3,
        &[(1, change("u", "", &row(1, "newest"), 2_000))],
    );
    take(&mut steps, 4, &[(2, change("d", &row(2, "x"), "", 50))]);
    assert_eq!(
        written(&steps.rows("customers")),
        [r#"1 {"id":1,"name":"newest"}"#]
    );
    // After a restart as well.
    let saved = steps.checkpoint();
    drop(steps);
    let mut steps = Steps::restore(vec![Query::new("customers", "", customers)], 3, saved);
    take(&mut steps, 5, &[(1, change("d", &row(1, "newest"), "", 1))]);
    assert_eq!(written(&steps.rows("customers")), [""; 0]);
    assert_eq!(steps.late_total("customers"), 0);
}

#[test]
fn a_delete_without_its_row_goes_by_its_key() {
    let mut steps = start("customers", customers);
    take(
        &mut steps,
        0,
        &[
            (1, change("c", "", &row(1, "Ada"), 10)),
            (1, change("d", "", "", 20)),
            (13, change("d", "", "", 30)),
            (2, change("c", "", &row(2, "Bob"), 40)),
        ],
    );
    assert_eq!(
        written(&steps.rows("customers")),
        [r#"2 {"id":2,"name":"Bob"}"#]
    );
    let rejected = reasons(&steps.rejected("customers"));
    assert_eq!(rejected.len(), 1);
    assert!(
        rejected[0].starts_with("2 the query's code panicked: "),
        "{rejected:?}"
    );
}

#[test]
fn what_is_no_change_is_rejected_and_holds_up_nothing() {
    let mut steps = start("customers", customers);
    take(
        &mut steps,
        0,
        &[
            (1, change("c", "", "", 10)),
            (1, change("u", &row(1, "Ada"), "", 10)),
            (1, change("t", "", "", 10)),
            (1, change("z", "", &row(1, "Ada"), 10)),
            (1, r#"{"id":1,"name":"Ada"}"#.to_owned()),
            (1, "{".to_owned()),
            (1, change("c", "", r#"{"id":"one"}"#, 10)),
            (1, r#"{"schema":{},"payload":null}"#.to_owned()),
            (2, change("c", "", &row(2, "Bob"), 10)),
        ],
    );
    assert_eq!(
        written(&steps.rows("customers")),
        [r#"2 {"id":2,"name":"Bob"}"#]
    );
    let rejected = reasons(&steps.rejected("customers"));
    let begins = [
        "0 a change that has no 'after'",
        "1 a change that has no 'after'",
        "2 the table was truncated",
        "3 'z' is no operation on a row",
        "4 not a Debezium envelope: it has no 'op'",
        "5 not a Debezium envelope: EOF",
        "6 'after': invalid type: string \"one\"",
        "7 not a Debezium envelope: it has no 'op'",
    ];
    assert_eq!(rejected.len(), begins.len(), "{rejected:?}");
    for (reason, begin) in rejected.iter().zip(begins) {
        assert!(reason.starts_with(begin), "{reason}");
    }
}
