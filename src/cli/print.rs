//! Aligned tables of JSON values, safe to write to a terminal whatever the values hold.

use std::io::{self, Write};

use serde_json::Value;

use crate::time::Timestamp;

/// What a cell without a value shows.
pub const ABSENT: &str = "-";

/// Rows of text under headings, written with columns aligned.
pub struct Grid {
    headings: Vec<String>,
    /// Columns whose cells stand at the right: numbers.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// An empty table; a heading that begins with `>` has its cells at the right. Without any
    /// heading there is no line of them.
    pub fn new(headings: &[&str]) -> Grid {
        Grid {
            headings: headings
                .iter()
                .map(|h| h.trim_start_matches('>').to_owned())
                .collect(),
            right: headings.iter().map(|h| h.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells at its end stay empty.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes headings and rows, two spaces between columns.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let headings = Some(&self.headings).filter(|headings| !headings.is_empty());
        let all = || headings.into_iter().chain(&self.rows);
        let width = |column: usize| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let columns = all().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let sides = self.right.iter().chain(std::iter::repeat(&false));
        for row in all() {
            let cells = row.iter().zip(&widths).zip(sides.clone());
            let cells = cells.map(|((cell, &width), &right)| {
                if right {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A value as a person reads it: text without quotes, a window as an interval of times.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => ABSENT.to_owned(),
        Value::String(text) => harmless(text),
        Value::Object(fields) => match (fields.get("start"), fields.get("end")) {
            (Some(start), Some(end)) if fields.len() == 2 => {
                format!("[{}, {})", instant(start), instant(end))
            }
            _ => harmless(&value.to_string()),
        },
        other => harmless(&other.to_string()),
    }
}

/// The parts of a key, or the fields of a value, as cells.
pub fn cells(value: &Value) -> Vec<String> {
    match value {
        Value::Array(parts) if !parts.is_empty() => parts.iter().map(plain).collect(),
        other => vec![plain(other)],
    }
}

/// Milliseconds of event time as a date; whole seconds without a fraction.
pub fn instant(ms: &Value) -> String {
    match ms.as_i64() {
        Some(ms) => date(Some(ms)),
        None => plain_scalar(ms),
    }
}

/// The same where it is known to be a number.
pub fn date(ms: Option<i64>) -> String {
    match ms.map(Timestamp) {
        Some(time) if time.is_valid() => time.to_string().replace(".000Z", "Z"),
        Some(Timestamp(ms)) => ms.to_string(),
        None => ABSENT.to_owned(),
    }
}

fn plain_scalar(value: &Value) -> String {
    if value.is_null() {
        ABSENT.to_owned()
    } else {
        harmless(&value.to_string())
    }
}

/// Milliseconds as the time a person would say.
pub fn span(ms: i64) -> String {
    match ms {
        ..0 => ABSENT.to_owned(),
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// Text whose control characters are spelled out: rows hold what strangers posted, and a terminal
/// obeys escape sequences.
pub fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        // Marks that turn the direction of writing can make one row look like another.
        let turns = matches!(
            c,
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        if c.is_control() || turns {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_at_the_right() {
        let mut grid = Grid::new(&["KEY", ">VALUE", "FINAL"]);
        grid.row(vec!["u1".to_owned(), "7".to_owned(), "yes".to_owned()]);
        grid.row(vec![
            "user-22".to_owned(),
            "1234567".to_owned(),
            String::new(),
        ]);
        let mut out = Vec::new();
        grid.write(&mut out).unwrap();
        let expected = "KEY        VALUE  FINAL\nu1             7  yes\nuser-22  1234567\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn values_read_as_a_person_would_write_them() {
        let window = json!({"start": 1_641_031_200_000_i64, "end": 1_641_031_500_500_i64});
        assert_eq!(
            plain(&window),
            "[2022-01-01T10:00:00Z, 2022-01-01T10:05:00.500Z)"
        );
        assert_eq!(plain(&json!("a b")), "a b");
        assert_eq!(plain(&json!({"a": [1]})), "{\"a\":[1]}");
        assert_eq!(cells(&json!(["u1", 3])), ["u1", "3"]);
        assert_eq!(cells(&json!("u1")), ["u1"]);
        assert_eq!(instant(&json!(null)), ABSENT);
        assert_eq!(instant(&json!(i64::MAX)), i64::MAX.to_string());
    }

    #[test]
    fn spans_are_short() {
        for (ms, text) in [
            (-1, "-"),
            (999, "999 ms"),
            (1250, "1.2 s"),
            (119_999, "119.9 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn a_row_cannot_steer_the_terminal() {
        assert_eq!(
            plain(&json!("\u{1b}[2J\n\u{202e}x")),
            "\\u{1b}[2J\\n\\u{202e}x"
        );
    }
}
