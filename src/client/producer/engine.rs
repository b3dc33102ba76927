//! The one task of a producer: it owns the connections and everything that waits, so that each
//! publish gets exactly one answer, whatever happens.

mod connection;

use self::connection::Connection;
use super::nodes::Nodes;
use super::{Order, Publish, Window};
use crate::client::dial::{Settings, dial};
use crate::client::error::Error;
use crate::client::handshake::Negotiated;
use crate::client::link::Link;
use crate::limits::CLIENT_TURN_MAX;
use std::collections::VecDeque;
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

/// Numbers producers, for their log lines.
static INSTANCES: AtomicU32 = AtomicU32::new(1);

/// A node, and what became of connecting to it.
type Dialed = (usize, Result<(Link, Negotiated), Error>);

/// The state of a producer.
pub(super) struct Engine {
    settings: Arc<Settings>,
    /// How often a publish may be sent.
    attempts: u32,
    window: Arc<Window>,
    /// What log lines begin with.
    label: String,

    start: Instant,
    /// Time since `start`, read once per turn.
    now: Duration,
    timer: Pin<Box<Sleep>>,

    nodes: Nodes,
    /// By node.
    connections: Vec<Option<Connection>>,
    dials: JoinSet<Dialed>,

    orders: mpsc::UnboundedReceiver<Order>,
    /// Orders taken up; empty between turns.
    taken: Vec<Order>,
    /// Publishes that no connection has taken yet, each with the time by which one must; those
    /// that came back from a lost connection stand in front.
    waiting: VecDeque<(Duration, Publish)>,
    pings: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Room of the window that answers have made.
    freed: usize,
    stops: Vec<oneshot::Sender<()>>,
    /// No order will come any more, or none is to be carried out.
    stopping: bool,
}

impl Engine {
    pub(super) fn new(
        settings: Arc<Settings>,
        addresses: Vec<Arc<str>>,
        attempts: u32,
        window: Arc<Window>,
        orders: mpsc::UnboundedReceiver<Order>,
    ) -> Self {
        let start = Instant::now();
        let instance = INSTANCES.fetch_add(1, Ordering::Relaxed);
        let nodes = Nodes::new(addresses, fastrand::u64(..));
        Self {
            settings,
            attempts,
            window,
            label: format!("{instance:3}"),
            start,
            now: Duration::ZERO,
            timer: Box::pin(tokio::time::sleep_until(start)),
            connections: (0..nodes.len()).map(|_| None).collect(),
            nodes,
            dials: JoinSet::new(),
            orders,
            taken: Vec::new(),
            waiting: VecDeque::new(),
            pings: Vec::new(),
            freed: 0,
            stops: Vec::new(),
            stopping: false,
        }
    }

    fn take_orders(&mut self, cx: &mut Context<'_>) -> bool {
        if self.stopping && self.orders.is_closed() && self.orders.is_empty() {
            return false;
        }
        let mut taken = std::mem::take(&mut self.taken);
        let polled = self.orders.poll_recv_many(cx, &mut taken, CLIENT_TURN_MAX);
        // All handles are gone.
        self.stopping |= polled == Poll::Ready(0);
        let busy = !taken.is_empty();
        for order in taken.drain(..) {
            match order {
                Order::Publish(publish) => self.accept(publish),
                Order::Ping(answer) if self.stopping => {
                    let _ = answer.send(Err(Error::Stopped));
                }
                Order::Ping(answer) => self.pings.push(answer),
                Order::Stop(done) => {
                    self.stopping = true;
                    self.stops.push(done);
                }
            }
        }
        self.taken = taken;
        busy
    }

    /// Sends a publish at once if it can be, so that what can be sent never waits in a queue.
    fn accept(&mut self, publish: Publish) {
        if self.waiting.is_empty() {
            if let Some(publish) = self.send(publish) {
                self.wait(publish);
            }
        } else {
            self.wait(publish);
        }
    }

    fn wait(&mut self, publish: Publish) {
        let deadline = self.now + self.settings.config.publish_timeout;
        self.waiting.push_back((deadline, publish));
    }

    /// Gives the publish to a connection; back it comes if there is none.
    fn send(&mut self, mut publish: Publish) -> Option<Publish> {
        let connections = &self.connections;
        let has_room = |at: usize| connections[at].as_ref().is_some_and(Connection::has_room);
        let Some(at) = self.nodes.choose(has_room) else { return Some(publish) };
        publish.attempts += 1;
        let deadline = self.now + self.settings.config.publish_timeout;
        let connection = self.connections[at].as_mut().expect("chosen for its room");
        connection.publish(publish, deadline);
        None
    }

    /// Sends what waits, as far as there are connections with room.
    fn send_waiting(&mut self) {
        while let Some((deadline, publish)) = self.waiting.pop_front() {
            if publish.answer.is_closed() {
                // Its caller has given up, and it was not sent: it never will be.
                self.freed += publish.cost as usize;
            } else if let Some(publish) = self.send(publish) {
                self.waiting.push_front((deadline, publish));
                break;
            }
        }
        while self.waiting.front().is_some_and(|(deadline, _)| *deadline <= self.now) {
            let (_, publish) = self.waiting.pop_front().expect("just looked at");
            let reason = Error::NotConnected(self.nodes.reason());
            self.answer(publish, Err(reason));
        }
    }

    /// nsqd has answered. What it could not keep may go to another one, if the caller allows it.
    fn answered(&mut self, publish: Publish, outcome: Result<(), Error>) {
        let not_kept = matches!(&outcome, Err(Error::Refused(text)) if is_failure(text));
        if not_kept && publish.attempts < self.attempts && !publish.answer.is_closed() {
            self.wait(publish);
        } else {
            self.answer(publish, outcome);
        }
    }

    fn answer(&mut self, publish: Publish, outcome: Result<(), Error>) {
        self.freed += publish.cost as usize;
        // Who does not wait does not want to know.
        let _ = publish.answer.send(outcome);
    }

    /// `true` when something was begun whose end has to be looked for.
    fn dial(&mut self) -> bool {
        let needed = !self.waiting.is_empty() || !self.pings.is_empty() || self.is_in_use();
        if !needed || self.stopping && self.waiting.is_empty() {
            return false;
        }
        let due = self.nodes.take_due(self.now);
        let begun = !due.is_empty();
        for (at, address) in due {
            tracing::info!("{} ({address}) connecting to nsqd", self.label);
            let settings = Arc::clone(&self.settings);
            self.dials.spawn(async move { (at, dial(address, settings).await) });
        }
        begun
    }

    /// Whether connections are kept up: from the first publish on.
    fn is_in_use(&self) -> bool {
        self.nodes.any_up() || self.nodes.deadline().is_some()
    }

    fn take_dialed(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        while let Poll::Ready(Some(outcome)) = self.dials.poll_join_next(cx) {
            busy = true;
            let Ok((at, outcome)) = outcome else { continue };
            match outcome {
                Ok((link, _)) => {
                    self.connections[at] = Some(Connection::new(link, self.now));
                    self.nodes.up(at);
                }
                Err(error) => {
                    tracing::error!("{} {error}", self.label);
                    self.nodes.down(at, error, self.now);
                }
            }
        }
        busy
    }

    fn answer_pings(&mut self) {
        let outcome = match self.nodes.all_down() {
            _ if self.nodes.any_up() => Ok(()),
            Some(reason) => Err(reason),
            None => return,
        };
        for ping in self.pings.drain(..) {
            let _ = ping.send(outcome.clone());
        }
    }

    fn deadline(&self) -> Option<Duration> {
        let waiting = self.waiting.front().map(|(deadline, _)| *deadline);
        let dial = self.nodes.deadline().filter(|_| !self.stopping || !self.waiting.is_empty());
        let connections = self.connections.iter().flatten();
        let connections = connections.filter_map(|c| c.deadline(&self.settings.config));
        connections.chain([waiting, dial].into_iter().flatten()).min()
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline() else { return false };
        let deadline = self.start + deadline;
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx).is_ready()
    }

    fn is_over(&self) -> bool {
        let idle = |connection: &Connection| connection.is_idle();
        let connections = self.connections.iter().flatten();
        self.stopping
            && self.orders.is_empty()
            && self.waiting.is_empty()
            && connections.into_iter().all(idle)
    }

    /// A connection has ended. What it had not answered is unknown; what may be sent again is.
    fn lose(&mut self, at: usize, reason: &str) {
        let Some(connection) = self.connections[at].take() else { return };
        let address = Arc::clone(&connection.link.address);
        tracing::warn!("{} ({address}) connection lost - {reason}", self.label);
        let reason: Arc<str> = reason.into();
        let error = Error::Connect { address: Arc::clone(&address), reason: Arc::clone(&reason) };
        self.nodes.down(at, error, self.now);
        let deadline = self.now + self.settings.config.publish_timeout;
        for publish in connection.unanswered().rev() {
            if publish.attempts < self.attempts && !publish.answer.is_closed() {
                self.waiting.push_front((deadline, publish));
            } else {
                let (address, reason) = (Arc::clone(&address), Arc::clone(&reason));
                self.answer(publish, Err(Error::Unanswered { address, reason }));
            }
        }
    }
}

/// Whether an error says that nsqd could not keep messages, rather than that they are wrong.
fn is_failure(text: &str) -> bool {
    ["E_PUB_FAILED", "E_MPUB_FAILED", "E_DPUB_FAILED"].iter().any(|code| text.starts_with(code))
}

impl Future for Engine {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let engine = &mut *self;
        for _ in 0..TURNS_IN_A_ROW {
            engine.now = engine.start.elapsed();
            let mut busy = engine.take_dialed(cx);
            busy |= engine.read(cx);
            engine.send_waiting();
            busy |= engine.take_orders(cx);
            engine.flush(cx);
            busy |= engine.dial();
            engine.answer_pings();
            engine.window.room.add_permits(std::mem::take(&mut engine.freed));
            if engine.is_over() {
                for done in engine.stops.drain(..) {
                    let _ = done.send(());
                }
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
