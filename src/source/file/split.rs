//! Finds where records end in the bytes of a file: at line breaks, for CSV those outside quotes.
//!
//! It only divides; what a record means is decided elsewhere. CSV is divided exactly as the `csv`
//! crate reads it, except that a carriage return alone is never a place to cut.

use memchr::{memchr, memchr3, memrchr};

/// Walks over bytes, from the start of a record on, as many calls as it takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Splitter {
    /// One record a line.
    Lines,
    /// Comma-separated values, and where in a record the walk stands.
    Csv(Csv),
}

/// Where in a CSV record a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Csv {
    /// At the start of a field: a quote here opens a quoted one.
    Start,
    /// In a field that began without a quote, or behind the closing quote of one.
    Plain,
    /// Between quotes, where line breaks are text.
    Quoted,
    /// Behind a quote in a quoted field: another quote makes it text, all else ends the quoting.
    Quote,
}

impl Splitter {
    /// Walks over `bytes`; the offset after the last record that ends in them.
    pub fn last_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let Splitter::Csv(state) = self else {
            return memrchr(b'\n', bytes).map(|at| at + 1);
        };
        // Without a quote in sight every line break is an end, found from the back.
        if *state != Csv::Quoted && memchr(b'"', bytes).is_none() {
            if let Some(last) = bytes.last() {
                *state = after_plain(*last);
            }
            return memrchr(b'\n', bytes).map(|at| at + 1);
        }
        let mut last = None;
        let mut at = 0;
        while let Some(end) = state.next_end(bytes, at) {
            last = Some(end);
            at = end;
        }
        last
    }

    /// Walks over `bytes` up to the first end of a record; the offset after it.
    pub fn first_end(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Splitter::Lines => memchr(b'\n', bytes).map(|at| at + 1),
            Splitter::Csv(state) => state.next_end(bytes, 0),
        }
    }
}

fn after_plain(byte: u8) -> Csv {
    if matches!(byte, b',' | b'\n' | b'\r') {
        Csv::Start
    } else {
        Csv::Plain
    }
}

impl Csv {
    /// Walks from `at` to behind the next line break outside quotes, or to the end of `bytes`.
    fn next_end(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        while at < bytes.len() {
            match self {
                Csv::Quoted => {
                    at += memchr(b'"', &bytes[at..])? + 1;
                    *self = Csv::Quote;
                }
                Csv::Start | Csv::Quote if bytes[at] == b'"' => {
                    *self = Csv::Quoted;
                    at += 1;
                }
                Csv::Start | Csv::Plain | Csv::Quote => {
                    let Some(found) = memchr3(b',', b'\n', b'\r', &bytes[at..]) else {
                        *self = Csv::Plain;
                        return None;
                    };
                    *self = Csv::Start;
                    at += found + 1;
                    if bytes[at - 1] == b'\n' {
                        return Some(at);
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends(bytes: &[u8]) -> Vec<usize> {
        let mut splitter = Splitter::Csv(Csv::Start);
        let (mut at, mut all) = (0, Vec::new());
        while let Some(len) = splitter.first_end(&bytes[at..]) {
            at += len;
            all.push(at);
        }
        all
    }

    fn records(bytes: &[u8]) -> Vec<csv::ByteRecord> {
        let mut reader = csv::ReaderBuilder::new();
        let reader = reader.has_headers(false).flexible(true).from_reader(bytes);
        reader.into_byte_records().map(Result::unwrap).collect()
    }

    #[test]
    fn quoted_line_breaks_do_not_end_a_record() {
        assert_eq!(ends(b"a,\"x\ny\",b\nc,\"\"\"\n\",d\n"), [10, 20]);
        assert_eq!(
            ends(b"5\" pipe,b\nc\n"),
            [10, 12],
            "a quote inside a plain field is text"
        );
        assert!(ends(b"\"open\nfor ever\n").is_empty());
    }

    proptest! {
        /// Cutting at any end found and decoding the parts gives what decoding the whole gives.
        #[test]
        fn cuts_agree_with_the_csv_reader(bytes in "[ab,\"\n\r]{0,60}") {
            let bytes = bytes.as_bytes();
            let whole = records(bytes);
            for end in ends(bytes) {
                let mut parts = records(&bytes[..end]);
                parts.extend(records(&bytes[end..]));
                prop_assert_eq!(&parts, &whole, "cut at {}", end);
            }
        }

        /// The walk from the back and the walk in pieces find what the walk from the front finds.
        #[test]
        fn pieces_agree_with_the_whole(bytes in "[ab,\"\n\r]{0,60}", cut in 0_usize..60) {
            let bytes = bytes.as_bytes();
            let cut = cut.min(bytes.len());
            let mut pieces = Splitter::Csv(Csv::Start);
            let first = pieces.last_end(&bytes[..cut]);
            let last = pieces.last_end(&bytes[cut..]).map(|end| end + cut).or(first);
            prop_assert_eq!(last, ends(bytes).last().copied());
            prop_assert_eq!(first, ends(bytes).into_iter().rfind(|end| *end <= cut));
        }
    }
}
