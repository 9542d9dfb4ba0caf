//! Writes clicks to a Kafka topic at an even rate until it is interrupted: input to try things on.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tokio::time::{Instant, interval};
use waterclock::time::{Timestamp, millis_of};

/// Writes clicks to a Kafka topic at an even rate, until Ctrl-C.
///
/// A click is {"user_id":"u1","click_time":"2022-01-01 10:00:00"}, in UTC. Its user is the key of
/// its record, so that a user's clicks are in one partition. It is written a few seconds after it
/// happened, some later than others. While the brokers are away the clicks wait, and none is lost.
#[derive(Debug, Parser)]
#[command(name = "produce_clicks")]
pub struct Args {
    /// The brokers to begin with: HOST:PORT, several separated by commas.
    #[arg(long, default_value = "localhost:9092")]
    brokers: String,
    /// The topic, which must exist.
    #[arg(long, default_value = "clicks")]
    topic: String,
    /// Clicks per second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// How many users click.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// The same seed makes the same users click in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    let written = write(&args, stop).await?;
    eprintln!("wrote {written} clicks to '{}'", args.topic);
    Ok(())
}

/// Writes until `stop`; how many clicks the brokers have then.
pub async fn write(args: &Args, stop: impl Future<Output = ()>) -> anyhow::Result<u64> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &args.brokers)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0") // A click waits for as long as it takes.
        .set("queue.buffering.max.messages", "10000")
        .set("partitioner", "murmur2_random") // As Java's producers do it.
        .create()
        .context("setting up the producer")?;
    let (mut stop, begun) = (pin!(stop), Instant::now());
    let mut ticks = interval(Duration::from_millis(20));
    let mut written = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = &mut stop => break,
        }
        let due = millis_of(begun.elapsed()).unsigned_abs() * u64::from(args.rate) / 1000;
        while written < due && send(&producer, args, written)? {
            written += 1;
        }
    }
    let flushed = producer.flush(Duration::from_secs(10));
    flushed.with_context(|| format!("the brokers at {} take no clicks", args.brokers))?;
    Ok(written)
}

/// Hands over the click of this number, unless too many wait for the brokers.
fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    args: &Args,
    n: u64,
) -> anyhow::Result<bool> {
    let random = mix(mix(args.seed) ^ n);
    let user = format!("u{}", random % u64::from(args.users));
    // At most 3 s behind: within the 5 s that a click may be late.
    let at = now().minus(Duration::from_millis((random >> 32) % 3000));
    let time = at.to_string()[..19].replace('T', " ");
    let click = format!(r#"{{"user_id":"{user}","click_time":"{time}"}}"#);
    let record = BaseRecord::to(&args.topic).key(&user).payload(&click);
    match producer.send(record) {
        Ok(()) => Ok(true),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
        Err((error, _)) => Err(error).with_context(|| format!("writing to '{}'", args.topic)),
    }
}

/// Spreads numbers over 64 bits (`SplitMix64`).
fn mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[allow(clippy::disallowed_methods, reason = "clicks happen now")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(millis_of(since.unwrap_or_default()))
}
