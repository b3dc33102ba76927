//! How long messages took: a line for every so many of them. Pure.

use std::time::Duration;

/// The last so many times.
#[derive(Debug)]
pub(super) struct Timings {
    prefix: String,
    /// Zero: no lines.
    every: usize,
    times: Vec<Duration>,
    finished: u64,
}

impl Timings {
    pub(super) fn new(prefix: String, every: usize) -> Self {
        Self { prefix, every, times: Vec::new(), finished: 0 }
    }

    /// Another one; a line when it is due.
    pub(super) fn add(&mut self, took: Duration) -> Option<String> {
        if self.every == 0 {
            return None;
        }
        self.finished += 1;
        self.times.push(took);
        if self.times.len() < self.every {
            return None;
        }
        self.times.sort_unstable();
        let count = self.times.len();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let nearest = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1);
            milliseconds(self.times[rank - 1])
        };
        let total: Duration = self.times.iter().sum();
        let average = milliseconds(total) / count as f64;
        let line = format!(
            "{} finished {} - 99th: {:.2}ms - 95th: {:.2}ms - avg: {average:.2}ms",
            self.prefix,
            self.finished,
            nearest(99),
            nearest(95),
        );
        self.times.clear();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_every_hundred() {
        let mut timings = Timings::new("[aggregate]:".to_owned(), 100);
        let lines: Vec<_> =
            (1..=200).filter_map(|ms| timings.add(Duration::from_millis(ms))).collect();
        assert_eq!(
            lines,
            [
                "[aggregate]: finished 100 - 99th: 99.00ms - 95th: 95.00ms - avg: 50.50ms",
                "[aggregate]: finished 200 - 99th: 199.00ms - 95th: 195.00ms - avg: 150.50ms",
            ]
        );
        assert_eq!(Timings::new(String::new(), 0).add(Duration::ZERO), None);
    }
}
