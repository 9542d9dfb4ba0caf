//! Protobuf messages as the types a user writes.

use std::collections::BTreeMap;

use super::*;
use crate::record::Text;
use crate::time::Timestamp;

fn proto(text: &str) -> Schemas {
    registry(SchemaKind::Protobuf, text, &[])
}

/// A file with one message of these fields.
fn message(fields: &str) -> Schemas {
    proto(&format!(
        "syntax = \"proto3\"; message Click {{ {fields} }}"
    ))
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Click {
    user_id: u64,
    page: Text,
    country: Option<String>,
    #[serde(default)]
    missing: u8,
}

#[test]
fn what_is_absent_is_its_default() {
    let schemas = message(
        "uint64 user_id = 1; string page = 2; optional string country = 3; bytes ignored = 4;",
    );
    let nothing = Click {
        user_id: 0,
        page: Text::default(),
        country: None,
        missing: 0,
    };
    assert_eq!(read_data(&schemas, b"\0"), Ok(nothing));
    let something = Click {
        user_id: 5,
        page: "/".into(),
        country: Some(String::new()),
        missing: 0,
    };
    // Field 15 is not in the schema: a newer writer's.
    let data = b"\0\x08\x05\x12\x01/\x1a\0\x22\x01x\x78\x01";
    assert_eq!(read_data(&schemas, data), Ok(something));
}

#[test]
fn proto2_has_its_own_defaults() {
    let schemas = proto(
        "syntax = \"proto2\"; message Click { optional uint64 user_id = 1 [default = 9];
         required string page = 2; optional string country = 3; }",
    );
    let click = Click {
        user_id: 9,
        page: "/".into(),
        country: None,
        missing: 0,
    };
    assert_eq!(read_data(&schemas, b"\0\x12\x01/"), Ok(click));
    let error = read_data::<Click>(&schemas, b"\0").unwrap_err();
    assert_eq!(error, "schema 7: missing field `page`");
}

#[test]
fn an_instant_is_milliseconds() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Times {
        at: Timestamp,
        raw: Parts,
        span: Option<i64>,
        absent: Option<Timestamp>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Parts {
        seconds: i64,
        nanos: i32,
    }
    let schemas = proto(
        "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\";
         import \"google/protobuf/duration.proto\";
         message Click { google.protobuf.Timestamp at = 1; google.protobuf.Timestamp raw = 2;
         google.protobuf.Duration span = 3; google.protobuf.Timestamp absent = 4; }",
    );
    let at = b"\x08\x05\x10\xff\xc1\xd7\x2f";
    let data = [&b"\0\x0a\x07"[..], at, b"\x12\x07", at, b"\x1a\x02\x08\x02"].concat();
    let times = Times {
        at: Timestamp(5_099),
        raw: Parts {
            seconds: 5,
            nanos: 99_999_999,
        },
        span: Some(2_000),
        absent: None,
    };
    assert_eq!(read_data(&schemas, &data), Ok(times));
    let far = b"\0\x0a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    let error = read_data::<Times>(&schemas, far).unwrap_err();
    assert_eq!(
        error,
        "schema 7: field 'at': time outside the years 1 to 9999"
    );
}

#[test]
fn an_enum_is_a_name() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    enum Kind {
        Unknown,
        Page,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Kinds<T> {
        kind: T,
    }
    let schemas = message("enum Kind { UNKNOWN = 0; PAGE = 4; } Kind kind = 1;");
    let page = b"\0\x08\x04";
    assert_eq!(read_data(&schemas, page), Ok(Kinds { kind: Kind::Page }));
    assert_eq!(
        read_data(&schemas, b"\0"),
        Ok(Kinds {
            kind: Kind::Unknown
        })
    );
    assert_eq!(
        read_data(&schemas, page),
        Ok(Kinds {
            kind: "PAGE".to_owned()
        })
    );
    assert_eq!(read_data(&schemas, page), Ok(Kinds { kind: 4_u8 }));
    assert_eq!(read_data(&schemas, b"\0\x08\x05"), Ok(Kinds { kind: 5 }));
    let error = read_data::<Kinds<Kind>>(&schemas, b"\0\x08\x05").unwrap_err();
    assert_eq!(
        error,
        "schema 7: field 'kind': the schema has no name for enum value 5"
    );
}

#[test]
fn one_of_several_is_an_enum_or_a_field() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Body {
        Click { page: String },
        Count(i32),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Flat {
        user: u32,
        #[serde(flatten)]
        body: Body,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Fields {
        count: Option<i32>,
    }
    let body = "message Page { string page = 1; } oneof body { Page click = 1; int32 count = 2; }";
    let schemas = message(body);
    let click = Body::Click {
        page: "/".to_owned(),
    };
    assert_eq!(read_data(&schemas, b"\0\x0a\x03\x0a\x01/"), Ok(click));
    assert_eq!(read_data(&schemas, b"\0\x10\0"), Ok(Body::Count(0)));
    assert_eq!(
        read_data(&schemas, b"\0\x10\0"),
        Ok(Fields { count: Some(0) })
    );
    assert_eq!(read_data(&schemas, b"\0"), Ok(Fields { count: None }));
    let schemas = message(&format!("uint32 user = 3; {body}"));
    let flat = Flat {
        user: 0,
        body: Body::Count(1),
    };
    assert_eq!(read_data(&schemas, b"\0\x10\x01"), Ok(flat));
}

#[test]
fn lists_maps_and_bytes_have_their_types() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct All {
        list: Vec<i32>,
        names: BTreeMap<i64, String>,
        texts: BTreeMap<String, Inner>,
        bytes: Vec<u8>,
        text: String,
        inner: Option<Inner>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        n: f32,
    }
    let schemas = message(
        "message Inner { float n = 1; } repeated sint32 list = 1; map<int64, string> names = 2;
         map<bool, Inner> texts = 3; bytes bytes = 4; bytes text = 5; Inner inner = 6;",
    );
    let data = [
        &b"\0\x0a\x02\x01\x02\x12\x04\x08\x05\x12\0\x12\x05\x08\x03\x12\x01x"[..],
        b"\x1a\x09\x08\x01\x12\x05\x0d\0\0\0\x3f\x22\x02\x08\x09\x2a\x02hi\x32\0",
    ];
    let all = All {
        list: vec![-1, 1],
        names: [(3, "x".to_owned()), (5, String::new())].into(),
        texts: [("true".to_owned(), Inner { n: 0.5 })].into(),
        bytes: vec![8, 9],
        text: "hi".to_owned(),
        inner: Some(Inner { n: 0.0 }),
    };
    assert_eq!(read_data(&schemas, &data.concat()), Ok(all));
    // Entries are in the order of their keys whenever they are read.
    let Ok(Any::Map(fields)) = read_data::<Any>(&schemas, &data.concat()) else {
        panic!("it was read just now");
    };
    let names = fields.iter().find(|(name, _)| name == "names").unwrap();
    let entries = [("3".to_owned(), "x"), ("5".to_owned(), "")];
    let entries = entries.map(|(key, value)| (key, Any::Text(value.to_owned())));
    assert_eq!(names.1, Any::Map(entries.to_vec()));
}

#[test]
fn wrappers_are_what_they_wrap() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Wrapped {
        count: Option<i64>,
        zero: Option<i64>,
        absent: Option<i64>,
        bytes: Vec<u8>,
        json: serde_json::Value,
        nothing: Option<bool>,
        price: String,
    }
    let schemas = proto(
        "syntax = \"proto3\"; import \"google/protobuf/wrappers.proto\";
         import \"google/protobuf/struct.proto\"; import \"confluent/type/decimal.proto\";
         import \"confluent/meta.proto\";
         message Click { google.protobuf.Int64Value count = 1; google.protobuf.Int64Value zero = 2;
         google.protobuf.Int64Value absent = 3; google.protobuf.BytesValue bytes = 4;
         google.protobuf.Struct json = 5; google.protobuf.Value nothing = 6;
         confluent.type.Decimal price = 7 [(confluent.field_meta).doc = \"in euros\"]; }",
    );
    let data = [
        &b"\0\x0a\x02\x08\x05\x12\0\x22\x03\x0a\x01\x07"[..],
        b"\x2a\x26\x0a\x09\x0a\x01a\x12\x04\x1a\x02hi",
        b"\x0a\x07\x0a\x01b\x12\x02\x08\0",
        b"\x0a\x10\x0a\x01c\x12\x0b\x32\x09\x0a\x02\x20\x01\x0a\x03\x1a\x01x",
        b"\x32\x02\x08\0\x3a\x06\x0a\x02\x04\xe2\x18\x02",
    ];
    let wrapped = Wrapped {
        count: Some(5),
        zero: Some(0),
        absent: None,
        bytes: vec![7],
        json: serde_json::json!({"a": "hi", "b": null, "c": [true, "x"]}),
        nothing: None,
        price: "12.50".to_owned(),
    };
    assert_eq!(read_data(&schemas, &data.concat()), Ok(wrapped));
}

#[test]
fn imports_come_with_the_schema() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        home: Address,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Address {
        city: String,
    }
    let schemas = registry(
        SchemaKind::Protobuf,
        "syntax = \"proto3\"; import \"geo/address.proto\"; message Order { geo.Home home = 1; }",
        &[
            (
                "geo/city.proto",
                "syntax = \"proto3\"; package geo; message City { string city = 1; }",
            ),
            (
                "geo/address.proto",
                "syntax = \"proto3\"; package geo; import public \"geo/city.proto\";
                 message Home { string city = 1; }",
            ),
        ],
    );
    let home = Address {
        city: "Ulm".to_owned(),
    };
    assert_eq!(
        read_data(&schemas, b"\0\x0a\x05\x0a\x03Ulm"),
        Ok(Order { home })
    );
}

#[test]
fn indexes_say_which_message_it_is() {
    let text = "syntax = \"proto3\"; message A { string a = 1; }
        message B { message C { string c = 1; } message D { string d = 1; } string b = 1; }";
    let schemas = proto(text);
    let field = |name: &str| Ok(Any::Map(vec![(name.to_owned(), Any::Text("x".to_owned()))]));
    for (indexes, name) in [
        (&[0][..], "a"),
        (&[2, 0], "a"),
        (&[2, 2], "b"),
        (&[4, 2, 0], "c"),
        (&[4, 2, 2], "d"),
    ] {
        let data = [indexes, b"\x0a\x01x"].concat();
        assert_eq!(
            read_data::<Any>(&schemas, &data),
            field(name),
            "{indexes:?}"
        );
    }
    for (indexes, reason) in [
        (&[][..], "the record ends in the middle of a number"),
        (&[2], "the record ends in the middle of a number"),
        (&[1], "message indexes -1 deep"),
        (&[0xff, 0x7f], "message indexes -8192 deep"),
        (&[2, 4], "message index 2, which the schema lacks"),
        (&[2, 1], "message index -1, which the schema lacks"),
        (&[4, 0, 0], "message index 0, which the schema lacks"),
    ] {
        let error = read_data::<Any>(&schemas, indexes).unwrap_err();
        assert_eq!(error, format!("schema 7: {reason}"));
    }
}

/// Serializers differ in whether the entries of a map are messages.
#[test]
fn entries_of_maps_are_counted_as_they_are_written() {
    let expected = Ok(Any::Map(vec![("n".to_owned(), Any::Int(5))]));
    let first = "message First { bool no = 1; } message Second { int32 n = 1; }";
    let written = proto(&format!(
        "syntax = \"proto3\"; message Outer {{ map<string, string> labels = 1; {first} }}"
    ));
    assert_eq!(
        read_data(&written, b"\x04\0\x02\x08\x05"),
        expected,
        "parsed"
    );
    assert_eq!(
        read_data(&written, b"\x04\0\x04\x08\x05"),
        expected,
        "compiled"
    );
    let compiled = proto(&format!(
        "syntax = \"proto3\"; message Outer {{ repeated .Outer.LabelsEntry labels = 1;
         message LabelsEntry {{ option map_entry = true; string key = 1; string value = 2; }}
         {first} }}"
    ));
    assert_eq!(read_data(&compiled, b"\x04\0\x04\x08\x05"), expected);
    let first = Ok(Any::Map(vec![("no".to_owned(), Any::Bool(true))]));
    assert_eq!(read_data(&compiled, b"\x04\0\x02\x08\x01"), first);
}

#[test]
fn a_fault_names_its_field() {
    #[derive(Debug, Deserialize)]
    struct Outer {
        #[allow(dead_code, reason = "it is read, and that is all")]
        click: Click,
    }
    let schemas = message("message In { int64 user_id = 1; double page = 2; } In click = 1;");
    for (data, reason) in [
        (&b"\0"[..], "missing field `click`"),
        (
            b"\0\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "field 'click.user_id': invalid value: integer `-1`, expected u64",
        ),
        (
            b"\0\x0a\0",
            "field 'click.page': floating point `0.0`, expected a string",
        ),
        (
            b"\0\x0a\x09\x11\0\0\0\0\0\0\xf8\x7f",
            "field 'click.page': NaN is not a number",
        ),
        (
            b"\0\x0a\x05",
            "failed to decode Protobuf message: buffer underflow",
        ),
    ] {
        let error = read_data::<Outer>(&schemas, data).unwrap_err();
        assert_eq!(error, format!("schema 7: {reason}"));
    }
}
