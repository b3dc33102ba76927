//! Consumers: they finish every message at once, ask for some again, or take their time.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::body::{Stamp, read_time};
use crate::clock::now_ns;
use crate::connection::{Input, describe, write};
use crate::link::Link;
use crate::load::{Surroundings, TaskEnd};
use crate::progress::Phase;
use crate::verify::Delivered;
use crate::wire::{self, Frame, Message};

/// Large reads: a consumer's cost per message falls with what one read brings.
const INPUT_BYTES: usize = 256 * 1024;
/// Of all consumers of a thread together, beyond which each gets less.
const INPUTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Least of each.
const INPUT_BYTES_MIN: usize = 4 * 1024;

/// Sends RDY when the load begins. A task of its own: the consumer reads meanwhile, as it may have
/// heartbeats to answer.
pub(crate) async fn ready_at_load(here: Rc<Surroundings>, link: Rc<Link>) -> Result<TaskEnd> {
    here.wait_for(Phase::Load).await;
    write(&link, wire::ready(here.plan.rdy)).await?;
    Ok(TaskEnd::Nothing)
}

/// What a consumer's reading half tells its half that finishes messages after a while.
pub(crate) enum Work {
    Message([u8; wire::ID_BYTES]),
    Heartbeat,
}

/// One consumer.
pub(crate) struct Consumer {
    pub(crate) here: Rc<Surroundings>,
    /// For verification.
    pub(crate) delivered: Delivered,
    /// Where messages go that are to be finished later; `None` finishes them at once.
    pub(crate) later: Option<UnboundedSender<Work>>,
    /// Decides what is asked for again.
    pub(crate) random: fastrand::Rng,
}

/// What one read brought.
#[derive(Default)]
struct Counts {
    consumed: u64,
    requeued: u64,
    distinct: u64,
    redelivered: u64,
    early: u64,
}

impl Consumer {
    /// Takes messages until the connection ends; one write for all that one read brought.
    pub(crate) async fn run(mut self, link: Rc<Link>, peers: usize) -> Result<TaskEnd> {
        let here = Rc::clone(&self.here);
        let frame_bytes = wire::message_frame_bytes(here.plan.body.most());
        let fair_bytes = (INPUTS_BYTES_MAX / peers.max(1)).clamp(INPUT_BYTES_MIN, INPUT_BYTES);
        let mut input = Input::new(fair_bytes.max(2 * frame_bytes), &link);
        let mut answers = Vec::new();
        loop {
            match input.fill(&link).await {
                Ok(true) => {}
                ended => return here.closed(ended).map(|()| self.end()),
            }
            self.take(&mut input, &mut answers)?;
            if !answers.is_empty() {
                answers = match write(&link, answers).await {
                    Ok(buffer) => buffer,
                    Err(error) => return here.closed(Err(error)).map(|()| self.end()),
                };
                answers.clear();
            }
        }
    }

    /// Takes all messages that are there.
    fn take(&mut self, input: &mut Input, answers: &mut Vec<u8>) -> Result<()> {
        let now = if self.here.plan.stamped() { now_ns() } else { 0 };
        let mut counts = Counts::default();
        while let Some(frame) = input.next_frame()? {
            match frame {
                Frame::Message(message) => {
                    self.note(&message, now, &mut counts)?;
                    self.answer(&message, answers, &mut counts)?;
                }
                Frame::Response(wire::HEARTBEAT) => match &self.later {
                    // Its other half is gone only when the run has failed.
                    Some(later) => drop(later.send(Work::Heartbeat)),
                    None => answers.extend_from_slice(wire::NOP),
                },
                other => bail!("a consumer got {}", describe(&other)),
            }
        }
        let tally = self.here.tally();
        tally.consumed.add(counts.consumed);
        tally.requeued.add(counts.requeued);
        tally.distinct.add(counts.distinct);
        tally.redelivered.add(counts.redelivered);
        tally.early.add(counts.early);
        Ok(())
    }

    /// Counts, times and, when asked to, verifies a delivery.
    fn note(&mut self, message: &Message<'_>, now: u64, counts: &mut Counts) -> Result<()> {
        let first = message.attempts == 1;
        counts.redelivered += u64::from(!first);
        if self.here.plan.verify {
            let stamp = Stamp::read(message.body);
            counts.distinct += u64::from(self.delivered.note(stamp, message.attempts)?);
        } else {
            counts.distinct += u64::from(first);
        }
        // A later attempt is late because it was asked for again, or because we were.
        if self.here.plan.stamped()
            && first
            && let Some(ready_ns) = read_time(message.body)
        {
            counts.early += u64::from(now < ready_ns);
            let defer_ns = u64::try_from(self.here.plan.defer.as_nanos())?;
            self.here.record_delivery(ready_ns.saturating_sub(defer_ns), ready_ns, now);
        }
        Ok(())
    }

    fn answer(
        &mut self,
        message: &Message<'_>,
        answers: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<()> {
        let plan = &self.here.plan;
        if plan.requeue_percent > 0.0 && self.random.f64() * 100.0 < plan.requeue_percent {
            counts.requeued += 1;
            wire::push_requeue(answers, message.id, plan.requeue_delay.as_millis());
            return Ok(());
        }
        match &self.later {
            Some(later) => drop(later.send(Work::Message(message.id.try_into()?))),
            None => {
                counts.consumed += 1;
                wire::push_finish(answers, message.id);
            }
        }
        Ok(())
    }

    fn end(self) -> TaskEnd {
        if self.here.plan.verify {
            return TaskEnd::Delivered(Box::new(self.delivered));
        }
        TaskEnd::Nothing
    }
}

/// Finishes one message after the other, each after `slow_delay`, as a consumer does whose work
/// takes that long. Heartbeats are answered meanwhile.
pub(crate) async fn finish_slowly(
    here: Rc<Surroundings>,
    link: Rc<Link>,
    mut work: UnboundedReceiver<Work>,
) -> Result<TaskEnd> {
    // At most RDY messages wait here.
    let mut waiting = std::collections::VecDeque::new();
    let mut free_at_ns: u64 = 0;
    let delay_ns = u64::try_from(here.plan.slow_delay.as_nanos())?;
    while !here.progress.reached(Phase::Stop) {
        let left_ns = match waiting.is_empty() {
            true => 50_000_000,
            false => free_at_ns.saturating_sub(now_ns()),
        };
        let mut out = Vec::new();
        match tokio::time::timeout(Duration::from_nanos(left_ns), work.recv()).await {
            Ok(None) => break,
            Ok(Some(Work::Heartbeat)) => out.extend_from_slice(wire::NOP),
            Ok(Some(Work::Message(id))) => {
                if waiting.is_empty() {
                    free_at_ns = now_ns() + delay_ns;
                }
                waiting.push_back(id);
            }
            Err(_) => {}
        }
        while free_at_ns <= now_ns()
            && let Some(id) = waiting.pop_front()
        {
            wire::push_finish(&mut out, &id);
            here.tally().consumed.add(1);
            free_at_ns += delay_ns;
        }
        if !out.is_empty()
            && let Err(error) = write(&link, out).await
        {
            return here.closed(Err(error)).map(|()| TaskEnd::Nothing);
        }
    }
    Ok(TaskEnd::Nothing)
}
