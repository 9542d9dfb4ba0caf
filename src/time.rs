//! The two clocks: event time in milliseconds, and epochs. No wall clock is read here.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};

/// One round of input, closed at all sources together: the logical time of the dataflow.
pub type Epoch = u64;

/// An instant of event time: milliseconds since the Unix epoch, negative before it.
///
/// Reads from an integer (milliseconds) or from text `YYYY-MM-DD[ T]HH:MM:SS[.fff][Z|offset]`,
/// where text without an offset is UTC. Only the years 1 to 9999 are accepted, so that window
/// arithmetic cannot overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The first instant accepted: the start of year 1.
    pub const MIN: Timestamp = Timestamp(-62_135_596_800_000);
    /// The last instant accepted: the end of year 9999.
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999);

    /// The instant `duration` later; stays at the largest number instead of overflowing.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis_of(duration)))
    }

    /// The instant `duration` earlier; stays at the smallest number instead of overflowing.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(millis_of(duration)))
    }

    /// Whether this is an instant of the years 1 to 9999.
    pub fn is_valid(self) -> bool {
        (Timestamp::MIN..=Timestamp::MAX).contains(&self)
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Timestamp> {
        parse_text(text.as_bytes())
            .map(Timestamp)
            .filter(|t| t.is_valid())
    }
}

impl fmt::Display for Timestamp {
    /// Writes `2022-01-01T10:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(86_400_000);
        let ms = self.0.rem_euclid(86_400_000);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        if !(0..=9999).contains(&year) {
            // Windows may begin before the first instant that a record may have.
            return write!(
                f,
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
                ms % 1000
            );
        }
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [month, day, hour, minute, second];
        for (at, part) in [5, 8, 11, 14, 17].into_iter().zip(parts) {
            digits(&mut text[at..at + 2], part);
        }
        digits(&mut text[..4], year);
        digits(&mut text[20..23], ms % 1000);
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Writes a number that is not negative with as many digits as there is room for.
fn digits(room: &mut [u8], mut number: i64) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read` with times read as bare integers of any value on this thread: what was written by
/// us is not input, and formats of columns cannot say so by themselves.
pub(crate) fn reading_plain_times<T>(read: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLAIN.set(self.0);
        }
    }
    let _restore = Restore(PLAIN.replace(true));
    read()
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if PLAIN.get() || !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Timestamp);
        }
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl de::Visitor<'_> for TimeVisitor {
    type Value = Timestamp;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time: integer milliseconds or YYYY-MM-DD[ T]HH:MM:SS[.fff][Z|offset]")
    }
    fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Timestamp, E> {
        let time = Timestamp(ms);
        if time.is_valid() {
            Ok(time)
        } else {
            Err(E::custom("time outside the years 1 to 9999"))
        }
    }
    fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Timestamp, E> {
        self.visit_i64(i64::try_from(ms).unwrap_or(i64::MAX))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        // CSV cells arrive as text, integers too.
        if let Ok(ms) = text.parse::<i64>() {
            return self.visit_i64(ms);
        }
        Timestamp::parse(text)
            .ok_or_else(|| E::custom(format_args!("not a time of the years 1 to 9999: '{text}'")))
    }
}

/// A window of event time `[start, end)`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Window {
    /// The first instant inside.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

/// A duration of `n` milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A duration of `n` seconds.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A duration of `n` minutes.
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// A duration of `n` hours.
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// A duration of `n` days of 24 hours.
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// Whole milliseconds of a duration, at most `i64::MAX`.
pub fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads `250ms`, `5s`, `2m`, `1h` or `7d`, as configuration and URLs write durations.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let n: u64 = text[..digits].parse().ok()?;
    let unit_ms: u64 = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    n.checked_mul(unit_ms).map(Duration::from_millis)
}

fn parse_text(text: &[u8]) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.iter().try_fold(0_i64, |n, b| {
            b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'))
        })
    };
    let byte = |at: usize| text.get(at).copied();
    if byte(4)? != b'-' || byte(7)? != b'-' || !matches!(byte(10)?, b' ' | b'T' | b't') {
        return None;
    }
    if byte(13)? != b':' || byte(16)? != b':' {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > month_days || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (ms, rest) = fraction(&text[19..])?;
    let offset_minutes = offset(rest)?;
    let days = days_from_civil(year, month, day);
    Some((((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second) * 1000 + ms)
}

/// `.f` to `.fffffffff` as milliseconds, cut; and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    if text.first() != Some(&b'.') {
        return Some((0, text));
    }
    let digits = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&digits) {
        return None;
    }
    let ms = (0..3).fold(0, |ms, i| {
        ms * 10
            + if i < digits {
                i64::from(text[1 + i] - b'0')
            } else {
                0
            }
    });
    Some((ms, &text[1 + digits..]))
}

/// Minutes east of UTC of nothing, `Z`, `+hh:mm`, `+hhmm` or `+hh`.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [] | b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let digit = |b: u8| b.is_ascii_digit().then(|| i64::from(b - b'0'));
    let (h1, h2, m1, m2) = match *rest {
        [h1, h2] => (h1, h2, b'0', b'0'),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (h1, h2, m1, m2),
        _ => return None,
    };
    let (hours, minutes) = (digit(h1)? * 10 + digit(h2)?, digit(m1)? * 10 + digit(m2)?);
    (hours <= 18 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

/// Days since 1970-01-01 of a civil date (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The inverse of [`days_from_civil`]; same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_integers_are_the_same_instant() {
        let ms = 1_641_031_200_000;
        for text in [
            "2022-01-01 10:00:00",
            "2022-01-01T10:00:00Z",
            "2022-01-01T12:00:00.000+02:00",
            "2022-01-01T09:30:00-0030",
        ] {
            assert_eq!(Timestamp::parse(text), Some(Timestamp(ms)), "{text}");
        }
        assert_eq!(Timestamp(ms).to_string(), "2022-01-01T10:00:00.000Z");
        assert_eq!(
            serde_json::from_str::<Timestamp>("1641031200000").ok(),
            Some(Timestamp(ms))
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "2022-02-29 00:00:00",
            "2022-13-01 00:00:00",
            "2022-01-01",
            "2022-01-01 24:00:00",
            "2022-01-01 10:00:00.",
            "2022-01-01 10:00:00+25",
            "0000-01-01 00:00:00",
            "",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        assert!(serde_json::from_str::<Timestamp>("9223372036854775807").is_err());
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        for day in -200_000..200_000 {
            let time = Timestamp(day * 86_400_000 + 123);
            assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        }
    }
}
