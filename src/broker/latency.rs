//! How long messages take from their publish to their FIN, over the last minutes: NSQ's
//! end-to-end processing latency.
//!
//! A channel has two histograms, each for half of the window. The older one is cleared and used
//! again when the younger one's half is over, so that the two together look back over more than
//! half of the window and no more than all of it.

use super::time::{Span, Time};
use crate::limits::{LATENCY_MAX_NS, LATENCY_STEP_NS};
use hdrhistogram::Histogram;

/// What is measured, for all channels.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyConfig {
    /// The quantiles to report, above 0 and up to 1, in the order they are reported in.
    pub quantiles: Vec<f64>,
    /// How far they look back; not 0.
    pub window: Span,
}

/// The latencies of one channel.
#[derive(Debug)]
pub struct LatencyWindow {
    halves: [Histogram<u32>; 2],
    /// Which of them takes what comes now.
    young: usize,
    /// When that one began.
    since: Time,
    /// How long one lasts.
    half: Span,
}

/// Latencies as they are reported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latencies {
    /// Messages that were measured.
    pub count: u64,
    /// Quantiles with their latency in nanoseconds. None when nothing is measured, or when a topic
    /// has no channels; 0 ns when there is no message.
    pub quantiles: Vec<(f64, u64)>,
}

impl LatencyWindow {
    /// Nothing measured yet. A histogram takes 1 KiB, and grows to 18 KiB with the longest of
    /// latencies.
    pub fn new(now: Time, window: Span) -> Self {
        let half = Span((window.0 / 2).max(1));
        Self { halves: [empty(), empty()], young: 0, since: now, half }
    }

    /// A message that was published at `published_ns` is finished at `now_ns`, both of the wall
    /// clock. It allocates only when it is the longest so far by far.
    pub fn record(&mut self, now: Time, now_ns: i64, published_ns: i64) {
        self.advance(now);
        let elapsed = now_ns.saturating_sub(published_ns).max(0).cast_unsigned();
        // A value up to the limit is always taken.
        let _ = self.halves[self.young].record(elapsed.min(LATENCY_MAX_NS));
    }

    /// Adds what is in the window to `sum`.
    fn add_to(&self, now: Time, sum: &mut Histogram<u32>) {
        let [young, old] = [self.young, 1 - self.young].map(|index| &self.halves[index]);
        let current: &[_] = match self.halves_over(now) {
            0 => &[young, old],
            1 => &[young],
            _ => &[],
        };
        for half in current {
            // Both grow by themselves and end at the same limit.
            let _ = sum.add(*half);
        }
    }

    fn halves_over(&self, now: Time) -> u64 {
        now.0.saturating_sub(self.since.0) / self.half.0
    }

    /// Forgets what is too old.
    fn advance(&mut self, now: Time) {
        let halves_over = self.halves_over(now);
        for _ in 0..halves_over.min(2) {
            self.young = 1 - self.young;
            self.halves[self.young].reset();
        }
        self.since.0 += halves_over * self.half.0;
    }
}

impl Latencies {
    /// The latencies of several windows together.
    pub fn of<'w>(
        config: &LatencyConfig,
        now: Time,
        windows: impl IntoIterator<Item = &'w LatencyWindow>,
    ) -> Self {
        let mut sum = empty();
        let mut any = false;
        for window in windows {
            window.add_to(now, &mut sum);
            any = true;
        }
        let value = |quantile: &f64| {
            let value = if sum.is_empty() { 0 } else { sum.value_at_quantile(*quantile) };
            (*quantile, value)
        };
        let quantiles = any.then(|| config.quantiles.iter().map(value).collect());
        Self { count: sum.len(), quantiles: quantiles.unwrap_or_default() }
    }
}

/// A histogram of values to within 1 %, that grows with the largest.
fn empty() -> Histogram<u32> {
    let mut histogram = Histogram::new_with_bounds(LATENCY_STEP_NS, 2 * LATENCY_STEP_NS, 2)
        .expect("the bounds are in order and two digits are few");
    histogram.auto(true);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Span = Span(1_000_000_000);
    const MS: u64 = 1_000_000;

    fn report(window: &LatencyWindow, now_ms: u64) -> Latencies {
        let config = LatencyConfig { quantiles: vec![1.0, 0.5], window: WINDOW };
        Latencies::of(&config, Time(now_ms * MS), [window])
    }

    /// Whether a value is right to within 1 %.
    fn is_near(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) <= expected / 100
    }

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let mut window = LatencyWindow::new(Time(0), WINDOW);
        let nothing = Latencies { count: 0, quantiles: vec![(1.0, 0), (0.5, 0)] };
        assert_eq!(report(&window, 0), nothing);
        for ms in 1..=100 {
            window.record(Time(0), ms * 1_000_000, 0);
        }
        let seen = report(&window, 0);
        assert_eq!(seen.count, 100);
        let [(1.0, longest), (0.5, middle)] = seen.quantiles[..] else { panic!("{seen:?}") };
        assert!(is_near(longest, 100 * MS) && is_near(middle, 50 * MS), "{seen:?}");
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut window = LatencyWindow::new(Time(0), WINDOW);
        window.record(Time(0), 5, 0);
        window.record(Time(600 * MS), 5, 0);
        assert_eq!(report(&window, 999).count, 2);
        assert_eq!(report(&window, 1000).count, 1);
        assert_eq!(report(&window, 1500).count, 0);
        window.record(Time(1500 * MS), 5, 0);
        assert_eq!(report(&window, 1_000_000).count, 0, "a long silence");
        window.record(Time(1_000_000 * MS), 5, 0);
        assert_eq!(report(&window, 1_000_400).count, 1);
    }

    #[test]
    fn any_latency_is_taken_and_memory_is_bounded() {
        let mut window = LatencyWindow::new(Time(0), WINDOW);
        window.record(Time(0), 0, 7);
        window.record(Time(0), i64::MAX, i64::MIN);
        for shift in 0..63 {
            window.record(Time(0), 1 << shift, 0);
        }
        let seen = report(&window, 0);
        assert_eq!(seen.count, 65);
        assert!(is_near(seen.quantiles[0].1, LATENCY_MAX_NS), "{seen:?}");
        let bytes = window.halves[0].distinct_values() * size_of::<u32>();
        assert!(bytes <= 18 * 1024, "{bytes}");
        let fresh = LatencyWindow::new(Time(0), WINDOW);
        assert!(fresh.halves[0].distinct_values() * size_of::<u32>() <= 1536);
    }

    #[test]
    fn several_windows_are_one() {
        let mut windows = [1, 2, 3].map(|_| LatencyWindow::new(Time(0), WINDOW));
        for (window, ms) in windows.iter_mut().zip([10, 20, 30]) {
            window.record(Time(0), ms * 1_000_000, 0);
        }
        let config = LatencyConfig { quantiles: vec![0.5], window: WINDOW };
        let seen = Latencies::of(&config, Time(0), &windows);
        assert_eq!(seen.count, 3);
        assert!(is_near(seen.quantiles[0].1, 20 * MS), "{seen:?}");
        assert_eq!(Latencies::of(&config, Time(0), []), Latencies::default());
    }
}
