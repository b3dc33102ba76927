//! The control thread: the HTTP API and the signals.
//!
//! It runs a tokio runtime of its own and owns nothing of the data path. What it wants of topics
//! it asks of their shards by mail ([`shards`]); a slow HTTP client, a large `/stats` or a stall
//! here costs a shard nothing.

pub mod listener;
pub mod shards;

mod body;
mod config;
mod connections;
mod entities;
mod node;
mod publish;
mod query;
mod response;
mod routes;
mod signals;
mod state;
mod stats;

#[cfg(test)]
mod tests;

pub use listener::HttpListener;
pub use shards::{ControlMail, ShardPort, Shards, Unavailable};
pub use signals::StopSignal;

use crate::limits::LOG_DROPS_REPORTED_EVERY;
use crate::log::{DroppedLines, LogFilter};
use crate::options::Options;
use state::Control;
use std::io;
use std::sync::Arc;
use std::thread;
use tokio::sync::watch;

/// What the control thread is given.
pub struct ControlConfig {
    /// The daemon's options.
    pub options: Options,
    /// How to reach every shard, in the order of their indexes.
    pub shards: Vec<ShardPort>,
    /// Where HTTP requests come in; `None` when HTTP is disabled.
    pub http: Option<HttpListener>,
    /// The TCP port clients really connect to, −1 for a unix socket.
    pub tcp_port: i32,
    /// Lets `/config/log_level` change what is logged.
    pub log_filter: Option<LogFilter>,
    /// Log lines that were dropped are reported, when there is a way to know.
    pub dropped_lines: Option<DroppedLines>,
    /// Called once, on the control thread, at the first SIGINT or SIGTERM. It must not block;
    /// the thread keeps serving until [`ControlThread::stop`].
    pub on_stop: Box<dyn FnOnce(StopSignal) + Send>,
}

/// The running control thread.
#[derive(Debug)]
pub struct ControlThread {
    stop: watch::Sender<bool>,
    thread: thread::JoinHandle<()>,
}

/// Starts the control thread. From here on SIGINT and SIGTERM no longer end the process.
///
/// # Errors
/// When the thread, its runtime or the signal watch cannot be set up.
pub fn run(config: ControlConfig) -> io::Result<ControlThread> {
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        signals::Signals::watch()?
    };
    let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(serve(config, signals, stopped));
    })?;
    Ok(ControlThread { stop, thread })
}

impl ControlThread {
    /// Stops accepting, lets running requests finish for a bounded time, and joins the thread.
    /// Shards must still answer their mail meanwhile.
    pub fn stop(self) {
        self.stop.send_replace(true);
        self.thread.join().expect("a panic of the control thread ends the process");
    }
}

async fn serve(
    config: ControlConfig,
    mut signals: signals::Signals,
    mut stop: watch::Receiver<bool>,
) {
    let http_port = config.http.as_ref().map_or(0, HttpListener::port);
    let control = Arc::new(Control::new(
        config.options,
        config.shards,
        state::Ports { tcp: config.tcp_port, http: http_port },
        config.log_filter,
    ));
    let http = config.http.map(|listener| {
        tracing::info!("HTTP: listening on {}", listener.address());
        tokio::spawn(connections::serve(listener, control, stop.clone()))
    });
    if let Some(dropped) = config.dropped_lines {
        tokio::spawn(report_dropped_lines(dropped));
    }
    let on_stop = config.on_stop;
    tokio::select! {
        signal = signals.next() => on_stop(signal),
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // A sender that is gone counts as the order to stop.
    let _ = stop.wait_for(|stop| *stop).await;
    if let Some(http) = http {
        http.await.expect("a panic of a task ends the process");
    }
}

/// Tells of log lines that nobody will see.
async fn report_dropped_lines(dropped: DroppedLines) {
    let mut reported = 0;
    loop {
        tokio::time::sleep(LOG_DROPS_REPORTED_EVERY).await;
        let count = dropped.count();
        if count > reported {
            let lines = count - reported;
            tracing::warn!("{lines} log lines dropped: standard error is not read fast enough");
            reported = count;
        }
    }
}
