//! `nsqadmin`: the cluster in a browser.

use ringmain::admin::{self, AdminOptions};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match AdminOptions::parse(std::env::args_os().skip(1)) {
        Ok(options) => admin::run(options),
        Err(exit) => {
            // Whoever has closed these streams does not want to be told.
            let _ = std::io::stdout().write_all(exit.stdout.as_bytes());
            let _ = std::io::stderr().write_all(exit.stderr.as_bytes());
            ExitCode::from(exit.code)
        }
    }
}
