//! Window arithmetic: which windows hold an instant, and which panes make up a window.
//!
//! Windows `[start, start + size)` begin at multiples of the slide since the Unix epoch, plus the
//! offset. A pane is a run of `gcd(size, slide)`: every window is a whole number of panes, and all
//! instants of a pane lie in the same windows, so that events are counted once per pane however
//! many windows overlap.
//!
//! Cumulative windows begin at multiples of the size, and one ends with every step: panes are
//! steps. Days and months of a time zone are windows that are panes, of uneven lengths.

use std::time::Duration;

use super::calendar::Calendar;
use crate::time::{Timestamp, Window, millis_of};

/// How instants are assigned to windows; all in milliseconds.
///
/// A window is known by its start; a cumulative one by its end, since some begin together. Either
/// way those that end later have the greater number.
#[derive(Clone, Copy, Debug)]
pub struct Assigner {
    kind: Kind,
    size: i64,
    slide: i64,
    offset: i64,
    pane: i64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sliding,
    Cumulative,
    Calendar(Calendar),
}

impl Assigner {
    /// Windows of `size`, one every `slide`, shifted by `offset`. Durations below a millisecond
    /// count as one millisecond.
    pub fn new(size: Duration, slide: Duration, offset: Duration) -> Assigner {
        // A century bounds the sizes, so that no sum of instants and sizes leaves an i64.
        let bounded = |d: Duration| millis_of(d).clamp(1, 100 * 366 * 86_400_000);
        let (size, slide) = (bounded(size), bounded(slide));
        let offset = millis_of(offset).rem_euclid(slide);
        Assigner {
            kind: Kind::Sliding,
            size,
            slide,
            offset,
            pane: gcd(size, slide),
        }
    }

    /// Windows that grow by `step` until they have `size`, a multiple of it; then they begin anew.
    pub fn cumulative(size: Duration, step: Duration, offset: Duration) -> Assigner {
        let steps = Assigner::new(size, step, Duration::ZERO);
        if steps.is_tumbling() {
            return Assigner::new(size, step, offset);
        }
        Assigner {
            kind: Kind::Cumulative,
            offset: millis_of(offset).rem_euclid(steps.size),
            pane: steps.slide,
            ..steps
        }
    }

    /// The days or months of a time zone.
    pub fn calendar(calendar: Calendar) -> Assigner {
        let days = Assigner::new(crate::time::days(1), crate::time::days(1), Duration::ZERO);
        Assigner {
            kind: Kind::Calendar(calendar),
            ..days
        }
    }

    /// Whether each pane is a window of its own, and each window one pane.
    pub fn is_tumbling(&self) -> bool {
        self.size == self.slide
    }

    /// The start of the pane that holds an instant.
    pub fn pane_of(&self, time: i64) -> i64 {
        match self.kind {
            Kind::Calendar(calendar) => calendar.start(time),
            _ => floor_to(time, self.pane, self.offset),
        }
    }

    /// The end of a pane.
    pub fn pane_end(&self, pane: i64) -> i64 {
        match self.kind {
            Kind::Calendar(calendar) => calendar.end(pane),
            _ => pane + self.pane,
        }
    }

    /// The oldest window that holds the pane, and how many windows do.
    pub fn windows_of(&self, pane: i64) -> (i64, u32) {
        let (first, last) = match self.kind {
            Kind::Calendar(_) => return (pane, 1),
            Kind::Cumulative => {
                let end = floor_to(pane, self.size, self.offset) + self.size;
                (pane + self.pane, end)
            }
            Kind::Sliding => {
                let before = pane + self.pane - self.size - 1;
                let first = floor_to(before, self.slide, self.offset) + self.slide;
                (first, floor_to(pane, self.slide, self.offset))
            }
        };
        let count = if first > last {
            0
        } else {
            (last - first) / self.slide + 1
        };
        (first, u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// How many windows end within a span of so many ms, and how many are open beside them.
    pub fn windows_in(&self, span: i64) -> i64 {
        (span.saturating_add(self.size) / self.slide).saturating_add(1)
    }

    /// The window at a place among those of a pane whose oldest is `first`.
    pub fn window_at(&self, first: i64, place: u32) -> i64 {
        first + i64::from(place) * self.slide
    }

    /// The place of a window among those of a pane.
    pub fn place(&self, window: i64, pane: i64) -> u32 {
        let (first, _) = self.windows_of(pane);
        u32::try_from((window - first) / self.slide).unwrap_or(0)
    }

    /// A window by its number.
    pub fn window(&self, number: i64) -> Window {
        let (start, end) = match self.kind {
            Kind::Sliding => (number, number + self.size),
            Kind::Cumulative => (floor_to(number - 1, self.size, self.offset), number),
            Kind::Calendar(calendar) => (number, calendar.end(number)),
        };
        Window {
            start: Timestamp(start),
            end: Timestamp(end),
        }
    }

    /// How many of the pane's windows, oldest first, are closed: those whose end, less one
    /// millisecond, plus `allowed` is at or before the watermark.
    pub fn closed(&self, first: i64, count: u32, watermark: i64, allowed: i64) -> u32 {
        // The end of all input closes every window, however long it would have waited.
        if watermark == i64::MAX {
            return count;
        }
        let oldest_closes = closes_at(self.window(first).end.0, allowed);
        if watermark < oldest_closes {
            return 0;
        }
        let past = (watermark.saturating_sub(oldest_closes)) / self.slide + 1;
        u32::try_from(past).unwrap_or(u32::MAX).min(count)
    }
}

/// The watermark from which a window that ends at `end` is final.
pub fn closes_at(end: i64, allowed: i64) -> i64 {
    end.saturating_sub(1).saturating_add(allowed)
}

fn floor_to(time: i64, unit: i64, offset: i64) -> i64 {
    (time - offset).div_euclid(unit) * unit + offset
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{millis, minutes};

    /// Every window that holds `time`, by trying all starts.
    fn brute_force(size: i64, slide: i64, offset: i64, time: i64) -> Vec<i64> {
        (time - size - slide..=time + slide)
            .filter(|start| (start - offset).rem_euclid(slide) == 0)
            .filter(|start| (*start..start + size).contains(&time))
            .collect()
    }

    fn by_panes(assigner: &Assigner, time: i64) -> Vec<i64> {
        let (first, count) = assigner.windows_of(assigner.pane_of(time));
        (0..count)
            .map(|place| assigner.window_at(first, place))
            .collect()
    }

    #[test]
    fn every_instant_finds_its_windows() {
        let shapes = [
            (300, 120),
            (1600, 700),
            (10, 10),
            (7, 3),
            (3, 7),
            (12, 1),
            (1, 1),
            (60, 25),
        ];
        for (size, slide) in shapes {
            for offset in [0, 1, 5, slide - 1] {
                let assigner = Assigner::new(millis(size), millis(slide), millis(offset));
                let signed = u64::cast_signed;
                let (size, slide, offset) = (signed(size), signed(slide), signed(offset));
                for time in -3 * size - 50..3 * size + 50 {
                    let expected = brute_force(size, slide, offset, time);
                    assert_eq!(
                        by_panes(&assigner, time),
                        expected,
                        "{size} by {slide} at {time}"
                    );
                }
            }
        }
    }

    #[test]
    fn closed_windows_are_counted_oldest_first() {
        for (size, slide) in [(300, 120), (1600, 700), (7, 3), (10, 10)] {
            let assigner = Assigner::new(millis(size), millis(slide), millis(0));
            for time in [-1000, -1, 0, 1, 555] {
                let (first, count) = assigner.windows_of(assigner.pane_of(time));
                for watermark in time - 100..time + 2 * size.cast_signed() + 100 {
                    for allowed in [0, 1, 50] {
                        let expected = (0..count)
                            .map(|place| assigner.window_at(first, place) + size.cast_signed())
                            .filter(|end| watermark >= end - 1 + allowed)
                            .count();
                        let closed = assigner.closed(first, count, watermark, allowed);
                        assert_eq!(closed as usize, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn cumulative_windows_grow_until_they_begin_anew() {
        for (size, step, offset) in [(12, 3, 0), (12, 3, 5), (10, 5, 1), (8, 1, 0)] {
            let assigner = Assigner::cumulative(millis(size), millis(step), millis(offset));
            let signed = u64::cast_signed;
            let (size, step, offset) = (signed(size), signed(step), signed(offset));
            for time in -40..40 {
                let base = (time - offset).div_euclid(size) * size + offset;
                let ends = (1..=size / step).map(|n| base + n * step);
                let expected: Vec<_> = ends.filter(|end| time < *end).collect();
                let found = by_panes(&assigner, time);
                assert_eq!(found, expected, "{size} by {step} at {time}");
                for (place, end) in found.into_iter().enumerate() {
                    let window = assigner.window(end);
                    assert_eq!((window.start.0, window.end.0), (base, end));
                    let pane = assigner.pane_of(time);
                    assert_eq!(assigner.place(end, pane) as usize, place);
                    let (first, count) = assigner.windows_of(pane);
                    assert_eq!(
                        assigner.closed(first, count, end - 1, 0) as usize,
                        place + 1
                    );
                    assert_eq!(assigner.closed(first, count, end - 2, 0) as usize, place);
                }
            }
        }
    }

    #[test]
    fn five_minutes_by_two_share_panes_of_one() {
        let assigner = Assigner::new(minutes(5), minutes(2), minutes(0));
        assert_eq!(assigner.pane_end(0), 60_000);
        // 10:00 lies in the windows that start at 09:56, 09:58 and 10:00.
        let ten = 1_641_031_200_000;
        assert_eq!(
            by_panes(&assigner, ten),
            [ten - 240_000, ten - 120_000, ten]
        );
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let assigner = Assigner::new(minutes(5), minutes(2), minutes(1));
        for time in [Timestamp::MIN.0, Timestamp::MAX.0] {
            assert!(!by_panes(&assigner, time).is_empty());
        }
        assert_eq!(assigner.closed(0, 3, i64::MAX, i64::MAX), 3);
        assert_eq!(assigner.closed(0, 3, i64::MIN, 0), 0);
    }
}
