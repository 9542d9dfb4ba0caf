//! Avro records as the types a user writes.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

use super::*;
use crate::record::Text;
use crate::time::Timestamp;

/// A value as the library for Avro writes it.
pub fn written(schema: &str, value: impl Into<Value>) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

fn fields(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"Click","namespace":"shop","fields":[{fields}]}}"#)
}

fn record_of(values: &[(&str, Value)]) -> Value {
    let values = values.iter();
    Value::Record(
        values
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    )
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Click {
    user_id: u64,
    page: Text,
    country: Option<String>,
    at: Timestamp,
    amount: f64,
    #[serde(default)]
    missing: u8,
}

#[test]
fn a_record_becomes_a_struct() {
    let schema = fields(
        r#"{"name":"ignored","type":{"type":"array","items":"string"}},
           {"name":"user_id","type":"long"},{"name":"page","type":"string"},
           {"name":"country","type":["null","string"],"default":null},
           {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
           {"name":"amount","type":"float"}"#,
    );
    let ignored = Value::Array(vec![Value::String("x".to_owned()); 3]);
    for country in [None, Some("DE".to_owned())] {
        let value = country.clone().map(Value::String);
        let data = written(
            &schema,
            record_of(&[
                ("ignored", ignored.clone()),
                ("user_id", Value::Long(1 << 40)),
                ("page", Value::String("/docs".to_owned())),
                (
                    "country",
                    value.map_or(Value::Union(0, Box::new(Value::Null)), some),
                ),
                ("at", Value::TimestampMillis(-1)),
                ("amount", Value::Float(0.5)),
            ]),
        );
        let click = Click {
            user_id: 1 << 40,
            page: "/docs".into(),
            country,
            at: Timestamp(-1),
            amount: 0.5,
            missing: 0,
        };
        assert_eq!(read_data(&avro(&schema), &data), Ok(click));
    }
}

#[test]
fn an_instant_is_milliseconds_whatever_it_was_written_in() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Times {
        at: Timestamp,
        maybe: Option<Timestamp>,
        raw: i64,
    }
    for (base, logical, written_as, ms) in [
        (
            "long",
            "timestamp-millis",
            1_700_000_000_123,
            1_700_000_000_123,
        ),
        (
            "long",
            "timestamp-micros",
            1_700_000_000_123_999,
            1_700_000_000_123,
        ),
        ("long", "timestamp-micros", -1, -1),
        (
            "long",
            "timestamp-nanos",
            1_700_000_000_123_999_999,
            1_700_000_000_123,
        ),
        ("long", "local-timestamp-millis", 5, 5),
        ("long", "local-timestamp-micros", 5_000, 5),
        ("int", "date", 19_000, 1_641_600_000_000),
        ("long", "no-such-type", 77, 77),
    ] {
        let kind = format!(r#"{{"type":"{base}","logicalType":"{logical}"}}"#);
        let schema = fields(&format!(
            r#"{{"name":"at","type":{kind}}},{{"name":"maybe","type":["null",{kind}]}},
               {{"name":"raw","type":{kind}}}"#
        ));
        let number = written(r#""long""#, Value::Long(written_as));
        let data = [&number[..], &[2], &number[..], &number[..]].concat();
        let times = Times {
            at: Timestamp(ms),
            maybe: Some(Timestamp(ms)),
            raw: written_as,
        };
        assert_eq!(read_data(&avro(&schema), &data), Ok(times), "{logical}");
    }
    let schema = avro(r#"{"type":"long","logicalType":"timestamp-millis"}"#);
    let data = written(r#""long""#, Value::Long(i64::MAX));
    let error = read_data::<Timestamp>(&schema, &data).unwrap_err();
    assert_eq!(error, "schema 7: time outside the years 1 to 9999");
}

#[test]
fn a_time_may_be_text() {
    let data = written(
        r#""string""#,
        Value::String("2022-01-01T10:00:00Z".to_owned()),
    );
    assert_eq!(
        read_data(&avro(r#""string""#), &data),
        Ok(Timestamp(1_641_031_200_000))
    );
}

#[test]
fn decimals_are_exact() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Price {
        text: String,
        float: f64,
        whole: i64,
        fixed: String,
    }
    let schema = fields(
        r#"{"name":"text","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
           {"name":"float","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
           {"name":"whole","type":{"type":"bytes","logicalType":"decimal","precision":9}},
           {"name":"fixed","type":{"type":"fixed","name":"F","size":4,
            "logicalType":"decimal","precision":9,"scale":3}}"#,
    );
    let data = [4, 0xfb, 0x1e, 4, 4, 0xe2, 2, 0xff, 0, 0, 0, 7];
    let price = Price {
        text: "-12.50".to_owned(),
        float: 12.5,
        whole: -1,
        fixed: "0.007".to_owned(),
    };
    assert_eq!(read_data(&avro(&schema), &data), Ok(price));
    let wide = avro(r#"{"type":"bytes","logicalType":"decimal","precision":40}"#);
    let data = [&[34, 1][..], &[0; 16]].concat();
    let error = read_data::<String>(&wide, &data).unwrap_err();
    assert_eq!(error, "schema 7: a decimal of more than 38 digits");
    let big = avro(r#"{"type":"bytes","logicalType":"big-decimal"}"#);
    assert_eq!(read_data(&big, &[6, 2, 15, 2]), Ok("1.5".to_owned()));
}

#[test]
fn an_enum_is_a_name() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    enum Color {
        Red,
        Green,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Colors {
        color: Color,
        name: String,
        maybe: Option<Color>,
        text: Color,
    }
    let schema = fields(
        r#"{"name":"color","type":{"type":"enum","name":"Color","symbols":["RED","GREEN","X"]}},
           {"name":"name","type":"Color"},{"name":"maybe","type":["null","shop.Color"]},
           {"name":"text","type":"string"}"#,
    );
    let data = [&[2, 0, 2, 0, 6][..], b"RED"].concat();
    let colors = Colors {
        color: Color::Green,
        name: "RED".to_owned(),
        maybe: Some(Color::Red),
        text: Color::Red,
    };
    assert_eq!(read_data(&avro(&schema), &data), Ok(colors));
    let error = read_data::<Colors>(&avro(&schema), &[4]).unwrap_err();
    assert!(
        error.starts_with("schema 7: field 'color': unknown variant `X`"),
        "{error}"
    );
    let error = read_data::<Colors>(&avro(&schema), &[6]).unwrap_err();
    assert_eq!(
        error,
        "schema 7: field 'color': choice 3, but the schema has 3"
    );
}

#[test]
fn a_union_of_records_is_an_enum() {
    #[derive(Debug, PartialEq, Deserialize)]
    enum Action {
        Click {
            page: String,
        },
        Login(Login),
        #[serde(rename = "null")]
        Nothing,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Login {
        succeeded: bool,
    }
    // As a topic with several types has it: one schema that only refers to others.
    let schemas = registry(
        SchemaKind::Avro,
        r#"["null", "shop.Click", "shop.Login"]"#,
        &[
            ("shop.Click", &fields(r#"{"name":"page","type":"string"}"#)),
            (
                "shop.Login",
                r#"{"type":"record","name":"shop.Login",
                    "fields":[{"name":"succeeded","type":"boolean"}]}"#,
            ),
        ],
    );
    let click = Action::Click {
        page: "/".to_owned(),
    };
    assert_eq!(read_data(&schemas, &[2, 2, b'/']), Ok(click));
    let login = Action::Login(Login { succeeded: true });
    assert_eq!(read_data(&schemas, &[4, 1]), Ok(login));
    assert_eq!(read_data(&schemas, &[0]), Ok(Action::Nothing));
}

#[test]
fn a_wider_union_is_whichever_fits() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(i64),
        Name(String),
    }
    let schema = avro(r#"["null","string","long"]"#);
    assert_eq!(read_data(&schema, &[0]), Ok(None::<Id>));
    assert_eq!(
        read_data(&schema, &[2, 2, b'a']),
        Ok(Some(Id::Name("a".to_owned())))
    );
    assert_eq!(read_data(&schema, &[4, 3]), Ok(Some(Id::Number(-2))));
}

#[test]
fn a_schema_refers_to_others_in_turn() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        buyer: Person,
        kind: String,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Person {
        home: Address,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Address {
        city: String,
        kind: String,
    }
    // `Kind` is written down inside of one schema and used by another that has no reference to it.
    let address = r#"{"type":"record","namespace":"geo","name":"Address","fields":[
        {"name":"city","type":"string"},
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["HOME","WORK"]}}]}"#;
    let person = r#"{"type":"record","name":"people.Person","fields":[
        {"name":"home","type":"geo.Address"}]}"#;
    let order = r#"{"type":"record","name":"Order","fields":[
        {"name":"buyer","type":"people.Person"},{"name":"kind","type":"geo.Kind"}]}"#;
    let references = [("geo.Address", address), ("people.Person", person)];
    let schemas = registry(SchemaKind::Avro, order, &references);
    let home = Address {
        city: "Ulm".to_owned(),
        kind: "WORK".to_owned(),
    };
    let order = Order {
        buyer: Person { home },
        kind: "HOME".to_owned(),
    };
    for _ in 0..20 {
        let data = [&[6][..], b"Ulm", &[2, 0]].concat();
        assert_eq!(read_data(&schemas, &data).as_ref(), Ok(&order));
    }
}

#[test]
fn a_type_may_contain_itself() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Link {
        n: i32,
        next: Option<Box<Link>>,
    }
    let schema = r#"{"type":"record","name":"Link","namespace":"a.b","fields":[
        {"name":"n","type":"int"},{"name":"next","type":["null","Link"]}]}"#;
    let last = Link { n: 2, next: None };
    let link = Link {
        n: 1,
        next: Some(Box::new(last)),
    };
    assert_eq!(read_data(&avro(schema), &[2, 2, 4, 0]), Ok(link));
}

#[test]
fn lists_maps_and_bytes_have_their_types() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct All {
        list: Vec<u16>,
        pair: (i64, i64),
        map: BTreeMap<String, bool>,
        bytes: Vec<u8>,
        fixed: [u8; 3],
        text: String,
        id: String,
        nothing: (),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Nothing {}
    let schema = fields(
        r#"{"name":"list","type":{"type":"array","items":"int"}},
           {"name":"pair","type":{"type":"array","items":"long"}},
           {"name":"map","type":{"type":"map","values":"boolean"}},
           {"name":"bytes","type":"bytes"},
           {"name":"fixed","type":{"type":"fixed","name":"F","size":3}},
           {"name":"text","type":"bytes"},
           {"name":"id","type":{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}},
           {"name":"nothing","type":"null"}"#,
    );
    let mut data = Vec::new();
    // One block that says how many bytes it has, and one that does not.
    data.extend([3, 4, 2, 4, 2, 6, 0]);
    data.extend([4, 2, 4, 0]);
    data.extend([2, 2, b'k', 1, 0]);
    data.extend([4, 8, 9]);
    data.extend([1, 2, 3]);
    data.extend([4, b'h', b'i']);
    data.extend(0..16);
    let all = All {
        list: vec![1, 2, 3],
        pair: (1, 2),
        map: [("k".to_owned(), true)].into(),
        bytes: vec![8, 9],
        fixed: [1, 2, 3],
        text: "hi".to_owned(),
        id: "00010203-0405-0607-0809-0a0b0c0d0e0f".to_owned(),
        nothing: (),
    };
    assert_eq!(read_data(&avro(&schema), &data), Ok(all));
    // The same bytes, passed over.
    assert_eq!(read_data(&avro(&schema), &data), Ok(Nothing {}));
}

#[test]
fn structs_may_be_flattened() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        user: u32,
        #[serde(flatten)]
        rest: Rest,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Rest {
        at: Timestamp,
        page: Option<String>,
    }
    let schema = fields(
        r#"{"name":"user","type":"int"},{"name":"page","type":["null","string"]},
           {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}"#,
    );
    let data = [
        &[8, 2, 2, b'p'][..],
        &written(r#""long""#, Value::Long(7_000)),
    ]
    .concat();
    let rest = Rest {
        at: Timestamp(7),
        page: Some("p".to_owned()),
    };
    assert_eq!(
        read_data(&avro(&schema), &data),
        Ok(Outer { user: 4, rest })
    );
}
