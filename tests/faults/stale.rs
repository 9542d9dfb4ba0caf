//! A service that catches up after its start: who allows it gets the rows of the checkpoint, with
//! what they are, and nobody gets anything else.

use serde_json::Value;

use crate::layer::Layer;
use crate::script::{Act, Actor, QUERY, expected, launch, post, token};
use crate::service::{Client, Launch, Service, until};

/// Where what was posted is read: by the start, which checks it, and then by who catches up.
const OPEN: &str = "open log/clicks/#.log";

/// Starts a service that hangs before it reads what came after its checkpoint.
fn held(launch: &Launch, layer: &Layer) -> Service {
    // The last time that the log is opened until it is ready is that one.
    layer.forget();
    layer.rules(&[&format!("slow:0 1 1000000 {OPEN}")]);
    launch.start_ready().kill();
    let last = layer.landed().len();
    layer.forget();
    layer.rules(&[&format!("hold {last} {last} {OPEN}")]);
    let service = launch.start();
    until("it to hang", || (!layer.landed().is_empty()).then_some(()));
    service
}

fn read(service: &Client, more: &str) -> crate::service::Reply {
    service.get(&format!("/v1/queries/{QUERY}?limit=10000{more}"))
}

fn token_of(service: &Client, number: usize) -> String {
    token(&post(service, number).expect("it is there"))
}

/// The rows that will not change any more.
fn finals(rows: &Value) -> Value {
    let rows = rows.as_array().expect("a list").iter();
    rows.filter(|row| row["final"] == true).cloned().collect()
}

#[test]
fn while_it_catches_up_who_allows_it_reads_the_checkpoint_and_nobody_a_wrong_answer() {
    let home = tempfile::tempdir().expect("a place for the test");
    let layer = Layer::new(home.path());
    let launch = layer.under(&launch(home.path()));
    let (service, mut actor) = (launch.start(), Actor::default());
    let acts = [Act::Post, Act::Ready, Act::Post, Act::Read, Act::Checkpoint];
    actor.play(&service, &acts).expect("nobody kills it");
    let before = read(&service, "").ok();
    let acts = [Act::Post, Act::Read, Act::Post, Act::Read];
    actor.play(&service, &acts).expect("nobody kills it");
    service.kill();

    let service = held(&launch, &layer);
    let checkpoint = service.get("/v1/checkpoints").ok()["checkpoints"][0]["epoch"].clone();
    let answer = read(&service, "&max_staleness=1d").ok();
    assert_eq!(answer["rows"], expected(2));
    assert_eq!(
        (&answer["as_of"], &answer["stale"]),
        (&checkpoint, &Value::Bool(true))
    );
    assert!(
        answer["age_ms"].as_u64().is_some_and(|age| age > 0),
        "{answer}"
    );
    for label in ["complete_through", "positions"] {
        assert_eq!(answer[label], before[label], "{label}");
    }
    let allowed = read(&service, "&final=true&max_staleness=1d").ok();
    assert_eq!(allowed["rows"], finals(&expected(2)));

    // Who allows nothing, or too little, or asks for what is not there yet.
    for more in ["", "&max_staleness=0s", "&max_staleness=1ms", "&final=true"] {
        let told = read(&service, more).problem(503);
        assert!(
            told.contains("allow such an answer with max_staleness="),
            "{told}"
        );
    }
    let (first, last) = (token_of(&service, 0), token_of(&service, 3));
    for path in [
        "/readyz".to_owned(),
        format!("/v1/queries/{QUERY}/changes"),
        format!("/v1/queries/{QUERY}?at={checkpoint}"),
        format!("/v1/queries/{QUERY}?after={first}"),
    ] {
        let told = service.get(&path).problem(503);
        assert!(told.contains("not ready"), "{path}: {told}");
    }
    let included = read(&service, &format!("&after={first}&max_staleness=1d")).ok();
    assert_eq!(included["rows"], expected(2));
    let waited = format!("&after={last}&max_staleness=1d&timeout=50ms");
    let told = read(&service, &waited).problem(503);
    assert!(told.contains("did not reach position"), "{told}");

    // It is posted to all the while; who waits for that gets all of it.
    actor.play(&service, &[Act::Post]).expect("posts are taken");
    let newest = format!("&after={}&max_staleness=1d", token_of(&service, 4));
    std::thread::scope(|scope| {
        let client = Client::clone(&service);
        let waiting = scope.spawn(move || read(&client, &newest).ok());
        layer.rules(&[]);
        let answer = waiting.join().expect("it is answered");
        assert_eq!(answer["rows"], expected(5));
    });
    service.wait_ready();
    assert_eq!(read(&service, "").ok()["stale"], false);
    actor.check(&service, false);
}
