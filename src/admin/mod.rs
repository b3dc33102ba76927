//! nsqadmin: the cluster in a browser, and as JSON.
//!
//! It has no state of its own: every answer is made of what nsqds and nsqlookupds say at that
//! moment ([`cluster`], [`merge`]), and every action is told to all of them at once.

mod flags;

mod model;

mod merge;

mod cluster;

mod refusal;

mod access;

mod api;

mod actions;

mod notify;

mod config;

mod graphite;

mod state;

mod routes;

mod daemon;

pub use daemon::run;
pub use flags::AdminOptions;
