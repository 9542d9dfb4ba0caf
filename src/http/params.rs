//! The parameters of a read, from the text of its address.

use std::time::Duration;

use super::problem::Problem;
use super::tag::Asked;
use super::token::{Cursor, DiffCursor, Token};
use crate::time::{Epoch, parse_duration, seconds};

/// Rows of a page when nothing is said.
const DEFAULT_LIMIT: usize = 1000;
/// The most rows of a page.
const MAX_LIMIT: usize = 10_000;
/// How long a read waits when nothing is said.
const DEFAULT_TIMEOUT: Duration = seconds(30);

/// What the reads of one key, and of late and rejected records, take.
pub(super) const READ: &[&str] = &["limit", "cursor", "at", "after", "timeout", "max_staleness"];
/// What the read of one key takes besides.
pub(super) const READ_KEY: &[&str] = &["final"];
/// What the read of a range of keys takes besides.
pub(super) const READ_RANGE: &[&str] = &["final", "prefix", "from", "to"];
/// What the read of several queries takes.
pub(super) const READ_SEVERAL: &[&str] = &[
    "queries",
    "limit",
    "at",
    "after",
    "timeout",
    "max_staleness",
];
/// What the read of the changes between two epochs takes.
const DIFF: &[&str] = &["from", "to", "prefix", "limit", "cursor"];

/// The parameters of a read.
#[derive(Clone, Debug)]
pub(super) struct ReadParams {
    pub(super) prefix: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) limit: usize,
    pub(super) cursor: Option<Cursor>,
    pub(super) at: Option<Epoch>,
    pub(super) after: Option<Token>,
    pub(super) timeout: Duration,
    pub(super) max_staleness: Option<Duration>,
    pub(super) only_final: bool,
    pub(super) queries: Option<String>,
}

impl ReadParams {
    /// Reads the text after the `?`, of which the `known` parameters are taken.
    pub(super) fn parse(
        raw: &str,
        known: &[&[&str]],
        max_wait: Duration,
    ) -> Result<ReadParams, Problem> {
        let mut params = Params::parse(raw, known)?;
        let limit = params
            .take("limit")
            .map_or(Ok(DEFAULT_LIMIT), |text| limit(&text))?;
        let cursor = params
            .take("cursor")
            .map(|text| Cursor::decode(&text))
            .transpose()?;
        let at = params.take("at").map(|text| epoch("at", &text));
        let at = at.transpose()?;
        let after = params
            .take("after")
            .map(|text| Token::decode(&text))
            .transpose()?;
        let timeout = match params.take("timeout") {
            Some(text) => duration("timeout", &text)?,
            None => DEFAULT_TIMEOUT.min(max_wait),
        };
        let max_staleness = params.take("max_staleness");
        let max_staleness = max_staleness
            .map(|text| duration("max_staleness", &text))
            .transpose()?;
        let only_final = params
            .take("final")
            .map_or(Ok(false), |text| flag("final", &text))?;
        if timeout > max_wait {
            return Err(Problem::parameter(format!(
                "parameter 'timeout' is more than the {} s this service waits",
                max_wait.as_secs()
            )));
        }
        if at.is_some() && (after.is_some() || max_staleness.is_some()) {
            return Err(Problem::parameter(
                "parameter 'at' names one epoch: it does not go with 'after' or 'max_staleness'",
            ));
        }
        Ok(ReadParams {
            prefix: params.take("prefix"),
            from: params.take("from"),
            to: params.take("to"),
            limit,
            cursor,
            at,
            after,
            timeout,
            max_staleness,
            only_final,
            queries: params.take("queries"),
        })
    }
}

impl ReadParams {
    /// Whether the client named the epoch.
    pub(super) fn is_pinned(&self) -> bool {
        self.at.is_some() || self.cursor.is_some()
    }

    /// The page that is asked for.
    pub(super) fn asked(&self) -> Asked<'_> {
        let position = self
            .cursor
            .as_ref()
            .map(|cursor| cursor.position.as_bytes());
        Asked {
            limit: self.limit,
            position: position.unwrap_or_default(),
        }
    }
}

/// The parameters of a read of what changed between two epochs.
#[derive(Clone, Debug)]
pub(super) struct DiffParams {
    pub(super) from: Option<Epoch>,
    pub(super) to: Option<Epoch>,
    pub(super) prefix: Option<String>,
    pub(super) limit: usize,
    pub(super) cursor: Option<DiffCursor>,
}

impl DiffParams {
    pub(super) fn parse(raw: &str) -> Result<DiffParams, Problem> {
        let mut params = Params::parse(raw, &[DIFF])?;
        let mut end = |name| params.take(name).map(|text| epoch(name, &text)).transpose();
        let (from, to) = (end("from")?, end("to")?);
        let limit = params
            .take("limit")
            .map_or(Ok(MAX_LIMIT), |text| limit(&text))?;
        let cursor = params
            .take("cursor")
            .map(|text| DiffCursor::decode(&text))
            .transpose()?;
        Ok(DiffParams {
            from,
            to,
            prefix: params.take("prefix"),
            limit,
            cursor,
        })
    }
}

/// The parameters of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangesParams {
    pub(super) key: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) only_final: bool,
    pub(super) last_event_id: Option<String>,
}

impl ChangesParams {
    /// Reads the text after the `?`.
    pub(super) fn parse(raw: &str) -> Result<ChangesParams, Problem> {
        let mut params = Params::parse(raw, &[&["key", "prefix", "final", "last_event_id"]])?;
        let only_final = params.take("final");
        Ok(ChangesParams {
            key: params.take("key"),
            prefix: params.take("prefix"),
            only_final: only_final.map_or(Ok(false), |text| flag("final", &text))?,
            last_event_id: params.take("last_event_id"),
        })
    }
}

/// Refuses any parameter, where none is taken.
pub(super) fn none(raw: &str) -> Result<(), Problem> {
    Params::parse(raw, &[]).map(|_| ())
}

/// The label of a checkpoint to be taken: what can be typed and printed without care.
pub(super) fn label(raw: &str) -> Result<Option<String>, Problem> {
    let label = Params::parse(raw, &[&["label"]])?.take("label");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match label {
        Some(text) if !(1..=MAX_LABEL).contains(&text.len()) || !text.chars().all(is_plain) => {
            Err(Problem::parameter(format!(
                "parameter 'label' is '{text}': use 1 to {MAX_LABEL} letters, digits, '-', '_', '.'"
            )))
        }
        label => Ok(label),
    }
}

/// How long a label may be.
const MAX_LABEL: usize = 100;

struct Params(Vec<(String, String)>);

impl Params {
    fn parse(raw: &str, known: &[&[&str]]) -> Result<Params, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text| decode(text, true);
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Problem::parameter(format!(
                    "parameter '{pair}' is not percent-encoded UTF-8"
                )));
            };
            if !known.iter().any(|names| names.contains(&name.as_str())) {
                let known = known.concat().join(", ");
                return Err(Problem::parameter(if known.is_empty() {
                    format!("parameter '{name}' is not known: this address takes none")
                } else {
                    format!("parameter '{name}' is not known: this address takes {known}")
                }));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Problem::parameter(format!(
                    "parameter '{name}' is given twice"
                )));
            }
            pairs.push((name, value));
        }
        Ok(Params(pairs))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

fn limit(text: &str) -> Result<usize, Problem> {
    text.parse()
        .ok()
        .filter(|n| (1..=MAX_LIMIT).contains(n))
        .ok_or_else(|| {
            Problem::parameter(format!(
                "parameter 'limit' is '{text}': use 1 to {MAX_LIMIT}"
            ))
        })
}

fn epoch(name: &str, text: &str) -> Result<Epoch, Problem> {
    text.parse().map_err(|_| {
        Problem::parameter(format!("parameter '{name}' is '{text}', which is no epoch"))
    })
}

fn duration(name: &str, text: &str) -> Result<Duration, Problem> {
    parse_duration(text).ok_or_else(|| {
        Problem::parameter(format!(
            "parameter '{name}' is '{text}': write a duration such as 250ms, 5s or 2m"
        ))
    })
}

fn flag(name: &str, text: &str) -> Result<bool, Problem> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Problem::parameter(format!(
            "parameter '{name}' is '{text}': use true or false"
        ))),
    }
}

/// Decodes `%41` and, where `plus_is_space`, `+`. `None` when that is no UTF-8, or a `%` stands
/// alone.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        bytes.push(match byte {
            b'%' => {
                let [high, low, tail @ ..] = tail else {
                    return None;
                };
                rest = tail;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?
            }
            b'+' if plus_is_space => b' ',
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<ReadParams, String> {
        ReadParams::parse(raw, &[READ, READ_RANGE], seconds(60)).map_err(|problem| problem.detail)
    }

    #[test]
    fn parameters_are_decoded() {
        let params = parse("prefix=%5B%22u+1%22%5D&limit=5&final=true&timeout=250ms").unwrap();
        assert_eq!(params.prefix.as_deref(), Some("[\"u 1\"]"));
        assert_eq!((params.limit, params.only_final), (5, true));
        assert_eq!(params.timeout, Duration::from_millis(250));
        let nothing = parse("").unwrap();
        assert_eq!((nothing.limit, nothing.timeout), (1000, seconds(30)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (raw, word) in [
            ("limt=5", "'limt' is not known"),
            ("limit=0", "use 1 to 10000"),
            ("limit=10001", "use 1 to 10000"),
            ("limit=5&limit=6", "given twice"),
            ("at=now", "no epoch"),
            ("at=-1", "no epoch"),
            ("final=yes", "use true or false"),
            ("timeout=5", "write a duration"),
            ("timeout=2m", "the 60 s this service waits"),
            ("cursor=abc", "no cursor"),
            ("after=abc", "no token"),
            ("prefix=%f", "not percent-encoded"),
            ("prefix=%ff", "not percent-encoded"),
            ("at=1&max_staleness=1s", "does not go with"),
        ] {
            let detail = parse(raw).unwrap_err();
            assert!(detail.contains(word), "{raw}: {detail}");
        }
    }

    #[test]
    fn a_plus_in_a_path_is_a_plus() {
        assert_eq!(decode("a+b%2Fc", false).as_deref(), Some("a+b/c"));
        assert_eq!(decode("a+b%2Fc", true).as_deref(), Some("a b/c"));
    }
}
