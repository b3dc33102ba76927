//! When messages are due in an open loop: times that depend on the rate alone, never on answers.

use clap::ValueEnum;
use serde::Serialize;

/// How the times between messages are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrivals {
    /// Always the same time apart.
    Fixed,
    /// Independent of each other (exponential times apart), as from many users.
    Poisson,
}

/// The due times of one connection.
pub(crate) struct Schedule {
    arrivals: Arrivals,
    interval_ns: f64,
    next_ns: f64,
    random: fastrand::Rng,
}

impl Schedule {
    /// Connection `index` of `connections`, which share `rate` messages a second from `start_ns`.
    /// Fixed arrivals of different connections are spread evenly over the interval.
    pub(crate) fn new(
        arrivals: Arrivals,
        rate: f64,
        connections: usize,
        index: usize,
        start_ns: u64,
    ) -> Self {
        let interval_ns = connections as f64 * 1e9 / rate;
        let mut random = fastrand::Rng::with_seed(index as u64 + 1);
        let first = match arrivals {
            Arrivals::Fixed => interval_ns * index as f64 / connections as f64,
            Arrivals::Poisson => exponential(&mut random) * interval_ns,
        };
        Self { arrivals, interval_ns, next_ns: start_ns as f64 + first, random }
    }

    /// When the next message is due.
    #[expect(clippy::cast_possible_truncation, reason = "nanoseconds since the machine's start")]
    pub(crate) fn due_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Nothing more is due, ever.
    pub(crate) fn end(&mut self) {
        self.next_ns = f64::INFINITY;
    }

    /// Goes on to the message after it.
    pub(crate) fn advance(&mut self) {
        self.next_ns += match self.arrivals {
            Arrivals::Fixed => self.interval_ns,
            Arrivals::Poisson => exponential(&mut self.random) * self.interval_ns,
        };
    }
}

/// A sample of the exponential distribution of mean 1.
fn exponential(random: &mut fastrand::Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_arrivals_of_all_connections_together_are_evenly_spaced() {
        let mut due = Vec::new();
        for index in 0..4 {
            let mut schedule = Schedule::new(Arrivals::Fixed, 1000.0, 4, index, 5_000);
            for _ in 0..250 {
                due.push(schedule.due_ns());
                schedule.advance();
            }
        }
        due.sort_unstable();
        assert_eq!(due[0], 5_000);
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000));
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_spread_as_they_should() {
        let mut schedule = Schedule::new(Arrivals::Poisson, 10_000.0, 1, 0, 0);
        let count = 100_000u32;
        let (mut last, mut longer) = (0, 0u32);
        for _ in 0..count {
            // A gap is longer than the mean with probability 1/e.
            longer += u32::from(schedule.due_ns() - last > 100_000);
            last = schedule.due_ns();
            schedule.advance();
        }
        let rate = f64::from(count) * 1e9 / last as f64;
        assert!((rate / 10_000.0 - 1.0).abs() < 0.02, "{rate}");
        let share = f64::from(longer) / f64::from(count);
        assert!((share - (-1.0f64).exp()).abs() < 0.01, "{share}");
    }
}
