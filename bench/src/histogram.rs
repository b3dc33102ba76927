//! Latency histograms: recorded by one thread each, merged by addition, never averaged.

#![expect(
    clippy::disallowed_types,
    reason = "the tasks of one thread share a recorder; no borrow outlives the call that takes it"
)]

use std::cell::RefCell;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::timeline::IntervalTimings;

/// Longest time told apart: one hour. Longer ones are counted there.
const LONGEST_NS: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// A percentile is shown only with this many samples beyond it.
const SAMPLES_BEYOND_MIN: f64 = 10.0;

/// A histogram of nanoseconds.
#[derive(Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// Nothing recorded.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS);
        Self(histogram.expect("constant bounds that the library accepts"))
    }

    /// Counts one sample.
    pub(crate) fn record(&mut self, duration_ns: u64) {
        self.0.saturating_record(duration_ns);
    }

    /// Adds the samples of another thread or run.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// All samples, in nanoseconds.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The figures of a report; `None` without samples.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let samples = self.0.len();
        let at = |quantile: f64| {
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 samples")]
            let beyond = samples as f64 * (1.0 - quantile);
            (quantile <= 0.5 || beyond >= SAMPLES_BEYOND_MIN)
                .then(|| microseconds(self.0.value_at_quantile(quantile)))
        };
        (samples > 0).then(|| Percentiles {
            samples,
            mean_us: self.0.mean() / 1e3,
            p50_us: at(0.5),
            p75_us: at(0.75),
            p90_us: at(0.9),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            p99_999_us: at(0.99999),
            max_us: microseconds(self.0.max()),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "an hour of nanoseconds is far below 2^53")]
fn microseconds(duration_ns: u64) -> f64 {
    duration_ns as f64 / 1e3
}

/// A distribution in microseconds. A percentile with fewer than ten samples beyond it is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    /// How many were recorded.
    pub(crate) samples: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p75_us: Option<f64>,
    pub(crate) p90_us: Option<f64>,
    pub(crate) p95_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p99_9_us: Option<f64>,
    pub(crate) p99_99_us: Option<f64>,
    pub(crate) p99_999_us: Option<f64>,
    pub(crate) max_us: f64,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Timing {
    /// From sending a publish to its answer.
    Service,
    /// From when a publish was due to its answer.
    Response,
    /// From when a publish was due to when it was sent.
    SendDelay,
    /// From when a message was due (plus its deferral) to its delivery.
    EndToEnd,
    /// From connecting to the answer to IDENTIFY.
    Connect,
}

impl Timing {
    /// All of them, in the order of a report.
    pub(crate) const ALL: [Self; 5] =
        [Self::Service, Self::Response, Self::SendDelay, Self::EndToEnd, Self::Connect];

    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Response => "response",
            Self::SendDelay => "send_delay",
            Self::EndToEnd => "end_to_end",
            Self::Connect => "connect",
        }
    }
}

/// One histogram for each `Timing`.
#[derive(Clone)]
pub(crate) struct Timings([Latencies; Timing::ALL.len()]);

impl Timings {
    /// Nothing recorded.
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Latencies::new()))
    }

    /// Adds another thread's or run's.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.merge(theirs);
        }
    }

    /// The histogram of one timing.
    pub(crate) fn of(&self, timing: Timing) -> &Latencies {
        &self.0[timing as usize]
    }

    /// The histogram of one timing, to add to.
    pub(crate) fn of_mut(&mut self, timing: Timing) -> &mut Latencies {
        &mut self.0[timing as usize]
    }

    /// All histograms, in the order of a report.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timing, &Latencies)> {
        Timing::ALL.into_iter().zip(&self.0)
    }

    /// The figures of every timing that has samples.
    pub(crate) fn percentiles(&self) -> Vec<(Timing, Percentiles)> {
        let all = Timing::ALL.into_iter().zip(&self.0);
        all.filter_map(|(timing, one)| Some((timing, one.percentiles()?))).collect()
    }
}

/// A thread's timings, shared by its tasks.
pub(crate) struct Recorder(RefCell<IntervalTimings>);

impl Recorder {
    /// Nothing recorded.
    pub(crate) fn new(interval_ns: u64) -> Self {
        Self(RefCell::new(IntervalTimings::new(interval_ns)))
    }

    /// Counts one sample that was complete `since_begin_ns` after the window's begin.
    pub(crate) fn record(&self, timing: Timing, since_begin_ns: u64, duration_ns: u64) {
        self.0.borrow_mut().record(timing, since_begin_ns, duration_ns);
    }

    /// What was recorded; nothing is left.
    pub(crate) fn take(&self) -> IntervalTimings {
        let mut timings = self.0.borrow_mut();
        let empty = IntervalTimings::new(timings.interval_ns());
        std::mem::replace(&mut timings, empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_the_same_as_recording_in_one() {
        let (mut left, mut right, mut whole) =
            (Latencies::new(), Latencies::new(), Latencies::new());
        let mut random = fastrand::Rng::with_seed(7);
        for sample in 0..100_000u64 {
            let duration_ns = random.u64(1_000..50_000_000);
            if sample % 3 == 0 { &mut left } else { &mut right }.record(duration_ns);
            whole.record(duration_ns);
        }
        left.merge(&right);
        let (merged, whole) = (left.percentiles().unwrap(), whole.percentiles().unwrap());
        assert_eq!(format!("{merged:?}"), format!("{whole:?}"));
        assert_eq!(merged.samples, 100_000);
    }

    #[test]
    fn percentiles_are_within_three_digits_and_absent_without_enough_samples() {
        let mut latencies = Latencies::new();
        assert!(latencies.percentiles().is_none());
        for microsecond in 1..=1000 {
            latencies.record(microsecond * 1_000);
        }
        let figures = latencies.percentiles().unwrap();
        let near = |figure: f64, truth: f64| (figure - truth).abs() <= truth * 0.002;
        assert!(near(figures.p50_us.unwrap(), 500.0));
        assert!(near(figures.p99_us.unwrap(), 990.0));
        assert!(near(figures.max_us, 1000.0));
        assert_eq!(figures.p99_9_us, None);
    }

    #[test]
    fn a_time_beyond_the_longest_is_counted_at_it() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX);
        assert_eq!(latencies.percentiles().unwrap().samples, 1);
    }
}
