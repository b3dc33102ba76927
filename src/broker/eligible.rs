//! The subscribers of a channel that may have room for a message, nearest first.
//!
//! With the experiment `topology-aware-consumption` a message goes to a client in the daemon's own
//! zone if one has room, else to one in its region, else to any. Without it all are alike. Within
//! one class they take turns.

use std::collections::VecDeque;

/// How near a client is, by what it said in IDENTIFY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proximity {
    /// In the daemon's zone.
    Zone,
    /// In the daemon's region.
    Region,
    /// Anywhere else, or unknown, or the experiment is off.
    Global,
}

/// See the module's text. A session is in here at most once; its own flag says so.
#[derive(Debug, Default)]
pub struct Eligible {
    queues: [VecDeque<u32>; 3],
}

impl Eligible {
    /// Whether nobody is in here.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Adds a session, by slot, behind those of its class.
    pub fn push(&mut self, proximity: Proximity, session: u32) {
        self.queues[proximity as usize].push_back(session);
    }

    /// Takes the session whose turn it is, and says how many of its class there are with it.
    pub fn pop(&mut self) -> Option<(u32, usize)> {
        let nearest = self.queues.iter_mut().find(|queue| !queue.is_empty())?;
        let alike = nearest.len();
        nearest.pop_front().map(|session| (session, alike))
    }

    /// Takes a session out.
    pub fn remove(&mut self, session: u32) {
        for queue in &mut self.queues {
            queue.retain(|other| *other != session);
        }
    }

    /// All of them, nearest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.queues.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_served_first_and_take_turns() {
        let mut eligible = Eligible::default();
        eligible.push(Proximity::Global, 1);
        eligible.push(Proximity::Zone, 2);
        eligible.push(Proximity::Region, 3);
        eligible.push(Proximity::Zone, 4);
        assert_eq!(eligible.iter().collect::<Vec<_>>(), [2, 4, 3, 1]);
        assert_eq!(eligible.pop(), Some((2, 2)));
        eligible.push(Proximity::Zone, 2);
        assert_eq!(eligible.pop(), Some((4, 2)));
        eligible.remove(2);
        assert_eq!(eligible.pop(), Some((3, 1)));
        assert_eq!(eligible.pop(), Some((1, 1)));
        assert!(eligible.is_empty());
    }
}
