//! Records as Confluent's own serializers write them (confluent-kafka 2.16.1 for Python), byte by
//! byte.

use std::collections::BTreeMap;

use super::*;
use crate::time::Timestamp;

/// The bytes of a record, its schema's id set to 7.
fn from_hex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16));
    let mut bytes: Vec<u8> = bytes.collect::<Result<_, _>>().unwrap();
    bytes[4] = 7;
    bytes
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Click {
    user_id: u64,
    page: String,
    country: Option<String>,
    at: Option<Timestamp>,
    amount: f64,
    kind: Kind,
    counts: BTreeMap<String, i64>,
    path: Vec<i32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Unknown,
    Page,
}

fn click() -> Click {
    Click {
        user_id: 1 << 40,
        page: "/docs".to_owned(),
        country: Some("DE".to_owned()),
        at: Some(Timestamp(1_700_000_000_123)),
        amount: 12.5,
        kind: Kind::Page,
        counts: [("a".to_owned(), -1)].into(),
        path: vec![1, -1, 300],
    }
}

const TEXT: &str = r#"syntax = "proto3";
    package shop;
    import "google/protobuf/timestamp.proto";
    message Click {
      uint64 user_id = 1;
      string page = 2;
      optional string country = 3;
      google.protobuf.Timestamp at = 4;
      double amount = 5;
      Kind kind = 6;
      map<string, int64> counts = 7;
      repeated sint32 path = 8;
      enum Kind { UNKNOWN = 0; PAGE = 1; }
    }
    message Outer {
      map<string, string> labels = 1;
      message First { bool no = 1; }
      message Second { string name = 1; }
    }"#;

/// What the serializer registers: the file as `protoc` compiled it, in Base64.
const COMPILED: &str = "\
    CgpzaG9wLnByb3RvEgRzaG9wGh9nb29nbGUvcHJvdG9idWYvdGltZXN0YW1wLnByb3RvIqUCCgVDbGljaxIPCgd1c2\
    VyX2lkGAEgASgEEgwKBHBhZ2UYAiABKAkSFAoHY291bnRyeRgDIAEoCUgAiAEBEiYKAmF0GAQgASgLMhouZ29vZ2xl\
    LnByb3RvYnVmLlRpbWVzdGFtcBIOCgZhbW91bnQYBSABKAESHgoEa2luZBgGIAEoDjIQLnNob3AuQ2xpY2suS2luZB\
    InCgZjb3VudHMYByADKAsyFy5zaG9wLkNsaWNrLkNvdW50c0VudHJ5EgwKBHBhdGgYCCADKBEaLQoLQ291bnRzRW50\
    cnkSCwoDa2V5GAEgASgJEg0KBXZhbHVlGAIgASgDOgI4ASIdCgRLaW5kEgsKB1VOS05PV04QABIICgRQQUdFEAFCCg\
    oIX2NvdW50cnkijAEKBU91dGVyEicKBmxhYmVscxgBIAMoCzIXLnNob3AuT3V0ZXIuTGFiZWxzRW50cnkaLQoLTGFi\
    ZWxzRW50cnkSCwoDa2V5GAEgASgJEg0KBXZhbHVlGAIgASgJOgI4ARoTCgVGaXJzdBIKCgJubxgBIAEoCBoWCgZTZW\
    NvbmQSDAoEbmFtZRgBIAEoCWIGcHJvdG8z";

#[test]
fn protobuf() {
    for schema in [TEXT, COMPILED] {
        let schemas = registry(SchemaKind::Protobuf, schema, &[]);
        let full = "00000000010008808080808020\
            12052f646f63731a024445220b0880e2cfaa0610959aef3a29000000000000294030013a0e0a0161\
            10ffffffffffffffffff0142040201d804";
        assert_eq!(read(&schemas, &from_hex(full)), Ok(click()));
        let empty = Click {
            user_id: 0,
            page: String::new(),
            country: None,
            at: None,
            amount: 0.0,
            kind: Kind::Unknown,
            counts: BTreeMap::new(),
            path: Vec::new(),
        };
        assert_eq!(read(&schemas, &from_hex("000000000100")), Ok(empty));
        let text = |name: &str, text: &str| (name.to_owned(), Any::Text(text.to_owned()));
        let labels = Any::Map(vec![text("a", "b")]);
        let outer = Any::Map(vec![("labels".to_owned(), labels)]);
        let bytes = from_hex("000000000202020a060a0161120162");
        assert_eq!(read(&schemas, &bytes), Ok(outer));
        let second = Any::Map(vec![text("name", "x")]);
        assert_eq!(
            read(&schemas, &from_hex("00000000030402040a0178")),
            Ok(second)
        );
    }
}

#[test]
fn avro() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct More {
        day: Timestamp,
        price: String,
        id: String,
    }
    let text = r#"{"type":"record","name":"Click","namespace":"shop","fields":[
        {"name":"user_id","type":"long"},{"name":"page","type":"string"},
        {"name":"country","type":["null","string"],"default":null},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"price","type":
            {"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
        {"name":"id","type":{"type":"string","logicalType":"uuid"}},
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["UNKNOWN","PAGE"]}},
        {"name":"counts","type":{"type":"map","values":"long"}},
        {"name":"path","type":{"type":"array","items":"int"}},
        {"name":"amount","type":"double"}]}"#;
    let schemas = registry(SchemaKind::Avro, text, &[]);
    let bytes = from_hex(
        "00000000048080808080400a2f646f6373020444458089818283898506b6b30204fb1e48\
         30303030303030302d303030302d303030302d303030302d303030303030303030303035\
         020202610100060201d804000000000000002940",
    );
    assert_eq!(read(&schemas, &bytes), Ok(click()));
    let more = More {
        day: Timestamp(1_699_920_000_000),
        price: "-12.50".to_owned(),
        id: "00000000-0000-0000-0000-000000000005".to_owned(),
    };
    assert_eq!(read(&schemas, &bytes), Ok(more));
}
