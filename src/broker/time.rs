//! Time as the broker sees it: read once per loop turn by the caller and passed in.

use std::ops::Add;

/// A point on the monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// A span of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

/// The wall clock in nanoseconds since the UNIX epoch: for timestamps and ids only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallClock(pub i64);

/// Both clocks, as read at the start of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For deadlines.
    pub time: Time,
    /// For message timestamps and ids.
    pub wall: WallClock,
}

impl Time {
    /// Later than any deadline.
    pub const NEVER: Self = Self(u64::MAX);
}

impl Span {
    /// A span of so many milliseconds, saturating.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }
}

impl Add<Span> for Time {
    type Output = Self;

    /// Saturates at [`Time::NEVER`], so that an endless span gives a deadline that never comes.
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}
