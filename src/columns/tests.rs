//! Row types through columns and back.

use std::collections::BTreeMap;
use std::fmt::Debug;

use compact_str::CompactString;

use super::*;
use crate::time::{Timestamp, Window};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the shape that windows keep")]
struct Pane<K, A> {
    key: K,
    pane: i64,
    late: u32,
    acc: A,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Plan {
    Free,
    Paid,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Change {
    Opened,
    Moved(i64),
    Renamed {
        from: CompactString,
        to: Option<String>,
    },
    Pair(u8, bool),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UserId(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Visit {
    user: UserId,
    at: Timestamp,
    pages: Vec<(CompactString, u64)>,
    plan: Option<Plan>,
}

fn round<T>(value: T, other: T)
where
    T: Clone + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let row = |key: &T, acc: &T| Pane {
        key: key.clone(),
        pane: -7,
        late: 1,
        acc: acc.clone(),
    };
    let rows = vec![
        row(&value, &other),
        row(&other, &value),
        row(&value, &value),
    ];
    let batch = to_batch(&rows).unwrap();
    assert_eq!(batch.num_rows(), 3);
    assert_eq!(from_batch::<Pane<T, T>>(&batch).unwrap(), rows);
    let sliced = from_batch::<Pane<T, T>>(&batch.slice(1, 2)).unwrap();
    assert_eq!(sliced, rows[1..]);
    let empty = to_batch::<Pane<T, T>>(&[]).unwrap();
    assert_eq!(empty.schema(), batch.schema());
    assert_eq!(from_batch::<Pane<T, T>>(&empty).unwrap(), []);
    assert_eq!(
        fingerprint::<Pane<T, T>>().unwrap(),
        fingerprint::<Pane<T, T>>().unwrap(),
    );
    // What no longer has a field is skipped, whatever its type.
    let keys: Vec<Only> = from_batch(&batch).unwrap();
    assert_eq!(keys, vec![Only { pane: -7 }; 3]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Only {
    pane: i64,
}

#[test]
fn keys_and_accumulators_of_many_types_survive() {
    round(
        CompactString::from("a"),
        CompactString::from("longer than twenty-four bytes, surely"),
    );
    round(String::new(), "é\n\0".to_owned());
    round(i64::MIN, i64::MAX);
    round(u64::MAX, 0);
    round(f64::MIN_POSITIVE, -0.5);
    round(true, false);
    round('é', 'x');
    round((), ());
    round(
        (UserId(1), CompactString::from("x")),
        (UserId(u64::MAX), CompactString::default()),
    );
    round(((1_i64, 2_u64), "a".to_owned()), ((-1, 0), String::new()));
    round(Some(5_i64), None);
    round(Some((Plan::Paid, 1_u8)), None);
    round(Plan::Free, Plan::Paid);
    round(Some(Plan::Free), None);
    round(vec![Plan::Free], vec![]);
    round([1_u8; 4], [2; 4]);
    round(Wide(i128::MIN), Wide(-1));
    round(Wide(i128::MAX), Wide(1 << 64));
    round(Change::Opened, Change::Moved(-3));
    round(
        Change::Renamed {
            from: "a".into(),
            to: None,
        },
        Change::Renamed {
            from: "b".into(),
            to: Some(String::new()),
        },
    );
    round(vec![Change::Pair(1, true), Change::Opened], vec![]);
    round(
        BTreeMap::from([("a".to_owned(), 1_i64), ("b".to_owned(), 2)]),
        BTreeMap::new(),
    );
    round(BTreeMap::from([(3_u64, vec![1.5])]), BTreeMap::new());
}

#[test]
fn times_and_rows_within_rows_survive() {
    round(Timestamp(0), Timestamp(-1));
    round(Timestamp(i64::MAX), Timestamp(i64::MIN));
    let window = |start| Window {
        start: Timestamp(start),
        end: Timestamp(start + 1),
    };
    round(Some(window(5)), None);
    let visit = Visit {
        user: UserId(9),
        at: Timestamp(1),
        pages: vec![("a".into(), 1), ("b".into(), 2)],
        plan: Some(Plan::Paid),
    };
    round(
        visit.clone(),
        Visit {
            pages: vec![],
            plan: None,
            ..visit.clone()
        },
    );
    round(vec![visit.clone(), visit.clone()], vec![]);
    round(Some(visit), None);
    // Outside of columns a time far out is still no time.
    assert!(serde_json::from_str::<Timestamp>("9223372036854775807").is_err());
}

#[test]
fn tuples_can_be_rows() {
    let rows = vec![
        ("a".to_owned(), Timestamp(3), 1_i64),
        ("b".to_owned(), Timestamp(4), -1),
    ];
    let batch = to_batch(&rows).unwrap();
    assert_eq!(
        from_batch::<(String, Timestamp, i64)>(&batch).unwrap(),
        rows
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newer {
    late: u64,
    #[serde(default)]
    added: i64,
    note: Option<String>,
    key: Change,
}

#[test]
fn fields_may_be_added_removed_reordered_and_widened() {
    let old = Pane {
        key: Change::Moved(1),
        pane: 1,
        late: 7,
        acc: vec![1.5],
    };
    let batch = to_batch(&[old]).unwrap();
    let new: Vec<Newer> = from_batch(&batch).unwrap();
    assert_eq!(
        new,
        [Newer {
            late: 7,
            added: 0,
            note: None,
            key: Change::Moved(1)
        }]
    );
}

#[test]
fn a_field_that_is_not_there_is_named() {
    let batch = to_batch(&[Only { pane: 1 }]).unwrap();
    let text = from_batch::<Pane<i64, i64>>(&batch)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("columns (pane)") && text.contains("missing field"),
        "{text}"
    );
}

#[test]
fn a_fingerprint_follows_names_and_types_only() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Reordered {
        acc: u64,
        key: String,
        late: u32,
        pane: i64,
    }
    let pane = fingerprint::<Pane<String, u64>>().unwrap();
    assert_eq!(pane, fingerprint::<Reordered>().unwrap());
    assert_ne!(pane, fingerprint::<Pane<String, i64>>().unwrap());
    assert_ne!(pane, fingerprint::<Pane<Option<String>, u64>>().unwrap());
    assert_ne!(
        fingerprint::<Pane<(i64, u64), ()>>().unwrap(),
        fingerprint::<Pane<(u64, i64), ()>>().unwrap()
    );
    // Pinned: a build must not change the fingerprints of state already written.
    assert_eq!(pane, 17_660_211_372_867_271_560);
}

#[test]
fn what_cannot_be_columns_is_refused_before_any_row_is_there() {
    let text = fingerprint::<Pane<Option<Change>, u64>>()
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("'key' is an Option of an enum with data"),
        "{text}"
    );
    assert!(fingerprint::<Nothing>().is_err());
    assert!(
        to_batch(&[Pane {
            key: 1_i128,
            pane: 0,
            late: 0,
            acc: 0_i64
        }])
        .is_err()
    );
}

#[derive(Serialize, Deserialize)]
struct Nothing {}

#[derive(Debug, Serialize, Deserialize)]
struct Loose {
    value: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u64,
    #[serde(flatten)]
    rest: Only,
}

#[test]
fn a_type_known_only_by_its_rows_is_read_back_first() {
    let rows = vec![
        Flat {
            id: 1,
            rest: Only { pane: 4 }
        };
        2
    ];
    assert_eq!(from_batch::<Flat>(&to_batch(&rows).unwrap()).unwrap(), rows);
    assert_eq!(
        from_batch::<Flat>(&to_batch::<Flat>(&[]).unwrap()).unwrap(),
        []
    );
    let rows: Vec<Loose> = [serde_json::json!({"a": 1}), serde_json::json!({"b": 1})]
        .map(|value| Loose { value })
        .into();
    assert!(to_batch(&rows).is_err());
}
