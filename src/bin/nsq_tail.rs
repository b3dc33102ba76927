//! `nsq_tail`: prints the messages of topics.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringmain::tools::nsq_tail::main(std::env::args_os().skip(1))
}
