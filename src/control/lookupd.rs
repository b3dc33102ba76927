//! nsqlookupd: tells each one which topics and channels there are, and asks them which channels a
//! new topic has elsewhere.
//!
//! Shards only say that something has changed. The [`Announcer`] then gathers all topics and
//! channels; each peer has a task of its own that knows what its nsqlookupd has been told and tells
//! it the difference. A peer that is away delays no other, and whatever it missed is in the
//! difference when it is back.

mod connection;
mod peer;
mod starting;
mod topology;

use super::http_client;
use super::metadata::MetadataChanged;
use super::shards::{Shards, Unavailable};
use super::state::Control;
use crate::broker::admin::{AdminReply, AdminRequest};
use crate::limits::{LOOKUP_REST, LOOKUP_SHARDS_RETRY};
use crate::options::{Options, VERSION, hostname};
use crate::protocol::name::TopicName;
use peer::{Announcement, Peer};
use serde::Serialize;
use starting::Starter;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use topology::Topology;

/// Keeps all nsqlookupds informed.
pub(super) struct Announcer {
    control: Arc<Control>,
    changed: MetadataChanged,
    topology: watch::Sender<Arc<Topology>>,
    announcement: Announcement,
    peers: Vec<Peer>,
    starter: Starter,
    /// New topics may wait for us, now or from before.
    involved: bool,
    /// There may be other topics and channels than were gathered last.
    stale: bool,
    /// The earliest time to gather again.
    rested: Instant,
}

/// IDENTIFY's body, keys in NSQ's order.
#[derive(Serialize)]
struct Identity<'a> {
    broadcast_address: &'a str,
    hostname: String,
    http_port: u16,
    tcp_port: u16,
    topology_region: &'a str,
    topology_zone: &'a str,
    version: &'static str,
}

impl Announcer {
    /// One that has not begun.
    pub(super) fn new(control: Arc<Control>, changed: MetadataChanged) -> Self {
        let topology = watch::Sender::new(Arc::default());
        let options = control.options.borrow();
        let announcement = Announcement {
            identity: identity(&options).into(),
            topology: topology.subscribe(),
            answer_bytes_max: options.max_body_size,
        };
        let starter = Starter::new(Arc::clone(&control), http_client::plain(&options));
        drop(options);
        Self {
            control,
            changed,
            topology,
            announcement,
            peers: Vec::new(),
            starter,
            involved: false,
            stale: false,
            rested: Instant::now(),
        }
    }

    /// Runs until told to stop. nsqlookupd is not told of that: the end of the connection says it.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut links = JoinSet::new();
        let mut options = self.control.options.subscribe();
        options.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                _ = options.changed() => {
                    let addresses = options.borrow_and_update().nsqlookupd_tcp_addresses.clone();
                    self.reconfigure(&addresses, &mut links).await;
                }
                started = self.starter.next() => {
                    if !started {
                        self.gather_at(Instant::now() + LOOKUP_SHARDS_RETRY);
                    }
                }
                () = self.changed.any(), if !self.stale => self.stale = self.involved,
                () = sleep_until(self.rested), if self.stale => self.gather().await,
            }
        }
        // The tasks of peers end before what they watch does.
        drop(links);
        tracing::info!("LOOKUP: closing");
    }

    /// Keeps the peers that are still wanted, in their order, and adds the new ones behind them.
    async fn reconfigure(&mut self, addresses: &[String], links: &mut JoinSet<()>) {
        let (kept, removed): (Vec<_>, Vec<_>) = std::mem::take(&mut self.peers)
            .into_iter()
            .partition(|peer| addresses.contains(&peer.address));
        for peer in &removed {
            tracing::info!("LOOKUP({}): removing peer", peer.address);
        }
        self.peers = kept;
        drop(removed);
        while links.try_join_next().is_some() {}
        let known =
            |peers: &[Peer], address: &String| peers.iter().any(|peer| peer.address == *address);
        if !addresses.iter().all(|address| known(&self.peers, address)) {
            // So that a new peer is told of all there is at once.
            self.gather().await;
        }
        for address in addresses {
            if !known(&self.peers, address) {
                tracing::info!("LOOKUP({address}): adding peer");
                let announcement = self.announcement.clone();
                self.peers.push(Peer::start(address.clone(), announcement, links));
            }
        }
        self.changed.let_new_topics_wait(!self.peers.is_empty());
        // A shard may still have a topic wait that was created before this.
        self.involved |= !self.peers.is_empty();
    }

    /// Looks at all topics: peers are told what is new, and topics that wait are started.
    async fn gather(&mut self) {
        let began = Instant::now();
        self.stale = false;
        match gather(&self.control.shards).await {
            Ok((topology, waiting)) => {
                self.topology.send_replace(Arc::new(topology));
                let lookups = self.peers.iter().filter_map(Peer::http_address).collect();
                self.starter.start(waiting, lookups, !self.peers.is_empty());
                self.rested = Instant::now() + began.elapsed().max(LOOKUP_REST);
            }
            Err(Unavailable) => {
                tracing::error!("LOOKUP: a shard does not answer");
                self.gather_at(Instant::now() + LOOKUP_SHARDS_RETRY);
            }
        }
    }

    fn gather_at(&mut self, time: Instant) {
        self.stale = true;
        self.rested = time;
    }
}

/// Waits for the order to stop; a sender that is gone counts as one.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Everything there is, and the topics that wait to be started.
async fn gather(shards: &Shards) -> Result<(Topology, Vec<TopicName>), Unavailable> {
    let mut topology = Topology::default();
    let mut waiting = Vec::new();
    let request =
        |from| AdminRequest::TopicsPage { from, topic: None, channel: None, latencies: false };
    let read = shards.read_pages(request, |reply| match reply {
        AdminReply::Topics(page) => {
            for topic in page.topics {
                let channels = topic.channels.iter().map(|channel| channel.name).collect();
                topology.0.insert(topic.name, channels);
                if topic.starting {
                    waiting.push(topic.name);
                }
            }
            Ok(page.next)
        }
        _ => Err(Unavailable),
    });
    read.await?;
    Ok((topology, waiting))
}

fn identity(options: &Options) -> Vec<u8> {
    let identity = Identity {
        broadcast_address: &options.broadcast_address,
        hostname: hostname(),
        http_port: options.broadcast_http_port,
        tcp_port: options.broadcast_tcp_port,
        topology_region: &options.topology_region,
        topology_zone: &options.topology_zone,
        version: VERSION,
    };
    serde_json::to_vec(&identity).expect("texts and numbers have a form in JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;

    #[test]
    fn a_daemon_introduces_itself() {
        let flags = ["-broadcast-address=b", "-broadcast-tcp-port=1", "-broadcast-http-port=2"];
        let topology = ["-topology-region=r", "-topology-zone=z"];
        let arguments = flags.iter().chain(&topology).map(Into::into);
        let text = String::from_utf8(identity(&options::parse(arguments).unwrap())).unwrap();
        let hostname = hostname();
        let expected = format!(
            r#"{{"broadcast_address":"b","hostname":"{hostname}","http_port":2,"tcp_port":1,"#
        ) + r#""topology_region":"r","topology_zone":"z","version":"1.3.0"}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn addresses_and_ports_are_joined_as_urls_have_them() {
        assert_eq!(options::join_host_port("host", 4161), "host:4161");
        assert_eq!(options::join_host_port("::1", 4161), "[::1]:4161");
    }
}
