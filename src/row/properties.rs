//! Properties of the row encoding: bytes order as the values, and JSON finds what types wrote.

use std::cmp::Ordering;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AFTER_ALL, Encoder, Row, encode_json};
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Inner {
    start: i64,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Wrapped(u32);

type Nested = (
    i64,
    u64,
    String,
    Inner,
    Option<(bool, i8)>,
    Vec<String>,
    (Wrapped, bool),
);

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab\\x00\\x01]{0,3}", any::<String>()]
}

/// Few values, so that random pairs often share their first parts; and the edges.
fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3_i64..3,
        250_i64..260,
        -260_i64..-250,
        any::<i64>(),
        Just(i64::MIN)
    ]
}

fn nested() -> impl Strategy<Value = Nested> {
    (
        -1_i64..1,
        prop_oneof![0_u64..2, any::<u64>()],
        text(),
        (integer(), text()).prop_map(|(start, name)| Inner { start, name }),
        proptest::option::of((any::<bool>(), -2_i8..2)),
        proptest::collection::vec(text(), 0..3),
        ((0_u32..2).prop_map(Wrapped), any::<bool>()),
    )
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut encoder = Encoder::default();
    value.serialize(&mut encoder).unwrap();
    encoder.out
}

/// JSON as a client sees it: through text.
fn through_text<T: Serialize>(value: &T) -> Value {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes_order_as_the_values(a in nested(), b in nested()) {
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
        prop_assert_eq!(encode(&a.2).cmp(&encode(&b.2)), a.2.cmp(&b.2));
        prop_assert_eq!(encode(&a.3).cmp(&encode(&b.3)), a.3.cmp(&b.3));
        prop_assert_eq!(encode(&a.5).cmp(&encode(&b.5)), a.5.cmp(&b.5));
    }

    #[test]
    fn wide_integers_order_by_value(a in any::<i128>(), b in any::<u128>(), shift in 0_u32..127) {
        let (c, d) = (a >> shift, b >> shift);
        prop_assert_eq!(encode(&a).cmp(&encode(&c)), a.cmp(&c));
        prop_assert_eq!(encode(&b).cmp(&encode(&d)), b.cmp(&d));
        let mixed = u128::try_from(c).map_or(Ordering::Less, |c| c.cmp(&d));
        prop_assert_eq!(encode(&c).cmp(&encode(&d)), mixed);
    }

    #[test]
    fn floats_order_by_value(
        (a, b) in any::<(f64, f64)>(),
        (c, d) in any::<(f32, f32)>(),
    ) {
        prop_assume!(a.is_finite() && b.is_finite() && c.is_finite() && d.is_finite());
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.total_cmp(&b));
        prop_assert_eq!(encode(&c).cmp(&encode(&d)), c.total_cmp(&d));
    }

    #[test]
    fn json_has_the_bytes_of_the_type(a in nested()) {
        prop_assert_eq!(encode(&a), encode_json(&through_text(&a)));
        prop_assert_eq!(encode(&through_text(&a)), encode_json(&through_text(&a)));
    }

    #[test]
    fn rows_order_by_key_then_value(a in (text(), integer()), b in (text(), integer())) {
        let row = |r: &(String, i64)| Row::new(&r.0, &r.1, None).unwrap();
        prop_assert_eq!(row(&a).cmp(&row(&b)), a.cmp(&b));
        prop_assert_eq!(row(&a).order().cmp(row(&b).order()), a.cmp(&b));
    }

    #[test]
    fn what_makes_rows_final_orders_them_last(
        a in proptest::option::of(any::<i64>()),
        b in proptest::option::of(any::<i64>()),
    ) {
        let row = |at: Option<i64>| Row::new(&"k", &1, at.map(Timestamp)).unwrap();
        prop_assert_eq!(row(a).final_at(), a.map(Timestamp));
        prop_assert_eq!(row(a).cmp(&row(b)), a.cmp(&b));
    }

    #[test]
    fn whole_parts_are_followed_by_less_than_ff(a in text(), b in text(), rest in integer()) {
        let first = encode(&(a.clone(),));
        let prefix = &first[..first.len() - 1];
        let end = [prefix, &[AFTER_ALL]].concat();
        let row = encode(&(b.clone(), rest));
        prop_assert_eq!((prefix..end.as_slice()).contains(&row.as_slice()), a == b);
    }
}

#[derive(Serialize)]
enum Shape {
    Point,
    Circle(u8),
    Rect(u8, u8),
    Named {
        name: &'static str,
        size: Option<u8>,
    },
}

#[test]
fn every_kind_of_value_has_the_bytes_of_its_json() {
    let shapes = [
        Shape::Point,
        Shape::Circle(1),
        Shape::Rect(1, 2),
        Shape::Named {
            name: "n",
            size: None,
        },
    ];
    for shape in &shapes {
        assert_eq!(encode(shape), encode_json(&through_text(shape)));
    }
    let map = std::collections::BTreeMap::from([(2_u8, "b"), (10, "a")]);
    assert_eq!(encode(&map), encode_json(&json!({"2": "b", "10": "a"})));
    let flags = std::collections::BTreeMap::from([(false, 'x'), (true, 'y')]);
    assert_eq!(encode(&flags), encode_json(&through_text(&flags)));
    assert_eq!(
        encode(&(0.1_f32, f64::NAN, ())),
        encode_json(&json!([0.1, null, null]))
    );
    assert_eq!(encode(&(7_u8, -7_i128)), encode_json(&json!([7, -7])));
    assert!(Row::new(&std::collections::BTreeMap::from([((), 1)]), &(), None).is_err());
}

#[test]
fn kinds_have_a_total_order() {
    let values = json!([
        null, false, true, -300, -1, 0, 1, 255, 256, u64::MAX, -1.5, -0.0, 0.0, 0.5, "", "\0", "a",
        "a\0", "ab", [], [0], [0, 0], [1], {}, {"a": 1}
    ]);
    let encoded: Vec<_> = values.as_array().unwrap().iter().map(encode_json).collect();
    assert!(encoded.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_row_says_where_its_key_ends_and_keeps_its_json() {
    let row = Row::new(
        &("u1", 5),
        &Inner {
            start: 1,
            name: "x".into(),
        },
        Some(Timestamp(9)),
    );
    let row = row.unwrap();
    assert_eq!(row.key(), r#"["u1",5]"#);
    assert_eq!(row.value(), r#"{"start":1,"name":"x"}"#);
    assert_eq!(row.final_at(), Some(Timestamp(9)));
    assert_eq!(row.order_of_key(), encode_json(&json!(["u1", 5])));
    let other = Row::new(
        &("u1", 5),
        &Inner {
            start: 1,
            name: "x".into(),
        },
        None,
    )
    .unwrap();
    assert_ne!(
        row.order(),
        other.order(),
        "what becomes final at another time is another row"
    );
}
