//! nsqadmin: the cluster in a browser, and as JSON.
//!
//! It has no state of its own: what it says is made of what nsqds and nsqlookupds say at that
//! moment (`cluster`, `merge`), and every action is told to all of them at once. Scripts use the
//! API, which is NSQ's; browsers get `pages`, which are made of one picture of the cluster that
//! everybody who watches shares (`live`).

mod flags;

mod model;

mod merge;

mod cluster;

mod refusal;

mod access;

mod api;

mod actions;

mod notify;

mod figures;

mod live;

mod events;

mod pages;

mod assets;

mod config;

mod graphite;

mod state;

mod routes;

mod daemon;

pub use daemon::run;
pub use flags::AdminOptions;
