//! `nsq_bench`: a load generator for any NSQ daemon. It knows the wire, not the daemon.
//!
//! `flags` and `scenario` say what to do; `run` leads threads (`worker`) whose connections publish
//! and consume (`load`, `open_loop`, `consume`) while `progress` counts; `figures` and `report` say
//! what came of it. `compare`, `versus` and `quick` work on reports alone.

mod body;
mod clock;
mod codec;
mod compare;
mod connection;
mod consume;
mod daemon;
mod encode;
mod endpoint;
mod environment;
mod figures;
mod flags;
mod fresh;
mod histogram;
mod html;
mod http;
mod link;
mod load;
mod open_loop;
mod presets;
mod process;
mod progress;
mod quick;
mod report;
mod run;
mod scenario;
mod schedule;
mod sweep;
mod tape;
mod timeline;
mod verify;
mod versus;
mod wire;
mod worker;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::daemon::{Daemon, delete_topic};
use crate::endpoint::Endpoint;
use crate::environment::Environment;
use crate::figures::RunFigures;
use crate::flags::{Command, Flags, LoadFlags, Scenario};
use crate::report::{MeasuredRun, Report};
use crate::run::{Outcome, Setting, run};
use crate::scenario::{Kind, Plan};
use crate::verify::Verification;

/// Descriptors besides the connections': rings, timers, `/proc`, the terminal.
const OTHER_DESCRIPTORS: u64 = 256;
/// The timer of an open-loop producer, held twice.
const TIMER_DESCRIPTORS: usize = 2;
/// Where publishes over HTTP go when nothing else is said.
const HTTP_ADDRESS: &str = "127.0.0.1:4151";
/// The exit code of a measurement that was made, but did not offer the load it names.
pub(crate) const INVALID: u8 = 3;

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Load(scenario) => measure(&scenario),
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

fn measure(scenario: &Scenario) -> Result<ExitCode> {
    let (plan, flags) = Plan::new(scenario)?;
    let mut bench = Bench::new(&plan, &flags)?;
    let (plan, sweep) = match plan.p99_bound {
        Some(bound) => {
            let sweep = sweep::search(&plan, bound, |plan| Ok(bench.measure(plan)?.figures))?;
            // Once more at the knee, for the report.
            (Plan { rate: Some(sweep.knee()?), ..plan }, Some(sweep))
        }
        None => (plan, None),
    };
    let runs = (0..flags.runs).map(|_| bench.measure(&plan)).collect::<Result<Vec<_>>>()?;
    if flags.daemon.is_none() && flags.http_address.is_none() && plan.kind != Kind::Idle {
        let note = "the topics nsq_bench_* stay in the daemon; --http-address has them deleted";
        writeln!(std::io::stderr(), "nsq_bench: {note}")?;
    }
    let verified: Vec<_> = runs.iter().filter_map(|run| run.figures.verification.clone()).collect();
    let valid = runs.iter().all(|run| run.figures.invalid.is_empty());
    let report = Report::new(&plan, &flags, bench.environment, sweep, runs)?;
    report.deliver(&flags.outputs)?;
    for verification in &verified {
        writeln!(std::io::stdout(), "verified: {}", verification.summary())?;
    }
    ensure!(
        verified.iter().all(Verification::passed),
        "acknowledged messages were lost or damaged"
    );
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(INVALID) })
}

/// What all runs of a measurement share.
struct Bench<'a> {
    flags: &'a LoadFlags,
    setting: Setting,
    own_cores: rustix::thread::CpuSet,
    environment: Environment,
    runs: usize,
}

impl<'a> Bench<'a> {
    fn new(plan: &Plan, flags: &'a LoadFlags) -> Result<Self> {
        ensure!(flags.runs > 0 && flags.threads > 0, "--runs and --threads must be at least 1");
        allow_descriptors(plan)?;
        let http_address = flags.http_address.as_deref().unwrap_or(HTTP_ADDRESS);
        let setting = Setting {
            endpoint: Endpoint::parse(&flags.address)?,
            http_endpoint: plan.http.then(|| Endpoint::parse(http_address)).transpose()?,
            pid: flags.pid,
            threads: flags.threads,
            cpus: flags.cpu_list()?,
            spin: flags.spin,
            stall_timeout: flags.stall_timeout,
        };
        let own_cores = rustix::thread::sched_getaffinity(None)?;
        Ok(Self { flags, setting, own_cores, environment: Environment::here(), runs: 0 })
    }

    /// One run, on a daemon of its own if there is a command for one.
    fn measure(&mut self, plan: &Plan) -> Result<MeasuredRun> {
        worker::stay_on(&self.own_cores)?;
        let daemon = match &self.flags.daemon {
            Some(command) => Some(Daemon::start(command, &self.setting.endpoint)?),
            None => None,
        };
        self.setting.pid = daemon.as_ref().map(Daemon::pid).or(self.flags.pid);
        if let Some(cpu) = self.setting.cpus.first() {
            // Only now: the daemon would have inherited it.
            worker::pin(*cpu)?;
        }
        let topics = topic_names(plan, self.runs);
        self.runs += 1;
        let outcome = run(plan, &self.setting, topics.clone())?;
        self.environment.see_daemon(&self.setting.endpoint, self.setting.pid);
        let figures = RunFigures::new(plan, &self.setting, &outcome);
        let Outcome { timings, timeline, .. } = outcome;
        // A daemon of our own is thrown away, and an ephemeral topic goes with its consumers.
        if let Some(address) = &self.flags.http_address
            && daemon.is_none()
            && !(plan.ephemeral && plan.consumes())
        {
            let endpoint = Endpoint::parse(address)?;
            topics.iter().try_for_each(|topic| delete_topic(&endpoint, topic))?;
        }
        Ok(MeasuredRun { figures, timings, timeline })
    }
}

/// Names that no other run uses, all of one length.
fn topic_names(plan: &Plan, run: usize) -> Vec<String> {
    let stamp = clock::now_ns() / 1_000_000 % 1_000_000_000;
    let suffix = if plan.ephemeral { "#ephemeral" } else { "" };
    (0..plan.topics)
        .map(|topic| format!("nsq_bench_{stamp:09}_{run:03}_{topic:06}{suffix}"))
        .collect()
}

/// Raises the limit of open files to what the plan needs.
fn allow_descriptors(plan: &Plan) -> Result<()> {
    let sockets = plan.connections + plan.idle + plan.consumer_connections();
    let timers = if plan.is_open_loop() { plan.connections } else { 0 };
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
