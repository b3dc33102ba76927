//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use rustix::thread::CpuSet;

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
    /// Open loop: PUB at a fixed rate, latency counted from when each message was due.
    Latency(LoadFlags),
    /// `latency` on a quiet daemon: 50 messages a second on one connection.
    #[command(name = "latency-quiet")]
    LatencyQuiet(LoadFlags),
    /// Open connections that do nothing but answer heartbeats: memory and CPU they cost.
    Idle(LoadFlags),
}

/// Flags of every scenario. What is not given comes from the scenario.
#[derive(Args, Clone, Default)]
pub(crate) struct LoadFlags {
    /// Where the daemon listens for TCP clients.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4150")]
    pub(crate) address: String,
    /// Where it listens for HTTP; given this, the topics of a run are deleted after it.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http_address: Option<String>,
    /// Process whose CPU time, context switches and memory are reported.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Start this daemon afresh for every run and stop it after; words are split at spaces, `{dir}`
    /// stands for an empty temporary directory.
    #[arg(long, value_name = "COMMAND", conflicts_with = "pid")]
    pub(crate) daemon: Option<String>,

    /// Connections that publish (or idle).
    #[arg(long)]
    pub(crate) connections: Option<usize>,
    /// Commands sent ahead of their answers on each connection.
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
    /// Bytes of each body.
    #[arg(long, value_name = "BYTES")]
    pub(crate) body_size: Option<usize>,
    /// Messages a second over all connections, in the open loop.
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
    /// Leave out IDENTIFY, as the simplest clients do.
    #[arg(long)]
    pub(crate) no_identify: bool,
    /// Heartbeat interval to ask for in milliseconds; the daemon's own if not given.
    #[arg(long, value_name = "MS")]
    pub(crate) heartbeat_ms: Option<i64>,

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
    /// The address, resolved.
    pub(crate) fn resolve(address: &str) -> Result<SocketAddr> {
        use std::net::ToSocketAddrs as _;
        let mut found = address
            .to_socket_addrs()
            .with_context(|| format!("cannot resolve {address}: give it as HOST:PORT"))?;
        found.next().with_context(|| format!("{address} has no address"))
    }

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
