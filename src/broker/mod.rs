//! What the daemon decides: topics, channels, sessions, deliveries. Pure: no socket, file, clock,
//! thread or randomness; time and seeds are arguments, effects leave as values.

pub mod shard;

pub mod action;
pub mod admin;
pub mod authorize;
pub mod drain;
pub mod durability;
pub mod mail;
pub mod session;
pub mod time;

pub mod administer;
pub mod caps;
pub mod channel;
pub mod consume;
pub mod dead_letters;
pub mod deadlines;
pub mod delivery;
pub mod eligible;
pub mod expire;
pub mod figures;
pub mod governed;
pub mod grant;
pub mod identify;
pub mod in_flight;
pub mod latency;
pub mod later;
pub mod logged;
pub mod message_id;
pub mod overflow;
pub mod placement;
pub mod policy;
pub mod post;
pub mod publish;
pub mod refill;
pub mod registry;
pub mod restore;
pub mod save;
pub mod stats;
pub mod store;
pub mod tend;
pub mod topic;
pub mod topic_log;
pub mod upgrade;

pub use identify::Features;

#[cfg(test)]
pub(crate) mod tests;
