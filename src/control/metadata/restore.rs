//! Brings topics, channels and pause states back into the shards, before anybody is served.

use super::document::{Metadata, Topic};
use crate::broker::admin::{
    AdminReply, AdminRequest, ChannelAction, REGISTRAR, ShardIndex, TopicAction, TopicId,
};
use crate::control::shards::{Shards, Unavailable};
use crate::limits::RESTORED_AT_ONCE;
use tokio::sync::oneshot;

/// Creates what the file named. Where a topic lives is decided anew: there may be another number
/// of shards than when it was written.
///
/// # Errors
/// Which topic could not be created, and why. What was created until then stays.
pub(in crate::control) async fn restore(
    shards: &Shards,
    metadata: &Metadata,
) -> Result<(), String> {
    for topics in metadata.topics.chunks(RESTORED_AT_ONCE) {
        let mut asked = Vec::with_capacity(topics.len());
        for topic in topics {
            let request = AdminRequest::Resolve { topic: topic.name, create: true };
            asked.push((topic, post(shards, REGISTRAR, request, topic).await?));
        }
        let mut orders = Vec::new();
        for (topic, reply) in asked {
            match answer(reply, topic).await? {
                AdminReply::Resolved { topic: id, home } => {
                    for request in requests(topic, id) {
                        orders.push((topic, post(shards, home, request, topic).await?));
                    }
                }
                other => return Err(refused(topic, &other)),
            }
        }
        for (topic, reply) in orders {
            match answer(reply, topic).await? {
                AdminReply::Done => {}
                other => return Err(refused(topic, &other)),
            }
        }
    }
    Ok(())
}

/// What makes a new topic what it was.
fn requests(topic: &Topic, id: TopicId) -> impl Iterator<Item = AdminRequest> {
    let pause = AdminRequest::Topic { topic: id, action: TopicAction::Pause };
    let pause = topic.paused.then_some(pause);
    let level = topic.durability.map(|level| {
        let action = TopicAction::SetDurability(level);
        AdminRequest::Topic { topic: id, action }
    });
    let policy = (!topic.policy.is_empty()).then(|| {
        let action = TopicAction::SetPolicy(topic.policy);
        AdminRequest::Topic { topic: id, action }
    });
    let channels = topic.channels.iter().flat_map(move |channel| {
        let request = |action| AdminRequest::Channel { topic: id, channel: channel.name, action };
        let pause = channel.paused.then(|| request(ChannelAction::Pause));
        let policy = ChannelAction::SetPolicy(channel.policy);
        let policy = (!channel.policy.is_empty()).then(|| request(policy));
        std::iter::once(request(ChannelAction::Create)).chain(pause).chain(policy)
    });
    level.into_iter().chain(policy).chain(pause).chain(channels)
}

async fn post(
    shards: &Shards,
    shard: ShardIndex,
    request: AdminRequest,
    topic: &Topic,
) -> Result<oneshot::Receiver<AdminReply>, String> {
    shards.post(shard, request).await.map_err(|Unavailable| silent(topic))
}

async fn answer(reply: oneshot::Receiver<AdminReply>, topic: &Topic) -> Result<AdminReply, String> {
    Shards::answer(reply).await.map_err(|Unavailable| silent(topic))
}

fn silent(topic: &Topic) -> String {
    format!("topic {} cannot be created: a shard does not answer", topic.name)
}

fn refused(topic: &Topic, reply: &AdminReply) -> String {
    let name = topic.name;
    match reply {
        AdminReply::Refused(reason) => format!("topic {name} cannot be created: {reason}"),
        other => format!("topic {name} cannot be created: {other:?}"),
    }
}
