//! What one subscriber meets: pieces, gaps, expiries, final rows, resets and bounds.

use super::*;

fn numbered(n: usize) -> impl Iterator<Item = (String, u64)> {
    (0..n).map(|n| (format!("key {n:06} {}", "x".repeat(60)), n as u64))
}

#[test]
fn an_answer_and_its_changes_come_in_pieces_that_are_written_once() {
    let mut world = World::new(false, 100);
    let mut first = world.subscribe(None, Format::Sse);
    let mut second = world.subscribe(None, Format::Sse);
    first.drain(&world);
    second.drain(&world);
    world.add(numbered(5000));
    let pieces = |client: &mut Client| {
        let subscription = client.subscription.as_mut().unwrap();
        let mut pieces = Vec::new();
        while let Next::Frame(frame) = subscription.next() {
            pieces.push(frame);
        }
        pieces
    };
    let (ours, theirs) = (pieces(&mut first), pieces(&mut second));
    assert!(ours.len() > 5, "{}", ours.len());
    assert!(ours.iter().all(|frame| frame.bytes.len() < 70_000));
    let is_shared = |(a, b): (&Frame, &Frame)| a.bytes.as_ptr() == b.bytes.as_ptr();
    assert!(
        ours.iter().zip(&theirs).all(is_shared),
        "a piece was written twice"
    );
    for frame in &ours {
        first.hear(&world, frame);
    }
    assert_eq!(first.bag.len(), 5000);
    let mut late = world.subscribe(None, Format::Sse);
    late.drain(&world);
    let parts = late
        .events
        .iter()
        .map(|(_, part)| (&part["start"], &part["end"]));
    let parts: Vec<_> = parts.collect();
    assert!(parts.len() > 5, "{}", parts.len());
    assert_eq!((parts[0].0, parts[0].1), (&json!(true), &json!(false)));
    assert_eq!(parts.iter().filter(|(start, _)| **start == true).count(), 1);
    assert_eq!(parts.iter().filter(|(_, end)| **end == true).count(), 1);
}

#[test]
fn who_is_behind_gets_the_net_change() {
    let mut world = World::new(false, 1000);
    let mut client = world.subscribe(None, Format::Sse);
    client.drain(&world);
    for n in 0..100 {
        if n > 0 {
            world.close(0, &[("k", n - 1, 900, -1), ("k", n, 900, 1)]);
        } else {
            world.close(0, &[("k", n, 900, 1)]);
        }
        world.feed();
        if n == 3 {
            client.drain(&world);
            assert_eq!(client.names(), "snapshot changes changes changes changes");
        }
    }
    client.drain(&world);
    let changes = &client.events[0].1["changes"];
    assert_eq!(changes[0], json!({"op": "-", "key": "k", "value": 3}));
    assert_eq!(changes[1], json!({"op": "+", "key": "k", "value": 99}));
    assert_eq!(client.names(), "changes");
}

#[test]
fn a_row_that_expires_says_so() {
    let mut world = World::new(false, 100);
    world.close(0, &[("a", 1, 10, 1), ("b", 1, 900, 1)]);
    world.feed();
    let mut client = world.subscribe(None, Format::Sse);
    client.drain(&world);
    world.close(10, &[("b", 1, 900, -1), ("b", 2, 900, 1)]);
    world.close(20, &[("a", 1, 10, -1)]);
    world.feed();
    client.drain(&world);
    let changes = &client.events[1].1["changes"];
    let gone = json!({"op": "-", "key": "a", "value": 1, "expired": true});
    assert_eq!(changes[0], gone);
    assert_eq!(changes[1], json!({"op": "-", "key": "b", "value": 1}));
}

#[test]
fn a_final_row_comes_once_and_is_never_taken_back() {
    let mut world = World::new(true, 100);
    world.close(0, &[("a", 1, 10, 1), ("b", 1, 20, 1)]);
    world.feed();
    let mut client = world.subscribe(None, Format::Socket);
    client.drain(&world);
    assert_eq!(client.events[0].1["rows"], json!([]));
    world.close(5, &[("a", 1, 10, -1), ("a", 2, 10, 1)]);
    world.feed();
    client.drain(&world);
    assert_eq!(client.names(), "snapshot");
    world.close(10, &[]);
    world.feed();
    client.drain(&world);
    assert_eq!(
        client.events[0].1["changes"],
        json!([{"op": "+", "key": "a", "value": 2}])
    );
    world.close(15, &[("a", 2, 10, -1)]);
    world.feed();
    client.drain(&world);
    assert_eq!(client.names(), "changes");
}

#[test]
fn what_cannot_be_continued_is_reset_with_its_reason() {
    let mut world = World::new(false, 3);
    world.add(numbered(3));
    let mut client = world.subscribe(None, Format::Sse);
    client.drain(&world);
    let known = Resume::decode(&client.id, "it").unwrap();
    client.names();
    for (resume, reason) in [
        (Resume { run: 9, ..known }, "of run 9, and this is run 1"),
        (Resume { scope: 1, ..known }, "another query, key or prefix"),
        (Resume { epoch: 99, ..known }, "epoch 99 is not there yet"),
        (Resume { epoch: 0, ..known }, "epoch 0 is too old"),
    ] {
        client.resume(Some(resume));
        client.turn(&world);
        assert_eq!(client.id, "", "a reset voids the token");
        let said = client.events[0].1["reason"].to_string();
        assert!(said.contains(reason), "{said}");
        client.drain(&world);
        assert_eq!(client.names(), "reset snapshot");
    }
    client.resume(Some(known));
    client.drain(&world);
    assert_eq!(client.names(), "");
    // The feed has the newest steps, whatever the view has forgotten.
    (0..20).for_each(|n| world.add([(format!("{n}"), n)].into_iter()));
    client.drain(&world);
    assert_eq!(client.names(), "reset snapshot");
}

#[test]
fn an_answer_that_leaves_the_history_while_it_is_sent_is_begun_again() {
    let mut world = World::new(false, 3);
    world.add(numbered(5000));
    let mut client = world.subscribe(None, Format::Sse);
    client.turn(&world);
    (0..9).for_each(|n| world.add([(format!("{n}"), n)].into_iter()));
    let has_progress = client
        .subscription
        .as_ref()
        .and_then(Subscription::progress);
    assert!(has_progress.is_none(), "it could not go on from there");
    client.drain(&world);
    let names = client.names();
    assert!(
        names.starts_with("snapshot reset snapshot snapshot"),
        "{names}"
    );
    assert_eq!(client.bag.len(), 5009);
}

#[test]
fn who_is_too_slow_for_a_long_event_is_cut_off() {
    let mut world = World::new(false, 1000);
    let mut client = world.subscribe(None, Format::Sse);
    client.drain(&world);
    let id = client.id.clone();
    world.add(numbered(5000));
    client.turn(&world);
    assert!(!client.heard.is_empty(), "the event has one piece");
    // So much comes that the feed lets go of it.
    for n in 0..20 {
        let rows = numbered(5000).map(|(key, value)| (format!("{n} {key}"), value));
        world.add(rows);
    }
    client.drain(&world);
    assert!(client.subscription.is_none(), "it goes on");
    assert_eq!(client.id, id);
    client.reconnect();
    client.drain(&world);
    assert_eq!(client.names(), "snapshot changes");
}

#[test]
fn what_waits_for_those_behind_is_bounded() {
    let mut world = World::new(false, 1000);
    let mut client = world.subscribe(None, Format::Sse);
    client.drain(&world);
    (0..40).for_each(|n| world.add(numbered(100).map(|(key, value)| (key, value + n))));
    client.backlog = Arc::new(Semaphore::new(1 << 20));
    client.reconnect();
    client.turn(&world);
    client.turn(&world);
    assert!(
        client.backlog.available_permits() < 1 << 20,
        "it is not counted"
    );
    client.subscription = None;
    assert_eq!(client.backlog.available_permits(), 1 << 20);
    client.backlog = Arc::new(Semaphore::new(1000));
    client.reconnect();
    client.names();
    client.drain(&world);
    let said = client.events[0].1["reason"].to_string();
    assert!(
        said.contains("more than is kept for subscribers that are behind"),
        "{said}"
    );
    assert!(client.names().starts_with("reset snapshot"));
}

#[test]
fn a_query_that_fails_ends_its_subscriptions_with_the_reason() {
    let mut world = World::new(false, 1000);
    let mut client = world.subscribe(None, Format::Sse);
    client.drain(&world);
    world.close(0, &[]);
    world.view().fail("it divided by zero".into());
    world.feed();
    client.drain(&world);
    let said = client.events[1].1["reason"].to_string();
    assert!(
        said.contains("query 'q' failed: it divided by zero"),
        "{said}"
    );
    assert_eq!(client.names(), "snapshot reset");
    assert!(client.subscription.is_none(), "it goes on");
}
