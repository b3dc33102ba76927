//! A world of nsqds in virtual time: some with messages, some without.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MS: Duration = Duration::from_millis(1);

const PACE: Pace = Pace {
    idle: Duration::from_millis(100),
    turn: Duration::from_secs(1),
    redistribute: Duration::from_secs(5),
};

fn distribution(max_in_flight: u32) -> ReadyDistribution {
    ReadyDistribution::new(max_in_flight, PACE, 3)
}

fn changes(distribution: &mut ReadyDistribution) -> Vec<(u32, u32)> {
    distribution.changes().collect()
}

#[test]
fn one_connection_gets_everything() {
    let mut one = distribution(5);
    one.add(7, 2500, Duration::ZERO);
    assert_eq!(changes(&mut one), [(7, 5)]);
    // J6: a pause and its end.
    one.set_max_in_flight(0, MS);
    assert_eq!(changes(&mut one), [(7, 0)]);
    one.set_max_in_flight(5, 2 * MS);
    assert_eq!(changes(&mut one), [(7, 5)]);
    one.set_max_in_flight(3000, 3 * MS);
    assert_eq!(changes(&mut one), [(7, 2500)]);
}

#[test]
fn others_are_lowered_before_a_new_connection_is_raised() {
    let mut shared = distribution(10);
    shared.add(0, 2500, Duration::ZERO);
    assert_eq!(changes(&mut shared), [(0, 10)]);
    shared.add(1, 2500, MS);
    assert_eq!(changes(&mut shared), [(0, 5), (1, 5)]);
    shared.add(2, 2500, MS);
    assert_eq!(changes(&mut shared), [(0, 4), (1, 3), (2, 3)]);
    shared.remove(0, MS);
    assert_eq!(changes(&mut shared), [(1, 5), (2, 5)]);
}

/// H4: as many as may be chosen, or as many as there are, all different.
#[test]
fn h4_a_small_window_goes_to_different_connections() {
    for (window, connections, chosen) in [(2, 5, 2), (3, 3, 3), (4, 3, 3), (1, 5, 1)] {
        let mut shared = distribution(window);
        let mut ready = BTreeMap::new();
        for connection in 0..connections {
            shared.add(connection, 2500, Duration::ZERO);
            ready.extend(changes(&mut shared));
        }
        ready.retain(|_, count| *count > 0);
        assert_eq!(ready.len(), chosen, "{window} for {connections}: {ready:?}");
        assert_eq!(ready.values().sum::<u32>(), window, "{ready:?}");
    }
}

#[test]
fn what_is_in_hand_counts_until_it_is_answered() {
    let mut shared = distribution(4);
    shared.add(0, 2500, Duration::ZERO);
    for _ in 0..4 {
        shared.delivered(0, MS);
    }
    changes(&mut shared);
    shared.add(1, 2500, 2 * MS);
    // One is busy: it gets all but the newcomer's one, which has to wait for an answer.
    assert_eq!(changes(&mut shared), [(0, 3)]);
    shared.answered(0, 3 * MS);
    assert_eq!(changes(&mut shared), [(1, 1)]);
}

#[test]
fn idle_connections_leave_their_share_to_busy_ones() {
    let mut shared = distribution(10);
    shared.add(0, 2500, Duration::ZERO);
    shared.add(1, 2500, Duration::ZERO);
    changes(&mut shared);
    shared.delivered(1, MS);
    assert_eq!(changes(&mut shared), [(0, 1), (1, 9)]);
    shared.answered(1, MS);
    assert_eq!(shared.deadline(), Some(MS + PACE.redistribute));
    shared.tick(MS + PACE.redistribute);
    assert_eq!(changes(&mut shared), [(1, 5), (0, 5)]);
}

#[test]
fn an_idle_turn_is_passed_on_at_once() {
    let mut turns = distribution(1);
    for key in 0..3 {
        turns.add(key, 2500, Duration::ZERO);
    }
    let mut having: BTreeMap<u32, u32> = changes(&mut turns).into_iter().collect();
    let mut seen = Vec::new();
    for _ in 0..6 {
        having.retain(|_, ready| *ready > 0);
        let now = turns.deadline().unwrap();
        seen.extend(having.keys().copied());
        turns.tick(now);
        having.extend(changes(&mut turns));
    }
    assert_eq!(turns.deadline(), Some(7 * PACE.idle));
    let mut round = seen[..3].to_vec();
    round.sort_unstable();
    assert_eq!(round, [0, 1, 2]);
    assert_eq!(seen[..3], seen[3..]);
}

#[test]
fn testing_the_waters_asks_one_connection_for_one_message() {
    let mut several = distribution(100);
    for key in 0..4 {
        several.add(key, 2500, Duration::ZERO);
    }
    changes(&mut several);
    several.set_limit(Limit::Nothing, MS);
    assert_eq!(changes(&mut several), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    several.set_limit(Limit::One, 2 * MS);
    let tested = changes(&mut several);
    assert!(matches!(tested[..], [(_, 1)]), "{tested:?}");
    several.set_limit(Limit::All, 3 * MS);
    assert_eq!(changes(&mut several).len(), 4);
    assert!(!several.is_starved());
}

/// One nsqd of the simulated world.
#[derive(Debug, Default)]
struct Nsqd {
    ready: u32,
    in_flight: u32,
    backlog: u32,
    sent: u32,
}

/// Runs nsqds with these backlogs for a while; each message is worked on for `work`.
fn run(max_in_flight: u32, backlogs: &[u32], work: Duration, time: Duration) -> Vec<Nsqd> {
    let mut distribution = distribution(max_in_flight);
    let mut nsqds: Vec<Nsqd> =
        backlogs.iter().map(|backlog| Nsqd { backlog: *backlog, ..Nsqd::default() }).collect();
    for key in 0..nsqds.len() {
        distribution.add(u32::try_from(key).unwrap(), 2500, Duration::ZERO);
    }
    let mut answers: VecDeque<(Duration, usize)> = VecDeque::new();
    let mut now = Duration::ZERO;
    while now < time {
        distribution.tick(now);
        while answers.front().is_some_and(|(due, _)| *due <= now) {
            let (_, at) = answers.pop_front().unwrap();
            nsqds[at].in_flight -= 1;
            distribution.answered(u32::try_from(at).unwrap(), now);
        }
        for (key, ready) in distribution.changes() {
            nsqds[key as usize].ready = ready;
        }
        for (at, nsqd) in nsqds.iter_mut().enumerate() {
            while nsqd.backlog > 0 && nsqd.in_flight < nsqd.ready {
                nsqd.backlog -= 1;
                nsqd.in_flight += 1;
                nsqd.sent += 1;
                answers.push_back((now + work, at));
                distribution.delivered(u32::try_from(at).unwrap(), now);
            }
        }
        let asked: u32 = nsqds.iter().map(|nsqd| nsqd.ready).sum();
        let held: u32 = nsqds.iter().map(|nsqd| nsqd.in_flight).sum();
        assert!(asked <= max_in_flight && held <= max_in_flight, "{asked} asked, {held} held");
        now += MS;
    }
    nsqds
}

/// dudleycarr/nsqjs#242: twenty nsqds, one message at a time.
#[test]
fn twenty_nsqds_and_one_message_in_flight() {
    let mut backlogs = [0; 20];
    backlogs[13] = 1;
    let nsqds = run(1, &backlogs, 5 * MS, Duration::from_secs(3));
    assert_eq!(nsqds[13].sent, 1, "a turn comes round in 20 idle times");
    let nsqds = run(1, &[1000; 20], 5 * MS, Duration::from_secs(41));
    assert!(nsqds.iter().all(|nsqd| nsqd.sent > 150), "every busy nsqd has its turns: {nsqds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Nobody starves, and the limit holds: whatever the backlogs, all is delivered in a time that
    /// the turns and the work explain.
    #[test]
    fn nobody_starves(
        max_in_flight in 1..12_u32,
        backlogs in prop::collection::vec(0..12_u32, 1..8),
        work_ms in 1..40_u32,
    ) {
        let messages: u32 = backlogs.iter().sum();
        let connections = u32::try_from(backlogs.len()).unwrap();
        let time = PACE.idle * connections * 3 + (work_ms + 2) * messages * MS + PACE.turn * 2;
        let nsqds = run(max_in_flight, &backlogs, work_ms * MS, time);
        prop_assert!(nsqds.iter().all(|nsqd| nsqd.backlog == 0), "{:?}", nsqds);
    }

    /// Any order of calls keeps the limit.
    #[test]
    fn any_order_of_events_keeps_the_limit(
        events in prop::collection::vec((0..8_u8, 0..6_u32, 0..300_u64), 1..200),
    ) {
        let mut distribution = distribution(5);
        let mut max_in_flight = 5;
        let mut ready: BTreeMap<u32, u32> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for (event, key, pause_ms) in events {
            now += Duration::from_millis(pause_ms);
            distribution.tick(now);
            match event {
                0 | 1 if !ready.contains_key(&key) => {
                    distribution.add(key, 2500, now);
                    ready.insert(key, 0);
                }
                2 => {
                    distribution.remove(key, now);
                    ready.remove(&key);
                }
                3 if ready.get(&key).is_some_and(|r| *r > distribution.in_flight(key)) => {
                    distribution.delivered(key, now);
                }
                4 if distribution.in_flight(key) > 0 => distribution.answered(key, now),
                5 => {
                    max_in_flight = key;
                    distribution.set_max_in_flight(key, now);
                }
                6 => {
                    let limit = [Limit::All, Limit::One, Limit::Nothing][key as usize % 3];
                    distribution.set_limit(limit, now);
                }
                _ => {}
            }
            for (key, count) in distribution.changes() {
                let before = ready.insert(key, count);
                prop_assert!(before.is_some(), "RDY for a connection that is not there");
            }
            prop_assert!(ready.values().sum::<u32>() <= max_in_flight);
        }
    }
}
