//! Message ids of one topic, in NSQ's layout: unique, rising, and never a reason to wait.
//!
//! ```text
//! 63                      22       12        0
//! [ time unit − epoch      | node   | sequence ]   unit = 2^20 ns ≈ 1.05 ms
//! ```
//!
//! nsqd sleeps when 4096 ids of one unit are used up or the clock goes back. Here the unit simply
//! never goes back, and runs ahead of the clock when the sequence is exhausted.

use super::time::WallClock;

/// Start of NSQ's time units: what it subtracts from `ns >> 20`.
const EPOCH_UNITS: i64 = 1_288_834_974_288;
const NODE_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;

/// The generator of one topic. Invariant: `(unit, sequence)` rises with every id.
#[derive(Debug, Clone)]
pub struct MessageIds {
    node: u64,
    unit: i64,
    sequence: u64,
}

impl MessageIds {
    /// A generator for a node, `0..1024` (`--node-id`).
    pub fn new(node: u16) -> Self {
        debug_assert!(u32::from(node) < 1 << NODE_BITS);
        Self { node: u64::from(node) << SEQUENCE_BITS, unit: i64::MIN, sequence: 0 }
    }

    /// The next id; greater than every id before it, whatever the clock does.
    pub fn next(&mut self, wall: WallClock) -> u64 {
        let unit = (wall.0 >> 20) - EPOCH_UNITS;
        if unit > self.unit {
            self.unit = unit;
            self.sequence = 0;
        } else if self.sequence == SEQUENCE_MAX {
            self.unit += 1;
            self.sequence = 0;
        } else {
            self.sequence += 1;
        }
        (self.unit.cast_unsigned() << (NODE_BITS + SEQUENCE_BITS)) | self.node | self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: WallClock = WallClock(1_790_000_000_000_000_000);

    #[test]
    fn the_layout_is_nsqs() {
        let id = MessageIds::new(617).next(NOW);
        assert_eq!(id >> 22, ((NOW.0 >> 20) - EPOCH_UNITS) as u64);
        assert_eq!((id >> 12) & 1023, 617);
        assert_eq!(id & 4095, 0);
    }

    #[test]
    fn an_exhausted_unit_borrows_from_the_next() {
        let mut ids = MessageIds::new(1);
        let all: Vec<_> = (0..10_000).map(|_| ids.next(NOW)).collect();
        assert!(all.is_sorted_by(|a, b| a < b));
    }

    proptest! {
        #[test]
        fn ids_rise_across_clock_steps(
            steps in proptest::collection::vec(-5_000_000i64..5_000_000, 1..200)
        ) {
            let mut ids = MessageIds::new(3);
            let mut wall = NOW;
            let mut last = ids.next(wall);
            for step in steps {
                wall.0 += step;
                let id = ids.next(wall);
                prop_assert!(id > last);
                last = id;
            }
        }
    }
}
