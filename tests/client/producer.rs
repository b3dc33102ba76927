//! Producers of real daemons.

use super::consumer::tcp;
use super::fake::run;
use crate::support::daemon::{Daemon, Options};
use ringmain::client::{Config, Error, Producer};
use std::time::Duration;

fn depth(daemon: &Daemon) -> u64 {
    daemon.topic("t").map_or(0, |topic| topic["depth"].as_u64().expect("a number"))
}

#[test]
fn j7_publishing() {
    let daemon = Daemon::start(&Options::default());
    let address = tcp(&daemon);
    run(async {
        let producer = Producer::new().nsqd(&address).start().unwrap();
        // Nothing is connected before it is needed.
        assert!(!daemon.log().contains("new client"), "{}", daemon.log());
        producer.ping().await.unwrap();
        producer.publish("t", "one").await.unwrap();
        producer.publish_batch("t", ["two", "three"]).await.unwrap();
        producer.publish_within(Duration::from_secs(10), "t", "four").await.unwrap();
        let answers = [
            producer.begin("t", "five").await.unwrap(),
            producer.begin_batch("t", ["six"]).await.unwrap(),
        ];
        for answer in answers {
            answer.await.unwrap();
        }
        assert_eq!(depth(&daemon), 6);
        producer.publish_deferred("t", Duration::from_secs(60), "seven").await.unwrap();

        let invalid = producer.publish("t$", "x").await.unwrap_err();
        assert_eq!(invalid, Error::InvalidTopic("t$".into()));
        assert_eq!(producer.publish("t", "").await, Err(Error::EmptyBody));
        let none: [&str; 0] = [];
        assert_eq!(producer.publish_batch("t", none).await, Err(Error::EmptyBody));

        producer.stop().await;
        assert_eq!(producer.publish("t", "x").await, Err(Error::Stopped));
        assert_eq!(producer.ping().await, Err(Error::Stopped));
    });
}

#[test]
fn j7_settings_that_nsqd_refuses() {
    let daemon = Daemon::start(&Options::default());
    let http = match &daemon.http {
        crate::support::stream::Address::Tcp(address) => address.clone(),
        crate::support::stream::Address::Unix(_) => unreachable!("TCP is the default"),
    };
    run(async {
        let heartbeat_interval = Some(Duration::from_millis(100));
        let config = Config { heartbeat_interval, ..Config::default() };
        let producer = Producer::new().nsqd(&tcp(&daemon)).config(config).start().unwrap();
        let refused = producer.ping().await.unwrap_err().to_string();
        let text = "E_BAD_BODY IDENTIFY heartbeat interval (100) is invalid";
        assert!(refused.contains(text), "{refused}");

        let producer = Producer::new().nsqd(&http).start().unwrap();
        let refused = producer.ping().await.unwrap_err().to_string();
        assert!(refused.contains("unexpected HTTP response"), "{refused}");
    });
}

#[test]
fn j7_heartbeats_are_answered() {
    let daemon = Daemon::start(&Options::default());
    run(async {
        let heartbeat_interval = Some(Duration::from_secs(1));
        let config = Config { heartbeat_interval, ..Config::default() };
        let producer = Producer::new().nsqd(&tcp(&daemon)).config(config).start().unwrap();
        producer.publish("t", "one").await.unwrap();
        // nsqd cuts off who has not answered for two intervals.
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        producer.publish("t", "two").await.unwrap();
        producer.stop().await;
    });
    let connections = daemon.log().matches("new client").count();
    assert_eq!(connections, 1, "{}", daemon.log());
}

#[test]
fn publishes_are_spread_and_go_on_when_one_nsqd_dies() {
    let (left, mut right) =
        (Daemon::start(&Options::default()), Daemon::start(&Options::default()));
    run(async {
        let producer = Producer::new().nsqd(&tcp(&left)).nsqd(&tcp(&right)).start().unwrap();
        producer.publish("t", "first").await.unwrap();
        // Both are connected to with the first publish; wait for the slower one.
        while depth(&left) < 2 || depth(&right) < 2 {
            producer.publish("t", "another").await.unwrap();
        }
        right.terminate("KILL");
        let before = depth(&left);
        for _ in 0..20 {
            match producer.publish("t", "later").await {
                // At most what was under way.
                Ok(()) | Err(Error::Unanswered { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert!(depth(&left) >= before + 19, "{} after {before}", depth(&left));
    });
}
