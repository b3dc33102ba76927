//! The protocol of `sleep.rs`, compiled again on loom's atomics and tried in every interleaving.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[expect(clippy::duplicate_mod, reason = "the same code on other atomics is the point")]
#[path = "../sleep.rs"]
mod sleep;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};

/// A queue is represented by the count of what was put into it, as `rtrb` publishes it; the
/// kernel by the count of wake-ups, which a sleeper that waits for one sees.
#[derive(Default)]
struct World {
    flag: sleep::SleepFlag,
    queues: [AtomicUsize; 2],
    rung: AtomicUsize,
}

impl World {
    fn mail(&self) -> usize {
        self.queues.iter().map(|queue| queue.load(Ordering::Acquire)).sum()
    }
}

fn send(world: &World, queue: usize) {
    world.queues[queue].fetch_add(1, Ordering::Release);
    if world.flag.must_wake() {
        world.rung.fetch_add(1, Ordering::Release);
    }
}

fn check(senders: usize, preemption_bound: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemption_bound;
    model.check(move || {
        let world = Arc::new(World::default());
        let senders: Vec<_> = (0..senders)
            .map(|queue| {
                let world = Arc::clone(&world);
                loom::thread::spawn(move || send(&world, queue))
            })
            .collect();
        let sleeps = world.flag.prepare(|| world.mail() > 0);
        for sender in senders {
            sender.join().unwrap();
        }
        let rung = world.rung.load(Ordering::Acquire);
        assert!(rung <= 1, "it was rung {rung} times");
        assert!(!sleeps || rung == 1, "it sleeps on its mail");
    });
}

#[test]
fn a_sleeper_is_woken_or_sees_its_mail() {
    check(1, None);
}

/// Of three threads only the interleavings with few changes between them, for the sake of time.
#[test]
fn two_senders_wake_once() {
    check(2, Some(2));
}
