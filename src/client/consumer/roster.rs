//! The nsqds a consumer knows of: how each came to be known, whether there is a connection, and
//! when to try again. Pure.

use crate::client::retry;
use crate::limits::CLIENT_ADDRESSES_MAX;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A connection that lived this long was a good one: its loss is not another failure.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// All addresses of one consumer.
#[derive(Debug)]
pub(super) struct Roster {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Longest wait before another try.
    wait_max: Duration,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Entry {
    /// Given by name: tried again until it is removed. Others are tried when a lookup lists them.
    direct: bool,
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Busy,
    Waiting { until: Duration },
}

impl Roster {
    pub(super) fn new(wait_max: Duration, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { entries: BTreeMap::new(), wait_max, random }
    }

    /// Somebody names an address. `false`: it is connected, or being connected, already.
    pub(super) fn name(&mut self, address: &Arc<str>) -> bool {
        let entry = Entry { direct: true, state: State::Busy, failures: 0 };
        match self.entries.get(address) {
            Some(Entry { state: State::Busy, .. }) => false,
            _ => {
                self.entries.insert(Arc::clone(address), entry);
                true
            }
        }
    }

    /// A lookup lists an address. `true`: connect now.
    pub(super) fn list(&mut self, address: &Arc<str>, now: Duration) -> bool {
        let full = self.entries.len() >= CLIENT_ADDRESSES_MAX;
        match self.entries.get_mut(address) {
            None if full => false,
            None => {
                let entry = Entry { direct: false, state: State::Busy, failures: 0 };
                self.entries.insert(Arc::clone(address), entry);
                true
            }
            Some(entry) => match entry.state {
                State::Waiting { until } if until <= now => {
                    entry.state = State::Busy;
                    true
                }
                _ => false,
            },
        }
    }

    /// There is no connection, or no more. Says when to ask the lookup services, if this address
    /// came from them.
    pub(super) fn lost(
        &mut self,
        address: &Arc<str>,
        lived: Duration,
        now: Duration,
    ) -> Option<Duration> {
        let entry = self.entries.get_mut(address)?;
        entry.failures = if lived >= GOOD_AFTER { 1 } else { entry.failures + 1 };
        let wait = match entry.failures {
            // An nsqd that has gone may have come back elsewhere: ask at once.
            1 if !entry.direct => Duration::ZERO,
            failures => retry::delay(failures, self.wait_max, &mut self.random),
        };
        entry.state = State::Waiting { until: now + wait };
        (!entry.direct).then_some(now + wait)
    }

    /// The address is not wanted any more; `false` if it was not known.
    pub(super) fn forget(&mut self, address: &str) -> bool {
        self.entries.remove(address).is_some()
    }

    /// Whether it is still wanted: a connection made in the meantime is not, if it was removed.
    pub(super) fn knows(&self, address: &str) -> bool {
        self.entries.contains_key(address)
    }

    /// Named addresses to try again now.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        for (address, entry) in &mut self.entries {
            let over = matches!(entry.state, State::Waiting { until } if until <= now);
            if entry.direct && over {
                entry.state = State::Busy;
                due.push(Arc::clone(address));
            }
        }
        due
    }

    /// When [`due`](Self::due) has something.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let waits = self.entries.values().filter_map(|entry| match entry.state {
            State::Waiting { until } if entry.direct => Some(until),
            _ => None,
        });
        waits.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn named_addresses_are_tried_until_they_are_removed() {
        let mut roster = Roster::new(SECOND, 1);
        let a: Arc<str> = "a:1".into();
        assert!(roster.name(&a));
        assert!(!roster.name(&a));
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            assert_eq!(roster.lost(&a, Duration::ZERO, now), None);
            assert!(roster.due(now).is_empty());
            let due = roster.deadline().unwrap();
            assert!(due > now && due <= now + SECOND);
            now = due;
            assert_eq!(roster.due(now), [Arc::clone(&a)]);
        }
        assert!(roster.forget("a:1"));
        assert!(!roster.forget("a:1"));
        assert_eq!(roster.lost(&a, Duration::ZERO, now), None);
        assert!(roster.due(now + SECOND).is_empty());
    }

    #[test]
    fn listed_addresses_wait_for_a_lookup() {
        let mut roster = Roster::new(SECOND, 1);
        let a: Arc<str> = "a:1".into();
        assert!(roster.list(&a, SECOND));
        assert!(!roster.list(&a, SECOND), "it is being connected");
        // Lost after a good while: ask at once, and again ever later.
        assert_eq!(roster.lost(&a, GOOD_AFTER, SECOND), Some(SECOND));
        assert_eq!(roster.deadline(), None);
        assert!(roster.list(&a, SECOND));
        let again = roster.lost(&a, Duration::ZERO, SECOND).unwrap();
        assert!(again > SECOND);
        assert!(!roster.list(&a, SECOND), "too early");
        assert!(roster.list(&a, again));
    }

    /// H3: 3 of 9 names are different.
    #[test]
    fn h3_what_several_lookups_name_is_connected_to_once() {
        let mut roster = Roster::new(SECOND, 1);
        let named = ["a:1", "b:2", "a:1", "c:3", "b:2", "a:1", "c:3", "c:3", "b:2"];
        let taken = named.map(Arc::from).into_iter().filter(|name| roster.list(name, SECOND));
        assert!(taken.eq(["a:1", "b:2", "c:3"].map(Arc::from)));
    }

    #[test]
    fn lookups_cannot_make_it_grow_without_end() {
        let mut roster = Roster::new(SECOND, 1);
        let list = |at: usize| roster.list(&format!("host:{at}").into(), SECOND);
        let taken = (0..CLIENT_ADDRESSES_MAX + 10).map(list).filter(|taken| *taken).count();
        assert_eq!(taken, CLIENT_ADDRESSES_MAX);
    }
}
