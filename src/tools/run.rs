//! From arguments to an exit code, the same for all utilities.

use super::lines::{self, Style};
use crate::options::Exit;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why a utility failed; the text of its last line.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs a utility with flags that were read, or says why they could not be.
pub(super) fn run<F, W: Future<Output = Result<(), Failure>>>(
    flags: Result<F, Exit>,
    work: impl FnOnce(F) -> W,
) -> ExitCode {
    run_in_style(flags, |_| Style::Plain, work)
}

/// As [`run`], for a utility whose flags say how its lines look.
pub(super) fn run_in_style<F, W: Future<Output = Result<(), Failure>>>(
    flags: Result<F, Exit>,
    style: impl FnOnce(&F) -> Style,
    work: impl FnOnce(F) -> W,
) -> ExitCode {
    let flags = match flags {
        Ok(flags) => flags,
        Err(exit) => {
            // Whoever has closed these streams does not want to be told.
            let _ = io::stdout().write_all(exit.stdout.as_bytes());
            let _ = io::stderr().write_all(exit.stderr.as_bytes());
            return ExitCode::from(exit.code);
        }
    };
    lines::start(style(&flags));
    // One thread is enough for what a utility does, and cheapest.
    let runtime = Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(work(flags));
            // A read of standard input may never end.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::from(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            tracing::error!(target: lines::FATAL, "{text}");
            ExitCode::FAILURE
        }
    }
}

/// SIGINT and SIGTERM: the wish for an orderly end.
#[derive(Debug)]
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Begins to watch; from now on they do not end the process.
    pub(super) fn watch() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// The next of them.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
