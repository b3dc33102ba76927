//! What one connection does: publish in a closed loop, or idle. `open_loop.rs` has the producers
//! whose sending does not depend on answers, `consume.rs` the consumers.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::clock::now_ns;
use crate::connection::{Answer, Input, Opening, describe, reopen, write};
use crate::encode::Encoder;
use crate::endpoint::Endpoint;
use crate::histogram::{Recorder, Timing};
use crate::link::Link;
use crate::progress::{Phase, Progress, Tally};
use crate::scenario::{Kind, Plan};
use crate::tape::Tape;
use crate::verify::{Delivered, Published};
use crate::wire::{self, Frame};

/// Answers to publishes are ten bytes each.
const PRODUCER_INPUT_BYTES: usize = 16 * 1024;
/// Heartbeats and error texts.
const IDLE_INPUT_BYTES: usize = 512;
/// How often waiting tasks look at the phase.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What the tasks of one thread share.
pub(crate) struct Surroundings {
    pub(crate) plan: Arc<Plan>,
    pub(crate) progress: Arc<Progress>,
    /// The number of this thread.
    pub(crate) thread: usize,
    pub(crate) recorder: Recorder,
    /// Where and how a producer connects again.
    pub(crate) endpoint: Endpoint,
    pub(crate) opening: Opening,
}

impl Surroundings {
    /// This thread's counts.
    pub(crate) fn tally(&self) -> &Tally {
        self.progress.tally(self.thread)
    }

    /// Waits for `phase`.
    pub(crate) async fn wait_for(&self, phase: Phase) {
        while !self.progress.reached(phase) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Counts one sample that began at `from_ns`, if that is in the measured window.
    pub(crate) fn record(&self, timing: Timing, from_ns: u64, duration_ns: u64) {
        if self.progress.measures(from_ns) {
            let since_begin_ns = self.progress.since_begin_ns(from_ns.saturating_add(duration_ns));
            self.recorder.record(timing, since_begin_ns, duration_ns);
        }
    }

    /// Counts the delivery of a message that was due at `due_ns` and deferred to `ready_ns`, if it
    /// was due in the measured window.
    pub(crate) fn record_delivery(&self, due_ns: u64, ready_ns: u64, now: u64) {
        if self.progress.measures(due_ns) {
            let since_begin_ns = self.progress.since_begin_ns(now);
            let late_ns = now.saturating_sub(ready_ns);
            self.recorder.record(Timing::EndToEnd, since_begin_ns, late_ns);
        }
    }

    /// The end of a connection that the daemon closed or that broke: as it should be at the end
    /// of the run, an error before.
    pub(crate) fn closed(&self, result: Result<bool>) -> Result<()> {
        match result {
            _ if self.progress.reached(Phase::Stop) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => bail!("the daemon closed a connection in the middle of the run"),
        }
    }

    /// Whether producers must let consumers catch up.
    fn too_far_ahead(&self) -> bool {
        self.plan.kind == Kind::Through && {
            let totals = self.progress.totals();
            let copies = self.plan.channels as u64;
            totals.acknowledged.saturating_sub(totals.consumed / copies) > self.plan.bound
        }
    }
}

/// What a task leaves behind for verification.
pub(crate) enum TaskEnd {
    Published(Published),
    Delivered(Box<Delivered>),
    Nothing,
}

/// Where a closed loop's publishes come from.
pub(crate) enum Source {
    /// The same bytes again and again.
    Tape(Tape),
    /// New ones every time, each body with a time and a stamp of its own.
    Fresh(Encoder, Vec<u8>),
}

impl Source {
    async fn send(&mut self, link: &Link, commands: usize, now: u64) -> Result<()> {
        match self {
            Self::Tape(tape) => tape.send(link, commands).await,
            Self::Fresh(encoder, out) => {
                (0..commands).for_each(|_| encoder.push(out, now));
                *out = write(link, std::mem::take(out)).await?;
                out.clear();
                Ok(())
            }
        }
    }
}

/// A producer of a closed loop.
pub(crate) struct Producer {
    pub(crate) here: Rc<Surroundings>,
    pub(crate) link: Rc<Link>,
    pub(crate) source: Source,
    /// Its number among all producers.
    pub(crate) number: u32,
    input: Input,
    /// Of the commands that have no answer yet.
    sent_at_ns: VecDeque<u64>,
    /// Commands sent on the connection it has now.
    sent_here: usize,
    acknowledged_commands: u64,
}

impl Producer {
    /// The producer `number`, on a connection that is open.
    pub(crate) fn new(here: Rc<Surroundings>, link: Rc<Link>, source: Source, number: u32) -> Self {
        let sent_at_ns = VecDeque::with_capacity(here.plan.in_flight);
        let input = Input::new(PRODUCER_INPUT_BYTES, &link);
        Self {
            here,
            link,
            source,
            number,
            input,
            sent_at_ns,
            sent_here: 0,
            acknowledged_commands: 0,
        }
    }

    /// From `first_phase` on publishes until the budget is spent or the load ends, and collects
    /// all answers.
    pub(crate) async fn run(mut self, first_phase: Phase) -> Result<TaskEnd> {
        let ended = self.publish(first_phase).await;
        self.here.tally().producers_ended.add(1);
        ended.map(|()| match self.source {
            Source::Tape(_) => TaskEnd::Nothing,
            Source::Fresh(encoder, _) => TaskEnd::Published(Published {
                producer: self.number,
                acknowledged: encoder.spread(self.acknowledged_commands),
            }),
        })
    }

    /// Publishes the backlog; the result is the encoder, if every body was its own, and the
    /// number of commands.
    pub(crate) async fn fill(mut self) -> Result<(Option<Encoder>, u64)> {
        self.publish(Phase::Fill).await?;
        let encoder = match self.source {
            Source::Tape(_) => None,
            Source::Fresh(encoder, _) => Some(encoder),
        };
        Ok((encoder, self.acknowledged_commands))
    }

    /// From `first_phase` on keeps as many commands in flight as the plan says.
    async fn publish(&mut self, first_phase: Phase) -> Result<()> {
        let here = Rc::clone(&self.here);
        here.wait_for(first_phase).await;
        loop {
            let ahead = here.too_far_ahead();
            let ending = here.progress.reached(Phase::Settle);
            let room = here.plan.in_flight - self.sent_at_ns.len();
            let until_renewal = match here.plan.reconnect_every {
                0 => usize::MAX,
                every => every - self.sent_here,
            };
            if until_renewal == 0 && self.sent_at_ns.is_empty() && !ending {
                self.renew().await?;
                continue;
            }
            let wanted = if ahead || ending { 0 } else { room.min(until_renewal) };
            let commands = usize::try_from(here.progress.grant(wanted as u64))?;
            if commands > 0 {
                let now = now_ns();
                self.sent_at_ns.extend(std::iter::repeat_n(now, commands));
                self.sent_here += commands;
                here.tally().sent.add(commands as u64 * here.plan.command_messages());
                self.source.send(&self.link, commands, now).await?;
            }
            if self.sent_at_ns.is_empty() {
                if ahead && !ending {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                return Ok(());
            }
            match self.input.fill(&self.link).await {
                Ok(true) => {}
                ended => return here.closed(ended),
            }
            if self.take_answers()? {
                write(&self.link, wire::NOP.to_vec()).await?;
            }
        }
    }

    /// Counts the OKs received; true when a heartbeat is to be answered.
    fn take_answers(&mut self) -> Result<bool> {
        let now = now_ns();
        let mut heartbeat = false;
        let mut answers = 0;
        while let Some(answer) = self.input.next_answer(self.here.plan.http)? {
            if answer == Answer::Heartbeat {
                heartbeat = true;
                continue;
            }
            let Some(sent_ns) = self.sent_at_ns.pop_front() else {
                bail!("the daemon sent an OK too many");
            };
            self.here.record(Timing::Service, sent_ns, now - sent_ns);
            answers += 1;
        }
        self.acknowledged_commands += answers;
        self.here.tally().acknowledged.add(answers * self.here.plan.command_messages());
        Ok(heartbeat)
    }

    /// Leaves the connection and opens another.
    async fn renew(&mut self) -> Result<()> {
        let began_ns = now_ns();
        self.link = reopen(&self.here.endpoint, &self.here.opening).await?;
        self.input = Input::new(PRODUCER_INPUT_BYTES, &self.link);
        self.sent_here = 0;
        let mut identified = self.here.opening.identify.is_none() || self.here.opening.http;
        while !identified {
            ensure!(self.input.fill(&self.link).await?, "the daemon closed a new connection");
            while let Some(frame) = self.input.next_frame()? {
                match frame {
                    Frame::Response(wire::HEARTBEAT) => {}
                    Frame::Response(_) => identified = true,
                    other => bail!("IDENTIFY got {}", describe(&other)),
                }
            }
        }
        self.here.record(Timing::Connect, began_ns, now_ns() - began_ns);
        Ok(())
    }
}

/// Answers heartbeats and does nothing else.
pub(crate) async fn idle(here: Rc<Surroundings>, link: Rc<Link>) -> Result<TaskEnd> {
    let mut input = Input::new(IDLE_INPUT_BYTES, &link);
    loop {
        match input.fill(&link).await {
            Ok(true) => {}
            ended => return here.closed(ended).map(|()| TaskEnd::Nothing),
        }
        while let Some(frame) = input.next_frame()? {
            match frame {
                Frame::Response(wire::HEARTBEAT) => {}
                other => bail!("an idle connection got {}", describe(&other)),
            }
            write(&link, wire::NOP.to_vec()).await?;
        }
    }
}
