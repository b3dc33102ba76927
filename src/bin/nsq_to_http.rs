//! `nsq_to_http`: sends the messages of a topic to HTTP endpoints.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringmain::tools::nsq_to_http::main(std::env::args_os().skip(1))
}
