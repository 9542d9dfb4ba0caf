//! The head of a record, and which schema it leads to.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const TEXT: &str = r#""string""#;

#[test]
fn the_id_stands_behind_a_zero() {
    assert_eq!(schema_id(&[0, 1, 2, 3, 4, 5]), Ok(0x0102_0304));
    assert_eq!(schema_id(&[0, 0, 0, 0, 7]), Ok(7));
}

#[test]
fn what_has_no_id_is_told_apart() {
    let said = |bytes: &[u8]| schema_id(bytes).unwrap_err();
    assert_eq!(
        said(b""),
        "a record with a schema is at least 5 bytes long, not 0"
    );
    assert_eq!(
        said(&[0, 0, 0, 7]),
        "a record with a schema is at least 5 bytes long, not 4"
    );
    assert_eq!(
        said(br#"{"user":1}"#),
        "no schema id: a record with a schema begins with byte 0, not 123; is it JSON?"
    );
    assert_eq!(
        said(&[1, 0, 0, 0, 7, 0]),
        "no schema id: a record with a schema begins with byte 0, not 1"
    );
}

#[test]
fn a_schema_the_registry_lacks_is_named() {
    let schemas = Schemas::default();
    let error = read::<String>(&schemas, &[0, 0, 0, 0, 9, 0]).unwrap_err();
    assert_eq!(error, "the registry has no schema 9");
}

#[test]
fn a_schema_that_cannot_be_used_is_named() {
    for (kind, text, said) in [
        (SchemaKind::Avro, "{", "the Avro schema is not JSON"),
        (
            SchemaKind::Avro,
            r#""no.such.Type""#,
            "the Avro schema cannot be used",
        ),
        (
            SchemaKind::Protobuf,
            "message {",
            "the Protobuf schema cannot be used",
        ),
        (
            SchemaKind::Protobuf,
            "",
            "the Protobuf schema has no message",
        ),
        (SchemaKind::Protobuf, "import \"a/b.proto\";", "a/b.proto"),
    ] {
        let schemas = registry(kind, text, &[]);
        let error = read_data::<String>(&schemas, &[0]).unwrap_err();
        assert!(error.starts_with("schema 7: the "), "{error}");
        assert!(error.contains(said), "{error}");
        assert_eq!(
            read_data::<String>(&schemas, &[0]),
            Err(error),
            "the second record"
        );
    }
}

#[test]
fn two_registries_may_count_from_one() {
    let texts = avro(TEXT);
    let numbers = avro(r#""long""#);
    for _ in 0..2 {
        assert_eq!(read_data(&texts, &[2, b'a']), Ok("a".to_owned()));
        assert_eq!(read_data(&numbers, &[6]), Ok(3));
        // A copy, as a chunk from another process has one.
        let copy: Schemas = serde_json::from_value(serde_json::to_value(&texts).unwrap()).unwrap();
        assert_eq!(read_data(&copy, &[2, b'b']), Ok("b".to_owned()));
    }
}

#[test]
fn more_schemas_than_are_kept_are_read_all_the_same() {
    for id in (0..600).chain(0..600) {
        let text = format!(r#"{{"type":"enum","name":"e","symbols":["S{id}"]}}"#);
        let schema = WriterSchema {
            kind: SchemaKind::Avro,
            text,
            references: Vec::new(),
        };
        let schemas = Schemas(Arc::new([(id, Arc::new(schema))].into()));
        let bytes = [&[0], &id.to_be_bytes()[..], &[0]].concat();
        assert_eq!(read(&schemas, &bytes), Ok(format!("S{id}")));
    }
}

#[test]
fn json_stands_behind_the_id_as_it_is() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Click {
        user: u64,
    }
    let schemas = registry(SchemaKind::Json, r#"{"type":"object"}"#, &[]);
    assert_eq!(read_data(&schemas, br#"{"user":5}"#), Ok(Click { user: 5 }));
    let error = read_data::<Click>(&schemas, b"[5]").unwrap_err();
    assert_eq!(error, "schema 7: a record is a JSON object, not an array");
    assert!(read_data::<Click>(&schemas, b"").is_err());
}

const AVRO: &str = r#"{"type":"record","name":"A","namespace":"a.b","fields":[
    {"name":"x","default":null,"type":["null","A",
        {"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":4,"scale":1}]},
    {"name":"y","type":{"type":"enum","name":"E","symbols":["A","B"],"default":"A"}},
    {"name":"z","type":{"type":"map","values":{"type":"array","items":"long"}}},
    {"name":"u","type":{"type":"fixed","size":16,"name":"U","logicalType":"uuid"}}]}"#;
const PROTOBUF: &str = r#"syntax = "proto3"; package a.b; import "google/protobuf/struct.proto";
    message A { option deprecated = true; map<string, B> m = 1; repeated int32 r = 2;
    oneof o { string s = 3; E e = 4; } message B { google.protobuf.Value t = 1; }
    enum E { option allow_alias = true; Z = 0; Y = 0; } reserved 9, 10 to 12; }
    service S { rpc X(A) returns (stream A); }"#;

proptest! {
    /// Whatever a registry says: a schema that is none costs its records, and nothing else.
    #[test]
    fn any_schema_is_used_or_refused(
        edits in vec((any::<Index>(), 0..12_usize, "[]\\[{}\":,a-z0-9 .;=<>-]{0,3}"), 1..4),
    ) {
        for (kind, text) in [(SchemaKind::Avro, AVRO), (SchemaKind::Protobuf, PROTOBUF)] {
            let mut text = text.to_owned();
            for (at, length, new) in &edits {
                let at = at.index(text.len());
                text.replace_range(at..(at + length).min(text.len()), new);
            }
            if let Err(reason) = read_data::<Any>(&registry(kind, &text, &[]), &[0; 30]) {
                prop_assert!(reason.starts_with("schema 7: "), "{}", reason);
            }
        }
    }
}
