//! `dump`: messages in the order of their log, as lines of JSON or as bare bodies.

use crate::executors::Executors;
use crate::files::Backend;
use crate::logs::{FoundLog, FoundSegment};
use crate::progress::Progress;
use crate::walk::{Met, walk};
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ringmain_storage::cursors::Cursor;
use ringmain_storage::message::{Entry, TOPIC_CURSOR};
use ringmain_storage::record::{Header, Kind, batch_entries};
use serde::Serialize;
use std::io::{self, Write};
use std::str::from_utf8;

/// Which messages, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// Only what this channel has not finished.
    pub(crate) channel: Option<String>,
    /// Only what somebody has not finished.
    pub(crate) is_waiting: bool,
    /// Not before this sequence.
    pub(crate) from: u64,
    /// No more than this of each topic.
    pub(crate) limit: u64,
    /// Bare bodies, each followed by this; else lines of JSON.
    pub(crate) raw_delimiter: Option<&'static [u8]>,
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    timestamp: i64,
    #[serde(skip_serializing_if = "is_zero")]
    deliver_at: i64,
    /// Nobody has handed it to channels yet.
    #[serde(skip_serializing_if = "is_false")]
    in_topic: bool,
    /// Who has yet to finish it.
    channels: Vec<Waiting<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

#[derive(Serialize)]
struct Waiting<'a> {
    channel: &'a str,
    attempts: u16,
    #[serde(skip_serializing_if = "is_zero")]
    deliver_at: u64,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Writes one log; gives a line for everything that could not be.
///
/// # Errors
/// When there is no such channel, or a file cannot be read, or the output cannot be written.
pub(crate) fn dump(
    log: &FoundLog,
    choice: &Choice,
    executors: Executors,
    progress: &Progress,
    out: &mut impl Write,
) -> Result<Vec<String>> {
    let chosen = choice.cursor(log)?;
    let mut writer =
        Writer { log, choice, chosen, out, left: choice.limit, lost: Vec::new(), failed: None };
    // Output has an order: one executor reads ahead, and this thread's work is writing.
    executors.run_here(async |backend| writer.write_all(backend, progress).await)?;
    Ok(writer.lost)
}

impl Choice {
    fn cursor<'a>(&self, log: &'a FoundLog) -> Result<Option<&'a Cursor>> {
        let Some(name) = &self.channel else { return Ok(None) };
        let found = log.cursors.iter().find(|(_, cursor)| cursor.name() == name.as_bytes());
        if let Some((_, cursor)) = found.filter(|_| !name.is_empty()) {
            return Ok(Some(cursor));
        }
        let names = log.cursors.iter().map(|(_, cursor)| cursor.name());
        let mut names: Vec<_> = names
            .filter(|name| *name != TOPIC_CURSOR)
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort();
        let topic = &log.directory.topic;
        if names.is_empty() {
            bail!("topic {topic} has no channel {name}: it has none")
        }
        bail!("topic {topic} has no channel {name}: there are {}", names.join(", "))
    }
}

struct Writer<'a, W> {
    log: &'a FoundLog,
    choice: &'a Choice,
    chosen: Option<&'a Cursor>,
    out: &'a mut W,
    /// How many more may be written.
    left: u64,
    lost: Vec<String>,
    failed: Option<io::Error>,
}

impl<W: Write> Writer<'_, W> {
    async fn write_all(&mut self, backend: Backend, progress: &Progress) -> Result<()> {
        for segment in &self.log.segments {
            if segment.outline.sequences.end <= self.choice.from {
                continue;
            }
            if self.left == 0 {
                break;
            }
            self.write_segment(backend, segment, progress).await?;
        }
        Ok(())
    }

    async fn write_segment(
        &mut self,
        backend: Backend,
        segment: &FoundSegment,
        progress: &Progress,
    ) -> Result<()> {
        let walked = walk(backend, segment, progress, |met| match met {
            Met::Record(header, payload) => {
                let written = self.write_record(&header, payload);
                self.failed = written.err();
                self.failed.is_none() && self.left > 0
            }
            Met::Padding(_) => true,
            Met::Damaged(damage) => {
                if !damage.sequences.is_empty() {
                    let (first, last) = (damage.sequences.start, damage.sequences.end - 1);
                    let topic = &self.log.directory.topic;
                    self.lost.push(format!("{topic}: sequences {first} to {last} are damaged"));
                }
                true
            }
        });
        walked.await.with_context(|| format!("cannot read {}", segment.path.display()))?;
        self.failed.take().map_or(Ok(()), |error| Err(error).context("cannot write the output"))
    }

    fn write_record(&mut self, header: &Header, payload: &[u8]) -> io::Result<()> {
        match header.kind {
            Kind::Message => self.write_entry(header.sequence, payload),
            Kind::Batch => {
                for (sequence, range) in (header.sequence..).zip(batch_entries(payload)) {
                    self.write_entry(sequence, payload.get(range).unwrap_or_default())?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write_entry(&mut self, sequence: u64, entry: &[u8]) -> io::Result<()> {
        let is_chosen = match self.chosen {
            Some(cursor) => !cursor.is_finished(sequence),
            None => !self.choice.is_waiting || self.is_wanted(sequence),
        };
        if sequence < self.choice.from || self.left == 0 || !is_chosen {
            return Ok(());
        }
        let Some(entry) = Entry::split(entry) else {
            let topic = &self.log.directory.topic;
            self.lost.push(format!("{topic}: sequence {sequence} is no message"));
            return Ok(());
        };
        self.left -= 1;
        if let Some(delimiter) = self.choice.raw_delimiter {
            self.out.write_all(entry.body)?;
            return self.out.write_all(delimiter);
        }
        self.write_line(sequence, &entry)
    }

    fn is_wanted(&self, sequence: u64) -> bool {
        self.log.cursors.iter().any(|(_, cursor)| !cursor.is_finished(sequence))
    }

    fn write_line(&mut self, sequence: u64, entry: &Entry<'_>) -> io::Result<()> {
        let unfinished = || {
            let cursors = self.log.cursors.iter().map(|(_, cursor)| cursor);
            cursors.filter(|cursor| !cursor.is_finished(sequence))
        };
        let channels = unfinished().filter(|cursor| cursor.name() != TOPIC_CURSOR);
        let waiting = |cursor| {
            let retry = Cursor::retry(cursor, sequence);
            let channel = from_utf8(cursor.name()).unwrap_or("?");
            Waiting { channel, attempts: retry.attempts, deliver_at: retry.deliver_at_ns }
        };
        let mut channels: Vec<_> = channels.map(waiting).collect();
        channels.sort_by_key(|waiting| waiting.channel);
        let body = from_utf8(entry.body).ok();
        let line = Line {
            topic: &self.log.directory.topic,
            sequence,
            id: from_utf8(&entry.head.id).ok(),
            timestamp: entry.head.timestamp_ns,
            deliver_at: entry.head.deliver_at_ns,
            in_topic: unfinished().any(|cursor| cursor.name() == TOPIC_CURSOR),
            channels,
            body,
            body_base64: body.is_none().then(|| BASE64_STANDARD.encode(entry.body)),
        };
        serde_json::to_writer(&mut *self.out, &line)?;
        self.out.write_all(b"\n")
    }
}
