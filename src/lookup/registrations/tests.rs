//! The database against its promises: cases by number, and random operations beside a naive model.

use super::*;
use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

const PATIENCE: Patience = Patience {
    inactive_after: Duration::from_secs(300),
    tombstone_lifetime: Duration::from_secs(45),
};

fn at(seconds: u64) -> Moment {
    let elapsed = Duration::from_secs(seconds);
    Moment { elapsed, wall_ns: i64::try_from(seconds).unwrap() * 1_000_000_000 }
}

fn topic(name: &str) -> TopicName {
    TopicName::parse(name.as_bytes()).unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name.as_bytes()).unwrap()
}

/// An nsqd at `host<number>:4151`.
fn peer(number: usize) -> Peer {
    Peer {
        remote_address: format!("127.0.0.1:{number}"),
        broadcast_address: format!("host{number}"),
        tcp_port: 4150,
        http_port: 4151,
        version: "1.3.0".to_owned(),
        ..Peer::default()
    }
}

fn json_of(document: &impl Serialize) -> Value {
    serde_json::to_value(document).unwrap()
}

/// Numbers of the peers in a list of producers.
fn numbers(producers: &Value) -> Vec<usize> {
    let peers = producers.as_array().unwrap().iter();
    let number = |peer: &Value| peer["broadcast_address"].as_str()?[4..].parse().ok();
    peers.map(|peer| number(peer).unwrap()).collect()
}

impl Registrations {
    /// The invariant of the module's documentation.
    fn check(&self) {
        let mut placements = 0;
        assert_eq!(self.ids.len(), self.registrations.len());
        for (key, id) in &self.ids {
            let registration = &self.registrations[*id];
            assert_eq!(*key, registration.key);
            for producer in registration.producers.keys() {
                assert!(self.producers[producer.0].registrations.contains(id));
                placements += 1;
            }
        }
        let own = self.producers.iter().map(|(_, producer)| producer.registrations.len());
        assert_eq!(own.sum::<usize>(), placements);
        assert_eq!(self.placements, placements);
    }

    /// Numbers of the peers that a look-up finds, and the channels; `None` for "not found".
    fn found(&self, pattern: &str, now: Moment) -> Option<(Vec<usize>, Value)> {
        let pattern = TopicPattern::parse(pattern.as_bytes()).unwrap();
        let document = json_of(&self.lookup(pattern, now, &PATIENCE)?);
        Some((numbers(&document["producers"]), document["channels"].clone()))
    }
}

#[test]
fn f8_wildcards_find_everything_once() {
    let mut db = Registrations::new(Limits::default());
    let one = db.identify(peer(1), at(0));
    let two = db.identify(peer(2), at(0));
    db.register(one, topic("a"), Some(channel("x"))).unwrap();
    db.register(one, topic("a-b"), Some(channel("x"))).unwrap();
    db.register(two, topic("b"), Some(channel("y"))).unwrap();
    db.register(two, topic("a"), None).unwrap();
    assert_eq!(db.found("a", at(1)), Some((vec![1, 2], json!(["x"]))));
    assert_eq!(db.found("b", at(1)), Some((vec![2], json!(["y"]))));
    assert_eq!(db.found("*", at(1)), Some((vec![1, 2], json!(["x", "y"]))));
    assert_eq!(db.found("c", at(1)), None);
    assert_eq!(json_of(&db.topics()), json!({"topics": ["a", "a-b", "b"]}));
    let channels = |pattern| json_of(&db.channels(pattern));
    assert_eq!(channels(TopicPattern::Exactly(topic("a"))), json!({"channels": ["x"]}));
    assert_eq!(channels(TopicPattern::All), json!({"channels": ["x", "y"]}));
    assert_eq!(channels(TopicPattern::Exactly(topic("c"))), json!({"channels": []}));
    assert_eq!(Registrations::new(Limits::default()).found("*", at(1)), None);
    assert_eq!(TopicPattern::parse(b"x$"), None);
}

#[test]
fn f8_the_inactive_are_not_found_until_they_ping() {
    let mut db = Registrations::new(Limits::default());
    let one = db.identify(peer(1), at(0));
    let two = db.identify(peer(2), at(200));
    for id in [one, two] {
        db.register(id, topic("t"), None).unwrap();
    }
    assert_eq!(db.found("t", at(300)).unwrap().0, [1, 2], "active at the very last");
    assert_eq!(db.found("t", at(301)).unwrap().0, [2]);
    let nodes = |db: &Registrations, now| numbers(&json_of(&db.nodes(now, &PATIENCE))["producers"]);
    assert_eq!(nodes(&db, at(301)), [2]);
    assert_eq!(db.counts(at(301), &PATIENCE).producers_inactive, 1);
    // A registration is no sign of life.
    db.register(one, topic("u"), None).unwrap();
    assert_eq!(nodes(&db, at(301)), [2]);
    assert_eq!(db.ping(one, at(302)), Duration::from_secs(302));
    assert_eq!(nodes(&db, at(302)), [1, 2]);
}

#[test]
fn f8_a_tombstone_hides_one_topic_for_a_time() {
    let mut db = Registrations::new(Limits::default());
    let one = db.identify(peer(1), at(0));
    let two = db.identify(peer(2), at(0));
    for name in ["t", "u"] {
        db.register(one, topic(name), None).unwrap();
        db.register(two, topic(name), None).unwrap();
    }
    assert_eq!(db.tombstone(topic("t"), b"host1:4151", at(10)), 1);
    assert_eq!(db.tombstone(topic("t"), b"host1:4150", at(10)), 0);
    assert_eq!(db.tombstone(topic("unknown"), b"host1:4151", at(10)), 0);
    assert_eq!(db.found("t", at(10)).unwrap().0, [2]);
    assert_eq!(db.found("u", at(10)).unwrap().0, [1, 2]);
    assert_eq!(db.found("*", at(10)).unwrap().0, [1, 2], "still found through the other topic");
    let nodes = json_of(&db.nodes(at(10), &PATIENCE));
    assert_eq!(nodes["producers"][0]["topics"], json!(["t", "u"]));
    assert_eq!(nodes["producers"][0]["tombstones"], json!([true, false]));
    assert_eq!(nodes["producers"][1]["tombstones"], json!([false, false]));
    assert_eq!(db.counts(at(10), &PATIENCE).tombstones, 1);
    // Registering again does not lift it; unregistering does.
    db.register(one, topic("t"), None).unwrap();
    assert_eq!(db.found("t", at(54)).unwrap().0, [2]);
    assert_eq!(db.found("t", at(55)).unwrap().0, [1, 2]);
    db.tombstone(topic("t"), b"host1:4151", at(60));
    db.unregister_topic(one, topic("t"));
    db.register(one, topic("t"), None).unwrap();
    assert_eq!(db.found("t", at(61)).unwrap().0, [1, 2]);
}

#[test]
fn f8_registrations_outlive_their_producers() {
    let mut db = Registrations::new(Limits::default());
    let one = db.identify(peer(1), at(0));
    let added = db.register(one, topic("t"), Some(channel("c"))).unwrap();
    assert_eq!(added, Registered { channel: true, topic: true });
    let added = db.register(one, topic("t"), Some(channel("d"))).unwrap();
    assert_eq!(added, Registered { channel: true, topic: false });
    assert!(db.unregister_channel(one, topic("t"), channel("c")));
    assert!(!db.unregister_channel(one, topic("t"), channel("c")));
    assert_eq!(db.found("t", at(1)), Some((vec![1], json!(["c", "d"]))));
    let gone = db.unregister_topic(one, topic("t"));
    assert_eq!(gone, Unregistered { channels: vec![channel("d")], topic: true });
    assert_eq!(db.found("t", at(1)), Some((vec![], json!(["c", "d"]))));
    assert_eq!(db.counts(at(1), &PATIENCE).topics_without_producers, 1);
    assert_eq!(db.delete_topic(topic("t")), (vec![channel("c"), channel("d")], true));
    assert_eq!(db.found("t", at(1)), None);
    assert_eq!(db.disconnect(one), []);
    db.check();
}

#[test]
fn ephemeral_registrations_end_with_their_last_producer() {
    let (t, c) = (topic("t#ephemeral"), channel("c#ephemeral"));
    let mut db = Registrations::new(Limits::default());
    let one = db.identify(peer(1), at(0));
    let two = db.identify(peer(2), at(0));
    for id in [one, two] {
        db.register(id, t, Some(c)).unwrap();
    }
    assert!(db.unregister_channel(one, t, c));
    assert_eq!(db.found("t#ephemeral", at(1)), Some((vec![1, 2], json!(["c#ephemeral"]))));
    assert!(db.unregister_channel(two, t, c));
    assert_eq!(db.found("t#ephemeral", at(1)), Some((vec![1, 2], json!([]))));
    assert!(db.unregister_topic(two, t).topic);
    assert_eq!(db.disconnect(one), [Key::Topic(t)]);
    assert_eq!(db.found("t#ephemeral", at(1)), None);
    // Made over HTTP, one waits for its first producer.
    db.create(&[Key::Topic(t)]).unwrap();
    assert_eq!(db.found("t#ephemeral", at(1)), Some((vec![], json!([]))));
    db.check();
}

#[test]
fn limits_are_kept_and_nothing_is_done_by_halves() {
    let mut db = Registrations::new(Limits { registrations_max: 3, placements_max: 2 });
    let one = db.identify(peer(1), at(0));
    db.register(one, topic("t"), Some(channel("c"))).unwrap();
    assert_eq!(db.register(one, topic("u"), None), Err(Full), "placements");
    assert!(db.register(one, topic("t"), Some(channel("c"))).is_ok(), "nothing new");
    let keys = [Key::Topic(topic("u")), Key::Channel(topic("u"), channel("c"))];
    assert_eq!(db.create(&keys), Err(Full), "registrations");
    assert_eq!(json_of(&db.topics()), json!({"topics": ["t"]}));
    db.create(&keys[..1]).unwrap();
    db.unregister_topic(one, topic("t"));
    assert_eq!(db.register(one, topic("u"), Some(channel("c"))), Err(Full), "registrations");
    db.delete_channel(topic("t"), channel("c"));
    db.register(one, topic("u"), Some(channel("c"))).unwrap();
    db.check();
}

#[test]
fn debug_shows_what_has_producers() {
    let mut db = Registrations::new(Limits::default());
    assert_eq!(json_of(&db.debug()), json!({}));
    let one = db.identify(peer(1), at(5));
    db.register(one, topic("t"), Some(channel("c"))).unwrap();
    db.create(&[Key::Topic(topic("empty"))]).unwrap();
    db.tombstone(topic("t"), b"host1:4151", at(7));
    let document = serde_json::to_string(&db.debug()).unwrap();
    let entry = |tombstone: &str| {
        r#"[{"broadcast_address":"host1","hostname":"","http_port":4151,"#.to_owned()
            + r#""id":"127.0.0.1:1","last_update":5000000000,"tcp_port":4150,"#
            + tombstone
            + r#","topology_region":"","topology_zone":"","version":"1.3.0"}]"#
    };
    let never = entry(r#""tombstoned":false,"tombstoned_at":-6795364578871345152"#);
    let then = entry(r#""tombstoned":true,"tombstoned_at":7000000000"#);
    let expected = format!(r#"{{"channel:t:c":{never},"client::":{never},"topic:t:":{then}}}"#);
    assert_eq!(document, expected);
}

/// The same as lists, with a scan for every question.
#[derive(Default)]
struct Model {
    keys: Vec<Key>,
    /// A producer in a registration, and its tombstone.
    placed: Vec<(Key, usize, Option<Moment>)>,
    /// Connected nsqds by number, with their last sign of life.
    alive: Vec<(usize, ProducerId, Moment)>,
}

#[derive(Debug, Clone)]
enum Operation {
    Identify,
    Ping(usize),
    Register(usize, TopicName, Option<ChannelName>),
    Unregister(usize, TopicName, Option<ChannelName>),
    Disconnect(usize),
    Create(TopicName, Option<ChannelName>),
    Delete(TopicName, Option<ChannelName>),
    Tombstone(usize, TopicName),
    Wait(u64),
}

impl Model {
    fn add(&mut self, key: Key) {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }

    fn place(&mut self, key: Key, number: usize) {
        self.add(key);
        if !self.placed.iter().any(|(k, n, _)| (*k, *n) == (key, number)) {
            self.placed.push((key, number, None));
        }
    }

    /// Takes producers away, then ephemeral keys among these that have none.
    fn displace(&mut self, keys: &[Key], number: usize) {
        self.placed.retain(|(key, n, _)| !(*n == number && keys.contains(key)));
        let placed = &self.placed;
        let bare = |key: &Key| !placed.iter().any(|(k, ..)| k == key);
        self.keys.retain(|key| !(keys.contains(key) && key.is_ephemeral() && bare(key)));
    }

    fn remove(&mut self, keys: &[Key]) {
        self.placed.retain(|(key, ..)| !keys.contains(key));
        self.keys.retain(|key| !keys.contains(key));
    }

    /// A topic with its channels, as far as they exist.
    fn topic_and_channels(&self, topic: TopicName) -> Vec<Key> {
        let of_topic = |key: &&Key| match key {
            Key::Topic(of) | Key::Channel(of, _) => *of == topic,
        };
        self.keys.iter().filter(of_topic).copied().collect()
    }

    fn found(&self, topic: TopicName, now: Moment) -> Option<(Vec<usize>, Vec<&str>)> {
        let key = Key::Topic(topic);
        self.keys.contains(&key).then_some(())?;
        let mut numbers = Vec::new();
        for (number, _, last_update) in &self.alive {
            let tombstone =
                self.placed.iter().find(|(k, n, _)| (k, n) == (&key, number)).map(|p| p.2);
            let hidden = |at: Moment| now.since(at) < PATIENCE.tombstone_lifetime;
            let shown = tombstone.is_some_and(|tombstone| !tombstone.is_some_and(hidden));
            if shown && now.since(*last_update) <= PATIENCE.inactive_after {
                numbers.push(*number);
            }
        }
        let channels = self.keys.iter().filter_map(|key| match key {
            Key::Channel(of, channel) if *of == topic => Some(channel.as_str()),
            _ => None,
        });
        let mut channels: Vec<_> = channels.collect();
        numbers.sort_unstable();
        channels.sort_unstable();
        Some((numbers, channels))
    }
}

fn key(topic: TopicName, channel: Option<ChannelName>) -> Key {
    match channel {
        Some(channel) => Key::Channel(topic, channel),
        None => Key::Topic(topic),
    }
}

/// Applies an operation to both.
fn apply(
    db: &mut Registrations,
    model: &mut Model,
    operation: &Operation,
    step: usize,
    now: Moment,
) {
    match *operation {
        Operation::Wait(_) => {}
        Operation::Identify => {
            let id = db.identify(peer(step), now);
            model.alive.push((step, id, now));
        }
        Operation::Create(topic, channel) => {
            db.create(&[key(topic, channel)]).unwrap();
            model.add(key(topic, channel));
        }
        Operation::Delete(topic, Some(channel)) => {
            let known = model.keys.contains(&key(topic, Some(channel)));
            assert_eq!(db.delete_channel(topic, channel), known);
            model.remove(&[key(topic, Some(channel))]);
        }
        Operation::Delete(topic, None) => {
            let known = model.keys.contains(&Key::Topic(topic));
            assert_eq!(db.delete_topic(topic).1, known);
            model.remove(&model.topic_and_channels(topic));
        }
        Operation::Ping(index)
        | Operation::Register(index, ..)
        | Operation::Unregister(index, ..)
        | Operation::Disconnect(index)
        | Operation::Tombstone(index, _) => {
            let count = model.alive.len();
            if count > 0 {
                let (number, id, _) = model.alive[index % count];
                apply_to_producer(db, model, operation, (number, id), now);
            }
        }
    }
}

/// Applies to both what concerns one nsqd.
fn apply_to_producer(
    db: &mut Registrations,
    model: &mut Model,
    operation: &Operation,
    (number, id): (usize, ProducerId),
    now: Moment,
) {
    match *operation {
        Operation::Ping(_) => {
            let client = model.alive.iter_mut().find(|(n, ..)| *n == number).unwrap();
            assert_eq!(db.ping(id, now), now.since(client.2));
            client.2 = now;
        }
        Operation::Register(_, topic, channel) => {
            db.register(id, topic, channel).unwrap();
            model.place(Key::Topic(topic), number);
            model.place(key(topic, channel), number);
        }
        Operation::Unregister(_, topic, Some(channel)) => {
            db.unregister_channel(id, topic, channel);
            model.displace(&[Key::Channel(topic, channel)], number);
        }
        Operation::Unregister(_, topic, None) => {
            db.unregister_topic(id, topic);
            model.displace(&model.topic_and_channels(topic), number);
        }
        Operation::Disconnect(_) => {
            let placed = model.placed.iter().filter(|(_, n, _)| *n == number);
            let mut keys: Vec<_> = placed.map(|(key, ..)| *key).collect();
            keys.sort_unstable();
            assert_eq!(db.disconnect(id), keys);
            model.displace(&keys, number);
            model.alive.retain(|(n, ..)| *n != number);
        }
        Operation::Tombstone(_, topic) => {
            db.tombstone(topic, format!("host{number}:4151").as_bytes(), now);
            for (key, n, tombstone) in &mut model.placed {
                if (*key, *n) == (Key::Topic(topic), number) {
                    *tombstone = Some(now);
                }
            }
        }
        _ => unreachable!("these concern no nsqd"),
    }
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    use Operation::*;
    let topics = || prop::sample::select(vec!["a", "a-b", "b", "e#ephemeral"]).prop_map(topic);
    let channels = || prop::sample::select(vec!["-", "c", "z#ephemeral"]).prop_map(channel);
    let channels = move || prop::option::of(channels());
    let operation = prop_oneof![
        2 => Just(Identify),
        1 => (0..9_usize).prop_map(Ping),
        6 => (0..9_usize, topics(), channels()).prop_map(|(p, t, c)| Register(p, t, c)),
        3 => (0..9_usize, topics(), channels()).prop_map(|(p, t, c)| Unregister(p, t, c)),
        1 => (0..9_usize).prop_map(Disconnect),
        1 => (topics(), channels()).prop_map(|(t, c)| Create(t, c)),
        1 => (topics(), channels()).prop_map(|(t, c)| Delete(t, c)),
        1 => (0..9_usize, topics()).prop_map(|(p, t)| Tombstone(p, t)),
        2 => (1..200_u64).prop_map(Wait),
    ];
    prop::collection::vec(operation, 0..80)
}

proptest! {
    #[test]
    fn everything_is_found_that_a_naive_search_finds(operations in operations()) {
        let mut db = Registrations::new(Limits::default());
        let mut model = Model::default();
        let mut now = at(0);
        for (step, operation) in operations.iter().enumerate() {
            if let Operation::Wait(seconds) = operation {
                now = at(now.elapsed.as_secs() + seconds);
            }
            apply(&mut db, &mut model, operation, step, now);
            db.check();
            for name in ["a", "a-b", "b", "e#ephemeral"] {
                let found = db.found(name, now).map(|(mut numbers, channels)| {
                    numbers.sort_unstable();
                    (numbers, channels)
                });
                let expected = model.found(topic(name), now);
                prop_assert_eq!(found, expected.map(|(n, c)| (n, json!(c))), "{}", name);
            }
        }
    }
}
