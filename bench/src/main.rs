//! `nsq_bench`: a load generator for any NSQ daemon.

fn main() {}
