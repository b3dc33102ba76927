//! `nsq_to_file`: writes the messages of topics to files, for good.
//!
//! A message is finished only once it is on disk, so a crash may write it twice and never loses
//! it. What a crash leaves half-written is put right by the next start.

mod names;
mod repair;
mod topic;
mod writer;

use self::topic::{Pace, Wishes, archive};
use self::writer::{FileWriter, Plan};
use super::flags::{count, user_agent};
use super::lines::Style;
use super::run::{Failure, StopSignals, run_in_style};
use crate::client::http::parse_url;
use crate::client::{Config, Consumer};
use crate::http::requests::{HttpClient, RequestLimits};
use crate::limits::CLIENT_LOOKUP_BYTES_MAX;
use crate::log::LogLevel;
use crate::options::value::{boolean, integer, log_level, time};
use crate::options::{Exit, read_flags, refuse, version_of};
use clap::ArgAction::Set;
use regex::Regex;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};

#[derive(Debug, Clone, clap::Parser)]
#[command(name = "nsq_to_file", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    /// channel to use
    #[arg(long, default_value = "nsq_to_file")]
    channel: String,
    /// setting of the consumers, name,value (repeatable)
    #[arg(long)]
    consumer_opt: Vec<String>,
    /// form of <DATETIME>, as of strftime
    #[arg(long, default_value = "%Y-%m-%d_%H")]
    datetime_format: String,
    /// names of files; <TOPIC>, <HOST>, <PID>, <DATETIME> and <REV> are replaced
    #[arg(long, default_value = "<TOPIC>.<HOST><REV>.<DATETIME>.log")]
    filename_format: String,
    /// compress
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    gzip: bool,
    /// 1 (fast) to 9 (small)
    #[arg(long, default_value = "6", value_parser = integer::<i64>)]
    gzip_level: i64,
    /// what <HOST> becomes; <SHORT_HOST> and <HOSTNAME> are replaced (default: the short name)
    #[arg(long, default_value = "")]
    host_identifier: String,
    /// limit on connecting to a nsqlookupd
    #[arg(long, default_value = "2s", value_parser = time)]
    http_client_connect_timeout: Duration,
    /// limit on a whole request to a nsqlookupd
    #[arg(long, default_value = "5s", value_parser = time)]
    http_client_request_timeout: Duration,
    /// least severe lines to log: debug, info, warn, error or fatal
    #[arg(long, default_value = "info")]
    log_level: String,
    /// text at the start of each log line
    #[arg(long, default_value = "[nsq_to_file] ")]
    log_prefix: String,
    /// HTTP address of an nsqlookupd (repeatable)
    #[arg(long)]
    lookupd_http_address: Vec<String>,
    /// most messages in flight at a time, per topic
    #[arg(long, default_value = "200", value_parser = count)]
    max_in_flight: u32,
    /// address of an nsqd, host:port (repeatable)
    #[arg(long)]
    nsqd_tcp_address: Vec<String>,
    /// directory for finished files
    #[arg(long, default_value = "/tmp")]
    output_dir: String,
    /// begin a new file after this time; 0 for never
    #[arg(long, default_value = "0s", value_parser = time)]
    rotate_interval: Duration,
    /// begin a new file beyond so many bytes; 0 for never
    #[arg(long, default_value = "0", value_parser = integer::<i64>)]
    rotate_size: i64,
    /// make no files without messages
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    skip_empty_files: bool,
    /// longest time between syncs; must be below the message timeout
    #[arg(long, default_value = "30s", value_parser = time)]
    sync_interval: Duration,
    /// topic to write (repeatable)
    #[arg(long)]
    topic: Vec<String>,
    /// pattern that topics have to match
    #[arg(long, default_value = "")]
    topic_pattern: String,
    /// how often to look for topics
    #[arg(long, default_value = "1m", value_parser = time)]
    topic_refresh: Duration,
    /// print the version and exit
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    version: bool,
    /// directory for files until they are finished (default: the output directory)
    #[arg(long, default_value = "")]
    work_dir: String,
}

/// Runs the utility with the arguments that follow its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let style = |flags: &Flags| Style::Leveled {
        prefix: flags.log_prefix.clone(),
        level: log_level(&flags.log_level).unwrap_or(LogLevel::Info),
    };
    run_in_style(read_flags(arguments).and_then(check), style, write_topics)
}

fn check(mut flags: Flags) -> Result<Flags, Exit> {
    if log_level(&flags.log_level).is_err() {
        return Err(refuse("--log-level is invalid"));
    }
    if flags.version {
        return Err(version_of("nsq_to_file"));
    }
    let (nsqds, lookupds) = (&flags.nsqd_tcp_address, &flags.lookupd_http_address);
    let level = format!("invalid --gzip-level value ({}), should be 1-9", flags.gzip_level);
    let refusals = [
        (flags.channel.is_empty(), "--channel is required"),
        (
            flags.http_client_connect_timeout.is_zero(),
            "--http-client-connect-timeout should be positive",
        ),
        (
            flags.http_client_request_timeout.is_zero(),
            "--http-client-request-timeout should be positive",
        ),
        (
            nsqds.is_empty() && lookupds.is_empty(),
            "--nsqd-tcp-address or --lookupd-http-address required.",
        ),
        (
            !nsqds.is_empty() && !lookupds.is_empty(),
            "use --nsqd-tcp-address or --lookupd-http-address not both",
        ),
        (!(1..=9).contains(&flags.gzip_level), level.as_str()),
        (
            flags.topic.is_empty() && flags.topic_pattern.is_empty(),
            "--topic or --topic-pattern required",
        ),
        (
            flags.topic.is_empty() && lookupds.is_empty(),
            "--lookupd-http-address must be specified when no --topic specified",
        ),
        // The original fails at these only once it runs.
        (flags.sync_interval.is_zero(), "--sync-interval should be positive"),
        (flags.topic_refresh.is_zero(), "--topic-refresh should be positive"),
    ];
    if let Some((_, text)) = refusals.into_iter().find(|(is_wrong, _)| *is_wrong) {
        return Err(refuse(text));
    }
    if flags.work_dir.is_empty() {
        flags.work_dir.clone_from(&flags.output_dir);
    }
    Ok(flags)
}

/// All topics that are written.
struct Topics {
    flags: Flags,
    config: Config,
    plan: Arc<Plan>,
    pattern: Option<Regex>,
    names: BTreeSet<String>,
    running: JoinSet<Result<(), Failure>>,
    wishes: Wishes,
}

async fn write_topics(flags: Flags) -> Result<(), Failure> {
    let mut signals = StopSignals::watch()?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (stop, stop_wished) = watch::channel(false);
    let (hang_ups, hang_ups_wished) = watch::channel(0);
    let wishes = Wishes { stop: stop_wished, hang_ups: hang_ups_wished };
    let mut topics = Topics::new(flags, wishes);

    let named = topics.flags.topic.clone();
    topics.add(named.clone()).await;
    let refresh = topics.flags.topic_refresh;
    let mut rounds = interval_at(tokio::time::Instant::now() + refresh, refresh);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.next() => break,
            _ = hang_up.recv() => hang_ups.send_modify(|count| *count += 1),
            // A topic ends by itself only when it cannot be written.
            Some(ended) = topics.running.join_next() => ended??,
            _ = rounds.tick() => {
                let found = if named.is_empty() { topics.find().await } else { named.clone() };
                topics.add(found).await;
            }
        }
    }
    // Only a topic that has ended does not listen.
    let _ = stop.send(true);
    while let Some(ended) = topics.running.join_next().await {
        ended??;
    }
    Ok(())
}

impl Topics {
    fn new(flags: Flags, wishes: Wishes) -> Self {
        let user_agent = user_agent("nsq_to_file");
        // Kills use up attempts: after some of them messages would be given up, not written.
        let mut config = Config { user_agent, max_attempts: 0, ..Config::default() };
        for option in &flags.consumer_opt {
            // As the original does, wrong ones are passed over; but they are told.
            if let Err(error) = config.set_flag(option) {
                tracing::warn!("--consumer-opt {option} has no effect: {error}");
            }
        }
        config.max_in_flight = flags.max_in_flight;
        let plan = Plan {
            output_dir: flags.output_dir.clone().into(),
            work_dir: flags.work_dir.clone().into(),
            date_format: flags.datetime_format.clone(),
            gzip_level: flags.gzip.then(|| u32::try_from(flags.gzip_level).unwrap_or(6)),
            rotate_bytes: u64::try_from(flags.rotate_size).unwrap_or(0),
            rotate_interval: flags.rotate_interval,
        };
        // One that cannot be read matches nothing.
        let pattern = Regex::new(&flags.topic_pattern).ok();
        let (names, running) = (BTreeSet::new(), JoinSet::new());
        Self { flags, config, plan: Arc::new(plan), pattern, names, running, wishes }
    }

    /// Begins to write those that are new and match.
    async fn add(&mut self, found: Vec<String>) {
        for topic in found {
            if self.names.contains(&topic) {
                continue;
            }
            if !self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(&topic)) {
                let pattern = &self.flags.topic_pattern;
                tracing::warn!("skipping topic {topic} (doesn't match pattern {pattern})");
                continue;
            }
            if let Err(Failure(reason)) = self.begin(&topic).await {
                tracing::error!("couldn't create logger for new topic {topic}: {reason}");
                continue;
            }
            self.names.insert(topic);
        }
    }

    async fn begin(&mut self, topic: &str) -> Result<(), Failure> {
        let flags = &self.flags;
        let needs_revision = flags.gzip
            || flags.rotate_size > 0
            || !flags.rotate_interval.is_zero()
            || flags.work_dir != flags.output_dir;
        let format = names::file_name_format(
            &flags.filename_format,
            topic,
            &flags.host_identifier,
            needs_revision,
            flags.gzip,
        )?;
        let label = format!("[{topic}/{}]", flags.channel);
        let writer = FileWriter::new(Arc::clone(&self.plan), label.clone(), format);
        // A large file takes its time, and messages would run out of theirs.
        let writer = tokio::task::spawn_blocking(move || {
            writer.mend();
            writer
        });
        let writer = writer.await?;
        let consumer = Consumer::new(topic, &flags.channel).config(self.config.clone());
        let consumer = flags.nsqd_tcp_address.iter().fold(consumer, |c, address| c.nsqd(address));
        let lookupds = flags.lookupd_http_address.iter();
        let consumer = lookupds.fold(consumer, |c, address| c.lookupd(address)).connect().await?;
        let pace = Pace {
            label,
            sync_interval: flags.sync_interval,
            skip_empty_files: flags.skip_empty_files,
            pending_max: usize::try_from(flags.max_in_flight).unwrap_or(usize::MAX).max(1),
        };
        self.running.spawn(archive(consumer, writer, pace, self.wishes.clone()));
        Ok(())
    }

    /// All topics that the lookup services know; none unless all of them answer.
    async fn find(&self) -> Vec<String> {
        let found = find_topics(&self.flags).await;
        found.unwrap_or_else(|reason| {
            tracing::error!("could not retrieve topic list: {reason}");
            Vec::new()
        })
    }
}

#[derive(Deserialize)]
struct TopicList {
    #[serde(default)]
    topics: Vec<String>,
}

async fn find_topics(flags: &Flags) -> Result<Vec<String>, String> {
    let limits = RequestLimits {
        connect_timeout: flags.http_client_connect_timeout,
        request_timeout: flags.http_client_request_timeout,
        answer_bytes_max: CLIENT_LOOKUP_BYTES_MAX,
    };
    let http = HttpClient::new(None, limits);
    let mut topics = BTreeSet::new();
    for lookupd in &flags.lookupd_http_address {
        let url = parse_url(&format!("http://{lookupd}/topics")).map_err(|e| e.to_string())?;
        let body = http.fetch(&url, &[]).await;
        let body = body.map_err(|error| format!("failed to query any nsqlookupd: {error}"))?;
        let list: TopicList = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        topics.extend(list.topics);
    }
    Ok(topics.into_iter().collect())
}
