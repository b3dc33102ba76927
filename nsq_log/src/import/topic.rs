//! One topic: its queues in, its log out. First every record is looked at and noted in an index,
//! which brings what is the same message in several queues together; then messages are written
//! in order of their ids, each once, and each channel's cursor is told which are not its own.
//!
//! What the topic had not handed to channels comes last: the topic's cursor is a mark in the log,
//! and everything behind it is yet to be handed to every channel.

use super::bodies::Bodies;
use super::index::{Index, IndexBuilder, IndexEntry, PIECE_ENTRIES, Sameness};
use super::log_writer::LogWriter;
use super::queue::{Part, Plan, Remarks, plan, read_part};
use super::source::{QueueFiles, SourceTopic, file_name};
use crate::files::Backend;
use crate::logs::{FoundLog, LOG_SUFFIX, LogDirectory};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use ringmain_storage::message::{ENTRY_HEAD_BYTES, EntryHead};
use ringmain_storage::record::record_bytes;
use std::fs;
use std::path::{Path, PathBuf};

/// The queue that is the topic's own.
const TOPIC_QUEUE: u32 = 0;

/// What became of one topic.
#[derive(Debug, Default)]
pub(crate) struct ImportedTopic {
    pub(crate) name: String,
    /// Written to its log; without any there is no log.
    pub(crate) messages: u64,
    /// The topic's own queue, then the channels'.
    pub(crate) queues: Vec<ImportedQueue>,
}

/// What became of one queue.
#[derive(Debug, Default)]
pub(crate) struct ImportedQueue {
    /// The channel's; empty for the topic itself.
    pub(crate) channel: String,
    /// Messages it holds.
    pub(crate) messages: u64,
    /// Of those: delivered before.
    pub(crate) tried: u64,
    /// Records that were one message.
    pub(crate) repeated: u64,
    /// What its cursor has to have left: its messages, and for a channel the topic's own.
    unfinished: u64,
    /// What nsqd says it holds.
    pub(crate) depth: Option<u64>,
    pub(crate) remarks: Remarks,
}

/// Imports one topic into a directory that will hold its log; nothing is written for a topic
/// without messages.
pub(crate) async fn import_topic(
    backend: Backend,
    topic: &SourceTopic,
    staging: &Path,
    progress: &Progress,
) -> Result<ImportedTopic> {
    let queues = queues(topic);
    let mut imported = ImportedTopic { name: topic.name.clone(), ..ImportedTopic::default() };
    let work = staging.join(format!("{}.work", topic.name));
    fs::create_dir(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let mut index = IndexBuilder::new(work.clone(), PIECE_ENTRIES);
    let mut parts = Vec::new();
    let mut sizes = Sizes::default();
    for (number, (channel, files)) in (0_u32..).zip(&queues) {
        let Plan { parts: planned, depth, remarks } =
            plan(files).with_context(|| format!("cannot read positions of {channel}"))?;
        let mut queue = ImportedQueue {
            channel: (*channel).to_owned(),
            depth,
            remarks,
            ..ImportedQueue::default()
        };
        let noted = note(backend, number, &planned, progress, &mut queue, &mut index, &mut sizes);
        noted.await?;
        imported.queues.push(queue);
        parts.push(planned);
    }
    let index = index.finish();
    if index.count() > 0 {
        let directory = staging.join(format!("{}{LOG_SUFFIX}", topic.name));
        let names = queues.iter().map(|(channel, _)| channel.as_bytes()).collect();
        let writer = LogWriter::new(directory.clone(), names, sizes.total, sizes.largest);
        let bodies = Bodies::new(backend, parts);
        let copy = Copy { index: &index, writer, bodies, progress, imported: &mut imported };
        copy.run().await.with_context(|| format!("cannot write {}", directory.display()))?;
        imported.check(directory)?;
    }
    index.remove().and_then(|()| fs::remove_dir(&work)).context("cannot remove the index")?;
    Ok(imported)
}

/// The topic's queue and the channels', with the names of their cursors.
fn queues(topic: &SourceTopic) -> Vec<(&str, &QueueFiles)> {
    let channels = topic.channels.iter().map(|channel| (channel.name.as_str(), &channel.queue));
    [("", &topic.queue)].into_iter().chain(channels).collect()
}

/// What the log's size depends on, in bytes of records.
#[derive(Debug, Default)]
struct Sizes {
    /// At most; what several queues hold counts several times.
    total: u64,
    /// Payload of the largest record.
    largest: usize,
}

/// Looks at every record of a queue and notes it in the index.
async fn note(
    backend: Backend,
    number: u32,
    parts: &[Part],
    progress: &Progress,
    queue: &mut ImportedQueue,
    index: &mut IndexBuilder,
    sizes: &mut Sizes,
) -> Result<()> {
    for (part_number, part) in (0_u32..).zip(parts) {
        let read = read_part(backend, part, progress, &mut queue.remarks, |message| {
            let entry_bytes = ENTRY_HEAD_BYTES + message.body.len();
            sizes.largest = sizes.largest.max(entry_bytes);
            sizes.total += record_bytes(entry_bytes) as u64;
            index.push(IndexEntry {
                message: Sameness::of(message.id, message.timestamp_ns, message.body),
                queue: number,
                part: part_number,
                offset: message.offset,
                attempts: message.attempts,
            })
        });
        read.await.with_context(|| format!("cannot read {}", file_name(&part.path)))?;
    }
    Ok(())
}

/// The second half: from the index to the log.
struct Copy<'a> {
    index: &'a Index,
    writer: LogWriter,
    bodies: Bodies,
    progress: &'a Progress,
    imported: &'a mut ImportedTopic,
}

impl Copy<'_> {
    async fn run(mut self) -> Result<()> {
        let mut entries = Vec::new();
        // The topic's own messages have to follow all others.
        for of_topic in [false, true] {
            let mut merge = self.index.iter()?;
            while merge.next_message(&mut entries)? {
                let in_topic = entries.iter().any(|entry| entry.queue == TOPIC_QUEUE);
                if in_topic == of_topic {
                    self.write(&entries, in_topic).await?;
                }
            }
        }
        self.writer.close()
    }

    /// Writes one message; the entries are sorted by queue.
    async fn write(&mut self, entries: &[IndexEntry], in_topic: bool) -> Result<()> {
        let message = entries[0].message;
        let body = self.bodies.read(entries).await?;
        let head = EntryHead {
            deliver_at_ns: 0,
            timestamp_ns: message.timestamp_ns,
            attempts: 0,
            id: message.id,
        };
        let sequence = self.writer.append(&head, body)?;
        self.imported.messages += 1;
        self.progress.advance(u64::from(message.body_bytes) * entries.len() as u64);
        for (number, queue) in (0_u32..).zip(&mut self.imported.queues) {
            let start = entries.partition_point(|entry| entry.queue < number);
            let end = entries.partition_point(|entry| entry.queue <= number);
            let held = &entries[start..end];
            let attempts = held.iter().map(|entry| entry.attempts).max();
            // What the topic still has is every channel's.
            if let Some(attempts) = attempts.or((in_topic && number != TOPIC_QUEUE).then_some(0)) {
                queue.unfinished += 1;
                queue.messages += u64::from(!held.is_empty());
                queue.tried += u64::from(attempts > 0);
                queue.repeated += (held.len() as u64).saturating_sub(1);
                self.writer.set_attempts(number, sequence, attempts);
            } else {
                self.writer.finish(number, sequence);
            }
        }
        Ok(())
    }
}

impl ImportedTopic {
    /// Opens the log as the daemon will, and compares what every cursor has to do.
    fn check(&self, path: PathBuf) -> Result<()> {
        let found = FoundLog::open(LogDirectory { topic: self.name.clone(), path })?;
        ensure!(found.report.is_clean(), "the new log of {} is not good", self.name);
        for queue in &self.queues {
            let id = found.cursors.find(queue.channel.as_bytes());
            let cursor = id.and_then(|id| found.cursors.cursor(id));
            let count = cursor.map(|cursor| cursor.unfinished_count(found.next_sequence));
            ensure!(
                count == Some(queue.unfinished),
                "the new log has {count:?} messages for {}:{} and should have {}",
                self.name,
                queue.channel,
                queue.unfinished
            );
        }
        Ok(())
    }
}
