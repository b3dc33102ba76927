//! One run of a scenario: starts the threads, leads them through the phases, and takes samples at
//! both ends of the measured window. Every wait here has a deadline.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::clock::now_ns;
use crate::endpoint::Endpoint;
use crate::histogram::Timings;
use crate::process::{ProcessSample, own_thread_cpu_ns};
use crate::progress::{Phase, Progress, Totals};
use crate::report::LiveLine;
use crate::scenario::{Kind, Plan};
use crate::timeline::{self, DaemonMark, IntervalTimings, Mark, Timeline};
use crate::verify::Verification;
use crate::worker::{Assignment, Books, Event, spawn};

/// Time for all connections to end.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// Share of a count-bound run that is warm-up at most: one in this many messages.
const WARM_UP_SHARE: u64 = 5;
/// How often the counts are looked at.
const POLL: Duration = Duration::from_millis(1);

/// Who is loaded and by what threads.
#[derive(Clone)]
pub(crate) struct Setting {
    /// Where the daemon takes clients of its protocol.
    pub(crate) endpoint: Endpoint,
    /// Where it takes publishes over HTTP, if the scenario does that.
    pub(crate) http_endpoint: Option<Endpoint>,
    pub(crate) pid: Option<u32>,
    pub(crate) threads: usize,
    /// Cores for the threads in turn; empty: not pinned.
    pub(crate) cpus: Vec<usize>,
    pub(crate) spin: bool,
    pub(crate) stall_timeout: Duration,
}

/// The counters at one end of the window.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at_ns: u64,
    pub(crate) totals: Totals,
    /// The daemon, when its process is known.
    pub(crate) process: Option<ProcessSample>,
    /// CPU time of each of our threads.
    pub(crate) threads_cpu_ns: Vec<u64>,
}

impl Sample {
    /// What the timeline shows of it.
    fn mark(&self) -> Mark {
        let daemon = self.process.map(|process| DaemonMark {
            cpu_ns: process.cpu_ns,
            context_switches: process.voluntary_switches + process.involuntary_switches,
            resident_bytes: process.resident_bytes,
            written_bytes: process.written_bytes,
        });
        Mark { at_ns: self.at_ns, totals: self.totals, daemon }
    }
}

/// What a run brought.
pub(crate) struct Outcome {
    pub(crate) begin: Sample,
    pub(crate) end: Sample,
    /// The daemon before the first connection.
    pub(crate) before: Option<ProcessSample>,
    /// The daemon with the backlog in it, for `Drain`.
    pub(crate) filled: Option<Filled>,
    /// Counts of the whole run, warm-up and end included.
    pub(crate) totals: Totals,
    pub(crate) timings: Timings,
    pub(crate) timeline: Timeline,
    pub(crate) verification: Option<Verification>,
}

/// The end of the phase that builds a backlog.
pub(crate) struct Filled {
    /// Time it took.
    pub(crate) duration_ns: u64,
    pub(crate) messages: u64,
    pub(crate) process: Option<ProcessSample>,
}

/// Runs `plan` once over `topics`.
pub(crate) fn run(plan: &Plan, setting: &Setting, topics: Vec<String>) -> Result<Outcome> {
    let before = setting.pid.map(ProcessSample::take).transpose()?;
    let interval_ns = timeline::interval_ns(nanoseconds(plan.duration));
    let budget = plan.messages.map(|messages| messages / plan.command_messages());
    let progress = Arc::new(Progress::new(setting.threads, budget));
    let (sender, events) = channel();
    let (plan, topics) = (Arc::new(plan.clone()), Arc::new(topics));
    for thread in 0..setting.threads {
        let assignment = Assignment {
            thread,
            threads: setting.threads,
            cpu: setting.cpus.get(thread % setting.cpus.len().max(1)).copied(),
            spin: setting.spin,
            interval_ns,
            endpoint: match (&setting.http_endpoint, plan.http) {
                (Some(http), true) => http.clone(),
                _ => setting.endpoint.clone(),
            },
            tcp_endpoint: setting.endpoint.clone(),
            topics: Arc::clone(&topics),
            plan: Arc::clone(&plan),
            progress: Arc::clone(&progress),
        };
        spawn(assignment, sender.clone())?;
    }
    drop(sender);
    let mut lead = Lead {
        plan: &plan,
        setting,
        progress: &progress,
        events,
        thread_ids: vec![None; setting.threads],
        done: IntervalTimings::new(interval_ns),
        threads_done: 0,
        books: Books::default(),
        marks: Vec::new(),
        live: LiveLine::new(plan.name),
    };
    lead.wait_until_ready()?;
    let mut filled = None;
    if plan.kind == Kind::Drain {
        filled = Some(lead.fill()?);
    }
    let (begin, end) = lead.measure()?;
    lead.settle_and_stop()?;
    let timings = lead.done.total();
    let timeline = Timeline::new(lead.marks, lead.done);
    let channels = u32::try_from(plan.channels)?;
    let Books { published, delivered } = lead.books;
    let verification = plan.verify.then(|| Verification::new(&published, delivered, channels));
    let totals = progress.totals();
    Ok(Outcome { begin, end, before, filled, totals, timings, timeline, verification })
}

/// The thread that leads a run.
struct Lead<'a> {
    plan: &'a Plan,
    setting: &'a Setting,
    progress: &'a Progress,
    events: Receiver<(usize, Event)>,
    thread_ids: Vec<Option<i32>>,
    /// What the threads that have ended recorded.
    done: IntervalTimings,
    threads_done: usize,
    /// What they published and were delivered.
    books: Books,
    /// The counters at the ends of the timeline's intervals.
    marks: Vec<Mark>,
    live: LiveLine,
}

impl Lead<'_> {
    /// The opening of each connection has a deadline of its own; a daemon that takes its time for
    /// thousands of topics is let do so.
    fn wait_until_ready(&mut self) -> Result<()> {
        while self.thread_ids.iter().any(Option::is_none) {
            self.take_events()?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<Filled> {
        let began_ns = now_ns();
        self.progress.enter(Phase::Fill, began_ns);
        let messages = self.publishes_max().unwrap_or_default();
        self.wait_while(|totals, _| totals.acknowledged < messages)?;
        let duration_ns = now_ns() - began_ns;
        let process = self.setting.pid.map(ProcessSample::take).transpose()?;
        Ok(Filled { duration_ns, messages, process })
    }

    /// Loads the daemon and returns the samples at the ends of the window.
    fn measure(&mut self) -> Result<(Sample, Sample)> {
        let began_ns = now_ns();
        self.progress.enter(Phase::Load, began_ns);
        let warm_ns = began_ns + nanoseconds(self.plan.warm_up);
        let plan = self.plan;
        let copies = plan.channels as u64;
        // A run that is bound by number ends when this many messages are through.
        let target = match plan.kind {
            Kind::Drain => self.publishes_max().map(|backlog| backlog * copies),
            Kind::Idle => None,
            _ => self.publishes_max(),
        };
        let drains = plan.kind == Kind::Drain;
        let through = |totals: &Totals| if drains { totals.consumed } else { totals.acknowledged };
        let count = target.unwrap_or(u64::MAX);
        let is_through = |totals: &Totals| {
            // With publishing going on, a drain is over when the consumers have caught up.
            through(totals) >= count && (!drains || totals.consumed >= totals.acknowledged * copies)
        };
        let warm_count = target.map_or(u64::MAX, |messages| messages / WARM_UP_SHARE);
        self.wait_while(|totals, now| now < warm_ns && through(totals) < warm_count)?;
        let begin = self.sample()?;
        self.progress.begin_window(begin.at_ns);
        let end_ns = begin.at_ns + nanoseconds(self.plan.duration);
        self.marks.push(begin.mark());
        loop {
            let mark_ns = begin.at_ns + self.done.interval_ns() * self.marks.len() as u64;
            let within = |totals: &Totals, now| now < end_ns && !is_through(totals);
            self.wait_while(|totals, now| now < mark_ns && within(totals, now))?;
            if !within(&self.progress.totals(), now_ns()) {
                break;
            }
            let mark = self.sample()?.mark();
            self.marks.push(mark);
        }
        let end = self.sample()?;
        self.progress.end_window(end.at_ns);
        self.marks.push(end.mark());
        Ok((begin, end))
    }

    /// Lets what is under way arrive, where that is to be counted, and ends all threads.
    fn settle_and_stop(&mut self) -> Result<()> {
        self.progress.enter(Phase::Settle, now_ns());
        if self.plan.waits_for_all() {
            self.wait_for_all()?;
        } else {
            // The last answers; a producer collects all of its own.
            let producers = if self.plan.is_open_loop() { self.plan.connections as u64 } else { 0 };
            let give_up_ns = deadline(self.patience());
            self.wait_while(|totals, now| {
                let all = totals.producers_ended >= producers && totals.acknowledged >= totals.sent;
                !all && (producers == 0 || now < give_up_ns)
            })?;
        }
        self.progress.enter(Phase::Stop, now_ns());
        let give_up_ns = deadline(END_TIMEOUT);
        while self.threads_done < self.setting.threads {
            self.take_events()?;
            if now_ns() > give_up_ns {
                bail!("connections did not end within {} s", END_TIMEOUT.as_secs());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits until all that was acknowledged is delivered, as long as something comes or, when
    /// the run is not verified, for a while.
    fn wait_for_all(&mut self) -> Result<()> {
        let plan = self.plan;
        let copies = plan.channels as u64;
        let producers = if plan.is_open_loop() { plan.connections as u64 } else { 0 };
        let patience_ns = nanoseconds(self.patience());
        let began = (self.progress.totals(), now_ns());
        let last = Cell::new(began);
        self.wait_while(|totals, now| {
            let (before, since_ns) = last.get();
            if *totals != before && plan.verify {
                last.set((*totals, now));
            }
            let all = totals.producers_ended >= producers
                && totals.acknowledged >= totals.sent
                && totals.distinct >= totals.acknowledged * copies
                && totals.consumed >= totals.acknowledged * copies;
            !all && now < since_ns + patience_ns
        })
    }

    /// How long nothing may come back.
    fn patience(&self) -> Duration {
        self.setting.stall_timeout + self.plan.defer + self.plan.requeue_delay
    }

    /// Waits as long as `condition` holds; fails when the counts stand still for too long.
    fn wait_while(&mut self, condition: impl Fn(&Totals, u64) -> bool) -> Result<()> {
        // At a low rate there is nothing to come back for longer than that.
        let between = Duration::try_from_secs_f64(self.plan.rate.map_or(0.1, |rate| 3.0 / rate));
        let patience = self.patience().saturating_add(between.unwrap_or(Duration::MAX));
        let mut last = (self.progress.totals(), now_ns());
        loop {
            self.take_events()?;
            let (totals, now) = (self.progress.totals(), now_ns());
            self.live.show(&totals, now);
            if !condition(&totals, now) {
                return Ok(());
            }
            if totals != last.0 {
                last = (totals, now);
            }
            if self.plan.kind != Kind::Idle && now - last.1 > nanoseconds(patience) {
                bail!(
                    "nothing came back from the daemon for {} s ({} sent, {} acknowledged, \
                     {} consumed)",
                    patience.as_secs(),
                    totals.sent,
                    totals.acknowledged,
                    totals.consumed
                );
            }
            std::thread::sleep(POLL);
        }
    }

    fn take_events(&mut self) -> Result<()> {
        while let Ok((thread, event)) = self.events.try_recv() {
            match event {
                Event::Ready(thread_id) => self.thread_ids[thread] = Some(thread_id),
                Event::Done(timings, books) => {
                    self.done.merge(&timings);
                    self.books.published.extend(books.published);
                    self.books.delivered.extend(books.delivered);
                    self.threads_done += 1;
                }
                Event::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sample(&self) -> Result<Sample> {
        let process = self.setting.pid.map(ProcessSample::take).transpose()?;
        let threads_cpu_ns = self
            .thread_ids
            .iter()
            .map(|id| id.map_or(0, |id| own_thread_cpu_ns(id).unwrap_or(0)))
            .collect();
        Ok(Sample { at_ns: now_ns(), totals: self.progress.totals(), process, threads_cpu_ns })
    }

    /// Messages that the budget allows, in whole commands.
    fn publishes_max(&self) -> Option<u64> {
        let each = self.plan.command_messages();
        self.plan.messages.map(|messages| messages / each * each)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn deadline(patience: Duration) -> u64 {
    now_ns() + nanoseconds(patience)
}
