//! A dataflow that is slow, or reads some partitions only: nothing is lost, and nobody is called
//! silent for it.

use waterclock::source::kafka::KafkaOptions;

use crate::kafka::until;
use crate::reader::{Reader, TOPIC, client, mock, numbered, options};

fn small(servers: &str) -> KafkaOptions {
    KafkaOptions {
        buffer_bytes: 1 << 20,
        ..options(servers)
    }
}

#[test]
fn a_small_buffer_loses_nothing() {
    let mock = mock(1, 2);
    let client = client(&mock);
    client.produce(TOPIC, &numbered(0, 0..400, 10_000));
    client.produce(TOPIC, &numbered(1, 0..400, 10_000));
    let mut reader = Reader::start(small(&mock.bootstrap_servers()));
    // First one alone, so that the other fills the buffer; then both.
    until("one of them", || {
        let all = reader.partitions();
        let other = all.iter().find(|partition| partition.id == 1)?;
        reader.look_at(&all[0]).unwrap();
        if reader.at[&0] == 0 {
            reader.look_at(other).unwrap();
        }
        assert!(!reader.is_live(1), "it waits for us");
        (reader.at[&0] == 400).then_some(())
    });
    reader.read_until(1, 400);
    reader.assert_numbers(0, 0..400);
    reader.assert_numbers(1, 0..400);
    reader.until_live(0);
    reader.until_live(1);
}

#[test]
fn a_partition_that_is_not_read_holds_up_no_other() {
    let mock = mock(1, 2);
    let client = client(&mock);
    let mut reader = Reader::start(small(&mock.bootstrap_servers()));
    reader.until_live(0);
    reader.until_live(1);
    // It runs ahead, say, and waits for the other, which is at its end.
    client.produce(TOPIC, &numbered(0, 0..400, 10_000));
    until("a full buffer", || {
        let end = reader.partitions()[0].end;
        (end == 400).then_some(())
    });
    for turn in 0..5 {
        client.produce(TOPIC, &numbered(1, turn..turn + 1, 10));
        until("the other", || {
            let other = reader.partitions().remove(1);
            reader.look_at(&other).unwrap();
            (reader.at[&1] == turn + 1).then_some(())
        });
        assert!(!reader.is_live(0), "it waits for us");
    }
    reader.read_until(0, 400);
    reader.assert_numbers(0, 0..400);
    reader.assert_numbers(1, 0..5);
}
