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
use tokio_uring::fs::File;
use tokio_uring::net::TcpStream;

use crate::clock::now_ns;
use crate::connection::{Input, describe, write};
use crate::histogram::Timing;
use crate::load::{LOOK_AGAIN, Surroundings};
use crate::progress::Phase;
use crate::scenario::STAMP_BYTES;
use crate::schedule::Schedule;
use crate::wire::{self, Frame};

/// Publishes without an answer on one connection; beyond it the producer is late, and says so.
const OUTSTANDING_MAX: usize = 1 << 14;
/// Publishes in one write.
const WRITE_COMMANDS_MAX: usize = 256;
/// Longest sleep, so that the end of the run is seen in time.
const SLEEP_NS_MAX: u64 = 50_000_000;
const ANSWER_INPUT_BYTES: usize = 16 * 1024;

/// What the writing and the reading half of a connection share: when each publish that has no
/// answer yet was due and was sent. A ring with one writer and one reader on one thread.
pub(crate) struct Outstanding {
    times_ns: Vec<Cell<(u64, u64)>>,
    pushed: Cell<usize>,
    popped: Cell<usize>,
    heartbeat: Cell<bool>,
}

impl Outstanding {
    /// Nothing sent yet.
    pub(crate) fn new() -> Self {
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

/// A PUB to fill in: the place of the time in its body.
pub(crate) struct Template {
    command: Vec<u8>,
    stamp_at: usize,
}

impl Template {
    /// A PUB of `body` to `topic`; the body's first bytes will be the time.
    pub(crate) fn new(topic: &str, body: &[u8]) -> Self {
        let mut command = Vec::new();
        wire::push_publish(&mut command, topic, body);
        Self { stamp_at: command.len() - body.len(), command }
    }

    fn push(&self, out: &mut Vec<u8>, due_ns: u64) {
        let at = out.len() + self.stamp_at;
        out.extend_from_slice(&self.command);
        out[at..at + STAMP_BYTES].copy_from_slice(&due_ns.to_be_bytes());
    }
}

/// Sends one PUB at each due time, to `templates` in turn. `index` is the number of this
/// connection among all that publish.
pub(crate) async fn send_when_due(
    here: Rc<Surroundings>,
    stream: Rc<TcpStream>,
    outstanding: Rc<Outstanding>,
    templates: Vec<Template>,
    index: usize,
) -> Result<()> {
    here.wait_for(Phase::Load).await;
    let (plan, start_ns) = (&here.plan, here.progress.load_began_ns());
    let rate = plan.rate.unwrap_or(1.0);
    let mut schedule = Schedule::new(plan.arrivals, rate, plan.connections, index, start_ns);
    let mut alarm = Alarm::new()?;
    let mut topic = templates.iter().cycle();
    let mut out = Vec::with_capacity(WRITE_COMMANDS_MAX * (plan.body_bytes + 128));
    while !here.progress.reached(Phase::Settle) {
        let now = now_ns();
        let mut commands = 0;
        while schedule.due_ns() <= now && commands < WRITE_COMMANDS_MAX && !outstanding.is_full() {
            let due_ns = schedule.due_ns();
            if let Some(template) = topic.next() {
                template.push(&mut out, due_ns);
            }
            outstanding.push(due_ns, now);
            here.record(Timing::SendDelay, due_ns, now - due_ns);
            schedule.advance();
            commands += 1;
        }
        if outstanding.heartbeat.take() {
            out.extend_from_slice(wire::NOP);
        }
        if !out.is_empty() {
            here.tally().sent.add(commands as u64);
            out = write(&stream, out).await?;
            out.clear();
        } else if outstanding.is_full() {
            tokio::time::sleep(LOOK_AGAIN).await;
        } else {
            alarm.sleep_until(schedule.due_ns().min(now + SLEEP_NS_MAX)).await?;
        }
    }
    Ok(())
}

/// Takes the answers to `send_when_due`.
pub(crate) async fn take_answers(
    here: Rc<Surroundings>,
    stream: Rc<TcpStream>,
    outstanding: Rc<Outstanding>,
) -> Result<()> {
    let mut input = Input::new(ANSWER_INPUT_BYTES);
    loop {
        match input.fill(&stream).await {
            Ok(true) => {}
            ended => return here.closed(ended),
        }
        let now = now_ns();
        while let Some(frame) = input.next_frame()? {
            match frame {
                Frame::Response(b"OK") => {
                    let Some((due_ns, sent_ns)) = outstanding.pop() else {
                        bail!("the daemon sent an OK too many");
                    };
                    here.record(Timing::Service, due_ns, now - sent_ns);
                    here.record(Timing::Response, due_ns, now - due_ns);
                    here.tally().acknowledged.add(1);
                }
                // The writing half answers: two writers could interleave.
                Frame::Response(wire::HEARTBEAT) => outstanding.heartbeat.set(true),
                other => bail!("a publish got {}", describe(&other)),
            }
        }
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

    #[test]
    fn a_template_carries_the_time_in_the_first_bytes_of_the_body() {
        let mut out = b"before".to_vec();
        Template::new("t", b"0123456789").push(&mut out, 0x0102);
        assert_eq!(out, b"beforePUB t\n\0\0\0\x0a\0\0\0\0\0\0\x01\x0289");
    }
}
