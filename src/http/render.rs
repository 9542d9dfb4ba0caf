//! The bytes of rows, piece by piece: a large answer is never whole in memory, and is written and
//! compressed off the threads that serve other requests.

use std::collections::VecDeque;
use std::io;

use super::accept::{Coding, Format};
use super::arrow::Batches;
use super::coding::Coder;
use super::flat::{Cell, Column, cells, columns};
use crate::row::Row;
use crate::view::QuerySpec;

/// About how many bytes a piece has before it is compressed.
pub(super) const PIECE: usize = 64 << 10;

/// A row as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) row: Row,
    /// How often.
    pub(super) times: u64,
    pub(super) mark: Mark,
}

/// What is said of a row besides its key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing: it is never final.
    None,
    /// Whether it is final.
    Final(bool),
    /// It came.
    Added,
    /// It went.
    Removed,
    /// It went because its time was up.
    Expired,
}

impl Mark {
    pub(super) fn op(self) -> Option<&'static str> {
        match self {
            Mark::Added => Some("+"),
            Mark::Removed | Mark::Expired => Some("-"),
            Mark::None | Mark::Final(_) => None,
        }
    }
}

/// What the rows of an answer have in common besides key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Besides {
    /// Nothing.
    Nothing,
    /// Whether they are final.
    Final,
    /// What became of them.
    Op,
}

/// Rows between what stands before and after them.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) head: Vec<u8>,
    pub(super) rows: Vec<Shown>,
    pub(super) tail: Vec<u8>,
}

/// How a row is written.
enum Form {
    Json,
    Ndjson,
    Csv(Vec<Column>),
    Arrow(Box<Batches>),
}

/// An answer that is still to be written.
pub(super) struct Rendering {
    form: Form,
    parts: VecDeque<Part>,
    /// How many rows of the first part are written; `None` before its head is.
    done: Option<usize>,
    coder: Coder,
}

impl Rendering {
    /// An object with rows in it, or several.
    pub(super) fn json(parts: impl IntoIterator<Item = Part>) -> Rendering {
        Rendering {
            form: Form::Json,
            parts: parts.into_iter().collect(),
            done: None,
            coder: Coder::default(),
        }
    }

    /// Rows alone; their labels are elsewhere.
    pub(super) fn rows(
        format: Format,
        spec: &QuerySpec,
        besides: Besides,
        rows: Vec<Shown>,
    ) -> io::Result<Rendering> {
        let mut part = Part {
            rows,
            ..Part::default()
        };
        let form = match format {
            Format::Json => Form::Json,
            Format::Ndjson => Form::Ndjson,
            Format::Csv => {
                let columns = columns(spec);
                header(&mut part.head, &columns, besides);
                Form::Csv(columns)
            }
            Format::Arrow => Form::Arrow(Box::new(Batches::new(columns(spec), besides)?)),
        };
        Ok(Rendering {
            form,
            parts: VecDeque::from([part]),
            done: None,
            coder: Coder::default(),
        })
    }

    /// The same, compressed.
    pub(super) fn coded(self, coding: Coding) -> io::Result<Rendering> {
        Ok(Rendering {
            coder: Coder::new(coding)?,
            ..self
        })
    }

    /// About how many bytes there are to write.
    pub(super) fn size(&self) -> usize {
        let row = |shown: &Shown| {
            let once = shown.row.key().len() + shown.row.value().len() + 40;
            once.saturating_mul(usize::try_from(shown.times).unwrap_or(usize::MAX))
        };
        let part = |part: &Part| {
            part.head.len() + part.tail.len() + part.rows.iter().map(row).sum::<usize>()
        };
        self.parts.iter().map(part).sum()
    }

    /// Everything at once: for small answers.
    pub(super) fn whole(mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::with_capacity(self.size() + 256);
        while !self.parts.is_empty() {
            self.write(&mut all, usize::MAX)?;
        }
        let mut coded = self.coder.code(all)?;
        coded.append(&mut self.coder.end()?.unwrap_or_default());
        Ok(coded)
    }

    /// The next piece; `None` at the end. No piece is empty.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut plain = Vec::new();
            while plain.len() < PIECE && !self.parts.is_empty() {
                self.write(&mut plain, PIECE)?;
            }
            let is_end = plain.is_empty();
            let piece = if is_end {
                match self.coder.end()? {
                    Some(rest) => rest,
                    None => return Ok(None),
                }
            } else {
                self.coder.code(plain)?
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// Writes the head of the first part, rows of it until there are `enough` bytes, or its tail.
    fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> io::Result<()> {
        let Some(part) = self.parts.front_mut() else {
            return Ok(());
        };
        let Some(done) = self.done else {
            out.append(&mut part.head);
            if let Form::Arrow(batches) = &mut self.form {
                out.append(&mut batches.begun());
            }
            self.done = Some(0);
            return Ok(());
        };
        if done == part.rows.len() {
            if let Form::Arrow(batches) = &mut self.form {
                out.append(&mut batches.end()?);
            }
            out.append(&mut part.tail);
            self.parts.pop_front();
            self.done = None;
            return Ok(());
        }
        let mut now = done;
        while let Some(shown) = part.rows.get(now)
            && out.len() < enough
        {
            match &mut self.form {
                Form::Json => json(out, shown, now > 0, b""),
                Form::Ndjson => json(out, shown, false, b"\n"),
                Form::Csv(columns) => csv(out, shown, columns),
                Form::Arrow(batches) => out.append(&mut batches.add(shown)?),
            }
            now += 1;
        }
        self.done = Some(now);
        Ok(())
    }
}

/// A row as JSON, as often as it occurs.
fn json(out: &mut Vec<u8>, shown: &Shown, with_comma: bool, end: &[u8]) {
    for time in 0..shown.times {
        if end.is_empty() && (with_comma || time > 0) {
            out.push(b',');
        }
        out.push(b'{');
        if let Some(op) = shown.mark.op() {
            out.extend_from_slice(b"\"op\":\"");
            out.extend_from_slice(op.as_bytes());
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(b"\"key\":");
        out.extend_from_slice(shown.row.key().as_bytes());
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(shown.row.value().as_bytes());
        match shown.mark {
            Mark::Final(true) => out.extend_from_slice(b",\"final\":true"),
            Mark::Final(false) => out.extend_from_slice(b",\"final\":false"),
            Mark::Expired => out.extend_from_slice(b",\"expired\":true"),
            _ => {}
        }
        out.push(b'}');
        out.extend_from_slice(end);
    }
}

/// The first line of a CSV.
fn header(out: &mut Vec<u8>, columns: &[Column], besides: Besides) {
    let names = columns.iter().map(|column| Some(column.name.clone()));
    let before = (besides == Besides::Op).then(|| Some("op".to_owned()));
    let after = (besides == Besides::Final).then(|| Some("final".to_owned()));
    line(out, before.into_iter().chain(names).chain(after));
}

/// A row as lines of CSV.
fn csv(out: &mut Vec<u8>, shown: &Shown, columns: &[Column]) {
    let op = shown.mark.op().map(|op| Some(op.to_owned()));
    let is_final = match shown.mark {
        Mark::Final(is_final) => Some(Some(is_final.to_string())),
        _ => None,
    };
    let cells = cells(&shown.row, columns);
    for _ in 0..shown.times {
        let cells = op.iter().chain(&cells).chain(&is_final).cloned();
        line(out, cells);
    }
}

/// A line of RFC 4180. Nothing stands for null, and quotes for a text without letters.
fn line(out: &mut Vec<u8>, cells: impl Iterator<Item = Cell>) {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let Some(cell) = cell else { continue };
        let is_plain = !cell.is_empty() && !cell.contains(['"', ',', '\r', '\n']);
        if is_plain {
            out.extend_from_slice(cell.as_bytes());
        } else {
            out.push(b'"');
            out.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
            out.push(b'"');
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> QuerySpec {
        let text = json!({"type": "string"});
        QuerySpec {
            key_schema: json!({"type": "array", "prefixItems": [text, {"type": "integer"}]}),
            value_schema: json!({"anyOf": [text, {"type": "null"}]}),
            ..QuerySpec::default()
        }
    }

    fn shown(key: (&str, i64), value: Option<&str>, times: u64, mark: Mark) -> Shown {
        let row = Row::new(&key, &value, None).unwrap();
        Shown { row, times, mark }
    }

    fn text(format: Format, besides: Besides, rows: Vec<Shown>) -> String {
        let rendering = Rendering::rows(format, &spec(), besides, rows).unwrap();
        String::from_utf8(rendering.whole().unwrap()).unwrap()
    }

    #[test]
    fn rows_are_lines_of_json_or_csv() {
        let rows = vec![
            shown(("a", 1), Some("x,\"y\""), 2, Mark::Final(true)),
            shown(("b", -1), None, 1, Mark::Final(false)),
            shown(("", 0), Some(""), 1, Mark::Final(false)),
        ];
        assert_eq!(
            text(Format::Ndjson, Besides::Final, rows.clone()),
            "{\"key\":[\"a\",1],\"value\":\"x,\\\"y\\\"\",\"final\":true}\n".repeat(2)
                + "{\"key\":[\"b\",-1],\"value\":null,\"final\":false}\n"
                + "{\"key\":[\"\",0],\"value\":\"\",\"final\":false}\n"
        );
        assert_eq!(
            text(Format::Csv, Besides::Final, rows),
            "key.0,key.1,value,final\r\n".to_owned()
                + &"a,1,\"x,\"\"y\"\"\",true\r\n".repeat(2)
                + "b,-1,,false\r\n\"\",0,\"\",false\r\n"
        );
        let changes = vec![shown(("a", 1), None, 1, Mark::Removed)];
        let csv = text(Format::Csv, Besides::Op, changes);
        assert_eq!(csv, "op,key.0,key.1,value\r\n-,a,1,\r\n");
        assert_eq!(text(Format::Ndjson, Besides::Nothing, Vec::new()), "");
    }

    #[test]
    fn parts_follow_one_another() {
        let part = |head: &str, rows, tail: &str| Part {
            head: head.into(),
            rows,
            tail: tail.into(),
        };
        let rows = vec![
            shown(("a", 1), None, 2, Mark::Added),
            shown(("a", 2), None, 1, Mark::None),
        ];
        let rendering = Rendering::json([part("[", rows, "]"), part("<", vec![], ">")]);
        assert_eq!(
            String::from_utf8(rendering.whole().unwrap()).unwrap(),
            "[".to_owned()
                + &"{\"op\":\"+\",\"key\":[\"a\",1],\"value\":null},".repeat(2)
                + "{\"key\":[\"a\",2],\"value\":null}]<>"
        );
    }

    #[test]
    fn a_large_answer_comes_in_bounded_pieces() {
        let long = "x".repeat(1000);
        let rows: Vec<_> = (0..1000)
            .map(|n| shown(("a", n), Some(&long), 1, Mark::None))
            .collect();
        let whole = text(Format::Ndjson, Besides::Nothing, rows.clone());
        for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
            let rows = rows.clone();
            let rendering = Rendering::rows(Format::Ndjson, &spec(), Besides::Nothing, rows);
            let mut rendering = rendering.unwrap().coded(coding).unwrap();
            let mut pieces = Vec::new();
            while let Some(piece) = rendering.next().unwrap() {
                assert!(!piece.is_empty() && piece.len() < PIECE + 2000);
                pieces.push(piece);
            }
            let bytes = super::super::coding::decoded(coding, &pieces.concat());
            assert!(bytes == whole.as_bytes(), "{coding:?}");
        }
    }
}
