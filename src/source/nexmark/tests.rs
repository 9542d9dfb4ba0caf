//! The made-up events are the benchmark's, byte for byte, however they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sha2::{Digest, Sha256};

use super::*;
use crate::source::{Clock, Source};
use crate::time::{millis, seconds};

fn thousand_a_second() -> NexmarkOptions {
    NexmarkOptions {
        rate: 1000.0,
        events: 100_000,
        out_of_order: seconds(5),
        ..NexmarkOptions::default()
    }
}

/// A partition from a position on, in reads of so many bytes.
fn read(source: &mut NexmarkSource, partition: u32, position: u64, bytes: usize) -> String {
    let (mut position, mut text) = (position, String::new());
    while let Some(chunk) = source.read(partition, position, bytes, None).unwrap() {
        assert!(chunk.start == position && chunk.end > position);
        position = chunk.end;
        text.push_str(str::from_utf8(&chunk.bytes).unwrap());
    }
    text
}

fn digest(options: NexmarkOptions) -> Vec<u8> {
    let text = read(&mut NexmarkSource::new("nexmark", options), 0, 0, 1 << 20);
    Sha256::digest(text)[..6].to_vec()
}

#[test]
fn the_bytes_are_the_benchmarks() {
    assert_eq!(
        digest(thousand_a_second()),
        [0x69, 0x31, 0x9b, 0x4b, 0x42, 0xdc]
    );
    let late = NexmarkOptions {
        late_ppm: 20_000,
        late: seconds(20),
        ..thousand_a_second()
    };
    assert_eq!(digest(late), [0x1e, 0xdd, 0x18, 0x79, 0x9e, 0xf3]);
    let clicks = NexmarkOptions {
        kind: Kind::Clicks { users: 1000 },
        rate: 10.0,
        ..thousand_a_second()
    };
    assert_eq!(digest(clicks), [0x2b, 0x58, 0x27, 0x6b, 0x32, 0xf2]);
}

#[test]
fn any_part_can_be_read_again_and_partitions_take_turns() {
    let few = NexmarkOptions {
        events: 1000,
        ..thousand_a_second()
    };
    let all = read(&mut NexmarkSource::new("nexmark", few.clone()), 0, 0, 1000);
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 1000);

    let dealt = NexmarkOptions {
        partitions: 3,
        ..few
    };
    let mut source = NexmarkSource::new("nexmark", dealt);
    let ends: Vec<u64> = source.partitions().unwrap().iter().map(|p| p.end).collect();
    assert_eq!(ends, [334, 333, 333]);
    for (partition, from) in [(0, 0), (2, 100), (2, 7), (1, 333), (0, 331), (2, 332)] {
        let own = lines.iter().skip(partition as usize).step_by(3);
        let want: Vec<&str> = own.skip(usize::try_from(from).unwrap()).copied().collect();
        let have = read(&mut source, partition, from, 700);
        assert_eq!(
            have.lines().collect::<Vec<_>>(),
            want,
            "{partition} from {from}"
        );
    }
    let until = source.read(1, 10, 1 << 20, Some(12)).unwrap().unwrap();
    assert_eq!((until.start, until.end), (10, 12));
}

#[test]
fn events_come_as_time_passes_and_go_on_after_a_restart() {
    let now = Arc::new(AtomicI64::new(5_000));
    let hand = Arc::clone(&now);
    let clock: Clock = Arc::new(move || Timestamp(hand.load(Ordering::Relaxed)));
    let endless = NexmarkOptions {
        events: 0,
        out_of_order: millis(100),
        ..thousand_a_second()
    };
    let mut source = NexmarkSource::new("nexmark", endless).paced(clock);
    assert_eq!(source.read(0, 0, 1 << 20, None).unwrap(), None);
    now.fetch_add(20, Ordering::Relaxed);
    let chunk = source.read(0, 0, 1 << 20, None).unwrap().unwrap();
    assert_eq!((chunk.start, chunk.end), (0, 20));

    // Of a run before this one more was read.
    let again = source.read(0, 0, 1 << 20, Some(70)).unwrap().unwrap();
    assert_eq!(again.end, 70);
    assert!(again.bytes.starts_with(&chunk.bytes));
    source.resume(&[(0, 70)].into());
    assert_eq!(source.partitions().unwrap()[0].end, 70);
    now.fetch_add(5, Ordering::Relaxed);
    assert_eq!(source.partitions().unwrap()[0].end, 75);
}
