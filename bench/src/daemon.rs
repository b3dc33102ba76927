//! The daemon under load: one that runs already, or one started afresh for each run.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::clock::{SECOND_NS, now_ns};
use crate::endpoint::Endpoint;

/// Time a daemon has until it accepts connections.
const START_NS_MAX: u64 = 10 * SECOND_NS;
/// How often it is tried.
const POLL: Duration = Duration::from_millis(10);
/// Time an HTTP request may take; deleting a large topic is slow.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// A daemon that lives as long as this value.
pub(crate) struct Daemon {
    child: Child,
    /// `{dir}` and the output; removed at the end.
    directory: TempDir,
}

impl Daemon {
    /// Starts `command` and waits until it accepts connections at `endpoint`.
    pub(crate) fn start(command: &str, endpoint: &Endpoint) -> Result<Self> {
        wait_until_free(endpoint)?;
        let directory = TempDir::with_prefix("nsq_bench-").context("no temporary directory")?;
        let data = directory.path().join("data");
        std::fs::create_dir(&data)?;
        let output = File::create(directory.path().join("output"))?;
        let command = command.replace("{dir}", &data.to_string_lossy());
        let mut words = command.split_ascii_whitespace();
        let program = words.next().context("--daemon names no program")?;
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut daemon = Self { child, directory };
        daemon.wait_until_listening(endpoint)?;
        Ok(daemon)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_listening(&mut self, endpoint: &Endpoint) -> Result<()> {
        let give_up_ns = now_ns() + START_NS_MAX;
        while !endpoint.listens() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended at once ({status}):\n{}", self.last_output());
            }
            if now_ns() > give_up_ns {
                bail!("the daemon does not listen on {endpoint}:\n{}", self.last_output());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn last_output(&self) -> String {
        let path = self.directory.path().join("output");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Daemon {
    /// Its data is thrown away, so it need not end in order.
    fn drop(&mut self) {
        // It fails only when the daemon has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until nobody listens on `endpoint`: the sockets of a process that used io_uring are closed
/// by the kernel only some time after its end, so the daemon of the run before may seem alive.
fn wait_until_free(endpoint: &Endpoint) -> Result<()> {
    let give_up_ns = now_ns() + START_NS_MAX;
    while endpoint.listens() {
        ensure!(
            now_ns() < give_up_ns,
            "something listens on {endpoint} already: --daemon would measure that instead"
        );
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Deletes a topic over the HTTP API, with all that is queued in it.
pub(crate) fn delete_topic(endpoint: &Endpoint, topic: &str) -> Result<()> {
    let mut stream = endpoint.connect().context("cannot delete a topic")?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    let request = format!(
        "POST /topic/delete?topic={} HTTP/1.1\r\nHost: nsqd\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n",
        topic.replace('#', "%23")
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer).context("no answer over HTTP")?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_ascii_whitespace().nth(1).unwrap_or_default();
    ensure!(status == "200", "deleting topic {topic} was answered with status {status:?}");
    Ok(())
}
