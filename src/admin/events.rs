//! `/live`: server-sent events that keep a page's numbers up to date. Every page has its own rows;
//! what has not changed is not sent again.

use super::figures::Figures;
use super::live::{Picture, Watcher};
use super::refusal::Refusal;
use super::state::Admin;
use crate::client::http::escape;
use crate::http::query::Parameters;
use crate::http::response::{Fault, json};
use crate::limits::{ADMIN_PAGE_ROWS_MAX, ADMIN_STREAM_TIME_MAX};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

const TOO_MANY_WATCHERS: Fault = Fault(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_WATCHERS");
const INVALID_ARG_PAGE: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_ARG_PAGE");

/// A page, as far as its numbers go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    Topics,
    Nodes,
    Counter,
    Topic(String),
    Channel(String, String),
    Node(String),
}

pub(super) async fn live(
    State(admin): State<Arc<Admin>>,
    Parameters(query): Parameters,
) -> Result<Response, Refusal> {
    let text = |name| query.value(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let view = match (text("page").as_deref(), text("topic"), text("channel"), text("node")) {
        (Some("topics"), ..) => View::Topics,
        (Some("nodes"), ..) => View::Nodes,
        (Some("counter"), ..) => View::Counter,
        (None, Some(topic), Some(channel), _) => View::Channel(topic, channel),
        (None, Some(topic), None, _) => View::Topic(topic),
        (None, None, _, Some(node)) => View::Node(node),
        _ => return Err(INVALID_ARG_PAGE.into()),
    };
    let watcher = admin.live.watch().ok_or(TOO_MANY_WATCHERS)?;
    let (sender, events) = mpsc::channel(1);
    tokio::spawn(send(view, watcher, sender, admin.stopped.clone()));
    let kind = HeaderValue::from_static("text/event-stream");
    let fresh = HeaderValue::from_static("no-store");
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, fresh)], Body::new(Events(events))).into_response())
}

/// Sends events until the page is closed, the daemon stops, or it is time to begin anew.
async fn send(
    view: View,
    mut watcher: Watcher,
    events: mpsc::Sender<Bytes>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    let end = Instant::now() + ADMIN_STREAM_TIME_MAX;
    let mut sent = HashMap::new();
    let hello = Bytes::from_static(b"retry: 1000\n\n");
    if events.send(hello).await.is_err() {
        return;
    }
    loop {
        let picture = tokio::select! {
            picture = watcher.next() => picture,
            () = sleep_until(end) => return,
            () = events.closed() => return,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        let Some(picture) = picture else { return };
        let document = json(&Event::of(&view, &picture, &mut sent));
        let event = [&b"data: "[..], &document, b"\n\n"].concat();
        if events.send(event.into()).await.is_err() {
            return;
        }
    }
}

/// What has changed.
#[derive(Serialize)]
struct Event {
    /// Cells by row.
    rows: BTreeMap<String, BTreeMap<&'static str, String>>,
    /// Rows that are paused, and were not; and the other way round.
    paused: BTreeMap<String, bool>,
    /// How many rows there are: when that changes, the page is no longer whole.
    count: usize,
    /// For charts.
    now: BTreeMap<&'static str, f64>,
    /// How many nsqds do not answer, or are not well.
    troubled: usize,
}

impl Event {
    fn of(view: &View, picture: &Picture, sent: &mut HashMap<String, Figures>) -> Self {
        let (total, rows) = view.rows(picture);
        let count = view.count(&total, rows.len());
        let now = charted(&total);
        let all = std::iter::once(("total".to_owned(), total)).chain(rows);
        let (mut changed, mut paused) = (BTreeMap::new(), BTreeMap::new());
        for (key, figures) in all.take(ADMIN_PAGE_ROWS_MAX) {
            let before = sent.get(&key);
            if before == Some(&figures) {
                continue;
            }
            if before.is_none_or(|before| before.paused != figures.paused) {
                paused.insert(key.clone(), figures.paused);
            }
            let old = before.map(Figures::cells);
            let new = figures.cells().into_iter().enumerate();
            let differs = |(index, cell): &(usize, (&str, String))| {
                old.as_ref().is_none_or(|old| old[*index].1 != cell.1)
            };
            changed.insert(key.clone(), new.filter(differs).map(|(_, cell)| cell).collect());
            sent.insert(key, figures);
        }
        let troubled = picture.nodes.iter().filter(|node| node.trouble().is_some()).count();
        Self { rows: changed, paused, count, now, troubled }
    }
}

/// The numbers that charts are made of.
#[expect(clippy::cast_precision_loss, reason = "drawn some pixels high")]
fn charted(figures: &Figures) -> BTreeMap<&'static str, f64> {
    let counts = [
        ("depth", figures.depth),
        ("backlog", figures.backlog),
        ("in_flight", figures.in_flight),
        ("deferred", figures.deferred),
        ("clients", figures.clients),
        ("messages", figures.messages),
    ];
    let mut now: BTreeMap<_, _> = counts.map(|(name, count)| (name, count as f64)).into();
    let rates = [
        ("rate", figures.rate),
        ("timeout_rate", figures.timeout_rate),
        ("latency", figures.latency_ns),
    ];
    now.extend(rates.into_iter().filter_map(|(name, value)| Some((name, value?))));
    now
}

impl View {
    /// The query by which `/live` knows it.
    pub(super) fn query(&self) -> String {
        let name = |name: &str| escape(name.as_bytes(), "%20");
        match self {
            Self::Topics => "page=topics".to_owned(),
            Self::Nodes => "page=nodes".to_owned(),
            Self::Counter => "page=counter".to_owned(),
            Self::Topic(topic) => format!("topic={}", name(topic)),
            Self::Channel(topic, channel) => {
                format!("topic={}&channel={}", name(topic), name(channel))
            }
            Self::Node(node) => format!("node={}", name(node)),
        }
    }

    /// How much there is to see: a page that was made of another count is not whole.
    pub(super) fn count_in(&self, picture: &Picture) -> usize {
        let (total, rows) = self.rows(picture);
        self.count(&total, rows.len())
    }

    fn count(&self, total: &Figures, rows: usize) -> usize {
        match self {
            // Clients have no rows here, and are shown all the same.
            Self::Channel(..) => {
                rows.saturating_add(usize::try_from(total.clients).unwrap_or_default())
            }
            _ => rows,
        }
    }

    /// Everything together, and row by row.
    fn rows(&self, picture: &Picture) -> (Figures, Vec<(String, Figures)>) {
        let total = picture.totals.figures.clone();
        let of_nodes = |topic: &str| -> Vec<(String, Figures)> {
            let rows = picture.of_topic(topic);
            rows.map(|(n, stats)| (node_key(&n.producer), Figures::of_topic(stats))).collect()
        };
        match self {
            Self::Counter => (picture.delivered(), Vec::new()),
            Self::Topics => {
                let topics = picture.topics.iter();
                let row = |(name, topic): (&String, &super::live::TopicRow)| {
                    (format!("t:{name}"), topic.row.figures.clone())
                };
                (total, topics.map(row).collect())
            }
            Self::Nodes => {
                let nodes = picture.nodes.iter();
                (total, nodes.map(|node| (node_key(&node.producer), node.figures())).collect())
            }
            Self::Node(address) => {
                let Some(node) = picture.node(address) else { return Default::default() };
                let row = |topic: &super::model::TopicStats| {
                    (format!("t:{}", topic.topic_name), Figures::of_topic(topic))
                };
                (node.figures(), node.topics().map(row).collect())
            }
            Self::Topic(topic) => {
                let mut rows = of_nodes(topic);
                let Some(known) = picture.topics.get(topic) else { return Default::default() };
                let channels = known.channels.iter();
                let row = |(name, row): (&String, &super::live::Row)| {
                    (format!("c:{name}"), row.figures.clone())
                };
                rows.extend(channels.map(row));
                (known.row.figures.clone(), rows)
            }
            Self::Channel(topic, channel) => {
                let known = picture.topics.get(topic);
                let Some(row) = known.and_then(|topic| topic.channels.get(channel)) else {
                    return Default::default();
                };
                let rows = picture.of_topic(topic).flat_map(|(node, stats)| {
                    let channels = stats.channels.iter().flatten();
                    let named = channels.filter(|stats| stats.channel_name == *channel);
                    named.map(|s| (node_key(&node.producer), Figures::of_channel(s)))
                });
                (row.figures.clone(), rows.collect())
            }
        }
    }
}

fn node_key(producer: &super::model::Producer) -> String {
    format!("n:{}", producer.http_address())
}

/// The body: one event after the other.
struct Events(mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
