//! Whatever is read here is what `serde_json` reads; and what is ordinary is read here.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::sample::Index;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Reader, Unusual};
use crate::time::Timestamp;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(i32);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Unit,
    Newtype(u8),
    Pair(bool, String),
    Fields { one: Option<i64> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Whole {
    unsigned: u64,
    signed: i64,
    small: i8,
    double: f64,
    single: f32,
    truth: bool,
    text: String,
    letter: char,
    maybe: Option<Box<Whole>>,
    list: Vec<Wrapped>,
    pair: (u8, String),
    nothing: Nothing,
    kinds: Vec<Kind>,
    by_name: BTreeMap<String, Value>,
    by_number: BTreeMap<u8, bool>,
    at: Timestamp,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Most of what is in the text is passed over.
#[derive(Debug, PartialEq, Deserialize)]
struct Part {
    signed: i64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Borrowed<'a> {
    text: &'a str,
}

/// Names of fields; one with an escape is left to `serde_json`.
const NAME: &str = "[a-zé ]{0,20}";

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,40}",
        "[a\"\\\\\u{1f}\u{7f}é]{0,20}",
        any::<String>()
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Unit),
        any::<u8>().prop_map(Kind::Newtype),
        (any::<bool>(), text()).prop_map(|(truth, text)| Kind::Pair(truth, text)),
        any::<Option<i64>>().prop_map(|one| Kind::Fields { one }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((NAME, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn one_whole() -> impl Strategy<Value = Whole> {
    let numbers = (
        any::<u64>(),
        any::<i64>(),
        any::<i8>(),
        -1e9..1e9,
        any::<f32>(),
    );
    let texts = (any::<bool>(), text(), any::<char>(), any::<u8>(), text());
    let lists = (
        prop::collection::vec(any::<i32>().prop_map(Wrapped), 0..4),
        prop::collection::vec(kind(), 0..4),
        prop::collection::btree_map(NAME, value(), 0..3),
        prop::collection::btree_map(any::<u8>(), any::<bool>(), 0..2),
        0_i64..1_000_000_000_000,
    );
    (numbers, texts, lists).prop_map(|(numbers, texts, lists)| Whole {
        unsigned: numbers.0,
        signed: numbers.1,
        small: numbers.2,
        double: numbers.3,
        single: numbers.4,
        truth: texts.0,
        text: texts.1,
        letter: texts.2,
        maybe: None,
        list: lists.0,
        pair: (texts.3, texts.4),
        nothing: Nothing,
        kinds: lists.1,
        by_name: lists.2,
        by_number: lists.3,
        at: Timestamp(lists.4),
        others: BTreeMap::new(),
    })
}

fn whole() -> impl Strategy<Value = Whole> {
    (one_whole(), prop::option::of(one_whole())).prop_map(|(mut whole, inner)| {
        whole.maybe = inner.map(Box::new);
        whole
    })
}

/// The text with some places made others.
fn mangled(text: &str, places: &[(Index, &str)]) -> String {
    let mut chars: Vec<_> = text.chars().map(String::from).collect();
    for (place, by) in places {
        let len = chars.len();
        chars[place.index(len)] = (*by).to_owned();
    }
    chars.concat()
}

fn places() -> impl Strategy<Value = Vec<(Index, &'static str)>> {
    let by = prop::sample::select(vec![
        "",
        " ",
        "\t\n",
        "0",
        "-",
        "9",
        ".",
        "e",
        "\"",
        "\\",
        "\\u00e9",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "true",
        "x",
        "\u{1}",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "é",
        "1e400",
        "99999999999999999999",
        "[]",
        "{}",
    ]);
    prop::collection::vec((any::<Index>(), by), 0..3)
}

fn ordinary<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Unusual> {
    Reader::default().ordinary(text)
}

fn from_str<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    Reader::default().read(text)
}

/// What is read here, by a reader of some texts before, is what `serde_json` reads.
fn agrees<'a, T: Deserialize<'a> + PartialEq + Debug>(
    reader: &mut Reader,
    text: &'a str,
) -> Result<(), TestCaseError> {
    if let Ok(ours) = reader.ordinary::<T>(text) {
        let theirs = serde_json::from_str::<T>(text);
        prop_assert!(
            theirs.as_ref().is_ok_and(|theirs| *theirs == ours),
            "{ours:?} {theirs:?}"
        );
    }
    Ok(())
}

fn written(value: &impl Serialize, pretty: bool) -> String {
    if pretty {
        serde_json::to_string_pretty(value).unwrap()
    } else {
        serde_json::to_string(value).unwrap()
    }
}

/// Small objects of few names, so that what is expected is often there or nearly.
fn like_others() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        r#""a":1"#,
        r#","a":1"#,
        r#", "a": 1"#,
        r#""b":1"#,
        r#","b":1"#,
        r#","ab":1"#,
        r#","a\":1"#,
        r#""a":{"b":2}"#,
        r#","a":{"b":2,}"#,
        r#","a":{,"b":2}"#,
        r#","b":[1,"a":2]"#,
        r#","b" :1"#,
    ]);
    let end = prop::sample::select(vec!["}", ",}", "}                "]);
    (prop::collection::vec(field, 0..4), end)
        .prop_map(|(fields, end)| format!("{{{}{end}", fields.concat()))
}

proptest! {
    #[test]
    fn values_are_those_of_serde_json(value in value(), pretty: bool, places in places()) {
        let text = mangled(&written(&value, pretty), &places);
        let mut reader = Reader::default();
        agrees::<Value>(&mut reader, &text)?;
        agrees::<Part>(&mut reader, &text)?;
        agrees::<Whole>(&mut reader, &text)?;
        agrees::<Value>(&mut reader, &text)?;
    }

    #[test]
    fn types_are_those_of_serde_json(whole in whole(), pretty: bool, places in places()) {
        let text = written(&whole, pretty);
        let mut reader = Reader::default();
        agrees::<Whole>(&mut reader, &text)?;
        prop_assert_eq!(reader.ordinary(&text), Ok(Part { signed: whole.signed }));
        prop_assert_eq!(reader.ordinary(&text), Ok(Part { signed: whole.signed }));
        let text = mangled(&text, &places);
        agrees::<Whole>(&mut reader, &text)?;
        agrees::<Value>(&mut reader, &text)?;
        agrees::<Part>(&mut reader, &text)?;
        agrees::<Borrowed<'_>>(&mut reader, &text)?;
    }

    #[test]
    fn what_is_expected_changes_nothing(texts in prop::collection::vec(like_others(), 1..9)) {
        let mut reader = Reader::default();
        for text in texts {
            agrees::<Value>(&mut reader, &text)?;
            agrees::<BTreeMap<String, Value>>(&mut reader, &text)?;
        }
    }
}

#[test]
fn ordinary_texts_are_read_here() {
    fn reads<T: for<'a> Deserialize<'a> + PartialEq + Debug>(text: &str, value: T) {
        assert_eq!(ordinary(text), Ok(value), "{text}");
    }
    reads("0", 0_u8);
    reads(" -12 ", -12_i64);
    reads("999999999999999999", 999_999_999_999_999_999_u64);
    reads("12345678901234567890", 12_345_678_901_234_567_890_u64);
    // Far more than 64 bits, at the end of a text and before it.
    reads("18446744073709551615999", 18_446_744_073_709_551_615_999.0);
    reads(
        "[18446744073709551615999 ]",
        [18_446_744_073_709_551_615_999.0],
    );
    reads("1.5", 1.5_f64);
    reads("1.5e-3", 1.5e-3_f32);
    reads("-0", -0.0_f64);
    reads("7", 7.0_f64);
    reads("true", true);
    reads("null", None::<u8>);
    reads("\"caf\u{e9}\"", "caf\u{e9}".to_owned());
    reads(r#""a\"b\\c\u00e9\n""#, "a\"b\\cé\n".to_owned());
    reads("[1, 2,3 ]", vec![1, 2, 3]);
    reads("[]", Vec::<u8>::new());
    reads("[1,\"a\"]", (1_u8, "a".to_owned()));
    reads("\"unit\"", Kind::Unit);
    reads(r#"{"newtype": 3}"#, Kind::Newtype(3));
    reads(r#"{"pair":[true,"x"]}"#, Kind::Pair(true, "x".to_owned()));
    reads(r#"{"fields":{"one":null}}"#, Kind::Fields { one: None });
    reads(r#"{"a":[{}, {"b" : -1}],"c":{"d":[false]}}"#, {
        json!({"a": [{}, {"b": -1}], "c": {"d": [false]}})
    });
    let passed = r#"{"x":[1.5,{"y":"\u0041"},[],{},null],"signed":-4,"z":"a\\"}"#;
    reads(passed, Part { signed: -4 });
    let text = r#"{"text":"no copy"}"#;
    assert_eq!(ordinary(text), Ok(Borrowed { text: "no copy" }));
    let at = r#""2023-11-14 22:13:20""#;
    reads(at, Timestamp(1_700_000_000_000));
}

#[test]
fn a_name_is_expected_where_it_may_be() {
    let inner = r#"{"a":{"b":2},"c":"and as much text"}"#;
    let outer = r#"{"a":1,"b":2,"c":"and as much text"}"#;
    for (text, alike) in [
        (inner, r#"{"a":1"b":2,"c":"and as much text"}"#),
        (outer, r#"{"a":{,"b":2},"c":"and as much text"}"#),
        (outer, r#"{"a":1,"b";2,"c":"and as much text"}"#),
    ] {
        let mut reader = Reader::default();
        assert!(reader.ordinary::<Value>(text).is_ok(), "{text}");
        assert_eq!(reader.ordinary::<Value>(alike), Err(Unusual(())), "{alike}");
    }
}

#[test]
fn the_rest_is_left_to_serde_json() {
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    assert_eq!(ordinary::<Value>(&deep), Err(Unusual(())));
    let value: Value = from_str(&deep).expect("serde_json reads 127");
    assert_eq!(value.to_string(), deep);

    let by_number = r#"{"1":true}"#;
    assert_eq!(ordinary::<BTreeMap<u8, bool>>(by_number), Err(Unusual(())));
    let read: BTreeMap<u8, bool> = from_str(by_number).expect("a number as a key");
    assert_eq!(read, BTreeMap::from([(1, true)]));

    let wide = "340282366920938463463374607431768211455";
    assert_eq!(from_str::<u128>(wide).expect("128 bits"), u128::MAX);
    let raw: Box<RawValue> = from_str("[1,  2]").expect("any JSON is raw");
    assert_eq!(raw.get(), "[1,  2]");
    // An array for a struct, which serde takes field by field.
    assert_eq!(
        from_str::<Part>("[5]").expect("one field"),
        Part { signed: 5 }
    );
}

#[test]
fn errors_are_those_of_serde_json() {
    for text in [
        "",
        " ",
        "{",
        r#"{"signed":}"#,
        r#"{"signed":1"#,
        r#"{"signed":1}}"#,
        r#"{"signed":01}"#,
        r#"{"signed":1,}"#,
        r#"{"signed":1 "a":2}"#,
        r#"{"signed":"1"}"#,
        r#"{"signed":1.5}"#,
        r#"{"signed":1,"signed":2}"#,
        r#"{"unsigned":1}"#,
        r#"{"signed":9223372036854775808}"#,
        "{\"a\":\"\u{1}\",\"signed\":1}",
        r#"{"a":"\x","signed":1}"#,
        r#"{"a":nul,"signed":1}"#,
        r#"{"a":[1,],"signed":1}"#,
        r#"{"a":[,1],"signed":1}"#,
        r#"{"a":{"b"},"signed":1}"#,
        r#"{"a":-,"signed":1}"#,
        r#"{"a":1.e5,"signed":1}"#,
        r#"{"a":"b,"signed":1}"#,
    ] {
        let ours = from_str::<Part>(text).map_err(|error| error.to_string());
        let theirs = serde_json::from_str::<Part>(text).map_err(|error| error.to_string());
        assert!(ours.is_err(), "{text}");
        assert_eq!(ours, theirs, "{text}");
    }
}
