//! What the daemon is to the rest of a fleet: to nsqlookupd, statsd, Prometheus and systemd.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod fleet {
    mod cluster;
    mod drain;
    mod lookupd;
    mod metrics;
    mod service;
    mod statsd;
}
