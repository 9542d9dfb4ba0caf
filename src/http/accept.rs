//! What a client takes: the format and the coding of an answer, and which one it already has.

use warp::http::HeaderMap;
use warp::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName, IF_NONE_MATCH};

/// How the rows of an answer are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// One object with labels and rows.
    #[default]
    Json,
    /// A row a line; the labels are in the headers, as for those below.
    Ndjson,
    /// A header, then a row a line; parts of keys and values have columns of their own.
    Csv,
    /// An Arrow IPC stream with the columns of the CSV.
    Arrow,
}

impl Format {
    /// All of them; where a client likes several as much, the first is taken.
    pub(super) const ALL: [Format; 4] = [Format::Json, Format::Ndjson, Format::Csv, Format::Arrow];

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// How the bytes of an answer are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coding {
    /// Not at all.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// As `Accept-Encoding` and `Content-Encoding` name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }
}

/// What a client takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepts {
    /// The format of rows; `None` where it takes none that there is.
    pub(super) format: Option<Format>,
    /// The coding it takes.
    pub(super) coding: Coding,
    /// The tags of the answers it has.
    known: Option<String>,
}

impl Accepts {
    /// Reads the headers. One that cannot be read is taken for one that is not there.
    pub(super) fn of(headers: &HeaderMap) -> Accepts {
        Accepts {
            format: match text(headers, &ACCEPT) {
                Some(accept) if !accept.trim().is_empty() => format(&accept),
                _ => Some(Format::Json),
            },
            coding: text(headers, &ACCEPT_ENCODING).map_or(Coding::Identity, |text| coding(&text)),
            known: text(headers, &IF_NONE_MATCH),
        }
    }

    /// Whether the client has the answer of this tag; tags are compared without their `W/`.
    pub(super) fn knows(&self, tag: &str) -> bool {
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let known = self.known.as_deref().unwrap_or_default();
        known.split(',').any(|known| bare(known) == bare(tag))
    }
}

/// A header's text; several are one, with commas between.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let mut all = values.next()?.to_str().ok()?.to_owned();
    for value in values {
        all.push(',');
        all.push_str(value.to_str().ok()?);
    }
    Some(all)
}

/// The format a client likes best; `None` where it takes none of them.
fn format(accept: &str) -> Option<Format> {
    let wish = |format: Format| {
        let (kind, _) = format.media_type().split_once('/')?;
        // The range that says most about a type decides: the type, then `text/*`, then `*/*`.
        let ranges = choices(accept).filter_map(|(range, weight)| {
            let says = if range.eq_ignore_ascii_case(format.media_type()) {
                3
            } else if range.strip_suffix("/*").is_some_and(|range| range == kind) {
                2
            } else {
                u8::from(range == "*/*")
            };
            (says > 0).then_some((says, weight))
        });
        ranges
            .max_by_key(|(says, _)| *says)
            .map(|(_, weight)| weight)
    };
    let taken = Format::ALL
        .into_iter()
        .map(|format| (format, wish(format).unwrap_or(0)))
        .filter(|(_, weight)| *weight > 0);
    // The last of equals would win.
    taken.rev().max_by_key(|(_, weight)| *weight).map(|it| it.0)
}

/// The coding a client likes best; zstd of those it likes as much.
fn coding(accept: &str) -> Coding {
    let wish = |coding: Coding| {
        let named = |name: &str| {
            choices(accept)
                .find(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, weight)| weight)
        };
        // `*` alone asks for nothing in particular.
        named(coding.name()).unwrap_or(0)
    };
    let identity = (Coding::Identity, wish(Coding::Identity));
    [Coding::Gzip, Coding::Zstd]
        .into_iter()
        .map(|coding| (coding, wish(coding)))
        .fold(identity, |best, other| {
            if other.1 > 0 && other.1 >= best.1 {
                other
            } else {
                best
            }
        })
        .0
}

/// The choices of a header with their weights, in thousandths.
fn choices(header: &str) -> impl Iterator<Item = (&str, u16)> {
    header.split(',').map(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts
            .filter_map(|part| part.split_once('='))
            .find(|(parameter, _)| parameter.trim().eq_ignore_ascii_case("q"))
            .map_or(Some(1000), |(_, weight)| thousandths(weight.trim()));
        (name, weight.unwrap_or(0))
    })
}

/// `0.25` as 250; at most 1.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    let whole: u16 = whole.parse().ok()?;
    Some((whole.min(1) * 1000 + part).min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &str)]) -> Accepts {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        Accepts::of(&map)
    }

    #[test]
    fn the_format_liked_best_is_taken() {
        for (accept, format) in [
            ("*/*", Some(Format::Json)),
            (
                "text/html,application/xhtml+xml,*/*;q=0.8",
                Some(Format::Json),
            ),
            ("application/x-ndjson", Some(Format::Ndjson)),
            ("Text/CSV; charset=utf-8", Some(Format::Csv)),
            ("text/*", Some(Format::Csv)),
            ("application/vnd.apache.arrow.stream", Some(Format::Arrow)),
            ("application/json;q=0.2, text/csv;q=0.25", Some(Format::Csv)),
            ("application/json;q=0, */*", Some(Format::Ndjson)),
            ("text/csv, application/json", Some(Format::Json)),
            ("image/png", None),
            ("*/*;q=0", None),
            ("application/json;q=x", None),
            ("", Some(Format::Json)),
        ] {
            assert_eq!(of(&[("accept", accept)]).format, format, "{accept}");
        }
        assert_eq!(of(&[]).format, Some(Format::Json));
    }

    #[test]
    fn the_coding_liked_best_is_taken() {
        for (accept, coding) in [
            ("gzip, deflate, br", Coding::Gzip),
            ("gzip, deflate, br, zstd", Coding::Zstd),
            ("gzip;q=1.0, zstd;q=0.5", Coding::Gzip),
            ("gzip;q=0", Coding::Identity),
            ("identity, gzip;q=0.5", Coding::Identity),
            ("*", Coding::Identity),
            ("br", Coding::Identity),
            ("", Coding::Identity),
        ] {
            assert_eq!(
                of(&[("accept-encoding", accept)]).coding,
                coding,
                "{accept}"
            );
        }
    }

    #[test]
    fn a_tag_is_known_by_its_text() {
        let accepts = of(&[("if-none-match", "\"a\", W/\"b\"")]);
        assert!(accepts.knows("W/\"a\"") && accepts.knows("W/\"b\""));
        assert!(!accepts.knows("W/\"c\""));
        assert!(!of(&[]).knows("W/\"a\""));
    }
}
