//! `nsq_to_nsq`: publishes the messages of topics to other nsqds.
//!
//! A message is finished when its destination has it, and requeued when it may not.

mod filter;

use self::filter::{Decision, Filter};
use super::flags::{Sources, apply, client_option, count, user_agent};
use super::host_pool::{HostPool, Mode};
use super::run::{Failure, StopSignals, run};
use super::timings::Timings;
use crate::client::{Config, Consumer, Error, Message, Producer, Publishing};
use crate::options::value::{boolean, integer};
use crate::options::{Exit, read_flags, refuse, version_of};
use crate::protocol::name::{ChannelName, TopicName};
use clap::ArgAction::Set;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::future::poll_fn;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a destination may be without a connection, or an answer, before it counts as failed;
/// well below the message timeout.
const DESTINATION_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, clap::Parser)]
#[command(name = "nsq_to_nsq", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    /// channel to consume from
    #[arg(long, default_value = "nsq_to_nsq")]
    channel: String,
    /// address of an nsqd to publish to, host:port (repeatable)
    #[arg(long)]
    destination_nsqd_tcp_address: Vec<String>,
    /// topic to publish to (default: the one consumed)
    #[arg(long, default_value = "")]
    destination_topic: String,
    /// most messages in flight at a time, per topic
    #[arg(long, default_value = "200", value_parser = count)]
    max_in_flight: u32,
    /// which destination: round-robin, hostpool or epsilon-greedy
    #[arg(long, default_value = "hostpool")]
    mode: String,
    /// setting of the producers, name,value (repeatable)
    #[arg(long, value_parser = client_option)]
    producer_opt: Vec<String>,
    /// only messages that are JSON with this field
    #[arg(long, default_value = "")]
    require_json_field: String,
    /// only messages whose field has this value
    #[arg(long, default_value = "")]
    require_json_value: String,
    /// messages between two lines of statistics; 0 for none
    #[arg(long, default_value = "250", value_parser = integer::<usize>)]
    status_every: usize,
    /// topic to consume from (repeatable)
    #[arg(long)]
    topic: Vec<String>,
    /// print the version and exit
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    version: bool,
    /// publish only these fields of the JSON (repeatable)
    #[arg(long)]
    whitelist_json_field: Vec<String>,
    #[command(flatten)]
    sources: Sources,
}

/// Runs the utility with the arguments that follow its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(read_flags(arguments).and_then(check), forward)
}

fn check(flags: Flags) -> Result<Flags, Exit> {
    if flags.version {
        return Err(version_of("nsq_to_nsq"));
    }
    let is_topic = |name: &str| TopicName::parse(name.as_bytes()).is_ok();
    let destination = &flags.destination_topic;
    let refusals = [
        (flags.topic.is_empty() || flags.channel.is_empty(), "--topic and --channel are required"),
        (!flags.topic.iter().all(|topic| is_topic(topic)), "--topic is invalid"),
        (!destination.is_empty() && !is_topic(destination), "--destination-topic is invalid"),
        (ChannelName::parse(flags.channel.as_bytes()).is_err(), "--channel is invalid"),
    ];
    if let Some((_, text)) = refusals.into_iter().find(|(is_wrong, _)| *is_wrong) {
        return Err(refuse(text));
    }
    flags.sources.check("")?;
    if flags.destination_nsqd_tcp_address.is_empty() {
        return Err(refuse("--destination-nsqd-tcp-address required"));
    }
    Ok(flags)
}

/// Messages of one topic.
struct Batch {
    topic: String,
    messages: Vec<Message>,
}

/// One publish without an answer.
struct Outstanding {
    message: Message,
    begun: Instant,
    answer: Publishing,
}

/// The destinations and what is on its way to them.
struct Forwarder {
    filter: Filter,
    destination_topic: String,
    producers: Vec<Producer>,
    pool: HostPool,
    start: Instant,
    /// By destination; each answers in order.
    outstanding: Vec<VecDeque<Outstanding>>,
    timings: Vec<Timings>,
    all: Timings,
}

async fn forward(flags: Flags) -> Result<(), Failure> {
    let mut signals = StopSignals::watch()?;
    let config = flags.sources.config("nsq_to_nsq", flags.max_in_flight)?;
    let mut forwarder = Forwarder::new(&flags)?;
    if flags.status_every > 0 && flags.status_every < 100 {
        tracing::warn!("status-every below 100: the percentiles are of few messages");
    }
    let (batches, mut arrived) = mpsc::channel(1);
    let mut controls = Vec::new();
    for topic in &flags.topic {
        let consumer = flags.sources.consumer(topic, &flags.channel, config.clone());
        let consumer = consumer.connect().await?;
        controls.push(consumer.control());
        tokio::spawn(read(topic.clone(), consumer, batches.clone()));
    }
    drop(batches);
    loop {
        tokio::select! {
            () = signals.next() => controls.iter().for_each(crate::client::ConsumerControl::stop),
            (at, outcome) = answered(&mut forwarder.outstanding) => forwarder.settle(at, &outcome),
            batch = arrived.recv() => match batch {
                Some(batch) => forwarder.take(batch).await,
                // The consumers have ended, and with them what could be answered.
                None => break,
            },
        }
    }
    for producer in &forwarder.producers {
        producer.stop().await;
    }
    Ok(())
}

async fn read(topic: String, mut consumer: Consumer, batches: mpsc::Sender<Batch>) {
    while let Some(messages) = consumer.next_batch().await {
        if batches.send(Batch { topic: topic.clone(), messages }).await.is_err() {
            return;
        }
    }
}

/// The next answer of any destination, and which it was; none comes while nothing is out.
async fn answered(outstanding: &mut [VecDeque<Outstanding>]) -> (usize, Result<(), Error>) {
    poll_fn(|cx| {
        for (at, queue) in outstanding.iter_mut().enumerate() {
            let Some(first) = queue.front_mut() else { continue };
            if let Poll::Ready(outcome) = Pin::new(&mut first.answer).poll(cx) {
                return Poll::Ready((at, outcome));
            }
        }
        Poll::Pending
    })
    .await
}

impl Forwarder {
    fn new(flags: &Flags) -> Result<Self, Error> {
        let mut config = Config {
            user_agent: user_agent("nsq_to_nsq"),
            publish_timeout: DESTINATION_PATIENCE,
            ..Config::default()
        };
        apply(&mut config, &flags.producer_opt)?;
        let addresses = &flags.destination_nsqd_tcp_address;
        let start = |address: &String| Producer::new().nsqd(address).config(config.clone()).start();
        let producers = addresses.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let mode = match flags.mode.as_str() {
            "hostpool" => Mode::HostPool,
            "epsilon-greedy" => Mode::EpsilonGreedy,
            // As the original takes every other word.
            _ => Mode::RoundRobin,
        };
        // With a single destination its lines would say what the aggregate's do.
        let every = if addresses.len() > 1 { flags.status_every } else { 0 };
        let timings = addresses.iter().map(|address| Timings::new(format!("[{address}]:"), every));
        Ok(Self {
            filter: Filter {
                require_field: flags.require_json_field.clone(),
                require_value: flags.require_json_value.clone(),
                whitelist: flags.whitelist_json_field.clone(),
            },
            destination_topic: flags.destination_topic.clone(),
            pool: HostPool::new(mode, producers.len(), fastrand::u64(..)),
            start: Instant::now(),
            outstanding: producers.iter().map(|_| VecDeque::new()).collect(),
            timings: timings.collect(),
            all: Timings::new("[aggregate]:".to_owned(), flags.status_every),
            producers,
        })
    }

    async fn take(&mut self, batch: Batch) {
        let Batch { topic, messages } = batch;
        let named = Some(self.destination_topic.clone()).filter(|topic| !topic.is_empty());
        let topic = named.unwrap_or(topic);
        for message in messages {
            let body = match self.filter.decide(message.body()) {
                Decision::Pass(body) => body,
                Decision::Drop => {
                    message.finish();
                    continue;
                }
                Decision::DropBroken => {
                    let body = String::from_utf8_lossy(message.body());
                    tracing::error!("ERROR: Unable to decode json: {body}");
                    message.finish();
                    continue;
                }
                Decision::Requeue => {
                    tracing::error!("ERROR: missing field to check required value");
                    message.requeue();
                    continue;
                }
            };
            let begun = Instant::now();
            let at = self.pool.choose(begun - self.start);
            match self.producers[at].begin(&topic, body).await {
                Ok(answer) => {
                    self.outstanding[at].push_back(Outstanding { message, begun, answer });
                }
                Err(error) => {
                    tracing::error!("{error}");
                    message.requeue();
                }
            }
        }
    }

    /// The first publish to this destination has its answer.
    fn settle(&mut self, at: usize, outcome: &Result<(), Error>) {
        let Some(Outstanding { message, begun, .. }) = self.outstanding[at].pop_front() else {
            return;
        };
        let took = begun.elapsed();
        self.pool.mark(at, outcome.is_ok(), took, self.start.elapsed());
        match outcome {
            Ok(()) => message.finish(),
            Err(error) => {
                tracing::error!("{error}");
                message.requeue();
            }
        }
        let lines = [self.timings[at].add(took), self.all.add(took)];
        for line in lines.into_iter().flatten() {
            tracing::info!("{line}");
        }
    }
}
