//! One topic: its consumer, and the thread that writes. A message is finished once it is synced.

use super::writer::FileWriter;
use crate::client::{Consumer, ConsumerControl, Message};
use crate::tools::run::Failure;
use jiff::Zoned;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval_at};

/// Batches of messages that may wait while the disk is busy; what came meanwhile is one write and
/// one sync. There are never more messages than may be in flight.
const EVENTS_MAX: usize = 64;

/// What the thread is told.
enum Event {
    Messages(Vec<Message>),
    /// The sync interval is over.
    Tick,
    /// Close the file: somebody has moved it.
    HangUp,
    /// No more messages are asked for: sync each time.
    Hurry,
}

/// What all topics are told.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    pub(super) stop: watch::Receiver<bool>,
    pub(super) hang_ups: watch::Receiver<u64>,
}

/// How one topic is written.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// `[topic/channel]`, for texts.
    pub(super) label: String,
    pub(super) sync_interval: Duration,
    pub(super) skip_empty_files: bool,
    /// Messages after which a sync is due in any case.
    pub(super) pending_max: usize,
}

/// Writes a topic until a stop is wished for and everything in hand is written.
pub(super) async fn archive(
    mut consumer: Consumer,
    writer: FileWriter,
    pace: Pace,
    mut wishes: Wishes,
) -> Result<(), Failure> {
    let control = consumer.control();
    let (events, told) = mpsc::channel(EVENTS_MAX);
    // The clock starts with the topic; the first tick is one interval later.
    let start = tokio::time::Instant::now() + pace.sync_interval;
    let mut ticks = interval_at(start, pace.sync_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut thread = {
        let control = control.clone();
        tokio::task::spawn_blocking(move || {
            Writing { writer, pace, control, pending: Vec::new(), hurry: false }.run(told)
        })
    };
    loop {
        let event = tokio::select! {
            biased;
            // Only a fault ends it before the events do.
            outcome = &mut thread => return outcome?.map_err(Failure),
            Ok(()) = wishes.stop.changed() => {
                control.stop();
                Event::Hurry
            }
            Ok(()) = wishes.hang_ups.changed() => Event::HangUp,
            _ = ticks.tick() => Event::Tick,
            messages = consumer.next_batch() => match messages {
                Some(messages) => Event::Messages(messages),
                None => break,
            },
        };
        if events.send(event).await.is_err() {
            // The thread has ended, and its outcome says why.
            break;
        }
    }
    drop(events);
    thread.await?.map_err(Failure)
}

/// The thread's state.
struct Writing {
    writer: FileWriter,
    pace: Pace,
    control: ConsumerControl,
    /// Written, not yet synced.
    pending: Vec<Message>,
    hurry: bool,
}

impl Writing {
    fn run(mut self, mut told: mpsc::Receiver<Event>) -> Result<(), String> {
        while let Some(event) = told.blocking_recv() {
            match event {
                Event::Messages(messages) => self.write(messages)?,
                Event::Tick => {
                    let now = Zoned::now();
                    if self.writer.needs_rotation(&now) {
                        self.sync()?;
                        if self.pace.skip_empty_files {
                            self.writer.close()?;
                        } else {
                            self.writer.rotate(&now)?;
                        }
                    }
                    self.sync()?;
                }
                Event::HangUp => {
                    self.sync()?;
                    self.writer.close()?;
                }
                Event::Hurry => self.hurry = true,
            }
            // More messages come only once these are finished.
            if told.is_empty() && (self.hurry || self.control.is_starved()) {
                self.sync()?;
            }
        }
        self.sync()?;
        self.writer.close()
    }

    fn write(&mut self, messages: Vec<Message>) -> Result<(), String> {
        let now = Zoned::now();
        for message in messages {
            if self.writer.needs_rotation(&now) {
                self.sync()?;
                self.writer.rotate(&now)?;
            }
            self.writer.write(message.body())?;
            self.pending.push(message);
            if self.pending.len() >= self.pace.pending_max {
                self.sync()?;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        if self.pending.is_empty() {
            return Ok(());
        }
        tracing::info!("{} syncing {} records to disk", self.pace.label, self.pending.len());
        self.writer.sync()?;
        while let Some(message) = self.pending.pop() {
            message.finish();
        }
        Ok(())
    }
}
