//! `/api`, the part that only looks.

use super::cluster::{Cluster, Sources};
use super::merge;
use super::model::{ChannelStats, Producer, TopicStats};
use super::refusal::{Message, Refusal};
use super::state::Admin;
use crate::http::query::Parameters;
use crate::http::response::{CHANNEL_NOT_FOUND, Fault, Reply};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Shared = State<Arc<Admin>>;

const NODE_NOT_FOUND: Fault = Fault(StatusCode::NOT_FOUND, "NODE_NOT_FOUND");

/// A document with the message that all of them end with.
#[derive(Serialize)]
struct Document<T> {
    #[serde(flatten)]
    content: T,
    #[serde(flatten)]
    message: Message,
}

fn document<T: Serialize>(content: T, warnings: &[String]) -> Reply {
    Reply::json(&Document { content, message: Message::of(warnings) })
}

/// Go's empty lists are `null`.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

pub(super) async fn topics(
    State(admin): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Topics<T> {
        topics: T,
    }
    let mut warnings = Vec::new();
    let sources = admin.sources();
    if query.value("inactive") == Some(b"true") {
        let topics = inactive(&admin.cluster, &sources, &mut warnings).await?;
        return Ok(document(Topics { topics }, &warnings));
    }
    let topics = some(admin.cluster.topics(&sources).await?.note(&mut warnings));
    Ok(document(Topics { topics }, &warnings))
}

/// Topics that nsqlookupds know and no nsqd has, with the channels they know of them. NSQ looks up
/// every topic for that; what nsqds have is enough to know.
pub(super) async fn inactive(
    cluster: &Cluster,
    sources: &Sources,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, Option<Vec<String>>>, Refusal> {
    let topics = cluster.topics(sources).await?.note(warnings);
    let Sources::Lookupds(lookupds) = sources else { return Ok(BTreeMap::new()) };
    let producers = cluster.producers(sources).await?;
    let active: BTreeSet<&str> = (producers.value.iter())
        .flat_map(|producer| producer.topics.iter().flatten())
        .filter(|topic| !topic.tombstoned)
        .map(|topic| topic.topic.as_str())
        .collect();
    let mut asked = tokio::task::JoinSet::new();
    for topic in topics.into_iter().filter(|topic| !active.contains(topic.as_str())) {
        let (cluster, lookupds) = (cluster.clone(), lookupds.clone());
        asked.spawn(async move {
            let channels = cluster.channels(&lookupds, &topic).await;
            (topic, channels.ok().and_then(|channels| some(channels.value)))
        });
    }
    Ok(asked.join_all().await.into_iter().collect())
}

pub(super) async fn topic(
    State(admin): Shared,
    Path(topic): Path<String>,
) -> Result<Reply, Refusal> {
    let mut warnings = Vec::new();
    let producers = admin.cluster.producers_of(&admin.sources(), &topic).await?;
    let producers = producers.note(&mut warnings);
    let stats = admin.cluster.stats(&producers, &topic, "", false).await?.note(&mut warnings);
    let mut whole = TopicStats::of_all(&topic);
    stats.into_iter().for_each(|stats| whole.add(stats));
    Ok(document(whole, &warnings))
}

pub(super) async fn channel(
    State(admin): Shared,
    Path((topic, channel)): Path<(String, String)>,
) -> Result<Reply, Refusal> {
    let mut warnings = Vec::new();
    let whole = channel_stats(&admin, &topic, &channel, &mut warnings).await?;
    Ok(document(whole, &warnings))
}

/// A channel of all nsqds, with its clients.
async fn channel_stats(
    admin: &Admin,
    topic: &str,
    channel: &str,
    warnings: &mut Vec<String>,
) -> Result<ChannelStats, Refusal> {
    let producers = admin.cluster.producers_of(&admin.sources(), topic).await?.note(warnings);
    let stats = admin.cluster.stats(&producers, topic, channel, true).await?.note(warnings);
    let mut channels = merge::channels(stats);
    let whole = channels.remove(&(topic.to_owned(), channel.to_owned()));
    let mut whole = whole.ok_or(CHANNEL_NOT_FOUND)?;
    whole.clients.iter_mut().for_each(|clients| clients.sort_by(merge::clients_in_order));
    Ok(whole)
}

pub(super) async fn nodes(State(admin): Shared) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Nodes {
        nodes: Option<Vec<Producer>>,
    }
    let mut warnings = Vec::new();
    let nodes = some(admin.cluster.producers(&admin.sources()).await?.note(&mut warnings));
    Ok(document(Nodes { nodes }, &warnings))
}

pub(super) async fn node(State(admin): Shared, Path(node): Path<String>) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Node {
        node: String,
        topics: Option<Vec<TopicStats>>,
        total_messages: i64,
        total_clients: i64,
    }
    let mut warnings = Vec::new();
    let producers = admin.cluster.producers(&admin.sources()).await?.note(&mut warnings);
    let producer = producers.into_iter().find(|producer| producer.http_address() == node);
    let producer = producer.ok_or(NODE_NOT_FOUND)?;
    let topics = admin.cluster.stats(&[producer], "", "", true).await?.note(&mut warnings);
    let channels = topics.iter().flat_map(|topic| topic.channels.iter().flatten());
    let clients = channels.map(|channel| channel.clients.as_ref().map_or(0, Vec::len));
    let total_clients = clients.sum::<usize>().try_into().unwrap_or(i64::MAX);
    let total_messages = topics.iter().map(|topic| topic.message_count);
    let total_messages = total_messages.fold(0, i64::saturating_add);
    let topics = some(topics);
    Ok(document(Node { node, topics, total_messages, total_clients }, &warnings))
}

pub(super) async fn counter(State(admin): Shared) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Counts {
        stats: BTreeMap<String, Count>,
    }
    #[derive(Serialize)]
    struct Count {
        node: String,
        topic_name: String,
        channel_name: String,
        message_count: i64,
    }
    let mut warnings = Vec::new();
    let producers = admin.cluster.producers(&admin.sources()).await?.note(&mut warnings);
    let topics = admin.cluster.stats(&producers, "", "", false).await?.note(&mut warnings);
    let mut stats = BTreeMap::new();
    for channel in topics.into_iter().flat_map(|topic| topic.channels.unwrap_or_default()) {
        let ChannelStats { node, topic_name, channel_name, message_count, .. } = channel;
        let key = format!("{topic_name}:{channel_name}:{node}");
        let none = Count { node, topic_name, channel_name, message_count: 0 };
        let count = &mut stats.entry(key).or_insert(none).message_count;
        *count = count.saturating_add(message_count);
    }
    Ok(document(Counts { stats }, &warnings))
}
