//! tokio-nsq against a daemon: the scenarios of `../README.md`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio_nsq::{
    NSQChannel, NSQConfigShared, NSQConfigSharedCompression, NSQConfigSharedTLS, NSQConsumer,
    NSQConsumerConfig, NSQConsumerConfigSources, NSQDeflateLevel, NSQEvent, NSQMessage,
    NSQProducer, NSQProducerConfig, NSQRequeueDelay, NSQTopic,
};

const BATCH: usize = 100;
const REQUEUE_EVERY: usize = 100;
const IN_FLIGHT: u32 = 200;
const SLACK: Duration = Duration::from_millis(50);

/// tokio-nsq does not negotiate a message timeout: its timeouts run against the quick daemon,
/// which was started with this one.
const QUICK_TIMEOUT: Duration = Duration::from_millis(1500);

/// What lies between the protocol and the socket; a run with layers is a short one.
fn layers() -> String {
    std::env::var("NSQD_LAYERS").unwrap_or_default()
}

/// Messages in all, and those published one by one.
fn counts() -> (usize, usize) {
    if layers().is_empty() { (10_000, 2_000) } else { (1_000, 200) }
}

fn address() -> Result<String> {
    std::env::var("NSQD_ADDRESS").context("NSQD_ADDRESS")
}

fn quick_address() -> Result<String> {
    std::env::var("NSQD_QUICK_ADDRESS").context("NSQD_QUICK_ADDRESS")
}

/// A body that says its index and holds every byte value somewhere in the run.
fn body_of(index: usize) -> Vec<u8> {
    let mut body = format!("{index}:").into_bytes();
    body.extend((0..index % 200).map(|k| ((index + k) & 0xff) as u8));
    body
}

fn topic(name: &str) -> Result<Arc<NSQTopic>> {
    NSQTopic::new(name).with_context(|| format!("topic name {name}"))
}

/// Writes leave at once, so that a scenario waits for the daemon and not for its client.
fn shared() -> NSQConfigShared {
    let mut shared = NSQConfigShared::new().set_flush_interval(Duration::from_millis(5));
    let layers = layers();
    if layers.contains("tls_v1") {
        shared = shared.set_tls(NSQConfigSharedTLS::new("localhost"));
    }
    if layers.contains("snappy") {
        shared = shared.set_compression(NSQConfigSharedCompression::Snappy);
    }
    if layers.contains("deflate") {
        let level = NSQDeflateLevel::new(6).expect("1 to 9");
        shared = shared.set_compression(NSQConfigSharedCompression::Deflate(level));
    }
    match std::env::var("NSQD_AUTH_SECRET") {
        Ok(secret) => shared.set_credentials(secret.into_bytes()),
        Err(_) => shared,
    }
}

async fn connected_producer(address: String) -> Result<NSQProducer> {
    let mut producer = NSQProducerConfig::new(address).set_shared(shared()).build();
    match producer.consume().await {
        Some(NSQEvent::Healthy()) => Ok(producer),
        other => bail!("the producer did not connect: {other:?}"),
    }
}

async fn expect_oks(producer: &mut NSQProducer, count: usize) -> Result<()> {
    for _ in 0..count {
        let answer = producer.consume().await;
        ensure!(matches!(answer, Some(NSQEvent::Ok())), "a publish was answered {answer:?}");
    }
    Ok(())
}

/// A consumer that takes no error: the library answers one by reconnecting.
struct StrictConsumer {
    name: &'static str,
    consumer: NSQConsumer,
}

impl StrictConsumer {
    fn connect(address: String, name: &'static str) -> Result<Self> {
        let channel = NSQChannel::new("all").context("channel name")?;
        let consumer = NSQConsumerConfig::new(topic(name)?, channel)
            .set_max_in_flight(IN_FLIGHT)
            .set_sources(NSQConsumerConfigSources::Daemons(vec![address]))
            .set_shared(shared())
            .build();
        Ok(Self { name, consumer })
    }

    async fn next(&mut self) -> Result<NSQMessage> {
        loop {
            match self.consumer.consume().await {
                Some(NSQEvent::Message(message)) => return Ok(message),
                Some(NSQEvent::Healthy()) => {}
                other => bail!("{}: the connection failed: {other:?}", self.name),
            }
        }
    }

    /// Takes what has come without waiting; a message is one too many.
    async fn check_quiet(&mut self) -> Result<()> {
        match tokio::time::timeout(Duration::from_millis(1), self.next()).await {
            Err(_nothing_came) => Ok(()),
            Ok(Ok(message)) => bail!("{}: {message:?} came after the last message", self.name),
            Ok(Err(error)) => Err(error),
        }
    }
}

async fn publish_bulk() -> Result<()> {
    let mut producer = connected_producer(address()?).await?;
    let topic = topic("bulk")?;
    let (messages, single) = counts();
    for index in 0..single {
        producer.publish(&topic, body_of(index)).await?;
    }
    for first in (single..messages).step_by(BATCH) {
        let bodies = (first..first + BATCH).map(body_of).collect();
        producer.publish_multiple(&topic, bodies).await?;
    }
    expect_oks(&mut producer, single + (messages - single) / BATCH).await
}

async fn bulk() -> Result<StrictConsumer> {
    publish_bulk().await.context("bulk")?;
    let mut consumer = StrictConsumer::connect(address()?, "bulk")?;
    let mut finished = HashSet::new();
    let mut requeued = HashSet::new();
    let (messages, _) = counts();
    while finished.len() < messages {
        let message = consumer.next().await?;
        let digits = message.body.split(|&byte| byte == b':').next().unwrap_or_default();
        let index: usize = std::str::from_utf8(digits)?.parse().context("bulk: index")?;
        ensure!(message.body == body_of(index), "bulk: message {index} has a wrong body");
        ensure!(!finished.contains(&index), "bulk: message {index} came again after FIN");
        let expected = if requeued.contains(&index) { 2 } else { 1 };
        ensure!(
            message.attempt == expected,
            "bulk: message {index} has attempts {}, not {expected}",
            message.attempt
        );
        if index % REQUEUE_EVERY == 0 && requeued.insert(index) {
            message.requeue(NSQRequeueDelay::NoDelay).await;
        } else {
            finished.insert(index);
            message.finish().await;
        }
    }
    ensure!(requeued.len() == messages / REQUEUE_EVERY, "bulk: {} requeues", requeued.len());
    Ok(consumer)
}

async fn publish_one(address: String, name: &str) -> Result<()> {
    let mut producer = connected_producer(address).await?;
    producer.publish(&topic(name)?, b"one".to_vec()).await?;
    expect_oks(&mut producer, 1).await.with_context(|| name.to_owned())
}

async fn let_time_out(consumer: &mut StrictConsumer) -> Result<()> {
    let topic = consumer.name;
    let started = Instant::now();
    publish_one(quick_address()?, topic).await?;
    let unanswered = consumer.next().await?;
    ensure!(unanswered.attempt == 1, "{topic}: attempts {}, not 1", unanswered.attempt);
    let message = consumer.next().await?;
    let waited = started.elapsed();
    ensure!(message.attempt == 2, "{topic}: attempts {}, not 2", message.attempt);
    ensure!(waited + SLACK >= QUICK_TIMEOUT, "{topic}: came again after {waited:?}");
    message.finish().await;
    Ok(())
}

async fn touch() -> Result<StrictConsumer> {
    let mut consumer = StrictConsumer::connect(quick_address()?, "touch")?;
    // Shows that messages of this channel do time out, so that touching is what keeps the next.
    let_time_out(&mut consumer).await?;
    publish_one(quick_address()?, "touch").await?;
    let message = consumer.next().await?;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        message.touch().await;
    }
    ensure!(message.attempt == 1, "touch: attempts {}, not 1", message.attempt);
    consumer.check_quiet().await?;
    message.finish().await;
    Ok(consumer)
}

async fn defer() -> Result<StrictConsumer> {
    let mut consumer = StrictConsumer::connect(address()?, "defer")?;
    let mut producer = connected_producer(address()?).await?;
    let topic = topic("defer")?;
    let started = Instant::now();
    producer.publish_deferred(&topic, b"later".to_vec(), 1000).await?;
    producer.publish(&topic, b"now".to_vec()).await?;
    expect_oks(&mut producer, 2).await.context("defer")?;
    for (expected, delay) in [("now", Duration::ZERO), ("later", Duration::from_secs(1))] {
        let message = consumer.next().await?;
        let waited = started.elapsed();
        let body = String::from_utf8_lossy(&message.body).into_owned();
        ensure!(body == expected, "defer: '{body}' came, not '{expected}'");
        ensure!(waited + SLACK >= delay, "defer: '{expected}' came after {waited:?}");
        message.finish().await;
    }
    Ok(consumer)
}

async fn requeue() -> Result<StrictConsumer> {
    let delay = Duration::from_millis(700);
    let mut consumer = StrictConsumer::connect(address()?, "requeue")?;
    publish_one(address()?, "requeue").await?;
    let message = consumer.next().await?;
    let started = Instant::now();
    message.requeue(NSQRequeueDelay::CustomDelay(delay)).await;
    let message = consumer.next().await?;
    let waited = started.elapsed();
    ensure!(message.attempt == 2, "requeue: attempts {}, not 2", message.attempt);
    ensure!(waited + SLACK >= delay, "requeue: came again after {waited:?}");
    message.finish().await;
    Ok(consumer)
}

async fn timeout() -> Result<StrictConsumer> {
    let mut consumer = StrictConsumer::connect(quick_address()?, "timeout")?;
    let_time_out(&mut consumer).await?;
    Ok(consumer)
}

async fn scenarios() -> Result<()> {
    if !layers().is_empty() {
        let mut consumer = bulk().await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        return consumer.check_quiet().await;
    }
    let (bulk, touch, defer, requeue, timeout) =
        tokio::try_join!(bulk(), touch(), defer(), requeue(), timeout())?;
    // By now every answer had time to be refused or to be forgotten.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for mut consumer in [bulk, touch, defer, requeue, timeout] {
        consumer.check_quiet().await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tokio::time::timeout(Duration::from_secs(60), scenarios())
        .await
        .context("tokio-nsq: not done after 60 s")?
        .context("tokio-nsq")?;
    println!("OK");
    Ok(())
}
