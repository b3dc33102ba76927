//! The timeline as comma-separated values: a line for each interval of each run.

use std::fmt::Write as _;

use crate::histogram::Timing;
use crate::timeline::Timeline;

/// The timelines of all runs, with a line of column names. Unknown values are empty.
pub(crate) fn timeline(timelines: &[Timeline]) -> String {
    let mut out = "run,begin_s,end_s,sent,acknowledged,consumed,sent_per_s,acknowledged_per_s,\
                   consumed_per_s,server_busy,server_context_switches,server_resident_bytes,\
                   server_written_bytes"
        .to_owned();
    for timing in Timing::ALL {
        for column in ["samples", "p50_us", "p99_us", "max_us"] {
            let _ = write!(out, ",{}_{column}", timing.name());
        }
    }
    out.push('\n');
    for (run, timeline) in timelines.iter().enumerate() {
        for at in &timeline.intervals {
            let _ = write!(
                out,
                "{},{:.3},{:.3},{},{},{},{:.1},{:.1},{:.1}",
                run + 1,
                at.begin_s,
                at.end_s,
                at.sent,
                at.acknowledged,
                at.consumed,
                at.sent_per_s,
                at.acknowledged_per_s,
                at.consumed_per_s
            );
            let _ = match &at.server {
                None => write!(out, ",,,,"),
                Some(server) => write!(
                    out,
                    ",{:.3},{},{},{}",
                    server.busy,
                    server.context_switches,
                    server.resident_bytes,
                    server.written_bytes.map_or(String::new(), |bytes| bytes.to_string())
                ),
            };
            for timing in Timing::ALL {
                let _ = match at.latency.iter().find(|one| one.timing == timing) {
                    None => write!(out, ",,,,"),
                    Some(one) => write!(
                        out,
                        ",{},{:.1},{:.1},{:.1}",
                        one.samples, one.p50_us, one.p99_us, one.max_us
                    ),
                };
            }
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Totals;
    use crate::timeline::{DaemonMark, IntervalTimings, Mark};

    #[test]
    fn a_line_for_each_second_has_a_value_in_every_column() {
        let mark = |at_s: u64| Mark {
            at_ns: at_s * 1_000_000_000,
            totals: Totals { sent: at_s * 120, acknowledged: at_s * 100, ..Totals::default() },
            daemon: Some(DaemonMark {
                cpu_ns: at_s * 500_000_000,
                context_switches: at_s * 9,
                resident_bytes: 4096,
                written_bytes: None,
            }),
        };
        let mut timings = IntervalTimings::new(1_000_000_000);
        timings.record(Timing::Service, 500, 64_000);
        let text = timeline(&[Timeline::new(vec![mark(0), mark(1), mark(2)], timings)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "1,0.000,1.000,120,100,0,120.0,100.0,0.0,0.500,9,4096,,1,64.0,64.0,64.0,,,,,,,,,,,,,,,,"
        );
        assert_eq!(
            lines[2],
            "1,1.000,2.000,120,100,0,120.0,100.0,0.0,0.500,9,4096,,,,,,,,,,,,,,,,,,,,,"
        );
        let commas = |line: &&str| line.matches(',').count();
        assert!(lines.iter().all(|line| commas(line) == commas(&lines[0])), "{text}");
    }
}
