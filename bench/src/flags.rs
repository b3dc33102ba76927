//! The command line.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use rustix::thread::CpuSet;

use crate::body::BodySize;
use crate::compare::CompareFlags;
use crate::quick::QuickFlags;
use crate::report::OutputFlags;
use crate::schedule::Arrivals;
use crate::versus::VersusFlags;

/// A load generator for any NSQ daemon: rates, latency histograms, and what a message costs the
/// daemon in CPU time.
#[derive(Parser)]
#[command(name = "nsq_bench", version)]
pub(crate) struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Everything the tool does.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// A report in 15 seconds: starts a daemon of its own and runs a few scenarios on it.
    Quick(QuickFlags),
    /// One scenario, on one daemon.
    #[command(flatten)]
    Load(Box<Scenario>),
    /// Two JSON reports: the ratios of their figures, and whether the second is worse.
    Compare(CompareFlags),
    /// Two daemons, run in turn: the ratios of what a message costs them and how long it takes.
    Versus(VersusFlags),
}

/// The scenarios; `scenario.rs` has their parameters.
#[derive(Subcommand, Clone)]
pub(crate) enum Scenario {
    /// Publish one by one: 64 connections, each waits for its answer (closed loop).
    Pub(LoadFlags),
    /// One connection, one PUB in flight.
    #[command(name = "pub-1")]
    Pub1(LoadFlags),
    /// 64 connections, one PUB in flight on each (the same as `pub`).
    #[command(name = "pub-64")]
    Pub64(LoadFlags),
    /// 64 connections, 16 PUBs pipelined on each.
    #[command(name = "pub-64x16")]
    Pub64x16(LoadFlags),
    /// Publish in batches: 2 connections, 200 messages in each MPUB.
    Mpub(LoadFlags),
    /// Fill a backlog, then consume it: 2 consumers, RDY 2500, FIN for each message.
    #[command(visible_alias = "sub")]
    Drain(LoadFlags),
    /// MPUB in and 2 consumers out at the same time; producers wait for consumers past a bound.
    Through(LoadFlags),
    /// `mpub` to a daemon that keeps nothing in memory (start it with --mem-queue-size=0).
    OverflowIn(LoadFlags),
    /// `drain` of a backlog on disk (start the daemon with --mem-queue-size=0).
    OverflowOut(LoadFlags),
    /// Open loop: PUB at a fixed rate, latency counted from when each message was due.
    Latency(LoadFlags),
    /// `latency` on a quiet daemon: 50 messages a second on one connection.
    LatencyQuiet(LoadFlags),
    /// Build a backlog of a million messages, then drain it while producers go on at a fixed rate.
    Backlog(LoadFlags),
    /// One consumer that takes 10 ms for each message beside three fast ones, in the open loop.
    SlowConsumer(LoadFlags),
    /// Each message to 100 channels of its topic, a consumer on each.
    FanOut(LoadFlags),
    /// 32 producers and 32 consumers on one topic and channel, PUB by PUB, 16 in flight each.
    HotTopic(LoadFlags),
    /// Open loop over 10 000 ephemeral topics, a consumer each (for lasting ones: `latency`).
    ManyTopics(LoadFlags),
    /// Open loop on a few connections beside 10 000 idle ones.
    ManyConnections(LoadFlags),
    /// Connection churn: connect, IDENTIFY, one PUB, close, and again, 16 at a time.
    Churn(LoadFlags),
    /// One producer with 64 PUBs in flight, for the time to OK of daemons that sync before it.
    Durable(LoadFlags),
    /// Publish over HTTP on 64 connections that are kept alive.
    Http(LoadFlags),
    /// Open loop at rising rates: finds the highest at which p99 stays under a bound.
    Sweep(LoadFlags),
    /// Open connections that do nothing but answer heartbeats: memory and CPU they cost.
    Idle(LoadFlags),
}

impl Scenario {
    /// The name on the command line, and the flags.
    pub(crate) fn parts(&self) -> (&'static str, &LoadFlags) {
        match self {
            Self::Pub(flags) => ("pub", flags),
            Self::Pub1(flags) => ("pub-1", flags),
            Self::Pub64(flags) => ("pub-64", flags),
            Self::Pub64x16(flags) => ("pub-64x16", flags),
            Self::Mpub(flags) => ("mpub", flags),
            Self::Drain(flags) => ("drain", flags),
            Self::Through(flags) => ("through", flags),
            Self::OverflowIn(flags) => ("overflow-in", flags),
            Self::OverflowOut(flags) => ("overflow-out", flags),
            Self::Latency(flags) => ("latency", flags),
            Self::LatencyQuiet(flags) => ("latency-quiet", flags),
            Self::Backlog(flags) => ("backlog", flags),
            Self::SlowConsumer(flags) => ("slow-consumer", flags),
            Self::FanOut(flags) => ("fan-out", flags),
            Self::HotTopic(flags) => ("hot-topic", flags),
            Self::ManyTopics(flags) => ("many-topics", flags),
            Self::ManyConnections(flags) => ("many-connections", flags),
            Self::Churn(flags) => ("churn", flags),
            Self::Durable(flags) => ("durable", flags),
            Self::Http(flags) => ("http", flags),
            Self::Sweep(flags) => ("sweep", flags),
            Self::Idle(flags) => ("idle", flags),
        }
    }
}

/// Flags of every scenario. What is not given comes from the scenario.
#[derive(Args, Clone, Default)]
pub(crate) struct LoadFlags {
    /// Where the daemon listens for clients; a path (anything with a slash) is a unix socket.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4150")]
    pub(crate) address: String,
    /// Where it listens for HTTP; given this, the topics of a run are deleted after it.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http_address: Option<String>,
    /// Process whose CPU time, context switches, memory and writes are reported.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Start this daemon afresh for every run and stop it after; words are split at spaces, `{dir}`
    /// stands for an empty temporary directory.
    #[arg(long, value_name = "COMMAND", conflicts_with = "pid")]
    pub(crate) daemon: Option<String>,

    /// Connections that publish (or idle, in `idle`).
    #[arg(long, visible_alias = "producers")]
    pub(crate) connections: Option<usize>,
    /// Connections that do nothing, beside the load.
    #[arg(long, value_name = "CONNECTIONS")]
    pub(crate) idle: Option<usize>,
    /// Closed loop: commands sent ahead of their answers on each connection.
    #[arg(long)]
    pub(crate) in_flight: Option<usize>,
    /// Messages in each MPUB; 0 sends PUB.
    #[arg(long)]
    pub(crate) batch: Option<u32>,
    /// Consumers of each channel of each topic.
    #[arg(long)]
    pub(crate) consumers: Option<usize>,
    /// Ready count of each consumer.
    #[arg(long)]
    pub(crate) rdy: Option<u32>,
    /// Topics the messages are spread over.
    #[arg(long)]
    pub(crate) topics: Option<usize>,
    /// Channels of each topic.
    #[arg(long)]
    pub(crate) channels: Option<usize>,
    /// Bytes of each body: `200`, all lengths of `100..1000` alike, `lognormal:300,0.8` (median and
    /// deviation of the logarithm), or lengths with weights: `100=90,10000=10`.
    #[arg(long, value_name = "SIZE", visible_alias = "body-size")]
    pub(crate) body_bytes: Option<BodySize>,
    /// Messages a second over all connections: publishes in the open loop, at the times they are
    /// due, whatever becomes of the answers.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// How the times between messages are spread, in the open loop.
    #[arg(long)]
    pub(crate) arrivals: Option<Arrivals>,
    /// Messages to fill up before draining.
    #[arg(long, value_name = "MESSAGES")]
    pub(crate) backlog: Option<u64>,
    /// `through`: messages that producers may be ahead of consumers.
    #[arg(long, value_name = "MESSAGES")]
    pub(crate) bound: Option<u64>,
    /// Publish with DPUB, to be delivered this much later; end-to-end times count from then.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) defer: Option<Duration>,
    /// Share of the deliveries that consumers ask for again (REQ).
    #[arg(long, value_name = "PERCENT")]
    pub(crate) requeue_percent: Option<f64>,
    /// Delay that REQ asks for.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) requeue_delay: Option<Duration>,
    /// Of the consumers of each channel, the ones that take their time.
    #[arg(long, value_name = "CONSUMERS")]
    pub(crate) slow_consumers: Option<usize>,
    /// Time that a slow consumer takes for each message, one after the other.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) slow_delay: Option<Duration>,
    /// Producers connect anew after this many commands; 0 for never.
    #[arg(long, value_name = "COMMANDS")]
    pub(crate) reconnect_every: Option<usize>,
    /// Check that every acknowledged message reaches every channel, whole; the run fails if not.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Topics that live only in memory and while they have consumers (`#ephemeral`).
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// `sweep`: the p99 of the response time that is still good.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) p99_bound: Option<Duration>,
    /// Leave out IDENTIFY, as the simplest clients do.
    #[arg(long)]
    pub(crate) no_identify: bool,
    /// Heartbeat interval to ask for in milliseconds; the daemon's own if not given.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pub(crate) heartbeat_ms: Option<i64>,
    /// Longest time the daemon may hold back messages to send more at once; -1 turns it off.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pub(crate) output_buffer_ms: Option<i64>,
    /// Connections over TLS; the daemon must offer it.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Connections compressed with snappy; the daemon must offer it.
    #[arg(long, conflicts_with = "deflate")]
    pub(crate) snappy: bool,
    /// Connections compressed with deflate; the daemon must offer it.
    #[arg(long)]
    pub(crate) deflate: bool,

    /// End of the measured part, if --messages are not through before.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) duration: Option<Duration>,
    /// Load before the measured part.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) warm_up: Option<Duration>,
    /// Messages to publish in all, warm-up included; 0 for no bound but the duration.
    #[arg(long)]
    pub(crate) messages: Option<u64>,
    /// Repeat, and report median, least and most of the main figures.
    #[arg(long, default_value_t = 1)]
    pub(crate) runs: usize,

    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Cores for the threads, in turn, as `1` or `1,3` or `2-5`.
    #[arg(long, visible_alias = "pin", value_name = "LIST")]
    pub(crate) cpus: Option<String>,
    /// Never sleep in the kernel: the daemon is spared the cost of waking a sleeping core.
    #[arg(long)]
    pub(crate) spin: bool,
    /// Fail when nothing at all comes back for this long.
    #[arg(long, value_parser = parse_duration, default_value = "10s", value_name = "TIME")]
    pub(crate) stall_timeout: Duration,
    /// Where the report goes, besides the terminal.
    #[command(flatten)]
    pub(crate) outputs: OutputFlags,
}

impl LoadFlags {
    /// The cores of `--cpus`, empty when threads are not pinned.
    pub(crate) fn cpu_list(&self) -> Result<Vec<usize>> {
        self.cpus.as_deref().map_or(Ok(Vec::new()), parse_cpus)
    }
}

/// `5s`, `300ms`, `2m`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_s = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        other => bail!("unknown unit {other:?}: use ms, s or m"),
    };
    let number: f64 = digits.parse().with_context(|| format!("{digits:?} is not a number"))?;
    Duration::try_from_secs_f64(number * unit_s).with_context(|| format!("{text} is out of range"))
}

fn parse_cpus(text: &str) -> Result<Vec<usize>> {
    let number = |part: &str| {
        let cpu = part.trim().parse().ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
        cpu.with_context(|| format!("--cpus {text}: {part:?} is not a core; use `1,3` or `2-5`"))
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
            None => cpus.push(number(part)?),
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Flags::command().debug_assert();
    }

    #[test]
    fn durations_and_core_lists_are_read() {
        assert_eq!(parse_duration("300ms").unwrap(), Duration::from_millis(300));
        assert_eq!(parse_duration("1.5").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("2m").unwrap(), Duration::from_secs(120));
        assert!(parse_duration("5h").is_err());
        assert!(parse_duration("-5s").is_err());
        assert_eq!(parse_cpus("1,3-5").unwrap(), [1, 3, 4, 5]);
        assert!(parse_cpus("one").is_err());
        assert!(parse_cpus("0-9999999999").is_err());
    }
}
