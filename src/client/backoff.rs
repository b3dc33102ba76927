//! How far a consumer holds back after failures: a level that failures raise and successes lower,
//! and a pause at each step. Pure: it is given the time and its random numbers come from a seed.
//!
//! During a pause nothing is asked for, and what messages still in hand do is ignored. After it,
//! one connection gets one message to test the waters, and its outcome moves the level.

use std::time::Duration;

/// How a level becomes the length of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackoffStrategy {
    /// `multiplier × 2^level`
    Exponential,
    /// Uniformly random, up to what `Exponential` gives: consumers that failed together do not
    /// come back together.
    FullJitter,
}

/// What became of a message, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// It was finished: one level down.
    Success,
    /// It was requeued as failed: one level up.
    Failure,
    /// It was requeued, but not because anything is wrong: the level stays.
    Neutral,
}

/// How much may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything.
    Open,
    /// Nothing, until this time.
    Paused {
        /// When to test the waters.
        until: Duration,
    },
    /// One message from one connection.
    Testing,
}

/// The level and the pause of one consumer, over all its connections.
#[derive(Debug)]
pub(super) struct Backoff {
    strategy: BackoffStrategy,
    multiplier: Duration,
    /// Zero: there is no backoff.
    pause_max: Duration,
    level: u32,
    phase: Phase,
    random: fastrand::Rng,
}

impl Backoff {
    pub(super) fn new(
        strategy: BackoffStrategy,
        multiplier: Duration,
        pause_max: Duration,
        seed: u64,
    ) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { strategy, multiplier, pause_max, level: 0, phase: Phase::Open, random }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// Whether a success changes nothing, so that it need not be told.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// A message's outcome. `true` when the phase has begun anew: the caller adapts RDY before the
    /// command that belongs to the outcome goes out.
    pub(super) fn signal(&mut self, signal: Signal, now: Duration) -> bool {
        let paused = matches!(self.phase, Phase::Paused { .. });
        if paused || self.pause_max.is_zero() {
            return false;
        }
        let before = self.level;
        match signal {
            Signal::Success => self.level = self.level.saturating_sub(1),
            Signal::Failure if self.pause(self.level + 1) <= self.pause_max => self.level += 1,
            Signal::Failure | Signal::Neutral => {}
        }
        if self.level == 0 {
            self.phase = Phase::Open;
            return before > 0;
        }
        let pause = self.pause(self.level).min(self.pause_max);
        self.phase = Phase::Paused { until: now + pause };
        true
    }

    /// Time has passed. `true` when a pause is over.
    pub(super) fn tick(&mut self, now: Duration) -> bool {
        match self.phase {
            Phase::Paused { until } if until <= now => {
                self.phase = Phase::Testing;
                true
            }
            _ => false,
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Paused { until } => Some(until),
            _ => None,
        }
    }

    fn pause(&mut self, level: u32) -> Duration {
        let factor = 2_u32.checked_pow(level).unwrap_or(u32::MAX);
        let longest = self.multiplier.saturating_mul(factor);
        match self.strategy {
            BackoffStrategy::Exponential => longest,
            BackoffStrategy::FullJitter => longest.mul_f64(self.random.f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(strategy: BackoffStrategy, pause_max: Duration) -> Backoff {
        Backoff::new(strategy, SECOND, pause_max, 7)
    }

    /// J8: levels 0, 1, 3, 5 with a multiplier of one second.
    #[test]
    fn j8_strategies() {
        let mut exponential = backoff(BackoffStrategy::Exponential, 60 * SECOND);
        let mut jitter = backoff(BackoffStrategy::FullJitter, 60 * SECOND);
        for (level, seconds) in [(0, 1), (1, 2), (3, 8), (5, 32)] {
            assert_eq!(exponential.pause(level), seconds * SECOND);
            let drawn: Vec<_> = (0..100).map(|_| jitter.pause(level)).collect();
            assert!(drawn.iter().all(|pause| *pause < seconds * SECOND));
            assert!(drawn.iter().any(|pause| *pause > seconds * SECOND / 2));
            assert!(drawn.iter().any(|pause| *pause < seconds * SECOND / 2));
        }
        assert_eq!(exponential.pause(200), SECOND * u32::MAX);
    }

    #[test]
    fn failures_raise_and_successes_lower_one_step_per_pause() {
        let mut backoff = backoff(BackoffStrategy::Exponential, 60 * SECOND);
        assert!(!backoff.signal(Signal::Success, Duration::ZERO));
        assert!(backoff.signal(Signal::Failure, Duration::ZERO));
        assert_eq!(backoff.phase(), Phase::Paused { until: 2 * SECOND });
        // What was in hand when it began does not count.
        assert!(!backoff.signal(Signal::Failure, SECOND));
        assert!(!backoff.tick(SECOND));
        assert!(backoff.tick(2 * SECOND));
        assert_eq!(backoff.phase(), Phase::Testing);
        assert!(backoff.signal(Signal::Neutral, 2 * SECOND));
        assert_eq!((backoff.level(), backoff.phase()), (1, Phase::Paused { until: 4 * SECOND }));
        assert!(backoff.tick(4 * SECOND));
        assert!(backoff.signal(Signal::Success, 4 * SECOND));
        assert!(backoff.is_open());
    }

    #[test]
    fn the_level_stops_where_a_pause_would_be_too_long() {
        let mut backoff = backoff(BackoffStrategy::Exponential, 5 * SECOND);
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            assert!(backoff.signal(Signal::Failure, now));
            now += 5 * SECOND;
            assert!(backoff.tick(now));
        }
        assert_eq!(backoff.level(), 2);
    }

    #[test]
    fn without_a_pause_there_is_no_backoff() {
        let mut backoff = backoff(BackoffStrategy::Exponential, Duration::ZERO);
        assert!(!backoff.signal(Signal::Failure, Duration::ZERO));
        assert!(backoff.is_open());
    }

    proptest! {
        /// Whatever happens: enough successes end it, and no pause is longer than allowed.
        #[test]
        fn it_always_ends(outcomes in prop::collection::vec(0..3_u8, 0..200), jitter: bool) {
            let strategy =
                if jitter { BackoffStrategy::FullJitter } else { BackoffStrategy::Exponential };
            let mut backoff = backoff(strategy, 30 * SECOND);
            let mut now = Duration::ZERO;
            let successes = [0; 40];
            for outcome in outcomes.into_iter().chain(successes) {
                let signal =
                    [Signal::Success, Signal::Failure, Signal::Neutral][usize::from(outcome)];
                backoff.signal(signal, now);
                if let Some(until) = backoff.deadline() {
                    prop_assert!(until <= now + 30 * SECOND);
                    now = until;
                    prop_assert!(backoff.tick(now));
                }
                prop_assert_eq!(backoff.is_open(), backoff.level() == 0);
            }
            prop_assert!(backoff.is_open());
        }
    }
}
