//! AUTH: what clients may do, when auth servers are asked, and who waits meanwhile.

use super::invariants::check_empty;
use super::world::{Frame, MS, World, identify, publish, publish_all, publish_deferred};
use crate::limits::MOVE_AFTER_PUBLISHES;

/// Everything on topics that begin with `ok`, for ten seconds.
const GRANT: &str = r#"{"ttl":10,"identity":"me","identity_url":"http://a?b&c","authorizations":
    [{"topic":"^ok","channels":[".*"],"permissions":["subscribe","publish"]}]}"#;
const NOTHING: &str = r#"{"ttl":10,"authorizations":[]}"#;

fn world(shards: u16) -> World {
    World::with(shards, |config| config.features.auth_required = true)
}

fn auth(secret: &str) -> Vec<u8> {
    let length = u32::try_from(secret.len()).unwrap().to_be_bytes();
    [b"AUTH\n".as_slice(), &length, secret.as_bytes()].concat()
}

/// A client of a shard that has been granted something.
fn authorized(world: &mut World, shard: usize, grant: &str) -> usize {
    let client = world.connect(shard);
    assert_eq!(world.ask(client, auth("secret")), []);
    world.answer_question(Some(grant));
    let frames = world.take_frames(client);
    assert!(matches!(frames.as_slice(), [Frame::Response(_)]), "{frames:?}");
    client
}

fn ok() -> Frame {
    Frame::Response("OK".into())
}

fn error(text: &str) -> Frame {
    Frame::Error(text.into())
}

#[test]
fn a32_auth_waits_for_its_answer_and_holds_what_follows() {
    let mut world = world(1);
    let client = world.connect(0);
    let sent = [auth("secret"), publish("ok1", b"x"), b"SUB ok2 c\n".to_vec()].concat();
    assert_eq!(world.ask(client, sent), [], "nothing is carried out meanwhile");
    let question = world.answer_question(Some(GRANT));
    assert_eq!((question.remote_ip.as_str(), question.tls), ("10.0.0.1", false));
    assert_eq!((question.common_name.as_str(), question.secret.as_slice()), ("", &b"secret"[..]));
    let answer = concat!(
        r#"{"identity":"me","identity_url":"http://a?b\u0026c","#,
        r#""permission_count":1}"#
    );
    let expected = [Frame::Response(answer.into()), ok(), ok()];
    assert_eq!(world.take_frames(client), expected);
    assert!(world.questions.is_empty());
}

#[test]
fn a32_an_empty_grant_is_none() {
    let mut world = world(1);
    let client = world.connect(0);
    world.ask(client, auth("secret"));
    world.answer_question(Some(NOTHING));
    let text = "E_UNAUTHORIZED AUTH no authorizations found";
    assert_eq!(world.take_frames(client), [error(text)]);
    assert!(world.clients[client].closed);
}

#[test]
fn l27_auth_that_fails_or_comes_twice() {
    let mut world = world(1);
    let client = world.connect(0);
    world.ask(client, auth("secret"));
    world.answer_question(None);
    assert_eq!(world.take_frames(client), [error("E_AUTH_FAILED AUTH failed")]);
    let client = authorized(&mut world, 0, GRANT);
    assert_eq!(world.ask(client, auth("more")), [error("E_INVALID AUTH already set")]);
    let mut world = World::new(1);
    let client = world.connect(0);
    assert_eq!(world.ask(client, auth("x")), [error("E_AUTH_DISABLED AUTH disabled")]);
}

#[test]
fn what_needs_permission_needs_auth_first() {
    let mut world = world(1);
    for (command, name) in [
        (publish("ok", b"x"), "PUB"),
        (publish_all("ok", &[b"x".to_vec()]), "MPUB"),
        (publish_deferred("ok", 1000, b"x"), "DPUB"),
        (b"SUB ok c\n".to_vec(), "SUB"),
    ] {
        let client = world.connect(0);
        let text = format!("E_AUTH_FIRST AUTH required before {name}");
        assert_eq!(world.ask(client, command), [error(&text)]);
    }
    assert!(world.home("ok").is_none(), "not even an MPUB has created it");
    let client = world.connect(0);
    assert_eq!(world.ask(client, "NOP\n"), []);
    assert_eq!(world.ask(client, identify("{}")).len(), 1);
}

#[test]
fn l14_what_is_not_granted_is_refused_by_name() {
    let mut world = world(1);
    for (command, name, channel) in [
        (publish("no", b"x"), "PUB", ""),
        (publish_all("no", &[b"x".to_vec()]), "MPUB", ""),
        (publish_deferred("no", 1000, b"x"), "DPUB", ""),
        (b"SUB no c\n".to_vec(), "SUB", "c"),
    ] {
        let client = authorized(&mut world, 0, GRANT);
        let text = format!(r#"E_UNAUTHORIZED AUTH failed for {name} on "no" "{channel}""#);
        assert_eq!(world.ask(client, command), [error(&text)]);
    }
    assert!(world.home("no").is_none());
    // Patterns of channels are matched with the empty text for a publish.
    let rows = r#"{"topic":"ok1","channels":["^ch"],"permissions":["subscribe","publish"]}"#;
    let client = authorized(&mut world, 0, &format!(r#"{{"ttl":1,"authorizations":[{rows}]}}"#));
    assert_eq!(world.ask(client, "SUB ok1 ch1\n"), [ok()]);
    let text = r#"E_UNAUTHORIZED AUTH failed for PUB on "ok1" """#;
    assert_eq!(world.ask(client, publish("ok1", b"x")), [error(text)]);
}

#[test]
fn a_grant_that_is_over_is_asked_for_again_with_the_same_secret() {
    let mut world = world(1);
    let client = authorized(&mut world, 0, GRANT);
    assert_eq!(world.ask(client, publish("ok", b"1")), [ok()]);
    world.pass_ms(9_999);
    assert_eq!(world.ask(client, publish("ok", b"2")), [ok()]);
    world.pass_ms(1);
    let batch = publish_all("ok", &[b"4".to_vec()]);
    let sent = [publish("ok", b"3"), batch, publish_deferred("ok", 1, b"5")].concat();
    assert_eq!(world.ask(client, sent), []);
    assert_eq!(world.questions.len(), 1);
    assert_eq!(world.answer_question(Some(GRANT)).secret, b"secret");
    assert_eq!(world.take_frames(client), [ok(), ok(), ok()]);
    // The batch is asked for at its line, before its body has come.
    world.pass_ms(10_000);
    let batch = publish_all("ok2", &[b"6".to_vec()]);
    let (line, body) = batch.split_at(9);
    assert_eq!(world.ask(client, line), []);
    world.answer_question(Some(GRANT));
    assert_eq!(world.ask(client, body), [ok()]);
    // So is SUB; what was granted then is not looked at again.
    world.pass_ms(10_000);
    assert_eq!(world.ask(client, "SUB ok c\nRDY 9\n"), []);
    world.answer_question(Some(GRANT));
    world.pass_ms(20_000);
    assert_eq!(world.ask(client, "").iter().filter(|frame| **frame == ok()).count(), 1);
    assert_eq!(world.ask(client, "CLS\n"), [Frame::Response("CLOSE_WAIT".into())]);
    assert!(world.questions.is_empty());
}

#[test]
fn permissions_can_be_lost_when_they_are_asked_for_again() {
    for (answer, expected) in [
        (None, "E_AUTH_FAILED AUTH failed"),
        (Some(NOTHING), r#"E_UNAUTHORIZED AUTH failed for PUB on "ok" """#),
    ] {
        let mut world = world(1);
        let client = authorized(&mut world, 0, GRANT);
        assert_eq!(world.ask(client, publish("ok", b"1")), [ok()]);
        world.pass_ms(10_000);
        assert_eq!(world.ask(client, publish("ok", b"2")), []);
        world.answer_question(answer);
        assert_eq!(world.take_frames(client), [error(expected)]);
        assert!(world.clients[client].closed);
    }
}

#[test]
fn a_client_that_goes_while_it_waits_leaves_nothing() {
    let mut world = world(1);
    let client = authorized(&mut world, 0, GRANT);
    world.pass_ms(10_000);
    world.ask(client, publish("ok", &[7; 100_000]));
    world.disconnect(client);
    let other = world.connect(0);
    assert_eq!(world.ask(other, auth("secret")), []);
    world.answer_question(Some(GRANT));
    assert_eq!(world.take_frames(other), [], "the answer was for the one before in its slot");
    world.answer_question(Some(GRANT));
    assert_eq!(world.take_frames(other).len(), 1);
    world.disconnect(other);
    check_empty(&world);
}

#[test]
fn waiting_is_not_silence() {
    let mut world = world(1);
    let client = world.connect(0);
    world.ask(client, identify(r#"{"heartbeat_interval":1000}"#));
    world.ask(client, auth("secret"));
    for _ in 0..10 {
        world.pass_ms(1000);
        world.settle();
    }
    assert!(!world.clients[client].closed);
    assert!(world.clients[client].heartbeats >= 9);
    world.answer_question(Some(GRANT));
    assert_eq!(world.take_frames(client).len(), 1);
    // From here on it has to speak up again.
    for _ in 0..3 {
        world.pass_ms(1000);
        world.settle();
    }
    assert!(world.clients[client].closed);
}

#[test]
fn what_was_granted_goes_along_when_a_connection_moves() {
    let mut world = world(2);
    let owner = authorized(&mut world, 1, GRANT);
    world.ask(owner, "SUB ok c\n");
    assert_eq!(world.home("ok").map(|found| found.1), Some(1));
    let consumer = authorized(&mut world, 0, GRANT);
    assert_eq!(world.ask(consumer, "SUB ok c\n"), [ok()]);
    assert_eq!(world.clients[consumer].place.unwrap().0, 1);
    // A producer that waits for an auth server in the middle of its run moves all the same, and
    // is asked for where it then is.
    let producer = authorized(&mut world, 0, GRANT);
    for round in 0..2 * MOVE_AFTER_PUBLISHES {
        assert_eq!(world.ask(producer, publish("ok", b"x")), [ok()], "round {round}");
        if round == MOVE_AFTER_PUBLISHES / 2 {
            world.pass_ms(10_000);
            assert_eq!(world.ask(producer, publish("ok", b"x")), []);
            world.answer_question(Some(GRANT));
            assert_eq!(world.take_frames(producer), [ok()]);
        }
    }
    assert_eq!(world.clients[producer].place.unwrap().0, 1);
    world.pass_ms(10_000);
    assert_eq!(world.ask(producer, publish("ok", b"x")), []);
    assert_eq!(world.questions[0].0, 1);
    world.now.time.0 += MS;
    world.answer_question(Some(GRANT));
    assert_eq!(world.take_frames(producer), [ok()]);
    assert_eq!(world.ask(producer, publish("no", b"x")).len(), 1);
    assert!(world.clients[producer].closed);
}
