//! The client library against the daemon, and against servers that misbehave on cue.

#[expect(dead_code, reason = "shared by all suites; this one needs no robustness probes")]
mod support;

mod client {
    mod consumer;
    mod failures;
    mod fake;
    mod j_commands;
    mod producer;
}
