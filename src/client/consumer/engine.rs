//! The one task of a consumer: it owns its connections and all its state, so nothing is shared and
//! nothing locked. Each turn takes up all there is, decides, and writes once per connection.

mod connections;
mod discovery;
mod orders;

use self::connections::Connection;
use self::discovery::Discovery;
use super::roster::Roster;
use super::{Hooks, Order, Shared};
use crate::client::backoff::{Backoff, Phase, Signal};
use crate::client::dial::{Settings, dial};
use crate::client::error::Error;
use crate::client::handshake::{Negotiated, Subscription};
use crate::client::link::Link;
use crate::client::message::{ConnectionKey, Message, Origin, Reply};
use crate::client::ready_distribution::{Limit, Pace, ReadyDistribution};
use crate::limits::{CLIENT_MESSAGES_SPARE, CLIENT_STOP_PATIENCE_S};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

/// Turns in a row before other tasks are let in.
const TURNS_IN_A_ROW: u32 = 8;

/// Numbers consumers, for their log lines.
static INSTANCES: AtomicU32 = AtomicU32::new(1);

type Dialed = (Arc<str>, Result<(Link, Negotiated), Error>);

/// The state of a consumer.
pub(super) struct Engine {
    settings: Arc<Settings>,
    hooks: Hooks,
    shared: Arc<Shared>,
    /// What log lines begin with.
    label: String,

    start: Instant,
    /// Time since `start`, read once per turn.
    now: Duration,
    timer: Pin<Box<Sleep>>,

    /// By slot; a slot's generation rises with each use.
    slots: Vec<Slot>,
    ready: ReadyDistribution,
    backoff: Backoff,
    roster: Roster,
    dials: JoinSet<Dialed>,
    /// Who waits for the outcome of a dial.
    dial_answers: HashMap<Arc<str>, oneshot::Sender<Result<(), Error>>>,
    discovery: Discovery,

    orders: mpsc::UnboundedReceiver<Order>,
    replies: mpsc::UnboundedReceiver<Reply>,
    replies_sender: mpsc::UnboundedSender<Reply>,
    /// Replies taken up; empty between turns.
    taken: Vec<Reply>,
    batches: mpsc::UnboundedSender<Vec<Message>>,

    max_in_flight: u32,
    /// Messages out there, answered by nobody yet, those of lost connections included.
    held: usize,
    /// Time by which a stop is forced.
    stopping: Option<Duration>,
    counts: Counts,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

#[derive(Debug, Default)]
struct Counts {
    received: u64,
    finished: u64,
    requeued: u64,
}

impl Engine {
    pub(super) fn new(
        settings: Arc<Settings>,
        hooks: Hooks,
        shared: Arc<Shared>,
        orders: mpsc::UnboundedReceiver<Order>,
        batches: mpsc::UnboundedSender<Vec<Message>>,
    ) -> Self {
        let config = &settings.config;
        let Subscription { topic, channel } =
            settings.subscription.expect("a consumer has a topic and a channel");
        let instance = INSTANCES.fetch_add(1, Ordering::Relaxed);
        let pace = Pace {
            idle: config.low_rdy_idle_timeout,
            turn: config.low_rdy_timeout,
            redistribute: config.rdy_redistribute_interval,
        };
        let backoff = Backoff::new(
            config.backoff_strategy,
            config.backoff_multiplier,
            config.max_backoff_duration,
            fastrand::u64(..),
        );
        let start = Instant::now();
        let (replies_sender, replies) = mpsc::unbounded_channel();
        Self {
            hooks,
            shared,
            label: format!("{instance:3} [{topic}/{channel}]"),
            start,
            now: Duration::ZERO,
            timer: Box::pin(tokio::time::sleep_until(start)),
            slots: Vec::new(),
            ready: ReadyDistribution::new(config.max_in_flight, pace, fastrand::u64(..)),
            backoff,
            roster: Roster::new(config.lookupd_poll_interval, fastrand::u64(..)),
            dials: JoinSet::new(),
            dial_answers: HashMap::new(),
            discovery: Discovery::new(config),
            orders,
            replies,
            replies_sender,
            taken: Vec::new(),
            batches,
            max_in_flight: config.max_in_flight,
            held: 0,
            stopping: None,
            counts: Counts::default(),
            settings,
        }
    }

    /// Adds an address that is about to be connected to; `false` if it is there already.
    pub(super) fn name(&mut self, address: &Arc<str>) -> bool {
        tracing::info!("{} ({address}) connecting to nsqd", self.label);
        self.roster.name(address)
    }

    fn dial(&mut self, address: Arc<str>) {
        tracing::info!("{} ({address}) connecting to nsqd", self.label);
        let settings = Arc::clone(&self.settings);
        self.dials.spawn(async move {
            let link = dial(Arc::clone(&address), settings).await;
            (address, link)
        });
    }

    /// Takes up a new connection.
    pub(super) fn connected(&mut self, link: Link, negotiated: &Negotiated) {
        let at = self.slots.iter().position(|slot| slot.connection.is_none());
        let at = at.unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = u32::try_from(at).expect("addresses are limited");
        self.slots[at].generation = self.slots[at].generation.wrapping_add(1);
        let key = ConnectionKey { slot, generation: self.slots[at].generation };
        let origin = Origin {
            address: Arc::clone(&link.address),
            connection: key,
            replies: self.replies_sender.clone(),
        };
        self.slots[at].connection = Some(Connection::new(link, Arc::new(origin), self.now));
        self.ready.add(slot, negotiated.ready_max(), self.now);
        self.push_ready_changes();
    }

    fn take_dialed(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        while let Poll::Ready(Some(outcome)) = self.dials.poll_join_next(cx) {
            busy = true;
            // A dial that was aborted leaves nothing behind.
            let Ok((address, outcome)) = outcome else { continue };
            let answer = self.dial_answers.remove(&address);
            let wanted = self.roster.knows(&address) && self.stopping.is_none();
            match outcome {
                Ok((link, negotiated)) if wanted => {
                    self.connected(link, &negotiated);
                    let _ = answer.map(|answer| answer.send(Ok(())));
                }
                Ok(_) => {
                    let _ = answer.map(|answer| answer.send(Err(Error::Stopped)));
                }
                Err(error) => {
                    tracing::error!(
                        "{} ({address}) error connecting to nsqd - {error}",
                        self.label
                    );
                    match answer {
                        // Whoever asked is told, and may ask again.
                        Some(answer) => {
                            self.roster.forget(&address);
                            let _ = answer.send(Err(error));
                        }
                        None => self.lost_address(&address, Duration::ZERO),
                    }
                }
            }
        }
        busy
    }

    fn lost_address(&mut self, address: &Arc<str>, lived: Duration) {
        if let Some(when) = self.roster.lost(address, lived, self.now) {
            self.discovery.ask_at(when);
        }
    }

    /// An outcome that may change the pace. The caller sends the changes of RDY.
    fn signal(&mut self, signal: Signal) {
        if self.stopping.is_some() || !self.backoff.signal(signal, self.now) {
            return;
        }
        let limit = match self.backoff.phase() {
            Phase::Open => Limit::All,
            Phase::Paused { until } => {
                let (level, pause) = (self.backoff.level(), until - self.now);
                tracing::warn!("{} backing off for {pause:?} (backoff level {level})", self.label);
                Limit::Nothing
            }
            Phase::Testing => Limit::One,
        };
        self.ready.set_limit(limit, self.now);
    }

    /// What is due. `true` when work was begun whose end has to be looked for.
    fn tick(&mut self) -> bool {
        let mut begun = false;
        if self.backoff.tick(self.now) {
            self.ready.set_limit(Limit::One, self.now);
        }
        self.ready.tick(self.now);
        self.push_ready_changes();
        if self.stopping.is_none() {
            for address in self.roster.due(self.now) {
                self.dial(address);
                begun = true;
            }
            begun |= self.discovery.tick(self.now, &self.label);
        }
        self.cut_silent();
        if self.stopping.is_some_and(|deadline| deadline <= self.now) {
            tracing::warn!("{} stopping by force: messages were not answered in time", self.label);
            self.slots.clear();
        }
        begun
    }

    fn deadline(&self) -> Option<Duration> {
        let idle = self.stopping.is_some();
        [
            self.backoff.deadline().filter(|_| !idle),
            self.ready.deadline().filter(|_| !idle),
            self.roster.deadline().filter(|_| !idle),
            self.discovery.deadline().filter(|_| !idle),
            self.silence_deadline(),
            self.stopping,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether more messages may be taken in. An nsqd sends no more than RDY, but may send again
    /// what was held for too long.
    fn has_room(&self) -> bool {
        self.held < 2 * self.max_in_flight as usize + CLIENT_MESSAGES_SPARE
    }

    fn begin_stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        tracing::info!("{} stopping...", self.label);
        self.stopping = Some(self.now + Duration::from_secs(CLIENT_STOP_PATIENCE_S));
        self.dials.abort_all();
        self.discovery.stop();
        for slot in &mut self.slots {
            if let Some(connection) = &mut slot.connection {
                connection.begin_close();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stopping.is_some() && self.slots.iter().all(|slot| slot.connection.is_none())
    }

    fn publish_counts(&self) {
        let Shared { connections, received, finished, requeued, in_flight, starved } =
            &*self.shared;
        let open = self.slots.iter().filter(|slot| slot.connection.is_some()).count();
        connections.store(open, Ordering::Relaxed);
        received.store(self.counts.received, Ordering::Relaxed);
        finished.store(self.counts.finished, Ordering::Relaxed);
        requeued.store(self.counts.requeued, Ordering::Relaxed);
        in_flight.store(self.held, Ordering::Relaxed);
        starved.store(self.ready.is_starved(), Ordering::Relaxed);
    }

    /// `true` when the deadline has come already.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline() else { return false };
        let deadline = self.start + deadline;
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx).is_ready()
    }
}

impl Future for Engine {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let engine = &mut *self;
        for _ in 0..TURNS_IN_A_ROW {
            engine.now = engine.start.elapsed();
            // Replies first: what was answered before a stop goes out before it.
            let mut busy = engine.take_replies(cx);
            busy |= engine.take_orders(cx);
            busy |= engine.take_dialed(cx);
            busy |= engine.take_found(cx);
            busy |= engine.read(cx);
            busy |= engine.tick();
            engine.flush(cx);
            engine.publish_counts();
            if engine.is_over() {
                tracing::info!("{} stopped", engine.label);
                return Poll::Ready(());
            }
            if !busy && !engine.poll_timer(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
