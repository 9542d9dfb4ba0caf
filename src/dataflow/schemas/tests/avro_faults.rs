//! Avro records that are not what their schema says: refused with a reason, at no great cost.

use std::collections::BTreeMap;

use super::*;

fn click(fields: &str) -> Schemas {
    avro(&format!(
        r#"{{"type":"record","name":"Click","fields":[{fields}]}}"#
    ))
}

fn said<T: DeserializeOwned + std::fmt::Debug>(schemas: &Schemas, data: &[u8]) -> String {
    let error = read_data::<T>(schemas, data).unwrap_err();
    error
        .strip_prefix("schema 7: ")
        .expect("the schema is named")
        .to_owned()
}

#[derive(Debug, PartialEq, Deserialize)]
struct Nothing {}

#[derive(Debug, Deserialize)]
struct Click {
    #[allow(dead_code, reason = "it is read, and that is all")]
    user: User,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "they are read, and that is all")]
struct User {
    id: u32,
    name: String,
}

fn nested() -> Schemas {
    click(
        r#"{"name":"user","type":{"type":"record","name":"User","fields":[
            {"name":"id","type":"long"},{"name":"name","type":["null","string"]}]}}"#,
    )
}

#[test]
fn a_fault_names_its_field() {
    for (data, reason) in [
        (
            &[][..],
            "field 'user.id': the record ends in the middle of a number",
        ),
        (
            &[0x80],
            "field 'user.id': the record ends in the middle of a number",
        ),
        (
            &[0xff; 10],
            "field 'user.id': a number of more than 64 bits",
        ),
        (
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            "field 'user.id': a number of more than 64 bits",
        ),
        (
            &[1],
            "field 'user.id': invalid value: integer `-1`, expected u32",
        ),
        (&[2, 4], "field 'user.name': choice 2, but the schema has 2"),
        (
            &[2, 1],
            "field 'user.name': choice -1, but the schema has 2",
        ),
        (&[2, 0], "field 'user.name': null, expected a string"),
        (&[2, 2, 1], "field 'user.name': a length of -1"),
        (
            &[2, 2, 6, b'a'],
            "field 'user.name': the record ends here: 1 of 3 bytes are left",
        ),
        (
            &[2, 2, 2, 0xff],
            "field 'user.name': text that is not UTF-8",
        ),
        (&[2, 2, 2, b'a', 0], "bytes left over behind the record: 1"),
    ] {
        assert_eq!(said::<Click>(&nested(), data), reason, "{data:?}");
    }
    let other = click(r#"{"name":"user","type":"string"}"#);
    assert_eq!(
        said::<Click>(&other, &[2, b'a']),
        "field 'user': string \"a\", expected struct User"
    );
    let none = click(r#"{"name":"page","type":"string"}"#);
    assert_eq!(said::<Click>(&none, &[2, b'a']), "missing field `user`");
    let list = avro(r#"{"type":"array","items":"int"}"#);
    assert_eq!(
        said::<Click>(&list, &[0]),
        "an array where a record is wanted"
    );
    let ints = avro(r#"{"type":"array","items":"int"}"#);
    for data in [&[1, 4, 2, 0][..], &[1, 200, 1, 2, 0], &[3, 2, 2, 2, 0]] {
        assert_eq!(
            said::<Vec<i32>>(&ints, data),
            "a block that is not as long as it says"
        );
    }
    let list = click(r#"{"name":"user","type":{"type":"array","items":"int"}}"#);
    assert_eq!(
        said::<Click>(&list, &[0]),
        "field 'user': an array where a record is wanted"
    );
    let flag = avro(r#""boolean""#);
    assert_eq!(said::<bool>(&flag, &[2]), "2 is neither true nor false");
}

#[test]
fn a_float_is_a_number() {
    for (kind, data) in [
        ("float", f32::NAN.to_le_bytes().to_vec()),
        ("double", f64::INFINITY.to_le_bytes().to_vec()),
    ] {
        let schemas = click(&format!(r#"{{"name":"user","type":"{kind}"}}"#));
        let error = said::<BTreeMap<String, f64>>(&schemas, &data);
        assert!(error.starts_with("field 'user': ") && error.ends_with(" is not a number"));
        // Nobody wants it here.
        assert_eq!(read_data(&schemas, &data), Ok(Nothing {}));
    }
}

/// What a few bytes announce is not believed.
#[test]
fn a_length_allocates_nothing() {
    let huge = [&[0xfe; 8][..], &[0x7f]].concat();
    let text = avro(r#""string""#);
    assert!(said::<String>(&text, &huge).starts_with("the record ends here: 0 of "));
    let list = avro(r#"{"type":"array","items":"long"}"#);
    assert!(said::<Vec<i64>>(&list, &huge).ends_with("in the middle of a number"));
    let map = avro(r#"{"type":"map","values":"long"}"#);
    assert!(said::<Any>(&map, &huge).ends_with("in the middle of a number"));
    let skipped = click(r#"{"name":"x","type":{"type":"array","items":"long"}}"#);
    assert!(said::<Click>(&skipped, &huge).ends_with("in the middle of a number"));
    let sized = [&[0xfd; 8][..], &[0x7f], &huge].concat();
    assert!(said::<Click>(&skipped, &sized).starts_with("field 'x': the record ends here"));
}

/// Items of no bytes could go on for ever.
#[test]
fn items_of_nothing_are_bounded() {
    let huge = [&[0xfe; 8][..], &[0x7f]].concat();
    for item in [r#""null""#, r#"{"type":"record","name":"N","fields":[]}"#] {
        let array = format!(r#"{{"type":"array","items":{item}}}"#);
        let reason = "more items than its bytes can hold";
        assert_eq!(said::<Any>(&avro(&array), &huge), reason);
        let skipped = click(&format!(r#"{{"name":"x","type":{array}}}"#));
        assert_eq!(
            said::<Click>(&skipped, &huge),
            format!("field 'x': {reason}")
        );
        assert_eq!(
            read_data::<Vec<Any>>(&avro(&array), &[20, 0])
                .unwrap()
                .len(),
            10
        );
    }
}

#[test]
fn depth_is_bounded() {
    let link = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    let hostile = vec![2; 1 << 20];
    assert!(said::<Any>(&avro(link), &hostile).ends_with("nested more than 100 deep"));
    let skipped = click(&format!(r#"{{"name":"x","type":{link}}}"#));
    assert!(said::<Click>(&skipped, &hostile).ends_with("nested more than 100 deep"));
    let deep = [&[2; 99][..], &[0]].concat();
    assert!(read_data::<Any>(&avro(link), &deep).is_ok());
    let endless = r#"{"type":"record","name":"E","fields":[{"name":"e","type":"E"}]}"#;
    assert!(said::<Any>(&avro(endless), &[]).ends_with("nested more than 100 deep"));
}

#[test]
fn a_pair_has_two_items() {
    let schemas = avro(r#"{"type":"array","items":"int"}"#);
    assert_eq!(read_data(&schemas, &[4, 2, 4, 0]), Ok((1, 2)));
    assert_eq!(
        said::<(i32, i32)>(&schemas, &[6, 2, 4, 6, 0]),
        "more items than are wanted"
    );
    assert_eq!(
        said::<(i32, i32)>(&schemas, &[2, 2, 0]),
        "invalid length 1, expected a tuple of size 2"
    );
}
