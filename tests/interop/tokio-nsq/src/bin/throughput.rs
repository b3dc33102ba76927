//! What a message costs tokio-nsq: the same as `examples/throughput.rs`, for comparison.

use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_nsq::{
    NSQChannel, NSQConfigShared, NSQConsumerConfig, NSQConsumerConfigSources, NSQEvent,
    NSQProducerConfig, NSQTopic,
};

/// Publishes without an answer, and messages in hand.
const WINDOW: u32 = 2500;

fn topic() -> Result<Arc<NSQTopic>> {
    NSQTopic::new("throughput").context("topic name")
}

/// The default waits 100 ms before it writes.
fn shared() -> NSQConfigShared {
    NSQConfigShared::new().set_flush_interval(Duration::from_millis(5))
}

async fn produce(address: String, count: u64) -> Result<()> {
    let mut producer = NSQProducerConfig::new(address).set_shared(shared()).build();
    ensure!(matches!(producer.consume().await, Some(NSQEvent::Healthy())), "no connection");
    let topic = topic()?;
    let mut outstanding = 0;
    for _ in 0..count {
        if outstanding == WINDOW {
            ensure!(matches!(producer.consume().await, Some(NSQEvent::Ok())), "not stored");
            outstanding -= 1;
        }
        producer.publish(&topic, vec![b'x'; 200]).await?;
        outstanding += 1;
    }
    for _ in 0..outstanding {
        ensure!(matches!(producer.consume().await, Some(NSQEvent::Ok())), "not stored");
    }
    Ok(())
}

async fn consume(address: String, count: u64) -> Result<()> {
    let channel = NSQChannel::new("all").context("channel name")?;
    let mut consumer = NSQConsumerConfig::new(topic()?, channel)
        .set_max_in_flight(WINDOW)
        .set_sources(NSQConsumerConfigSources::Daemons(vec![address]))
        .set_shared(shared())
        .build();
    let mut left = count;
    while left > 0 {
        match consumer.consume().await {
            Some(NSQEvent::Message(message)) => {
                ensure!(message.body.len() == 200, "a body of {} bytes", message.body.len());
                message.finish().await;
                left -= 1;
            }
            Some(NSQEvent::Healthy()) => {}
            other => bail!("the connection failed: {other:?}"),
        }
    }
    // What was finished last is to be sent.
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

/// User and system time of this process so far.
fn cpu_time() -> Result<Duration> {
    let times = std::fs::read_to_string("/proc/self/stat")?;
    let fields = times.rsplit(')').next().context("fields")?.split(' ').skip(12).take(2);
    let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().context("produce or consume")?;
    let count: u64 = arguments.next().context("a count")?.parse()?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:4150".to_owned());
    let (began, cpu_before) = (Instant::now(), cpu_time()?);
    match what.as_str() {
        "produce" => produce(address, count).await?,
        _ => consume(address, count).await?,
    }
    let (time, cpu) = (began.elapsed(), cpu_time()? - cpu_before);
    let rate = count as f64 / time.as_secs_f64();
    let cost = cpu.as_secs_f64() * 1e6 / count as f64;
    println!("{what} {count}: {rate:.0}/s, {cost:.3} us of CPU each");
    Ok(())
}
