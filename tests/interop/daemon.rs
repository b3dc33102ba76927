//! An nsqd of our own on a free port and in a directory of its own, ended with the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process;

/// How long a daemon may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// What precedes the address in the daemon's log line.
const LISTENING: &str = "TCP: listening on ";

/// A running daemon. Dropping it kills it and removes its directory.
pub(crate) struct Daemon {
    child: Child,
    directory: PathBuf,
    tcp_address: String,
}

impl Daemon {
    /// Starts the daemon of `RINGMAIN_NSQD`, or ours, and waits until it listens. `name` is unique
    /// among the daemons of this process; `flags` come after the ones every test needs.
    pub(crate) fn start(name: &str, flags: &[&str]) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("interop-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("the directory for tests can be written");
        let log = File::create(directory.join("log")).expect("a new log file");
        let child = Command::new(program())
            .args(["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"])
            .arg("--https-address=127.0.0.1:0")
            .arg(format!("--data-path={}", directory.display()))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program().display()));
        let mut daemon = Self { child, directory, tcp_address: String::new() };
        let address = process::poll(START_DEADLINE, || {
            let ended = daemon.child.try_wait().expect("a child of ours can be waited for");
            let address = listening(&daemon.log());
            (address.is_some() || ended.is_some()).then_some(address)
        });
        daemon.tcp_address = address.flatten().unwrap_or_else(|| {
            panic!("{} did not log \"{LISTENING}\":\n{}", program().display(), daemon.log())
        });
        daemon
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn tcp_address(&self) -> &str {
        &self.tcp_address
    }

    /// What the daemon has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        process::kill(&mut self.child);
        // A directory that stays behind is under `target` and harms nothing.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn program() -> PathBuf {
    std::env::var_os("RINGMAIN_NSQD")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_nsqd")), PathBuf::from)
}

/// The address in a complete log line, if there is one.
fn listening(log: &str) -> Option<String> {
    let (_, rest) = log.split_once(LISTENING)?;
    let (address, _) = rest.split_once('\n')?;
    Some(address.trim().to_owned())
}
