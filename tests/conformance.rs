//! What nsqd does, case by case, over TCP and unix sockets, on one shard and on two.
//!
//! Tests are named after the cases of the upstream suites and of our comparison with the original
//! (letters A to E and L). The same suite can be run against the original: see `support`.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod conformance {
    mod a_auth;
    mod a_basic;
    mod a_heartbeats;
    mod a_layers;
    mod a_settings;
    mod a_sizes;
    mod a_times;
    mod a_upgrades;
    mod b_topics;
    mod e_stats;
    mod errors;
    mod l_observed;
    mod recording;
}
