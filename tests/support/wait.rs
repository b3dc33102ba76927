//! Waiting by polling with a deadline, and the only clock of the tests.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: far above what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two probes; short beside anything waited for.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// Time since a moment, for *lower* bounds only: nothing may happen before its time.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "tests measure from the outside")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Probes until there is a value, and panics with what the last probe saw when there never is.
pub(crate) fn eventually<T>(mut probe: impl FnMut() -> Result<T, String>) -> T {
    let since = Stopwatch::start();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if since.elapsed() > PATIENCE => {
                panic!("gave up after {PATIENCE:?}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(PROBE_INTERVAL),
        }
    }
}

/// Lets time pass where the passing of time is itself the condition under test.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}
