//! The open loop: messages are sent when they are due, whatever becomes of earlier ones, and all
//! times count from when they were due. A daemon that stalls is charged for the whole stall.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio_uring::fs::File;

use crate::clock::now_ns;
use crate::connection::{Answer, Input, write};
use crate::encode::Encoder;
use crate::histogram::Timing;
use crate::link::Link;
use crate::load::{LOOK_AGAIN, Surroundings, TaskEnd};
use crate::progress::Phase;
use crate::scenario::Kind;
use crate::schedule::Schedule;
use crate::verify::Published;
use crate::wire;
use crate::worker;

/// Publishes without an answer on one connection; beyond it the producer is late, and says so.
const OUTSTANDING_MAX: usize = 1 << 14;
/// Publishes in one write, and bytes after which it is sent.
const WRITE_COMMANDS_MAX: usize = 256;
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Longest sleep, so that the end of the run is seen in time.
const SLEEP_NS_MAX: u64 = 50_000_000;
const ANSWER_INPUT_BYTES: usize = 16 * 1024;

/// What the writing and the reading half of a connection share: when each publish that has no
/// answer yet was due and was sent. A ring with one writer and one reader on one thread.
struct Outstanding {
    times_ns: Vec<Cell<(u64, u64)>>,
    pushed: Cell<usize>,
    popped: Cell<usize>,
    heartbeat: Cell<bool>,
}

impl Outstanding {
    /// Nothing sent yet.
    fn new() -> Self {
        Self {
            times_ns: vec![Cell::new((0, 0)); OUTSTANDING_MAX],
            pushed: Cell::new(0),
            popped: Cell::new(0),
            heartbeat: Cell::new(false),
        }
    }

    fn is_full(&self) -> bool {
        self.pushed.get() - self.popped.get() == OUTSTANDING_MAX
    }

    fn push(&self, due_ns: u64, sent_ns: u64) {
        self.times_ns[self.pushed.get() % OUTSTANDING_MAX].set((due_ns, sent_ns));
        self.pushed.set(self.pushed.get() + 1);
    }

    fn pop(&self) -> Option<(u64, u64)> {
        (self.popped.get() < self.pushed.get()).then(|| {
            let times = self.times_ns[self.popped.get() % OUTSTANDING_MAX].get();
            self.popped.set(self.popped.get() + 1);
            times
        })
    }
}

/// Starts the producer `number`. `commands_before` were acknowledged already, of the same encoder.
pub(crate) fn launch(
    here: &Rc<Surroundings>,
    link: &Rc<Link>,
    encoder: Encoder,
    number: u32,
    commands_before: u64,
    done: &UnboundedSender<Result<TaskEnd>>,
) {
    let outstanding = Rc::new(Outstanding::new());
    let (ours, reader) = (Rc::clone(here), Rc::clone(link));
    worker::launch(done, take_answers(ours, reader, Rc::clone(&outstanding)));
    let (here, link) = (Rc::clone(here), Rc::clone(link));
    let producer = Producer { here, link, outstanding, encoder, number, commands_before };
    worker::launch(done, producer.run());
}

/// A producer that sends one publish at each due time.
struct Producer {
    here: Rc<Surroundings>,
    link: Rc<Link>,
    outstanding: Rc<Outstanding>,
    encoder: Encoder,
    /// Its number among all producers.
    number: u32,
    commands_before: u64,
}

impl Producer {
    /// Sends what is due until the load ends, and after that what was due before its end: a
    /// message that the daemon's pace held up is late, not left out.
    async fn run(mut self) -> Result<TaskEnd> {
        let here = Rc::clone(&self.here);
        here.wait_for(Phase::Load).await;
        let mut schedule = self.schedule();
        let sent = self.send_when_due(&mut schedule).await;
        here.tally().producers_ended.add(1);
        match sent {
            Ok(true) => {}
            // All that the run may publish is sent.
            Ok(false) => schedule.end(),
            Err(error) => here.closed(Err(error))?,
        }
        while !here.progress.reached(Phase::Stop) {
            if self.outstanding.heartbeat.take()
                && let Err(error) = write(&self.link, wire::NOP.to_vec()).await
            {
                here.closed(Err(error))?;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        while schedule.due_ns() < here.progress.window_end_ns() {
            here.tally().unsent.add(here.plan.command_messages());
            schedule.advance();
        }
        if !here.plan.verify {
            return Ok(TaskEnd::Nothing);
        }
        let acknowledged = self.commands_before + self.outstanding.popped.get() as u64;
        let acknowledged = self.encoder.spread(acknowledged);
        Ok(TaskEnd::Published(Published { producer: self.number, acknowledged }))
    }

    /// False when the budget is spent.
    async fn send_when_due(&mut self, schedule: &mut Schedule) -> Result<bool> {
        let here = Rc::clone(&self.here);
        let mut alarm = Alarm::new()?;
        let mut out = Vec::new();
        while !self.is_over(schedule) {
            let now = now_ns();
            let Some(commands) = self.take_due(schedule, now, &mut out) else { return Ok(false) };
            if self.outstanding.heartbeat.take() {
                out.extend_from_slice(wire::NOP);
            }
            if !out.is_empty() {
                here.tally().sent.add(commands * here.plan.command_messages());
                out = write(&self.link, out).await?;
                out.clear();
            } else if self.outstanding.is_full() {
                tokio::time::sleep(LOOK_AGAIN).await;
            } else {
                alarm.sleep_until(schedule.due_ns().min(now + SLEEP_NS_MAX)).await?;
            }
        }
        Ok(true)
    }

    fn schedule(&self) -> Schedule {
        let plan = &self.here.plan;
        let commands_per_s = plan.rate.unwrap_or(1.0) / plan.command_messages() as f64;
        Schedule::new(
            plan.arrivals,
            commands_per_s,
            plan.connections,
            self.number as usize,
            self.here.progress.load_began_ns(),
        )
    }

    fn is_over(&self, schedule: &Schedule) -> bool {
        let progress = &self.here.progress;
        progress.reached(Phase::Stop)
            || progress.reached(Phase::Settle) && schedule.due_ns() >= progress.window_end_ns()
    }

    /// Writes what is due by `now` to `out`, and counts it; `None` when the budget is spent.
    fn take_due(&mut self, schedule: &mut Schedule, now: u64, out: &mut Vec<u8>) -> Option<u64> {
        let mut commands = 0;
        while schedule.due_ns() <= now
            && commands < WRITE_COMMANDS_MAX as u64
            && out.len() < WRITE_BYTES_MAX
            && !self.outstanding.is_full()
        {
            // A drain has spent its budget on the backlog.
            if self.here.plan.kind != Kind::Drain && self.here.progress.grant(1) == 0 {
                return (commands > 0).then_some(commands);
            }
            let due_ns = schedule.due_ns();
            self.encoder.push(out, due_ns);
            self.outstanding.push(due_ns, now);
            self.here.record(Timing::SendDelay, due_ns, now - due_ns);
            schedule.advance();
            commands += 1;
        }
        Some(commands)
    }
}

/// Takes the answers to what a `Producer` sends.
async fn take_answers(
    here: Rc<Surroundings>,
    link: Rc<Link>,
    outstanding: Rc<Outstanding>,
) -> Result<TaskEnd> {
    let mut input = Input::new(ANSWER_INPUT_BYTES, &link);
    loop {
        match input.fill(&link).await {
            Ok(true) => {}
            ended => return here.closed(ended).map(|()| TaskEnd::Nothing),
        }
        let now = now_ns();
        let mut answers = 0;
        while let Some(answer) = input.next_answer(here.plan.http)? {
            if answer == Answer::Heartbeat {
                // The writing half answers: two writers could interleave.
                outstanding.heartbeat.set(true);
                continue;
            }
            let Some((due_ns, sent_ns)) = outstanding.pop() else {
                bail!("the daemon sent an OK too many");
            };
            here.record(Timing::Service, due_ns, now - sent_ns);
            here.record(Timing::Response, due_ns, now - due_ns);
            answers += 1;
        }
        here.tally().acknowledged.add(answers * here.plan.command_messages());
    }
}

/// A timer of the kernel's full precision; tokio's own go by milliseconds.
struct Alarm {
    timer: OwnedFd,
    /// The same timer, read on the ring.
    ring_timer: File,
    expirations: Vec<u8>,
}

impl Alarm {
    fn new() -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let ring_timer = File::from_std(timer.try_clone()?.into());
        Ok(Self { timer, ring_timer, expirations: vec![0; 8] })
    }

    async fn sleep_until(&mut self, due_ns: u64) -> Result<()> {
        let due = Duration::from_nanos(due_ns.max(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(due.as_secs())?,
            tv_nsec: i64::from(due.subsec_nanos()),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting)?;
        let (result, buffer) =
            self.ring_timer.read_at(std::mem::take(&mut self.expirations), 0).await;
        self.expirations = buffer;
        result.context("a timer failed")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outstanding_publishes_come_back_in_order_and_are_bounded() {
        let outstanding = Outstanding::new();
        assert_eq!(outstanding.pop(), None);
        for round in 0..3u64 {
            for number in 0..OUTSTANDING_MAX as u64 {
                assert!(!outstanding.is_full());
                outstanding.push(number, round);
            }
            assert!(outstanding.is_full());
            for number in 0..OUTSTANDING_MAX as u64 {
                assert_eq!(outstanding.pop(), Some((number, round)));
            }
        }
        assert_eq!(outstanding.pop(), None);
    }
}
