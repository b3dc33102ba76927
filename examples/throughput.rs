//! What a message costs a client: publishes or consumes so many messages of 200 bytes and prints
//! the rate and the CPU time per message.
//! `cargo run --release --example throughput -- produce|consume [count] [address]`
//!
//! `tests/interop` has the same for go-nsq and tokio-nsq.

use ringmain::client::{Consumer, Error, Producer};
use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;
use tokio::time::Instant;

const BODY: &[u8] = &[b'x'; 200];

/// Publishes without an answer, and messages in hand.
const WINDOW: u32 = 2500;

async fn produce(address: &str, count: u64) -> Result<(), Error> {
    let producer = Producer::new().nsqd(address).window(WINDOW).start()?;
    producer.ping().await?;
    let mut answers = VecDeque::new();
    for _ in 0..count {
        if answers.len() == WINDOW as usize
            && let Some(oldest) = answers.pop_front()
        {
            Box::pin(oldest).await?;
        }
        answers.push_back(producer.begin("throughput", BODY).await?);
    }
    for answer in answers {
        answer.await?;
    }
    producer.stop().await;
    Ok(())
}

async fn consume(address: &str, count: u64) -> Result<(), Error> {
    let consumer = Consumer::new("throughput", "all").nsqd(address).max_in_flight(WINDOW);
    let mut consumer = consumer.connect().await?;
    let mut left = count;
    while let Some(message) = consumer.next().await {
        assert_eq!(message.body().len(), BODY.len());
        message.finish();
        left = left.saturating_sub(1);
        if left == 0 {
            consumer.control().stop();
        }
    }
    Ok(())
}

/// User and system time of this process so far.
fn cpu_time() -> Duration {
    let times = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let fields = times.rsplit(')').next().unwrap_or_default().split(' ').skip(12).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let count = arguments.next().map_or(1_000_000, |count| count.parse().expect("a number"));
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:4150".to_owned());
    let (began, cpu_before) = (Instant::now(), cpu_time());
    match what.as_str() {
        "produce" => produce(&address, count).await?,
        "consume" => consume(&address, count).await?,
        _ => panic!("produce or consume"),
    }
    let (time, cpu) = (began.elapsed(), cpu_time() - cpu_before);
    let rate = count as f64 / time.as_secs_f64();
    let cost = cpu.as_secs_f64() * 1e6 / count as f64;
    let line = format!("{what} {count}: {rate:.0}/s, {cost:.3} us of CPU each");
    writeln!(std::io::stdout(), "{line}").expect("somebody reads");
    Ok(())
}
