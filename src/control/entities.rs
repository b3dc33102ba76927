//! `/topic/…` and `/channel/…`: create, delete, empty, pause, unpause.

use super::query::Query;
use super::response::{CHANNEL_NOT_FOUND, Fault, INTERNAL_ERROR, Reply, TOPIC_NOT_FOUND};
use super::shards::Unavailable;
use super::state::Control;
use crate::broker::admin::{AdminReply, AdminRequest, ChannelAction, TopicAction};
use crate::broker::durability::Durability;
use crate::broker::policy::Policy;
pub(super) use crate::http::query::Parameters;
use crate::options::{POLICY_FIELDS, set_policy};
use crate::protocol::name::TopicName;
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Arc;

/// Ours: nsqd ignores the parameter.
const INVALID_DURABILITY: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_DURABILITY");

const INVALID_POLICY: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_POLICY");

type Shared = State<Arc<Control>>;

pub(super) async fn create_topic(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let topic = query.topic("INVALID_TOPIC")?;
    let durability =
        query.value("durability").map(|bytes| String::from_utf8_lossy(bytes).parse()).transpose();
    let durability: Option<Durability> = durability.map_err(|_| INVALID_DURABILITY)?;
    let policy = policy(&query)?;
    control.shards.create(topic).await.map_err(|Unavailable| INTERNAL_ERROR)?;
    if let Some(durability) = durability {
        act_on_topic(&control, topic, TopicAction::SetDurability(durability)).await?;
    }
    if !policy.is_empty() {
        act_on_topic(&control, topic, TopicAction::SetPolicy(policy)).await?;
    }
    Ok(Reply::Empty)
}

pub(super) async fn delete_topic(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    outcome(control.shards.delete(existing_topic(&query)?).await)
}

pub(super) async fn empty_topic(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let topic = query.topic("INVALID_TOPIC")?;
    act_on_topic(&control, topic, TopicAction::Empty).await
}

pub(super) async fn pause_topic(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    act_on_topic(&control, existing_topic(&query)?, TopicAction::Pause).await
}

pub(super) async fn unpause_topic(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    act_on_topic(&control, existing_topic(&query)?, TopicAction::Unpause).await
}

pub(super) async fn create_channel(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let reply = act_on_channel(&control, &query, ChannelAction::Create).await?;
    let policy = policy(&query)?;
    if !policy.is_empty() {
        act_on_channel(&control, &query, ChannelAction::SetPolicy(policy)).await?;
    }
    Ok(reply)
}

pub(super) async fn delete_channel(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    act_on_channel(&control, &query, ChannelAction::Delete).await
}

pub(super) async fn empty_channel(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    act_on_channel(&control, &query, ChannelAction::Empty).await
}

pub(super) async fn pause_channel(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    act_on_channel(&control, &query, ChannelAction::Pause).await
}

pub(super) async fn unpause_channel(
    State(control): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    act_on_channel(&control, &query, ChannelAction::Unpause).await
}

/// What is asked for beside the name; ours, too.
fn policy(query: &Query) -> Result<Policy, Fault> {
    let mut policy = Policy::default();
    for field in POLICY_FIELDS {
        if let Some(bytes) = query.value(field) {
            let text = String::from_utf8_lossy(bytes);
            set_policy(&mut policy, field, &text).map_err(|_| INVALID_POLICY)?;
        }
    }
    Ok(policy)
}

/// A topic whose name NSQ does not check here: an invalid one simply does not exist.
fn existing_topic(query: &Query) -> Result<TopicName, Fault> {
    TopicName::parse(query.topic_bytes()?).map_err(|_| TOPIC_NOT_FOUND)
}

async fn act_on_topic(
    control: &Control,
    topic: TopicName,
    action: TopicAction,
) -> Result<Reply, Fault> {
    let request = |topic, _| AdminRequest::Topic { topic, action };
    let reply = outcome(control.shards.ask_home(topic, false, request).await)?;
    if action != TopicAction::Empty {
        persist(control).await?;
    }
    Ok(reply)
}

async fn act_on_channel(
    control: &Control,
    query: &Query,
    action: ChannelAction,
) -> Result<Reply, Fault> {
    let (topic, channel) = query.topic_and_channel()?;
    let request = |topic, _| AdminRequest::Channel { topic, channel, action };
    let reply = outcome(control.shards.ask_home(topic, false, request).await)?;
    if !matches!(action, ChannelAction::Create | ChannelAction::Delete | ChannelAction::Empty) {
        persist(control).await?;
    }
    Ok(reply)
}

/// A pause that was answered must survive a crash. When it cannot be written it is in force all
/// the same, and it is tried again; the client is told that it is not safe yet.
async fn persist(control: &Control) -> Result<(), Fault> {
    if control.persist.now().await { Ok(()) } else { Err(INTERNAL_ERROR) }
}

fn outcome(reply: Result<AdminReply, Unavailable>) -> Result<Reply, Fault> {
    match reply {
        Ok(AdminReply::Done) => Ok(Reply::Empty),
        Ok(AdminReply::TopicNotFound) => Err(TOPIC_NOT_FOUND),
        Ok(AdminReply::ChannelNotFound) => Err(CHANNEL_NOT_FOUND),
        Ok(reply) => {
            tracing::error!("a shard refused an operation - {reply:?}");
            Err(INTERNAL_ERROR)
        }
        Err(Unavailable) => {
            tracing::error!("a shard does not answer");
            Err(INTERNAL_ERROR)
        }
    }
}
