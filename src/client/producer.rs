//! Publishing to one of several nsqds, with every answer accounted for.

mod engine;
mod nodes;

use self::engine::Engine;
use super::config::Config;
use super::dial::Settings;
use super::error::Error;
use crate::limits::CLIENT_WINDOW_UNIT_BYTES;
use crate::protocol::name::TopicName;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// Publishes. Clones publish through the same connections; the last one to be dropped ends them
/// once everything is answered.
///
/// Connections are made with the first publish and made again when they are lost. While no nsqd
/// can be reached publishes wait, up to `publish_timeout`. What was sent on a connection that is
/// lost before the answer came is reported as [`Error::Unanswered`]; what was not yet sent goes to
/// another nsqd.
///
/// ```no_run
/// # async fn f() -> Result<(), ringmain::client::Error> {
/// use ringmain::client::Producer;
/// let producer = Producer::new().nsqd("127.0.0.1:4150").nsqd("127.0.0.1:5150").start()?;
/// producer.publish("orders", "one").await?;
/// producer.publish_batch("orders", ["two", "three"]).await?;
/// // Many at a time: each answer is a future of its own.
/// let first = producer.begin("orders", "four").await?;
/// let second = producer.begin("orders", "five").await?;
/// first.await?;
/// second.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    orders: mpsc::UnboundedSender<Order>,
    window: Arc<Window>,
}

/// What a producer is to be; [`start`](Self::start) makes it.
#[derive(Debug)]
#[must_use = "a producer exists once `start` is called"]
pub struct ProducerBuilder {
    nsqds: Vec<Arc<str>>,
    config: Config,
    window: u32,
    attempts: u32,
}

/// The answer to a publish that is under way. Dropping it does not call the publish back.
#[derive(Debug)]
#[must_use = "an answer that nobody waits for may be an error that nobody sees"]
pub struct Publishing {
    answer: oneshot::Receiver<Result<(), Error>>,
}

/// Room for publishes without an answer.
#[derive(Debug)]
struct Window {
    room: Semaphore,
    size: u32,
}

/// What the handles ask the engine for.
#[derive(Debug)]
enum Order {
    Publish(Publish),
    Ping(oneshot::Sender<Result<(), Error>>),
    Stop(oneshot::Sender<()>),
}

/// One command to publish, and who waits for its answer.
#[derive(Debug)]
struct Publish {
    topic: TopicName,
    content: Content,
    /// What of the window it takes up.
    cost: u32,
    /// How often it may be sent.
    attempts: u32,
    answer: oneshot::Sender<Result<(), Error>>,
}

#[derive(Debug)]
enum Content {
    One(Bytes),
    Deferred(Bytes, Duration),
    Batch(Vec<Bytes>),
}

impl Producer {
    /// A producer, to be completed with addresses and settings.
    #[expect(clippy::new_ret_no_self, reason = "a producer begins as a builder")]
    pub fn new() -> ProducerBuilder {
        let config = Config::default();
        ProducerBuilder { nsqds: Vec::new(), config, window: 4096, attempts: 1 }
    }

    /// Publishes a message and waits until nsqd has it.
    ///
    /// # Errors
    /// See [`Error`]: each says whether the message may be stored.
    pub async fn publish(&self, topic: &str, body: impl Into<Bytes>) -> Result<(), Error> {
        self.begin(topic, body).await?.await
    }

    /// Publishes messages all or none, in one command.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_batch<B: Into<Bytes>>(
        &self,
        topic: &str,
        bodies: impl IntoIterator<Item = B>,
    ) -> Result<(), Error> {
        self.begin_batch(topic, bodies).await?.await
    }

    /// Publishes a message that consumers get after a delay, in whole milliseconds.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); nsqd refuses delays above its limit (one hour by default).
    pub async fn publish_deferred(
        &self,
        topic: &str,
        delay: Duration,
        body: impl Into<Bytes>,
    ) -> Result<(), Error> {
        self.begin_deferred(topic, delay, body).await?.await
    }

    /// Publishes a message, but gives up after this time. A message not sent by then never is.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and [`Error::DeadlinePassed`].
    pub async fn publish_within(
        &self,
        time: Duration,
        topic: &str,
        body: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let published = timeout_at(Instant::now() + time, self.publish(topic, body)).await;
        published.unwrap_or(Err(Error::DeadlinePassed))
    }

    /// Begins to publish: waits for room in the window, and returns a future of the answer.
    /// Messages go out in the order of these calls, as long as the connection lasts.
    ///
    /// # Errors
    /// [`Error::InvalidTopic`], [`Error::EmptyBody`] and [`Error::Stopped`]: nothing was sent.
    pub async fn begin(&self, topic: &str, body: impl Into<Bytes>) -> Result<Publishing, Error> {
        self.submit(topic, Content::One(body.into())).await
    }

    /// Begins to publish messages all or none; as [`begin`](Self::begin).
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn begin_batch<B: Into<Bytes>>(
        &self,
        topic: &str,
        bodies: impl IntoIterator<Item = B>,
    ) -> Result<Publishing, Error> {
        let bodies = bodies.into_iter().map(Into::into).collect();
        self.submit(topic, Content::Batch(bodies)).await
    }

    /// Begins to publish a deferred message; as [`begin`](Self::begin).
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn begin_deferred(
        &self,
        topic: &str,
        delay: Duration,
        body: impl Into<Bytes>,
    ) -> Result<Publishing, Error> {
        self.submit(topic, Content::Deferred(body.into(), delay)).await
    }

    /// Connects, if there is no connection, and says whether any nsqd can be reached.
    ///
    /// # Errors
    /// Why the last of them cannot.
    pub async fn ping(&self) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Ping(answer)).map_err(|_| Error::Stopped)?;
        answered.await.unwrap_or(Err(Error::Stopped))
    }

    /// Waits until everything is answered, then closes the connections. Publishes begun after this
    /// fail with [`Error::Stopped`].
    pub async fn stop(&self) {
        self.window.room.close();
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Stop(done)).is_ok() {
            // An engine that has ended has answered everything, too.
            let _ = is_done.await;
        }
    }

    async fn submit(&self, topic: &str, content: Content) -> Result<Publishing, Error> {
        let topic =
            TopicName::parse(topic.as_bytes()).map_err(|_| Error::InvalidTopic(topic.into()))?;
        let bytes = content.bytes().ok_or(Error::EmptyBody)?;
        let cost = 1 + u32::try_from(bytes / CLIENT_WINDOW_UNIT_BYTES).unwrap_or(u32::MAX - 1);
        let cost = cost.min(self.window.size);
        let room = self.window.room.acquire_many(cost).await.map_err(|_| Error::Stopped)?;
        // The engine gives it back with the answer.
        room.forget();
        let (answer, answered) = oneshot::channel();
        let publish = Publish { topic, content, cost, attempts: 0, answer };
        self.orders.send(Order::Publish(publish)).map_err(|_| Error::Stopped)?;
        Ok(Publishing { answer: answered })
    }
}

impl Content {
    /// Bytes of all bodies; `None` if one is missing or empty, which nsqd answers with the end of
    /// the connection and so of everybody's publishes.
    fn bytes(&self) -> Option<usize> {
        match self {
            Self::One(body) | Self::Deferred(body, _) => Some(body.len()).filter(|len| *len > 0),
            Self::Batch(bodies) => {
                let complete = !bodies.is_empty() && bodies.iter().all(|body| !body.is_empty());
                complete.then(|| bodies.iter().map(|body| body.len() + 4).sum())
            }
        }
    }
}

impl ProducerBuilder {
    /// Adds an nsqd: `host:port`, or the path of a unix socket. Publishes go to all that can be
    /// reached, in turn.
    pub fn nsqd(mut self, address: &str) -> Self {
        self.nsqds.push(address.into());
        self
    }

    /// Replaces all settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Publishes that may be without an answer at a time, 4096 by default; each 4 KiB of a body
    /// counts as one more. Further ones wait.
    pub fn window(mut self, publishes: u32) -> Self {
        self.window = publishes.max(1);
        self
    }

    /// How often a publish may be sent, 1 by default. With more, what an nsqd could not keep
    /// (`E_PUB_FAILED`) or did not answer is sent again, to another nsqd if there is one; in the
    /// latter case it may then be stored twice.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Starts the producer. Must be called in a tokio runtime, which then runs its connections;
    /// they are made with the first publish.
    ///
    /// # Errors
    /// Settings that are not valid, or no address.
    pub fn start(self) -> Result<Producer, Error> {
        let Self { nsqds, config, window, attempts } = self;
        if nsqds.is_empty() {
            return Err(Error::Setting("a producer needs the address of an nsqd".into()));
        }
        let settings = Arc::new(Settings::new(config, None)?);
        let size = window.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        let window = Arc::new(Window { room: Semaphore::new(size as usize), size });
        let (orders, taken) = mpsc::unbounded_channel();
        tokio::spawn(Engine::new(settings, nsqds, attempts, Arc::clone(&window), taken));
        Ok(Producer { orders, window })
    }
}

impl Future for Publishing {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or(Err(Error::Stopped)))
    }
}
