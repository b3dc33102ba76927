//! A client of NSQ for tokio: consumers and producers of many nsqds. It speaks to nsqd itself, and
//! to any other daemon that does.
//!
//! Everything a consumer or producer decides is decided by pure state machines (how RDY is shared,
//! when to back off, when to try again, what is said on a new connection), which are given the
//! time; one task for each consumer or producer carries it out. It reads and writes in batches: a
//! message costs no system call and no allocation of its own.

mod backoff;
mod commands;
mod compression;
mod config;
mod consumer;
mod dial;
mod error;
mod frames;
mod handshake;
pub(crate) mod http;
mod link;
mod lookup;
mod message;
mod producer;
mod ready_distribution;
mod retry;
pub(crate) mod tls;

pub use backoff::BackoffStrategy;
pub use config::{Config, TlsMinVersion};
pub use consumer::{Consumer, ConsumerBuilder, ConsumerControl, ConsumerStats, GivenUp};
pub use error::Error;
pub use message::Message;
pub use producer::{Producer, ProducerBuilder, Publishing};
