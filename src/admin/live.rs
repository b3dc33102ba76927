//! The cluster as pages show it: one poller for all who watch, and none when nobody does.
//!
//! While somebody watches, every nsqd is asked at an interval. One that does not answer in time
//! keeps the others from nothing: the picture is published without it, with what it said last for a
//! while, and it is asked again only when its answer, or its failure, has come.

mod picture;

pub(super) use picture::{NodeRow, Picture, Row, TopicRow};

use super::cluster::{Cluster, Sources, Unanswered, stats_target};
use super::model::{NodeStats, Producer};
use crate::limits::{
    ADMIN_LINGER, ADMIN_POLL_EVERY, ADMIN_POLL_PATIENCE, ADMIN_POLL_PAUSE_MIN, ADMIN_STALE_AFTER,
    ADMIN_WATCHERS_MAX,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Gives pictures of the cluster.
#[derive(Debug)]
pub(super) struct Live {
    wishes: mpsc::Sender<Wish>,
    pictures: watch::Receiver<Arc<Picture>>,
    watchers: Arc<Semaphore>,
}

/// What the poller is told.
#[derive(Debug)]
enum Wish {
    /// Somebody looks now, and wants a picture that was begun after this moment.
    Look(Instant, oneshot::Sender<Arc<Picture>>),
    /// Somebody watches.
    Watch,
}

impl Live {
    /// Starts the poller. `sources` says whom to ask, each time.
    pub(super) fn start(
        cluster: Cluster,
        sources: impl Fn() -> Sources + Send + Sync + 'static,
    ) -> Self {
        let (wishes, wanted) = mpsc::channel(ADMIN_WATCHERS_MAX);
        let (publish, pictures) = watch::channel(Arc::new(Picture::default()));
        let poller = Poller {
            cluster,
            sources: Box::new(sources),
            publish,
            nodes: BTreeMap::new(),
            wanted_until: Instant::now(),
            waiting: Vec::new(),
        };
        tokio::spawn(poller.run(wanted));
        Self { wishes, pictures, watchers: Arc::new(Semaphore::new(ADMIN_WATCHERS_MAX)) }
    }

    /// A picture that is not older than this.
    pub(super) async fn look(&self, since: Instant) -> Arc<Picture> {
        let (reply, picture) = oneshot::channel();
        let sent = self.wishes.send(Wish::Look(since, reply)).await;
        assert!(sent.is_ok(), "the poller ends with the process");
        picture.await.expect("the poller answers")
    }

    /// All pictures from now on, if there is room for one who watches.
    pub(super) fn watch(&self) -> Option<Watcher> {
        let place = Arc::clone(&self.watchers).try_acquire_owned().ok()?;
        Some(Watcher {
            wishes: self.wishes.clone(),
            pictures: self.pictures.clone(),
            _place: place,
        })
    }
}

/// One who watches.
#[derive(Debug)]
pub(super) struct Watcher {
    wishes: mpsc::Sender<Wish>,
    pictures: watch::Receiver<Arc<Picture>>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next picture.
    pub(super) async fn next(&mut self) -> Option<Arc<Picture>> {
        // The poller need not be told twice when it has not listened yet.
        let _ = self.wishes.try_send(Wish::Watch);
        self.pictures.changed().await.ok()?;
        Some(Arc::clone(&self.pictures.borrow_and_update()))
    }
}

struct Poller {
    cluster: Cluster,
    sources: Box<dyn Fn() -> Sources + Send + Sync>,
    publish: watch::Sender<Arc<Picture>>,
    /// By address of their HTTP.
    nodes: BTreeMap<String, Known>,
    wanted_until: Instant,
    waiting: Vec<(Instant, oneshot::Sender<Arc<Picture>>)>,
}

/// What is known of an nsqd.
#[derive(Debug, Default)]
struct Known {
    /// Whether a question is under way.
    is_asked: bool,
    /// When it has answered last, and what.
    stats: Option<(Instant, Arc<NodeStats>)>,
    /// Why it has not answered since.
    fault: Option<String>,
}

/// The answer of an nsqd.
type Report = (String, Result<NodeStats, String>);

impl Poller {
    async fn run(mut self, mut wanted: mpsc::Receiver<Wish>) {
        let mut asked: JoinSet<Report> = JoinSet::new();
        let mut next = Instant::now();
        loop {
            let is_watched = Instant::now() < self.wanted_until;
            let next_at = match self.waiting.is_empty() {
                true => next + (ADMIN_POLL_EVERY - ADMIN_POLL_PAUSE_MIN),
                false => next,
            };
            tokio::select! {
                wish = wanted.recv() => {
                    let Some(wish) = wish else { return };
                    self.note(wish);
                    continue;
                }
                Some(Ok(report)) = asked.join_next(), if !asked.is_empty() => {
                    self.take(report);
                    continue;
                }
                () = sleep_until(next_at), if is_watched => {}
            }
            self.poll(&mut asked).await;
            next = Instant::now() + ADMIN_POLL_PAUSE_MIN;
        }
    }

    fn note(&mut self, wish: Wish) {
        self.wanted_until = Instant::now() + ADMIN_LINGER;
        let Wish::Look(since, reply) = wish else { return };
        let latest = self.publish.borrow().clone();
        if latest.begun.is_some_and(|begun| since <= begun) {
            // Who asked may be gone.
            let _ = reply.send(latest);
        } else {
            self.waiting.push((since, reply));
        }
    }

    /// One round: asks everybody who is not being asked, waits a little, publishes.
    async fn poll(&mut self, asked: &mut JoinSet<Report>) {
        let begun = Instant::now();
        let sources = (self.sources)();
        let (producers, topics, mut warnings) = self.listed(&sources).await;
        let awaited = self.ask(&producers, asked);
        let is_missing = |known: &Known| known.is_asked && known.fault.is_none();
        let deadline = begun + ADMIN_POLL_PATIENCE;
        while awaited.iter().any(|address| self.nodes.get(address).is_some_and(is_missing)) {
            match timeout_at(deadline, asked.join_next()).await {
                Ok(Some(Ok(report))) => self.take(report),
                _ => break,
            }
        }
        warnings.extend(self.nodes.values().filter_map(|known| known.fault.clone()));
        let nodes = producers.into_iter().map(|producer| self.row(producer)).collect();
        let before = self.publish.borrow().clone();
        let picture = Arc::new(Picture::of(begun, nodes, topics, warnings, &before));
        self.publish.send_replace(Arc::clone(&picture));
        for (since, reply) in std::mem::take(&mut self.waiting) {
            if since <= begun {
                // Who asked may be gone.
                let _ = reply.send(Arc::clone(&picture));
            } else {
                self.waiting.push((since, reply));
            }
        }
    }

    /// The nsqds and topics there are, and what is not known of that. When nobody says, the nsqds
    /// known last are asked all the same.
    async fn listed(&self, sources: &Sources) -> (Vec<Producer>, Vec<String>, Vec<String>) {
        let hasty = self.cluster.hasty(ADMIN_POLL_PATIENCE);
        let mut warnings = Vec::new();
        let topics = async {
            match sources {
                Sources::Lookupds(_) => hasty.topics(sources).await.map(|answer| answer.value),
                // Their statistics name them.
                Sources::Nsqds(_) => Ok(Vec::new()),
            }
        };
        let (producers, topics) = tokio::join!(hasty.producers(sources), topics);
        let producers = match producers {
            Ok(answer) => {
                warnings.extend(answer.errors);
                answer.value
            }
            Err(Unanswered(text)) => {
                warnings.push(text);
                self.publish.borrow().producers()
            }
        };
        (producers, topics.unwrap_or_default(), warnings)
    }

    /// Asks all nsqds that are not being asked; gives the addresses that are worth waiting for.
    fn ask(&mut self, producers: &[Producer], asked: &mut JoinSet<Report>) -> Vec<String> {
        let listed: Vec<String> = producers.iter().map(Producer::http_address).collect();
        self.nodes.retain(|address, known| known.is_asked || listed.contains(address));
        let mut awaited = Vec::new();
        for (address, producer) in listed.into_iter().zip(producers) {
            let known = self.nodes.entry(address.clone()).or_default();
            if known.is_asked {
                continue;
            }
            known.is_asked = true;
            if known.fault.is_none() {
                awaited.push(address.clone());
            }
            let (cluster, producer) = (self.cluster.clone(), producer.clone());
            let target = stats_target("", "", false);
            asked.spawn(async move { (address, cluster.stats_of(&producer, &target).await) });
        }
        awaited
    }

    fn take(&mut self, (address, answer): Report) {
        let known = self.nodes.entry(address).or_default();
        known.is_asked = false;
        match answer {
            Ok(stats) => {
                known.stats = Some((Instant::now(), Arc::new(stats)));
                known.fault = None;
            }
            Err(fault) => known.fault = Some(fault),
        }
    }

    fn row(&self, producer: Producer) -> NodeRow {
        let known = self.nodes.get(&producer.http_address());
        let stats = known.and_then(|known| known.stats.clone());
        let fresh = stats.filter(|(at, _)| at.elapsed() < ADMIN_STALE_AFTER);
        let fault = known.and_then(|known| known.fault.clone());
        let is_slow = known.is_some_and(|known| known.is_asked);
        NodeRow { producer, stats: fresh.map(|(_, stats)| stats), fault, is_slow }
    }
}
