//! `nsq_to_http`: one HTTP request for each message of a topic.
//!
//! A message is finished when an endpoint has taken it, and requeued when none has said so.

mod requests;

use self::requests::{Requests, parse_headers};
use super::flags::{Sources, count};
use super::host_pool::{HostPool, Mode};
use super::run::{Failure, StopSignals, run};
use super::timings::Timings;
use crate::client::Message;
use crate::client::http::{parse_url, trusted_by_machine};
use crate::http::requests::{HttpClient, RequestLimits};
use crate::limits::CLIENT_LOOKUP_BYTES_MAX;
use crate::options::value::{boolean, integer, time};
use crate::options::{Exit, VERSION, read_flags, refuse, version_of};
use clap::ArgAction::Set;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";

#[derive(Debug, Clone, clap::Parser)]
#[command(name = "nsq_to_http", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    /// channel to consume from
    #[arg(long, default_value = "nsq_to_http")]
    channel: String,
    /// Content-Type of POST requests
    #[arg(long, default_value = CONTENT_TYPE_DEFAULT)]
    content_type: String,
    /// URL to GET, %s in it is replaced by the message (repeatable)
    #[arg(long)]
    get: Vec<String>,
    /// header of the requests, name: value (repeatable)
    #[arg(long)]
    header: Vec<String>,
    /// limit on connecting
    #[arg(long, default_value = "2s", value_parser = time)]
    http_client_connect_timeout: Duration,
    /// limit on a whole request
    #[arg(long, default_value = "20s", value_parser = time)]
    http_client_request_timeout: Duration,
    /// most messages in flight at a time
    #[arg(long, default_value = "200", value_parser = count)]
    max_in_flight: u32,
    /// which address: round-robin, hostpool or epsilon-greedy; anything else: all of them
    #[arg(long, default_value = "hostpool")]
    mode: String,
    /// most requests at a time
    #[arg(long, default_value = "100", value_parser = integer::<u32>)]
    n: u32,
    /// URL to POST the message to (repeatable)
    #[arg(long)]
    post: Vec<String>,
    /// share of the messages to send, 0 to 1
    #[arg(long, default_value = "1", value_parser = share)]
    sample: f64,
    /// messages between two lines of statistics; 0 for none
    #[arg(long, default_value = "250", value_parser = integer::<usize>)]
    status_every: usize,
    /// topic to consume from
    #[arg(long, default_value = "")]
    topic: String,
    /// print the version and exit
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    version: bool,
    #[command(flatten)]
    sources: Sources,
}

/// Runs the utility with the arguments that follow its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(read_flags(arguments).and_then(check), forward)
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "parse error".to_owned())
}

fn check(flags: Flags) -> Result<Flags, Exit> {
    if flags.version {
        return Err(version_of("nsq_to_http"));
    }
    parse_headers(&flags.header).map_err(|text| refuse(&text))?;
    let (get, post) = (&flags.get, &flags.post);
    let has_type = flags.content_type != CONTENT_TYPE_DEFAULT;
    let refusals = [
        (flags.topic.is_empty() || flags.channel.is_empty(), "--topic and --channel are required"),
        (has_type && post.is_empty(), "--content-type only used with --post"),
        (flags.content_type.is_empty(), "--content-type requires a value when used"),
    ];
    if let Some((_, text)) = refusals.into_iter().find(|(is_wrong, _)| *is_wrong) {
        return Err(refuse(text));
    }
    flags.sources.check("")?;
    let is_template = |address: &String| address.matches("%s").count() == 1;
    let is_share = !(flags.sample > 1.0 || flags.sample < 0.0);
    let refusals = [
        (get.is_empty() && post.is_empty(), "--get or --post required"),
        (!get.is_empty() && !post.is_empty(), "use --get or --post not both"),
        (!get.iter().all(is_template), "invalid GET address - must be a printf string"),
        (!is_share, "ERROR: --sample must be between 0.0 and 1.0"),
        (HeaderValue::from_str(&flags.content_type).is_err(), "--content-type is invalid"),
    ];
    if let Some((_, text)) = refusals.into_iter().find(|(is_wrong, _)| *is_wrong) {
        return Err(refuse(text));
    }
    // The original would send every message back for ever.
    for address in get.iter().chain(post) {
        let url = parse_url(&address.replacen("%s", "", 1));
        if !url.is_ok_and(|url| matches!(url.scheme_str(), Some("http" | "https"))) {
            return Err(refuse(&format!(
                "invalid address {address} - must be an http or https URL"
            )));
        }
    }
    Ok(flags)
}

/// A message on its way, or back from it.
struct Attempt {
    message: Message,
    begun: Instant,
    /// The addresses it goes to, by index: one, or all.
    addresses: Vec<usize>,
    /// How long those took that have it.
    times: Vec<Duration>,
    outcome: Result<(), String>,
}

/// The endpoints, and how they do.
struct Forwarder {
    requests: Arc<Requests>,
    /// `None`: each message goes to all of them.
    pool: Option<HostPool>,
    sample: f64,
    start: Instant,
    /// By address.
    timings: Vec<Timings>,
    all: Timings,
    /// What the lines of the client library begin with.
    label: String,
}

async fn forward(flags: Flags) -> Result<(), Failure> {
    let mut signals = StopSignals::watch()?;
    let config = flags.sources.config("nsq_to_http", flags.max_in_flight)?;
    let mut forwarder = Forwarder::new(&flags)?;
    let consumer = flags.sources.consumer(&flags.topic, &flags.channel, config);
    let mut consumer = consumer.connect().await?;
    let control = consumer.control();
    let at_once = usize::try_from(flags.n.max(1))?;
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            () = signals.next() => control.stop(),
            Some(attempt) = under_way.join_next() => forwarder.settle(attempt?),
            message = consumer.next(), if under_way.len() < at_once => match message {
                Some(message) => forwarder.begin(message, &mut under_way),
                // The connections have ended, and with them what could be answered.
                None => return Ok(()),
            },
        }
    }
}

impl Forwarder {
    fn new(flags: &Flags) -> Result<Self, Failure> {
        let (method, addresses) = if flags.post.is_empty() {
            (Method::GET, flags.get.clone())
        } else {
            (Method::POST, flags.post.clone())
        };
        let is_secure = addresses.iter().any(|address| address.starts_with("https:"));
        let tls = if is_secure { Some(trusted_by_machine()?) } else { None };
        let patience = flags.http_client_request_timeout;
        let connect = flags.http_client_connect_timeout;
        let limits = RequestLimits {
            connect_timeout: connect,
            request_timeout: patience,
            answer_bytes_max: CLIENT_LOOKUP_BYTES_MAX,
        };
        let http = HttpClient::new(tls.as_ref(), limits);
        let mut headers: Vec<(HeaderName, HeaderValue)> =
            vec![(USER_AGENT, HeaderValue::try_from(format!("nsq_to_http v{VERSION}"))?)];
        if method == Method::POST {
            headers.push((CONTENT_TYPE, HeaderValue::try_from(&flags.content_type)?));
        }
        // A later one replaces an earlier one, and those of the program.
        headers.extend(parse_headers(&flags.header)?);
        let pool = |mode| Some(HostPool::new(mode, addresses.len(), fastrand::u64(..)));
        let pool = match flags.mode.as_str() {
            "round-robin" => pool(Mode::RoundRobin),
            "hostpool" => pool(Mode::HostPool),
            "epsilon-greedy" => pool(Mode::EpsilonGreedy),
            // As the original takes every other word.
            _ => None,
        };
        // With a single address its lines would say what the aggregate's do.
        let every = if addresses.len() > 1 { flags.status_every } else { 0 };
        let timings = addresses.iter().map(|address| Timings::new(format!("[{address}]:"), every));
        Ok(Self {
            timings: timings.collect(),
            all: Timings::new("[aggregate]:".to_owned(), flags.status_every),
            requests: Arc::new(Requests { http, method, addresses, headers, patience }),
            pool,
            sample: flags.sample,
            start: Instant::now(),
            label: format!("  1 [{}/{}]", flags.topic, flags.channel),
        })
    }

    fn begin(&mut self, message: Message, under_way: &mut JoinSet<Attempt>) {
        if self.sample < 1.0 && fastrand::f64() > self.sample {
            message.finish();
            return;
        }
        let begun = Instant::now();
        let addresses = match &mut self.pool {
            Some(pool) => vec![pool.choose(begun - self.start)],
            None => (0..self.timings.len()).collect(),
        };
        let times = Vec::new();
        let mut attempt = Attempt { message, begun, addresses, times, outcome: Ok(()) };
        let requests = Arc::clone(&self.requests);
        under_way.spawn(async move {
            for at in attempt.addresses.clone() {
                let since = Instant::now();
                attempt.outcome = requests.send(at, attempt.message.body()).await;
                if attempt.outcome.is_err() {
                    break;
                }
                attempt.times.push(since.elapsed());
            }
            attempt
        });
    }

    fn settle(&mut self, attempt: Attempt) {
        let Attempt { message, begun, addresses, times, outcome } = attempt;
        let took = begun.elapsed();
        if let Some(pool) = &mut self.pool {
            pool.mark(addresses[0], outcome.is_ok(), took, self.start.elapsed());
        }
        for (at, time) in addresses.into_iter().zip(times) {
            tell(self.timings[at].add(time));
        }
        match outcome {
            Ok(()) => {
                message.finish();
                tell(self.all.add(took));
            }
            Err(error) => {
                let (label, id) = (&self.label, message.id());
                tracing::error!(
                    target: "ringmain::client",
                    "{label} Handler returned error ({error}) for msg {id}"
                );
                message.requeue();
            }
        }
    }
}

fn tell(line: Option<String>) {
    if let Some(line) = line {
        tracing::info!("{line}");
    }
}
