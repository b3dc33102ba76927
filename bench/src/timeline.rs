//! What happened when: latencies by interval, recorded by one thread each and merged by addition,
//! and the counters at the ends of the intervals. An interval is a second, shorter in short runs
//! and longer in long ones.
//!
//! A sample is filed under the interval in which it was complete, so the intervals of a stall are
//! empty and the next one shows its length.

use serde::{Deserialize, Serialize};

use crate::clock::SECOND_NS;
use crate::histogram::{Latencies, Timing, Timings};
use crate::progress::Totals;

/// Most intervals of a run: bounds the memory of histograms. What comes later counts in the last.
const INTERVALS_MAX: usize = 600;

/// A last interval shorter than one in this many joins the one before.
const SHORTEST_SHARE: u64 = 4;

/// A run shorter than this has intervals of `SHORT_INTERVAL_NS`: a few points would show little.
const SHORT_RUN_NS: u64 = 10 * SECOND_NS;
const SHORT_INTERVAL_NS: u64 = SECOND_NS / 4;

/// Length of the intervals of a run that measures for `duration_ns`.
pub(crate) fn interval_ns(duration_ns: u64) -> u64 {
    if duration_ns < SHORT_RUN_NS {
        return SHORT_INTERVAL_NS;
    }
    duration_ns.div_ceil(INTERVALS_MAX as u64).div_ceil(SECOND_NS).max(1) * SECOND_NS
}

/// A thread's latencies by interval. All samples are in exactly one interval: the sum of the
/// intervals is the distribution of the run.
#[derive(Clone)]
pub(crate) struct IntervalTimings {
    interval_ns: u64,
    /// Histograms are made when first used; the kernel gives memory only to what is touched.
    intervals: Vec<[Option<Box<Latencies>>; Timing::ALL.len()]>,
}

impl IntervalTimings {
    /// Nothing recorded; all that are merged need the same `interval_ns`.
    pub(crate) fn new(interval_ns: u64) -> Self {
        // Room for all, so that recording never moves them.
        Self { interval_ns, intervals: Vec::with_capacity(INTERVALS_MAX) }
    }

    /// Length of each.
    pub(crate) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// Counts one sample that was complete `since_begin_ns` after the window's begin.
    pub(crate) fn record(&mut self, timing: Timing, since_begin_ns: u64, duration_ns: u64) {
        let index = usize::try_from(since_begin_ns / self.interval_ns).unwrap_or(usize::MAX);
        self.at(index.min(INTERVALS_MAX - 1), timing).record(duration_ns);
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.interval_ns, other.interval_ns);
        for (index, interval) in other.intervals.iter().enumerate() {
            for (timing, latencies) in Timing::ALL.into_iter().zip(interval) {
                if let Some(latencies) = latencies {
                    self.at(index, timing).merge(latencies);
                }
            }
        }
    }

    /// All intervals added up.
    pub(crate) fn total(&self) -> Timings {
        let mut total = Timings::new();
        for interval in &self.intervals {
            for (timing, latencies) in Timing::ALL.into_iter().zip(interval) {
                if let Some(latencies) = latencies {
                    total.of_mut(timing).merge(latencies);
                }
            }
        }
        total
    }

    fn at(&mut self, index: usize, timing: Timing) -> &mut Latencies {
        if self.intervals.len() <= index {
            self.intervals.resize_with(index + 1, Default::default);
        }
        let slot = &mut self.intervals[index][timing as usize];
        slot.get_or_insert_with(|| Box::new(Latencies::new()))
    }
}

/// The counters at one end of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Mark {
    pub(crate) at_ns: u64,
    pub(crate) totals: Totals,
    /// The daemon, when its process is known.
    pub(crate) daemon: Option<DaemonMark>,
}

/// What the daemon has used until then.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct DaemonMark {
    pub(crate) cpu_ns: u64,
    pub(crate) context_switches: u64,
    /// Not a sum: at that moment.
    pub(crate) resident_bytes: u64,
    /// Sent to storage; `None` where it cannot be read.
    pub(crate) written_bytes: Option<u64>,
}

/// The intervals of one run, in order.
#[derive(Clone)]
pub(crate) struct Timeline {
    /// When the first one began, on the generator's clock.
    pub(crate) begin_ns: u64,
    pub(crate) intervals: Vec<Interval>,
    /// Length of all intervals but the last.
    pub(crate) interval_ns: u64,
    timings: IntervalTimings,
}

/// One interval. Counts are of messages, rates are per second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// From the window's begin, in seconds.
    pub(crate) begin_s: f64,
    pub(crate) end_s: f64,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) consumed: u64,
    pub(crate) sent_per_s: f64,
    pub(crate) acknowledged_per_s: f64,
    pub(crate) consumed_per_s: f64,
    pub(crate) server: Option<DaemonInterval>,
    /// Of what was complete in this interval.
    pub(crate) latency: Vec<IntervalLatency>,
}

/// What the daemon used in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DaemonInterval {
    /// CPU time over wall time; above 1 on several cores.
    pub(crate) busy: f64,
    pub(crate) context_switches: u64,
    /// At its end.
    pub(crate) resident_bytes: u64,
    pub(crate) written_bytes: Option<u64>,
}

/// A distribution in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IntervalLatency {
    pub(crate) timing: Timing,
    pub(crate) samples: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Timeline {
    /// Puts together the counters of `marks`, the first at the window's begin and the last at its
    /// end, and the latencies.
    pub(crate) fn new(mut marks: Vec<Mark>, timings: IntervalTimings) -> Self {
        if let [.., before, last] = &marks[..]
            && marks.len() > 2
            && last.at_ns - before.at_ns < timings.interval_ns / SHORTEST_SHARE
        {
            // The rates of the last milliseconds would be noise.
            marks.remove(marks.len() - 2);
        }
        let begin_ns = marks.first().map_or(0, |mark| mark.at_ns);
        let ends = marks.windows(2).enumerate();
        let intervals = ends
            .map(|(index, ends)| {
                let latencies = timings.intervals.get(index);
                Interval::new(begin_ns, &ends[0], &ends[1], latencies.into_iter().flatten())
            })
            .collect();
        Self { begin_ns, intervals, interval_ns: timings.interval_ns, timings }
    }

    /// Every histogram that has samples: the number of its interval, what it timed. Those past
    /// the last interval are of what came in after the window.
    pub(crate) fn histograms(&self) -> impl Iterator<Item = (usize, Timing, &Latencies)> {
        self.timings.intervals.iter().enumerate().flat_map(|(index, interval)| {
            let all = Timing::ALL.into_iter().zip(interval);
            all.filter_map(move |(timing, one)| Some((index, timing, one.as_deref()?)))
        })
    }
}

impl Interval {
    fn new<'a>(
        begin_ns: u64,
        from: &Mark,
        to: &Mark,
        latencies: impl Iterator<Item = &'a Option<Box<Latencies>>>,
    ) -> Self {
        let length_s = seconds(to.at_ns.saturating_sub(from.at_ns)).max(1e-9);
        let [sent, acknowledged, consumed] = [
            to.totals.sent - from.totals.sent,
            to.totals.acknowledged - from.totals.acknowledged,
            to.totals.consumed - from.totals.consumed,
        ];
        let per_s = |number: u64| as_float(number) / length_s;
        let server = from.daemon.zip(to.daemon).map(|(from, to)| DaemonInterval {
            busy: seconds(to.cpu_ns.saturating_sub(from.cpu_ns)) / length_s,
            context_switches: to.context_switches.saturating_sub(from.context_switches),
            resident_bytes: to.resident_bytes,
            written_bytes: from
                .written_bytes
                .zip(to.written_bytes)
                .map(|(from, to)| to.saturating_sub(from)),
        });
        Self {
            begin_s: seconds(from.at_ns.saturating_sub(begin_ns)),
            end_s: seconds(to.at_ns.saturating_sub(begin_ns)),
            sent,
            acknowledged,
            consumed,
            sent_per_s: per_s(sent),
            acknowledged_per_s: per_s(acknowledged),
            consumed_per_s: per_s(consumed),
            server,
            latency: Timing::ALL
                .into_iter()
                .zip(latencies)
                .filter_map(|(timing, one)| IntervalLatency::new(timing, one.as_deref()?))
                .collect(),
        }
    }
}

impl IntervalLatency {
    fn new(timing: Timing, latencies: &Latencies) -> Option<Self> {
        let histogram = latencies.histogram();
        let at = |quantile| as_float(histogram.value_at_quantile(quantile)) / 1e3;
        (!histogram.is_empty()).then(|| Self {
            timing,
            samples: histogram.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: as_float(histogram.max()) / 1e3,
        })
    }
}

fn seconds(duration_ns: u64) -> f64 {
    as_float(duration_ns) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of a run are far below 2^53")]
fn as_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn intervals_are_as_long_as_runs_need() {
        assert_eq!(interval_ns(9_999 * MS), 250 * MS);
        assert_eq!(interval_ns(10 * SECOND_NS), SECOND_NS);
        assert_eq!(interval_ns(600 * SECOND_NS), SECOND_NS);
        assert_eq!(interval_ns(601 * SECOND_NS), 2 * SECOND_NS);
    }

    #[test]
    fn threads_add_up_and_every_sample_is_in_one_interval() {
        let (mut one, mut two) = (IntervalTimings::new(SECOND_NS), IntervalTimings::new(SECOND_NS));
        one.record(Timing::Service, 999 * MS, 5 * MS);
        one.record(Timing::Service, 1000 * MS, 7 * MS);
        two.record(Timing::Service, 1500 * MS, 9 * MS);
        two.record(Timing::Response, u64::MAX, 11 * MS);
        one.merge(&two);
        let service: Vec<_> = one
            .intervals
            .iter()
            .map(|all| all[0].as_ref().map_or(0, |latencies| latencies.histogram().len()))
            .collect();
        assert_eq!(service[..2], [1, 2]);
        assert_eq!(one.intervals.len(), INTERVALS_MAX);
        let total = one.total();
        assert_eq!(total.of(Timing::Service).histogram().len(), 3);
        assert_eq!(total.of(Timing::Response).histogram().len(), 1);
    }

    #[test]
    fn counters_become_rates_of_the_intervals_between_them() {
        let mark = |at_ms: u64, acknowledged: u64| Mark {
            at_ns: 5 * SECOND_NS + at_ms * MS,
            totals: Totals { acknowledged, ..Totals::default() },
            daemon: Some(DaemonMark {
                cpu_ns: at_ms * MS / 4,
                context_switches: at_ms,
                resident_bytes: 77,
                written_bytes: None,
            }),
        };
        let mut timings = IntervalTimings::new(SECOND_NS);
        timings.record(Timing::Service, 1200 * MS, 3 * MS);
        let marks = [mark(0, 10), mark(1000, 110), mark(1500, 160)];
        let timeline = Timeline::new(marks.to_vec(), timings);
        let [first, second] = &timeline.intervals[..] else { panic!("two intervals") };
        assert_eq!((first.acknowledged, second.acknowledged), (100, 50));
        assert!((second.acknowledged_per_s - 100.0).abs() < 1e-6);
        assert!((second.begin_s - 1.0).abs() < 1e-9 && (second.end_s - 1.5).abs() < 1e-9);
        let server = second.server.unwrap();
        assert!((server.busy - 0.25).abs() < 1e-9);
        assert_eq!((server.context_switches, server.resident_bytes), (500, 77));
        assert!(first.latency.is_empty());
        assert_eq!(second.latency[0].samples, 1);
        assert_eq!(timeline.histograms().count(), 1);

        let marks = vec![mark(0, 10), mark(1000, 110), mark(1001, 160)];
        let timeline = Timeline::new(marks, IntervalTimings::new(SECOND_NS));
        assert_eq!(timeline.intervals.len(), 1);
        assert_eq!(timeline.intervals[0].acknowledged, 150);
    }
}
