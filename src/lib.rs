//! Ringmain: an NSQ-compatible message platform for high-throughput Linux.
//!
//! The modules are listed in the order a published message meets them: a completion of the
//! `reactor` goes to a shard's `server` loop, whose `protocol` decoder makes commands of its
//! bytes; the `broker` carries them out, and what it has to say goes back the same way. `control`
//! asks shards by mail on behalf of HTTP; `daemon` starts and stops it all. `lookup` is nsqlookupd
//! and `admin` nsqadmin, which no message meets; they share with nsqd what stands below it. Arrows
//! point one way only, from `daemon`, `lookup` and `admin` down to `protocol` (`tests/tidy.rs`
//! checks it).

pub mod daemon;

pub mod reactor;

pub mod server;

pub mod protocol;

pub mod broker;

pub mod control;

pub mod lookup;

pub mod admin;

pub mod http;

pub mod client;

pub mod tools;

pub mod options;

pub mod process;

pub mod log;

pub mod limits;
