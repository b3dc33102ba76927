//! Topics, channels and their pause states across restarts: read back into the shards at start,
//! and written to `nsqd.dat` whenever they change.
//!
//! Shards touch no file. They say that something has changed ([`MetadataChanged`]); the [`Keeper`]
//! then asks all of them what there is, a page at a time, and replaces the file. One write is in
//! progress at a time, and whatever changes meanwhile is in the next: a burst of new topics costs
//! few writes.

mod document;
mod file;
mod logs;
mod restore;

pub use document::Metadata;
pub use file::{METADATA_FILE, MetadataFile};
pub use logs::{DELETED_SUFFIX, Removal, log_directory, topic_of_log};
pub(super) use restore::restore;

use super::shards::{Shards, Unavailable};
use crate::broker::admin::{AdminReply, AdminRequest, GovernedStats, TopicStats};
use crate::broker::policy::Policy;
use crate::limits::{METADATA_ASKERS_MAX, METADATA_REST, METADATA_RETRY};
use document::{Channel, Topic};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// Says, from any thread, that there are other topics or channels than before. It neither blocks
/// nor grows: what is said before anybody listens counts once.
#[derive(Debug, Clone, Default)]
pub struct MetadataChanged(Arc<Marks>);

/// What a topic or channel that came or went means to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It survives a restart.
    Lasting,
    /// It does not.
    Ephemeral,
}

#[derive(Debug, Default)]
struct Marks {
    /// For the [`Keeper`].
    lasting: Notify,
    /// For lookups.
    any: Notify,
    new_topics_wait: AtomicBool,
}

/// Where the metadata comes from and goes to.
pub struct MetadataConfig {
    /// The file it is kept in.
    pub file: MetadataFile,
    /// What was in that file at start.
    pub restored: Metadata,
    /// The shards have the other end.
    pub changed: MetadataChanged,
}

/// Who writes the file.
pub(super) struct Keeper {
    file: MetadataFile,
    changed: MetadataChanged,
    asked: mpsc::Receiver<Asker>,
}

/// The way to the [`Keeper`] for requests that are answered once their effect is in the file.
#[derive(Debug, Clone)]
pub(super) struct Persist(mpsc::Sender<Asker>);

/// Told whether the file has been written; why not is in the log.
type Asker = oneshot::Sender<bool>;

impl MetadataChanged {
    /// Something has changed.
    pub fn note(&self, change: Change) {
        if change == Change::Lasting {
            self.0.lasting.notify_one();
        }
        self.0.any.notify_one();
    }

    /// Whether topics that are created now keep their messages until they are told to start.
    pub fn do_new_topics_wait(&self) -> bool {
        self.0.new_topics_wait.load(Ordering::Relaxed)
    }

    /// Has topics wait, or not, that shards create from their next turn on.
    pub(super) fn let_new_topics_wait(&self, wait: bool) {
        self.0.new_topics_wait.store(wait, Ordering::Relaxed);
    }

    /// Waits for a change of any kind.
    pub(super) async fn any(&self) {
        self.0.any.notified().await;
    }

    /// Waits for a change that survives a restart, and no less than until `rested`: changes of
    /// that time go together.
    async fn lasting_after(&self, rested: Instant) {
        self.0.lasting.notified().await;
        sleep_until(rested).await;
    }
}

impl Persist {
    /// Returns once everything that was so before the call is in the file. `false` when it could
    /// not be written.
    pub(super) async fn now(&self) -> bool {
        let (asker, answer) = oneshot::channel();
        self.0.send(asker).await.is_ok() && answer.await.unwrap_or(false)
    }
}

impl Keeper {
    /// A keeper that has not begun.
    pub(super) fn new(file: MetadataFile, changed: MetadataChanged) -> (Self, Persist) {
        let (askers, asked) = mpsc::channel(METADATA_ASKERS_MAX);
        (Self { file, changed, asked }, Persist(askers))
    }

    /// Writes the file whenever it has to be, until told to stop.
    pub(super) async fn run(mut self, shards: &Shards, mut stop: watch::Receiver<bool>) -> Self {
        let mut rested = Instant::now();
        loop {
            let mut askers = Vec::new();
            tokio::select! {
                biased;
                Some(asker) = self.asked.recv() => askers.push(asker),
                () = self.changed.lasting_after(rested) => {}
                // A sender that is gone counts as the order to stop.
                _ = stop.wait_for(|stop| *stop) => return self,
            }
            // Whoever asks from here on may have asked for what this write no longer sees.
            while let Ok(asker) = self.asked.try_recv() {
                askers.push(asker);
            }
            let started = Instant::now();
            let written = self.persist(shards).await;
            for asker in askers {
                // An asker that has given up is no concern of ours.
                let _ = asker.send(written);
            }
            rested = Instant::now() + started.elapsed().max(METADATA_REST);
            if !written {
                rested = Instant::now() + METADATA_RETRY;
                self.changed.0.lasting.notify_one();
            }
        }
    }

    /// Has the file written as soon as it runs, though nothing has changed.
    pub(super) fn try_again(&self) {
        self.changed.note(Change::Lasting);
    }

    /// Writes the file. Says in the log when that fails, and returns whether it went well.
    pub(super) async fn persist(&self, shards: &Shards) -> bool {
        let written = self.write(shards).await;
        if let Err(reason) = &written {
            tracing::error!("failed to persist metadata - {reason}");
        }
        written.is_ok()
    }

    /// Writes the file.
    pub(super) async fn write(&self, shards: &Shards) -> Result<(), String> {
        let path = self.file.path().display();
        tracing::info!("NSQ: persisting topic/channel metadata to {path}");
        let topics = gather(shards).await;
        let topics = topics.map_err(|Unavailable| "a shard does not answer".to_owned())?;
        let file = self.file.clone();
        let save = move || file.save(&Metadata::of(topics));
        let saved = tokio::task::spawn_blocking(save).await;
        saved.expect("a panic of a thread ends the process")
    }
}

/// What of all shards' topics survives a restart, in no order.
async fn gather(shards: &Shards) -> Result<Vec<Topic>, Unavailable> {
    let mut topics = Vec::new();
    let request =
        |from| AdminRequest::TopicsPage { from, topic: None, channel: None, latencies: false };
    let read = shards.read_pages(request, |reply| match reply {
        AdminReply::Topics(page) => {
            topics.extend(page.topics.iter().filter(|t| !t.name.is_ephemeral()).map(lasting));
            Ok(page.next)
        }
        _ => Err(Unavailable),
    });
    read.await?;
    Ok(topics)
}

fn lasting(topic: &TopicStats) -> Topic {
    let channels = topic.channels.iter().filter(|channel| !channel.name.is_ephemeral());
    let channels = channels.map(|channel| Channel {
        name: channel.name,
        paused: channel.paused,
        policy: own(channel.governed.as_deref()),
    });
    Topic {
        name: topic.name,
        paused: topic.paused,
        durability: topic.has_own_durability.then_some(topic.durability),
        policy: own(topic.governed.as_deref()),
        channels: channels.collect(),
    }
}

/// What was asked for of it, and not by the configuration.
fn own(governed: Option<&GovernedStats>) -> Policy {
    governed.map(|governed| governed.own).unwrap_or_default()
}
