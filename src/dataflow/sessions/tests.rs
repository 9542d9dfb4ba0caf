//! Sessions over restarts: what is saved of them, change by change, is what they were.

use std::cell::RefCell;

use arrow_array::RecordBatch;

use super::*;
use crate::columns::merge::Layer;
use crate::columns::to_batch;
use crate::dataflow::aggregate::Count;
use crate::dataflow::clock::NONE;
use crate::dataflow::vault::{self, Boundaries, Encode, Vault, Work};

const GAP: i64 = 10;
const SHAPE: SessionShape = SessionShape {
    gap: GAP,
    allowed: 0,
    keep: 100,
    final_only: false,
    is_replay: false,
};

/// Keeps layers in memory.
#[derive(Default)]
struct Memory {
    layers: RefCell<Vec<Vec<RecordBatch>>>,
    note: RefCell<Option<i64>>,
    /// Whether the layers are rows, as earlier versions wrote them.
    is_old: RefCell<bool>,
}

impl Vault for Memory {
    fn restore(&self, _boundary: &str) -> vault::Saved {
        let layers = self.layers.borrow().clone().into_iter();
        vault::Saved {
            layers: layers
                .map(|layer| -> Layer { Box::new(layer.into_iter().map(Ok)) })
                .collect(),
            is_of_changes: !*self.is_old.borrow(),
            is_to_be_rewritten: false,
            note: *self.note.borrow(),
            expected: 0,
        }
    }

    fn save(&self, _boundary: &str, _epoch: Epoch, rows: Encode) {
        if self.is_old.replace(false) {
            self.layers.borrow_mut().clear();
        }
        let mut layer = Vec::new();
        let written = rows(&mut |batch| {
            layer.push(batch);
            Ok(())
        });
        let written = written.unwrap();
        (written.settle)(true);
        self.layers.borrow_mut().push(layer);
        *self.note.borrow_mut() = written.note;
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn elsewhere(&self, work: Work) {
        work();
    }
}

type Row = (String, i64, i64, u64);

/// One life of the boundary.
struct Life {
    sessions: Sessions<String, (), Count>,
    epoch: Epoch,
    shown: BTreeMap<Row, isize>,
    late: usize,
}

impl Life {
    /// Begins with what is kept, and shows it.
    fn new(memory: &Rc<Memory>, shape: SessionShape, watermark: i64) -> Life {
        let vault = Rc::clone(memory) as Rc<dyn Vault>;
        let boundary = Boundary::new::<Saved<String, u64>>(
            "q/sessions".to_owned(),
            vault,
            &mut Boundaries::new(),
        );
        let mut life = Life {
            sessions: Sessions::new(shape, Rc::new(Count), boundary, |_| true),
            epoch: 0,
            shown: BTreeMap::new(),
            late: 0,
        };
        life.retire(watermark, &[], Mark::None);
        life
    }

    /// Takes records at these times, each with its partition's watermark.
    fn retire(&mut self, watermark: i64, records: &[(i64, i64)], mark: Mark) {
        self.epoch += 1;
        let event = |(place, (time, watermark)): (u64, &(i64, i64))| Arriving {
            key: "k".to_owned(),
            place: (0, 0, place, 0),
            time: *time,
            watermark: *watermark,
            acc: 1,
            raw: None,
        };
        let events = (0..).zip(records).map(event).collect();
        let mut clock = Clock::at(self.epoch);
        clock.mark = mark;
        let (mut out, mut late) = (Vec::new(), Vec::new());
        self.sessions
            .retire(&clock, watermark, events, &mut out, &mut late);
        self.late += late.len();
        for (((key, window), count), _, diff) in out {
            let row = (key, window.start.0, window.end.0, count);
            *self.shown.entry(row).or_default() += diff;
        }
        self.shown.retain(|_, count| *count != 0);
    }

    fn rows(&self) -> Vec<Row> {
        assert!(self.shown.values().all(|count| *count == 1));
        self.shown.keys().cloned().collect()
    }
}

fn row(start: i64, end: i64, count: u64) -> Row {
    ("k".to_owned(), start, end, count)
}

/// How many rows the newest layer has, and how many of them are gone.
fn newest(memory: &Memory) -> (usize, usize) {
    let layers = memory.layers.borrow();
    let batches = layers.last().map(Vec::as_slice).unwrap_or_default();
    let diffs = batches.iter().flat_map(|batch| {
        let column = batch.column_by_name("_diff").unwrap();
        let column = arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int8Type>(
            column.as_ref(),
        );
        column.values().to_vec()
    });
    let diffs: Vec<i8> = diffs.collect();
    (diffs.len(), diffs.iter().filter(|diff| **diff < 0).count())
}

#[test]
fn a_session_is_one_row_however_it_grows() {
    let memory = Rc::new(Memory::default());
    let mut life = Life::new(&memory, SHAPE, NONE);
    life.retire(0, &[(0, NONE), (5, NONE)], Mark::None);
    life.retire(0, &[(30, NONE)], Mark::Checkpoint);
    assert_eq!(newest(&memory), (2, 0));
    // It grows in both directions, and another comes and is merged into it.
    life.retire(0, &[(40, NONE), (20, NONE)], Mark::None);
    life.retire(0, &[(58, NONE)], Mark::None);
    life.retire(0, &[(49, NONE)], Mark::Checkpoint);
    assert_eq!(life.rows(), [row(0, 15, 2), row(20, 68, 5)]);
    let (rows, gone) = newest(&memory);
    assert_eq!(rows - gone, 1, "the first did not change");

    let again = Life::new(&memory, SHAPE, 0);
    assert_eq!(again.rows(), life.rows());
    // Two that were saved become one: a row goes.
    let mut life = again;
    life.retire(0, &[(12, NONE)], Mark::Checkpoint);
    assert_eq!(life.rows(), [row(0, 68, 8)]);
    assert_eq!(newest(&memory), (2, 1));
    assert_eq!(Life::new(&memory, SHAPE, 0).rows(), life.rows());
}

#[test]
fn what_is_final_stays_so_whatever_lateness_is_allowed_later() {
    let memory = Rc::new(Memory::default());
    let mut life = Life::new(&memory, SHAPE, NONE);
    life.retire(0, &[(0, NONE)], Mark::None);
    life.retire(20, &[(30, NONE)], Mark::Checkpoint);
    let closing = newest(&memory);
    assert_eq!(closing, (2, 0));
    let patient = SessionShape {
        allowed: 1000,
        ..SHAPE
    };
    let mut life = Life::new(&memory, patient, 20);
    // It would be another session beside the final one.
    life.retire(20, &[(0, 20), (25, 20)], Mark::Checkpoint);
    assert_eq!(
        (life.rows(), life.late),
        (vec![row(0, 10, 1), row(25, 40, 2)], 1)
    );
    let mut life = Life::new(&memory, patient, 20);
    life.retire(20, &[(0, 20)], Mark::None);
    assert_eq!(
        (life.rows(), life.late),
        (vec![row(0, 10, 1), row(25, 40, 2)], 1)
    );
    // And goes when its time has come.
    life.retire(200, &[], Mark::Checkpoint);
    assert_eq!(life.rows(), [row(25, 40, 2)]);
    assert_eq!(newest(&memory), (1, 1));
}

#[test]
fn rows_that_an_earlier_version_saved_whole_are_taken_over() {
    #[derive(Serialize, Deserialize)]
    struct Old {
        key: String,
        start: i64,
        end: i64,
        is_final: bool,
        acc: u64,
    }
    let old = |start, end, is_final| Old {
        key: "k".to_owned(),
        start,
        end,
        is_final,
        acc: 7,
    };
    // Two may begin at one time, where one was closed to a record of another partition.
    let rows = [old(0, 10, true), old(20, 31, false), old(20, 35, false)];
    let memory = Rc::new(Memory::default());
    memory
        .layers
        .borrow_mut()
        .push(vec![to_batch(&rows).unwrap()]);
    memory.is_old.replace(true);
    let mut life = Life::new(&memory, SHAPE, 15);
    let before = [row(0, 10, 7), row(20, 31, 7), row(20, 35, 7)];
    assert_eq!(life.rows(), before);
    life.retire(15, &[], Mark::Checkpoint);
    assert_eq!(newest(&memory), (3, 0), "all are saved again, as changes");
    let mut life = Life::new(&memory, SHAPE, 15);
    assert_eq!(life.rows(), before);
    life.retire(15, &[(33, 15)], Mark::Checkpoint);
    assert_eq!(life.rows(), [row(0, 10, 7), row(20, 43, 15)]);
    assert_eq!(Life::new(&memory, SHAPE, 15).rows(), life.rows());
}
