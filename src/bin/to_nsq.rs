//! `to_nsq`: publishes the records of standard input.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringmain::tools::to_nsq::main(std::env::args_os().skip(1))
}
