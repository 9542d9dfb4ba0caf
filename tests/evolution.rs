//! What becomes of saved state when a build is replaced by another one: the table of
//! `docs/state.md`, a test for each of its cells. What `waterclock check` says before is what
//! happens then.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::source::Source;
use waterclock::state::{CheckpointStore, DataDir, StoreOptions};
use waterclock::testing::MemorySource;
use waterclock::view::{History, KeyRange};
use waterclock::worker::Start;
use waterclock::worker::live::{Live, LiveError, LiveOptions, Work};
use waterclock::worker::restore::{Fate, fates};

const PATIENCE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(100 * 3600);

/// Records of one stream, a version of their type each.
macro_rules! shop {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty),* }) => {
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        struct $name {
            name: Text,
            at: Timestamp,
            $($(#[$attribute])* $field: $kind,)*
        }

        impl Event for $name {
            const STREAM: &'static str = "shops";
            const LATENESS: Duration = seconds(0);

            fn time(&self) -> Timestamp {
                self.at
            }
        }

        impl Entity for $name {
            type Key = Text;

            fn key(&self) -> Text {
                self.name.clone()
            }
        }
    };
}

shop!(Shop {
    city: Text,
    staff: u32
});
shop!(Added { city: Text, staff: u32, #[serde(default)] owner: Option<Text> });
shop!(AddedOptional { city: Text, staff: u32, owner: Option<Text> });
shop!(AddedBare {
    city: Text,
    staff: u32,
    owner: Text
});
shop!(Removed { staff: u32 });
shop!(Renamed {
    #[serde(alias = "city")]
    town: Text,
    staff: u32
});
shop!(RenamedBare {
    town: Text,
    staff: u32
});
shop!(Reordered {
    staff: u32,
    city: Text
});
shop!(Wider {
    city: Text,
    staff: u64
});
shop!(Retyped {
    city: Text,
    staff: Text
});

fn shops<E: Entity<Key = Text> + Arrangeable>(flow: Flow<'_>) -> Table<'_, Text, E> {
    flow.table::<E>()
}

type Build<V> = for<'s> fn(Flow<'s>) -> Table<'s, Text, V>;

fn query<V: Arrangeable>(name: &'static str, build: Build<V>) -> Query {
    Query::new(name, "", build)
}

/// Of a version of the type, the latest record of each shop.
macro_rules! latest {
    ($kind:ty) => {
        query::<$kind>("shops", |flow| shops::<$kind>(flow))
    };
}

/// The sales of shops, of which there is only one version.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sale {
    shop: Text,
    amount: i64,
    at: Timestamp,
}

impl Event for Sale {
    const STREAM: &'static str = "sales";
    const LATENESS: Duration = seconds(0);

    fn time(&self) -> Timestamp {
        self.at
    }
}

/// Of a sale the number.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Amount {
    amount: i64,
    at: Timestamp,
}

impl Event for Amount {
    const STREAM: &'static str = Sale::STREAM;

    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Part for Amount {
    type Whole = Sale;

    fn of(sale: &Sale) -> Amount {
        Amount {
            amount: sale.amount,
            at: sale.at,
        }
    }
}

const SHOPS: [&str; 2] = [
    r#"{"name":"a","city":"Rome","staff":3,"at":1000}"#,
    r#"{"name":"b","city":"Oslo","staff":5,"at":2000}"#,
];
const SALES: [&str; 2] = [
    r#"{"shop":"a","amount":4,"at":1000}"#,
    r#"{"shop":"a","amount":6,"at":2000}"#,
];

const LATER: &str = r#"{"shop":"b","amount":7,"at":21000}"#;

/// What a life of a service begins with and leaves.
#[derive(Debug)]
struct Lived {
    /// What `check` says: the fate of each boundary of the saved state.
    fates: BTreeMap<String, Fate>,
    /// Its rows by query, as `KEY VALUE`; or why it does not start.
    rows: Result<BTreeMap<String, Vec<String>>, String>,
}

fn options() -> LiveOptions {
    LiveOptions {
        workers: 2,
        heartbeat: Duration::from_millis(5),
        max_in_flight: 1 << 20,
        idle_timeout: NEVER,
        max_ahead: NEVER,
        snapshot_interval: NEVER,
        history: History::default(),
        poison: BTreeMap::new(),
        max_drift: BTreeMap::new(),
    }
}

/// Runs queries over what two streams hold so far, and stops with a checkpoint.
fn live(home: &Path, queries: Vec<Query>, shops: &[&str], sales: &[&str]) -> Lived {
    let catalog = Catalog::of(&queries, &Overrides::default()).unwrap();
    let saved = CheckpointStore::inspect(home, None)
        .unwrap()
        .newest_valid()
        .unwrap();
    let fates = saved.map(|saved| fates(&saved, &catalog).unwrap());
    let streams = [("shops", shops), ("sales", sales)];
    let source = |(name, lines): &(&str, &[&str])| -> Box<dyn Source> {
        let text = lines.join("\n") + "\n";
        Box::new(MemorySource::new(name, &[&text]))
    };
    let read = |(name, _): &&(&str, &[&str])| catalog.stream(name).is_some();
    let streams: Vec<_> = streams.iter().filter(read).collect();
    let work = Work {
        sources: streams.iter().map(|stream| source(stream)).collect(),
        queries,
        catalog: catalog.clone(),
        sinks: Vec::new(),
        start: {
            let data = DataDir::open(home).unwrap();
            let store = CheckpointStore::open(&data, &StoreOptions::default()).unwrap();
            Start::choose(data, store, &[]).unwrap()
        },
        clock: Arc::new(|| Timestamp(0)),
    };
    let (tell, shown) = channel();
    let rows = Live::start(work, options(), |why| panic!("{why}")).map(|live| {
        live.views.on_publish(Box::new(move |_| {
            // Nobody listens once everything is shown.
            let _ = tell.send(());
        }));
        let ends = streams.iter().map(|(name, lines)| {
            let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
            (*name, bytes as u64)
        });
        wait(&live, &ends.collect::<Vec<_>>(), &shown);
        let names = catalog.queries.iter().map(|query| query.name.clone());
        let rows = names.map(|name| {
            let rows = rows_of(&live, &name);
            (name, rows)
        });
        let rows = rows.collect();
        live.stop();
        rows
    });
    Lived {
        fates: fates.unwrap_or_default(),
        rows: rows.map_err(|error: LiveError| error.to_string()),
    }
}

/// Waits until everything is read and shown.
#[allow(clippy::disallowed_methods, reason = "a test that hangs must end")]
fn wait(live: &Live, ends: &[(&str, u64)], shown: &std::sync::mpsc::Receiver<()>) {
    let deadline = Instant::now() + PATIENCE;
    let is_read = || {
        let labels = live.views.upper()?;
        let reached = |(stream, end): &(&str, u64)| {
            let partition = labels.streams.get(*stream)?.partitions.get(&0)?;
            (partition.position == *end).then_some(())
        };
        ends.iter().try_for_each(reached)
    };
    while !live.views.is_ready() || is_read().is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        shown.recv_timeout(left).expect("everything is read");
    }
}

fn rows_of(live: &Live, query: &str) -> Vec<String> {
    let view = live.views.query(query).unwrap();
    let epoch = live.views.upper().unwrap().epoch;
    let page = view
        .read(epoch, &KeyRange::all(), None, 1000, None)
        .unwrap();
    let line = |(row, _): &(waterclock::row::Row, u64)| format!("{} {}", row.key(), row.value());
    page.rows.iter().map(line).collect()
}

/// The life after one of `before` with other queries; nothing new comes.
fn replaced(before: Vec<Query>, after: Vec<Query>) -> Lived {
    let home = tempfile::tempdir().unwrap();
    let first = live(home.path(), before, &SHOPS, &SALES);
    assert!(first.rows.is_ok_and(|rows| !rows.is_empty()));
    live(home.path(), after, &SHOPS, &SALES)
}

/// Says that the shops are restored, and with which rows.
fn assert_restored(lived: &Lived, rows: [&str; 2]) {
    assert_eq!(lived.fates["tables/shops"], Fate::Restored, "{lived:?}");
    assert_eq!(lived.rows.as_ref().unwrap()["shops"], rows);
}

/// Says that the service does not start, with a sentence that has these words.
fn assert_refused(lived: &Lived, words: &[&str]) {
    let Fate::Refused(reason) = &lived.fates["tables/shops"] else {
        panic!("{lived:?}")
    };
    let said = lived.rows.as_ref().unwrap_err();
    assert!(
        said.contains(reason) && said.contains("'tables/shops'"),
        "{said}"
    );
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

#[test]
fn a_field_that_is_added_with_a_default_is_migrated() {
    let rows = [
        r#""a" {"name":"a","at":1000,"city":"Rome","staff":3,"owner":null}"#,
        r#""b" {"name":"b","at":2000,"city":"Oslo","staff":5,"owner":null}"#,
    ];
    for after in [latest!(Added), latest!(AddedOptional)] {
        assert_restored(&replaced(vec![latest!(Shop)], vec![after]), rows);
    }
}

#[test]
fn a_field_that_is_added_without_a_default_is_refused() {
    let lived = replaced(vec![latest!(Shop)], vec![latest!(AddedBare)]);
    assert_refused(&lived, &["owner", "#[serde(default)]", "--from-scratch"]);
}

#[test]
fn a_field_that_is_removed_is_forgotten() {
    let lived = replaced(vec![latest!(Shop)], vec![latest!(Removed)]);
    let rows = [
        r#""a" {"name":"a","at":1000,"staff":3}"#,
        r#""b" {"name":"b","at":2000,"staff":5}"#,
    ];
    assert_restored(&lived, rows);
}

#[test]
fn a_field_that_is_renamed_keeps_its_value_by_an_alias() {
    let lived = replaced(vec![latest!(Shop)], vec![latest!(Renamed)]);
    let rows = [
        r#""a" {"name":"a","at":1000,"town":"Rome","staff":3}"#,
        r#""b" {"name":"b","at":2000,"town":"Oslo","staff":5}"#,
    ];
    assert_restored(&lived, rows);
    let lived = replaced(vec![latest!(Shop)], vec![latest!(RenamedBare)]);
    assert_refused(&lived, &["town"]);
}

#[test]
fn fields_in_another_order_or_of_a_wider_type_are_migrated() {
    let lived = replaced(vec![latest!(Shop)], vec![latest!(Reordered)]);
    let rows = [
        r#""a" {"name":"a","at":1000,"staff":3,"city":"Rome"}"#,
        r#""b" {"name":"b","at":2000,"staff":5,"city":"Oslo"}"#,
    ];
    assert_restored(&lived, rows);
    let lived = replaced(vec![latest!(Shop)], vec![latest!(Wider)]);
    let rows = [
        r#""a" {"name":"a","at":1000,"city":"Rome","staff":3}"#,
        r#""b" {"name":"b","at":2000,"city":"Oslo","staff":5}"#,
    ];
    assert_restored(&lived, rows);
}

#[test]
fn a_field_of_another_kind_of_type_is_refused() {
    let lived = replaced(vec![latest!(Shop)], vec![latest!(Retyped)]);
    assert_refused(&lived, &["staff"]);
}

fn per_shop(flow: Flow<'_>) -> Table<'_, (Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(seconds(10)))
        .count()
}

fn per_shop_doubled(flow: Flow<'_>) -> Table<'_, (Text, Window), u64> {
    per_shop(flow).map_values(|_, count| count * 2)
}

fn per_minute(flow: Flow<'_>) -> Table<'_, (Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(minutes(1)))
        .count()
}

const SOLD: &str = r#""a",{"start":0,"end":10000}"#;

#[test]
fn logic_behind_a_boundary_is_applied_to_the_rows_there_are() {
    let before = vec![Query::new("sold", "", per_shop)];
    let lived = replaced(before, vec![Query::new("sold", "", per_shop_doubled)]);
    assert!(
        lived.fates.values().all(|fate| *fate == Fate::Restored),
        "{lived:?}"
    );
    assert_eq!(lived.rows.unwrap()["sold"], [format!("[{SOLD}] 4")]);
}

#[test]
fn another_window_is_another_boundary_which_starts_empty() {
    let before = vec![Query::new("sold", "", per_shop)];
    let lived = replaced(before, vec![Query::new("sold", "", per_minute)]);
    let fates: Vec<&Fate> = lived.fates.values().collect();
    assert!(
        fates.contains(&&Fate::New) && fates.contains(&&Fate::Dropped),
        "{lived:?}"
    );
    assert_eq!(lived.rows.unwrap()["sold"], Vec::<String>::new());
}

#[test]
fn a_query_that_is_added_begins_where_its_streams_were_read_to() {
    let sold = || Query::new("sold", "", per_shop);
    let again = || Query::new("again", "", per_shop);
    let lived = replaced(vec![sold()], vec![sold(), again(), latest!(Shop)]);
    let rows = lived.rows.unwrap();
    assert_eq!(rows["sold"], [format!("[{SOLD}] 2")]);
    assert_eq!(rows["again"], Vec::<String>::new());
    // Nobody had read this stream, so it is read from its beginning.
    assert_eq!(rows["shops"].len(), 2);
    let of_new = lived.fates.iter().filter(|(_, fate)| **fate == Fate::New);
    assert!(
        of_new.clone().any(|(name, _)| name == "tables/shops"),
        "{:?}",
        lived.fates
    );
    assert!(
        of_new.clone().any(|(name, _)| name.starts_with("again/")),
        "{:?}",
        lived.fates
    );
}

fn takings(flow: Flow<'_>) -> Table<'_, (u8, Window), i128> {
    flow.part::<Amount>()
        .key_by(|_sale| 0)
        .window(tumbling(seconds(10)))
        .sum(|sale| sale.amount)
}

#[test]
fn rows_made_of_parts_are_restored_where_whole_records_are_read_and_the_other_way_round() {
    let alone = || vec![Query::new("takings", "", takings)];
    let beside = || [alone(), vec![Query::new("sold", "", per_shop)]].concat();
    for (before, after) in [(alone(), beside()), (beside(), alone())] {
        let home = tempfile::tempdir().unwrap();
        let first = live(home.path(), before, &SHOPS, &SALES);
        assert!(first.rows.is_ok());
        let then = live(home.path(), after, &SHOPS, &[SALES[0], SALES[1], LATER]);
        let rows = [
            r#"[0,{"start":0,"end":10000}] 10"#,
            r#"[0,{"start":20000,"end":30000}] 7"#,
        ];
        assert_eq!(then.rows.unwrap()["takings"], rows);
    }
}

#[test]
fn a_query_that_is_removed_is_dropped_with_its_state_and_the_others_go_on() {
    let sold = || Query::new("sold", "", per_shop);
    let lived = replaced(vec![sold(), latest!(Shop)], vec![sold()]);
    assert_eq!(lived.fates["tables/shops"], Fate::Dropped);
    assert_eq!(lived.rows.unwrap()["sold"], [format!("[{SOLD}] 2")]);
}

#[test]
fn a_query_that_is_renamed_is_one_removed_and_one_added() {
    let before = vec![Query::new("sold", "", per_shop)];
    let lived = replaced(before, vec![Query::new("sold_per_shop", "", per_shop)]);
    let is_of = |name: &str, fate: Fate| {
        let mut of = lived
            .fates
            .iter()
            .filter(|(boundary, _)| boundary.starts_with(name));
        of.clone().count() > 0 && of.all(|(_, found)| *found == fate)
    };
    assert!(is_of("sold/", Fate::Dropped), "{:?}", lived.fates);
    assert!(is_of("sold_per_shop/", Fate::New), "{:?}", lived.fates);
    assert_eq!(lived.rows.unwrap()["sold_per_shop"], Vec::<String>::new());
}
