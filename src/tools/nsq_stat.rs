//! `nsq_stat`: rates and depths of a channel, summed over all nsqds that have its topic.

mod gather;

use self::gather::{Gatherer, Sums};
use super::run::{Failure, StopSignals, run};
use crate::options::value::{boolean, integer, time};
use crate::options::{Exit, read_flags, refuse, version_of};
use clap::ArgAction::Set;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Lines between two headers.
const HEADER_EVERY: u64 = 25;

#[derive(Debug, Clone, clap::Parser)]
#[command(name = "nsq_stat", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    /// the topic
    #[arg(long, default_value = "")]
    topic: String,
    /// the channel
    #[arg(long, default_value = "")]
    channel: String,
    /// lines to print (default: no end)
    #[arg(long, value_parser = integer::<i32>)]
    count: Option<i32>,
    /// time between lines
    #[arg(long, default_value = "2s", value_parser = time)]
    interval: Duration,
    /// limit on connecting
    #[arg(long, default_value = "2s", value_parser = time)]
    http_client_connect_timeout: Duration,
    /// limit on a whole request
    #[arg(long, default_value = "5s", value_parser = time)]
    http_client_request_timeout: Duration,
    /// HTTP address of an nsqlookupd (repeatable)
    #[arg(long)]
    lookupd_http_address: Vec<String>,
    /// HTTP address of an nsqd (repeatable)
    #[arg(long)]
    nsqd_http_address: Vec<String>,
    /// print the version and exit
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    version: bool,
}

/// Runs the utility with the arguments that follow its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(read_flags(arguments).and_then(check), watch)
}

fn check(flags: Flags) -> Result<Flags, Exit> {
    if flags.version {
        return Err(version_of("nsq_stat"));
    }
    let (nsqds, lookupds) = (&flags.nsqd_http_address, &flags.lookupd_http_address);
    let schemed = |addresses: &[String]| addresses.iter().any(|a| a.starts_with("http"));
    let refusals = [
        (flags.topic.is_empty() || flags.channel.is_empty(), "--topic and --channel are required"),
        (flags.interval.is_zero(), "--interval should be positive"),
        (
            flags.http_client_connect_timeout.is_zero(),
            "--http-client-connect-timeout should be positive",
        ),
        (
            flags.http_client_request_timeout.is_zero(),
            "--http-client-request-timeout should be positive",
        ),
        (flags.count.is_some_and(|count| count <= 0), "--count should be positive"),
        (
            nsqds.is_empty() && lookupds.is_empty(),
            "--nsqd-http-address or --lookupd-http-address required",
        ),
        (
            !nsqds.is_empty() && !lookupds.is_empty(),
            "use --nsqd-http-address or --lookupd-http-address not both",
        ),
        (schemed(nsqds), "--nsqd-http-address error - address should not contain scheme"),
        (schemed(lookupds), "--lookupd-http-address error - address should not contain scheme"),
    ];
    match refusals.into_iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, text)) => Err(refuse(text)),
        None => Ok(flags),
    }
}

async fn watch(flags: Flags) -> Result<(), Failure> {
    let mut stop = StopSignals::watch()?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        () = stop.next() => Ok(()),
        _ = hang_up.recv() => Ok(()),
        outcome = print(&flags) => outcome,
    }
}

async fn print(flags: &Flags) -> Result<(), Failure> {
    let gatherer = Gatherer::new(
        &flags.topic,
        &flags.channel,
        (&flags.lookupd_http_address, &flags.nsqd_http_address),
        (flags.http_client_connect_timeout, flags.http_client_request_timeout),
    );
    let mut before: Option<Sums> = None;
    let last = flags.count.and_then(|count| u64::try_from(count).ok());
    for round in 0.. {
        if last.is_some_and(|last| round > last) {
            break;
        }
        let now = gatherer.gather().await?;
        let mut text = String::new();
        if round % HEADER_EVERY == 0 {
            text.push_str(HEADER);
        }
        if let Some(before) = before {
            push_line(&mut text, &before, &now, flags.interval);
        }
        before = Some(now);
        std::io::stdout().write_all(text.as_bytes())?;
        tokio::time::sleep(flags.interval).await;
    }
    Ok(())
}

const HEADER: &str = "\
------rate------+----------------depth----------------+--------------metadata---------------
ingress  egress |   total     mem    disk inflt   def |     req     t-o         msgs clients
";

fn push_line(text: &mut String, before: &Sums, now: &Sums, interval: Duration) {
    let came = now.message_count - before.message_count;
    let went = came - (now.depth - before.depth);
    let (ingress, egress) = (rate(came, interval), rate(went, interval));
    let (total, disk) = (now.depth, now.backend_depth);
    let (memory, in_flight, deferred) = (total - disk, now.in_flight_count, now.deferred_count);
    let (requeued, timed_out) = (now.requeue_count, now.timeout_count);
    let (messages, clients) = (now.message_count, now.client_count);
    writeln!(
        text,
        "{ingress:7} {egress:7} | {total:7} {memory:7} {disk:7} {in_flight:5} {deferred:5} | \
         {requeued:7} {timed_out:7} {messages:12} {clients:7}"
    )
    .expect("a string takes all text");
}

/// Per second, without its fraction.
fn rate(count: i64, interval: Duration) -> i64 {
    let per_second = i128::from(count) * 1_000_000_000 / interval.as_nanos().cast_signed();
    i64::try_from(per_second).unwrap_or(if count < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_lines() {
        let before = Sums { message_count: 100, depth: 50, ..Sums::default() };
        let now = Sums {
            message_count: 1_107,
            depth: 40,
            backend_depth: 15,
            in_flight_count: 3,
            deferred_count: 2,
            requeue_count: 9,
            timeout_count: 8,
            client_count: 4,
        };
        let mut text = String::new();
        push_line(&mut text, &before, &now, Duration::from_secs(2));
        let expected = "    503     508 |      40      25      15     3     2 |       9       8 \
                        \x20       1107       4\n";
        assert_eq!(text, expected);
        for line in HEADER.lines() {
            assert_eq!(line.len(), expected.len() - 1);
        }
    }
}
