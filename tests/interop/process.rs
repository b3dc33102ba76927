//! Runs one program to its end or to a deadline, with its output in a file.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often something awaited is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs `command` and gives its output, both streams together in the order of writing. The error
/// is a description that ends with the output; a program past its deadline is killed.
pub(crate) fn run(command: &mut Command, log: &Path, deadline: Duration) -> Result<String, String> {
    let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let clone = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file).stderr(clone);
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let status = wait(&mut child, deadline);
    let output = fs::read(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let output = String::from_utf8_lossy(&output);
    match status {
        Some(status) if status.success() => Ok(output.into_owned()),
        Some(status) => Err(format!("{command:?}: {status}\n{output}")),
        None => Err(format!("{command:?}: killed after {} s\n{output}", deadline.as_secs())),
    }
}

/// Calls `probe` until it gives something; `None` after `deadline`.
#[expect(clippy::disallowed_methods, reason = "a deadline of a test, not of the daemon")]
pub(crate) fn poll<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if started.elapsed() > deadline {
            return None;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let status = poll(deadline, || child.try_wait().expect("a child of ours can be waited for"));
    if status.is_none() {
        kill(child);
    }
    status
}

/// Ends a child that may have ended already, and reaps it.
pub(crate) fn kill(child: &mut Child) {
    // An error says that it has ended, which is what we want.
    let _ = child.kill();
    let _ = child.wait();
}
