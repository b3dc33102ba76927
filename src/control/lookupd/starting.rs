//! New topics get the channels that they have elsewhere before their first message flows.

use crate::broker::admin::{AdminReply, AdminRequest, ChannelAction, TopicAction};
use crate::control::http_client;
use crate::control::shards::Unavailable;
use crate::control::state::Control;
use crate::http::requests::HttpClient;
use crate::limits::TOPICS_STARTING_MAX;
use crate::protocol::name::{ChannelName, TopicName};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Starts the topics that wait, each in a task of its own, so many at a time.
pub(super) struct Starter {
    control: Arc<Control>,
    http: HttpClient,
    turns: Arc<Semaphore>,
    tasks: JoinSet<(TopicName, Result<(), Unavailable>)>,
    under_way: HashSet<TopicName>,
}

/// What nsqlookupd answers to `/channels`.
#[derive(Deserialize)]
struct Channels {
    #[serde(default)]
    channels: Option<Vec<String>>,
}

impl Starter {
    pub(super) fn new(control: Arc<Control>, http: HttpClient) -> Self {
        let turns = Arc::new(Semaphore::new(TOPICS_STARTING_MAX));
        Self { control, http, turns, tasks: JoinSet::new(), under_way: HashSet::new() }
    }

    /// Starts those topics that are not being started yet. `lookups` are the HTTP addresses that
    /// are known, `expected` whether there should be some.
    pub(super) fn start(&mut self, topics: Vec<TopicName>, lookups: Vec<String>, expected: bool) {
        let lookups: Arc<[String]> = lookups.into();
        for topic in topics {
            if !self.under_way.insert(topic) {
                continue;
            }
            if lookups.is_empty() && expected {
                tracing::error!(
                    "no available nsqlookupd to query for channels to pre-create for topic {topic}"
                );
            }
            let (control, http) = (Arc::clone(&self.control), self.http.clone());
            let (turns, lookups) = (Arc::clone(&self.turns), Arc::clone(&lookups));
            self.tasks.spawn(async move {
                let _turn = turns.acquire().await.expect("the semaphore is never closed");
                let channels = channels_elsewhere(&http, topic, &lookups).await;
                (topic, start(&control, topic, channels).await)
            });
        }
    }

    /// Waits for the next topic to be started, for ever if none is under way. `false` when that has
    /// failed and the topic still waits.
    pub(super) async fn next(&mut self) -> bool {
        let Some(ended) = self.tasks.join_next().await else { return std::future::pending().await };
        let (topic, started) = ended.expect("a panic of a task ends the process");
        self.under_way.remove(&topic);
        if started.is_err() {
            tracing::error!("TOPIC({topic}): not started, a shard does not answer");
        }
        started.is_ok()
    }
}

/// Creates the channels, then lets messages flow. A topic that has gone meanwhile needs neither.
async fn start(
    control: &Control,
    topic: TopicName,
    channels: BTreeSet<ChannelName>,
) -> Result<(), Unavailable> {
    for channel in channels {
        let action = ChannelAction::Create;
        let create = |topic, _| AdminRequest::Channel { topic, channel, action };
        if let AdminReply::Refused(reason) = control.shards.ask_home(topic, false, create).await? {
            tracing::error!("TOPIC({topic}): channel({channel}) not created - {reason}");
        }
    }
    let start = |topic, _| AdminRequest::Topic { topic, action: TopicAction::Start };
    control.shards.ask_home(topic, false, start).await.map(drop)
}

/// The union of what the nsqlookupds know, without what is ephemeral. What some of them do not say
/// is missing; the log says so.
async fn channels_elsewhere(
    http: &HttpClient,
    topic: TopicName,
    lookups: &[String],
) -> BTreeSet<ChannelName> {
    let mut questions = JoinSet::new();
    for address in lookups {
        let name = topic.as_str().replace('#', "%23");
        let url = format!("http://{address}/channels?topic={name}");
        let http = http.clone();
        questions.spawn(async move {
            tracing::info!("CI: querying nsqlookupd {url}");
            let answer = http_client::answer(&http, Method::GET, &url, Bytes::new()).await;
            let channels = answer.and_then(|body| {
                serde_json::from_slice::<Channels>(&body).map_err(|error| error.to_string())
            });
            channels.map_err(|reason| format!("{url}: {reason}"))
        });
    }
    let (mut names, mut failures) = (BTreeSet::new(), Vec::new());
    for answer in questions.join_all().await {
        match answer {
            Ok(answer) => names.extend(answer.channels.unwrap_or_default()),
            Err(reason) => failures.push(reason),
        }
    }
    if !failures.is_empty() {
        let all =
            if failures.len() == lookups.len() { "failed to query any nsqlookupd: " } else { "" };
        let reasons = failures.join("; ");
        tracing::warn!(
            "failed to query nsqlookupd for channels to pre-create for topic {topic} - \
             {all}{reasons}"
        );
    }
    names.iter().filter_map(|name| lasting(name)).collect()
}

/// A name that a channel without consumers may have.
fn lasting(name: &str) -> Option<ChannelName> {
    ChannelName::parse(name.as_bytes()).ok().filter(|name| !name.is_ephemeral())
}
