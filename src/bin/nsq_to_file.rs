//! `nsq_to_file`: writes the messages of topics to files.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringmain::tools::nsq_to_file::main(std::env::args_os().skip(1))
}
