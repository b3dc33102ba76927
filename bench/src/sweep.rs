//! The sweep: open-loop runs at rising rates, to find the knee, the highest rate at which the 99th
//! percentile of the response time stays under a bound.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::figures::{RunFigures, SATURATED};
use crate::scenario::Plan;

/// The rate is doubled until it is too high, this often at most.
const DOUBLINGS_MAX: usize = 24;
/// A rate is too high when it was so this often.
const ATTEMPTS: usize = 2;
/// The search ends when the knee is known this closely.
const CLOSE_ENOUGH: f64 = 1.05;

/// All rates that were tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    pub(crate) p99_bound_us: f64,
    /// The highest good rate; `None` when the first was too high.
    pub(crate) knee_per_s: Option<f64>,
    /// By rate.
    pub(crate) points: Vec<Point>,
}

/// One rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) rate_per_s: f64,
    pub(crate) sent_per_s: f64,
    pub(crate) response_p50_us: Option<f64>,
    pub(crate) response_p99_us: Option<f64>,
    pub(crate) end_to_end_p99_us: Option<f64>,
    pub(crate) server_cpu_us_per_message: Option<f64>,
    /// Of a core, the busiest thread.
    pub(crate) generator_busy: f64,
    /// The rate was offered, and the response time within the bound. Late sending is part of the
    /// response time.
    pub(crate) good: bool,
    /// Why the load was not what it names, if so.
    pub(crate) invalid: Vec<String>,
}

/// Doubles the rate of `plan` while it is good and halves the distance after, measuring each rate.
pub(crate) fn search(
    plan: &Plan,
    bound: Duration,
    mut measure: impl FnMut(&Plan) -> Result<RunFigures>,
) -> Result<Sweep> {
    let bound_us = bound.as_secs_f64() * 1e6;
    search_points(plan.rate.unwrap_or(1.0), bound_us, |rate| {
        let figures = measure(&Plan { rate: Some(rate), ..plan.clone() })?;
        Ok(Point::new(rate, bound_us, &figures))
    })
}

fn search_points(
    first_rate: f64,
    bound_us: f64,
    mut measure: impl FnMut(f64) -> Result<Point>,
) -> Result<Sweep> {
    let mut points = Vec::new();
    // Something else on the machine may spoil one measurement; not two.
    let mut is_good = |rate: f64| -> Result<bool> {
        for _ in 0..ATTEMPTS {
            points.push(measure(rate)?);
            if points.last().is_some_and(|point| point.good) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let mut rate = first_rate;
    let (mut good, mut bad) = (None, None);
    for _ in 0..DOUBLINGS_MAX {
        if !is_good(rate)? {
            bad = Some(rate);
            break;
        }
        good = Some(rate);
        rate *= 2.0;
    }
    while let (Some(low), Some(high)) = (good, bad)
        && high / low > CLOSE_ENOUGH
    {
        let middle = (low * high).sqrt().round();
        let slot = if is_good(middle)? { &mut good } else { &mut bad };
        *slot = Some(middle);
    }
    points.sort_by(|one, other| one.rate_per_s.total_cmp(&other.rate_per_s));
    Ok(Sweep { p99_bound_us: bound_us, knee_per_s: good, points })
}

impl Sweep {
    /// The knee, or that there is none.
    pub(crate) fn knee(&self) -> Result<f64> {
        self.knee_per_s.with_context(|| {
            format!(
                "the first rate is past the knee already: give a lower --rate\n{}",
                self.table()
            )
        })
    }

    /// For a terminal.
    pub(crate) fn table(&self) -> String {
        let bound_ms = self.p99_bound_us / 1e3;
        let mut out = match self.knee_per_s {
            Some(knee) => {
                format!("p99 of the response time within {bound_ms} ms up to {knee:.0}/s\n")
            }
            None => format!("p99 of the response time never within {bound_ms} ms\n"),
        };
        let columns =
            ["messages/s", "sent/s", "p50 µs", "p99 µs", "end to end", "server µs", "busy"];
        for column in columns {
            let _ = write!(out, "{column:>12}");
        }
        out.push('\n');
        for point in &self.points {
            let shown = |value: Option<f64>, digits: usize| {
                value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let _ = writeln!(
                out,
                "{:>12.0}{:>12.0}{:>12}{:>12}{:>12}{:>12}{:>12.2}{}",
                point.rate_per_s,
                point.sent_per_s,
                shown(point.response_p50_us, 0),
                shown(point.response_p99_us, 0),
                shown(point.end_to_end_p99_us, 0),
                shown(point.server_cpu_us_per_message, 2),
                point.generator_busy,
                if point.good { "" } else { "  past" },
            );
        }
        let limited =
            self.points.iter().any(|point| !point.good && point.generator_busy > SATURATED);
        if limited && self.knee_per_s.is_some() {
            out.push_str(
                "The generator was busy past the knee: the daemon may do better. Give it \
                 --spin, or more --threads and cores.\n",
            );
        }
        out
    }
}

impl Point {
    fn new(rate_per_s: f64, bound_us: f64, figures: &RunFigures) -> Self {
        let at = |timing: &str, key: &str| {
            figures.latency.get(timing).and_then(|percentiles| percentiles[key].as_f64())
        };
        let response_p99_us = at("response", "p99_us");
        // Too few samples for a percentile: the longest is beyond it.
        let judged_us = response_p99_us.or(at("response", "max_us"));
        Self {
            rate_per_s,
            sent_per_s: figures.sent_rate_per_s,
            response_p50_us: at("response", "p50_us"),
            response_p99_us,
            end_to_end_p99_us: at("end_to_end", "p99_us"),
            server_cpu_us_per_message: figures
                .server
                .as_ref()
                .and_then(|one| one.cpu_us_per_message),
            generator_busy: figures.generator_busy,
            good: figures.rate_reached == Some(true)
                && judged_us.is_some_and(|p99_us| p99_us <= bound_us),
            invalid: figures.invalid.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rate: f64, good: bool) -> Point {
        Point {
            rate_per_s: rate,
            sent_per_s: rate,
            response_p50_us: None,
            response_p99_us: None,
            end_to_end_p99_us: None,
            server_cpu_us_per_message: None,
            generator_busy: 0.5,
            good,
            invalid: Vec::new(),
        }
    }

    fn knee_of(first_rate: f64, truth: f64) -> Sweep {
        search_points(first_rate, 10.0, |rate| Ok(point(rate, rate <= truth))).unwrap()
    }

    #[test]
    fn the_knee_is_found_closely_and_from_below() {
        for truth in [1_000.0, 1_999.0, 33_333.0, 1e6] {
            let sweep = knee_of(1_000.0, truth);
            let knee = sweep.knee().unwrap();
            assert!(knee <= truth && truth / knee < CLOSE_ENOUGH, "{knee} for {truth}");
            assert!(sweep.points.is_sorted_by(|one, next| one.rate_per_s <= next.rate_per_s));
        }
    }

    #[test]
    fn one_spoiled_measurement_does_not_end_the_search() {
        let mut measured = 0;
        let sweep = search_points(1_000.0, 10.0, |rate| {
            measured += 1;
            Ok(point(rate, rate <= 50_000.0 && measured % 2 == 0))
        });
        let knee = sweep.unwrap().knee().unwrap();
        assert!(knee <= 50_000.0 && 50_000.0 / knee < CLOSE_ENOUGH, "{knee}");
    }

    #[test]
    fn a_first_rate_that_is_too_high_is_said() {
        let error = knee_of(1_000.0, 10.0).knee().unwrap_err().to_string();
        assert!(error.contains("lower --rate"), "{error}");
    }
}
