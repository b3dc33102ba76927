//! nsqlookupd: tells consumers which nsqds have a topic.
//!
//! nsqds connect over TCP and say what they have; consumers and dashboards ask over HTTP. In the
//! middle is the database ([`registrations`]), a plain structure that one task owns (`desk`);
//! everybody else sends it questions. All of it runs on one thread: there is little to do, and
//! what costs nothing when it is slow is a connection that nobody else waits for.

pub mod registrations;

pub mod peer;

pub mod command;

pub mod decoder;

mod desk;

mod client;

mod connections;

mod api;

mod metrics;

mod state;

mod flags;

mod daemon;

pub use daemon::run;
pub use flags::LookupOptions;
