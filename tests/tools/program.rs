//! A utility under test: started with flags, fed, and watched.

use crate::support::daemon::Daemon;
use crate::support::stream::Address;
use crate::support::wait::eventually;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Address of a daemon's protocol.
pub(super) fn tcp(daemon: &Daemon) -> String {
    address(&daemon.tcp)
}

/// Address of a daemon's HTTP API.
pub(super) fn http(daemon: &Daemon) -> String {
    address(&daemon.http)
}

fn address(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.clone(),
        Address::Unix(path) => path.display().to_string(),
    }
}

/// A running utility; killed when dropped.
pub(super) struct Program(Child);

/// How a utility ended and what it said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Program {
    pub(super) fn start(path: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::piped());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// Writes to its standard input.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let input = self.0.stdin.as_mut().expect("a pipe, not closed yet");
        input.write_all(bytes).expect("the program reads");
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status();
        assert!(sent.expect("kill can be run").success());
    }

    /// Reads so many bytes of its standard output.
    pub(super) fn read(&mut self, bytes: usize) -> String {
        let mut text = vec![0; bytes];
        self.0.stdout.as_mut().expect("a pipe").read_exact(&mut text).expect("output");
        String::from_utf8(text).expect("text")
    }

    /// Ends its input and waits for its end.
    pub(super) fn end(mut self) -> Ended {
        drop(self.0.stdin.take());
        let child = &mut self.0;
        let status = eventually(|| child.try_wait().expect("a child").ok_or("running".to_owned()));
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child.stdout.as_mut().expect("a pipe").read_to_string(&mut stdout).expect("text");
        child.stderr.as_mut().expect("a pipe").read_to_string(&mut stderr).expect("text");
        Ended { status, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a utility that ends by itself.
pub(super) fn run(path: &str, arguments: &[&str]) -> Ended {
    Program::start(path, arguments).end()
}

/// The utility refuses these flags with this line.
#[track_caller]
pub(super) fn refuses(path: &str, arguments: &[&str], text: &str) {
    let ended = run(path, arguments);
    assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {ended:?}");
    // Behind the date and the time.
    assert_eq!(ended.stderr.get(20..), Some(format!("{text}\n").as_str()), "{arguments:?}");
}
