//! How far the daemon's life has come.

use std::sync::atomic::{AtomicU8, Ordering};

/// What the shards are there for just now. It only ever goes on, never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Topics are brought back; clients wait in the kernel's backlog.
    Loading,
    /// Clients are served.
    Serving,
    /// Consumers get what there is; publishes are refused.
    Draining,
    /// Clients are disconnected; the control thread is still answered.
    Closing,
    /// Nothing: the threads end.
    Ended,
}

/// The daemon's stage, shared by all its shards. Whoever sets it wakes them.
#[derive(Debug, Default)]
pub struct DaemonStage(AtomicU8);

impl DaemonStage {
    /// The stage that was set last; at first [`Stage::Loading`].
    pub fn current(&self) -> Stage {
        let stage = self.0.load(Ordering::Acquire);
        use Stage::{Closing, Draining, Ended, Loading, Serving};
        let stages = [Loading, Serving, Draining, Closing, Ended];
        stages.into_iter().find(|known| *known as u8 == stage).expect("only stages are stored")
    }

    /// Goes on to another stage.
    pub fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Release);
    }
}
