//! The shard's files: the logs' requests go to the ring, its answers come back, logs of an earlier
//! run are taken up, and what is in memory is saved when the daemon stops.

use super::event_loop::EventLoop;
use crate::broker::admin::TopicId;
use crate::control::metadata::{Removal, log_directory};
use crate::limits::{DEAD_LETTERS_PATIENCE, OUTBOX_RETRY, SAVING_PATIENCE, SAVING_TURN};
use crate::protocol::name::TopicName;
use crate::reactor::Completion;
use ringmain_storage::blocking::BlockingDisk;
use ringmain_storage::recovery::{RecoveryReport, recover};
use ringmain_storage::request::LogKey;
use std::hash::{BuildHasher, RandomState};
use std::io;

impl EventLoop {
    /// Gives the ring what the logs have asked for in this turn.
    pub(super) fn submit_files(&mut self) {
        for request in self.shard.io.requests.drain(..) {
            self.reactor.submit_file(request);
        }
    }

    /// A topic has a log: says where that lies.
    pub(super) fn open_log(&mut self, key: LogKey, topic: &TopicName) {
        let directory = log_directory(&self.data_path, topic);
        if let Err(error) = self.reactor.open_log(key, &directory) {
            // Every request of it will be answered with an error, and its publishes refused.
            tracing::error!("TOPIC({topic}): cannot open its log - {error}");
        }
    }

    /// A topic is gone: its files are removed by a thread that may wait.
    pub(super) fn remove_log(&mut self, key: LogKey, topic: TopicName) {
        self.reactor.close_log(key);
        let shard = self.shard.config.index;
        let removal = Removal { shard, key, directory: log_directory(&self.data_path, &topic) };
        if self.removals.send(removal).is_err() {
            // The thread ends with the process; then the next start removes nothing, and finds the
            // topic again.
            tracing::warn!("TOPIC({topic}): its log is not removed, the daemon is stopping");
        }
    }

    /// Before the daemon serves: takes up the log of a topic that exists again, if it has one. This
    /// waits for the disk.
    pub(super) fn find_log(&mut self, topic: TopicId, name: TopicName) {
        let directory = log_directory(&self.data_path, &name);
        if !directory.is_dir() {
            return;
        }
        let key = self.shard.log_key(topic);
        let seed = RandomState::new().hash_one(name);
        let mut disk = BlockingDisk::new(&directory);
        match recover(key, self.shard.config.log_options, seed, &mut disk) {
            Ok((log, report)) => {
                tell_of_recovery(&name, &report);
                self.shard.restore_log(self.now, topic, key, log);
            }
            Err(error) => {
                let path = directory.display();
                let reason = format!(
                    "cannot read the log of topic {name} in {path}: {error}. Nothing was changed; \
                     look at it with nsq_log verify, or move the directory away to start without it"
                );
                self.failure.get_or_insert(io::Error::other(reason));
            }
        }
    }

    /// No client is left: writes what has to last, and waits for the disk.
    pub(super) fn save_all(&mut self) -> io::Result<()> {
        self.await_dead_letters()?;
        self.now = self.clock.read();
        let started = self.now;
        let (saving, leaving) = self.shard.begin_saving(started);
        if leaving > 0 {
            tracing::warn!("{leaving} messages in memory of topics at durability memory are lost");
        }
        let mut lost = 0;
        loop {
            self.now = self.clock.read();
            let (is_done, lost_now) = self.shard.save(self.now);
            lost += lost_now;
            self.shard.advance_logs(self.now);
            self.act();
            self.submit_files();
            // Others may wait for answers about their dead letters.
            self.post_mail();
            let took_ns = self.now.time.0 - started.time.0;
            if is_done || u128::from(took_ns) > SAVING_PATIENCE.as_nanos() {
                if !is_done {
                    tracing::error!("the disk does not answer: the logs are left as they are");
                }
                break;
            }
            self.reactor.enter(Some(SAVING_TURN))?;
            while let Some(completion) = self.reactor.next() {
                match completion {
                    Completion::File { log, completion } => {
                        self.shard.file_completed(self.now, log, completion);
                    }
                    Completion::Received { chunk, .. } => self.reactor.recycle(chunk),
                    _ => {}
                }
            }
        }
        if lost > 0 {
            tracing::error!("{lost} messages in memory are lost: the disk does not take them");
        } else if saving > 0 {
            tracing::info!("NSQ: flushed {saving} messages in memory to disk");
        }
        Ok(())
    }
}

impl EventLoop {
    /// Waits for the answers about dead letters that are on their way: what another topic has taken
    /// must not be saved here as well. Those that were not taken are not answered any more.
    fn await_dead_letters(&mut self) -> io::Result<()> {
        let started = self.clock.read().time.0;
        while self.shard.has_dead_letters_out()
            && u128::from(self.clock.read().time.0 - started) < DEAD_LETTERS_PATIENCE.as_nanos()
        {
            self.now = self.clock.read();
            self.take_broker_mail();
            self.shard.advance_logs(self.now);
            self.act();
            self.submit_files();
            self.post_mail();
            self.reactor.enter(Some(OUTBOX_RETRY))?;
            while let Some(completion) = self.reactor.next() {
                match completion {
                    Completion::File { log, completion } => {
                        self.shard.file_completed(self.now, log, completion);
                    }
                    Completion::Received { chunk, .. } => self.reactor.recycle(chunk),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Says what recovery met, in as many lines as there are kinds of it.
fn tell_of_recovery(topic: &TopicName, report: &RecoveryReport) {
    let lost: u64 = report.missing.iter().map(|range| range.end - range.start).sum();
    if report.is_clean() {
        return tracing::info!("TOPIC({topic}): took up its log");
    }
    if let Some(tail) = &report.torn_tail {
        let count = tail.sequences.end.saturating_sub(tail.sequences.start);
        let segment = tail.segment.0;
        tracing::warn!(
            "TOPIC({topic}): the log ends at {} of segment {segment}; what a crash left behind it \
             ({count} messages, none of them durable) is no part of it",
            tail.offset
        );
    }
    for damage in &report.damages {
        tracing::error!("TOPIC({topic}): damaged records in its log, they are kept - {damage:?}");
    }
    if lost > 0 {
        tracing::error!("TOPIC({topic}): {lost} messages are missing from its log");
    }
    for file in &report.unreadable {
        tracing::error!("TOPIC({topic}): {file} is no file of a log, it is left alone");
    }
    for file in &report.strange {
        tracing::warn!("TOPIC({topic}): {file} in its log's directory is left alone");
    }
    if report.has_lost_checkpoint {
        tracing::error!(
            "TOPIC({topic}): both checkpoints are unreadable; messages that were finished are \
             delivered again"
        );
    }
}
