//! SIGINT, SIGTERM and SIGHUP, watched by the control thread for the whole process.

use crate::log::LogFile;
use std::io;
use tokio::signal::unix::{Signal as Watch, SignalKind, signal};

/// What asked the daemon to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT, as from Ctrl-C.
    Interrupt,
    /// SIGTERM, as from a service manager.
    Terminate,
}

/// What has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Stop(StopSignal),
    /// SIGHUP, as after the rotation of log files.
    HangUp,
}

/// The watch on all three.
pub(super) struct Signals {
    interrupt: Watch,
    terminate: Watch,
    hang_up: Watch,
}

impl Signals {
    /// Begins to watch; must be called inside the runtime.
    pub(super) fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next of them to arrive.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop(StopSignal::Interrupt),
            _ = self.terminate.recv() => Signal::Stop(StopSignal::Terminate),
            _ = self.hang_up.recv() => Signal::HangUp,
        }
    }

    /// Obeys each SIGHUP until something asks the daemon to stop.
    pub(super) async fn until_stop(&mut self, on_hang_up: impl Fn()) -> StopSignal {
        loop {
            match self.next().await {
                Signal::Stop(signal) => return signal,
                Signal::HangUp => on_hang_up(),
            }
        }
    }
}

/// Opens the log's file again.
pub(super) fn reopen(log_file: &LogFile) {
    let path = log_file.path().map(|path| path.display().to_string());
    match (log_file.reopen(), path) {
        (Ok(()), Some(path)) => tracing::info!("SIGHUP: log file {path} opened again"),
        (Ok(()), None) => tracing::info!("SIGHUP: standard error is no file, nothing to reopen"),
        (Err(error), path) => {
            let path = path.unwrap_or_default();
            tracing::error!("SIGHUP: log file {path} cannot be opened again - {error}");
        }
    }
}
