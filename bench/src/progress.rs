//! What the threads of a run share: its phase, its budget of messages, the measured window, and a
//! tally that each thread writes alone.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// The phases of a run, in order; a scenario may skip some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are opened.
    Setup,
    /// Producers fill a backlog.
    Fill,
    /// The load that is measured.
    Load,
    /// Producers stop, what is outstanding comes in.
    Settle,
    /// Connections are closed.
    Stop,
}

/// Counts of one thread; only that thread adds to them. Cache lines are not shared.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    /// Messages sent.
    pub(crate) sent: Count,
    /// Messages whose publish was answered OK.
    pub(crate) acknowledged: Count,
    /// Messages delivered to us and finished.
    pub(crate) consumed: Count,
    /// Deliveries that we have asked to be delivered again.
    pub(crate) requeued: Count,
    /// Deliveries of messages not seen before: at their first attempt or, when the run is
    /// verified, new to their consumer.
    pub(crate) distinct: Count,
    /// Deliveries with more than one attempt.
    pub(crate) redelivered: Count,
    /// Deliveries of deferred messages before their time.
    pub(crate) early: Count,
    /// Messages that were due in the measured window and could not be sent until the end.
    pub(crate) unsent: Count,
    /// Producers that have sent all they will.
    pub(crate) producers_ended: Count,
}

/// A counter with one writer.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds without a locked instruction: there is no other writer.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed) + more, Relaxed);
    }
}

/// The sum of all tallies at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) consumed: u64,
    pub(crate) requeued: u64,
    pub(crate) distinct: u64,
    pub(crate) redelivered: u64,
    pub(crate) early: u64,
    pub(crate) unsent: u64,
    pub(crate) producers_ended: u64,
}

/// The state of a run.
pub(crate) struct Progress {
    phase: AtomicU8,
    load_began_ns: AtomicU64,
    window_begin_ns: AtomicU64,
    window_end_ns: AtomicU64,
    budget_commands: Option<AtomicU64>,
    tallies: Vec<Tally>,
}

impl Progress {
    /// A run of `threads`, which may publish `budget_commands` commands in all (`None`: no bound).
    pub(crate) fn new(threads: usize, budget_commands: Option<u64>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Setup as u8),
            load_began_ns: AtomicU64::new(0),
            window_begin_ns: AtomicU64::new(u64::MAX),
            window_end_ns: AtomicU64::new(u64::MAX),
            budget_commands: budget_commands.map(AtomicU64::new),
            tallies: (0..threads).map(|_| Tally::default()).collect(),
        }
    }

    /// Whether the run is in `phase` or past it.
    pub(crate) fn reached(&self, phase: Phase) -> bool {
        self.phase.load(std::sync::atomic::Ordering::Acquire) >= phase as u8
    }

    /// Goes on to `phase` at `now_ns`.
    pub(crate) fn enter(&self, phase: Phase, now_ns: u64) {
        if phase == Phase::Load {
            self.load_began_ns.store(now_ns, Relaxed);
        }
        self.phase.store(phase as u8, std::sync::atomic::Ordering::Release);
    }

    /// When the load began: the origin of open-loop schedules.
    pub(crate) fn load_began_ns(&self) -> u64 {
        self.load_began_ns.load(Relaxed)
    }

    /// Opens the measured window.
    pub(crate) fn begin_window(&self, now_ns: u64) {
        self.window_begin_ns.store(now_ns, Relaxed);
    }

    /// Closes the measured window.
    pub(crate) fn end_window(&self, now_ns: u64) {
        self.window_end_ns.store(now_ns, Relaxed);
    }

    /// End of the measured window, `u64::MAX` before it is known.
    pub(crate) fn window_end_ns(&self) -> u64 {
        self.window_end_ns.load(Relaxed)
    }

    /// Whether something that began at `time_ns` is measured.
    pub(crate) fn measures(&self, time_ns: u64) -> bool {
        time_ns >= self.window_begin_ns.load(Relaxed) && time_ns < self.window_end_ns.load(Relaxed)
    }

    /// Time from the window's begin, for what is measured.
    pub(crate) fn since_begin_ns(&self, time_ns: u64) -> u64 {
        time_ns.saturating_sub(self.window_begin_ns.load(Relaxed))
    }

    /// Takes up to `wanted` commands off the budget.
    pub(crate) fn grant(&self, wanted: u64) -> u64 {
        let Some(budget) = &self.budget_commands else { return wanted };
        let taken = budget
            .fetch_update(Relaxed, Relaxed, |left| (left > 0).then(|| left.saturating_sub(wanted)));
        taken.map_or(0, |left| left.min(wanted))
    }

    /// The tally that `thread` writes.
    pub(crate) fn tally(&self, thread: usize) -> &Tally {
        &self.tallies[thread]
    }

    /// All tallies added up.
    pub(crate) fn totals(&self) -> Totals {
        let sum = |count: fn(&Tally) -> &Count| {
            self.tallies.iter().map(|tally| count(tally).0.load(Relaxed)).sum()
        };
        Totals {
            sent: sum(|tally| &tally.sent),
            acknowledged: sum(|tally| &tally.acknowledged),
            consumed: sum(|tally| &tally.consumed),
            requeued: sum(|tally| &tally.requeued),
            distinct: sum(|tally| &tally.distinct),
            redelivered: sum(|tally| &tally.redelivered),
            early: sum(|tally| &tally.early),
            unsent: sum(|tally| &tally.unsent),
            producers_ended: sum(|tally| &tally.producers_ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_given_out_exactly_once() {
        let progress = Progress::new(1, Some(10));
        let granted: Vec<u64> = (0..5).map(|_| progress.grant(4)).collect();
        assert_eq!(granted, [4, 4, 2, 0, 0]);
        assert_eq!(Progress::new(1, None).grant(7), 7);
    }

    #[test]
    fn only_what_begins_inside_the_window_is_measured() {
        let progress = Progress::new(1, None);
        assert!(!progress.measures(5));
        progress.begin_window(10);
        assert!(!progress.measures(9) && progress.measures(10));
        progress.end_window(20);
        assert!(progress.measures(19) && !progress.measures(20));
    }
}
