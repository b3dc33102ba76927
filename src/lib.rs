//! Ringmain: an NSQ-compatible message platform for high-throughput Linux.
//!
//! The modules are listed in the order a published message meets them: a completion of the
//! `reactor` goes to a shard's `server` loop, whose `protocol` decoder makes commands of its
//! bytes; the `broker` carries them out, and what it has to say goes back the same way. `control`
//! asks shards by mail on behalf of HTTP; `daemon` starts and stops it all. `lookup` is nsqlookupd,
//! which no message meets; it shares with nsqd what stands below it. Arrows point one way only,
//! from `daemon` and `lookup` down to `protocol` (`tests/tidy.rs` checks it).

pub mod daemon;

pub mod reactor;

pub mod server;

pub mod protocol;

pub mod broker;

pub mod control;

pub mod lookup;

pub mod http;

pub mod client;

pub mod tools;

pub mod options;

pub mod process;

pub mod log;

pub mod limits;
