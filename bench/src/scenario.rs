//! Scenarios: a name, what it measures, and its parameters with the flags applied.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::flags::{LoadFlags, Scenario};
use crate::schedule::Arrivals;

/// Most bytes of one body or one MPUB: frame sizes are 32 bits.
const COMMAND_BYTES_MAX: usize = 1 << 30;
/// An open-loop body carries the time it was due.
pub(crate) const STAMP_BYTES: usize = 8;

/// What is done, in the order of the phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Closed loop of publishes.
    Publish,
    /// Fill, then consume.
    Drain,
    /// Publish and consume at once.
    Through,
    /// Open loop of publishes, and consumers.
    Latency,
    /// Connections only.
    Idle,
}

/// All parameters of a scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// The name on the command line.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Producers, or idle connections.
    pub(crate) connections: usize,
    /// Commands ahead of their answers.
    pub(crate) in_flight: usize,
    /// Messages in an MPUB, 0 for PUB.
    pub(crate) batch: u32,
    /// Per channel of each topic.
    pub(crate) consumers: usize,
    pub(crate) rdy: u32,
    pub(crate) topics: usize,
    pub(crate) channels: usize,
    pub(crate) body_bytes: usize,
    /// Messages a second, open loop only.
    pub(crate) rate: Option<f64>,
    pub(crate) arrivals: Arrivals,
    /// Bound of all messages published, for `Drain` the backlog.
    pub(crate) messages: Option<u64>,
    /// Messages that `Through` producers may be ahead of consumers.
    pub(crate) bound: u64,
    pub(crate) identify: bool,
    pub(crate) heartbeat_ms: Option<i64>,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
}

impl Plan {
    /// The parameters of a scenario, with the flags that were given.
    pub(crate) fn new(scenario: &Scenario) -> Result<(Self, LoadFlags)> {
        let (preset, flags) = preset(scenario);
        let plan = preset.with(flags);
        plan.check()?;
        Ok((plan, flags.clone()))
    }

    fn with(mut self, flags: &LoadFlags) -> Self {
        fn set<T: Clone>(parameter: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *parameter = value.clone();
            }
        }
        set(&mut self.connections, &flags.connections);
        set(&mut self.in_flight, &flags.in_flight);
        set(&mut self.batch, &flags.batch);
        set(&mut self.consumers, &flags.consumers);
        set(&mut self.rdy, &flags.rdy);
        set(&mut self.topics, &flags.topics);
        set(&mut self.channels, &flags.channels);
        set(&mut self.body_bytes, &flags.body_size);
        set(&mut self.arrivals, &flags.arrivals);
        set(&mut self.bound, &flags.bound);
        set(&mut self.duration, &flags.duration);
        set(&mut self.warm_up, &flags.warm_up);
        if self.kind == Kind::Latency {
            self.rate = flags.rate.or(self.rate);
        }
        if let Some(messages) = flags.messages {
            self.messages = (messages > 0).then_some(messages);
        }
        if self.kind == Kind::Drain {
            self.messages = flags.backlog.or(self.messages);
        }
        if self.kind == Kind::Publish {
            (self.consumers, self.channels) = (0, 0);
        }
        self.identify = !flags.no_identify;
        self.heartbeat_ms = flags.heartbeat_ms;
        self
    }

    fn check(&self) -> Result<()> {
        let body_bytes_min = if self.kind == Kind::Latency { STAMP_BYTES } else { 1 };
        ensure!(self.connections > 0, "--connections must be at least 1");
        ensure!(self.in_flight > 0, "--in-flight must be at least 1");
        ensure!(self.topics > 0, "--topics must be at least 1");
        ensure!(self.body_bytes >= body_bytes_min, "--body-size: at least {body_bytes_min} bytes");
        let command_bytes = (self.body_bytes + 4).saturating_mul(self.batch.max(1) as usize);
        ensure!(command_bytes <= COMMAND_BYTES_MAX, "--batch times --body-size is over 1 GiB");
        ensure!(self.duration > Duration::ZERO, "--duration must be above 0");
        ensure!(self.rate.is_none_or(|rate| rate > 0.0), "--rate must be above 0");
        ensure!(
            self.messages.is_none_or(|messages| messages >= u64::from(self.batch)),
            "--messages and --backlog must be at least one --batch"
        );
        if self.consumes() {
            ensure!(self.consumers > 0 && self.channels > 0, "--consumers and --channels: above 0");
            ensure!(self.rdy > 0, "--rdy must be at least 1");
        }
        ensure!(
            self.kind != Kind::Drain || self.messages.is_some(),
            "drain needs a --backlog above 0"
        );
        Ok(())
    }

    /// Whether it has consumers.
    pub(crate) fn consumes(&self) -> bool {
        matches!(self.kind, Kind::Drain | Kind::Through | Kind::Latency)
    }

    /// Messages that one command publishes.
    pub(crate) fn command_messages(&self) -> u64 {
        u64::from(self.batch.max(1))
    }

    /// One line that says what is sent.
    pub(crate) fn describe(&self) -> String {
        let body = self.body_bytes;
        let (name, connections) = (self.name, self.connections);
        let command = match self.batch {
            0 => format!("{} PUB in flight each", self.in_flight),
            batch => format!("{} MPUB of {batch} in flight each", self.in_flight),
        };
        let spread = format!("{} topics × {} channels", self.topics, self.channels);
        let consumers = format!("{} consumers per channel, RDY {}", self.consumers, self.rdy);
        match self.kind {
            Kind::Publish => {
                format!("{name}: {connections} connections, {command}, {body}-byte bodies")
            }
            Kind::Drain | Kind::Through => format!(
                "{name}: {connections} producers, {command}, {body}-byte bodies; {spread}, \
                 {consumers}"
            ),
            Kind::Latency => format!(
                "{name}: open loop, {} messages/s over {connections} connections, {body}-byte \
                 bodies; {spread}, {consumers}",
                self.rate.unwrap_or_default()
            ),
            Kind::Idle => format!("{name}: {connections} idle connections"),
        }
    }
}

/// The parameters that the others start from.
fn publish() -> Plan {
    Plan {
        name: "pub",
        kind: Kind::Publish,
        connections: 64,
        in_flight: 1,
        batch: 0,
        consumers: 2,
        rdy: 2500,
        topics: 1,
        channels: 1,
        body_bytes: 200,
        rate: None,
        arrivals: Arrivals::Fixed,
        messages: None,
        bound: 50_000,
        identify: true,
        heartbeat_ms: None,
        duration: Duration::from_secs(3),
        warm_up: Duration::from_millis(500),
    }
}

/// A scenario's own parameters.
fn preset(scenario: &Scenario) -> (Plan, &LoadFlags) {
    let publish = publish();
    // Bounded by number: what nobody consumes stays in the daemon's memory.
    let mpub = Plan {
        name: "mpub",
        connections: 2,
        batch: 200,
        messages: Some(2_000_000),
        warm_up: Duration::from_millis(100),
        duration: Duration::from_secs(30),
        ..publish.clone()
    };
    let latency = Plan {
        name: "latency",
        kind: Kind::Latency,
        connections: 16,
        consumers: 1,
        rdy: 100,
        rate: Some(20_000.0),
        duration: Duration::from_secs(5),
        warm_up: Duration::from_secs(1),
        ..publish.clone()
    };
    match scenario {
        Scenario::Pub(flags) => (publish, flags),
        Scenario::Pub1(flags) => (Plan { name: "pub-1", connections: 1, ..publish }, flags),
        Scenario::Pub64(flags) => (Plan { name: "pub-64", ..publish }, flags),
        Scenario::Pub64x16(flags) => (Plan { name: "pub-64x16", in_flight: 16, ..publish }, flags),
        Scenario::Mpub(flags) => (mpub, flags),
        Scenario::Drain(flags) => (Plan { name: "drain", kind: Kind::Drain, ..mpub }, flags),
        Scenario::Through(flags) => (
            Plan {
                name: "through",
                kind: Kind::Through,
                messages: None,
                warm_up: publish.warm_up,
                duration: publish.duration,
                ..mpub
            },
            flags,
        ),
        Scenario::Latency(flags) => (latency, flags),
        Scenario::LatencyQuiet(flags) => (
            Plan {
                name: "latency-quiet",
                connections: 1,
                rate: Some(50.0),
                duration: Duration::from_secs(10),
                ..latency
            },
            flags,
        ),
        Scenario::Idle(flags) => (
            Plan {
                name: "idle",
                kind: Kind::Idle,
                connections: 10_000,
                duration: Duration::from_secs(60),
                warm_up: Duration::ZERO,
                ..publish
            },
            flags,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_scenario_and_nonsense_is_refused() {
        let flags = LoadFlags { connections: Some(3), ..LoadFlags::default() };
        let (plan, _) = Plan::new(&Scenario::Pub64x16(flags)).unwrap();
        assert_eq!((plan.connections, plan.in_flight, plan.batch), (3, 16, 0));

        let flags = LoadFlags { backlog: Some(5_000), ..LoadFlags::default() };
        let (plan, _) = Plan::new(&Scenario::Drain(flags)).unwrap();
        assert_eq!((plan.messages, plan.kind), (Some(5_000), Kind::Drain));

        let flags = LoadFlags { connections: Some(0), ..LoadFlags::default() };
        assert!(Plan::new(&Scenario::Pub(flags)).is_err());
        let flags = LoadFlags { body_size: Some(STAMP_BYTES - 1), ..LoadFlags::default() };
        assert!(Plan::new(&Scenario::Latency(flags)).is_err());
    }
}
