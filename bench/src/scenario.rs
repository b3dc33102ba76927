//! The plan of a run: all parameters of a scenario, with the flags applied. `presets` has the
//! scenarios' own parameters.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::body::{BODY_BYTES_MAX, BodySize, STAMP_BYTES, TIME_BYTES};
use crate::flags::{LoadFlags, Scenario};
use crate::presets::preset;
use crate::schedule::Arrivals;
use crate::wire::Identity;

/// Longest REQ or DPUB delay that every daemon takes.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// What is done, in the order of the phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Publishes, which nobody consumes.
    Publish,
    /// Fill, then consume.
    Drain,
    /// Publish and consume at once, as fast as both go.
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
    /// Producers, or the connections of `Kind::Idle`.
    pub(crate) connections: usize,
    /// Idle connections beside the load.
    pub(crate) idle: usize,
    /// Commands ahead of their answers, in the closed loop.
    pub(crate) in_flight: usize,
    /// Messages in an MPUB, 0 for PUB.
    pub(crate) batch: u32,
    /// Per channel of each topic.
    pub(crate) consumers: usize,
    pub(crate) rdy: u32,
    pub(crate) topics: usize,
    pub(crate) channels: usize,
    /// How long bodies are, as the flag says it.
    pub(crate) body: BodySize,
    /// The longest of them.
    pub(crate) body_bytes: usize,
    /// Messages a second: the open loop. Without, the closed loop. For `Drain`, what is published
    /// while the backlog drains.
    pub(crate) rate: Option<f64>,
    pub(crate) arrivals: Arrivals,
    /// Bound of all messages published, for `Drain` the backlog.
    pub(crate) messages: Option<u64>,
    /// Messages that `Through` producers may be ahead of consumers.
    pub(crate) bound: u64,
    /// Time from publishing to delivery that is asked for.
    pub(crate) defer: Duration,
    /// Share of the deliveries that are asked for again.
    pub(crate) requeue_percent: f64,
    pub(crate) requeue_delay: Duration,
    /// Of the consumers of each channel.
    pub(crate) slow_consumers: usize,
    pub(crate) slow_delay: Duration,
    /// Commands on one connection; 0 for no bound.
    pub(crate) reconnect_every: usize,
    /// Publishes go over HTTP.
    pub(crate) http: bool,
    pub(crate) verify: bool,
    pub(crate) ephemeral: bool,
    /// For the sweep: the p99 of the response time that is still good.
    pub(crate) p99_bound: Option<Duration>,
    pub(crate) identify: bool,
    pub(crate) heartbeat_ms: Option<i64>,
    pub(crate) output_buffer_ms: Option<i64>,
    /// Keys of IDENTIFY that the daemon must grant.
    pub(crate) features: Vec<&'static str>,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
}

impl Plan {
    /// The parameters of a scenario, with the flags that were given.
    pub(crate) fn new(scenario: &Scenario) -> Result<(Self, LoadFlags)> {
        let (name, flags) = scenario.parts();
        Ok((Self::named(name, flags)?, flags.clone()))
    }

    /// The parameters of the scenario `name`, with the flags that were given.
    pub(crate) fn named(name: &str, flags: &LoadFlags) -> Result<Self> {
        let Some(preset) = preset(name) else { bail!("there is no scenario {name:?}") };
        let plan = preset.with(flags);
        plan.check()?;
        Ok(plan)
    }

    fn with(mut self, flags: &LoadFlags) -> Self {
        fn set<T: Clone>(parameter: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *parameter = value.clone();
            }
        }
        set(&mut self.connections, &flags.connections);
        set(&mut self.idle, &flags.idle);
        set(&mut self.in_flight, &flags.in_flight);
        set(&mut self.batch, &flags.batch);
        set(&mut self.consumers, &flags.consumers);
        set(&mut self.rdy, &flags.rdy);
        set(&mut self.topics, &flags.topics);
        set(&mut self.channels, &flags.channels);
        set(&mut self.body, &flags.body_bytes);
        set(&mut self.arrivals, &flags.arrivals);
        set(&mut self.bound, &flags.bound);
        set(&mut self.defer, &flags.defer);
        set(&mut self.requeue_percent, &flags.requeue_percent);
        set(&mut self.requeue_delay, &flags.requeue_delay);
        set(&mut self.slow_consumers, &flags.slow_consumers);
        set(&mut self.slow_delay, &flags.slow_delay);
        set(&mut self.reconnect_every, &flags.reconnect_every);
        set(&mut self.duration, &flags.duration);
        set(&mut self.warm_up, &flags.warm_up);
        self.body_bytes = self.body.most();
        self.rate = flags.rate.or(self.rate);
        self.p99_bound = flags.p99_bound.or(self.p99_bound);
        if let Some(messages) = flags.messages {
            self.messages = (messages > 0).then_some(messages);
        }
        self.verify = flags.verify;
        self.ephemeral |= flags.ephemeral;
        self.identify = !flags.no_identify;
        self.heartbeat_ms = flags.heartbeat_ms;
        self.output_buffer_ms = flags.output_buffer_ms;
        let features =
            [(flags.tls, "tls_v1"), (flags.snappy, "snappy"), (flags.deflate, "deflate")];
        self.features = features.iter().filter(|(asked, _)| *asked).map(|(_, key)| *key).collect();
        self.settle_kind(flags);
        self
    }

    /// What follows from the parameters together.
    fn settle_kind(&mut self, flags: &LoadFlags) {
        match self.kind {
            Kind::Through if self.rate.is_some() => self.kind = Kind::Latency,
            // What is verified must be consumed.
            Kind::Publish if self.verify => {
                self.kind = if self.rate.is_some() { Kind::Latency } else { Kind::Through };
            }
            Kind::Publish => (self.consumers, self.channels) = (0, 0),
            Kind::Drain => self.messages = flags.backlog.or(self.messages),
            _ => {}
        }
    }

    fn check(&self) -> Result<()> {
        let body_bytes_min = match (self.verify, self.stamped()) {
            (true, _) => STAMP_BYTES,
            (false, true) => TIME_BYTES,
            _ => 1,
        };
        ensure!(self.connections > 0, "--connections must be at least 1");
        ensure!(self.in_flight > 0, "--in-flight must be at least 1");
        ensure!(self.topics > 0, "--topics must be at least 1");
        ensure!(self.body.least() >= body_bytes_min, "--body-bytes: at least {body_bytes_min}");
        let command_bytes = (self.body_bytes + 4).saturating_mul(self.batch.max(1) as usize);
        ensure!(command_bytes <= BODY_BYTES_MAX, "--batch times --body-bytes is over 1 GiB");
        ensure!(self.duration > Duration::ZERO, "--duration must be above 0");
        ensure!(
            self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()),
            "--rate must be above 0"
        );
        ensure!(
            self.messages.is_none_or(|messages| messages >= u64::from(self.batch)),
            "--messages and --backlog must be at least one --batch"
        );
        if self.consumes() {
            ensure!(self.consumers > 0 && self.channels > 0, "--consumers and --channels: above 0");
            ensure!(self.rdy > 0, "--rdy must be at least 1");
            ensure!(self.slow_consumers <= self.consumers, "--slow-consumers: of the --consumers");
        }
        ensure!(
            self.kind != Kind::Drain || self.messages.is_some(),
            "a drain needs a --backlog above 0"
        );
        self.check_combinations()
    }

    fn check_combinations(&self) -> Result<()> {
        let percent = self.requeue_percent;
        ensure!((0.0..100.0).contains(&percent), "--requeue-percent: from 0 to below 100");
        let longest = self.defer.max(self.requeue_delay);
        ensure!(longest <= DELAY_MAX, "--defer and --requeue-delay: at most an hour");
        ensure!(
            self.defer.is_zero() || self.batch == 0,
            "--defer needs single publishes (--batch 0): there is no deferred MPUB"
        );
        ensure!(
            self.defer.is_zero() || self.defer >= Duration::from_millis(1),
            "--defer goes by whole milliseconds"
        );
        ensure!(
            self.reconnect_every == 0 || self.rate.is_none(),
            "--reconnect-every needs the closed loop: leave out --rate"
        );
        ensure!(
            self.features.is_empty() || self.identify,
            "TLS and compression are negotiated: leave out --no-identify"
        );
        ensure!(
            self.features.is_empty() || (self.reconnect_every == 0 && !self.http),
            "--tls, --snappy and --deflate are for connections of NSQ's protocol that last"
        );
        Ok(())
    }

    /// Whether it has consumers.
    pub(crate) fn consumes(&self) -> bool {
        matches!(self.kind, Kind::Drain | Kind::Through | Kind::Latency)
    }

    /// Whether publishing does not depend on answers.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.rate.is_some() && self.kind != Kind::Idle
    }

    /// Whether bodies carry the time they are due.
    pub(crate) fn stamped(&self) -> bool {
        self.verify || (self.is_open_loop() && self.kind == Kind::Latency)
    }

    /// Whether the run ends only when all that was acknowledged has been delivered.
    pub(crate) fn waits_for_all(&self) -> bool {
        self.verify || matches!(self.kind, Kind::Drain | Kind::Latency)
    }

    /// Messages that one command publishes.
    pub(crate) fn command_messages(&self) -> u64 {
        u64::from(self.batch.max(1))
    }

    /// What clients say of themselves.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            heartbeat_ms: self.heartbeat_ms,
            output_buffer_ms: self.output_buffer_ms,
            features: self.features.clone(),
        }
    }

    /// Connections that consume.
    pub(crate) fn consumer_connections(&self) -> usize {
        if self.consumes() { self.topics * self.channels * self.consumers } else { 0 }
    }

    /// One line that says what is sent.
    pub(crate) fn describe(&self) -> String {
        let (name, connections, body) = (self.name, self.connections, &self.body);
        if self.kind == Kind::Idle {
            return format!("{name}: {connections} idle connections");
        }
        let form = match (self.http, self.batch, self.defer.is_zero()) {
            (false, 0, true) => "PUB".to_owned(),
            (false, 0, false) => format!("DPUB by {} ms", self.defer.as_millis()),
            (false, batch, _) => format!("MPUB of {batch}"),
            (true, 0, _) => "POST /pub".to_owned(),
            (true, batch, _) => format!("POST /mpub of {batch}"),
        };
        let mut text = match (self.rate, self.messages) {
            (rate, Some(messages)) if self.kind == Kind::Drain => {
                let meanwhile =
                    rate.map_or(String::new(), |rate| format!(", {rate} messages/s meanwhile"));
                format!(
                    "{name}: a backlog of {messages} by {form} over {connections} connections, \
                     drained{meanwhile}"
                )
            }
            (Some(rate), _) => format!(
                "{name}: open loop, {rate} messages/s by {form} over {connections} connections"
            ),
            (None, _) => {
                format!("{name}: {connections} producers, {} {form} in flight each", self.in_flight)
            }
        };
        text.push_str(&format!(", {body}-byte bodies"));
        if self.topics > 1 || self.consumes() {
            text.push_str(&format!("; {} topics × {} channels", self.topics, self.channels));
        }
        if self.consumes() {
            text.push_str(&format!(", {} consumers per channel, RDY {}", self.consumers, self.rdy));
        }
        if self.idle > 0 {
            text.push_str(&format!("; {} idle connections", self.idle));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, flags: LoadFlags) -> String {
        Plan::named(name, &flags).unwrap_err().to_string()
    }

    #[test]
    fn flags_win_over_the_scenario() {
        let flags = LoadFlags { connections: Some(3), ..LoadFlags::default() };
        let plan = Plan::named("pub-64x16", &flags).unwrap();
        assert_eq!((plan.connections, plan.in_flight, plan.batch), (3, 16, 0));

        let flags = LoadFlags { backlog: Some(5_000), ..LoadFlags::default() };
        let plan = Plan::named("drain", &flags).unwrap();
        assert_eq!((plan.messages, plan.kind), (Some(5_000), Kind::Drain));
        assert!(Plan::named("nonsense", &LoadFlags::default()).is_err());
    }

    #[test]
    fn a_rate_makes_an_open_loop_and_verification_consumes() {
        let flags = LoadFlags { rate: Some(10.0), ..LoadFlags::default() };
        let kind = |name, flags| Plan::named(name, flags).unwrap().kind;
        assert_eq!(kind("through", &flags), Kind::Latency);
        assert_eq!(kind("pub", &flags), Kind::Publish);
        let flags = LoadFlags { verify: true, ..LoadFlags::default() };
        assert_eq!(kind("pub", &flags), Kind::Through);
        assert_eq!(Plan::named("pub", &flags).unwrap().channels, 1);
    }

    #[test]
    fn nonsense_is_refused() {
        let none = LoadFlags::default;
        let flags = LoadFlags { connections: Some(0), ..none() };
        assert!(refused("pub", flags).contains("--connections"));
        let flags = LoadFlags { body_bytes: Some(BodySize::Fixed(TIME_BYTES - 1)), ..none() };
        assert!(refused("latency", flags).contains("--body-bytes"));
        let flags = LoadFlags { body_bytes: Some(BodySize::Fixed(27)), verify: true, ..none() };
        assert!(refused("pub", flags).contains("at least 28"));
        let flags = LoadFlags { defer: Some(Duration::from_secs(1)), ..none() };
        assert!(refused("mpub", flags).contains("--defer"));
        let flags = LoadFlags { requeue_percent: Some(100.0), ..none() };
        assert!(refused("latency", flags).contains("--requeue-percent"));
        let flags = LoadFlags { rate: Some(5.0), ..none() };
        assert!(refused("churn", flags).contains("--reconnect-every"));
    }
}
