//! Which of a producer's nsqds are up, whose turn it is, and when to try the others again. Pure.

use crate::client::error::Error;
use crate::client::retry;
use crate::limits::CLIENT_RETRY_MS_MAX;
use std::sync::Arc;
use std::time::Duration;

const WAIT_MAX: Duration = Duration::from_millis(CLIENT_RETRY_MS_MAX);

/// The health of all nsqds, by index.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    /// Whose turn it is.
    next: usize,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Node {
    address: Arc<str>,
    health: Health,
    failures: u32,
    /// Why it is not up.
    reason: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Nobody has asked for it yet.
    Unused,
    Dialing,
    Up,
    Down {
        until: Duration,
    },
}

impl Nodes {
    pub(super) fn new(addresses: Vec<Arc<str>>, seed: u64) -> Self {
        let node = |address| Node { address, health: Health::Unused, failures: 0, reason: None };
        let nodes = addresses.into_iter().map(node).collect();
        Self { nodes, next: 0, random: fastrand::Rng::with_seed(seed) }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The next one in turn that is up and has room, as the caller says.
    pub(super) fn choose(&mut self, has_room: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.nodes.len();
        let order = (self.next..count).chain(0..self.next);
        let is_up = |at: &usize| self.nodes[*at].health == Health::Up;
        let chosen = order.into_iter().find(|at| is_up(at) && has_room(*at))?;
        self.next = (chosen + 1) % count;
        Some(chosen)
    }

    /// Those to connect to now, given that there is something to publish.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<(usize, Arc<str>)> {
        let mut due = Vec::new();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let dial = match node.health {
                Health::Unused => true,
                Health::Down { until } => until <= now,
                Health::Dialing | Health::Up => false,
            };
            if dial {
                node.health = Health::Dialing;
                due.push((at, Arc::clone(&node.address)));
            }
        }
        due
    }

    pub(super) fn up(&mut self, at: usize) {
        self.nodes[at].health = Health::Up;
        self.nodes[at].reason = None;
    }

    /// An answer came: whatever was wrong with it is over.
    pub(super) fn works(&mut self, at: usize) {
        self.nodes[at].failures = 0;
    }

    pub(super) fn down(&mut self, at: usize, reason: Error, now: Duration) {
        let node = &mut self.nodes[at];
        node.failures += 1;
        let wait = retry::delay(node.failures, WAIT_MAX, &mut self.random);
        node.health = Health::Down { until: now + wait };
        node.reason = Some(reason);
    }

    pub(super) fn any_up(&self) -> bool {
        self.nodes.iter().any(|node| node.health == Health::Up)
    }

    /// Why none is up, once that is known of each.
    pub(super) fn all_down(&self) -> Option<Error> {
        let down = |node: &Node| matches!(node.health, Health::Down { .. });
        let last = self.nodes.iter().rev().find_map(|node| node.reason.clone());
        last.filter(|_| self.nodes.iter().all(down))
    }

    /// What to tell those who waited in vain.
    pub(super) fn reason(&self) -> Arc<str> {
        let reason = self.nodes.iter().rev().find_map(|node| node.reason.as_ref());
        reason.map_or_else(|| "no nsqd answered in time".into(), |e| e.to_string().into())
    }

    /// When [`take_due`](Self::take_due) has something.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let waits = self.nodes.iter().filter_map(|node| match node.health {
            Health::Down { until } => Some(until),
            _ => None,
        });
        waits.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Nodes {
        Nodes::new((0..count).map(|at| format!("host:{at}").into()).collect(), 1)
    }

    #[test]
    fn those_that_are_up_take_turns() {
        let mut nodes = nodes(3);
        assert_eq!(nodes.choose(|_| true), None);
        let due: Vec<_> = nodes.take_due(Duration::ZERO).into_iter().map(|(at, _)| at).collect();
        assert_eq!(due, [0, 1, 2]);
        assert!(nodes.take_due(Duration::ZERO).is_empty());
        nodes.up(0);
        nodes.up(2);
        nodes.down(1, Error::Stopped, Duration::ZERO);
        let chosen: Vec<_> = (0..4).filter_map(|_| nodes.choose(|_| true)).collect();
        assert_eq!(chosen, [0, 2, 0, 2]);
        assert_eq!(nodes.choose(|at| at == 2), Some(2));
        assert_eq!(nodes.choose(|_| false), None);
    }

    #[test]
    fn those_that_are_down_are_tried_again_ever_later() {
        let mut nodes = nodes(1);
        let mut now = Duration::ZERO;
        let mut waited = Duration::ZERO;
        for round in 0..12 {
            assert_eq!(nodes.take_due(now).len(), 1, "round {round}");
            nodes.down(0, Error::NotConnected("x".into()), now);
            assert!(nodes.take_due(now).is_empty());
            let due = nodes.deadline().unwrap();
            waited = due - now;
            now = due;
        }
        assert!(waited >= WAIT_MAX / 2 && waited <= WAIT_MAX);
        assert_eq!(nodes.all_down(), Some(Error::NotConnected("x".into())));
        nodes.take_due(now);
        assert_eq!(nodes.all_down(), None);
        nodes.up(0);
        nodes.works(0);
        nodes.down(0, Error::Stopped, now);
        assert!(nodes.deadline().unwrap() <= now + Duration::from_millis(100));
    }
}
