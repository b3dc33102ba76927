//! What all requests of the HTTP API share.

use super::health::Health;
use super::metadata::Persist;
use super::shards::{ShardPort, Shards};
use super::stats::statsd;
use crate::limits::{BODY_PERMIT_BYTES, HTTP_BODY_BYTES_MAX, HTTP_STATS_AT_ONCE_MAX};
use crate::log::{DroppedLines, LogFilter};
use crate::options::Options;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

/// The daemon's real ports, as `/info` tells them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// −1 for a unix socket.
    pub(super) tcp: i32,
    /// −1 for a unix socket, 0 when HTTP is disabled.
    pub(super) http: i32,
    /// 0 when there is no HTTPS.
    pub(super) https: i32,
}

/// Shared by every request.
pub(super) struct Control {
    pub(super) shards: Shards,
    /// The options in force; `/config` changes a copy and puts it here.
    pub(super) options: watch::Sender<Options>,
    pub(super) ports: Ports,
    pub(super) started: Instant,
    pub(super) started_at: jiff::Timestamp,
    pub(super) log_filter: Option<LogFilter>,
    /// How the topics' logs are.
    pub(super) health: Health,
    /// Gives free memory back to the system.
    pub(super) free_memory: fn(),
    pub(super) dropped_lines: Option<DroppedLines>,
    /// For what must be on disk before it is answered.
    pub(super) persist: Persist,
    /// `/stats` holds a snapshot of everything in memory: only so many at once.
    pub(super) stats_turns: Semaphore,
    /// Memory for request bodies, in units of [`BODY_PERMIT_BYTES`].
    body_memory: Semaphore,
}

impl Control {
    pub(super) fn new(
        mut options: Options,
        shards: Vec<ShardPort>,
        ports: Ports,
        (log_filter, dropped_lines): (Option<LogFilter>, Option<DroppedLines>),
        persist: Persist,
        health: Health,
        free_memory: fn(),
    ) -> Self {
        // What is not said otherwise is what is listened on, as `/config` shows it from here on.
        let announced = [
            (&mut options.broadcast_tcp_port, ports.tcp),
            (&mut options.broadcast_http_port, ports.http),
        ];
        for (announced, real) in announced {
            if *announced == 0 {
                *announced = u16::try_from(real).unwrap_or_default();
            }
        }
        options.statsd_prefix = statsd::prefix(&options);
        Self {
            shards: Shards::new(shards),
            options: watch::Sender::new(options),
            ports,
            started: Instant::now(),
            started_at: jiff::Timestamp::now(),
            log_filter,
            dropped_lines,
            persist,
            health,
            free_memory,
            stats_turns: Semaphore::new(HTTP_STATS_AT_ONCE_MAX),
            body_memory: Semaphore::new(HTTP_BODY_BYTES_MAX / BODY_PERMIT_BYTES),
        }
    }

    /// Waits until a body of so many bytes may be held. A body larger than all the memory for
    /// bodies waits for all of it, so that it is at least alone.
    pub(super) async fn body_memory(&self, bytes: usize) -> SemaphorePermit<'_> {
        let all = HTTP_BODY_BYTES_MAX / BODY_PERMIT_BYTES;
        let permits = bytes.div_ceil(BODY_PERMIT_BYTES).clamp(1, all);
        let permits = u32::try_from(permits).expect("the number of all permits fits");
        self.body_memory.acquire_many(permits).await.expect("the semaphore is never closed")
    }
}
