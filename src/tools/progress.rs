//! How many messages have gone by, on standard error when that is a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_secs(1);

/// One line that is written over each second; nothing where nobody watches.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    timer: Interval,
    is_watched: bool,
    shown: u64,
}

impl Progress {
    /// `what`: what is counted, in the past tense.
    pub(super) fn new(what: &'static str) -> Self {
        let mut timer = interval(EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { what, timer, is_watched: std::io::stderr().is_terminal(), shown: 0 }
    }

    /// Waits until the line is due; for ever where nobody watches.
    pub(super) async fn due(&mut self) {
        if self.is_watched {
            self.timer.tick().await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Shows the count and how much it has grown since the last time.
    pub(super) fn show(&mut self, count: u64) {
        let rate = count - self.shown;
        self.shown = count;
        // A terminal that has gone away takes its watcher along.
        let _ = write!(std::io::stderr(), "\r{count} {}, {rate}/s   ", self.what);
    }

    /// Ends the line.
    pub(super) fn end(&self, count: u64) {
        if self.is_watched {
            let _ = writeln!(std::io::stderr(), "\r{count} {}            ", self.what);
        }
    }
}
