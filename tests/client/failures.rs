//! What callers see when nsqds fail: never silence, never an answer that is not true.

use super::fake::{Fake, run, runtime};
use ringmain::client::{Config, Consumer, Error, Producer};
use std::time::Duration;

/// Runs the future beside the script and returns what became of both.
fn beside<T: Send + 'static, S>(
    client: impl Future<Output = T> + Send + 'static,
    script: impl FnOnce() -> S,
) -> (T, S) {
    let runtime = runtime();
    let client =
        runtime.spawn(async { tokio::time::timeout(Duration::from_secs(30), client).await });
    let scripted = script();
    let outcome = runtime.block_on(client).expect("no panic").expect("an end");
    (outcome, scripted)
}

fn quick() -> Config {
    Config {
        publish_timeout: Duration::from_millis(200),
        dial_timeout: Duration::from_millis(200),
        ..Config::default()
    }
}

#[test]
fn a_reset_in_the_middle_of_publishing() {
    let fake = Fake::listen();
    let producer = Producer::new().nsqd(&fake.address);
    let client = async move {
        let producer = producer.start().unwrap();
        let mut answers = Vec::new();
        for body in ["one", "two", "three"] {
            answers.push(producer.begin("t", body).await.unwrap());
        }
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(answer.await);
        }
        // The connection is made again.
        producer.publish("t", "four").await.unwrap();
        outcomes
    };
    let (outcomes, _) = beside(client, || {
        let mut peer = fake.accept();
        for body in [&b"one"[..], b"two", b"three"] {
            assert_eq!(peer.publish(), body);
        }
        peer.respond("OK");
        peer.reset();
        let mut peer = fake.accept();
        assert_eq!(peer.publish(), b"four");
        peer.respond("OK");
    });
    // A reset may overtake the answer before it; it must not be taken for more than one.
    let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(stored <= 1, "{outcomes:?}");
    let unanswered = outcomes.iter().filter(|o| matches!(o, Err(Error::Unanswered { .. }))).count();
    assert_eq!(stored + unanswered, 3, "{outcomes:?}");
    assert!(outcomes[2].is_err());
}

#[test]
fn an_error_is_that_of_its_publish() {
    let fake = Fake::listen();
    let producer = Producer::new().nsqd(&fake.address);
    let client = async move {
        let producer = producer.start().unwrap();
        let one = producer.begin("t", "one").await.unwrap();
        let two = producer.begin("t", "two").await.unwrap();
        (one.await, two.await)
    };
    let (outcomes, _) = beside(client, || {
        let mut peer = fake.accept();
        peer.publish();
        peer.publish();
        peer.respond("OK");
        peer.respond("_heartbeat_");
        peer.error("E_PUB_FAILED PUB failed exiting");
        peer.expect("NOP");
    });
    let refused = Err(Error::Refused("E_PUB_FAILED PUB failed exiting".into()));
    assert_eq!(outcomes, (Ok(()), refused));
}

#[test]
fn what_may_be_sent_again_goes_to_another_nsqd() {
    let (one, two) = (Fake::listen(), Fake::listen());
    let producer = Producer::new().nsqd(&one.address).nsqd(&two.address).attempts(3);
    let client = async move { producer.start().unwrap().publish("t", "x").await };
    let (outcome, bodies) = beside(client, || {
        let (mut first, mut second) = (one.accept(), two.accept());
        // Either may have got it; it refuses, then the other one loses its connection.
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for (fake, peer) in [(&one, &mut first), (&two, &mut second)] {
                let tell = tell.clone();
                scope.spawn(move || {
                    let mut answered = false;
                    while let Some(line) = peer.line() {
                        assert_eq!(line, "PUB t");
                        tell.send(peer.body()).unwrap();
                        if answered {
                            peer.respond("OK");
                        } else {
                            peer.error("E_PUB_FAILED PUB failed full");
                            answered = true;
                        }
                    }
                    let _ = fake;
                });
            }
        });
        drop(tell);
        told.iter().collect::<Vec<_>>()
    });
    assert_eq!(outcome, Ok(()));
    // Once or twice refused, as it was sent to one of them or to both.
    assert!(bodies.len() >= 2 && bodies.iter().all(|body| body == b"x"), "{bodies:?}");
}

#[test]
fn an_nsqd_that_never_answers() {
    let fake = Fake::listen();
    let producer = Producer::new().nsqd(&fake.address).config(quick());
    let client = async move {
        let producer = producer.start().unwrap();
        let deadline = producer.publish_within(Duration::from_millis(20), "t", "one").await;
        (deadline, producer.publish("t", "two").await)
    };
    let ((deadline, unanswered), _) = beside(client, || {
        let mut peer = fake.accept();
        assert_eq!(peer.publish(), b"one");
        assert_eq!(peer.publish(), b"two");
        assert_eq!(peer.line(), None);
    });
    assert_eq!(deadline, Err(Error::DeadlinePassed));
    let unanswered = unanswered.unwrap_err().to_string();
    assert!(unanswered.contains("did not answer in time"), "{unanswered}");
}

#[test]
fn an_nsqd_that_takes_no_bytes() {
    let fake = Fake::listen();
    let config = Config { write_timeout: Duration::from_millis(100), ..Config::default() };
    let producer = Producer::new().nsqd(&fake.address).config(config).window(u32::MAX);
    let client = async move {
        let producer = producer.start().unwrap();
        producer.publish("t", vec![b'x'; 64 << 20]).await
    };
    // The connection is kept open, and not read, until the client has given up.
    let (outcome, _peer) = beside(client, || fake.accept());
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("took nothing for too long"), "{text}");
}

#[test]
fn without_any_nsqd_publishes_fail_in_time_and_are_not_sent_later() {
    let fake = Fake::listen();
    let address = fake.address.clone();
    drop(fake);
    run(async {
        let producer = Producer::new().nsqd(&address).config(quick()).start().unwrap();
        let ping = producer.ping().await.unwrap_err();
        assert!(matches!(ping, Error::Connect { .. }), "{ping}");
        let failed = producer.publish("t", "x").await.unwrap_err();
        assert!(matches!(&failed, Error::NotConnected(why) if why.contains(&address)), "{failed}");
        producer.stop().await;
    });
}

#[test]
fn the_window_bounds_what_is_unanswered() {
    let fake = Fake::listen();
    let producer = Producer::new().nsqd(&fake.address).window(2);
    let client = async move {
        let producer = producer.start().unwrap();
        let one = producer.begin("t", "one").await.unwrap();
        let two = producer.begin("t", "two").await.unwrap();
        let waits = Duration::from_millis(50);
        let third = tokio::time::timeout(waits, producer.begin("t", "three")).await;
        assert!(third.is_err(), "there is no room");
        one.await.unwrap();
        let three = producer.begin("t", "three").await.unwrap();
        two.await.unwrap();
        three.await.unwrap();
    };
    beside(client, || {
        let mut peer = fake.accept();
        peer.publish();
        peer.publish();
        std::thread::sleep(Duration::from_millis(100));
        peer.respond("OK");
        assert_eq!(peer.publish(), b"three");
        peer.respond("OK");
        peer.respond("OK");
    });
}

#[test]
fn a_broken_stream_ends_its_connection_and_not_the_consumer() {
    let fake = Fake::listen();
    let address = fake.address.clone();
    let client = async move {
        let mut consumer = Consumer::new("t", "c").nsqd(&address).connect().await.unwrap();
        let message = consumer.next().await.unwrap();
        assert_eq!(message.nsqd_address(), address);
        assert_eq!(format!("{}", message.id()), super::fake::id("after"));
        message.finish();
    };
    beside(client, || {
        for garbage in
            [&b"\0\0\0\x02"[..], b"HTTP/1.1 400 Bad Request\r\n", b"\0\0\0\x05\0\0\0\x09x"]
        {
            let mut peer = fake.accept_consumer();
            peer.expect("RDY 1");
            peer.raw(garbage);
            assert_eq!(peer.line(), None);
        }
        let mut peer = fake.accept_consumer();
        peer.expect("RDY 1");
        peer.message("after", 1);
        peer.expect(&format!("FIN {}", super::fake::id("after")));
    });
}

#[test]
fn a_first_connection_that_fails_is_told() {
    run(async {
        let unreachable = Consumer::new("t", "c").nsqd("127.0.0.1:1").connect().await.unwrap_err();
        assert!(matches!(unreachable, Error::Connect { .. }), "{unreachable}");
        let invalid = Consumer::new("t", "c$").connect().await.unwrap_err();
        assert_eq!(invalid, Error::InvalidChannel("c$".into()));
        let missing = Consumer::new("t", "c").lookupd("localhost").connect().await.unwrap_err();
        assert_eq!(missing.to_string(), "localhost: missing port");
    });
    let fake = Fake::listen();
    let address = fake.address.clone();
    let client = async move { Consumer::new("t", "c").nsqd(&address).connect().await.map(drop) };
    let (refused, _) = beside(client, || {
        let mut peer = fake.accept();
        peer.expect("SUB t c");
        peer.error("E_SUB_FAILED SUB failed exiting");
    });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.ends_with("E_SUB_FAILED SUB failed exiting"), "{refused}");
}
