//! The records of a posted body: one JSON value, a JSON array, or a JSON value per line.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::view::LineVerdict;

/// The most records of one post. A line costs a vector of its own, so bytes alone are no bound.
pub(super) const MAX_RECORDS: usize = 1_000_000;

/// A mark that some editors put before UTF-8.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The types of body that are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/json`: one value or an array; values on lines of their own pass too.
    Json,
    /// `application/x-ndjson`: a value per line.
    Ndjson,
}

impl MediaType {
    /// Reads a `Content-Type` header, whatever its parameters.
    pub(super) fn parse(header: &str) -> Option<MediaType> {
        let essence = header.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Some(MediaType::Json)
        } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
            Some(MediaType::Ndjson)
        } else {
            None
        }
    }
}

/// Why a body has no records.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    /// There is nothing in it.
    #[error("the body is empty: post a JSON object, an array of them, or one per line")]
    Empty,
    /// Nothing in it is JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// It holds more records than one post may.
    #[error("the body holds {0} records, and one post may hold {MAX_RECORDS}: post them in parts")]
    TooMany(usize),
}

/// The records of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Records {
    /// Each one's raw bytes, without line breaks, in order.
    pub(super) lines: Vec<Vec<u8>>,
    /// Whether they stood on lines of their own; blank ones between them are no records.
    pub(super) are_lines: bool,
}

/// Turns the numbers of rejected records into those of their lines in the body; of an array they
/// are the numbers of its elements already.
pub(super) fn number_lines(body: &[u8], are_lines: bool, rejected: &mut [LineVerdict]) {
    if !are_lines || rejected.is_empty() {
        return;
    }
    let body = body.strip_prefix(BOM).unwrap_or(body);
    let lines = body.split(|byte| *byte == b'\n').zip(1..);
    let records = lines.filter(|(line, _)| !line.trim_ascii().is_empty());
    let mut records = records.map(|(_, number)| number).zip(1..);
    for verdict in rejected {
        if let Some((number, _)) = records.find(|(_, record)| *record == verdict.line) {
            verdict.line = number;
        }
    }
}

/// Divides a body into its records.
///
/// A line that is not JSON is passed on, to be rejected by itself, as long as another one is JSON.
/// An `application/json` body whose first line is no whole value is one broken document, of which
/// no line is taken.
pub(super) fn split(body: &[u8], media_type: MediaType) -> Result<Records, SplitError> {
    let body = body.strip_prefix(BOM).unwrap_or(body).trim_ascii();
    if body.is_empty() {
        return Err(SplitError::Empty);
    }
    let whole = match body[0] {
        b'[' => serde_json::from_slice::<Vec<&RawValue>>(body),
        _ => serde_json::from_slice::<&RawValue>(body).map(|value| vec![value]),
    };
    match whole {
        Ok(values) if values.len() > MAX_RECORDS => Err(SplitError::TooMany(values.len())),
        Ok(values) => Ok(Records {
            lines: values.iter().map(|value| one_line(value.get())).collect(),
            // One value by itself stands on its line, too.
            are_lines: body[0] != b'[',
        }),
        Err(error) => split_lines(body, media_type, &error),
    }
}

fn split_lines(
    body: &[u8],
    media_type: MediaType,
    not_whole: &serde_json::Error,
) -> Result<Records, SplitError> {
    let lines = || body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut records = lines().filter(|line| !line.is_empty());
    let is_json = |line: &[u8]| serde_json::from_slice::<IgnoredAny>(line).is_ok();
    let any_json = match media_type {
        MediaType::Json => records.clone().next().is_some_and(is_json),
        MediaType::Ndjson => records.clone().any(is_json),
    };
    if !any_json {
        return Err(SplitError::NotJson(not_whole.to_string()));
    }
    let taken: Vec<Vec<u8>> = records
        .by_ref()
        .take(MAX_RECORDS)
        .map(<[u8]>::to_vec)
        .collect();
    match records.count() {
        0 => Ok(Records {
            lines: taken,
            are_lines: true,
        }),
        more => Err(SplitError::TooMany(MAX_RECORDS + more)),
    }
}

/// The text of a JSON value on one line. Only what was printed over several lines is rewritten:
/// white space between its tokens goes, its strings stay as they are.
fn one_line(value: &str) -> Vec<u8> {
    if !value.contains(['\n', '\r']) {
        return value.as_bytes().to_vec();
    }
    let mut line = Vec::with_capacity(value.len());
    let (mut in_string, mut escaped) = (false, false);
    for byte in value.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        line.push(byte);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(body: &str, media_type: MediaType) -> Result<Vec<String>, SplitError> {
        let records = split(body.as_bytes(), media_type)?;
        Ok(records
            .lines
            .into_iter()
            .map(|line| String::from_utf8(line).unwrap())
            .collect())
    }

    #[test]
    fn one_value_an_array_and_lines_give_the_same_records() {
        for media_type in [MediaType::Json, MediaType::Ndjson] {
            assert_eq!(lines(" {\"a\": 1} \n", media_type).unwrap(), ["{\"a\": 1}"]);
            for body in [
                "[{\"a\":1},{\"b\":2}]",
                "{\"a\":1}\n{\"b\":2}",
                "\r\n{\"a\":1}\r\n\n{\"b\":2}\r\n",
            ] {
                let records = lines(body, media_type).unwrap();
                assert_eq!(records, ["{\"a\":1}", "{\"b\":2}"], "{body:?}");
            }
        }
    }

    #[test]
    fn pretty_printed_values_are_put_on_one_line_and_strings_are_kept() {
        let body = "[\n  {\n    \"a b\": \"x \\\" y\\\\\",\r\n\t\"c\": [ 1, 2 ]\n  }\n]";
        let records = lines(body, MediaType::Json).unwrap();
        assert_eq!(records, ["{\"a b\":\"x \\\" y\\\\\",\"c\":[1,2]}"]);
        let before: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            before[0],
            serde_json::from_str::<serde_json::Value>(&records[0]).unwrap()
        );
    }

    #[test]
    fn a_bad_line_among_good_ones_is_passed_on() {
        let body = "nonsense\n{\"a\":1}\n{\"a\":";
        let records = lines(body, MediaType::Ndjson).unwrap();
        assert_eq!(records, ["nonsense", "{\"a\":1}", "{\"a\":"]);
    }

    #[test]
    fn rejected_records_are_numbered_as_their_lines_are() {
        for (body, numbers) in [
            ("1\n2\n3", [2, 3]),
            ("\n\n1\n\n \n2\r\n3", [6, 7]),
            ("\u{feff}\n1\n2\n3\n", [3, 4]),
            ("[1,\n\n2,3]", [2, 3]),
        ] {
            let records = split(body.as_bytes(), MediaType::Ndjson).unwrap();
            let verdict = |line| LineVerdict {
                line,
                reason: String::new(),
            };
            let mut rejected = [verdict(2), verdict(3)];
            number_lines(body.as_bytes(), records.are_lines, &mut rejected);
            assert_eq!(rejected.map(|it| it.line), numbers, "{body:?}");
        }
    }

    #[test]
    fn what_is_not_json_at_all_is_refused() {
        for body in ["nonsense", "a,b\n1;2", "{\"a\":", "\u{0}\u{1}"] {
            for media_type in [MediaType::Json, MediaType::Ndjson] {
                let refused = lines(body, media_type);
                assert!(
                    matches!(refused, Err(SplitError::NotJson(_))),
                    "{body:?} {refused:?}"
                );
            }
        }
        assert_eq!(lines(" \n ", MediaType::Json), Err(SplitError::Empty));
    }

    #[test]
    fn half_an_array_is_one_broken_document() {
        let body = "[\n{\"a\":1},\n{\"b\":2}";
        assert!(matches!(
            lines(body, MediaType::Json),
            Err(SplitError::NotJson(_))
        ));
    }

    #[test]
    fn an_empty_array_has_no_records() {
        assert_eq!(lines("[]", MediaType::Json).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn records_are_bounded_by_number() {
        let body = "1\n".repeat(MAX_RECORDS + 2);
        let refused = split(body.as_bytes(), MediaType::Ndjson);
        assert_eq!(refused, Err(SplitError::TooMany(MAX_RECORDS + 2)));
    }

    #[test]
    fn content_types_are_read_with_their_parameters() {
        assert_eq!(
            MediaType::parse("Application/JSON; charset=utf-8"),
            Some(MediaType::Json)
        );
        assert_eq!(
            MediaType::parse("application/x-ndjson"),
            Some(MediaType::Ndjson)
        );
        assert_eq!(MediaType::parse("text/plain"), None);
        assert_eq!(MediaType::parse(""), None);
    }
}
