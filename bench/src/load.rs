//! What one connection does: publish in a closed loop, consume, or idle. `open_loop.rs` has the
//! producers whose sending does not depend on answers.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio_uring::net::TcpStream;

use crate::clock::now_ns;
use crate::connection::{Input, describe, write};
use crate::histogram::{Recorder, Timing};
use crate::progress::{Phase, Progress, Tally};
use crate::scenario::{Kind, Plan, STAMP_BYTES};
use crate::tape::Tape;
use crate::wire::{self, Frame};

/// Large reads: a consumer's cost per message falls with what one read brings.
const CONSUMER_INPUT_BYTES: usize = 256 * 1024;
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

/// Publishes from `tape` with as many commands in flight as the plan says, until the budget is
/// spent or the load ends, and collects all answers.
pub(crate) async fn produce(
    here: Rc<Surroundings>,
    stream: Rc<TcpStream>,
    mut tape: Tape,
    first_phase: Phase,
) -> Result<()> {
    here.wait_for(first_phase).await;
    let mut input = Input::new(PRODUCER_INPUT_BYTES);
    let mut sent_at_ns = VecDeque::with_capacity(here.plan.in_flight);
    let command_messages = here.plan.command_messages();
    loop {
        let ahead = here.too_far_ahead();
        let ending = here.progress.reached(Phase::Settle);
        let room = here.plan.in_flight - sent_at_ns.len();
        let wanted = if ahead || ending { 0 } else { room as u64 };
        let commands = here.progress.grant(wanted);
        if commands > 0 {
            let now = now_ns();
            sent_at_ns.extend(std::iter::repeat_n(now, usize::try_from(commands)?));
            here.tally().sent.add(commands * command_messages);
            tape.send(&stream, usize::try_from(commands)?).await?;
        }
        if sent_at_ns.is_empty() {
            if ahead && !ending {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            return Ok(());
        }
        match input.fill(&stream).await {
            Ok(true) => {}
            ended => return here.closed(ended),
        }
        let heartbeat = take_answers(&here, &mut input, &mut sent_at_ns, command_messages)?;
        if heartbeat {
            write(&stream, wire::NOP.to_vec()).await?;
        }
    }
}

/// Counts the OKs received; true when a heartbeat is to be answered.
fn take_answers(
    here: &Surroundings,
    input: &mut Input,
    sent_at_ns: &mut VecDeque<u64>,
    command_messages: u64,
) -> Result<bool> {
    let now = now_ns();
    let mut heartbeat = false;
    let mut answers = 0;
    while let Some(frame) = input.next_frame()? {
        match frame {
            Frame::Response(b"OK") => {
                let Some(sent_ns) = sent_at_ns.pop_front() else {
                    bail!("the daemon sent an OK too many");
                };
                here.record(Timing::Service, sent_ns, now - sent_ns);
                answers += 1;
            }
            Frame::Response(wire::HEARTBEAT) => heartbeat = true,
            other => bail!("a publish got {}", describe(&other)),
        }
    }
    here.tally().acknowledged.add(answers * command_messages);
    Ok(heartbeat)
}

/// Sends RDY when the load begins. A task of its own: the consumer reads meanwhile, as it may have
/// heartbeats to answer.
pub(crate) async fn ready_at_load(here: Rc<Surroundings>, stream: Rc<TcpStream>) -> Result<()> {
    here.wait_for(Phase::Load).await;
    write(&stream, wire::ready(here.plan.rdy)).await?;
    Ok(())
}

/// Finishes every message; one write for all that one read brought.
pub(crate) async fn consume(here: Rc<Surroundings>, stream: Rc<TcpStream>) -> Result<()> {
    let frame_bytes = wire::message_frame_bytes(here.plan.body_bytes);
    let mut input = Input::new(CONSUMER_INPUT_BYTES.max(2 * frame_bytes));
    let mut answers = Vec::with_capacity(CONSUMER_INPUT_BYTES / frame_bytes * wire::FIN_BYTES + 64);
    let stamped = here.plan.kind == Kind::Latency;
    loop {
        match input.fill(&stream).await {
            Ok(true) => {}
            ended => return here.closed(ended),
        }
        let now = if stamped { now_ns() } else { 0 };
        let (mut consumed, mut redelivered) = (0, 0);
        while let Some(frame) = input.next_frame()? {
            match frame {
                Frame::Message(message) => {
                    wire::push_finish(&mut answers, message.id);
                    consumed += 1;
                    redelivered += u64::from(message.attempts != 1);
                    if stamped && let Some(stamp) = message.body.first_chunk::<STAMP_BYTES>() {
                        let due_ns = u64::from_be_bytes(*stamp);
                        here.record(Timing::EndToEnd, due_ns, now.saturating_sub(due_ns));
                    }
                }
                Frame::Response(wire::HEARTBEAT) => answers.extend_from_slice(wire::NOP),
                other => bail!("a consumer got {}", describe(&other)),
            }
        }
        here.tally().consumed.add(consumed);
        here.tally().redelivered.add(redelivered);
        if !answers.is_empty() {
            answers = match write(&stream, answers).await {
                Ok(buffer) => buffer,
                Err(error) => return here.closed(Err(error)),
            };
            answers.clear();
        }
    }
}

/// Answers heartbeats and does nothing else.
pub(crate) async fn idle(here: Rc<Surroundings>, stream: Rc<TcpStream>) -> Result<()> {
    let mut input = Input::new(IDLE_INPUT_BYTES);
    loop {
        match input.fill(&stream).await {
            Ok(true) => {}
            ended => return here.closed(ended),
        }
        while let Some(frame) = input.next_frame()? {
            match frame {
                Frame::Response(wire::HEARTBEAT) => {}
                other => bail!("an idle connection got {}", describe(&other)),
            }
            write(&stream, wire::NOP.to_vec()).await?;
        }
    }
}
