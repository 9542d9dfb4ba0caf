//! Random input, written down as epochs of lines.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use waterclock::number::Float;
use waterclock::prelude::Timestamp;
use waterclock::testing::{Change, Round};

use super::queries::{Hit, SHAPES, STREAMS, User};

/// Partitions of each stream.
pub const PARTITIONS: u32 = 3;

/// A random input.
#[derive(Clone, Debug)]
pub struct Case {
    /// Which of [`SHAPES`].
    pub shape: usize,
    /// The lateness bound of all streams, in sixteenths of a window.
    pub lateness: i64,
    /// Where event time starts, in ms.
    pub base: i64,
    /// The epochs.
    pub epochs: Vec<Epoch>,
}

/// A random epoch.
#[derive(Clone, Debug)]
pub struct Epoch {
    changes: Vec<(usize, u32, Change)>,
    lines: Vec<Line>,
}

/// A random line; times are in sixteenths of a window.
#[derive(Clone, Debug)]
struct Line {
    stream: usize,
    partition: u32,
    /// How far the partition's clock moves on.
    step: i64,
    /// How far behind it the record is.
    behind: i64,
    place: Place,
    key: u8,
    part: u8,
    n: i64,
    x: f64,
    form: Form,
}

/// Where within its sixteenth of a window a record is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Anywhere.
    At(i64),
    /// So many ms after a multiple of the slide, or of the lateness after one.
    Edge(i64),
    AfterEdge(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    /// After empty lines, indented.
    Loose,
    /// Not a record.
    Garbage,
    /// Removes its key, where the stream has entities.
    Gone,
}

fn line() -> impl Strategy<Value = Line> {
    let stream = prop_oneof![5 => Just(1_usize), 2 => Just(0), 3 => Just(2)];
    let step = prop_oneof![4 => Just(0), 6 => 0..3_i64, 2 => 3..12_i64, 1 => 12..40_i64];
    let behind = prop_oneof![6 => Just(0), 4 => 0..6_i64, 3 => 4..24_i64, 1 => 20..80_i64];
    let place = prop_oneof![
        2 => any::<u16>().prop_map(|at| Place::At(at.into())),
        1 => (-1..=1_i64).prop_map(Place::Edge),
        1 => (-1..=1_i64).prop_map(Place::AfterEdge),
    ];
    let form = prop_oneof![
        8 => Just(Form::Plain),
        1 => Just(Form::Loose),
        1 => Just(Form::Garbage),
        2 => Just(Form::Gone),
    ];
    let x = select(vec![
        0.0,
        -0.25,
        0.5,
        1e16,
        -1e16,
        3.0,
        9_007_199_254_740_993.0,
    ]);
    let what = (0..4_u8, 0..4_u8, -4..5_i64, x, form);
    (stream, 0..PARTITIONS, step, behind, place, what).prop_map(
        |(stream, partition, step, behind, place, (key, part, n, x, form))| Line {
            stream,
            partition,
            step,
            behind,
            place,
            key,
            part,
            n,
            x,
            form,
        },
    )
}

fn epoch() -> impl Strategy<Value = Epoch> {
    let change = select(vec![
        Change::Idle,
        Change::Idle,
        Change::Idle,
        Change::Revived,
        Change::Appeared,
    ]);
    let change = (0..STREAMS.len(), 0..PARTITIONS, change);
    let changes = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(change, 1..4),
    ];
    let lines = prop_oneof![
        1 => Just(Vec::new()),
        6 => prop::collection::vec(line(), 1..12),
        1 => prop::collection::vec(line(), 12..40),
    ];
    (changes, lines).prop_map(|(changes, lines)| Epoch { changes, lines })
}

/// Random input of up to so many epochs.
pub fn case(epochs: usize) -> impl Strategy<Value = Case> {
    let (first, last) = (Timestamp::MIN.0, Timestamp::MAX.0);
    let base = select(vec![0, -37, -1_000_000_007, 1_641_031_200_000]);
    let base = prop_oneof![8 => base, 1 => Just(first), 1 => Just(last - 1_000_000)];
    let lateness = select(vec![0, 1, 3, 9]);
    let epochs = prop::collection::vec(epoch(), 1..=epochs);
    (0..SHAPES.len(), lateness, base, epochs).prop_map(|(shape, lateness, base, epochs)| Case {
        shape,
        lateness,
        base,
        epochs,
    })
}

/// A record as a query sees it.
#[derive(Clone, Debug)]
pub enum Fact {
    Hit(Hit),
    User(User),
}

/// A line of a partition.
#[derive(Clone, Debug)]
pub struct Fed {
    pub stream: &'static str,
    pub partition: u32,
    pub position: u64,
    /// As it stands in the input, with what is around it.
    pub text: String,
    /// The record; none in garbage.
    pub fact: Option<Fact>,
}

impl Fed {
    pub fn time(&self) -> Option<i64> {
        self.fact.as_ref().map(|fact| match fact {
            Fact::Hit(hit) => hit.at.0,
            Fact::User(user) => user.at.0,
        })
    }
}

/// An epoch's input.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// What partitions did, in order, before the lines.
    pub changes: Vec<(&'static str, u32, Change)>,
    /// The lines, in order.
    pub lines: Vec<Fed>,
}

impl Input {
    /// What of it is of these streams.
    pub fn of(&self, streams: &[&str]) -> Input {
        let mut input = self.clone();
        input.changes.retain(|(of, ..)| streams.contains(of));
        input.lines.retain(|line| streams.contains(&line.stream));
        input
    }

    /// What the harness is told.
    pub fn round(&self) -> Round {
        let mut round = Round::new();
        for (stream, partition, change) in &self.changes {
            round = round.change(stream, *partition, *change);
        }
        // Partitions are read one after the other.
        let mut texts: BTreeMap<(&str, u32), String> = BTreeMap::new();
        for line in &self.lines {
            *texts.entry((line.stream, line.partition)).or_default() += &line.text;
        }
        for ((stream, partition), text) in texts {
            round = round.records(stream, partition, &text);
        }
        round
    }
}

#[derive(Clone, Copy)]
struct Reading {
    clock: i64,
    position: u64,
    is_idle: bool,
}

impl Case {
    /// The lateness bound in ms.
    pub fn lateness(&self) -> i64 {
        self.lateness * self.unit()
    }

    fn unit(&self) -> i64 {
        SHAPES[self.shape].size / 16
    }

    /// The epochs' input. What is said of a partition is what the service could say of it.
    pub fn inputs(&self) -> Vec<Input> {
        let mut known = BTreeMap::new();
        self.epochs
            .iter()
            .map(|epoch| self.input(epoch, &mut known))
            .collect()
    }

    /// The same records where all partitions are there from the start and never idle.
    pub fn steady(&self) -> Vec<Input> {
        let all = STREAMS
            .iter()
            .flat_map(|stream| (0..PARTITIONS).map(|p| (*stream, p, Change::Appeared)));
        let first = Input {
            changes: all.collect(),
            ..Input::default()
        };
        let mut known = BTreeMap::new();
        for (stream, partition, _) in &first.changes {
            known.insert((*stream, *partition), self.reading());
        }
        let rest = self.epochs.iter().map(|epoch| {
            let steady = Epoch {
                changes: Vec::new(),
                lines: epoch.lines.clone(),
            };
            self.input(&steady, &mut known)
        });
        std::iter::once(first).chain(rest).collect()
    }

    fn reading(&self) -> Reading {
        Reading {
            clock: self.base,
            position: 0,
            is_idle: false,
        }
    }

    fn input(&self, epoch: &Epoch, known: &mut BTreeMap<(&'static str, u32), Reading>) -> Input {
        let mut input = Input::default();
        for (stream, partition, change) in &epoch.changes {
            let place = (STREAMS[*stream], *partition);
            match (change, known.get_mut(&place)) {
                (Change::Idle, Some(reading)) if !reading.is_idle => reading.is_idle = true,
                (Change::Revived, Some(reading)) if reading.is_idle => reading.is_idle = false,
                (Change::Appeared, None) => drop(known.insert(place, self.reading())),
                _ => continue,
            }
            input.changes.push((place.0, place.1, *change));
        }
        for line in &epoch.lines {
            let place = (STREAMS[line.stream], line.partition);
            let reading = known.entry(place).or_insert_with(|| {
                input.changes.push((place.0, place.1, Change::Appeared));
                self.reading()
            });
            if std::mem::take(&mut reading.is_idle) {
                input.changes.push((place.0, place.1, Change::Revived));
            }
            input.lines.push(self.fed(line, reading));
        }
        input
    }

    fn fed(&self, line: &Line, reading: &mut Reading) -> Fed {
        reading.clock += line.step * self.unit();
        let time = self.place(reading.clock - line.behind * self.unit(), line.place);
        let at = Timestamp(time);
        let stream = STREAMS[line.stream];
        let fact = match (line.form, stream) {
            (Form::Garbage, _) => None,
            (_, "users") => Some(Fact::User(User {
                id: line.key,
                name: line.part,
                gone: line.form == Form::Gone,
                at,
            })),
            _ => Some(Fact::Hit(Hit {
                key: line.key,
                part: line.part,
                n: line.n,
                x: Float(line.x),
                at,
            })),
        };
        let json = match &fact {
            None => r#"{"key":1,"at":"yesterday"}"#.to_owned(),
            Some(Fact::Hit(hit)) => serde_json::to_string(hit).expect("a record is JSON"),
            Some(Fact::User(user)) => serde_json::to_string(user).expect("a record is JSON"),
        };
        let fact = fact.filter(|_| at.is_valid());
        let (before, text) = match line.form {
            Form::Loose => ("\n \n", format!("  {json} \r\n")),
            _ => ("", format!("{json}\n")),
        };
        let position = reading.position + before.len() as u64;
        reading.position = position + text.len() as u64;
        Fed {
            stream,
            partition: line.partition,
            position,
            text: format!("{before}{text}"),
            fact,
        }
    }

    fn place(&self, time: i64, place: Place) -> i64 {
        let shape = SHAPES[self.shape];
        let edge = (time - shape.offset).div_euclid(shape.slide) * shape.slide + shape.offset;
        match place {
            Place::At(at) => time + at.rem_euclid(self.unit()),
            Place::Edge(after) => edge + after,
            Place::AfterEdge(after) => edge + self.lateness() + after,
        }
    }
}
