//! The shape of every stateful operator: a frontier may jump over many epochs at once, yet state
//! sees them one by one, in order, each with that epoch's clock.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{OperatorInfo, OutputBuilder};

use super::clock::{Clock, Clocks};
use super::feed::Mark;
use crate::memory;
use crate::time::Epoch;

/// Input waiting for its epoch to close.
pub type Waiting<D> = BTreeMap<Epoch, Vec<D>>;

/// The two outputs of a retiring operator; dropping one costs nothing.
pub struct Retired<'s, O: 'static, N: 'static> {
    /// What the operator is for.
    pub main: Stream<'s, Epoch, Vec<O>>,
    /// What it says beside.
    pub aside: Stream<'s, Epoch, Vec<N>>,
}

/// Sorts a container whose items all belong to the epoch that stamps it.
pub fn stamped<D>(stamp: Epoch, items: &mut Vec<D>, waiting: &mut Waiting<D>) {
    let slot = waiting.entry(stamp).or_default();
    if slot.is_empty() {
        *slot = std::mem::take(items);
    } else {
        slot.append(items);
    }
}

/// Sorts differential updates, whose own times may lie after the stamp.
pub fn by_update_time<D>(
    stamp: Epoch,
    items: &mut Vec<(D, Epoch, isize)>,
    waiting: &mut Waiting<(D, Epoch, isize)>,
) {
    let first = items.first().map_or(stamp, |(_, epoch, _)| *epoch);
    if items.iter().all(|(_, epoch, _)| *epoch == first) {
        return stamped(first, items, waiting);
    }
    for item in items.drain(..) {
        waiting.entry(item.1).or_default().push(item);
    }
}

/// Builds an operator that calls its logic once for each closed epoch, in order, with the epoch's
/// clock, all its input, and room for its output. Every epoch has a clock, so the logic runs for
/// epochs without input too.
pub fn retire<'s, D, O, N, P, C, L>(
    data: Stream<'s, Epoch, Vec<D>>,
    clocks: Clocks<'s>,
    pact: P,
    sort: fn(Epoch, &mut Vec<D>, &mut Waiting<D>),
    name: &str,
    construct: C,
) -> Retired<'s, O, N>
where
    D: 'static,
    O: 'static,
    N: 'static,
    P: ParallelizationContract<Epoch, Vec<D>>,
    C: FnOnce(OperatorInfo) -> L,
    L: FnMut(&Clock, Vec<D>, &mut Vec<O>, &mut Vec<N>) + 'static,
{
    let mut builder = OperatorBuilder::new(name.to_owned(), data.scope());
    let mut data_in = builder.new_input(data, pact);
    let mut clocks_in = builder.new_input(clocks, Pipeline);
    let (main_out, main) = builder.new_output::<Vec<O>>();
    let (aside_out, aside) = builder.new_output::<Vec<N>>();
    let mut main_out = OutputBuilder::from(main_out);
    let mut aside_out = OutputBuilder::from(aside_out);
    let mut logic = Some(construct(builder.operator_info()));
    builder.build(move |_capabilities| {
        let mut waiting: Waiting<D> = BTreeMap::new();
        let mut due: VecDeque<(Rc<Clock>, Capability<Epoch>, Capability<Epoch>)> = VecDeque::new();
        let (mut produced, mut said) = (Vec::new(), Vec::new());
        // Epochs in turn are much alike: the last one says how much room the next needs.
        let mut usual = 0;
        move |frontiers| {
            data_in.for_each(|cap, items| {
                if let Some(stamp) = cap.least() {
                    sort(*stamp, items, &mut waiting);
                }
            });
            clocks_in.for_each(|cap, clocks| {
                for clock in clocks.drain(..) {
                    let at = clock.epoch;
                    due.push_back((clock, cap.delayed(&at, 0), cap.delayed(&at, 1)));
                }
            });
            while let Some((clock, main_cap, aside_cap)) = due.front() {
                if frontiers
                    .iter()
                    .any(|frontier| frontier.less_equal(&clock.epoch))
                {
                    break;
                }
                let items = waiting.remove(&clock.epoch).unwrap_or_default();
                produced.reserve(usual);
                if let Some(logic) = &mut logic {
                    logic(clock, items, &mut produced, &mut said);
                }
                if clock.mark == Mark::End && memory::is_left_to_system() {
                    std::mem::forget(logic.take());
                }
                usual = produced.len();
                if produced.is_empty() {
                    // No room is held for what does not come.
                    produced = Vec::new();
                } else {
                    main_out
                        .activate()
                        .session(main_cap)
                        .give_container(&mut produced);
                    produced.clear();
                }
                if !said.is_empty() {
                    aside_out
                        .activate()
                        .session(aside_cap)
                        .give_container(&mut said);
                    said.clear();
                }
                due.pop_front();
            }
        }
    });
    Retired { main, aside }
}
