//! The one clock of the generator: monotonic nanoseconds, the same for every thread and process of
//! a machine, so that a time put into a message body by one thread can be read by another.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds since the machine started (`CLOCK_MONOTONIC`).
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * SECOND_NS + now.tv_nsec.unsigned_abs()
}

/// Seconds since 1970 (`CLOCK_REALTIME`), for the dates in reports.
pub(crate) fn unix_time_s() -> f64 {
    let now = clock_gettime(ClockId::Realtime);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let whole = now.tv_sec as f64;
    #[expect(clippy::cast_precision_loss, reason = "below 10^9")]
    let rest = now.tv_nsec as f64;
    whole + rest / 1e9
}
