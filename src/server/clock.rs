//! The only clock of the data path, read once per turn.

use crate::broker::time::{Now, Time, WallClock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// See the module's text.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock for one shard or for all: times of clocks made from one another can be compared,
    /// which matters when a session moves.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks, now.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn read(&self) -> Now {
        let elapsed = self.start.elapsed().as_nanos();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Now {
            time: Time(u64::try_from(elapsed).expect("584 years of uptime")),
            wall: WallClock(i64::try_from(wall).unwrap_or(i64::MAX)),
        }
    }
}
