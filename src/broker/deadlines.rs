//! The one deadline structure of a shard: a binary heap of timers that knows where each timer is.
//!
//! A session has one timer and a channel has one, armed for the earliest thing that can be due
//! there; nothing is armed per message. Arming, disarming and re-arming are O(log timers) through
//! the back-index, and [`Deadlines::next`] is the only time the event loop waits for.

use super::time::Time;

/// Whom a timer wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A session, by slot: heartbeat, client deadline, message timeout.
    Session(u32),
    /// A channel, by slot: deferred messages, and what policies ask for.
    Channel(u32),
    /// A topic, by index: what its own queue has held for too long.
    Topic(u32),
    /// The logs: syncs, checkpoints, what is to be tried again.
    Logs,
}

/// A timer, armed or not, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerId(u32);

/// See the module's text. Invariant: `timers[heap[i].timer].position == i` for every `i`, and
/// `heap[i].due >= heap[(i - 1) / 2].due`.
#[derive(Debug, Default)]
pub struct Deadlines {
    heap: Vec<Armed>,
    timers: Vec<Timer>,
    free: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Armed {
    due: Time,
    timer: u32,
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    owner: Owner,
    /// Index into the heap, or [`UNARMED`].
    position: u32,
}

const UNARMED: u32 = u32::MAX;

impl Deadlines {
    /// Adds an unarmed timer.
    pub fn add(&mut self, owner: Owner) -> TimerId {
        let timer = Timer { owner, position: UNARMED };
        if let Some(index) = self.free.pop() {
            self.timers[index as usize] = timer;
            return TimerId(index);
        }
        self.timers.push(timer);
        TimerId(u32::try_from(self.timers.len() - 1).expect("fewer timers than sessions"))
    }

    /// Disarms and forgets a timer; its id may be given out again.
    pub fn remove(&mut self, timer: TimerId) {
        self.disarm(timer);
        self.free.push(timer.0);
    }

    /// Arms a timer, or moves it when it is armed. [`Time::NEVER`] disarms.
    pub fn arm(&mut self, timer: TimerId, due: Time) {
        if due == Time::NEVER {
            return self.disarm(timer);
        }
        let position = self.timers[timer.0 as usize].position;
        if position == UNARMED {
            self.heap.push(Armed { due, timer: timer.0 });
            self.sift_up(self.heap.len() - 1);
        } else {
            let position = position as usize;
            let earlier = due < self.heap[position].due;
            self.heap[position].due = due;
            if earlier {
                self.sift_up(position);
            } else {
                self.sift_down(position);
            }
        }
    }

    /// Disarms a timer; nothing happens when it is not armed.
    pub fn disarm(&mut self, timer: TimerId) {
        let position = self.timers[timer.0 as usize].position;
        if position == UNARMED {
            return;
        }
        self.timers[timer.0 as usize].position = UNARMED;
        let position = position as usize;
        let last = self.heap.pop().expect("an armed timer is in the heap");
        if position < self.heap.len() {
            self.heap[position] = last;
            self.sift_up(position);
            self.sift_down(self.timers[last.timer as usize].position as usize);
        }
    }

    /// When the timer is due; [`Time::NEVER`] when it is not armed.
    pub fn due(&self, timer: TimerId) -> Time {
        match self.timers[timer.0 as usize].position {
            UNARMED => Time::NEVER,
            position => self.heap[position as usize].due,
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.heap.first().map(|armed| armed.due)
    }

    /// Takes one timer that is due at `now`, disarming it; earliest first.
    pub fn pop_due(&mut self, now: Time) -> Option<Owner> {
        let first = self.heap.first().filter(|armed| armed.due <= now)?;
        let timer = first.timer;
        self.disarm(TimerId(timer));
        Some(self.timers[timer as usize].owner)
    }

    fn sift_up(&mut self, mut position: usize) {
        let moving = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].due <= moving.due {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, moving);
    }

    fn sift_down(&mut self, mut position: usize) {
        let moving = self.heap[position];
        loop {
            let mut child = 2 * position + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1].due < self.heap[child].due {
                child += 1;
            }
            if moving.due <= self.heap[child].due {
                break;
            }
            self.place(position, self.heap[child]);
            position = child;
        }
        self.place(position, moving);
    }

    fn place(&mut self, position: usize, armed: Armed) {
        self.heap[position] = armed;
        self.timers[armed.timer as usize].position =
            u32::try_from(position).expect("fewer timers than sessions");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(deadlines: &mut Deadlines) -> Vec<u32> {
        std::iter::from_fn(|| deadlines.pop_due(Time::NEVER))
            .map(|owner| match owner {
                Owner::Session(index) | Owner::Channel(index) | Owner::Topic(index) => index,
                Owner::Logs => u32::MAX,
            })
            .collect()
    }

    #[test]
    fn b14_priority_queues_pop_in_order_of_time() {
        let mut deadlines = Deadlines::default();
        for due in [5u32, 1, 4, 2, 3] {
            let timer = deadlines.add(Owner::Session(due));
            deadlines.arm(timer, Time(u64::from(due)));
        }
        assert_eq!(deadlines.next(), Some(Time(1)));
        assert_eq!(drain(&mut deadlines), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn b14_nothing_is_popped_before_its_time() {
        let mut deadlines = Deadlines::default();
        let timer = deadlines.add(Owner::Channel(7));
        deadlines.arm(timer, Time(10));
        assert_eq!(deadlines.pop_due(Time(9)), None);
        assert_eq!(deadlines.pop_due(Time(10)), Some(Owner::Channel(7)));
        assert_eq!(deadlines.due(timer), Time::NEVER);
    }

    proptest! {
        /// Against a plain sorted list: arming, re-arming and removing in any order.
        #[test]
        fn b14_arbitrary_removal_keeps_order(
            operations in proptest::collection::vec((0usize..20, 0u64..50, 0u8..4), 1..200)
        ) {
            let mut deadlines = Deadlines::default();
            let timers: Vec<_> =
                (0..20).map(|index| deadlines.add(Owner::Session(index))).collect();
            let mut model = [None::<u64>; 20];
            for (index, due, kind) in operations {
                if kind == 0 {
                    deadlines.disarm(timers[index]);
                    model[index] = None;
                } else {
                    deadlines.arm(timers[index], Time(due));
                    model[index] = Some(due);
                }
                let earliest = model.iter().flatten().min().map(|due| Time(*due));
                prop_assert_eq!(deadlines.next(), earliest);
            }
            let popped = drain(&mut deadlines);
            let times: Vec<_> = popped.iter().map(|i| model[*i as usize].unwrap()).collect();
            prop_assert!(times.is_sorted());
            prop_assert_eq!(popped.len(), model.iter().flatten().count());
        }
    }
}
