//! The histograms of every interval as an HdrHistogram log, version 1.3, tagged with what is timed.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::timeline::Timeline;

/// The column of the largest value is in milliseconds, as the tools expect.
const UNIT_NS: f64 = 1e6;

/// Writes all runs, one after the other, to `out`. `epoch_s` is the time since 1970 at which the
/// generator's clock was 0.
pub(crate) fn write(
    mut out: impl Write,
    epoch_s: f64,
    scenario: &str,
    timelines: &[Timeline],
) -> Result<()> {
    let begin_ns = timelines.first().map_or(0, |timeline| timeline.begin_ns);
    let begin = wall_clock(epoch_s, begin_ns);
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!("[nsq_bench {} {scenario}: nanoseconds]", env!("CARGO_PKG_VERSION")))
        .with_start_time(begin)
        .with_base_time(begin)
        .with_max_value_divisor(UNIT_NS);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = builder.begin_log_with(&mut out, &mut serializer)?;
    for timeline in timelines {
        let offset_ns = timeline.begin_ns.saturating_sub(begin_ns);
        for (index, timing, latencies) in timeline.histograms() {
            let from = Duration::from_nanos(offset_ns + index as u64 * timeline.interval_ns);
            let tag = Tag::new(timing.name()).context("a tag may not have commas or spaces")?;
            log.write_histogram(
                latencies.histogram(),
                from,
                Duration::from_nanos(timeline.interval_ns),
                Some(tag),
            )
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        }
    }
    drop(log);
    Ok(out.flush()?)
}

fn wall_clock(epoch_s: f64, at_ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(epoch_s.max(0.0)) + Duration::from_nanos(at_ns)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::histogram::Timing;
    use crate::timeline::{IntervalTimings, Mark};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_log_is_read_back_as_it_was_recorded() {
        let mut timings = IntervalTimings::new(SECOND);
        timings.record(Timing::Service, 0, 1_000_000);
        timings.record(Timing::Response, SECOND, 2_000_000);
        timings.record(Timing::Response, SECOND, 4_000_000);
        let mark = |at_ns| Mark { at_ns, ..Mark::default() };
        let marks = vec![mark(7 * SECOND), mark(8 * SECOND), mark(9 * SECOND)];
        let mut bytes = Vec::new();
        write(&mut bytes, 1000.5, "pub", &[Timeline::new(marks, timings)]).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"), "{text}");

        let mut deserializer = Deserializer::new();
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(&bytes) {
            match entry.unwrap() {
                LogEntry::StartTime(start) => assert_eq!(start, Duration::from_millis(1_007_500)),
                LogEntry::BaseTime(base) => assert_eq!(base, Duration::from_millis(1_007_500)),
                LogEntry::Interval(interval) => {
                    let encoded = interval.encoded_histogram();
                    let histogram = decode(&mut deserializer, encoded);
                    found.push((
                        interval.tag().unwrap().as_str().to_owned(),
                        interval.start_timestamp().as_secs(),
                        interval.duration().as_secs(),
                        interval.max().round().to_string(),
                        histogram.len(),
                    ));
                }
            }
        }
        let expected = [("service", 0, 1, "1", 1), ("response", 1, 1, "4", 2)];
        let expected = expected.map(|(tag, from, length, max, samples)| {
            (tag.to_owned(), from, length, max.to_owned(), samples)
        });
        assert_eq!(found, expected);
    }

    /// The letters of base 64 are the crate's to write; reading them here checks that.
    fn decode(deserializer: &mut Deserializer, encoded: &str) -> Histogram<u64> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut length, mut bytes) = (0u32, 0, Vec::new());
        for letter in encoded.bytes().filter(|letter| *letter != b'=') {
            let value = LETTERS.iter().position(|known| *known == letter).unwrap();
            bits = bits << 6 | u32::try_from(value).unwrap();
            length += 6;
            if length >= 8 {
                length -= 8;
                bytes.push(u8::try_from(bits >> length & 0xff).unwrap());
            }
        }
        deserializer.deserialize(&mut bytes.as_slice()).unwrap()
    }
}
