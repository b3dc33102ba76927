//! The flag by which a shard says that it sleeps, and the order of steps that loses no wake-up.
//!
//! The sleeper writes the flag, then looks at its queues; the sender writes a queue, then looks at
//! the flag. Each separates its two steps with a sequentially consistent fence, so at least one of
//! them sees what the other wrote: the sleeper the mail, or the sender the flag. The model test in
//! `tests.rs` compiles this file again on loom's atomics.

use super::atomic::{AtomicBool, Ordering, fence};

/// Whether a shard sleeps, or is about to.
pub(super) struct SleepFlag {
    asleep: AtomicBool,
}

impl Default for SleepFlag {
    fn default() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }
}

impl SleepFlag {
    /// For the sleeper: sets the flag and says whether to go on and sleep. Mail that `has_mail`
    /// does not show will be noticed by its sender to need a wake-up.
    pub(super) fn prepare(&self, has_mail: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_mail() {
            self.clear();
            return false;
        }
        true
    }

    /// For the sleeper: it is awake and will look at its queues before it sleeps again.
    pub(super) fn clear(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// For a sender, after it has put mail into a queue: whether the sleeper has to be woken. Of
    /// several senders only one is told so.
    pub(super) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        // The plain look spares the cache line while the shard is awake.
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}
