//! What the whole-system tests share: a daemon per test, a scripted client, an HTTP client.
//!
//! The suite runs against the `nsqd` of this package, or against the program named by
//! `RINGMAIN_NSQD`. With `RINGMAIN_NSQD_PLAIN_FLAGS=1` that program is taken to be the original
//! nsqd: it gets no flags of ours, and where we differ on purpose its behaviour is expected.

pub(crate) mod auth_server;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod layers;
pub(crate) mod lookupd;
pub(crate) mod matrix;
pub(crate) mod stream;
pub(crate) mod wait;
