//! The disks under the logs of topics. Requests wait here until they are executed, in any order,
//! and their answers until they are delivered, in any order.

use super::plan::{Faults, happens};
use fastrand::Rng;
use ringmain::protocol::name::TopicName;
use ringmain_storage::faulty_disk::FaultyDisk;
use ringmain_storage::request::{Completion, Disk, IoError, LogKey, Operation, Request};
use std::collections::BTreeMap;

/// The disk of one topic: its log's directory.
pub(crate) struct TopicDisk {
    pub(crate) disk: FaultyDisk,
    /// The directory is there.
    pub(crate) is_made: bool,
    /// Space is limited now.
    pub(crate) is_full: bool,
    /// Space has been short since the last time that everything was at rest.
    pub(crate) was_full: bool,
    /// In this run a request failed for good.
    pub(crate) has_failed: bool,
    /// A sync with that number fails.
    failing_sync: Option<(u64, IoError)>,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Disks {
    pub(crate) disks: Vec<TopicDisk>,
    by_topic: BTreeMap<TopicName, usize>,
    by_key: BTreeMap<(usize, LogKey), usize>,
    pub(crate) outstanding: Vec<(usize, Request)>,
    pub(crate) answers: Vec<(usize, LogKey, Completion)>,
    /// Logs of deleted topics whose files are still there.
    pub(crate) removals: Vec<(usize, LogKey, TopicName)>,
    pub(crate) executed: u64,
}

impl Disks {
    /// The disk of a topic, by number.
    pub(crate) fn of(&mut self, topic: TopicName) -> usize {
        *self.by_topic.entry(topic).or_insert_with(|| {
            self.disks.push(TopicDisk {
                disk: FaultyDisk::new(self.disks.len() as u64 + 1),
                is_made: false,
                is_full: false,
                was_full: false,
                has_failed: false,
                failing_sync: None,
            });
            self.disks.len() - 1
        })
    }

    /// The topics that have a directory.
    pub(crate) fn topics(&self) -> Vec<TopicName> {
        let made = self.by_topic.iter().filter(|(_, disk)| self.disks[**disk].is_made);
        made.map(|(topic, _)| *topic).collect()
    }

    pub(crate) fn has_log(&self, topic: TopicName) -> bool {
        self.by_topic.get(&topic).is_some_and(|disk| self.disks[*disk].is_made)
    }

    /// Whether a topic's disk has done what it was asked to.
    pub(crate) fn is_sound(&self, topic: TopicName) -> bool {
        self.by_topic.get(&topic).is_none_or(|disk| {
            let disk = &self.disks[*disk];
            !disk.is_full && !disk.was_full && !disk.has_failed
        })
    }

    pub(crate) fn open(&mut self, shard: usize, key: LogKey, topic: TopicName) {
        let disk = self.of(topic);
        self.by_key.insert((shard, key), disk);
    }

    /// Executes a request that waits.
    pub(crate) fn execute(&mut self, index: usize, faults: Option<&Faults>, rng: &mut Rng) {
        let (shard, request) = self.outstanding.swap_remove(index);
        let key = request.log;
        let disk = self.by_key[&(shard, key)];
        let disk = &mut self.disks[disk];
        disk.spoil_sync(&request.operation);
        if let Some(faults) = faults {
            disk.spoil(&request.operation, faults, rng);
        }
        let makes = matches!(request.operation, Operation::MakeDirectory);
        let completion = disk.disk.execute(request);
        disk.is_made |= makes && completion.result.is_ok();
        self.executed += 1;
        self.answers.push((shard, key, completion));
    }

    /// The files of a deleted topic go.
    pub(crate) fn remove(&mut self, topic: TopicName) {
        self.by_topic.remove(&topic);
    }

    /// The process ends: some of what it asked for is still done, of the rest nothing is known.
    pub(crate) fn end(&mut self, power: bool, faults: &Faults, rng: &mut Rng) {
        while !self.outstanding.is_empty() {
            let index = rng.usize(..self.outstanding.len());
            if rng.bool() {
                self.execute(index, Some(faults), rng);
            } else {
                self.outstanding.swap_remove(index);
            }
        }
        self.answers.clear();
        self.by_key.clear();
        for (_, _, topic) in std::mem::take(&mut self.removals) {
            if rng.bool() {
                self.remove(topic);
            }
        }
        for disk in &mut self.disks {
            if power {
                disk.disk.crash(rng.u64(..));
            } else {
                disk.disk.kill();
            }
        }
    }

    /// The process has ended in good order.
    pub(crate) fn close(&mut self) {
        for (_, _, topic) in std::mem::take(&mut self.removals) {
            self.remove(topic);
        }
        (self.outstanding, self.answers) = Default::default();
        self.by_key.clear();
        for disk in &mut self.disks {
            disk.disk.kill();
        }
    }

    /// Limits the space of a disk to little more than is used, or lifts the limit.
    pub(crate) fn fill(&mut self, disk: usize, rng: &mut Rng) {
        let disk = &mut self.disks[disk];
        disk.is_full = !disk.is_full;
        disk.was_full = true;
        let left = rng.u64(..64 << 10);
        let capacity = if disk.is_full { disk.disk.used_bytes() + left } else { u64::MAX };
        disk.disk.limit(capacity);
    }

    /// Everything was at rest, with time to heal.
    pub(crate) fn rested(&mut self) {
        for disk in &mut self.disks {
            disk.was_full = disk.is_full;
        }
    }

    /// A new run begins.
    pub(crate) fn forget_failures(&mut self) {
        self.disks.iter_mut().for_each(|disk| disk.has_failed = false);
    }

    /// No fault is left.
    pub(crate) fn heal(&mut self) {
        for disk in &mut self.disks {
            disk.was_full |= disk.is_full;
            disk.is_full = false;
            disk.disk.limit(u64::MAX);
        }
    }
}

impl TopicDisk {
    /// Has the request of that number fail, if it is a sync.
    pub(crate) fn fail_sync_at(&mut self, number: u64, error: IoError) {
        self.failing_sync = Some((number, error));
    }

    fn spoil_sync(&mut self, operation: &Operation) {
        let is_sync = matches!(operation, Operation::Sync { .. } | Operation::SyncDirectory);
        let number = self.disk.executed();
        if let Some((_, error)) = self.failing_sync.take_if(|(at, _)| is_sync && *at == number) {
            self.disk.fail_at(number, error);
            self.has_failed = true;
        }
    }

    /// Has the next request fail, or do less than it was asked to, now and then.
    fn spoil(&mut self, operation: &Operation, faults: &Faults, rng: &mut Rng) {
        let number = self.disk.executed();
        let is_sync = matches!(operation, Operation::Sync { .. } | Operation::SyncDirectory);
        let is_write = matches!(operation, Operation::Write { .. });
        let is_transfer = is_write || matches!(operation, Operation::Read { .. });
        if happens(rng, faults.transient) {
            let interrupted = if is_sync { IoError::AGAIN } else { IoError::INTERRUPTED };
            let errors = [IoError::AGAIN, IoError::CANCELED, interrupted];
            self.disk.fail_at(number, errors[rng.usize(..3)]);
        } else if is_transfer && happens(rng, faults.short) {
            self.disk.shorten_at(number);
        } else if is_write && happens(rng, faults.write) || is_sync && happens(rng, faults.sync) {
            let error = if is_sync && rng.bool() { IoError::NO_SPACE } else { IoError::DEVICE };
            self.disk.fail_at(number, error);
            self.has_failed = true;
        }
    }
}

/// A disk under a recovery that is killed after so many requests.
pub(crate) struct StoppingDisk<'a> {
    pub(crate) disk: &'a mut FaultyDisk,
    pub(crate) left: u64,
    pub(crate) has_stopped: bool,
}

impl Disk for StoppingDisk<'_> {
    fn execute(&mut self, request: Request) -> Completion {
        if self.left > 0 {
            self.left -= 1;
            return self.disk.execute(request);
        }
        self.has_stopped = true;
        let buffer = match request.operation {
            Operation::Read { buffer, .. } | Operation::Write { buffer, .. } => Some(buffer),
            _ => None,
        };
        Completion { ticket: request.ticket, result: Err(IoError::DEVICE), buffer }
    }
}
