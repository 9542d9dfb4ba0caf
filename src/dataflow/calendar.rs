//! Days and months of a time zone. The database of time zones is part of the binary, so that an
//! answer does not depend on the machine.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The days or months of a time zone.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    zone: &'static TimeZone,
    unit: Unit,
}

/// How long a window of a calendar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// From midnight, or the first instant after it, to the next.
    Day,
    /// From the first of a month to the next.
    Month,
}

/// The zones in use, each made once: there are as many as queries name.
static ZONES: OnceLock<Mutex<BTreeMap<String, &'static TimeZone>>> = OnceLock::new();

impl Calendar {
    /// The calendar of a zone by its IANA name; none if there is no such zone.
    pub fn new(zone: &str, unit: Unit) -> Option<Calendar> {
        let zones = ZONES.get_or_init(Mutex::default);
        let mut zones = zones.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = zones.get(zone) {
            return Some(Calendar { zone, unit });
        }
        let found: &'static TimeZone =
            Box::leak(Box::new(TimeZoneDatabase::bundled().get(zone).ok()?));
        zones.insert(zone.to_owned(), found);
        Some(Calendar { zone: found, unit })
    }

    /// The start of the day or month that holds an instant, in ms.
    pub fn start(&self, time: i64) -> i64 {
        let date = self.date(time);
        self.instant(self.first(date)).unwrap_or(time)
    }

    /// The end of the day or month that holds an instant, in ms.
    pub fn end(&self, time: i64) -> i64 {
        let date = self.date(time);
        let first = self.first(date);
        let next = match self.unit {
            Unit::Day => first.tomorrow(),
            Unit::Month => first.last_of_month().tomorrow(),
        };
        // The calendar ends with the year 9999: so do its last day and month.
        let end = next.ok().and_then(|next| self.instant(next));
        end.unwrap_or(crate::time::Timestamp::MAX.0 + 1)
    }

    fn first(&self, date: Date) -> Date {
        match self.unit {
            Unit::Day => date,
            Unit::Month => date.first_of_month(),
        }
    }

    fn date(&self, time: i64) -> Date {
        let instant = jiff::Timestamp::from_millisecond(time).unwrap_or(if time < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        self.zone.to_datetime(instant).date()
    }

    /// The first instant of a date.
    fn instant(&self, date: Date) -> Option<i64> {
        let start = date.to_zoned(self.zone.clone()).ok()?.start_of_day().ok()?;
        Some(start.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    const HOUR: i64 = 3_600_000;

    fn at(text: &str) -> i64 {
        Timestamp::parse(text).expect("a time").0
    }

    #[test]
    fn days_are_as_long_as_clocks_say() {
        let berlin = Calendar::new("Europe/Berlin", Unit::Day).expect("a zone");
        let lengths = |days: [&str; 3]| {
            days.map(|noon| (berlin.end(at(noon)) - berlin.start(at(noon))) / HOUR)
        };
        let spring = [
            "2024-03-30 12:00:00",
            "2024-03-31 12:00:00",
            "2024-04-01 12:00:00",
        ];
        assert_eq!(lengths(spring), [24, 23, 24]);
        let autumn = [
            "2024-10-26 12:00:00",
            "2024-10-27 12:00:00",
            "2024-10-28 12:00:00",
        ];
        assert_eq!(lengths(autumn), [24, 25, 24]);
        assert_eq!(berlin.start(at(spring[0])), at("2024-03-30T00:00:00+01:00"));
        // Where clocks skip midnight, the day begins at one.
        let beirut = Calendar::new("Asia/Beirut", Unit::Day).expect("a zone");
        let start = beirut.start(at("2022-03-27 12:00:00"));
        assert_eq!(start, at("2022-03-27T01:00:00+03:00"));
    }

    #[test]
    fn windows_follow_one_another_without_gaps() {
        for zone in [
            "Europe/Berlin",
            "America/New_York",
            "Asia/Beirut",
            "Pacific/Apia",
            "UTC",
        ] {
            for unit in [Unit::Day, Unit::Month] {
                let calendar = Calendar::new(zone, unit).expect("a zone");
                let mut start = calendar.start(at("2011-12-01 00:00:00"));
                for _ in 0..400 {
                    let end = calendar.end(start);
                    assert!(end > start, "{zone} at {start}");
                    for inside in [start, start + 1, end - 1] {
                        assert_eq!(calendar.start(inside), start, "{zone} at {inside}");
                        assert_eq!(calendar.end(inside), end, "{zone} at {inside}");
                    }
                    start = end;
                }
            }
        }
    }

    #[test]
    fn the_ends_of_time_are_in_a_window() {
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
            for unit in [Unit::Day, Unit::Month] {
                let calendar = Calendar::new(zone, unit).expect("a zone");
                for time in [Timestamp::MIN.0, Timestamp::MAX.0] {
                    let (start, end) = (calendar.start(time), calendar.end(time));
                    assert!((start..end).contains(&time), "{zone}: {start}..{end}");
                    assert_eq!(calendar.end(start), end, "{zone}");
                }
            }
        }
        assert!(Calendar::new("Europe/Atlantis", Unit::Day).is_none());
    }
}
