//! Durations as Go reads and writes them: `1h30m`, `1.5s`, `250ms`, `-2µs`, `0`.

use std::time::Duration;

/// Units in nanoseconds. Longer spellings of a prefix come first (`ms` before `m`).
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", NANOSECONDS_PER_MICROSECOND),
    ("µs", NANOSECONDS_PER_MICROSECOND), // U+00B5, the micro sign
    ("μs", NANOSECONDS_PER_MICROSECOND), // U+03BC, the Greek letter
    ("ms", NANOSECONDS_PER_MILLISECOND),
    ("s", NANOSECONDS_PER_SECOND),
    ("m", 60 * NANOSECONDS_PER_SECOND),
    ("h", 3600 * NANOSECONDS_PER_SECOND),
];

const NANOSECONDS_PER_MICROSECOND: u64 = 1_000;
const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;
const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// Reads a signed duration in Go's syntax, in nanoseconds. `None` when the text is not one or
/// does not fit in 63 bits.
pub fn parse_nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total_ns: u64 = 0;
    while !rest.is_empty() {
        let (term_ns, after) = parse_term(rest)?;
        total_ns = total_ns.checked_add(term_ns)?;
        rest = after;
    }
    let total_ns = i64::try_from(total_ns).ok()?;
    Some(if negative { -total_ns } else { total_ns })
}

/// Writes a duration as Go prints it: `1h0m0s`, `1.5s`, `690.017814ms`, `651ns`, `0s`.
pub fn format(duration: Duration) -> String {
    let total_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if total_ns == 0 {
        return "0s".to_owned();
    }
    if total_ns < NANOSECONDS_PER_SECOND {
        let (unit_ns, unit) = match total_ns {
            n if n < NANOSECONDS_PER_MICROSECOND => return format!("{n}ns"),
            n if n < NANOSECONDS_PER_MILLISECOND => (NANOSECONDS_PER_MICROSECOND, "µs"),
            _ => (NANOSECONDS_PER_MILLISECOND, "ms"),
        };
        return format!("{}{unit}", decimal(total_ns, unit_ns));
    }
    let seconds = decimal(total_ns % (60 * NANOSECONDS_PER_SECOND), NANOSECONDS_PER_SECOND);
    let minutes = total_ns / (60 * NANOSECONDS_PER_SECOND);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Reads one `<decimal><unit>` and returns what follows it. Digits of the fraction that weigh
/// less than a nanosecond are dropped.
fn parse_term(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit = rest.split(|c: char| c == '.' || c.is_ascii_digit()).next()?;
    let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut term_ns = whole.checked_mul(*unit_ns)?;
    let mut weight_ns = *unit_ns as f64 / 10.0;
    let mut fraction_ns = 0.0;
    for digit in fraction.bytes() {
        fraction_ns += f64::from(digit - b'0') * weight_ns;
        weight_ns /= 10.0;
    }
    // The sum is below one hour, which a float holds exactly to the nanosecond but for rounding.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ sum ≤ 1 h")]
    let fraction_ns = (fraction_ns + 1e-6) as u64;
    term_ns = term_ns.checked_add(fraction_ns)?;
    Some((term_ns, rest.get(unit.len()..)?))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// `value / unit` in decimal, without trailing zeros.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, remainder) = (value / unit, value % unit);
    if remainder == 0 {
        return whole.to_string();
    }
    let width = usize::try_from(unit.ilog10()).expect("at most nine digits");
    let fraction = format!("{remainder:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let second = 1_000_000_000;
        let cases: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("+0", Some(0)),
            ("5s", Some(5 * second)),
            ("1h30m", Some(5400 * second)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(second)),
            ("250ms", Some(250_000_000)),
            ("2us", Some(2_000)),
            ("2µs", Some(2_000)),
            ("2μs", Some(2_000)),
            ("1.1us", Some(1_100)),
            ("0.3ms", Some(300_000)),
            ("0.000000001s", Some(1)),
            ("-2m3.5s", Some(-123_500_000_000)),
            ("5s3ns", Some(5_000_000_003)),
            ("", None),
            ("-", None),
            ("5", None),
            ("5x", None),
            (".s", None),
            ("s", None),
            ("1s ", None),
            ("1S", None),
            ("1d", None),
            ("9223372037s", None),
            ("99999999999999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_nanoseconds(text), *expected, "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases: &[(u64, &str)] = &[
            (0, "0s"),
            (651, "651ns"),
            (39_063, "39.063µs"),
            (690_017_814, "690.017814ms"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_000_000_001, "25h1m1.000000001s"),
        ];
        for (duration_ns, expected) in cases {
            assert_eq!(format(Duration::from_nanos(*duration_ns)), *expected);
        }
    }
}
