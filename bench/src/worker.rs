//! One thread of the generator: opens its share of the connections, then drives them all on a ring
//! of its own.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::connection::{Opened, Opening, open};
use crate::consume::{self, Consumer};
use crate::encode::Encoder;
use crate::endpoint::Endpoint;
use crate::histogram::Recorder;
use crate::link::Link;
use crate::load::{self, Source, Surroundings, TaskEnd};
use crate::open_loop;
use crate::progress::{Phase, Progress};
use crate::scenario::{Kind, Plan};
use crate::tape::Tape;
use crate::timeline::IntervalTimings;
use crate::verify::{Delivered, Published};
use crate::wire;

/// Submission queue entries of a thread's ring.
const RING_ENTRIES: u32 = 1024;
/// How often a thread looks whether the run has ended.
const TICK: Duration = Duration::from_millis(10);

/// What a thread tells the one that waits for it.
pub(crate) enum Event {
    /// All connections are open. Carries the kernel's id of the thread.
    Ready(i32),
    /// The run is over and all connections have ended as they should.
    Done(Box<IntervalTimings>, Books),
    /// The run cannot go on.
    Failed(anyhow::Error),
}

/// What a thread's connections published and were delivered, when the run is verified.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) published: Vec<Published>,
    pub(crate) delivered: Vec<Delivered>,
}

/// The work of one thread.
pub(crate) struct Assignment {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    /// Core to stay on.
    pub(crate) cpu: Option<usize>,
    pub(crate) spin: bool,
    /// Length of the timeline's intervals.
    pub(crate) interval_ns: u64,
    /// Where the daemon takes publishes.
    pub(crate) endpoint: Endpoint,
    /// Where it speaks NSQ's protocol: another place when publishes go over HTTP.
    pub(crate) tcp_endpoint: Endpoint,
    /// Names of one length.
    pub(crate) topics: Arc<Vec<String>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) progress: Arc<Progress>,
}

/// Starts the thread. It ends with `Event::Done` or `Event::Failed`.
pub(crate) fn spawn(assignment: Assignment, events: Sender<(usize, Event)>) -> Result<()> {
    let name = format!("load-{}", assignment.thread);
    let body = move || {
        let thread = assignment.thread;
        let end = match assignment.run(&events) {
            Ok((timings, books)) => Event::Done(Box::new(timings), books),
            Err(error) => Event::Failed(error),
        };
        // Nobody listens any more when another thread has failed first.
        let _ = events.send((thread, end));
    };
    std::thread::Builder::new().name(name).spawn(body).context("cannot start a thread")?;
    Ok(())
}

/// Keeps the calling thread on core `cpu`.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(cpu);
    stay_on(&cpus).with_context(|| format!("cannot pin a thread to core {cpu}"))
}

/// Keeps the calling thread on `cpus`.
pub(crate) fn stay_on(cpus: &rustix::thread::CpuSet) -> Result<()> {
    Ok(rustix::thread::sched_setaffinity(None, cpus)?)
}

/// What a connection is for.
#[derive(Clone, Copy)]
enum Role {
    /// The connection of this number among all that publish.
    Produce(usize),
    /// Of the consumers of all channels of all topics.
    Consume(usize),
    Idle,
}

impl Assignment {
    fn run(&self, events: &Sender<(usize, Event)>) -> Result<(IntervalTimings, Books)> {
        if let Some(cpu) = self.cpu {
            pin(cpu)?;
        }
        let mut ring = tokio_uring::uring_builder();
        ring.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag();
        let mut builder = tokio_uring::builder();
        builder.entries(RING_ENTRIES).uring_builder(&ring);
        let runtime = tokio_uring::Runtime::new(&builder)
            .context("io_uring is not available: is it allowed here (kernel.io_uring_disabled)?")?;
        let roles = self.open_all()?;
        let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        let _ = events.send((self.thread, Event::Ready(thread_id)));
        let here = Rc::new(Surroundings {
            plan: Arc::clone(&self.plan),
            progress: Arc::clone(&self.progress),
            thread: self.thread,
            recorder: Recorder::new(self.interval_ns),
            endpoint: self.endpoint.clone(),
            opening: self.opening(None),
        });
        let ended = runtime.block_on(self.drive(Rc::clone(&here), roles));
        if ended.is_err() {
            // Dropping the runtime would wait for operations that may never complete; the process
            // ends on this error anyway.
            std::mem::forget(runtime);
        }
        ended.map(|books| (here.recorder.take(), books))
    }

    /// Which of `count` connections are this thread's.
    fn share(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (self.thread..count).step_by(self.threads)
    }

    /// How a connection starts, with SUB if there is one.
    fn opening(&self, subscribe: Option<Vec<u8>>) -> Opening {
        let plan = &self.plan;
        Opening {
            identify: plan.identify.then(|| wire::identify(&plan.identity())),
            demands: plan.features.clone(),
            http: plan.http && subscribe.is_none(),
            subscribe,
        }
    }

    fn open_all(&self) -> Result<Vec<(Role, Opened)>> {
        let plan = &self.plan;
        let mut roles = Vec::new();
        for index in self.share(plan.consumer_connections()) {
            let (topic, channel) = self.place(index);
            let suffix = if plan.ephemeral { "#ephemeral" } else { "" };
            let channel = format!("channel_{channel}{suffix}");
            let subscribe = wire::subscribe(&self.topics[topic], &channel);
            let opened = open(&self.tcp_endpoint, &self.opening(Some(subscribe)))?;
            roles.push((Role::Consume(index), opened));
        }
        let idle = Opening { http: false, ..self.opening(None) };
        for _ in self.share(plan.idle) {
            roles.push((Role::Idle, open(&self.tcp_endpoint, &idle)?));
        }
        let opening = self.opening(None);
        for index in self.share(plan.connections) {
            let role = if plan.kind == Kind::Idle { Role::Idle } else { Role::Produce(index) };
            roles.push((role, open(&self.endpoint, &opening)?));
        }
        Ok(roles)
    }

    /// The topic and the channel of a consumer.
    fn place(&self, consumer: usize) -> (usize, usize) {
        let each = self.plan.channels * self.plan.consumers;
        (consumer / each, consumer % self.plan.channels)
    }

    /// Runs all connections to their end.
    async fn drive(&self, here: Rc<Surroundings>, roles: Vec<(Role, Opened)>) -> Result<Books> {
        let (done, mut ended) = unbounded_channel();
        let mut links = Vec::with_capacity(roles.len());
        let consumers = roles.iter().filter(|(role, _)| matches!(role, Role::Consume(_))).count();
        for (role, opened) in roles {
            let link = Rc::new(Link::new(opened));
            // A producer that connects anew must be able to close it.
            links.push(Rc::downgrade(&link));
            match role {
                Role::Idle => launch(&done, load::idle(Rc::clone(&here), link)),
                Role::Consume(index) => self.consume(&here, index, &link, consumers, &done),
                Role::Produce(index) => self.produce(&here, index, &link, &done),
            }
        }
        drop(done);
        if self.spin {
            let progress = Arc::clone(&self.progress);
            tokio_uring::spawn(async move {
                // A no-op completes at once, so the thread always has something to wait for that
                // is already there.
                while !progress.reached(Phase::Stop) && tokio_uring::no_op().await.is_ok() {}
            });
        }
        let mut closing = false;
        let mut books = Books::default();
        loop {
            match tokio::time::timeout(TICK, ended.recv()).await {
                Ok(None) if closing => return Ok(books),
                // The thread stays until the end: its CPU time is read from outside.
                Ok(None) => tokio::time::sleep(TICK).await,
                Ok(Some(end)) => match end? {
                    TaskEnd::Published(published) => books.published.push(published),
                    TaskEnd::Delivered(delivered) => books.delivered.push(*delivered),
                    TaskEnd::Nothing => {}
                },
                Err(_) => {}
            }
            if self.progress.reached(Phase::Stop) && !closing {
                closing = true;
                for link in links.iter().filter_map(Weak::upgrade) {
                    link.shut_down();
                }
            }
        }
    }

    /// Starts the tasks of a consumer.
    fn consume(
        &self,
        here: &Rc<Surroundings>,
        index: usize,
        link: &Rc<Link>,
        peers: usize,
        done: &UnboundedSender<Result<TaskEnd>>,
    ) {
        launch(done, consume::ready_at_load(Rc::clone(here), Rc::clone(link)));
        let (topic, channel) = self.place(index);
        let place_in_channel = index / self.plan.channels % self.plan.consumers;
        let later = (place_in_channel < self.plan.slow_consumers).then(|| {
            let (later, work) = unbounded_channel();
            launch(done, consume::finish_slowly(Rc::clone(here), Rc::clone(link), work));
            later
        });
        let consumer = Consumer {
            here: Rc::clone(here),
            delivered: Delivered::new(number(topic), number(channel)),
            later,
            random: fastrand::Rng::with_seed(index as u64 + 1),
        };
        launch(done, consumer.run(Rc::clone(link), peers));
    }

    /// Starts the tasks of a producer.
    fn produce(
        &self,
        here: &Rc<Surroundings>,
        index: usize,
        link: &Rc<Link>,
        done: &UnboundedSender<Result<TaskEnd>>,
    ) {
        let (plan, number) = (&self.plan, number(index));
        let topics = self.topics_of(index);
        let encoder = Encoder::new(plan, number, &topics);
        if plan.is_open_loop() && plan.kind != Kind::Drain {
            return open_loop::launch(here, link, encoder, number, 0, done);
        }
        let source = match plan.stamped() {
            true => Source::Fresh(encoder, Vec::new()),
            false => Source::Tape(Tape::new(encoder, plan.in_flight)),
        };
        let producer = load::Producer::new(Rc::clone(here), Rc::clone(link), source, number);
        match (plan.kind, plan.is_open_loop()) {
            (Kind::Drain, true) => {
                let (here, link) = (Rc::clone(here), Rc::clone(link));
                let later = done.clone();
                launch(done, async move {
                    let (kept, commands) = producer.fill().await?;
                    let encoder = kept.unwrap_or_else(|| Encoder::new(&here.plan, number, &topics));
                    open_loop::launch(&here, &link, encoder, number, commands, &later);
                    Ok(TaskEnd::Nothing)
                });
            }
            (Kind::Drain, false) => launch(done, producer.run(Phase::Fill)),
            _ => launch(done, producer.run(Phase::Load)),
        }
    }

    /// The topics of a producer, by number and name: one when there are as many producers as
    /// topics, else its share.
    fn topics_of(&self, index: usize) -> Vec<(u32, String)> {
        let (producers, topics) = (self.plan.connections, self.topics.len());
        let (first, step) = match producers >= topics {
            true => (index % topics, topics),
            false => (index, producers),
        };
        let mine = (first..topics).step_by(step);
        mine.map(|topic| (number(topic), self.topics[topic].clone())).collect()
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a run has far fewer topics and connections")
}

/// Starts a task; its end is told to `done`.
pub(crate) fn launch(
    done: &UnboundedSender<Result<TaskEnd>>,
    task: impl std::future::Future<Output = Result<TaskEnd>> + 'static,
) {
    let done = done.clone();
    tokio_uring::spawn(async move {
        // The receiver is gone only when the run has failed already.
        let _ = done.send(task.await);
    });
}
