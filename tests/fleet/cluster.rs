//! Two nsqds and two nsqlookupds, each on a host of its own. One nsqd is killed and started again,
//! one nsqlookupd is killed for good: consumers carry on, and nothing that was acknowledged at
//! level `logged` is lost.

mod network;
mod node;

use self::network::{Host, with_hosts};
use self::node::Node;
use crate::support::wait::PATIENCE;
use ringmain::client::{Config, Consumer, Error, Producer};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const NSQD: &str = env!("CARGO_BIN_EXE_nsqd");
const NSQLOOKUPD: &str = env!("CARGO_BIN_EXE_nsqlookupd");

const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// Messages acknowledged between two events.
const STRETCH: usize = 1_000;

/// What the producer has to say about the numbers it published.
#[derive(Default)]
struct Published {
    /// Highest number with an answer, whatever that was.
    acknowledged: AtomicUsize,
    stop: AtomicBool,
}

/// Addresses of the nsqds that an nsqlookupd knows.
fn nsqds(lookupd: &Node) -> Vec<String> {
    let nodes = lookupd.get("/nodes").json();
    let text = |producer: &Value| {
        let address = producer["broadcast_address"].as_str().expect("an address");
        format!("{address}:{}", producer["tcp_port"])
    };
    nodes["producers"].as_array().expect("a list").iter().map(text).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            sleep(PROBE_INTERVAL).await;
        }
    };
    timeout(PATIENCE, so).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Publishes numbers until it is told to stop; those that were acknowledged.
async fn produce(producer: Producer, published: Arc<Published>) -> HashSet<usize> {
    let mut acknowledged = HashSet::new();
    for first in (0..).step_by(10) {
        if published.stop.load(Ordering::Relaxed) {
            break;
        }
        let mut answers = Vec::new();
        for number in first..first + 10 {
            let answer = producer.begin("t", number.to_string()).await;
            answers.push((number, answer.expect("room in the window, sooner or later")));
        }
        for (number, answer) in answers {
            match answer.await {
                Ok(()) => {
                    acknowledged.insert(number);
                    published.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                // Nobody knows; that nsqd was killed.
                Err(Error::Unanswered { .. }) => {}
                Err(error) => panic!("{number}: {error}"),
            }
        }
    }
    producer.stop().await;
    acknowledged
}

/// Finishes what comes, and says what it was.
async fn consume(mut consumer: Consumer, received: mpsc::UnboundedSender<usize>) {
    while let Some(message) = consumer.next().await {
        let text = std::str::from_utf8(message.body()).expect("text");
        received.send(text.parse().expect("a number")).unwrap_or_default();
        message.finish();
    }
}

async fn connect(channel: &str, lookupds: &[Node; 2]) -> Consumer {
    let config = Config {
        max_in_flight: 100,
        max_attempts: 0,
        lookupd_poll_interval: Duration::from_millis(500),
        lookupd_poll_timeout: Duration::from_secs(2),
        ..Config::default()
    };
    let consumer = Consumer::new("t", channel).config(config);
    let consumer = consumer.lookupd(&lookupds[0].http).lookupd(&lookupds[1].http);
    consumer.connect().await.expect("lookups may be away")
}

async fn play([one, two, three, four]: [Host; 4]) {
    let mut lookupds = [&one, &two].map(|host| Node::start(host, NSQLOOKUPD, &[]));
    let mut flags = vec!["--durability=logged".to_owned()];
    flags.extend(lookupds.each_ref().map(|node| format!("--lookupd-tcp-address={}", node.tcp)));
    let mut daemons = [&three, &four].map(|host| Node::start(host, NSQD, &flags));
    until("both nsqds are known to both", || lookupds.iter().all(|l| nsqds(l).len() == 2)).await;

    // A channel gets what is published from its beginning on. One has no consumer until the end:
    // all of its messages are there through each kill.
    for daemon in &daemons {
        daemon.order("/topic/create?topic=t");
        daemon.order("/channel/create?topic=t&channel=c");
        daemon.order("/channel/create?topic=t&channel=kept");
    }
    let found = nsqds(&lookupds[0]);
    let producer = found.iter().fold(Producer::new(), |producer, nsqd| producer.nsqd(nsqd));
    let published = Arc::new(Published::default());
    let producing =
        tokio::spawn(produce(producer.start().expect("addresses"), Arc::clone(&published)));
    let (tell, mut received) = mpsc::unbounded_channel();
    let mut controls = Vec::new();
    for _ in 0..2 {
        let consumer = connect("c", &lookupds).await;
        controls.push(consumer.control());
        tokio::spawn(consume(consumer, tell.clone()));
    }
    let connections = |count: usize| {
        let controls = controls.clone();
        move || controls.iter().all(|control| control.stats().connections == count)
    };
    let progress = async |what: &str| {
        let before = published.acknowledged.load(Ordering::Relaxed);
        let finished = || controls.iter().map(|c| c.stats().finished).sum::<u64>();
        let finished_before = finished();
        until(what, || {
            published.acknowledged.load(Ordering::Relaxed) > before + STRETCH
                && finished() > finished_before + STRETCH as u64
        })
        .await;
    };

    until("both consumers have found both nsqds", connections(2)).await;
    progress("messages flow").await;
    daemons[0].kill();
    until("the consumers have noticed", connections(1)).await;
    progress("messages flow with one nsqd").await;
    daemons[0].start_again();
    until("the consumers have found it again", connections(2)).await;
    progress("messages flow with both again").await;
    lookupds[0].kill();
    progress("messages flow with one nsqlookupd").await;
    // Whoever comes now finds everything through the other one, and so does a restarted nsqd.
    daemons[1].kill();
    until("the consumers have noticed", connections(1)).await;
    daemons[1].start_again();
    until("the consumers have found it again", connections(2)).await;
    let late = connect("kept", &lookupds).await;
    let late_control = late.control();
    let (tell_kept, mut kept) = mpsc::unbounded_channel();
    tokio::spawn(consume(late, tell_kept));
    until("a new consumer finds both", || late_control.stats().connections == 2).await;

    published.stop.store(true, Ordering::Relaxed);
    let acknowledged = producing.await.expect("every error is an answer");
    for (channel, received) in [("c", &mut received), ("kept", &mut kept)] {
        expect_all(channel, acknowledged.clone(), received, &daemons).await;
    }
}

async fn expect_all(
    channel: &str,
    mut missing: HashSet<usize>,
    received: &mut mpsc::UnboundedReceiver<usize>,
    daemons: &[Node; 2],
) {
    let count = missing.len();
    let all = async {
        while !missing.is_empty() {
            missing.remove(&received.recv().await.expect("its consumers go on"));
        }
    };
    let outcome = timeout(PATIENCE, all).await;
    if outcome.is_err() {
        daemons.iter().for_each(|daemon| eprintln!("{}", daemon.get("/stats").text()));
        let lost = missing.len();
        panic!("{channel}: {lost} of {count} acknowledged messages are lost");
    }
}

#[test]
fn a_cluster_survives_kills() {
    with_hosts("fleet::cluster::a_cluster_survives_kills", |hosts| {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(play(hosts));
    });
}
