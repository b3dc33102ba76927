//! The control thread: the HTTP API, the signals, and the file of topics and channels.
//!
//! It runs a tokio runtime of its own and owns nothing of the data path. What it wants of topics
//! it asks of their shards by mail ([`shards`]); a slow HTTP client, a large `/stats` or a stall
//! here costs a shard nothing.

pub mod auth;
pub mod certificates;
pub mod health;
pub mod metadata;
pub mod shards;
pub mod systemd;
pub mod tokens;

mod config;
mod debug;
mod entities;
mod http_client;
mod lookupd;
mod node;
mod publish;
mod routes;
mod signals;
mod state;
mod stats;

#[cfg(test)]
mod tests;

pub use crate::http::{HttpListener, listener};
pub use auth::{AuthInbox, AuthMail};
pub use shards::{ControlMail, ShardPort, Shards, Unavailable};
pub use signals::StopSignal;

use crate::http::{body, connections, query, response};
use crate::log::{DroppedLines, LogFile, LogFilter};
use crate::options::Options;
use crate::process;
use certificates::Certificates;
use lookupd::Announcer;
use metadata::{Keeper, MetadataConfig};
use state::Control;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, mpsc as sync_mpsc};
use std::thread;
use tokens::Tokens;
use tokio::sync::watch;

/// What the control thread is given.
pub struct ControlConfig {
    /// The daemon's options.
    pub options: Options,
    /// How to reach every shard, in the order of their indexes.
    pub shards: Vec<ShardPort>,
    /// Where HTTP requests come in; `None` when HTTP is disabled.
    pub http: Option<HttpListener>,
    /// The same over TLS; `None` without a certificate, or when it is disabled.
    pub https: Option<HttpListener>,
    /// Whose certificates SIGHUP reads again.
    pub certificates: Certificates,
    /// Whom HTTP requests may come from; `None` for anybody.
    pub tokens: Option<Tokens>,
    /// The TCP port clients really connect to, −1 for a unix socket.
    pub tcp_port: i32,
    /// Lets `/config/log_level` change what is logged.
    pub log_filter: Option<LogFilter>,
    /// Gives memory back to the system that is free.
    pub free_memory: fn(),
    /// What SIGHUP opens again.
    pub log_file: LogFile,
    /// Log lines that were dropped are reported, when there is a way to know.
    pub dropped_lines: Option<DroppedLines>,
    /// Topics and channels across restarts.
    pub metadata: MetadataConfig,
    /// How the topics' logs are; the shards tell it.
    pub health: health::Health,
    /// Whom to ask what clients may do, and the shards' questions; `None` without auth servers.
    pub auth: Option<auth::Desk>,
    /// Called once, on the control thread, when the shards have what was in the file and it has
    /// been written again: clients may come. With an error, NSQ's text of it, the thread ends.
    pub on_ready: Box<dyn FnOnce(Result<(), String>) + Send>,
    /// Called on the control thread at each SIGINT and SIGTERM. It must not block; the thread keeps
    /// serving until [`ControlThread::stop`].
    pub on_stop: Box<dyn FnMut(StopSignal) + Send>,
}

/// The running control thread.
#[derive(Debug)]
pub struct ControlThread {
    withdraw: watch::Sender<bool>,
    close_http: watch::Sender<bool>,
    /// Ends when the last request has been answered.
    http_closed: sync_mpsc::Receiver<Infallible>,
    finish: watch::Sender<bool>,
    thread: thread::JoinHandle<()>,
}

/// Starts the control thread. From here on SIGINT and SIGTERM no longer end the process.
///
/// # Errors
/// When the thread, its runtime or the signal watch cannot be set up.
pub fn run(config: ControlConfig) -> io::Result<ControlThread> {
    let (withdraw, withdrawn) = watch::channel(false);
    let (close_http, close) = watch::channel(false);
    let (finish, finished) = watch::channel(false);
    let (http, http_closed) = sync_mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Those that render large documents; the control thread itself is not one of them.
        .thread_name("control-worker")
        .on_thread_start(process::give_way_to_all)
        .build()?;
    let signals = {
        let _inside = runtime.enter();
        signals::Signals::watch()?
    };
    let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
        process::give_way();
        runtime.block_on(serve(
            config,
            signals,
            Orders { withdraw: withdrawn, close_http: close, http, finish: finished },
        ));
        // What matters has been waited for; a name that is still being looked up has not.
        runtime.shutdown_background();
    })?;
    Ok(ControlThread { withdraw, close_http, http_closed, finish, thread })
}

impl ControlThread {
    /// Leaves the nsqlookupds, so that no new client is sent here; goes on with the rest.
    pub fn withdraw(&self) {
        self.withdraw.send_replace(true);
    }

    /// Stops accepting, and returns when running requests have finished, or have had the time
    /// for it. Shards must still answer their mail meanwhile.
    pub fn close_http(&self) {
        self.withdraw();
        self.close_http.send_replace(true);
        // Nothing is ever sent: this waits for the other end to be dropped.
        let _ = self.http_closed.recv();
    }

    /// As [`Self::close_http`], if it was not called yet; then writes the metadata a last time and
    /// joins the thread. Shards must still answer their mail meanwhile.
    pub fn stop(self) {
        self.close_http();
        self.finish.send_replace(true);
        self.thread.join().expect("a panic of the control thread ends the process");
    }
}

/// What the control thread is told in the course of its life, and what it says.
struct Orders {
    withdraw: watch::Receiver<bool>,
    close_http: watch::Receiver<bool>,
    /// Dropped when the last request has been answered.
    http: sync_mpsc::Sender<Infallible>,
    finish: watch::Receiver<bool>,
}

async fn serve(config: ControlConfig, mut signals: signals::Signals, mut orders: Orders) {
    let port = |listener: &Option<_>| listener.as_ref().map_or(0, HttpListener::port);
    let (http_port, https_port) = (port(&config.http), port(&config.https));
    let changed = config.metadata.changed.clone();
    let (keeper, persist) = Keeper::new(config.metadata.file, config.metadata.changed);
    let control = Arc::new(Control::new(
        config.options,
        config.shards,
        state::Ports { tcp: config.tcp_port, http: http_port, https: https_port },
        (config.log_filter, config.dropped_lines.clone()),
        persist,
        config.health,
        config.free_memory,
    ));
    let ready = bring_back(&control, &keeper, &config.metadata.restored).await;
    let failed = ready.is_err();
    (config.on_ready)(ready);
    if failed {
        return;
    }
    let shards = Arc::clone(&control);
    let keeper = tokio::spawn(async move { keeper.run(&shards.shards, orders.finish).await });
    let stop = orders.close_http.clone();
    let http = config.http.map(|listener| {
        tracing::info!("HTTP: listening on {}", listener.address());
        let router = routes::plain_router(Arc::clone(&control), config.tokens.clone());
        tokio::spawn(connections::serve(listener, router, stop.clone()))
    });
    let https = config.https.map(|listener| {
        tracing::info!("HTTPS: listening on {}", listener.address());
        let router = routes::router(Arc::clone(&control), config.tokens.clone());
        let tls = config.certificates.offered();
        tokio::spawn(connections::serve_tls(listener, tls, router, stop.clone()))
    });
    if let Some(dropped) = config.dropped_lines {
        tokio::spawn(process::report_dropped_lines(dropped));
    }
    let watched = Arc::clone(&control);
    tokio::spawn(async move { systemd::feed_watchdog(&watched.shards).await });
    if let Some((servers, questions)) = config.auth {
        tokio::spawn(auth::serve(servers, Arc::clone(&control), questions));
    }
    let announcer = Announcer::new(Arc::clone(&control), changed);
    let announcer = tokio::spawn(announcer.run(orders.withdraw.clone()));
    let statsd = tokio::spawn(stats::statsd::push(Arc::clone(&control), orders.close_http.clone()));
    let mut on_stop = config.on_stop;
    let on_hang_up = || {
        hang_up(&config.log_file, &config.certificates, &control);
        config.tokens.iter().for_each(Tokens::read_again);
    };
    loop {
        tokio::select! {
            signal = signals.until_stop(on_hang_up) => on_stop(signal),
            // A sender that is gone counts as the order to stop.
            _ = orders.close_http.wait_for(|close| *close) => break,
        }
    }
    for http in [http, https].into_iter().flatten() {
        http.await.expect("a panic of a task ends the process");
    }
    announcer.await.expect("a panic of a task ends the process");
    statsd.await.expect("a panic of a task ends the process");
    drop(orders.http);
    let keeper = keeper.await.expect("a panic of a task ends the process");
    keeper.persist(&control.shards).await;
}

/// SIGHUP: files that may be others by now are opened again.
fn hang_up(log_file: &LogFile, certificates: &Certificates, control: &Control) {
    signals::reopen(log_file);
    certificates.read_again(&control.options.borrow());
}

/// Has the shards create what the file named, and writes it again.
async fn bring_back(
    control: &Control,
    keeper: &Keeper,
    restored: &metadata::Metadata,
) -> Result<(), String> {
    let loaded = metadata::restore(&control.shards, restored).await;
    loaded.map_err(|reason| format!("failed to load metadata - {reason}"))?;
    let written = keeper.write(&control.shards).await;
    match written {
        // The file is there, only not anew: consumers make room, and the keeper tries again.
        Err(reason) if is_no_space(&reason) => {
            tracing::error!("failed to persist metadata - {reason}");
            keeper.try_again();
            Ok(())
        }
        written => written.map_err(|reason| format!("failed to persist metadata - {reason}")),
    }
}

/// Whether a write failed for want of space, by the system's text.
fn is_no_space(reason: &str) -> bool {
    ["no space left on device", "disk quota exceeded"].iter().any(|text| reason.ends_with(text))
}
