//! Simulated disks under the logs of a world.

use crate::protocol::name::TopicName;
use ringmain_storage::faulty_disk::FaultyDisk;
use ringmain_storage::request::{Completion, Disk, LogKey, Request};
use std::collections::{BTreeMap, HashMap};

/// A disk per topic, whichever shard the topic lives on.
#[derive(Default)]
pub(super) struct Disks {
    disks: BTreeMap<TopicName, FaultyDisk>,
    keys: HashMap<(usize, LogKey), TopicName>,
}

impl Disks {
    pub(super) fn disk(&mut self, topic: TopicName) -> &mut FaultyDisk {
        self.disks.entry(topic).or_insert_with(|| FaultyDisk::new(1))
    }

    pub(super) fn open(&mut self, shard: usize, key: LogKey, topic: TopicName) {
        self.keys.insert((shard, key), topic);
    }

    pub(super) fn remove(&mut self, shard: usize, key: LogKey, topic: TopicName) {
        self.keys.remove(&(shard, key));
        self.disks.remove(&topic);
    }

    pub(super) fn execute(&mut self, shard: usize, request: Request) -> Completion {
        let topic = self.keys[&(shard, request.log)];
        self.disk(topic).execute(request)
    }
}
