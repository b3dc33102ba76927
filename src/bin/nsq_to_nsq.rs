//! `nsq_to_nsq`: publishes the messages of topics to other nsqds.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringmain::tools::nsq_to_nsq::main(std::env::args_os().skip(1))
}
