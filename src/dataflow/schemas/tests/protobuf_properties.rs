//! Protobuf messages read as they were written, and any other bytes are read or refused.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, MapKey, Value};

use super::*;
use crate::dataflow::schemas::messages::Messages;

const TEXT: &str = r#"
    syntax = "proto3";
    message All {
        int32 int32 = 1;
        sint64 sint64 = 2;
        fixed64 fixed64 = 3;
        bool bool = 4;
        float float = 5;
        double double = 6;
        string string = 7;
        bytes bytes = 8;
        optional uint32 maybe = 9;
        repeated sfixed32 list = 10;
        repeated string texts = 11;
        map<uint64, string> map = 12;
        All inner = 13;
        repeated All inners = 2000;
        enum Kind { ZERO = 0; ONE = 1; }
        Kind kind = 14;
        oneof choice { int64 number = 15; string name = 16; }
    }
"#;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct All {
    int32: i32,
    sint64: i64,
    fixed64: u64,
    bool: bool,
    float: f32,
    double: f64,
    string: String,
    bytes: Vec<u8>,
    maybe: Option<u32>,
    list: Vec<i32>,
    texts: Vec<String>,
    map: BTreeMap<u64, String>,
    inner: Option<Box<All>>,
    inners: Vec<All>,
    kind: String,
    number: Option<i64>,
    name: Option<String>,
}

fn leaves() -> impl Strategy<Value = All> {
    let numbers = (any::<i32>(), any::<i64>(), any::<u64>(), any::<bool>());
    let floats = (-1e30_f32..1e30, -1e300..1e300);
    let texts = (".{0,5}", vec(any::<u8>(), 0..5), option::of(any::<u32>()));
    let lists = (
        vec(any::<i32>(), 0..5),
        vec(".{0,3}", 0..3),
        btree_map(any::<u64>(), ".{0,3}", 0..4),
    );
    let choice = prop_oneof![
        Just((None, None)),
        any::<i64>().prop_map(|number| (Some(number), None)),
        ".{0,3}".prop_map(|name| (None, Some(name))),
    ];
    let kind = prop_oneof!["ZERO", "ONE"];
    (numbers, floats, texts, lists, choice, kind).prop_map(
        |(numbers, floats, texts, lists, (number, name), kind)| All {
            int32: numbers.0,
            sint64: numbers.1,
            fixed64: numbers.2,
            bool: numbers.3,
            float: floats.0,
            double: floats.1,
            string: texts.0,
            bytes: texts.1,
            maybe: texts.2,
            list: lists.0,
            texts: lists.1,
            map: lists.2,
            inner: None,
            inners: Vec::new(),
            kind,
            number,
            name,
        },
    )
}

fn messages() -> impl Strategy<Value = All> {
    leaves().prop_recursive(3, 8, 3, |inner| {
        (leaves(), option::of(inner.clone()), vec(inner, 0..3)).prop_map(|(all, inner, inners)| {
            All {
                inner: inner.map(Box::new),
                inners,
                ..all
            }
        })
    })
}

static EMPTY: LazyLock<DynamicMessage> = LazyLock::new(|| {
    let schema = WriterSchema {
        kind: SchemaKind::Protobuf,
        text: TEXT.to_owned(),
        references: Vec::new(),
    };
    let (descriptor, _) = Messages::new(&schema).unwrap().split(&[0]).unwrap();
    DynamicMessage::new(descriptor)
});

/// The message as the library has it; what is a default is not set.
fn dynamic(all: &All) -> DynamicMessage {
    let mut message = EMPTY.clone();
    let kinds = ["ZERO", "ONE"];
    let kind = kinds.iter().position(|kind| *kind == all.kind).unwrap();
    let entries = all.map.iter();
    let entries = entries.map(|(key, text)| (MapKey::U64(*key), Value::String(text.clone())));
    let mut set = |name: &str, value: Value| message.set_field_by_name(name, value);
    set("int32", Value::I32(all.int32));
    set("sint64", Value::I64(all.sint64));
    set("fixed64", Value::U64(all.fixed64));
    set("bool", Value::Bool(all.bool));
    set("float", Value::F32(all.float));
    set("double", Value::F64(all.double));
    set("string", Value::String(all.string.clone()));
    set("bytes", Value::Bytes(all.bytes.clone().into()));
    set(
        "list",
        Value::List(all.list.iter().map(|n| Value::I32(*n)).collect()),
    );
    set(
        "texts",
        Value::List(all.texts.iter().cloned().map(Value::String).collect()),
    );
    set("map", Value::Map(entries.collect()));
    set("kind", Value::EnumNumber(i32::try_from(kind).unwrap()));
    let inners = all
        .inners
        .iter()
        .map(|inner| Value::Message(dynamic(inner)));
    set("inners", Value::List(inners.collect()));
    if let Some(maybe) = all.maybe {
        set("maybe", Value::U32(maybe));
    }
    if let Some(number) = all.number {
        set("number", Value::I64(number));
    }
    if let Some(name) = &all.name {
        set("name", Value::String(name.clone()));
    }
    if let Some(inner) = &all.inner {
        set("inner", Value::Message(dynamic(inner)));
    }
    message
}

/// What the library writes for it, behind the index of the first message.
fn encoded(all: &All) -> Vec<u8> {
    [&[0], &dynamic(all).encode_to_vec()[..]].concat()
}

proptest! {
    #[test]
    fn what_was_written_is_read(all in messages()) {
        let schemas = registry(SchemaKind::Protobuf, TEXT, &[]);
        prop_assert_eq!(read_data(&schemas, &encoded(&all)), Ok(all));
    }

    /// A message may end after any field. It is refused if it ends inside of one.
    #[test]
    fn what_was_cut_off_is_never_more(all in messages()) {
        let schemas = registry(SchemaKind::Protobuf, TEXT, &[]);
        let data = encoded(&all);
        for cut in 0..data.len() {
            match read_data::<All>(&schemas, &data[..cut]) {
                Ok(part) => prop_assert!(encoded(&part).len() <= data.len()),
                Err(reason) => prop_assert!(reason.len() > "schema 7: ".len()),
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        index in prop_oneof![Just(vec![0]), vec(any::<u8>(), 0..4)],
        data in vec(prop_oneof![0..20_u8, any::<u8>()], 0..200),
    ) {
        let schemas = registry(SchemaKind::Protobuf, TEXT, &[]);
        let data = [index, data].concat();
        let known = read_data::<All>(&schemas, &data);
        let all = read_data::<Any>(&schemas, &data);
        let skipped = read_data::<de::IgnoredAny>(&schemas, &data);
        prop_assert!(skipped.is_ok() || (known.is_err() && all.is_err()));
    }
}

/// Messages in messages, in field 13.
fn nested(depth: usize) -> Vec<u8> {
    let mut data = Vec::new();
    for _ in 0..depth {
        let mut head = vec![0x6a];
        let mut length = data.len();
        while length >= 0x80 {
            head.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        head.push(u8::try_from(length).unwrap());
        data = [head, data].concat();
    }
    [&[0], &data[..]].concat()
}

#[test]
fn depth_is_bounded() {
    let schemas = registry(SchemaKind::Protobuf, TEXT, &[]);
    assert!(read_data::<Any>(&schemas, &nested(90)).is_ok());
    // Groups that the schema does not know, each in the one before.
    let groups = [vec![0], [0xa3, 0x06].repeat(1 << 20)].concat();
    for data in [nested(2_000), groups] {
        let error = read_data::<Any>(&schemas, &data).unwrap_err();
        assert!(error.contains("recursion limit"), "{error}");
    }
}
