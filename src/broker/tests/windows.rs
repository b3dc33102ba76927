//! RDY windows are absolute, and deadlines are met to the nanosecond.

use super::world::{Frame, MS, World, identify, publish, publish_all};
use crate::broker::time::Span;
use proptest::prelude::*;

fn ids(frames: &[Frame]) -> Vec<String> {
    let id = |frame: &Frame| match frame {
        Frame::Message { id, .. } => Some(id.clone()),
        _ => None,
    };
    frames.iter().filter_map(id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a consumer does, it holds as many messages as its latest window says, as long as
    /// there are any, and more only if the window shrank below what it holds.
    #[test]
    fn windows_are_absolute(steps in prop::collection::vec((0u8..4, 0u64..20), 1..60)) {
        let mut world = World::new(1);
        let consumer = world.connect(0);
        world.ask(consumer, "SUB t c\n");
        world.ask(consumer, publish_all("t", &vec![b"x".to_vec(); 2000]));
        let (mut window, mut held) = (0, Vec::new());
        for (kind, number) in steps {
            let some = usize::try_from(number).unwrap().min(held.len());
            let commands: String = match kind {
                0 => {
                    window = number;
                    format!("RDY {number}\n")
                }
                1 => held.drain(..some).map(|id| format!("FIN {id}\n")).collect(),
                2 => held.drain(..some).map(|id| format!("REQ {id} 0\n")).collect(),
                _ => held.iter().map(|id| format!("TOUCH {id}\n")).collect(),
            };
            let before = held.len() as u64;
            let frames = world.ask(consumer, commands);
            held.extend(ids(&frames));
            prop_assert_eq!(held.len() as u64, before.max(window));
            prop_assert_eq!(world.session(consumer).in_flight_count, held.len() as u64);
        }
    }

    /// A message is never requeued before its deadline, and is when the shard is woken then. TOUCH
    /// moves the deadline to a full timeout from now, capped at the maximum after delivery.
    #[test]
    fn a_message_times_out_at_its_deadline(
        timeout_ms in 1000u64..5000,
        max_ms in 1000u64..12_000,
        pauses_ms in prop::collection::vec(1u64..2000, 0..8),
    ) {
        let mut world = World::with(1, |config| {
            config.max_message_timeout = Span::from_ms(max_ms.max(timeout_ms));
        });
        let consumer = world.connect(0);
        world.ask(consumer, identify(&format!(r#"{{"msg_timeout":{timeout_ms}}}"#)));
        world.ask(consumer, "SUB t c\nRDY 1\n");
        let id = ids(&world.ask(consumer, publish("t", b"x"))).remove(0);
        world.ask(consumer, "RDY 0\n");
        let delivered = world.now.time.0;
        let cap = delivered + max_ms.max(timeout_ms) * MS;
        let mut deadline = delivered + timeout_ms * MS;
        for pause_ms in pauses_ms {
            if world.now.time.0 + pause_ms * MS >= deadline {
                break;
            }
            world.pass_ms(pause_ms);
            let frames = world.ask(consumer, format!("TOUCH {id}\n"));
            prop_assert_eq!(frames, vec![]);
            deadline = (world.now.time.0 + timeout_ms * MS).min(cap);
        }
        world.now.time.0 = deadline - 1;
        world.settle();
        prop_assert_eq!(world.session(consumer).in_flight_count, 1);
        // The shard asks to be woken no later than the deadline.
        let due = world.shards[0].next_deadline().unwrap();
        prop_assert!(due.0 <= deadline);
        world.now.time.0 = deadline;
        world.settle();
        prop_assert_eq!(world.session(consumer).in_flight_count, 0);
        let (_, channel) = world.shards[0].channels.iter().next().unwrap();
        prop_assert_eq!((channel.counts.timed_out, channel.ready.len()), (1, 1));
    }
}

#[test]
fn a15_a_touched_message_does_not_time_out() {
    let mut world = World::with(1, |config| {
        config.defaults.message_timeout = Span::from_ms(150);
    });
    let consumer = world.connect(0);
    world.ask(consumer, "SUB t c\nRDY 1\n");
    let id = ids(&world.ask(consumer, publish("t", b"x"))).remove(0);
    world.pass_ms(75);
    world.ask(consumer, format!("TOUCH {id}\n"));
    world.pass_ms(100);
    assert_eq!(world.ask(consumer, format!("FIN {id}\n")), []);
    let (_, channel) = world.shards[0].channels.iter().next().unwrap();
    assert_eq!((channel.counts.timed_out, channel.counts.finished), (0, 1));
}
