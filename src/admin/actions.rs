//! `/api`, the part that changes the cluster: all daemons concerned are told at once, and what some
//! of them did not take is a warning.

use super::access::Operator;
use super::cluster::{Answer, Gathered, Sources, Unanswered};
use super::model::Producer;
use super::refusal::{Message, Refusal};
use super::state::Admin;
use crate::client::http::escape;
use crate::http::body;
use crate::http::response::{Fault, Reply};
use crate::limits::ADMIN_BODY_BYTES_MAX;
use crate::protocol::name::{ChannelName, TopicName};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

type Shared = State<Arc<Admin>>;

const INVALID_BODY: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_BODY");
const INVALID_TOPIC: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_TOPIC");
const INVALID_CHANNEL: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_CHANNEL");
const INVALID_ACTION: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_ACTION");
const BODY_TOO_BIG: Fault = Fault(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_BIG");

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Order {
    topic: Option<String>,
    channel: Option<String>,
    action: Option<String>,
}

pub(super) async fn create(
    State(admin): Shared,
    operator: Operator,
    body: Body,
) -> Result<Reply, Refusal> {
    let order: Order = read(body).await?;
    let topic = order.topic.unwrap_or_default();
    let channel = order.channel.unwrap_or_default();
    TopicName::parse(topic.as_bytes()).map_err(|_| INVALID_TOPIC)?;
    if !channel.is_empty() {
        ChannelName::parse(channel.as_bytes()).map_err(|_| INVALID_CHANNEL)?;
    }
    let sources = admin.sources();
    let lookupds = admin.lookupds();
    let mut warnings = Warnings::default();
    warnings.add(admin.cluster.post(&lookupds, &target("topic/create", &topic, "")).await);
    if !channel.is_empty() {
        let target = target("channel/create", &topic, &channel);
        warnings.add(admin.cluster.post(&lookupds, &target).await);
        if let Sources::Nsqds(_) = sources {
            // There is nobody who could be asked for the topic's nsqds, says NSQ.
            return Err(Unanswered("failed to query any nsqlookupd: ".to_owned()).into());
        }
        let producers = warnings.of(admin.cluster.producers_of(&sources, &topic).await)?;
        warnings.add(admin.cluster.post(&http_addresses(&producers), &target).await);
    }
    operator.tell(&admin, "create_topic", &topic, "", "");
    if !channel.is_empty() {
        operator.tell(&admin, "create_channel", &topic, &channel, "");
    }
    Ok(warnings.reply())
}

pub(super) async fn delete_topic(
    State(admin): Shared,
    operator: Operator,
    Path(topic): Path<String>,
    body: Body,
) -> Result<Reply, Refusal> {
    body::discard(body).await;
    let warnings = delete(&admin, "topic/delete", &topic, "").await?;
    operator.tell(&admin, "delete_topic", &topic, "", "");
    Ok(warnings.reply())
}

pub(super) async fn delete_channel(
    State(admin): Shared,
    operator: Operator,
    Path((topic, channel)): Path<(String, String)>,
    body: Body,
) -> Result<Reply, Refusal> {
    body::discard(body).await;
    let warnings = delete(&admin, "channel/delete", &topic, &channel).await?;
    operator.tell(&admin, "delete_channel", &topic, &channel, "");
    Ok(warnings.reply())
}

/// Finds the nsqds first: nsqlookupds forget them with the topic.
async fn delete(
    admin: &Admin,
    what: &str,
    topic: &str,
    channel: &str,
) -> Result<Warnings, Unanswered> {
    let mut warnings = Warnings::default();
    let producers = admin.cluster.producers_of(&admin.sources(), topic).await;
    let nsqds = http_addresses(&warnings.of(producers)?);
    let target = target(what, topic, channel);
    warnings.add(admin.cluster.post(&admin.lookupds(), &target).await);
    warnings.add(admin.cluster.post(&nsqds, &target).await);
    Ok(warnings)
}

pub(super) async fn act_on_topic(
    State(admin): Shared,
    operator: Operator,
    Path(topic): Path<String>,
    body: Body,
) -> Result<Reply, Refusal> {
    let order: Order = read(body).await?;
    act(&admin, &operator, &order, "topic", &topic, "").await
}

pub(super) async fn act_on_channel(
    State(admin): Shared,
    operator: Operator,
    Path((topic, channel)): Path<(String, String)>,
    body: Body,
) -> Result<Reply, Refusal> {
    let order: Order = read(body).await?;
    act(&admin, &operator, &order, "channel", &topic, &channel).await
}

async fn act(
    admin: &Admin,
    operator: &Operator,
    order: &Order,
    kind: &str,
    topic: &str,
    channel: &str,
) -> Result<Reply, Refusal> {
    let action = order.action.as_deref().unwrap_or_default();
    if !matches!(action, "pause" | "unpause" | "empty") {
        return Err(INVALID_ACTION.into());
    }
    // NSQ tells of these whether they succeed or not.
    operator.tell(admin, &format!("{action}_{kind}"), topic, channel, "");
    let mut warnings = Warnings::default();
    let producers = admin.cluster.producers_of(&admin.sources(), topic).await;
    let nsqds = http_addresses(&warnings.of(producers)?);
    let target = target(&format!("{kind}/{action}"), topic, channel);
    warnings.add(admin.cluster.post(&nsqds, &target).await);
    Ok(warnings.reply())
}

pub(super) async fn tombstone(
    State(admin): Shared,
    operator: Operator,
    Path(node): Path<String>,
    body: Body,
) -> Result<Reply, Refusal> {
    let order: Order = read(body).await.map_err(|_| INVALID_BODY)?;
    let topic = order.topic.unwrap_or_default();
    TopicName::parse(topic.as_bytes()).map_err(|_| INVALID_TOPIC)?;
    let mut warnings = Warnings::default();
    let hidden =
        format!("{}&node={}", target("topic/tombstone", &topic, ""), escape(node.as_bytes(), "+"));
    warnings.add(admin.cluster.post(&admin.lookupds(), &hidden).await);
    // The address is what somebody typed; nothing but an address may come of it.
    let is_address = node.parse::<hyper::http::uri::Authority>().is_ok_and(|address| {
        address.as_str() == node && !node.contains('@') && address.port_u16().is_some()
    });
    if !is_address {
        return Err(Unanswered("failed to query any nsqd: it is no address".to_owned()).into());
    }
    let described = warnings.of(admin.cluster.nsqd(&node).await)?;
    let target = target("topic/delete", &topic, "");
    warnings.add(admin.cluster.post(&[described.http_address()], &target).await);
    operator.tell(&admin, "tombstone_topic_producer", &topic, "", &node);
    Ok(warnings.reply())
}

/// What did not work, node by node.
#[derive(Default)]
struct Warnings(Vec<String>);

impl Warnings {
    fn add(&mut self, errors: Vec<String>) {
        self.0.extend(errors);
    }

    fn of<T>(&mut self, answer: Answer<T>) -> Result<T, Unanswered> {
        let Gathered { value, errors } = answer?;
        self.add(errors);
        Ok(value)
    }

    fn reply(self) -> Reply {
        if self.0.is_empty() {
            return Reply::json(&Message::of(&[]));
        }
        let text = self.0.join("\n");
        tracing::warn!("{text}");
        Reply::json(&Message::of(&[text]))
    }
}

fn http_addresses(producers: &[Producer]) -> Vec<String> {
    producers.iter().map(Producer::http_address).collect()
}

/// A daemon's endpoint with its parameters.
fn target(what: &str, topic: &str, channel: &str) -> String {
    let topic = escape(topic.as_bytes(), "+");
    match channel {
        "" => format!("/{what}?topic={topic}"),
        channel => format!("/{what}?topic={topic}&channel={}", escape(channel.as_bytes(), "+")),
    }
}

/// The first JSON value of the body, as Go's decoder takes it: what follows does not matter.
async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let invalid = |text: String| Refusal::Text(StatusCode::BAD_REQUEST, text);
    let bytes = body::read(body, ADMIN_BODY_BYTES_MAX).await.map_err(|fault| match fault {
        body::BodyFault::TooBig => Refusal::Fault(BODY_TOO_BIG),
        body::BodyFault::Broken => invalid("unexpected EOF".to_owned()),
    })?;
    if bytes.trim_ascii().is_empty() {
        return Err(invalid("EOF".to_owned()));
    }
    let value = T::deserialize(&mut serde_json::Deserializer::from_slice(&bytes));
    value.map_err(|error| invalid(error.to_string()))
}
