//! One scenario on a daemon started for it alone, by this program again in a process of its own:
//! nothing of one measurement is left for the next.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::report::Document;

/// Core of the daemon and core of the generator, when they are kept apart.
const DAEMON_CPU: usize = 0;
const LOAD_CPU: usize = 1;

/// A daemon to start and how.
pub(crate) struct Fresh {
    pub(crate) program: PathBuf,
    /// Arguments of its own, split at spaces.
    pub(crate) arguments: String,
    pub(crate) memory_queue_size: u64,
    /// Keep it on one core and the generator on another.
    pub(crate) pinned: bool,
}

impl Fresh {
    /// Runs `scenario` once with `load`, more flags of the scenario.
    pub(crate) fn measure(&self, scenario: &str, load: &[String]) -> Result<Document> {
        let directory = tempfile::TempDir::with_prefix("nsq_bench-report-")?;
        let json = directory.path().join("report.json");
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe().context("where is nsq_bench?")?);
        command.arg(scenario).args(["--runs", "1"]);
        command.arg("--daemon").arg(self.command_line(&address)?);
        command.arg("--address").arg(&address).arg("--json").arg(&json);
        if self.pinned {
            command.args(["--cpus", &LOAD_CPU.to_string()]);
        }
        // Standard error stays the terminal: the live line of the run.
        let output = command
            .args(load)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start nsq_bench for a run")?;
        // A run that fell short of its rate says so in the report.
        let measured = [0, i32::from(crate::INVALID)];
        if !output.status.code().is_some_and(|code| measured.contains(&code)) {
            bail!("the run of {scenario} on {} failed", self.program.display());
        }
        let report = Document::read_all(&json)?.into_iter().next();
        report.context("a run wrote no report")
    }

    fn command_line(&self, address: &str) -> Result<String> {
        let program = self.program.to_str().filter(|path| !path.contains(char::is_whitespace));
        let program = program
            .with_context(|| format!("{}: no spaces in paths, please", self.program.display()))?;
        let pin = match self.pinned {
            true => format!("taskset -c {DAEMON_CPU} "),
            false => String::new(),
        };
        Ok(format!(
            "{pin}{program} -tcp-address {address} -http-address {} -data-path {{dir}} \
             -mem-queue-size {} -log-level warn {}",
            free_address()?,
            self.memory_queue_size,
            self.arguments
        ))
    }
}

/// Whether daemon and generator can be kept on cores of their own.
pub(crate) fn can_pin() -> bool {
    let cpus = rustix::thread::sched_getaffinity(None);
    let both = cpus.is_ok_and(|cpus| cpus.is_set(DAEMON_CPU) && cpus.is_set(LOAD_CPU));
    both && in_path("taskset").is_some()
}

/// The program `name` where a shell would find it.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|place| place.join(name)).find(|program| program.is_file())
}

/// A program named on the command line, as an absolute path.
pub(crate) fn program(path: &Path) -> Result<PathBuf> {
    let found = if path.components().count() == 1 && !path.exists() {
        path.to_str().and_then(in_path)
    } else {
        Some(path.to_owned())
    };
    let found = found.with_context(|| format!("there is no {} in PATH", path.display()))?;
    ensure!(found.is_file(), "there is no program {}", found.display());
    found.canonicalize().with_context(|| format!("cannot find {}", found.display()))
}

/// An address on this machine where nobody listens. Another program may take it before the daemon
/// does, which then says so.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_given_a_port_a_directory_and_its_arguments() {
        let fresh = Fresh {
            program: "/usr/bin/nsqd".into(),
            arguments: "--shards 1".to_owned(),
            memory_queue_size: 7,
            pinned: true,
        };
        let line = fresh.command_line("127.0.0.1:1").unwrap();
        assert!(line.starts_with("taskset -c 0 /usr/bin/nsqd -tcp-address 127.0.0.1:1 "), "{line}");
        assert!(line.contains(" -data-path {dir} -mem-queue-size 7 "), "{line}");
        assert!(line.ends_with(" --shards 1"), "{line}");
        let fresh = Fresh { program: "/a b/nsqd".into(), ..fresh };
        assert!(fresh.command_line("127.0.0.1:1").is_err());
    }

    #[test]
    fn programs_are_looked_for_in_path() {
        assert!(program(Path::new("sh")).unwrap().is_absolute());
        assert!(program(Path::new("no-such-program-anywhere")).is_err());
        assert!(program(Path::new("/nonexistent/nsqd")).is_err());
    }
}
