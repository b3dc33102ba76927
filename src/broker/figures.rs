//! What a shard says of itself as a whole: a short list of named numbers, for monitoring.

use super::shard::Shard;

/// One number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// As monitoring has it: `nsqd_shard_…`, the unit last, `_total` at the end of counters.
    pub name: &'static str,
    /// What it counts, in a few words.
    pub help: &'static str,
    /// Whether it only ever rises.
    pub kind: FigureKind,
    /// Its value now.
    pub value: u64,
}

/// How a number moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureKind {
    /// Up only, from 0 at start.
    Counter,
    /// Up and down.
    Gauge,
}

impl Figure {
    /// A number that only rises.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: FigureKind::Counter, value }
    }

    /// A number that rises and falls.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: FigureKind::Gauge, value }
    }
}

impl Shard {
    /// The shard's figures now.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let pool = &self.store.pool;
        let topics = self.topics.iter().flatten().count();
        [
            ("nsqd_shard_connections", "clients connected", self.sessions.len()),
            ("nsqd_shard_topics", "topics that live here", topics),
            ("nsqd_shard_channels", "channels that live here", self.channels.len()),
            ("nsqd_shard_messages", "messages held in memory", self.message_count()),
            ("nsqd_shard_memory_bytes", "memory that messages take", pool.bytes_used()),
            ("nsqd_shard_memory_budget_bytes", "memory that they may take", pool.bytes_max()),
        ]
        .map(|(name, help, value)| Figure::gauge(name, help, value as u64))
        .into()
    }
}
