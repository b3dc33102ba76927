//! Message bodies: how long they are, and what they carry so that a consumer can tell when a
//! message was due and whether it is whole.
//!
//! ```text
//! 0         8           12         16      20         28
//! | due_ns  | checksum  | producer | topic | sequence | filler …
//! ```
//!
//! All numbers are big-endian. The time is in every body that has room for it, the rest only when
//! the run is verified; the checksum is the CRC-32 of all other bytes.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use serde::{Serialize, Serializer};

/// Longest body there can be: frame sizes are 32 bits, and a batch must fit as well.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 30;
/// A body that tells when it was due.
pub(crate) const TIME_BYTES: usize = 8;
/// A body that can be verified.
pub(crate) const STAMP_BYTES: usize = 28;

const CHECKSUM_AT: usize = TIME_BYTES;
const AFTER_CHECKSUM: usize = CHECKSUM_AT + 4;
/// The lognormal distribution is cut off here, so that buffers have a size.
const LOGNORMAL_DEVIATIONS_MAX: f64 = 4.0;

/// How long bodies are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BodySize {
    /// `200`: all the same.
    Fixed(usize),
    /// `100..1000`: each length from the first to the last is as likely.
    Uniform(usize, usize),
    /// `lognormal:300,0.8`: the median, and the deviation of the logarithm. Longer than
    /// e^(4 × deviation) times the median is cut off.
    Lognormal(f64, f64),
    /// `100=90,10000=10`: lengths with their weights.
    Weighted(Vec<(usize, f64)>),
}

impl BodySize {
    /// The shortest body.
    pub(crate) fn least(&self) -> usize {
        self.at(0.0)
    }

    /// The longest body.
    pub(crate) fn most(&self) -> usize {
        self.at(1.0)
    }

    /// `count` lengths that represent the distribution as well as so few can, in random order: one
    /// from the middle of each of `count` equally likely parts.
    pub(crate) fn lengths(&self, count: usize) -> Vec<usize> {
        let mut lengths: Vec<usize> =
            (0..count).map(|index| self.at((index as f64 + 0.5) / count as f64)).collect();
        fastrand::Rng::with_seed(count as u64).shuffle(&mut lengths);
        lengths
    }

    /// Lengths to take in turn; one is enough when all are the same.
    pub(crate) fn rotation(&self) -> Vec<usize> {
        const ROTATION: usize = 256;
        self.lengths(if matches!(self, Self::Fixed(_)) { 1 } else { ROTATION })
    }

    /// The length below which the share `quantile` of all bodies is.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`check` bounds all lengths far below 2^53"
    )]
    fn at(&self, quantile: f64) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform(first, last) => {
                first
                    + ((last - first + 1) as f64 * quantile).floor().min((last - first) as f64)
                        as usize
            }
            Self::Lognormal(median, deviation) => {
                let normal = normal_quantile(quantile);
                (median * (deviation * normal).exp()).round() as usize
            }
            Self::Weighted(choices) => {
                let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
                let mut left = quantile * total;
                let mut sorted = choices.clone();
                sorted.sort_unstable_by_key(|(bytes, _)| *bytes);
                for (bytes, weight) in &sorted {
                    if left < *weight {
                        return *bytes;
                    }
                    left -= weight;
                }
                sorted.last().map_or(0, |(bytes, _)| *bytes)
            }
        }
    }

    fn check(self) -> Result<Self> {
        match &self {
            Self::Uniform(first, last) => ensure!(first <= last, "{first} is above {last}"),
            Self::Lognormal(median, deviation) => {
                ensure!(
                    *median >= 1.0 && (0.0..=10.0).contains(deviation),
                    "a median of at least 1 and a deviation from 0 to 10"
                );
            }
            Self::Weighted(choices) => ensure!(
                choices.iter().all(|(_, weight)| *weight > 0.0 && weight.is_finite()),
                "weights are above 0"
            ),
            Self::Fixed(_) => {}
        }
        ensure!(self.most() <= BODY_BYTES_MAX, "bodies have at most {BODY_BYTES_MAX} bytes");
        Ok(self)
    }
}

impl FromStr for BodySize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = |text: &str| {
            text.trim().parse::<usize>().with_context(|| format!("{text:?} is no number of bytes"))
        };
        let real = |text: &str| {
            text.trim().parse::<f64>().with_context(|| format!("{text:?} is no number"))
        };
        let size = if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, deviation) =
                rest.split_once(',').context("write it as lognormal:MEDIAN,DEVIATION")?;
            Self::Lognormal(real(median)?, real(deviation)?)
        } else if let Some((first, last)) = text.split_once("..") {
            Self::Uniform(bytes(first)?, bytes(last)?)
        } else if text.contains('=') {
            let choices = text.split(',').map(|choice| {
                let (length, weight) =
                    choice.split_once('=').context("write it as BYTES=WEIGHT,BYTES=WEIGHT")?;
                Ok((bytes(length)?, real(weight)?))
            });
            Self::Weighted(choices.collect::<Result<_>>()?)
        } else {
            Self::Fixed(bytes(text)?)
        };
        size.check()
    }
}

impl fmt::Display for BodySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Uniform(first, last) => write!(f, "{first}..{last}"),
            Self::Lognormal(median, deviation) => write!(f, "lognormal:{median},{deviation}"),
            Self::Weighted(choices) => {
                for (index, (bytes, weight)) in choices.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{bytes}={weight}")?;
                }
                Ok(())
            }
        }
    }
}

impl Serialize for BodySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The standard normal value below which the share `quantile` lies, cut off at four deviations.
/// Bisection of the distribution function; it is needed a few hundred times in a run.
fn normal_quantile(quantile: f64) -> f64 {
    let (mut low, mut high) = (-LOGNORMAL_DEVIATIONS_MAX, LOGNORMAL_DEVIATIONS_MAX);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if normal_share_below(middle) < quantile { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// Share of the standard normal distribution below `value`: Simpson's rule from the middle.
fn normal_share_below(value: f64) -> f64 {
    const STEPS: u32 = 128;
    let density = |at: f64| (-at * at / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let step = value / f64::from(STEPS);
    let inner: f64 = (1..STEPS)
        .map(|index| density(step * f64::from(index)) * if index % 2 == 1 { 4.0 } else { 2.0 })
        .sum();
    0.5 + (density(0.0) + inner + density(value)) * step / 3.0
}

/// What a verified body says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When it was to be delivered: when it was due, and its deferral.
    pub(crate) due_ns: u64,
    /// Number of the producer's connection.
    pub(crate) producer: u32,
    /// Number of the topic.
    pub(crate) topic: u32,
    /// Counts the messages of this producer to this topic, from 0.
    pub(crate) sequence: u64,
}

impl Stamp {
    /// Writes the stamp and the checksum into `body`, of at least `STAMP_BYTES`.
    pub(crate) fn write(&self, body: &mut [u8]) {
        write_time(body, self.due_ns);
        body[12..16].copy_from_slice(&self.producer.to_be_bytes());
        body[16..20].copy_from_slice(&self.topic.to_be_bytes());
        body[20..28].copy_from_slice(&self.sequence.to_be_bytes());
        let checksum = checksum(body).to_be_bytes();
        body[CHECKSUM_AT..AFTER_CHECKSUM].copy_from_slice(&checksum);
    }

    /// Reads it back; `None` when the body is not what was sent.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (stamp, _) = body.split_first_chunk::<STAMP_BYTES>()?;
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| stamp[at + byte]));
        let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| stamp[at + byte]));
        (word(CHECKSUM_AT) == checksum(body)).then(|| Self {
            due_ns: long(0),
            producer: word(12),
            topic: word(16),
            sequence: long(20),
        })
    }
}

/// Puts the time into a body that has room for it.
pub(crate) fn write_time(body: &mut [u8], due_ns: u64) {
    if let Some(time) = body.first_chunk_mut::<TIME_BYTES>() {
        *time = due_ns.to_be_bytes();
    }
}

/// The time in a body.
pub(crate) fn read_time(body: &[u8]) -> Option<u64> {
    body.first_chunk::<TIME_BYTES>().map(|time| u64::from_be_bytes(*time))
}

fn checksum(body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&body[..CHECKSUM_AT]);
    hasher.update(&body[AFTER_CHECKSUM..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> BodySize {
        text.parse().unwrap()
    }

    #[test]
    fn sizes_are_read_as_they_are_shown_and_nonsense_is_refused() {
        for text in ["200", "100..1000", "lognormal:300,0.8", "100=90,10000=10"] {
            assert_eq!(size(text).to_string(), text);
        }
        for text in ["", "9..3", "lognormal:5", "lognormal:0,1", "1=0", "9999999999", "1=2,3"] {
            assert!(text.parse::<BodySize>().is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_represent_their_distribution() {
        assert_eq!(size("7").lengths(3), [7, 7, 7]);
        let uniform = size("10..19").lengths(1000);
        for bytes in 10..=19 {
            assert_eq!(uniform.iter().filter(|length| **length == bytes).count(), 100);
        }
        let weighted = size("100=90,50=10").lengths(200);
        assert_eq!(weighted.iter().filter(|length| **length == 50).count(), 20);
        let mut lognormal = size("lognormal:1000,0.5").lengths(1001);
        lognormal.sort_unstable();
        assert_eq!(lognormal[500], 1000);
        // One deviation up: e^0.5 times the median, at the quantile 0.8413.
        assert!((lognormal[842] as f64 / 1000.0 - 0.5f64.exp()).abs() < 0.01);
        for text in ["200", "1..9", "lognormal:300,0.8", "100=1,2=3"] {
            let lengths = size(text).lengths(100);
            assert!(lengths.iter().all(|length| *length >= size(text).least()));
            assert!(lengths.iter().all(|length| *length <= size(text).most()));
        }
    }

    #[test]
    fn a_stamp_comes_back_and_any_changed_byte_is_seen() {
        let stamp = Stamp { due_ns: u64::MAX - 5, producer: 7, topic: 9, sequence: 1 << 40 };
        for bytes in [STAMP_BYTES, STAMP_BYTES + 1, 200] {
            let mut body = vec![0xa5; bytes];
            stamp.write(&mut body);
            assert_eq!(Stamp::read(&body), Some(stamp));
            assert_eq!(read_time(&body), Some(stamp.due_ns));
            for at in 0..bytes {
                body[at] ^= 1;
                assert_eq!(Stamp::read(&body), None, "byte {at}");
                body[at] ^= 1;
            }
            assert_eq!(Stamp::read(&body[..bytes - 1]), None);
        }
    }

    #[test]
    fn a_body_too_short_for_a_time_has_none() {
        let mut body = *b"1234567";
        write_time(&mut body, 1);
        assert_eq!((&body, read_time(&body)), (b"1234567", None));
    }
}
