//! Which windows there are: one after the other, overlapping, growing, or days and months.

use std::marker::PhantomData;
use std::time::Duration;

use super::catalog::BuildError;
use super::flow::Flow;
use crate::dataflow::calendar::{Calendar, Unit};
use crate::dataflow::panes::Assigner;
use crate::dataflow::windows::WindowShape;
use crate::time::{days, millis_of};

/// Which windows there are, how late an event may come, and how long a window is kept.
#[derive(Clone, Copy, Debug)]
pub struct Windowing<Z = Aligned> {
    kind: Kind,
    offset: Duration,
    allowed: Duration,
    keep: Duration,
    final_only: bool,
    aligned: PhantomData<fn() -> Z>,
}

/// Marks windows aligned to the Unix epoch, which an offset can move.
#[derive(Clone, Copy, Debug)]
pub enum Aligned {}

/// Marks windows aligned to the calendar of a time zone.
#[derive(Clone, Copy, Debug)]
pub enum InZone {}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sliding { size: Duration, slide: Duration },
    Cumulative { size: Duration, step: Duration },
    Calendar { zone: &'static str, unit: Unit },
}

/// The size of sliding windows; [`SlidingSize::every`] says how often one starts.
#[derive(Clone, Copy, Debug)]
pub struct SlidingSize(Duration);

/// The size of cumulative windows; [`CumulativeSize::every`] says how often one ends.
#[derive(Clone, Copy, Debug)]
pub struct CumulativeSize(Duration);

/// Windows that follow one another: `[n * size, (n + 1) * size)`.
pub fn tumbling(size: Duration) -> Windowing {
    sliding(size).every(size)
}

/// Windows of a size that overlap; complete it with `.every(slide)`.
pub fn sliding(size: Duration) -> SlidingSize {
    SlidingSize(size)
}

/// Windows that begin together and end one after the other, until one has the size: the day so
/// far, hour by hour. Complete it with `.every(step)`.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use waterclock::prelude::*;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # struct Sale { shop: Text, at: Timestamp }
/// # impl Event for Sale {
/// #     const STREAM: &'static str = "sales";
/// #     fn time(&self) -> Timestamp { self.at }
/// # }
/// fn so_far(flow: Flow) -> Table<(Text, Window), u64> {
///     flow.stream::<Sale>()
///         .key_by(|sale| sale.shop.clone())
///         .window(cumulative(minutes(3)).every(minutes(1)))
///         .count()
/// }
/// # let answer = waterclock::testing::batch(Query::new("so_far", "", so_far), &[(
/// #     "sales",
/// #     r#"{"shop":"a","at":0}
/// #        {"shop":"a","at":60000}
/// #        {"shop":"a","at":180000}"#,
/// # )]);
/// # assert_eq!(answer[..3], [
/// #     r#"{"key":["a",{"start":0,"end":60000}],"value":1,"final":true}"#,
/// #     r#"{"key":["a",{"start":0,"end":120000}],"value":2,"final":true}"#,
/// #     r#"{"key":["a",{"start":0,"end":180000}],"value":2,"final":true}"#,
/// # ]);
/// ```
pub fn cumulative(size: Duration) -> CumulativeSize {
    CumulativeSize(size)
}

/// The days of a time zone, by its IANA name: 23 or 25 hours long when clocks change.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use waterclock::prelude::*;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # struct Sale { shop: Text, at: Timestamp }
/// # impl Event for Sale {
/// #     const STREAM: &'static str = "sales";
/// #     fn time(&self) -> Timestamp { self.at }
/// # }
/// fn per_day(flow: Flow) -> Table<(Text, Window), u64> {
///     flow.stream::<Sale>()
///         .key_by(|sale| sale.shop.clone())
///         .window(daily("Europe/Berlin"))
///         .count()
/// }
/// # let answer = waterclock::testing::batch(Query::new("per_day", "", per_day), &[(
/// #     "sales",
/// #     r#"{"shop":"a","at":"2024-03-31T00:00:00+01:00"}
/// #        {"shop":"a","at":"2024-03-31T23:59:59+02:00"}"#,
/// # )]);
/// // Clocks were set forward: 23 hours.
/// # assert_eq!(answer, [
/// #     r#"{"key":["a",{"start":1711839600000,"end":1711922400000}],"value":2,"final":true}"#,
/// # ]);
/// ```
pub fn daily(zone: &'static str) -> Windowing<InZone> {
    let unit = Unit::Day;
    Windowing::new(Kind::Calendar { zone, unit })
}

/// The months of a time zone, by its IANA name.
pub fn monthly(zone: &'static str) -> Windowing<InZone> {
    let unit = Unit::Month;
    Windowing::new(Kind::Calendar { zone, unit })
}

impl SlidingSize {
    /// A window starts at every multiple of `slide`, which need not divide the size.
    pub fn every(self, slide: Duration) -> Windowing {
        let Self(size) = self;
        Windowing::new(Kind::Sliding { size, slide })
    }
}

impl CumulativeSize {
    /// A window ends at every multiple of `step`, which has to divide the size.
    pub fn every(self, step: Duration) -> Windowing {
        let Self(size) = self;
        Windowing::new(Kind::Cumulative { size, step })
    }
}

impl Windowing<Aligned> {
    /// Shifts every window by `offset`.
    #[must_use]
    pub fn offset(self, offset: Duration) -> Self {
        Windowing { offset, ..self }
    }
}

impl<Z> Windowing<Z> {
    fn new(kind: Kind) -> Self {
        Windowing {
            kind,
            offset: Duration::ZERO,
            allowed: Duration::ZERO,
            keep: days(7),
            final_only: false,
            aligned: PhantomData,
        }
    }

    /// Lets a window take events until the watermark has passed its end by `allowed`; it is final
    /// only then.
    #[must_use]
    pub fn allowed_lateness(self, allowed: Duration) -> Self {
        Windowing { allowed, ..self }
    }

    /// Keeps a window's rows until the watermark has passed its end by `retention`; 7 days where
    /// nothing is said. At least the allowed lateness is kept.
    #[must_use]
    pub fn keep(self, retention: Duration) -> Self {
        Windowing {
            keep: retention,
            ..self
        }
    }

    /// Shows a window once it is final, and not before. It is computed once, when it closes:
    /// windows that overlap much cost no more than others.
    #[must_use]
    pub fn final_only(self) -> Self {
        Windowing {
            final_only: true,
            ..self
        }
    }

    pub(super) fn allowed_ms(&self) -> i64 {
        millis_of(self.allowed)
    }

    /// Names the windows' state after what its rows mean: panes of other windows, or accumulators
    /// of another aggregate, must not be read as these.
    pub(super) fn state_name(&self, aggregate: &str) -> String {
        let ms = |d: Duration| d.as_millis();
        let offset = ms(self.offset);
        match self.kind {
            Kind::Sliding { size, slide } => {
                format!("windows-{aggregate}-{}-{}-{offset}", ms(size), ms(slide))
            }
            Kind::Cumulative { size, step } => {
                let (size, step) = (ms(size), ms(step));
                format!("windows-{aggregate}-cumulative-{size}-{step}-{offset}")
            }
            Kind::Calendar { zone, unit } => {
                let zone = zone.replace('/', "_");
                format!("windows-{aggregate}-{unit:?}-{zone}").to_ascii_lowercase()
            }
        }
    }

    pub(super) fn shape(&self, flow: &Flow<'_>) -> WindowShape {
        let is_replay = flow.final_only();
        WindowShape {
            assigner: self.assigner(flow),
            allowed: self.allowed_ms(),
            keep: millis_of(self.keep.max(self.allowed)),
            final_only: self.final_only || is_replay,
            is_replay,
        }
    }

    fn assigner(&self, flow: &Flow<'_>) -> Assigner {
        match self.kind {
            Kind::Sliding { size, slide } => Assigner::new(size, slide, self.offset),
            Kind::Cumulative { size, step } => {
                let is_even = millis_of(step) > 0 && millis_of(size) % millis_of(step) == 0;
                if !is_even {
                    flow.refuse(BuildError::UnevenSteps(flow.query.to_string()));
                }
                Assigner::cumulative(size, step, self.offset)
            }
            Kind::Calendar { zone, unit } => {
                if let Some(calendar) = Calendar::new(zone, unit) {
                    return Assigner::calendar(calendar);
                }
                let query = flow.query.to_string();
                flow.refuse(BuildError::UnknownZone(query, zone.to_owned()));
                Assigner::new(days(1), days(1), Duration::ZERO)
            }
        }
    }
}
