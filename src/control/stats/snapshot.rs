//! Every shard's pages, asked for side by side and merged.
//!
//! Shards go on working between two pages, so a snapshot is of no one instant: a topic or a
//! connection that comes, goes or moves meanwhile may be missing or be there twice.

use crate::broker::admin::{AdminReply, AdminRequest, SessionStats, TopicStats};
use crate::control::shards::{Shards, Unavailable};
use crate::protocol::name::{ChannelName, TopicName};
use std::collections::HashMap;

/// What a request is about.
pub(super) struct Wanted<'a> {
    /// Only this topic; the bytes need not be a name.
    pub(super) topic: Option<&'a [u8]>,
    /// Only this channel of each topic.
    pub(super) channel: Option<&'a [u8]>,
    /// Whether connections are shown.
    pub(super) clients: bool,
}

/// What the shards said. Topics and channels are sorted by name.
pub(super) struct Snapshot {
    /// `None` when the topic asked for does not exist.
    pub(super) topics: Option<Vec<TopicStats>>,
    /// Every connection; `None` when they are not shown.
    sessions: Option<Vec<SessionStats>>,
    /// Indexes into `sessions` by what they consume.
    consumers: HashMap<(TopicName, ChannelName), Vec<usize>>,
    /// The topic whose publish counts are shown, if not all.
    topic: Option<TopicName>,
}

/// Asks all shards.
pub(super) async fn take(shards: &Shards, wanted: &Wanted<'_>) -> Result<Snapshot, Unavailable> {
    let mut snapshot =
        Snapshot { topics: None, sessions: None, consumers: HashMap::new(), topic: None };
    if let Some(bytes) = wanted.topic {
        let Ok(topic) = TopicName::parse(bytes) else { return Ok(snapshot) };
        snapshot.topic = Some(topic);
        if !shards.exists(topic).await? {
            return Ok(snapshot);
        }
    }
    snapshot.topics = Some(topics(shards, snapshot.topic, wanted.channel).await?);
    if wanted.clients {
        snapshot.add_sessions(sessions(shards).await?);
    }
    Ok(snapshot)
}

impl Snapshot {
    /// The connections that consume a channel; `None` when connections are not shown.
    pub(super) fn clients_of(
        &self,
        topic: TopicName,
        channel: ChannelName,
    ) -> Option<impl Iterator<Item = &SessionStats>> {
        let sessions = self.sessions.as_deref()?;
        let indexes = self.consumers.get(&(topic, channel)).map(Vec::as_slice).unwrap_or_default();
        Some(indexes.iter().filter_map(|index| sessions.get(*index)))
    }

    /// The connections that have published.
    pub(super) fn producers(&self) -> impl Iterator<Item = &SessionStats> {
        let sessions = self.sessions.iter().flatten();
        sessions.filter(|session| !session.publish_counts.is_empty())
    }

    /// The connections that consume a channel that exists; none when connections are not shown.
    pub(super) fn consumers(&self) -> impl Iterator<Item = &SessionStats> {
        self.sessions.iter().flatten().filter(|session| session.subscription.is_some())
    }

    /// What a connection has published, as far as it is shown.
    pub(super) fn publish_counts<'a>(
        &self,
        session: &'a SessionStats,
    ) -> impl Iterator<Item = (&'a TopicName, u64)> + use<'a> {
        let shown = self.topic;
        let counts = session.publish_counts.iter();
        let counts = counts.filter(move |(topic, _)| shown.is_none_or(|shown| shown == *topic));
        counts.map(|(topic, count)| (topic, *count))
    }

    fn add_sessions(&mut self, sessions: Vec<SessionStats>) {
        for (index, session) in sessions.iter().enumerate() {
            if let Some(subscription) = session.subscription {
                self.consumers.entry(subscription).or_default().push(index);
            }
        }
        self.sessions = Some(sessions);
    }
}

async fn topics(
    shards: &Shards,
    topic: Option<TopicName>,
    channel: Option<&[u8]>,
) -> Result<Vec<TopicStats>, Unavailable> {
    let Ok(channel) = channel.map(ChannelName::parse).transpose() else {
        return Ok(Vec::new()); // no topic has a channel with such a name
    };
    let mut topics = Vec::new();
    let request = |from| AdminRequest::TopicsPage { from, topic, channel, latencies: true };
    shards
        .read_pages(request, |reply| match reply {
            AdminReply::Topics(page) => {
                topics.extend(page.topics);
                Ok(page.next)
            }
            _ => Err(Unavailable),
        })
        .await?;
    topics.sort_by_key(|topic: &TopicStats| topic.name);
    for topic in &mut topics {
        topic.channels.sort_by_key(|channel| channel.name);
    }
    Ok(topics)
}

async fn sessions(shards: &Shards) -> Result<Vec<SessionStats>, Unavailable> {
    let mut sessions = Vec::new();
    let request = |from| AdminRequest::SessionsPage { from };
    shards
        .read_pages(request, |reply| match reply {
            AdminReply::Sessions(page) => {
                sessions.extend(page.sessions);
                Ok(page.next)
            }
            _ => Err(Unavailable),
        })
        .await?;
    Ok(sessions)
}
