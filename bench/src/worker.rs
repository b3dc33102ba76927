//! One thread of the generator: opens its share of the connections, then drives them all on a ring
//! of its own.

use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_uring::net::TcpStream;

use crate::connection::{Opening, open};
use crate::histogram::Recorder;
use crate::load::{self, Surroundings};
use crate::open_loop::{self, Outstanding, Template};
use crate::progress::{Phase, Progress};
use crate::scenario::{Kind, Plan};
use crate::tape::Tape;
use crate::timeline::IntervalTimings;
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
    Done(Box<IntervalTimings>),
    /// The run cannot go on.
    Failed(anyhow::Error),
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
    pub(crate) address: SocketAddr,
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
            Ok(timings) => Event::Done(Box::new(timings)),
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
    Consume,
    Idle,
}

impl Assignment {
    fn run(&self, events: &Sender<(usize, Event)>) -> Result<IntervalTimings> {
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
        });
        let ended = runtime.block_on(self.drive(Rc::clone(&here), roles));
        if ended.is_err() {
            // Dropping the runtime would wait for operations that may never complete; the process
            // ends on this error anyway.
            std::mem::forget(runtime);
        }
        ended.map(|()| here.recorder.take())
    }

    /// Which of `count` connections are this thread's.
    fn share(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (self.thread..count).step_by(self.threads)
    }

    fn open_all(&self) -> Result<Vec<(Role, std::net::TcpStream)>> {
        let plan = &self.plan;
        let identify = plan.identify.then(|| wire::identify(plan.heartbeat_ms));
        let mut roles = Vec::new();
        if plan.consumes() {
            let each = plan.channels * plan.consumers;
            for index in self.share(plan.topics * each) {
                let (topic, channel) = (&self.topics[index / each], index % plan.channels);
                let subscribe = Some(wire::subscribe(topic, &format!("channel_{channel}")));
                let opening = Opening { identify: identify.clone(), subscribe };
                roles.push((Role::Consume, open(self.address, &opening)?));
            }
        }
        let opening = Opening { identify, subscribe: None };
        for index in self.share(plan.connections) {
            let stream = open(self.address, &opening)?;
            let role = if plan.kind == Kind::Idle { Role::Idle } else { Role::Produce(index) };
            roles.push((role, stream));
        }
        Ok(roles)
    }

    /// Runs all connections to their end.
    async fn drive(
        &self,
        here: Rc<Surroundings>,
        roles: Vec<(Role, std::net::TcpStream)>,
    ) -> Result<()> {
        let (done, mut ended) = unbounded_channel();
        let mut streams = Vec::with_capacity(roles.len());
        for (role, stream) in roles {
            let stream = Rc::new(TcpStream::from_std(stream));
            self.start(&here, role, &stream, &done);
            streams.push(stream);
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
        loop {
            match tokio::time::timeout(TICK, ended.recv()).await {
                Ok(None) if closing => return Ok(()),
                // The thread stays until the end: its CPU time is read from outside.
                Ok(None) => tokio::time::sleep(TICK).await,
                Ok(Some(result)) => result?,
                Err(_) => {}
            }
            if self.progress.reached(Phase::Stop) && !closing {
                closing = true;
                for stream in &streams {
                    // It ends a read that waits; a connection that is closed already is fine.
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        }
    }

    /// Starts the tasks of one connection.
    fn start(
        &self,
        here: &Rc<Surroundings>,
        role: Role,
        stream: &Rc<TcpStream>,
        done: &UnboundedSender<Result<()>>,
    ) {
        let (here, ours) = (Rc::clone(here), Rc::clone(stream));
        match role {
            Role::Idle => launch(done, load::idle(here, ours)),
            Role::Consume => {
                launch(done, load::ready_at_load(Rc::clone(&here), Rc::clone(&ours)));
                launch(done, load::consume(here, ours));
            }
            Role::Produce(index) if self.plan.kind == Kind::Latency => {
                let body = self.body();
                let topics = self.topics_of(index);
                let templates = topics.iter().map(|topic| Template::new(topic, &body)).collect();
                let outstanding = Rc::new(Outstanding::new());
                let answers = open_loop::take_answers(
                    Rc::clone(&here),
                    Rc::clone(&ours),
                    Rc::clone(&outstanding),
                );
                launch(done, answers);
                launch(done, open_loop::send_when_due(here, ours, outstanding, templates, index));
            }
            Role::Produce(index) => {
                let (batch, in_flight) = (self.plan.batch, self.plan.in_flight);
                let tape = Tape::new(&self.topics_of(index), &self.body(), batch, in_flight);
                let first_phase =
                    if self.plan.kind == Kind::Drain { Phase::Fill } else { Phase::Load };
                launch(done, load::produce(here, ours, tape, first_phase));
            }
        }
    }

    /// The topics of a producer: one when there are as many producers as topics, else its share.
    fn topics_of(&self, index: usize) -> Vec<String> {
        let (producers, topics) = (self.plan.connections, self.topics.len());
        if producers >= topics {
            return vec![self.topics[index % topics].clone()];
        }
        (index..topics).step_by(producers).map(|topic| self.topics[topic].clone()).collect()
    }

    /// The same for every message of every run, and not compressible.
    fn body(&self) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(42);
        std::iter::repeat_with(|| random.u8(..)).take(self.plan.body_bytes).collect()
    }
}

fn launch(
    done: &UnboundedSender<Result<()>>,
    task: impl std::future::Future<Output = Result<()>> + 'static,
) {
    let done = done.clone();
    tokio_uring::spawn(async move {
        // The receiver is gone only when the run has failed already.
        let _ = done.send(task.await);
    });
}
