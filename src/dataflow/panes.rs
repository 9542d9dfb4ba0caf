//! Window arithmetic: which windows hold an instant, and which panes make up a window.
//!
//! Windows `[start, start + size)` begin at multiples of the slide since the Unix epoch, plus the
//! offset. A pane is a run of `gcd(size, slide)`: every window is a whole number of panes, and all
//! instants of a pane lie in the same windows, so that events are counted once per pane however
//! many windows overlap.

use std::time::Duration;

use crate::time::{Timestamp, Window, millis_of};

/// How instants are assigned to windows; all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigner {
    size: i64,
    slide: i64,
    offset: i64,
    pane: i64,
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
            size,
            slide,
            offset,
            pane: gcd(size, slide),
        }
    }

    /// The length of a pane in ms.
    pub fn pane_len(&self) -> i64 {
        self.pane
    }

    /// Whether each pane is a window of its own, and each window one pane.
    pub fn is_tumbling(&self) -> bool {
        self.size == self.slide
    }

    /// The start of the pane that holds an instant.
    pub fn pane_of(&self, time: i64) -> i64 {
        floor_to(time, self.pane, self.offset)
    }

    /// The start of the oldest window that holds the pane, and how many windows do.
    pub fn windows_of(&self, pane: i64) -> (i64, u32) {
        let last = floor_to(pane, self.slide, self.offset);
        let first =
            floor_to(pane + self.pane - self.size - 1, self.slide, self.offset) + self.slide;
        let count = if first > last {
            0
        } else {
            (last - first) / self.slide + 1
        };
        (first, u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The start of the window at a place among those of a pane whose oldest starts at `first`.
    pub fn window_at(&self, first: i64, place: u32) -> i64 {
        first + i64::from(place) * self.slide
    }

    /// The place of the window that starts at `start` among those of a pane.
    pub fn place(&self, start: i64, pane: i64) -> u32 {
        let (first, _) = self.windows_of(pane);
        u32::try_from((start - first) / self.slide).unwrap_or(0)
    }

    /// The window that starts at `start`.
    pub fn window(&self, start: i64) -> Window {
        Window {
            start: Timestamp(start),
            end: Timestamp(start + self.size),
        }
    }

    /// How many of the pane's windows, oldest first, are closed: those whose end, less one
    /// millisecond, plus `allowed` is at or before the watermark.
    pub fn closed(&self, first: i64, count: u32, watermark: i64, allowed: i64) -> u32 {
        // The end of all input closes every window, however long it would have waited.
        if watermark == i64::MAX {
            return count;
        }
        let oldest_closes = closes_at(first + self.size, allowed);
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
    fn five_minutes_by_two_share_panes_of_one() {
        let assigner = Assigner::new(minutes(5), minutes(2), minutes(0));
        assert_eq!(assigner.pane_len(), 60_000);
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
