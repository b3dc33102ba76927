//! `stat`: what a log holds, and what each channel has yet to finish.

use crate::logs::FoundLog;
use crate::verify::plural;
use ringmain_storage::cursors::Cursor;
use ringmain_storage::message::TOPIC_CURSOR;
use serde::Serialize;
use std::io::{self, Write};

/// One log in figures.
#[derive(Debug, Serialize)]
pub(crate) struct TopicFigures {
    topic: String,
    segments: usize,
    /// Of the segments' files.
    bytes: u64,
    /// Sequences the segments hold.
    messages: u64,
    first_sequence: u64,
    next_sequence: u64,
    /// Not handed to any channel yet.
    topic_depth: u64,
    channels: Vec<ChannelFigures>,
}

#[derive(Debug, Serialize)]
struct ChannelFigures {
    channel: String,
    /// Not finished.
    depth: u64,
    /// Of those: delivered before.
    tried: usize,
    /// Of those: not to be delivered before some time.
    deferred: usize,
    low_sequence: u64,
}

impl TopicFigures {
    pub(crate) fn of(log: &FoundLog) -> Self {
        let sequences = log.segments.iter().map(|segment| segment.outline.sequences.clone());
        let messages = sequences.clone().map(|sequences| sequences.end - sequences.start).sum();
        let first_sequence = sequences.map(|sequences| sequences.start).min();
        let end = log.next_sequence;
        let is_topic = |cursor: &&Cursor| cursor.name() == TOPIC_CURSOR;
        let cursors = || log.cursors.iter().map(|(_, cursor)| cursor);
        let topic = cursors().find(is_topic);
        let mut channels: Vec<ChannelFigures> = cursors()
            .filter(|cursor| !is_topic(cursor))
            .map(|cursor| ChannelFigures::of(cursor, end))
            .collect();
        channels.sort_by(|a, b| a.channel.cmp(&b.channel));
        Self {
            topic: log.directory.topic.clone(),
            segments: log.segments.len(),
            bytes: log.segment_bytes(),
            messages,
            first_sequence: first_sequence.unwrap_or(end),
            next_sequence: end,
            topic_depth: topic.map_or(0, |cursor| cursor.unfinished_count(end)),
            channels,
        }
    }
}

impl ChannelFigures {
    fn of(cursor: &Cursor, end: u64) -> Self {
        let retries = || cursor.retries().map(|(_, retry)| retry);
        Self {
            channel: String::from_utf8_lossy(cursor.name()).into_owned(),
            depth: cursor.unfinished_count(end),
            tried: retries().filter(|retry| retry.attempts > 0).count(),
            deferred: retries().filter(|retry| retry.deliver_at_ns > 0).count(),
            low_sequence: cursor.low(),
        }
    }
}

/// Writes figures as text.
pub(crate) fn write_text(topics: &[TopicFigures], out: &mut impl Write) -> io::Result<()> {
    for topic in topics {
        writeln!(
            out,
            "{}: {} {} in {} {} of {} bytes, sequences {} to {}",
            topic.topic,
            topic.messages,
            plural(topic.messages, "message"),
            topic.segments,
            plural(topic.segments as u64, "segment"),
            topic.bytes,
            topic.first_sequence,
            topic.next_sequence.saturating_sub(1)
        )?;
        if topic.topic_depth > 0 {
            writeln!(out, "  not handed to channels yet: {}", topic.topic_depth)?;
        }
        let names = topic.channels.iter().map(|channel| channel.channel.len());
        let width = names.max().unwrap_or(0).max("channel".len());
        if !topic.channels.is_empty() {
            let head = ["depth", "tried", "deferred", "finished below"];
            let [depth, tried, deferred, low] = head;
            writeln!(
                out,
                "  {:width$} {depth:>12} {tried:>12} {deferred:>12} {low:>16}",
                "channel"
            )?;
        }
        for channel in &topic.channels {
            let ChannelFigures { channel, depth, tried, deferred, low_sequence } = channel;
            writeln!(
                out,
                "  {channel:width$} {depth:>12} {tried:>12} {deferred:>12} {low_sequence:>16}"
            )?;
        }
    }
    if topics.is_empty() {
        writeln!(out, "no logs here")?;
    }
    Ok(())
}

/// Writes figures as one JSON document.
pub(crate) fn write_json(topics: &[TopicFigures], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, topics)?;
    writeln!(out)
}
