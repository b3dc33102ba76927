//! `nsq_stat`: watches a channel's rates and depths.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringmain::tools::nsq_stat::main(std::env::args_os().skip(1))
}
