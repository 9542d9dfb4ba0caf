//! Arrangements that all queries of a worker share by name.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::{Span, TraceReader};
use timely::dataflow::Stream as Flowing;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::dataflow::keyed::{Arrangeable, Rows};
use crate::time::Epoch;

/// The type of a shared thing is hidden: queries of different types sit side by side.
struct Hidden<'s> {
    spans: Flowing<'s, Epoch, Vec<Rc<dyn Any>>>,
    trace: Box<dyn Any>,
}

/// What the queries of one dataflow share.
#[derive(Clone, Default)]
pub(super) struct Shared<'s>(Rc<RefCell<BTreeMap<String, Hidden<'s>>>>);

type SpanOf<K, V> = Span<Epoch, <Rows<K, V> as TraceReader>::Batch>;

impl<'s> Shared<'s> {
    /// The arrangement of that name, which `build` makes if this is the first to ask.
    pub fn arrangement<K: Arrangeable, V: Arrangeable>(
        &self,
        name: &str,
        build: impl FnOnce() -> Arranged<'s, TraceAgent<Rows<K, V>>>,
    ) -> Arranged<'s, TraceAgent<Rows<K, V>>> {
        let known = self.0.borrow().get(name).and_then(|hidden| {
            let trace = hidden
                .trace
                .downcast_ref::<TraceAgent<Rows<K, V>>>()?
                .clone();
            Some(Arranged {
                stream: seen::<SpanOf<K, V>>(hidden.spans.clone()),
                trace,
            })
        });
        known.unwrap_or_else(|| {
            let made = build();
            let hidden = Hidden {
                spans: hide(made.stream.clone()),
                trace: Box::new(made.trace.clone()),
            };
            self.0.borrow_mut().insert(name.to_owned(), hidden);
            made
        })
    }

    /// The stream of that name, which `build` makes if this is the first to ask.
    pub fn stream<D: Clone + 'static>(
        &self,
        name: &str,
        build: impl FnOnce() -> Flowing<'s, Epoch, Vec<D>>,
    ) -> Flowing<'s, Epoch, Vec<D>> {
        if let Some(hidden) = self.0.borrow().get(name) {
            return seen(hidden.spans.clone());
        }
        let made = build();
        let hidden = Hidden {
            spans: hide(made.clone()),
            trace: Box::new(()),
        };
        self.0.borrow_mut().insert(name.to_owned(), hidden);
        made
    }
}

fn hide<'s, D: 'static>(
    stream: Flowing<'s, Epoch, Vec<D>>,
) -> Flowing<'s, Epoch, Vec<Rc<dyn Any>>> {
    stream.unary(Pipeline, "Share", |_, _| {
        |input, output| {
            input.for_each(|cap, items| {
                let container: Rc<dyn Any> = Rc::new(std::mem::take(items));
                output.session(&cap).give(container);
            });
        }
    })
}

fn seen<'s, D: Clone + 'static>(
    stream: Flowing<'s, Epoch, Vec<Rc<dyn Any>>>,
) -> Flowing<'s, Epoch, Vec<D>> {
    stream.unary(Pipeline, "Shared", |_, _| {
        |input, output| {
            input.for_each(|cap, containers| {
                for container in containers.drain(..) {
                    let items = container.downcast_ref::<Vec<D>>();
                    output
                        .session(&cap)
                        .give_iterator(items.into_iter().flatten().cloned());
                }
            });
        }
    })
}
