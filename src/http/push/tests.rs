//! Subscriptions without HTTP: whatever is sent, folded, is the answer at its epoch.

mod cases;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::feed::Feed;
use super::subscription::{Next, Subscription, Wanted};
use super::wire::{Format, Frame};
use crate::http::token::Resume;
use crate::row::Row;
use crate::time::{Epoch, Timestamp};
use crate::view::{Finals, History, KeyRange, Labels, QuerySpec, StreamLabel, View, Views};

/// A key and a value, as JSON.
type Bag = BTreeMap<(String, String), i64>;

struct World {
    views: Arc<Views>,
    feed: Arc<Feed>,
    finals: Option<Finals>,
    epoch: Epoch,
}

impl World {
    fn new(only_final: bool, epochs: usize) -> World {
        let spec = QuerySpec {
            name: "q".into(),
            key_schema: json!({"type": "string"}),
            streams: vec!["s".into()],
            has_final: true,
            ..QuerySpec::default()
        };
        let history = History {
            epochs,
            ..History::default()
        };
        let views = Arc::new(Views::new(1, vec![spec], vec![], 1, history));
        views.set_ready();
        publish(&views, 1, None);
        let newest = views.upper().unwrap();
        let view = Arc::clone(views.query("q").unwrap());
        let feed = Arc::new(Feed::new(&views, &view, only_final, 7, &newest));
        World {
            views,
            feed,
            finals: None,
            epoch: 1,
        }
    }

    fn view(&self) -> &View {
        self.views.query("q").unwrap()
    }

    /// Closes an epoch: the rows' key, value, when they are final, and how often they come.
    fn close(&mut self, watermark: i64, changes: &[(&str, u64, i64, i64)]) {
        self.epoch += 1;
        let row = |(key, value, at, diff): &(&str, u64, i64, i64)| {
            let row = Row::new(key, value, Some(Timestamp(*at))).unwrap();
            (row, *diff)
        };
        let rows = changes.iter().map(row).collect();
        self.view().apply(0, self.epoch, rows);
        publish(&self.views, self.epoch, Some(watermark));
    }

    /// Lets the feed read what is new.
    fn feed(&mut self) {
        self.feed.advance(&mut self.finals);
    }

    /// The same, of one epoch that only adds rows.
    fn add(&mut self, rows: impl Iterator<Item = (String, u64)>) {
        let rows: Vec<(String, u64)> = rows.collect();
        let changes: Vec<_> = rows.iter().map(|(k, v)| (k.as_str(), *v, 900, 1)).collect();
        self.close(0, &changes);
        self.feed();
    }

    fn answer(&self, at: Epoch, range: &KeyRange) -> Bag {
        let watermark = self.views.labels_at(at).unwrap().complete_through(["s"]);
        let final_at = watermark.unwrap_or(Timestamp(i64::MIN));
        let final_at = self.feed.only_final.then_some(final_at);
        let page = self
            .view()
            .read(at, range, None, 1 << 20, final_at)
            .unwrap();
        let rows = page.rows.into_iter();
        rows.map(|(row, n)| {
            let n = i64::try_from(n).unwrap();
            ((row.key().to_string(), row.value().to_string()), n)
        })
        .collect()
    }

    fn subscribe(&self, prefix: Option<&str>, format: Format) -> Client {
        let range = prefix.map(|text| KeyRange::prefix(self.view().spec(), text).unwrap());
        let wanted = Wanted {
            feed: Arc::clone(&self.feed),
            scope: prefix.map_or(7, |text| u32::try_from(text.len()).unwrap() + 70),
            range,
            format,
        };
        let backlog = Arc::new(Semaphore::new(64 << 20));
        let begun = Subscription::begin(wanted.clone(), None, &backlog).unwrap();
        Client {
            subscription: Some(begun),
            backlog,
            wanted,
            heard: Vec::new(),
            bag: Bag::new(),
            id: String::new(),
            events: Vec::new(),
        }
    }
}

fn publish(views: &Views, epoch: Epoch, watermark: Option<i64>) {
    let label = StreamLabel {
        watermark: watermark.map(Timestamp),
        ..StreamLabel::default()
    };
    views.publish(Labels {
        run: 1,
        epoch,
        streams: [("s".to_owned(), label)].into(),
    });
}

/// One that folds what it gets.
struct Client {
    subscription: Option<Subscription>,
    backlog: Arc<Semaphore>,
    wanted: Wanted,
    /// The pieces of an event that is not whole yet.
    heard: Vec<u8>,
    bag: Bag,
    id: String,
    /// Every event: its name, and its object.
    events: Vec<(String, Value)>,
}

impl Client {
    /// Goes on with the last id.
    fn reconnect(&mut self) {
        let resume = Some(self.id.as_str()).filter(|id| !id.is_empty());
        let resume = resume.map(|id| Resume::decode(id, "it").unwrap());
        self.resume(resume);
    }

    fn resume(&mut self, resume: Option<Resume>) {
        self.heard.clear();
        let begun = Subscription::begin(self.wanted.clone(), resume, &self.backlog);
        self.subscription = Some(begun.unwrap());
    }

    /// Gets one thing to do done; says whether there was one.
    fn turn(&mut self, world: &World) -> bool {
        let Some(subscription) = &mut self.subscription else {
            return false;
        };
        let frame = match subscription.next() {
            Next::Frame(frame) => Some(frame),
            Next::Read => {
                let outcome = subscription.job().run();
                subscription.read(outcome)
            }
            Next::Wait => return false,
            Next::End => {
                self.subscription = None;
                return false;
            }
        };
        if let Some(frame) = &frame {
            self.hear(world, frame);
        }
        true
    }

    fn drain(&mut self, world: &World) {
        while self.turn(world) {}
    }

    /// The names of the events since the last call.
    fn names(&mut self) -> String {
        let names = self.events.drain(..).map(|(name, _)| name);
        names.collect::<Vec<_>>().join(" ")
    }

    fn hear(&mut self, world: &World, frame: &Frame) {
        assert_eq!(frame.is_first, self.heard.is_empty());
        self.heard.extend_from_slice(&frame.bytes);
        if !frame.is_last {
            return;
        }
        let heard = String::from_utf8(std::mem::take(&mut self.heard)).unwrap();
        let (name, id, event) = match self.wanted.format {
            Format::Sse => {
                let heard = heard.strip_suffix("\n\n").unwrap();
                let field = |name: &str| {
                    let mut lines = heard.lines();
                    lines.find_map(|line| line.strip_prefix(name).map(str::to_owned))
                };
                let event = serde_json::from_str(&field("data: ").unwrap()).unwrap();
                (field("event: ").unwrap(), field("id: "), event)
            }
            Format::Socket => {
                let event: Value = serde_json::from_str(&heard).unwrap();
                let text = |value: &Value| value.as_str().map(str::to_owned);
                (text(&event["event"]).unwrap(), text(&event["id"]), event)
            }
        };
        self.fold(&name, &event);
        if let Some(id) = id {
            self.id = id;
            if !self.id.is_empty() {
                self.check(world, &event);
            }
        }
        self.events.push((name, event));
    }

    fn fold(&mut self, name: &str, event: &Value) {
        if name == "snapshot" && event["start"] == true {
            self.bag.clear();
        }
        let mut went = true;
        for row in event["rows"].as_array().into_iter().flatten() {
            self.count(row, 1);
        }
        for change in event["changes"].as_array().into_iter().flatten() {
            let is_removal = change["op"] == "-";
            assert!(went || !is_removal, "a removal after an addition");
            went = is_removal;
            self.count(change, if is_removal { -1 } else { 1 });
        }
    }

    fn count(&mut self, row: &Value, by: i64) {
        let place = (row["key"].to_string(), row["value"].to_string());
        let count = self.bag.entry(place.clone()).or_insert(0);
        *count += by;
        if *count == 0 {
            self.bag.remove(&place);
        }
    }

    /// What is folded is the answer at the epoch of the event.
    fn check(&self, world: &World, event: &Value) {
        let at = event["as_of"].as_u64().unwrap();
        if world.views.since().is_some_and(|since| since > at) {
            return;
        }
        let all = KeyRange::all();
        let range = self.wanted.range.as_ref().unwrap_or(&all);
        assert_eq!(self.bag, world.answer(at, range), "at epoch {at}");
        let labels = world.views.labels_at(at).unwrap();
        let through = labels.complete_through(["s"]).map(|time| time.0);
        assert_eq!(event["complete_through"], json!(through));
        let resume = Resume::decode(&self.id, "it").unwrap();
        assert_eq!(resume.epoch, at);
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// Rows come or are corrected, and the watermark moves on.
    Close(i64, Vec<(u8, u64, i64)>),
    Feed,
    Turn(usize),
    Drain(usize),
    Reconnect(usize),
    Progress(usize),
}

const CLIENTS: usize = 4;

fn act() -> impl Strategy<Value = Act> {
    let rows = prop::collection::vec((0_u8..9, 0_u64..3, 0_i64..30), 0..6);
    prop_oneof![
        3 => (0_i64..4, rows).prop_map(|(pace, rows)| Act::Close(pace, rows)),
        3 => Just(Act::Feed),
        3 => (0..CLIENTS).prop_map(Act::Turn),
        3 => (0..CLIENTS).prop_map(Act::Drain),
        1 => (0..CLIENTS).prop_map(Act::Reconnect),
        1 => (0..CLIENTS).prop_map(Act::Progress),
    ]
}

/// Every name is one row at most; who is final is not corrected.
fn close(world: &mut World, watermark: i64, rows: &[(u8, u64, i64)]) {
    let names = ["a", "b", "ab", "ba", "aa", "bb", "c", "ca", "cb"];
    let before = world.views.upper().unwrap().complete_through(["s"]);
    let page = world
        .view()
        .read(world.epoch, &KeyRange::all(), None, 1000, None);
    let mut now: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for (row, _) in page.unwrap().rows {
        let (key, at) = (
            row.key().trim_matches('"').to_owned(),
            row.final_at().unwrap().0,
        );
        now.insert(key, (row.value().parse().unwrap(), at));
    }
    let mut changes = Vec::new();
    for (name, value, at) in rows {
        let name = names[usize::from(*name)];
        let old = now.get(name).copied();
        if old.is_some_and(|(_, at)| before >= Some(Timestamp(at))) {
            continue;
        }
        changes.extend(old.map(|(value, at)| (name, value, at, -1)));
        changes.push((name, *value, *at, 1));
        now.insert(name.to_owned(), (*value, *at));
    }
    world.close(watermark, &changes);
}

fn run(acts: Vec<Act>, only_final: bool, epochs: usize) {
    let mut world = World::new(only_final, epochs);
    let mut clients = [
        world.subscribe(None, Format::Sse),
        world.subscribe(None, Format::Socket),
        world.subscribe(Some("a"), Format::Sse),
        world.subscribe(Some("b"), Format::Socket),
    ];
    let mut watermark = 0;
    for act in acts {
        match act {
            Act::Close(pace, rows) => {
                watermark += pace;
                close(&mut world, watermark, &rows);
            }
            Act::Feed => world.feed(),
            Act::Turn(n) => {
                clients[n].turn(&world);
            }
            Act::Drain(n) => clients[n].drain(&world),
            Act::Reconnect(n) => clients[n].reconnect(),
            Act::Progress(n) => {
                let progress = clients[n]
                    .subscription
                    .as_ref()
                    .and_then(Subscription::progress);
                let whole = progress.filter(|_| clients[n].heard.is_empty());
                if let Some(frame) = &whole {
                    clients[n].hear(&world, frame);
                }
            }
        }
    }
    // In the end everybody has everything.
    world.feed();
    for client in &mut clients {
        client.drain(&world);
        client.drain(&world);
        let all = KeyRange::all();
        let range = client.wanted.range.as_ref().unwrap_or(&all);
        assert_eq!(client.bag, world.answer(world.epoch, range));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_folded_is_the_answer(
        acts in prop::collection::vec(act(), 0..80),
        only_final in any::<bool>(),
        epochs in prop_oneof![2_usize..9, Just(1000)],
    ) {
        run(acts, only_final, epochs);
    }
}
