//! Every record once and in order, whatever else happens at the same time.

use crate::kafka::until;
use crate::reader::{Reader, TOPIC, client, mock, numbered, options, text};

#[test]
fn a_partition_that_is_put_elsewhere_again_and_again_leaves_nothing_out() {
    let mock = mock(1, 1);
    let client = client(&mock);
    client.produce(TOPIC, &numbered(0, 0..5_000, 100));
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    reader.read_until(0, 1);
    for turn in 0..100_u64 {
        let at = turn * 1_999 % 5_000;
        reader.at.insert(0, at);
        reader.read.clear();
        reader.read_until(0, 1);
        let read = &reader.read[&0];
        assert_eq!(read[0], (at, text(at, 100)));
        reader.assert_numbers(0, at..at + read.len() as u64);
        assert_eq!(reader.at[&0], at + read.len() as u64);
    }
}

#[test]
fn a_quiet_partition_loses_nothing_behind_a_busy_one() {
    let mock = mock(1, 2);
    let client = client(&mock);
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    reader.until_live(1);
    // Statistics come each second: the busy partition must be busy for some.
    let (rounds, busy) = (60, 40);
    for round in 0..rounds {
        client.produce(TOPIC, &numbered(1, round * 5..(round + 1) * 5, 10));
        client.produce(
            TOPIC,
            &numbered(0, round * busy..(round + 1) * busy, 100_000),
        );
        // The brokers keep 5 MB, which is all that may be unread.
        until("most of the busy partition", || {
            reader.look().expect("nothing is wrong");
            (reader.at.get(&0) >= Some(&(round * busy))).then_some(())
        });
        reader.read.remove(&0);
    }
    reader.read_until(1, 300);
    reader.assert_numbers(1, 0..300);
}

#[test]
fn records_go_on_where_a_reader_left_off() {
    let mock = mock(1, 1);
    let client = client(&mock);
    client.produce(TOPIC, &numbered(0, 0..10, 10));
    let mut first = Reader::start(options(&mock.bootstrap_servers()));
    first.read_until(0, 10);
    let (at, last) = (first.at.clone(), first.last[&0]);
    drop(first);
    client.produce(TOPIC, &numbered(0, 10..20, 10));
    let mut second = Reader::resume(options(&mock.bootstrap_servers()), at);
    second.recognise(last);
    second.read_until(0, 10);
    second.assert_numbers(0, 10..20);
}
