//! `nsqd`: the message daemon.

use ringmain::daemon::{self, DataPath};
use ringmain::options::{self, Exit, Options};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match prepare() {
        Ok((options, data_path)) => daemon::run(options, data_path),
        Err(exit) => {
            // Whoever has closed these streams does not want to be told.
            let _ = std::io::stdout().write_all(exit.stdout.as_bytes());
            let _ = std::io::stderr().write_all(exit.stderr.as_bytes());
            ExitCode::from(exit.code)
        }
    }
}

/// In NSQ's order: of two things that are wrong, the same one is told.
fn prepare() -> Result<(Options, DataPath), Exit> {
    let options: Options = options::read(std::env::args_os().skip(1))?;
    let data_path = DataPath::lock(&options.data_path);
    let data_path = data_path.map_err(|reason| Exit::instantiate(&reason))?;
    Ok((options::check(options)?, data_path))
}
