//! Sessions: windows that last as long as records keep coming.

use std::rc::Rc;
use std::time::Duration;

use differential_dataflow::AsCollection;
use differential_dataflow::hashable::Hashable;
use timely::dataflow::channels::pact::Exchange;

use super::Table;
use super::failing::Failing;
use super::latest::unbatched;
use super::stream::{Keyed, transform};
use super::windowed::{WindowKind, Windowed};
use crate::dataflow::aggregate::Aggregate;
use crate::dataflow::clock::Clock;
use crate::dataflow::decode::guard;
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::retire::{retire, stamped};
use crate::dataflow::sessions::{Arriving, Saved, SessionShape, Sessions};
use crate::dataflow::several::distinct;
use crate::dataflow::windows::{final_at, text_of};
use crate::time::{Window, days, millis_of};

/// How long a session waits for another record, how late one may come, and how long it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    gap: Duration,
    allowed: Duration,
    keep: Duration,
    final_only: bool,
}

/// Sessions per key: `[first, last + gap)`, as long as no two records are further apart than
/// `gap`. Records exactly `gap` apart are in one session, unless it is over when the second comes.
///
/// A record may bring two sessions together; their rows go, and one comes. Once a session is final
/// it stays as it is.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use waterclock::prelude::*;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # struct Click { user: Text, at: Timestamp }
/// # impl Event for Click {
/// #     const STREAM: &'static str = "clicks";
/// #     fn time(&self) -> Timestamp { self.at }
/// # }
/// fn visits(flow: Flow) -> Table<(Text, Window), u64> {
///     flow.stream::<Click>()
///         .key_by(|click| click.user.clone())
///         .window(session(seconds(2)))
///         .count()
/// }
/// # let answer = waterclock::testing::batch(Query::new("visits", "", visits), &[(
/// #     "clicks",
/// #     r#"{"user":"u","at":0}
/// #        {"user":"u","at":3000}
/// #        {"user":"u","at":1500}
/// #        {"user":"u","at":5001}"#,
/// # )]);
/// # assert_eq!(answer, [
/// #     r#"{"key":["u",{"start":0,"end":5000}],"value":3,"final":true}"#,
/// #     r#"{"key":["u",{"start":5001,"end":7001}],"value":1,"final":true}"#,
/// # ]);
/// ```
pub fn session(gap: Duration) -> Session {
    Session {
        gap,
        allowed: Duration::ZERO,
        keep: days(7),
        final_only: false,
    }
}

impl Session {
    /// Lets a session take records until the watermark has passed its end by `allowed`; it is
    /// final only then.
    #[must_use]
    pub fn allowed_lateness(self, allowed: Duration) -> Session {
        Session { allowed, ..self }
    }

    /// Keeps a session's row until the watermark has passed its end by `retention`; 7 days where
    /// nothing is said. At least the allowed lateness is kept.
    #[must_use]
    pub fn keep(self, retention: Duration) -> Session {
        Session {
            keep: retention,
            ..self
        }
    }

    /// Shows a session once it is final, and not before.
    #[must_use]
    pub fn final_only(self) -> Session {
        Session {
            final_only: true,
            ..self
        }
    }

    fn shape(self, is_replay: bool) -> SessionShape {
        // A century bounds the gap, so that no sum of instants and gaps leaves an i64.
        let gap = millis_of(self.gap).clamp(1, 100 * 366 * 86_400_000);
        SessionShape {
            gap,
            allowed: millis_of(self.allowed),
            keep: millis_of(self.keep.max(self.allowed)),
            final_only: self.final_only || is_replay,
            is_replay,
        }
    }
}

impl super::windowed::Sealed for Session {}

impl WindowKind for Session {
    type Pane = Window;

    fn aggregate<'s, K, T, A>(
        self,
        keyed: Keyed<'s, K, T>,
        aggregate: A,
    ) -> Table<'s, (K, Window), A::Out>
    where
        K: Arrangeable,
        T: Clone + serde::Serialize + 'static,
        A: Aggregate<T>,
        A::Out: Arrangeable,
    {
        let Keyed { stream, key } = keyed;
        let flow = stream.flow;
        let shape = self.shape(flow.final_only());
        let aggregate = Rc::new(aggregate);
        let (taking, lines) = (Rc::clone(&aggregate), flow.lines());
        let arriving = transform(&flow, stream.batches, "Arriving", move |record, out| {
            let (key, acc) = guard(|| (key(&record.data), taking.one(&record.data)))?;
            let may_be_late = shape.is_late(record.time, record.watermark);
            out.push(Arriving {
                key,
                place: (
                    record.stream,
                    record.partition,
                    record.position,
                    record.part,
                ),
                time: record.time,
                watermark: record.watermark,
                acc,
                raw: may_be_late.then(|| text_of(record, &lines)),
            });
            Ok(())
        });
        let gap = shape.gap;
        let name = format!("sessions-{}-{gap}", aggregate.name());
        let boundary = flow.boundary::<Saved<K, A::Acc>>(&name);
        let mut failing = Failing::new(Some(&boundary), &flow.fail);
        let mut sessions = Sessions::new(shape, aggregate, boundary, flow.owns());
        let watermark = flow.watermark();
        let pact = Exchange::new(|event: &Arriving<K, A::Acc>| event.key.hashed());
        let events = unbatched(arriving);
        let rows = retire(events, flow.clocks(), pact, stamped, "Sessions", |_| {
            move |clock: &Clock, events, out: &mut Vec<_>, late: &mut Vec<_>| {
                failing.retire(clock, out, |out| {
                    sessions.retire(clock, watermark(clock), events, out, late);
                    Ok(())
                });
            }
        });
        flow.notices.borrow_mut().push(rows.aside);
        Table::new(flow, rows.main.as_collection())
            .closed_by(move |(_, window)| final_at(window, shape.allowed))
    }
}

impl<'s, K, T> Windowed<'s, K, T, Session>
where
    K: Arrangeable,
    T: Clone + serde::Serialize + 'static,
{
    /// How many different values there are in each session, exactly.
    pub fn count_distinct<P: Arrangeable>(
        self,
        part: impl Fn(&T) -> P + 'static,
    ) -> Table<'s, (K, Window), u64> {
        self.aggregate(distinct(part))
    }
}
