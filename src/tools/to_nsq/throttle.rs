//! A limit on messages per second: a balance that begins with one message, grows by one each part
//! of a second, and never exceeds a second's worth. Pure.

use std::time::{Duration, Instant};

/// The balance, as the time from which the next message is paid for.
#[derive(Debug)]
pub(super) struct Throttle {
    per_message: Duration,
    burst: Duration,
    paid_until: Option<Instant>,
}

impl Throttle {
    /// `rate`: messages per second, at least one.
    pub(super) fn new(rate: u32) -> Self {
        let per_message = Duration::from_secs(1) / rate;
        Self { per_message, burst: per_message * (rate - 1), paid_until: None }
    }

    /// Takes a message off the balance, or says how long to wait for one.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        // What was saved up for longer than a second is forfeited.
        let saved = now.checked_sub(self.burst).unwrap_or(now);
        let paid = self.paid_until.unwrap_or(now).max(saved);
        if paid > now {
            return paid - now;
        }
        self.paid_until = Some(paid + self.per_message);
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant as Clock;

    #[test]
    fn the_balance_grows_to_a_second_and_no_further() {
        let start = Clock::now().into_std();
        let mut throttle = Throttle::new(4);
        let quarter = Duration::from_millis(250);
        assert_eq!(throttle.take(start), Duration::ZERO);
        assert_eq!(throttle.take(start), quarter);
        assert_eq!(throttle.take(start + quarter), Duration::ZERO);
        // After a long rest four go at once, then it is one per quarter again.
        let later = start + 100 * quarter;
        for _ in 0..4 {
            assert_eq!(throttle.take(later), Duration::ZERO);
        }
        assert_eq!(throttle.take(later), quarter);
    }
}
