//! The threads of the shards: what each begins with, and how the main thread reaches it.

use super::listeners::TcpSide;
use super::{Event, ShardPort, settings, shard_failed};
use crate::broker::shard::{Shard, ShardConfig};
use crate::control::certificates::OfferedTls;
use crate::control::health::Health;
use crate::control::metadata::{MetadataChanged, Removal};
use crate::control::{AuthInbox, ControlMail};
use crate::limits::{CONTROL_MAIL_MAX, MAILBOX_CAPACITY};
use crate::options::Options;
use crate::reactor::mailbox::{Mailboxes, mesh};
use crate::reactor::{ControlWaker, ReactorOptions, Uring, affinity};
use crate::server::clock::Clock;
use crate::server::{DaemonStage, EventLoop, Handshakes, ShardMail, ShardParts};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A running shard, as the main thread sees it.
pub(super) struct ShardThread {
    pub(super) thread: JoinHandle<()>,
    pub(super) waker: ControlWaker,
}

/// The way into a shard for the control thread's mail.
type Inbox = SyncSender<ControlMail>;

/// What all shards are given alike.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) reactor: ReactorOptions,
    pub(super) stage: Arc<DaemonStage>,
    pub(super) metadata: MetadataChanged,
    /// To the main thread.
    pub(super) events: Sender<Event>,
    /// Where the logs of topics lie.
    pub(super) data_path: PathBuf,
    /// To the thread that removes logs.
    pub(super) removals: Sender<Removal>,
    /// To be told how the logs are.
    pub(super) health: Health,
    /// The TLS that clients are offered.
    pub(super) tls: OfferedTls,
    /// To whoever asks auth servers.
    pub(super) auth: Option<AuthInbox>,
}

/// Starts a thread per shard, and returns when all their reactors are ready.
///
/// # Errors
/// Which shard cannot start, and why.
pub(super) fn spawn(
    options: &Options,
    shared: &Shared,
    tcp: TcpSide,
    events: &Receiver<Event>,
) -> Result<(Vec<ShardThread>, Vec<ShardPort>), String> {
    let (threads, mails) = spawn_threads(options, shared, tcp)?;
    let mut wakers: Vec<Option<ControlWaker>> = threads.iter().map(|_| None).collect();
    while wakers.iter().any(Option::is_none) {
        match events.recv() {
            Ok(Event::Ready(index, waker)) => wakers[index] = Some(waker),
            Ok(Event::Failed(index, reason)) => return Err(shard_failed(index, &reason)),
            Ok(_) | Err(_) => {}
        }
    }
    let wakers: Vec<_> = wakers.into_iter().flatten().collect();
    let port = |(mail, waker): (Inbox, &ControlWaker)| {
        let waker = waker.clone();
        ShardPort { mail, wake: Arc::new(move || waker.wake()) }
    };
    let ports = mails.into_iter().zip(&wakers).map(port).collect();
    let shard = |(thread, waker)| ShardThread { thread, waker };
    Ok((threads.into_iter().zip(wakers).map(shard).collect(), ports))
}

fn spawn_threads(
    options: &Options,
    shared: &Shared,
    mut tcp: TcpSide,
) -> Result<(Vec<JoinHandle<()>>, Vec<Inbox>), String> {
    let cpus = affinity::available_cpus().unwrap_or_default();
    let clock = Clock::start();
    let offers_tls = shared.tls.borrow().is_some();
    let (mut threads, mut mails) = (Vec::new(), Vec::new());
    for (index, mailboxes) in mesh(options.shards, MAILBOX_CAPACITY).into_iter().enumerate() {
        let (mail, control) = sync_channel(CONTROL_MAIL_MAX);
        let seat = Seat {
            index,
            cpu: (options.shards <= cpus.len()).then(|| cpus[index]),
            listener: tcp.listeners[index].take(),
            spreads: tcp.spreads,
            config: settings::shard_config(options, index),
            mailboxes,
            clock,
            // Started here, where no thread is pinned to a CPU yet.
            handshakes: match offers_tls {
                true => Handshakes::start(index).map_err(|error| no_thread(index, &error))?,
                false => Handshakes::none(),
            },
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || seat.run(control))
            .map_err(|error| no_thread(index, &error))?;
        threads.push(thread);
        mails.push(mail);
    }
    Ok((threads, mails))
}

/// What a shard's thread begins with.
struct Seat {
    index: usize,
    /// The CPU it is pinned to; none when there are more shards than CPUs.
    cpu: Option<usize>,
    listener: Option<OwnedFd>,
    spreads: bool,
    config: ShardConfig,
    mailboxes: Mailboxes<ShardMail>,
    clock: Clock,
    handshakes: Handshakes,
    shared: Shared,
}

fn no_thread(shard: usize, error: &io::Error) -> String {
    format!("cannot start a thread for shard {shard} - {error}")
}

impl Seat {
    fn run(self, control: Receiver<ControlMail>) {
        let (index, events) = (self.index, self.shared.events.clone());
        if let Err(reason) = self.serve(control) {
            // Without the main thread the process is ending already.
            let _ = events.send(Event::Failed(index, reason));
        }
    }

    fn serve(self, control: Receiver<ControlMail>) -> Result<(), String> {
        if let Some(cpu) = self.cpu
            && let Err(error) = affinity::pin_to(cpu)
        {
            tracing::warn!("shard {} is not pinned to CPU {cpu} - {error}", self.index);
        }
        let reactor = Uring::new(self.shared.reactor).map_err(|error| error.to_string())?;
        let (index, events) = (self.index, self.shared.events);
        let drained = events.clone();
        let _ = events.send(Event::Ready(index, reactor.control_waker()));
        let parts = ShardParts {
            shard: Shard::new(self.config),
            reactor,
            mailboxes: self.mailboxes,
            control,
            listener: self.listener,
            spreads: self.spreads,
            stage: self.shared.stage,
            metadata: self.shared.metadata,
            on_drained: Box::new(move || {
                let _ = drained.send(Event::Drained);
            }),
            on_closed: Box::new(move || {
                let _ = events.send(Event::Closed(index));
            }),
            clock: self.clock,
            data_path: self.shared.data_path,
            removals: self.shared.removals,
            health: self.shared.health,
            tls: self.shared.tls,
            handshakes: self.handshakes,
            auth: self.shared.auth,
        };
        EventLoop::new(parts).run().map_err(|error| format!("io_uring failed - {error}"))
    }
}
