//! HTTP as NSQ's daemons serve it: a table of endpoints, Go's answers to what is in none of its
//! rows, query strings read as Go reads them, bodies and connections under limits. And requests to
//! others, as NSQ's programs make them.
//!
//! What the endpoints do is with whoever has them: `control` for nsqd, `lookup` for nsqlookupd.

pub mod listener;

pub(crate) mod body;
pub(crate) mod connections;
pub(crate) mod listing;
pub(crate) mod query;
pub(crate) mod requests;
pub(crate) mod response;
pub(crate) mod routes;

pub use listener::HttpListener;
