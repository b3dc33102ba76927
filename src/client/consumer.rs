//! Messages of one channel, from as many nsqds as there are.

mod engine;
mod roster;

use self::engine::Engine;
use super::config::Config;
use super::dial::{Settings, dial};
use super::error::Error;
use super::frames::Arrived;
use super::handshake::Subscription;
use super::lookup::LookupService;
use super::message::Message;
use crate::protocol::message::MessageId;
use crate::protocol::name::{ChannelName, TopicName};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Takes messages of a channel. Dropping it stops it, as [`ConsumerControl::stop`] does; messages
/// not taken by then go back to nsqd.
///
/// ```no_run
/// # async fn f() -> Result<(), ringmain::client::Error> {
/// use ringmain::client::Consumer;
/// let consumer = Consumer::new("orders", "billing");
/// let mut consumer = consumer.lookupd("127.0.0.1:4161").max_in_flight(200).connect().await?;
/// while let Some(message) = consumer.next().await {
///     println!("{} bytes", message.body().len());
///     message.finish();
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    arrived: mpsc::UnboundedReceiver<Vec<Message>>,
    batch: std::vec::IntoIter<Message>,
    control: ConsumerControl,
}

/// Steers a consumer from any task; clones steer the same one.
#[derive(Debug, Clone)]
pub struct ConsumerControl {
    orders: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
    topic: TopicName,
}

/// What a consumer is to be; [`connect`](Self::connect) makes it.
#[must_use = "a consumer exists once `connect` is called"]
pub struct ConsumerBuilder {
    topic: String,
    channel: String,
    nsqds: Vec<Arc<str>>,
    lookupds: Vec<String>,
    config: Config,
    hooks: Hooks,
}

/// A message that was delivered too often, after `max_attempts`; it is finished.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GivenUp {
    /// Its id.
    pub id: MessageId,
    /// What was published.
    pub body: Bytes,
    /// Deliveries, this one included.
    pub attempts: u16,
    /// When nsqd got it, nanoseconds since 1970.
    pub timestamp_ns: i64,
}

/// What a consumer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Connections open now.
    pub connections: usize,
    /// Messages that came.
    pub received: u64,
    /// Messages finished, those given up included.
    pub finished: u64,
    /// Messages requeued.
    pub requeued: u64,
    /// Messages in hand now.
    pub in_flight: usize,
}

type GiveUpHook = Arc<dyn Fn(&GivenUp) + Send + Sync>;
type AddressFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What the owner of a consumer may have a say in.
#[derive(Default, Clone)]
struct Hooks {
    give_up: Option<GiveUpHook>,
    wants: Option<AddressFilter>,
}

/// What a control asks for.
enum Order {
    Connect(Arc<str>, oneshot::Sender<Result<(), Error>>),
    Disconnect(Arc<str>, oneshot::Sender<Result<(), Error>>),
    AddLookup(LookupService, oneshot::Sender<Result<(), Error>>),
    RemoveLookup(Arc<str>, oneshot::Sender<Result<(), Error>>),
    MaxInFlight(u32),
    Stop,
}

/// What others see of the engine; written by it alone, once per turn.
#[derive(Debug, Default)]
struct Shared {
    connections: AtomicUsize,
    received: AtomicU64,
    finished: AtomicU64,
    requeued: AtomicU64,
    in_flight: AtomicUsize,
    starved: AtomicBool,
}

impl Consumer {
    /// A consumer of this topic and channel, to be completed with addresses and settings.
    #[expect(clippy::new_ret_no_self, reason = "a consumer begins as a builder")]
    pub fn new(topic: &str, channel: &str) -> ConsumerBuilder {
        ConsumerBuilder {
            topic: topic.to_owned(),
            channel: channel.to_owned(),
            nsqds: Vec::new(),
            lookupds: Vec::new(),
            config: Config::default(),
            hooks: Hooks::default(),
        }
    }

    /// The next message; `None` once the consumer has stopped. Nothing is lost when the future is
    /// dropped before it is ready.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.batch.next() {
                return Some(message);
            }
            self.batch = self.arrived.recv().await?.into_iter();
        }
    }

    /// All messages that arrived together, at least one; `None` once the consumer has stopped.
    pub async fn next_batch(&mut self) -> Option<Vec<Message>> {
        if self.batch.len() > 0 {
            return Some(std::mem::take(&mut self.batch).collect());
        }
        self.arrived.recv().await
    }

    /// What steers this consumer.
    pub fn control(&self) -> ConsumerControl {
        self.control.clone()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.control.stop();
    }
}

impl ConsumerControl {
    /// Begins a graceful stop: no more messages are asked for, those in hand can be answered for
    /// another 30 s, then the connections close and [`Consumer::next`] returns `None`.
    pub fn stop(&self) {
        // Who is not there any more need not be stopped.
        let _ = self.orders.send(Order::Stop);
    }

    /// Messages that may be in hand at a time, over all nsqds; 0 pauses the consumer.
    pub fn set_max_in_flight(&self, max_in_flight: u32) {
        let _ = self.orders.send(Order::MaxInFlight(max_in_flight));
    }

    /// Connects to another nsqd, and again whenever that connection is lost.
    ///
    /// # Errors
    /// [`Error::AlreadyConnected`], [`Error::Stopped`], or why the first connection failed; then
    /// it is not tried again.
    pub async fn connect_nsqd(&self, address: &str) -> Result<(), Error> {
        self.ask(|answer| Order::Connect(address.into(), answer)).await
    }

    /// Closes the connection to an nsqd for good.
    ///
    /// # Errors
    /// [`Error::UnknownAddress`] when there is none, and [`Error::Stopped`].
    pub async fn disconnect_nsqd(&self, address: &str) -> Result<(), Error> {
        self.ask(|answer| Order::Disconnect(address.into(), answer)).await
    }

    /// Asks another lookup service from now on.
    ///
    /// # Errors
    /// [`Error::Setting`] when the address is none, [`Error::AlreadyConnected`],
    /// [`Error::Stopped`].
    pub async fn add_lookupd(&self, address: &str) -> Result<(), Error> {
        let service = LookupService::parse(address, self.topic.as_str())?;
        self.ask(|answer| Order::AddLookup(service, answer)).await
    }

    /// Asks a lookup service no more. Connections it led to stay.
    ///
    /// # Errors
    /// [`Error::UnknownAddress`], [`Error::Setting`] for the last one, [`Error::Stopped`].
    pub async fn remove_lookupd(&self, address: &str) -> Result<(), Error> {
        self.ask(|answer| Order::RemoveLookup(address.into(), answer)).await
    }

    /// Whether some nsqd has sent almost all it may: whoever gathers messages before answering
    /// should answer now.
    pub fn is_starved(&self) -> bool {
        self.shared.starved.load(Ordering::Relaxed)
    }

    /// What the consumer has done so far.
    pub fn stats(&self) -> ConsumerStats {
        let Shared { connections, received, finished, requeued, in_flight, .. } = &*self.shared;
        ConsumerStats {
            connections: connections.load(Ordering::Relaxed),
            received: received.load(Ordering::Relaxed),
            finished: finished.load(Ordering::Relaxed),
            requeued: requeued.load(Ordering::Relaxed),
            in_flight: in_flight.load(Ordering::Relaxed),
        }
    }

    async fn ask(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Order,
    ) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).map_err(|_| Error::Stopped)?;
        answered.await.unwrap_or(Err(Error::Stopped))
    }
}

impl ConsumerBuilder {
    /// Adds an nsqd: `host:port`, or the path of a unix socket.
    pub fn nsqd(mut self, address: &str) -> Self {
        self.nsqds.push(address.into());
        self
    }

    /// Adds a lookup service: `host:port` of its HTTP API, or a URL.
    pub fn lookupd(mut self, address: &str) -> Self {
        self.lookupds.push(address.to_owned());
        self
    }

    /// Replaces all settings, `max_in_flight` among them.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Messages that may be in hand at a time, over all nsqds.
    pub fn max_in_flight(mut self, max_in_flight: u32) -> Self {
        self.config.max_in_flight = max_in_flight;
        self
    }

    /// Called with every message that is given up. It runs where messages are received: keep it
    /// short.
    pub fn on_give_up(mut self, hook: impl Fn(&GivenUp) + Send + Sync + 'static) -> Self {
        self.hooks.give_up = Some(Arc::new(hook));
        self
    }

    /// Decides which of the addresses that lookup services name are connected to.
    pub fn filter_nsqds(mut self, wants: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.hooks.wants = Some(Arc::new(wants));
        self
    }

    /// Connects to the nsqds given by address and begins to ask the lookup services. Must be
    /// called in a tokio runtime, which then runs the consumer's connections.
    ///
    /// # Errors
    /// Names and settings that are not valid, and the first nsqd that cannot be connected to.
    pub async fn connect(self) -> Result<Consumer, Error> {
        let Self { topic, channel, nsqds, lookupds, config, hooks } = self;
        let subscription = Subscription {
            topic: TopicName::parse(topic.as_bytes())
                .map_err(|_| Error::InvalidTopic(topic.as_str().into()))?,
            channel: ChannelName::parse(channel.as_bytes())
                .map_err(|_| Error::InvalidChannel(channel.as_str().into()))?,
        };
        let services = lookupds.iter().map(|address| LookupService::parse(address, &topic));
        let services = services.collect::<Result<Vec<_>, _>>()?;
        let settings = Arc::new(Settings::new(config, Some(subscription))?);

        let (orders, orders_taken) = mpsc::unbounded_channel();
        let (batches, arrived) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let mut engine =
            Engine::new(Arc::clone(&settings), hooks, Arc::clone(&shared), orders_taken, batches);
        engine.ask_services(services)?;
        for address in nsqds {
            if !engine.name(&address) {
                return Err(Error::AlreadyConnected(address));
            }
            let (link, negotiated) = dial(address, Arc::clone(&settings)).await?;
            engine.connected(link, &negotiated);
        }
        tokio::spawn(engine);
        let control = ConsumerControl { orders, shared, topic: subscription.topic };
        Ok(Consumer { arrived, batch: Vec::new().into_iter(), control })
    }
}

impl GivenUp {
    fn new(arrived: Arrived) -> Self {
        let Arrived { timestamp_ns, attempts, id, body } = arrived;
        Self { id: MessageId(id), body, attempts, timestamp_ns }
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, channel, nsqds, lookupds, .. } = self;
        f.debug_struct("ConsumerBuilder")
            .field("topic", topic)
            .field("channel", channel)
            .field("nsqds", nsqds)
            .field("lookupds", lookupds)
            .finish_non_exhaustive()
    }
}
