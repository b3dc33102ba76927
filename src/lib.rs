//! Ringmain: an NSQ-compatible message platform for high-throughput Linux.
//!
//! The modules are listed in the order a published message meets them. Arrows between them point
//! one way only (`tests/tidy.rs` checks it): `server` and `control` use `broker` and `reactor`,
//! which use `protocol`, which uses nothing.

pub mod limits;

pub mod protocol;

pub mod broker;

pub mod control;

pub mod options;

pub mod log;
