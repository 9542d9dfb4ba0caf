//! From a worker to the views and sinks: its share of the rows, and what was not taken.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::dataflow::bounded::{Shown, Sink};
use crate::query::{Answers, Fail, Outlet};
use crate::view::{Outbox, View, Views, Writer};

/// What happens to records that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poison {
    /// The queries that read the stream fail, and say at which record.
    Fail,
    /// They are counted.
    Skip,
    /// They are counted and kept, bounded and readable.
    #[default]
    DeadLetter,
}

/// One worker's way to the views; it writes its own shard of each.
pub struct LiveOutlet {
    shard: usize,
    views: Arc<Views>,
    outboxes: Arc<[Arc<Outbox>]>,
    poison: Arc<BTreeMap<String, Poison>>,
}

impl LiveOutlet {
    /// The outlet of a worker.
    pub fn new(
        shard: usize,
        views: &Arc<Views>,
        outboxes: &Arc<[Arc<Outbox>]>,
        poison: &Arc<BTreeMap<String, Poison>>,
    ) -> LiveOutlet {
        LiveOutlet {
            shard,
            views: Arc::clone(views),
            outboxes: Arc::clone(outboxes),
            poison: Arc::clone(poison),
        }
    }

    fn sink(&self, view: Option<&Arc<View>>) -> Sink {
        let (shard, view) = (self.shard, view.cloned());
        Box::new(move |epoch, rows| {
            if let Some(view) = &view {
                view.apply(shard, epoch, rows);
            }
        })
    }

    fn shown(&self, view: Option<&Arc<View>>) -> Shown {
        let counted = view.cloned();
        let total = move |total| {
            if let Some(view) = &counted {
                view.set_total(total);
            }
        };
        Shown {
            rows: self.sink(view),
            total: Box::new(total),
        }
    }
}

impl Outlet for LiveOutlet {
    fn rows(&self, query: &str) -> Answers {
        let view = self.views.query(query);
        let mut writer = view.map(|view| Writer::new(self.shard, view, &self.outboxes));
        Answers::View(Box::new(move |epoch, watermark, leaving, rows| {
            if let Some(writer) = &mut writer {
                writer.apply(epoch, watermark, leaving, rows);
            }
        }))
    }

    fn late(&self, query: &str) -> Shown {
        self.shown(self.views.late(query))
    }

    fn failed(&self, query: &str) -> Fail {
        let (view, name) = (self.views.query(query).cloned(), query.to_owned());
        Rc::new(move |reason| {
            if let Some(view) = view.as_ref().filter(|view| view.failure().is_none()) {
                tracing::error!(query = name, %reason, "the query failed; the others go on");
                view.fail(reason);
            }
        })
    }

    fn rejected(&self, stream: &str) -> Shown {
        let shown = self.shown(self.views.rejected(stream));
        match self.poison.get(stream).copied().unwrap_or_default() {
            Poison::DeadLetter => shown,
            Poison::Skip => Shown {
                rows: Box::new(|_, _| {}),
                ..shown
            },
            Poison::Fail => {
                let (views, stream, mut rows) =
                    (Arc::clone(&self.views), stream.to_owned(), shown.rows);
                let fail: Sink = Box::new(move |epoch, changes| {
                    if let Some((row, _)) = changes.first() {
                        let reason = format!(
                            "stream '{stream}' has a record that cannot be read, and its policy \
                             is 'fail': {} {}",
                            row.key(),
                            row.value()
                        );
                        let reads = |view: &&Arc<View>| view.spec().streams.contains(&stream);
                        views
                            .queries()
                            .filter(reads)
                            .for_each(|view| view.fail(reason.clone()));
                    }
                    rows(epoch, changes);
                });
                Shown {
                    rows: fail,
                    ..shown
                }
            }
        }
    }
}
