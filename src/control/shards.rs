//! The way from the control thread to the shards: mail with a reply slot, and a memory of where
//! topics live.

use crate::broker::admin::{AdminReply, AdminRequest, REGISTRAR, ShardIndex, TopicId};
use crate::limits::{ADMIN_MAIL_WAIT_MAX, ADMIN_REPLY_WAIT_MAX, TOPIC_HOMES_CACHED_MAX};
use crate::protocol::name::TopicName;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// How to reach one shard.
#[derive(Clone)]
pub struct ShardPort {
    /// The shard's bounded inbox for control mail.
    pub mail: SyncSender<ControlMail>,
    /// Makes the shard look into its inbox; called after each mail. It must not block.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// One request, and where its answer goes.
#[derive(Debug)]
pub struct ControlMail {
    /// What is asked.
    pub request: AdminRequest,
    /// Takes the one answer. The asker may have given up: a failed send is to be ignored.
    pub reply: oneshot::Sender<AdminReply>,
}

/// All shards, as the control thread sees them.
pub struct Shards {
    ports: Vec<ShardPort>,
    homes: Mutex<HashMap<TopicName, Home>>,
}

/// A shard did not answer: it is gone, or has been too busy for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// Where a topic lives.
#[derive(Debug, Clone, Copy)]
struct Home {
    topic: TopicId,
    shard: ShardIndex,
}

/// Whether a request may have to be made again, because the home it goes to was remembered and
/// not just asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    MayRepeat,
    Last,
}

/// Time between two attempts to put mail into a full inbox.
const MAIL_RETRY_EVERY: Duration = Duration::from_millis(1);

impl Shards {
    /// Takes the ways to the shards, in the order of their indexes; there is at least one.
    pub fn new(ports: Vec<ShardPort>) -> Self {
        assert!(!ports.is_empty(), "a daemon has at least one shard");
        Self { ports, homes: Mutex::new(HashMap::new()) }
    }

    /// Every shard's index.
    pub fn indexes(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        let count = u16::try_from(self.ports.len()).expect("at most SHARDS_MAX shards");
        (0..count).map(ShardIndex)
    }

    /// Asks one shard, and waits for its answer.
    ///
    /// # Errors
    /// [`Unavailable`] when the shard's inbox stays full, its answer stays out, or it is gone.
    pub async fn ask(
        &self,
        shard: ShardIndex,
        request: AdminRequest,
    ) -> Result<AdminReply, Unavailable> {
        let reply = self.post(shard, request).await?;
        Self::answer(reply).await
    }

    /// Puts a request into a shard's inbox; its answer comes out of the receiver.
    pub(super) async fn post(
        &self,
        shard: ShardIndex,
        request: AdminRequest,
    ) -> Result<oneshot::Receiver<AdminReply>, Unavailable> {
        let port = self.ports.get(usize::from(shard.0)).ok_or(Unavailable)?;
        let (reply, receiver) = oneshot::channel();
        let mut mail = ControlMail { request, reply };
        let deadline = Instant::now() + ADMIN_MAIL_WAIT_MAX;
        loop {
            mail = match port.mail.try_send(mail) {
                Ok(()) => {
                    (port.wake)();
                    return Ok(receiver);
                }
                Err(TrySendError::Disconnected(_)) => return Err(Unavailable),
                Err(TrySendError::Full(mail)) => mail,
            };
            if Instant::now() >= deadline {
                return Err(Unavailable);
            }
            sleep(MAIL_RETRY_EVERY).await;
        }
    }

    /// Waits for an answer.
    pub(super) async fn answer(
        reply: oneshot::Receiver<AdminReply>,
    ) -> Result<AdminReply, Unavailable> {
        match timeout(ADMIN_REPLY_WAIT_MAX, reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(Unavailable),
        }
    }

    /// Reads all pages of all shards: in each round every shard that has more works on its next.
    pub(super) async fn read_pages(
        &self,
        request: impl Fn(u32) -> AdminRequest,
        mut take: impl FnMut(AdminReply) -> Result<Option<u32>, Unavailable>,
    ) -> Result<(), Unavailable> {
        let mut unfinished: Vec<_> = self.indexes().map(|shard| (shard, 0)).collect();
        while !unfinished.is_empty() {
            let mut replies = Vec::with_capacity(unfinished.len());
            for (shard, from) in unfinished.drain(..) {
                replies.push((shard, self.post(shard, request(from)).await?));
            }
            for (shard, reply) in replies {
                if let Some(next) = take(Self::answer(reply).await?)? {
                    unfinished.push((shard, next));
                }
            }
        }
        Ok(())
    }

    /// Asks the registrar to create the topic unless it exists.
    pub(super) async fn create(&self, topic: TopicName) -> Result<(), Unavailable> {
        self.resolve(topic, true).await?.map(|_| ()).ok_or(Unavailable)
    }

    /// Asks the registrar whether the topic exists.
    pub(super) async fn exists(&self, topic: TopicName) -> Result<bool, Unavailable> {
        Ok(self.resolve(topic, false).await?.is_some())
    }

    /// Has the registrar delete a topic.
    pub(super) async fn delete(&self, topic: TopicName) -> Result<AdminReply, Unavailable> {
        self.homes.lock().await.remove(&topic);
        self.ask(REGISTRAR, AdminRequest::DeleteTopic { topic }).await
    }

    /// Asks a topic's home. When the home was remembered and the topic is no longer there, the
    /// registrar is asked once where it is now, and the request made again.
    pub(super) async fn ask_home(
        &self,
        topic: TopicName,
        create: bool,
        mut request: impl FnMut(TopicId, Attempt) -> AdminRequest,
    ) -> Result<AdminReply, Unavailable> {
        let remembered = self.homes.lock().await.get(&topic).copied();
        if let Some(home) = remembered {
            let reply = self.ask(home.shard, request(home.topic, Attempt::MayRepeat)).await?;
            if !matches!(reply, AdminReply::TopicNotFound) {
                return Ok(reply);
            }
        }
        let Some(home) = self.resolve(topic, create).await? else {
            return Ok(AdminReply::TopicNotFound);
        };
        self.ask(home.shard, request(home.topic, Attempt::Last)).await
    }

    /// Asks the registrar, and remembers what it says.
    async fn resolve(&self, topic: TopicName, create: bool) -> Result<Option<Home>, Unavailable> {
        let reply = self.ask(REGISTRAR, AdminRequest::Resolve { topic, create }).await?;
        let mut homes = self.homes.lock().await;
        match reply {
            AdminReply::Resolved { topic: id, home } => {
                if homes.len() >= TOPIC_HOMES_CACHED_MAX {
                    homes.clear();
                }
                let home = Home { topic: id, shard: home };
                homes.insert(topic, home);
                Ok(Some(home))
            }
            AdminReply::TopicNotFound => {
                homes.remove(&topic);
                Ok(None)
            }
            _ => Err(Unavailable),
        }
    }
}
