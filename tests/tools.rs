//! The utilities as programs, against the daemon.

#[expect(dead_code, reason = "shared by all suites; this one needs no robustness probes")]
mod support;

mod tools {
    mod endpoint;
    mod kills;
    mod nsq_stat;
    mod nsq_tail;
    mod nsq_to_file;
    mod nsq_to_http;
    mod nsq_to_nsq;
    mod program;
    mod to_nsq;
}
