//! One connection of a producer: commands go out, answers come back in the same order.

use super::super::{Content, Publish};
use super::Engine;
use crate::client::commands::{self, NOP};
use crate::client::config::Config;
use crate::client::error::Error;
use crate::client::frames::Frame;
use crate::client::link::Link;
use crate::limits::{CLIENT_OUTPUT_BYTES_MAX, CLIENT_READS_PER_TURN};
use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

/// Only behind so many unanswered publishes do further ones wait for company: fewer are in the
/// hands of somebody who counts the time.
const GATHER_BEHIND_MIN: usize = 64;

/// Bytes that are worth a system call of their own.
const GATHER_BYTES_MAX: usize = 16 * 1024;

/// A connection, and the publishes it has not answered.
pub(super) struct Connection {
    pub(super) link: Link,
    /// In the order in which they were sent, each with the time by which its answer must come.
    unanswered: VecDeque<(Duration, Publish)>,
    /// The last so many of them are in the output and wait for company.
    gathered: usize,
    /// Something in the output must not wait: a heartbeat's answer.
    is_urgent: bool,
    last_read: Duration,
    /// The socket has not taken bytes since then, and how many were left.
    stuck: Option<(Duration, usize)>,
}

impl Connection {
    pub(super) fn new(link: Link, now: Duration) -> Self {
        Self {
            link,
            unanswered: VecDeque::new(),
            gathered: 0,
            is_urgent: false,
            last_read: now,
            stuck: None,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.link.unsent_bytes() < CLIENT_OUTPUT_BYTES_MAX
    }

    pub(super) fn is_idle(&self) -> bool {
        self.unanswered.is_empty() && self.link.unsent_bytes() == 0
    }

    /// Appends the command to the output of this turn.
    pub(super) fn publish(&mut self, publish: Publish, deadline: Duration) {
        let (out, topic) = (&mut self.link.out, &publish.topic);
        match &publish.content {
            Content::One(body) => commands::push_publish(out, topic, None, body),
            Content::Deferred(body, delay) => {
                commands::push_publish(out, topic, Some(delay.as_millis()), body);
            }
            Content::Batch(bodies) => commands::push_batch(out, topic, bodies),
        }
        self.unanswered.push_back((deadline, publish));
        self.gathered += 1;
    }

    /// Whether nsqd has so much to answer that what is gathered may wait for more: each answer
    /// brings another turn, so it leaves before nsqd has nothing to do.
    fn may_gather(&self) -> bool {
        let sent = self.unanswered.len().saturating_sub(self.gathered);
        sent >= GATHER_BEHIND_MIN
            && self.gathered < sent
            && self.link.unsent_bytes() < GATHER_BYTES_MAX
            && !self.is_urgent
            && self.stuck.is_none()
    }

    pub(super) fn unanswered(self) -> impl DoubleEndedIterator<Item = Publish> {
        self.unanswered.into_iter().map(|(_, publish)| publish)
    }

    /// When this connection is to be given up, unless something happens.
    pub(super) fn deadline(&self, config: &Config) -> Option<Duration> {
        self.faults(config).map(|(deadline, _)| deadline).min()
    }

    /// Times at which patience ends, and what it would be that did not happen.
    fn faults(&self, config: &Config) -> impl Iterator<Item = (Duration, &'static str)> {
        let silent = config.heartbeat_interval.map(|_| self.last_read + config.read_timeout);
        let stuck = self.stuck.map(|(since, _)| since + config.write_timeout);
        let unanswered = self.unanswered.front().map(|(deadline, _)| *deadline);
        [
            silent.map(|deadline| (deadline, "nsqd sent nothing for too long")),
            stuck.map(|deadline| (deadline, "nsqd took nothing for too long")),
            unanswered.map(|deadline| (deadline, "nsqd did not answer in time")),
        ]
        .into_iter()
        .flatten()
    }
}

impl Engine {
    /// Takes up answers.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        for at in 0..self.connections.len() {
            let Some(mut connection) = self.connections[at].take() else { continue };
            let outcome = self.read_one(at, &mut connection, cx);
            busy |= outcome != Ok(false);
            self.connections[at] = Some(connection);
            if let Err(reason) = outcome {
                self.lose(at, &reason);
            }
        }
        busy
    }

    /// `true` when there may be more to read.
    fn read_one(
        &mut self,
        at: usize,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Result<bool, String> {
        for _ in 0..CLIENT_READS_PER_TURN {
            match connection.link.poll_fill(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(filled) => filled?,
            }
            connection.last_read = self.now;
            self.take_frames(at, connection)?;
        }
        Ok(true)
    }

    fn take_frames(&mut self, at: usize, connection: &mut Connection) -> Result<(), String> {
        while let Some(frame) = connection.link.frames.next().map_err(|e| e.to_string())? {
            let outcome = match frame {
                Frame::Response(b"_heartbeat_") => {
                    connection.link.out.extend_from_slice(NOP);
                    connection.is_urgent = true;
                    continue;
                }
                Frame::Response(_) => Ok(()),
                Frame::Error(text) => Err(Error::Refused(String::from_utf8_lossy(text).into())),
                Frame::Message(_) => return Err("a message without a subscription".to_owned()),
            };
            let answered = connection.unanswered.pop_front();
            match (answered, outcome) {
                (Some((_, publish)), outcome) => {
                    self.nodes.works(at);
                    self.answered(publish, outcome);
                }
                (None, Ok(())) => return Err("an answer to nothing".to_owned()),
                (None, Err(error)) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Writes what the turn brought, and gives up what has gone silent.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        for at in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[at] else { continue };
            let flushed = if connection.may_gather() {
                Poll::Ready(Ok(()))
            } else {
                (connection.gathered, connection.is_urgent) = (0, false);
                connection.link.poll_flush(cx)
            };
            match flushed {
                Poll::Ready(Ok(())) => connection.stuck = None,
                Poll::Ready(Err(error)) => {
                    self.lose(at, &error.to_string());
                    continue;
                }
                Poll::Pending => {
                    let unsent = connection.link.unsent_bytes();
                    if connection.stuck.is_none_or(|(_, before)| unsent < before) {
                        connection.stuck = Some((self.now, unsent));
                    }
                }
            }
            let mut faults = connection.faults(&self.settings.config);
            let fault = faults.find(|(deadline, _)| *deadline <= self.now);
            drop(faults);
            if let Some((_, reason)) = fault {
                self.lose(at, reason);
            }
        }
    }
}
