//! `/metrics`: the same snapshot for Prometheus.
//!
//! Topics and channels have the names that the exporters in use give them, as gauges, and beside
//! them counters as Prometheus wants them. Every answer is made by a recorder of its own: what is
//! gone is not there any more, and nothing is kept between two scrapes.

use super::memory::Memory;
use super::snapshot::{self, Snapshot, Wanted};
use super::{Control, INTERNAL_ERROR, Parameters, Query, Unavailable};
use crate::broker::admin::{AdminReply, AdminRequest, ChannelStats, SessionStats, TopicStats};
use crate::broker::figures::{Figure, FigureKind};
use crate::broker::latency::Latencies;
use crate::control::response::{Fault, Reply};
use crate::control::shards::Shards;
use crate::options::VERSION;
use axum::extract::State;
use metrics::{Label, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::sync::Arc;

const TOPIC_LATENCY: [&str; 2] =
    ["nsq_topic_e2e_processing_latency_seconds", "nsq_topic_e2e_processing_latency_count"];
const CHANNEL_LATENCY: [&str; 2] =
    ["nsq_channel_e2e_processing_latency_seconds", "nsq_channel_e2e_processing_latency_count"];

/// What one scrape shows.
struct Scrape {
    snapshot: Snapshot,
    /// By shard.
    figures: Vec<Vec<Figure>>,
    started_at: jiff::Timestamp,
    dropped_lines: u64,
}

/// A series per connection is asked for with `?include_clients=true`: there may be very many.
pub(in crate::control) async fn metrics(
    State(control): State<Arc<Control>>,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let clients = query.value("include_clients").and_then(Query::switch).unwrap_or(false);
    let _turn = control.stats_turns.acquire().await.expect("the semaphore is never closed");
    let gathered = async {
        let wanted = Wanted { topic: None, channel: None, clients };
        let snapshot = snapshot::take(&control.shards, &wanted).await?;
        let figures = figures(&control.shards).await?;
        Ok((snapshot, figures))
    };
    let (snapshot, figures) = gathered.await.map_err(|Unavailable| {
        tracing::error!("/metrics: a shard does not answer");
        INTERNAL_ERROR
    })?;
    let dropped = control.dropped_lines.as_ref().map_or(0, |lines| lines.count() as u64);
    let started_at = control.started_at;
    let scrape = Scrape { snapshot, figures, started_at, dropped_lines: dropped };
    // Ten thousand topics take a good part of a second, in which others want to be answered.
    let rendered = tokio::task::spawn_blocking(move || scrape.render()).await;
    Ok(Reply::Metrics(rendered.expect("a panic of a thread ends the process")))
}

async fn figures(shards: &Shards) -> Result<Vec<Vec<Figure>>, Unavailable> {
    let mut all = Vec::new();
    for shard in shards.indexes() {
        match shards.ask(shard, AdminRequest::Figures).await? {
            AdminReply::Figures(figures) => all.push(figures),
            _ => return Err(Unavailable),
        }
    }
    Ok(all)
}

impl Scrape {
    fn render(&self) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            describe();
            self.process();
            for (index, figures) in self.figures.iter().enumerate() {
                figures.iter().for_each(|figure| shard(index, figure));
            }
            for topic in self.snapshot.topics.iter().flatten() {
                topic_series(topic);
            }
            for session in self.snapshot.consumers() {
                client_series(session);
            }
        });
        recorder.handle().render()
    }

    fn process(&self) {
        let package = env!("CARGO_PKG_VERSION");
        let rust = env!("RINGMAIN_RUSTC_VERSION");
        let labels = [("version", VERSION), ("ringmain", package), ("rustc", rust)];
        gauge!("nsqd_build_info", &labels).set(1.0);
        let started = self.started_at.as_duration().as_secs_f64();
        gauge!("process_start_time_seconds").set(started);
        set("process_resident_memory_bytes", vec![], Memory::measure().heap_in_use_bytes);
        counter!("nsqd_log_lines_dropped_total").absolute(self.dropped_lines);
    }
}

fn shard(index: usize, figure: &Figure) {
    let labels = vec![Label::new("shard", index.to_string())];
    match figure.kind {
        FigureKind::Counter => {
            describe_counter!(figure.name, figure.help);
            counter!(figure.name, labels).absolute(figure.value);
        }
        FigureKind::Gauge => {
            describe_gauge!(figure.name, figure.help);
            set(figure.name, labels, figure.value);
        }
    }
}

fn topic_series(topic: &TopicStats) {
    let own = vec![Label::new("topic", topic.name.as_str().to_owned())];
    for (name, value) in [
        ("nsq_topic_messages_total", topic.message_count),
        ("nsq_topic_message_bytes_total", topic.message_bytes),
    ] {
        counter!(name, own.clone()).absolute(value);
    }
    set("nsq_topic_paused", own.clone(), topic.paused.into());
    let labels = with_paused(&own, topic.paused);
    for (name, value) in [
        ("nsq_topic_depth", topic.depth),
        ("nsq_topic_backend_depth", topic.backend_depth),
        ("nsq_topic_message_count", topic.message_count),
        ("nsq_topic_channel_count", topic.channels.len() as u64),
    ] {
        set(name, labels.clone(), value);
    }
    if let Some(governed) = topic.governed.as_deref() {
        counter!("nsq_topic_expired_total", own.clone()).absolute(governed.expired_count);
        counter!("nsq_topic_dropped_total", own.clone()).absolute(governed.dropped_count);
    }
    latency_series(&own, &topic.latencies, TOPIC_LATENCY);
    for channel in &topic.channels {
        channel_series(&own, channel);
    }
}

fn channel_series(topic: &[Label], channel: &ChannelStats) {
    let mut own = topic.to_vec();
    own.push(Label::new("channel", channel.name.as_str().to_owned()));
    for (name, value) in [
        ("nsq_channel_messages_total", channel.message_count),
        ("nsq_channel_requeues_total", channel.requeue_count),
        ("nsq_channel_timeouts_total", channel.timeout_count),
    ] {
        counter!(name, own.clone()).absolute(value);
    }
    if let Some(governed) = channel.governed.as_deref() {
        for (name, value) in [
            ("nsq_channel_expired_total", governed.expired_count),
            ("nsq_channel_dropped_total", governed.dropped_count),
            ("nsq_channel_dead_letters_total", governed.dead_letter_count),
        ] {
            counter!(name, own.clone()).absolute(value);
        }
    }
    set("nsq_channel_paused", own.clone(), channel.paused.into());
    let labels = with_paused(&own, channel.paused);
    for (name, value) in [
        ("nsq_channel_depth", channel.depth),
        ("nsq_channel_backend_depth", channel.backend_depth),
        ("nsq_channel_message_count", channel.message_count),
        ("nsq_channel_in_flight_count", channel.in_flight_count),
        ("nsq_channel_deferred_count", channel.deferred_count),
        ("nsq_channel_requeue_count", channel.requeue_count),
        ("nsq_channel_timeout_count", channel.timeout_count),
        ("nsq_channel_client_count", channel.client_count),
    ] {
        set(name, labels.clone(), value);
    }
    latency_series(&own, &channel.latencies, CHANNEL_LATENCY);
}

/// Processing times, as Prometheus names the parts of a summary; none that is not measured.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has only 64-bit floats")]
fn latency_series(own: &[Label], latencies: &Latencies, [seconds, count]: [&'static str; 2]) {
    for (quantile, value_ns) in &latencies.quantiles {
        let mut labels = own.to_vec();
        labels.push(Label::new("quantile", quantile.to_string()));
        gauge!(seconds, labels).set(*value_ns as f64 / 1e9);
    }
    if !latencies.quantiles.is_empty() {
        set(count, own.to_vec(), latencies.count);
    }
}

fn client_series(session: &SessionStats) {
    let Some((topic, channel)) = session.subscription else { return };
    let labels = vec![
        Label::new("topic", topic.as_str().to_owned()),
        Label::new("channel", channel.as_str().to_owned()),
        Label::new("client_id", session.client_id.clone()),
        Label::new("hostname", session.hostname.clone()),
        Label::new("version", "V2"),
        Label::new("remote_address", session.remote_address.clone()),
    ];
    for (name, value) in [
        ("nsq_client_state", session.state.into()),
        ("nsq_client_finish_count", session.finish_count),
        ("nsq_client_message_count", session.message_count),
        ("nsq_client_ready_count", session.ready_count),
        ("nsq_client_in_flight_count", session.in_flight_count),
        ("nsq_client_requeue_count", session.requeue_count),
        ("nsq_client_sample_rate", session.sample_rate.into()),
        ("nsq_client_connect_ts", u64::try_from(session.connected_unix_s).unwrap_or_default()),
    ] {
        set(name, labels.clone(), value);
    }
}

/// The exporters in use label their gauges with it.
fn with_paused(labels: &[Label], paused: bool) -> Vec<Label> {
    let mut labels = labels.to_vec();
    labels.push(Label::new("paused", if paused { "true" } else { "false" }));
    labels
}

/// Sets a gauge. Prometheus has no integers; up to 2^53 nothing is lost.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has only 64-bit floats")]
fn set(name: &'static str, labels: Vec<Label>, value: u64) {
    gauge!(name, labels).set(value as f64);
}

fn describe() {
    for (name, help) in [
        ("nsqd_build_info", "the NSQ version behaved like, the package and its compiler"),
        ("process_start_time_seconds", "when the daemon began, seconds since 1970"),
        ("process_resident_memory_bytes", "memory of the process that is in RAM"),
        ("nsq_topic_depth", "messages waiting in the topic itself"),
        ("nsq_topic_backend_depth", "the part of the depth that is on disk"),
        ("nsq_topic_message_count", "messages accepted since the start"),
        ("nsq_topic_channel_count", "channels of the topic"),
        ("nsq_topic_paused", "1 while the flow to channels is stopped"),
        ("nsq_channel_depth", "messages ready to be delivered"),
        ("nsq_channel_backend_depth", "the part of the depth that is on disk"),
        ("nsq_channel_message_count", "messages received from the topic since the start"),
        ("nsq_channel_in_flight_count", "messages delivered and not yet finished"),
        ("nsq_channel_deferred_count", "messages waiting for their time"),
        ("nsq_channel_requeue_count", "messages given back by clients since the start"),
        ("nsq_channel_timeout_count", "messages that timed out since the start"),
        ("nsq_channel_client_count", "clients subscribed"),
        (TOPIC_LATENCY[0], "from publish to FIN, over the window, of all channels"),
        (TOPIC_LATENCY[1], "messages that those quantiles are of"),
        (CHANNEL_LATENCY[0], "from publish to FIN, over the window"),
        (CHANNEL_LATENCY[1], "messages that those quantiles are of"),
        ("nsq_channel_paused", "1 while deliveries are stopped"),
    ] {
        describe_gauge!(name, help);
    }
    for (name, help) in [
        ("nsqd_log_lines_dropped_total", "log lines that standard error did not take"),
        ("nsq_topic_messages_total", "messages accepted"),
        ("nsq_topic_message_bytes_total", "bytes of their bodies"),
        ("nsq_channel_messages_total", "messages received from the topic"),
        ("nsq_channel_requeues_total", "messages given back by clients"),
        ("nsq_channel_timeouts_total", "messages that timed out"),
        ("nsq_topic_expired_total", "messages of its own queue that lived their time"),
        ("nsq_topic_dropped_total", "messages of its own queue that made way for newer ones"),
        ("nsq_channel_expired_total", "messages that lived their time"),
        ("nsq_channel_dropped_total", "messages that made way for newer ones"),
        ("nsq_channel_dead_letters_total", "messages that went to the dead-letter topic"),
    ] {
        describe_counter!(name, help);
    }
}
