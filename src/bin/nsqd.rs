//! `nsqd`: the message daemon.

fn main() {}
