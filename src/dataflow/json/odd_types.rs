//! Types that take errors for values, or do not read what they are given: whatever they are, a text
//! reads as `serde_json` reads it.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use serde::de::{Deserialize, Deserializer, EnumAccess, MapAccess, Visitor};
use serde_json::Value;

use super::Reader;

#[track_caller]
fn agree<T: for<'a> Deserialize<'a> + PartialEq + Debug>(texts: &[&str]) {
    for text in texts {
        // A reader of other lines before it must not read it otherwise.
        for before in [
            "{}",
            r#"{"a":1,"b":2}"#,
            r#"{"a":1,"abcdefghijklmnopqrstuvwxyz":2}"#,
        ] {
            let mut reader = Reader::default();
            assert!(reader.read::<Value>(before).is_ok());
            let ours = reader.read::<T>(text).map_err(|error| error.to_string());
            let theirs = serde_json::from_str::<T>(text).map_err(|error| error.to_string());
            assert_eq!(ours, theirs, "{text}");
        }
    }
}

/// None where it cannot be read.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lenient<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Lenient(T::deserialize(from).ok()))
    }
}

/// What was wrong where it cannot be read.
#[derive(Debug, PartialEq)]
struct Said(Result<u8, String>);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Said(
            u8::deserialize(from).map_err(|error| error.to_string()),
        ))
    }
}

/// Most of what is there is passed over.
#[derive(Debug, PartialEq, serde::Deserialize)]
struct Few {
    a: u8,
}

#[test]
fn errors_that_are_taken_for_values() {
    agree::<Vec<Lenient<u8>>>(&["[1,]", "[01]", "[1..e+2]", "[300,1]", "[\"a\",1]"]);
    agree::<Vec<Lenient<String>>>(&[r#"["a\q","b"]"#, "[\"a\nb\",\"c\"]"]);
    agree::<Vec<Lenient<(u8,)>>>(&["[[1,[2]]", "[[1,2],[3]]"]);
    agree::<BTreeMap<Lenient<u32>, u8>>(&[r#"{"5":1}"#]);
    agree::<BTreeMap<Lenient<bool>, u8>>(&[r#"{"true":1}"#]);
    agree::<BTreeMap<Lenient<Option<String>>, u8>>(&[r#"{"5":1}"#]);
    agree::<Vec<Lenient<Few>>>(&[r#"[{"a":1,"z":1e999}]"#, r#"[{"a":1,"z":"\ud800"}]"#]);
    agree::<Said>(&["300", "3", "x"]);
}

#[test]
fn bytes_that_no_text_has() {
    let zeros = format!("{{\"a\":1{}2}}", "\0".repeat(16));
    agree::<Value>(&[&zeros]);
    agree::<BTreeMap<String, u8>>(&[&zeros]);
}

/// Reads nothing.
#[derive(Debug, PartialEq)]
struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(_from: D) -> Result<Self, D::Error> {
        Ok(Nothing)
    }
}

/// The names of an object, with as many values read for each.
#[derive(Debug, PartialEq)]
struct Names<const VALUES: usize>(Vec<String>);

impl<'de, const VALUES: usize> Deserialize<'de> for Names<VALUES> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Names(Vec::new()))
    }
}

impl<'de, const VALUES: usize> Visitor<'de> for Names<VALUES> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key()? {
            self.0.push(name);
            for _ in 0..VALUES {
                map.next_value::<u8>()?;
            }
        }
        Ok(self)
    }
}

#[test]
fn what_is_given_and_not_read() {
    agree::<Vec<Nothing>>(&["[]", "[,]", "[,,]", "[1]"]);
    agree::<Names<0>>(&[r#"{"a":}"#, r#"{"a":,"b":}"#, r#"{"a":1}"#, "{}"]);
    agree::<Names<1>>(&[r#"{"a":1}"#, r#"{"a":1,"b":2}"#, r#"{"a":1,}"#]);
    agree::<Names<2>>(&[r#"{"a":1 2}"#, r#"{"a":1}"#]);
}

/// A variant whose name is asked for as something else.
#[derive(Debug, PartialEq)]
enum Asked {
    Text(String),
    Bytes(Vec<u8>),
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(Either)
    }
}

struct Either;

impl Visitor<'_> for Either {
    type Value = Asked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or bytes")
    }
    fn visit_str<E>(self, text: &str) -> Result<Asked, E> {
        Ok(Asked::Text(text.to_owned()))
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Asked, E> {
        Ok(Asked::Bytes(bytes.to_owned()))
    }
}

#[derive(Debug, PartialEq)]
struct Variant<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Variant<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_enum("Variant", &[], OfAny(std::marker::PhantomData))
    }
}

struct OfAny<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfAny<T> {
    type Value = Variant<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a variant")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Variant<T>, A::Error> {
        data.variant().map(|(variant, _)| Variant(variant))
    }
}

#[test]
fn variants_that_are_asked_for_as_something_else() {
    agree::<Variant<Asked>>(&[r#""v""#, r#"{"v":}"#, r#"{"v":1}"#]);
    agree::<Variant<u8>>(&[r#""v""#, r#"{"v":}"#, "1"]);
    agree::<Variant<String>>(&[r#""v""#, r#"{"v":}"#, r#""\u00e9""#]);
}

#[test]
fn numbers_of_128_bits_and_bytes_are_read_at_once() {
    let mut reader = Reader::default();
    let wide = "[340282366920938463463374607431768211455]";
    assert!(
        reader
            .ordinary::<[u128; 1]>(wide)
            .is_ok_and(|read| read == [u128::MAX])
    );
    let read = reader.ordinary::<Asked>(r#""v""#);
    assert!(read.is_ok_and(|read| read == Asked::Bytes(vec![b'v'])));
}
