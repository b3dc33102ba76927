//! Mail between shards: one bounded single-producer single-consumer queue for each ordered pair,
//! and the rule by which a sleeping shard is woken exactly when there is mail for it.
//!
//! A turn of a shard's loop, as far as mail is concerned:
//!
//! ```text
//! drain → work, send → ring_doorbells → prepare_to_sleep
//!       → enter (until the next deadline if that said true, else with a timeout of 0) → wake_up
//! ```

mod sleep;
#[cfg(test)]
mod tests;

/// The atomics of [`sleep`], named here so that its model test can replace them.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
}

use std::sync::{Arc, OnceLock};

use rtrb::{Consumer, Producer, RingBuffer};

use super::{PeerIndex, Uring, WakeHandle};
use sleep::SleepFlag;

/// What shards know of each other.
#[derive(Default)]
struct Doorbell {
    sleep: SleepFlag,
    /// Set before the shard sleeps for the first time.
    handle: OnceLock<WakeHandle>,
}

/// One shard's end of all its queues. It moves to the shard's thread and stays there.
pub struct Mailboxes<T> {
    shard: usize,
    /// By shard; this shard's own places are `None`.
    outgoing: Vec<Option<Producer<T>>>,
    incoming: Vec<Option<Consumer<T>>>,
    doorbells: Arc<[Doorbell]>,
    /// Peers that were sent mail since their doorbell was last looked at.
    posted: Vec<bool>,
    any_posted: bool,
    peers: Vec<Option<PeerIndex>>,
}

/// Makes the mailboxes of `shards` shards: element `i` is for shard `i`. Each queue holds
/// `capacity` pieces of mail.
pub fn mesh<T: Send>(shards: usize, capacity: usize) -> Vec<Mailboxes<T>> {
    let doorbells: Arc<[Doorbell]> = (0..shards).map(|_| Doorbell::default()).collect();
    let mut all: Vec<Mailboxes<T>> = (0..shards)
        .map(|shard| Mailboxes {
            shard,
            outgoing: (0..shards).map(|_| None).collect(),
            incoming: (0..shards).map(|_| None).collect(),
            doorbells: Arc::clone(&doorbells),
            posted: vec![false; shards],
            any_posted: false,
            peers: vec![None; shards],
        })
        .collect();
    for from in 0..shards {
        for to in (0..shards).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(capacity);
            all[from].outgoing[to] = Some(producer);
            all[to].incoming[from] = Some(consumer);
        }
    }
    all
}

impl<T: Send> Mailboxes<T> {
    /// The shard these belong to.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Tells the peers how to wake this shard. Call it once, on the shard's thread, before the
    /// first turn.
    pub fn connect(&self, reactor: &Uring) {
        let _ = self.doorbells[self.shard].handle.set(reactor.wake_handle());
    }

    /// Puts mail into the queue to another shard. The peer is woken by
    /// [`ring_doorbells`](Self::ring_doorbells), not before.
    ///
    /// # Errors
    ///
    /// The mail, when that queue is full: keep it, and take no more work that leads there until the
    /// peer has caught up.
    ///
    /// # Panics
    ///
    /// When `to` is this shard, or none.
    pub fn send(&mut self, to: usize, mail: T) -> Result<(), T> {
        let queue = self.outgoing[to].as_mut().expect("a shard sends itself no mail");
        queue.push(mail).map_err(|rtrb::PushError::Full(mail)| mail)?;
        self.posted[to] = true;
        self.any_posted = true;
        Ok(())
    }

    /// How much more mail fits into the queue to another shard. At least as much will fit until
    /// then, since nobody else writes to it.
    ///
    /// # Panics
    ///
    /// When `to` is this shard, or none.
    pub fn room(&self, to: usize) -> usize {
        self.outgoing[to].as_ref().expect("a shard sends itself no mail").slots()
    }

    /// Takes mail, at most `limit` pieces from each peer, and hands each to `deliver` with the
    /// shard it comes from. Returns how many there were.
    pub fn drain(&mut self, limit: usize, mut deliver: impl FnMut(usize, T)) -> usize {
        let mut taken = 0;
        for (from, queue) in self.incoming.iter_mut().enumerate() {
            let Some(queue) = queue else { continue };
            for _ in 0..limit {
                let Ok(mail) = queue.pop() else { break };
                deliver(from, mail);
                taken += 1;
            }
        }
        taken
    }

    /// Whether there is mail to take.
    pub fn has_mail(&self) -> bool {
        self.incoming.iter().flatten().any(|queue| !queue.is_empty())
    }

    /// Wakes, with the reactor's next `enter`, the peers that sleep and were sent mail.
    pub fn ring_doorbells(&mut self, reactor: &mut Uring) {
        if !self.any_posted {
            return;
        }
        self.any_posted = false;
        for to in 0..self.posted.len() {
            if !std::mem::take(&mut self.posted[to]) || !self.doorbells[to].sleep.must_wake() {
                continue;
            }
            let peer = *self.peers[to].get_or_insert_with(|| {
                let handle = self.doorbells[to].handle.get();
                reactor.add_peer(handle.expect("connected before it slept").clone())
            });
            reactor.wake(peer);
        }
    }

    /// Announces that this shard is going to wait, unless it has mail. On `true` every later mail
    /// rings; on `false` it must not wait.
    ///
    /// # Panics
    ///
    /// When [`connect`](Self::connect) was not called.
    pub fn prepare_to_sleep(&self) -> bool {
        let doorbell = &self.doorbells[self.shard];
        assert!(doorbell.handle.get().is_some(), "nobody could wake this shard");
        doorbell.sleep.prepare(|| self.has_mail())
    }

    /// Announces that this shard no longer waits, so that peers need not ring.
    pub fn wake_up(&self) {
        self.doorbells[self.shard].sleep.clear();
    }
}
