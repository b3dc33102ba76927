//! `nsq_bench`: a load generator for any NSQ daemon. It knows the wire, not the daemon.
//!
//! `flags` and `scenario` say what to do; `run` leads threads (`worker`) whose connections publish
//! and consume (`load`, `open_loop`) while `progress` counts; `figures` and `report` say what came
//! of it. `compare`, `versus` and `quick` work on reports alone.

mod clock;
mod compare;
mod connection;
mod daemon;
mod environment;
mod figures;
mod flags;
mod fresh;
mod histogram;
mod html;
mod load;
mod open_loop;
mod process;
mod progress;
mod quick;
mod report;
mod run;
mod scenario;
mod schedule;
mod tape;
mod timeline;
mod versus;
mod wire;
mod worker;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::daemon::{Daemon, delete_topic};
use crate::environment::Environment;
use crate::figures::RunFigures;
use crate::flags::{Command, Flags, LoadFlags, Scenario};
use crate::report::{MeasuredRun, Report};
use crate::run::{Outcome, Setting, run};
use crate::scenario::{Kind, Plan};

/// Descriptors besides the connections': rings, timers, `/proc`, the terminal.
const OTHER_DESCRIPTORS: u64 = 256;
/// The timer of an open-loop producer, held twice.
const TIMER_DESCRIPTORS: usize = 2;

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Load(scenario) => measure(&scenario).map(|()| ExitCode::SUCCESS),
        Command::Compare(flags) => compare::compare(&flags),
        Command::Versus(flags) => versus::versus(&flags),
        Command::Quick(flags) => quick::quick(&flags),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "nsq_bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(scenario: &Scenario) -> Result<()> {
    let (plan, flags) = Plan::new(scenario)?;
    ensure!(flags.runs > 0 && flags.threads > 0, "--runs and --threads must be at least 1");
    allow_descriptors(&plan)?;
    let mut setting = Setting {
        address: LoadFlags::resolve(&flags.address)?,
        pid: flags.pid,
        threads: flags.threads,
        cpus: flags.cpu_list()?,
        spin: flags.spin,
        stall_timeout: flags.stall_timeout,
    };
    let own_cores = rustix::thread::sched_getaffinity(None)?;
    let mut runs = Vec::new();
    let mut environment = Environment::here();
    for number in 0..flags.runs {
        worker::stay_on(&own_cores)?;
        let daemon = match &flags.daemon {
            Some(command) => Some(Daemon::start(command, setting.address)?),
            None => None,
        };
        setting.pid = daemon.as_ref().map(Daemon::pid).or(flags.pid);
        if let Some(cpu) = setting.cpus.first() {
            // Only now: the daemon would have inherited it.
            worker::pin(*cpu)?;
        }
        let topics = topic_names(&plan, number);
        let outcome = run(&plan, &setting, topics.clone())?;
        environment.see_daemon(setting.address, setting.pid);
        let figures = RunFigures::new(&plan, &setting, &outcome);
        let Outcome { timings, timeline, .. } = outcome;
        runs.push(MeasuredRun { figures, timings, timeline });
        if let Some(address) = &flags.http_address {
            let address = LoadFlags::resolve(address)?;
            topics.iter().try_for_each(|topic| delete_topic(address, topic))?;
        }
    }
    if flags.daemon.is_none() && flags.http_address.is_none() && plan.kind != Kind::Idle {
        let note = "the topics nsq_bench_* stay in the daemon; --http-address has them deleted";
        writeln!(std::io::stderr(), "nsq_bench: {note}")?;
    }
    Report::new(&plan, &flags, environment, runs)?.deliver(&flags.outputs)
}

/// Names that no other run uses, all of one length.
fn topic_names(plan: &Plan, run: usize) -> Vec<String> {
    let stamp = clock::now_ns() / 1_000_000 % 1_000_000_000;
    (0..plan.topics).map(|topic| format!("nsq_bench_{stamp:09}_{run:03}_{topic:06}")).collect()
}

/// Raises the limit of open files to what the plan needs.
fn allow_descriptors(plan: &Plan) -> Result<()> {
    let consumers = plan.topics * plan.channels * plan.consumers;
    let sockets = plan.connections + if plan.consumes() { consumers } else { 0 };
    let timers = if plan.kind == Kind::Latency { plan.connections } else { 0 };
    let needed = (sockets + timers * TIMER_DESCRIPTORS) as u64 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!("{sockets} connections need {needed} open files: raise `ulimit -Hn`");
    }
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    }
    Ok(())
}
