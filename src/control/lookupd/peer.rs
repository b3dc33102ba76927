//! One nsqlookupd: kept connected, and told what there is.

use super::connection::{Connection, LookupIdentity};
use super::topology::Topology;
use crate::limits::{LOOKUP_PING_EVERY, LOOKUP_PIPELINE_MAX, LOOKUP_RETRY_MAX, LOOKUP_RETRY_MIN};
use crate::options::duration;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval_at, sleep};

/// A peer that is being kept connected; dropping it closes the connection.
pub(super) struct Peer {
    /// As the option has it.
    pub(super) address: String,
    /// `host:port` of its HTTP API, once it has said so; kept while it is away.
    http_address: watch::Receiver<Option<String>>,
    task: AbortHandle,
}

/// What all peers are given alike.
#[derive(Clone)]
pub(super) struct Announcement {
    /// The body of IDENTIFY.
    pub(super) identity: Arc<[u8]>,
    /// What there is, as it changes.
    pub(super) topology: watch::Receiver<Arc<Topology>>,
    /// Longest answer, in bytes.
    pub(super) answer_bytes_max: usize,
}

impl Peer {
    /// Begins to connect.
    pub(super) fn start(
        address: String,
        announcement: Announcement,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (known, http_address) = watch::channel(None);
        let link = Link { address: address.clone(), announcement, http_address: known };
        Self { address, http_address, task: tasks.spawn(link.run()) }
    }

    /// Where its HTTP API is, if that is known.
    pub(super) fn http_address(&self) -> Option<String> {
        self.http_address.borrow().clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task's side of a peer.
struct Link {
    address: String,
    announcement: Announcement,
    http_address: watch::Sender<Option<String>>,
}

impl Link {
    async fn run(mut self) {
        let mut pause = LOOKUP_RETRY_MIN;
        loop {
            let address = &self.address;
            tracing::info!("LOOKUP connecting to {address}");
            let mut registered = false;
            let Err(reason) = self.stay_connected(&mut registered).await;
            if registered {
                pause = LOOKUP_RETRY_MIN;
            }
            let (address, again) = (&self.address, duration::format(pause));
            tracing::error!("LOOKUPD({address}): {reason}; connecting again in {again}");
            sleep(pause).await;
            pause = (pause * 2).min(LOOKUP_RETRY_MAX);
        }
    }

    /// Connects and keeps the peer's knowledge up to date until that fails.
    async fn stay_connected(&mut self, registered: &mut bool) -> Result<Infallible, String> {
        let bytes_max = self.announcement.answer_bytes_max;
        let mut connection = Connection::open(&self.address, bytes_max).await?;
        let identity = connection.identify(&self.announcement.identity).await?;
        self.learn(&identity);
        let mut known = Arc::default();
        let mut ping =
            interval_at(tokio::time::Instant::now() + LOOKUP_PING_EVERY, LOOKUP_PING_EVERY);
        loop {
            let now = Arc::clone(&self.announcement.topology.borrow_and_update());
            self.tell(&mut connection, &now, &known, !*registered).await?;
            known = now;
            *registered = true;
            tokio::select! {
                changed = self.announcement.topology.changed() => {
                    changed.expect("the topology outlives those who are told of it");
                }
                _ = ping.tick() => {
                    tracing::debug!("LOOKUPD({}): sending heartbeat", self.address);
                    connection.order(["PING"].iter()).await?;
                }
                reason = connection.ended() => return Err(reason),
            }
        }
    }

    fn learn(&self, identity: &LookupIdentity) {
        let address = &self.address;
        let LookupIdentity { tcp_port, http_port, version, broadcast_address } = identity;
        tracing::info!(
            "LOOKUPD({address}): peer info {{TCPPort:{tcp_port} HTTPPort:{http_port} \
             Version:{version} BroadcastAddress:{broadcast_address}}}"
        );
        if broadcast_address.is_empty() {
            tracing::error!("LOOKUPD({address}): no broadcast address");
        }
        let http_address = crate::options::join_host_port(broadcast_address, *http_port);
        self.http_address.send_replace((!broadcast_address.is_empty()).then_some(http_address));
    }

    /// Tells the peer what is new since `known`. All there is at first is one line of the log, not
    /// one for each topic.
    async fn tell(
        &self,
        connection: &mut Connection,
        now: &Topology,
        known: &Topology,
        first: bool,
    ) -> Result<(), String> {
        let changes = now.changes_since(known);
        let address = &self.address;
        for some in changes.chunks(LOOKUP_PIPELINE_MAX) {
            for change in some {
                if first {
                    tracing::debug!("LOOKUPD({address}): {change}");
                } else {
                    tracing::info!("LOOKUPD({address}): {} {change}", change.branch());
                }
            }
            connection.order(some.iter()).await?;
        }
        if first {
            tracing::info!("LOOKUPD({address}): registered {} topics", now.0.len());
        }
        Ok(())
    }
}
