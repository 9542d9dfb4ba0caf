//! The values that flags take: `NAME=PATH`, `NAME=DURATION`, an output.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::time::parse_duration;

/// Where `replay` writes its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output, written `-`.
    Stdout,
    /// Nowhere, written `null`: the rows are only counted and digested.
    Null,
    /// A file, replaced if it exists.
    File(PathBuf),
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        match text {
            "" => Err("name a file, or write - for standard output, null for none".to_owned()),
            "-" => Ok(Output::Stdout),
            "null" => Ok(Output::Null),
            path => Ok(Output::File(PathBuf::from(path))),
        }
    }
}

/// One stream to replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayStream {
    /// Its files, one partition each, numbered in this order.
    pub paths: Vec<PathBuf>,
    /// Overrides the record type's lateness bound.
    pub lateness: Option<Duration>,
}

/// Joins what the flags say of each stream.
pub fn join_streams(
    files: &[(String, PathBuf)],
    lateness: &[(String, Duration)],
) -> Result<BTreeMap<String, ReplayStream>, String> {
    let mut streams: BTreeMap<String, ReplayStream> = BTreeMap::new();
    for (name, path) in files {
        streams
            .entry(name.clone())
            .or_default()
            .paths
            .push(path.clone());
    }
    for (name, bound) in lateness {
        let Some(stream) = streams.get_mut(name) else {
            return Err(format!(
                "--lateness names stream '{name}', which no --stream names; \
                 add --stream {name}=PATH"
            ));
        };
        if stream.lateness.replace(*bound).is_some() {
            return Err(format!("--lateness names stream '{name}' twice; leave one"));
        }
    }
    Ok(streams)
}

/// Reads `NAME=PATH`.
pub fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = named(text, "NAME=PATH, as in clicks=clicks.ndjson")?;
    Ok((name, PathBuf::from(path)))
}

/// Reads `NAME=DURATION`.
pub fn named_duration(text: &str) -> Result<(String, Duration), String> {
    let (name, duration) = named(text, "NAME=DURATION, as in clicks=5s")?;
    let duration = parse_duration(duration).ok_or_else(|| {
        format!("'{duration}' is no duration: write a whole number and ms, s, m, h or d")
    })?;
    Ok((name, duration))
}

fn named<'a>(text: &'a str, form: &str) -> Result<(String, &'a str), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value))
        }
        _ => Err(format!("write {form}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::seconds;

    #[test]
    fn a_name_and_a_path_stand_around_the_first_equals_sign() {
        assert_eq!(
            named_path("s=a=b"),
            Ok(("s".to_owned(), PathBuf::from("a=b")))
        );
        for text in ["", "s", "s=", "=a"] {
            assert!(
                named_path(text).is_err_and(|e| e.contains("NAME=PATH")),
                "{text}"
            );
        }
        assert_eq!(named_duration("s=5s"), Ok(("s".to_owned(), seconds(5))));
        assert!(named_duration("s=5").is_err_and(|e| e.contains("'5' is no duration")));
    }

    #[test]
    fn a_stream_named_twice_has_two_partitions() {
        let files: Vec<_> = ["s=a", "t=c", "s=b"].map(|t| named_path(t).unwrap()).into();
        let streams = join_streams(&files, &[("s".to_owned(), seconds(1))]).unwrap();
        assert_eq!(streams["s"].paths, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(streams["s"].lateness, Some(seconds(1)));
        assert_eq!(streams["t"].lateness, None);
    }

    #[test]
    fn a_lateness_for_no_stream_is_refused() {
        let bounds = [
            ("clicks".to_owned(), seconds(1)),
            ("clicks".to_owned(), seconds(2)),
        ];
        assert!(join_streams(&[], &bounds).is_err_and(|e| e.contains("stream 'clicks'")));
        let files = [("clicks".to_owned(), PathBuf::from("a"))];
        assert!(join_streams(&files, &bounds).is_err_and(|e| e.contains("twice")));
    }

    #[test]
    fn an_output_is_a_file_unless_it_says_otherwise() {
        assert_eq!("-".parse(), Ok(Output::Stdout));
        assert_eq!("null".parse(), Ok(Output::Null));
        assert_eq!(
            "rows.ndjson".parse(),
            Ok(Output::File(PathBuf::from("rows.ndjson")))
        );
        assert!("".parse::<Output>().is_err());
    }
}
