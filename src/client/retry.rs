//! How long to wait before a lost nsqd is tried again: doubling, with jitter. Pure.

use crate::limits::CLIENT_RETRY_MS;
use std::time::Duration;

/// The wait after so many failures in a row (from 1): at most `longest`, at least half of what it
/// would be without jitter.
pub(super) fn delay(failures: u32, longest: Duration, random: &mut fastrand::Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let full = Duration::from_millis(CLIENT_RETRY_MS << doublings).min(longest);
    full.mul_f64(0.5 + random.f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut random = fastrand::Rng::with_seed(1);
        let longest = Duration::from_secs(1);
        for (failures, full_ms) in [(1, 100), (2, 200), (4, 800), (5, 1000), (1000, 1000)] {
            let full = Duration::from_millis(full_ms);
            for _ in 0..50 {
                let waited = delay(failures, longest, &mut random);
                assert!(waited >= full / 2 && waited <= full, "{failures}: {waited:?}");
            }
        }
    }
}
