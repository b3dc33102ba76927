//! From the samples of a run to its figures, and from several runs to their spread.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::histogram::{Percentiles, Timing};
use crate::process::CpuSeconds;
use crate::run::{Outcome, Setting};
use crate::scenario::{Kind, Plan};
use crate::schedule::Arrivals;
use crate::verify::Verification;

/// Above this share of a core, a thread of the generator may be what limits the rate.
pub(crate) const SATURATED: f64 = 0.9;
/// An open loop that reaches less of its rate than this did not offer the load it names.
const RATE_REACHED: f64 = 0.99;
/// The 99th percentile of the delay of sending above which latencies are the generator's too.
const SEND_DELAY_US_MAX: f64 = 1_000.0;

/// What the daemon used in the window.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServerFigures {
    pub(crate) cpu_us_per_message: Option<f64>,
    pub(crate) user_us_per_message: Option<f64>,
    pub(crate) system_us_per_message: Option<f64>,
    pub(crate) cpu_seconds: CpuSeconds,
    /// CPU time over wall time; above 1 on several cores.
    pub(crate) busy: f64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    /// Resident memory before the run and at the end of the window.
    pub(crate) resident_bytes_before: u64,
    pub(crate) resident_bytes_after: u64,
    /// Growth for each idle connection, or each queued message of a backlog.
    pub(crate) resident_bytes_each: Option<f64>,
    /// Sent to and read from storage in the window.
    pub(crate) written_bytes: Option<u64>,
    pub(crate) read_bytes: Option<u64>,
}

/// The phase that built the backlog.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FillFigures {
    pub(crate) duration_s: f64,
    pub(crate) messages: u64,
    pub(crate) rate_per_s: f64,
    /// From before the first connection on.
    pub(crate) server_cpu_us_per_message: Option<f64>,
    pub(crate) written_bytes: Option<u64>,
}

/// The figures of one run. Counts are of the window unless said.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunFigures {
    pub(crate) window_s: f64,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) consumed: u64,
    /// Of the whole run, warm-up and end included; so are the next two.
    pub(crate) redelivered: u64,
    pub(crate) acknowledged_in_all: u64,
    pub(crate) consumed_in_all: u64,
    /// What the rate and the cost per message count: acknowledged messages where nothing is
    /// consumed, else consumed ones.
    pub(crate) messages: u64,
    pub(crate) rate_per_s: f64,
    /// Open loop: what was sent, to compare with the rate asked for.
    pub(crate) sent_rate_per_s: f64,
    /// Of the whole run: acknowledged messages (times channels) that were never delivered, where
    /// the run waited for all of them.
    pub(crate) missing: Option<u64>,
    /// Of the whole run: deliveries that consumers asked for again.
    pub(crate) requeued: u64,
    /// Open loop: messages due in the window that could not be sent until the end of the run.
    pub(crate) unsent: u64,
    /// Deliveries of deferred messages before their time.
    pub(crate) early: u64,
    /// How the backlog was built.
    pub(crate) fill: Option<FillFigures>,
    pub(crate) verification: Option<Verification>,
    pub(crate) server: Option<ServerFigures>,
    /// The busiest thread of the generator, as a share of a core.
    pub(crate) generator_busy: f64,
    pub(crate) latency: Map<String, Value>,
    /// Open loop: whether what was due was sent.
    pub(crate) rate_reached: Option<bool>,
    /// Why this was not the load that the run names; its latencies must not be quoted.
    pub(crate) invalid: Vec<String>,
    /// Why these figures may not be what they seem, all of the above included.
    pub(crate) warnings: Vec<String>,
}

impl RunFigures {
    /// The figures of `outcome`.
    pub(crate) fn new(plan: &Plan, setting: &Setting, outcome: &Outcome) -> Self {
        let (begin, end) = (&outcome.begin, &outcome.end);
        let window_s = seconds(end.at_ns - begin.at_ns);
        let acknowledged = end.totals.acknowledged - begin.totals.acknowledged;
        let consumed = end.totals.consumed - begin.totals.consumed;
        let sent = end.totals.sent - begin.totals.sent;
        let messages = if plan.consumes() { consumed } else { acknowledged };
        let percentiles = outcome.timings.percentiles();
        let threads = begin.threads_cpu_ns.iter().zip(&end.threads_cpu_ns);
        let generator_busy = threads
            .map(|(from, to)| seconds(to.saturating_sub(*from)) / window_s)
            .fold(0.0, f64::max);
        let copies = plan.channels as u64;
        let all = &outcome.totals;
        let missing = match &outcome.verification {
            Some(verification) => verification.lost,
            None => (all.acknowledged * copies).saturating_sub(all.distinct),
        };
        let mut figures = Self {
            window_s,
            sent,
            acknowledged,
            consumed,
            redelivered: outcome.totals.redelivered,
            acknowledged_in_all: outcome.totals.acknowledged,
            consumed_in_all: outcome.totals.consumed,
            messages,
            rate_per_s: count(messages) / window_s,
            sent_rate_per_s: count(sent) / window_s,
            missing: plan.waits_for_all().then_some(missing),
            requeued: all.requeued,
            unsent: all.unsent,
            early: all.early,
            fill: fill(outcome),
            verification: outcome.verification.clone(),
            server: server(plan, outcome, messages, window_s),
            generator_busy,
            latency: percentiles
                .iter()
                .map(|(timing, figures)| (timing.name().to_owned(), json!(figures)))
                .collect(),
            rate_reached: None,
            invalid: Vec::new(),
            warnings: Vec::new(),
        };
        if plan.is_open_loop() {
            figures.rate_reached = Some(figures.reached_rate(plan));
            figures.invalid = figures.fell_short(plan, setting, &percentiles);
        }
        figures.warnings = figures.invalid.clone();
        figures.warn(plan, setting, outcome);
        figures
    }

    /// Whether all that was due was sent, and nearly all of it in the window.
    fn reached_rate(&self, plan: &Plan) -> bool {
        let due = plan.rate.unwrap_or_default() * self.window_s;
        // Messages at both ends of the window, and chance.
        let slack = match plan.arrivals {
            Arrivals::Fixed => 2.0 * count(plan.command_messages() * plan.connections as u64),
            Arrivals::Poisson => 3.0 * (due * count(plan.command_messages())).sqrt(),
        };
        self.unsent == 0 && count(self.sent) >= due * RATE_REACHED - slack
    }

    /// What an open loop did not do that it was to do, and whose fault that was.
    fn fell_short(
        &self,
        plan: &Plan,
        setting: &Setting,
        percentiles: &[(Timing, Percentiles)],
    ) -> Vec<String> {
        let mut reasons = Vec::new();
        let busy = self.generator_busy > SATURATED && !setting.spin;
        let cause = match busy {
            true => "the generator has no time left: give it more --threads or cores",
            false => "the daemon held back the connections, or the machine was busy",
        };
        if busy {
            let percent = self.generator_busy * 100.0;
            reasons.push(format!("a generator thread was {percent:.0} % busy"));
        }
        if self.rate_reached == Some(false) {
            let due = plan.rate.unwrap_or_default() * self.window_s;
            let text = match self.unsent {
                0 => format!("only {} of {due:.0} messages sent in time", self.sent),
                unsent => format!("{unsent} of {due:.0} messages could not be sent at all"),
            };
            reasons.push(format!("{text}: {cause}"));
        }
        let delay = percentiles.iter().find(|(timing, _)| *timing == Timing::SendDelay);
        if let Some(delay_us) = delay.and_then(|(_, figures)| figures.p99_us)
            && delay_us > SEND_DELAY_US_MAX
        {
            reasons
                .push(format!("messages were sent late: p99 {delay_us:.0} µs after due: {cause}"));
        }
        reasons
    }

    fn warn(&mut self, plan: &Plan, setting: &Setting, outcome: &Outcome) {
        let mut warn = |text: String| self.warnings.push(text);
        let saturated = self.generator_busy > SATURATED && !setting.spin;
        if saturated && !plan.is_open_loop() && plan.kind != Kind::Idle {
            warn(format!(
                "a generator thread was {:.0} % busy: the rate is the generator's, not the \
                 daemon's (the CPU per message still is)",
                self.generator_busy * 100.0
            ));
        }
        let all = &outcome.totals;
        let unanswered = all.sent.saturating_sub(all.acknowledged);
        if unanswered > 0 {
            warn(format!("{unanswered} messages were sent and never answered"));
        }
        if let Some(missing @ 1..) = self.missing {
            warn(format!("{missing} acknowledged messages were not delivered"));
        }
        let unasked = self.redelivered.saturating_sub(self.requeued);
        if unasked > 0 {
            warn(format!("{unasked} messages were delivered again"));
        }
        if self.early > 0 {
            warn(format!("{} deferred messages came before their time", self.early));
        }
        if let Some(verification) = &self.verification
            && !verification.passed()
        {
            warn(format!("VERIFICATION FAILED: {}", verification.summary()));
        }
    }

    /// The figures whose spread over several runs is shown: name and value.
    fn main(&self) -> Vec<(String, f64)> {
        let mut main = Vec::new();
        if self.messages > 0 {
            main.push(("messages/s".to_owned(), self.rate_per_s));
        }
        if let Some(fill) = &self.fill {
            main.push(("fill: messages/s".to_owned(), fill.rate_per_s));
            if let Some(cpu_us) = fill.server_cpu_us_per_message {
                main.push(("fill: server CPU µs/message".to_owned(), cpu_us));
            }
        }
        if let Some(server) = &self.server {
            let each = [
                ("server CPU µs/message", server.cpu_us_per_message),
                ("  user", server.user_us_per_message),
                ("  system", server.system_us_per_message),
                ("resident bytes each", server.resident_bytes_each),
            ];
            main.extend(each.into_iter().filter_map(|(name, figure)| Some((name.into(), figure?))));
            main.push(("server cores busy".to_owned(), server.busy));
            let switches = server.voluntary_switches + server.involuntary_switches;
            main.push(("server context switches/s".to_owned(), count(switches) / self.window_s));
            if let Some(bytes @ 1..) = server.written_bytes {
                main.push(("server MB written/s".to_owned(), count(bytes) / 1e6 / self.window_s));
            }
        }
        main.push(("generator core busy".to_owned(), self.generator_busy));
        for (timing, percentiles) in &self.latency {
            for key in ["p50_us", "p99_us"] {
                if let Some(figure) = percentiles[key].as_f64() {
                    main.push((format!("{timing} {}", key.replace("_us", " µs")), figure));
                }
            }
        }
        main
    }
}

fn server(plan: &Plan, outcome: &Outcome, messages: u64, window_s: f64) -> Option<ServerFigures> {
    let (before, begin) = (outcome.before?, outcome.begin.process?);
    let end = outcome.end.process?;
    let cpu = end.cpu_seconds_since(&begin);
    let each = |cpu_s: f64| (messages > 0).then(|| cpu_s * 1e6 / count(messages));
    let grown = |after: u64, things: u64| {
        (things > 0).then(|| (count(after) - count(before.resident_bytes)) / count(things))
    };
    let resident_bytes_each =
        match (plan.kind, outcome.filled.as_ref().and_then(|filled| filled.process)) {
            (Kind::Idle, _) => grown(end.resident_bytes, plan.connections as u64),
            (Kind::Drain, Some(filled)) => {
                grown(filled.resident_bytes, outcome.totals.acknowledged)
            }
            _ => None,
        };
    Some(ServerFigures {
        cpu_us_per_message: each(cpu.total),
        user_us_per_message: each(cpu.user),
        system_us_per_message: each(cpu.system),
        cpu_seconds: cpu,
        busy: cpu.total / window_s,
        voluntary_switches: end.voluntary_switches.saturating_sub(begin.voluntary_switches),
        involuntary_switches: end.involuntary_switches.saturating_sub(begin.involuntary_switches),
        resident_bytes_before: before.resident_bytes,
        resident_bytes_after: end.resident_bytes,
        resident_bytes_each,
        written_bytes: grown_by(begin.written_bytes, end.written_bytes),
        read_bytes: grown_by(begin.read_bytes, end.read_bytes),
    })
}

fn fill(outcome: &Outcome) -> Option<FillFigures> {
    let filled = outcome.filled.as_ref()?;
    let duration_s = seconds(filled.duration_ns);
    let ends = outcome.before.zip(filled.process);
    Some(FillFigures {
        duration_s,
        messages: filled.messages,
        rate_per_s: count(filled.messages) / duration_s,
        server_cpu_us_per_message: ends
            .map(|(from, to)| to.cpu_seconds_since(&from).total * 1e6 / count(filled.messages)),
        written_bytes: ends.and_then(|(from, to)| grown_by(from.written_bytes, to.written_bytes)),
    })
}

fn grown_by(from: Option<u64>, to: Option<u64>) -> Option<u64> {
    from.zip(to).map(|(from, to)| to.saturating_sub(from))
}

/// One figure over all runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) figure: String,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// The spread of every main figure that all runs have.
pub(crate) fn spreads(runs: &[RunFigures]) -> Vec<Spread> {
    let all: Vec<_> = runs.iter().map(RunFigures::main).collect();
    let Some(first) = all.first() else { return Vec::new() };
    let of_figure = |name: &String| {
        let values = all.iter().map(|run| run.iter().find(|(other, _)| other == name));
        let values = values.map(|found| found.map(|(_, value)| *value)).collect::<Option<_>>()?;
        spread(name, values)
    };
    first.iter().filter_map(|(name, _)| of_figure(name)).collect()
}

/// The spread of the values of one figure; `None` without any.
pub(crate) fn spread(figure: &str, mut values: Vec<f64>) -> Option<Spread> {
    values.sort_unstable_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    };
    Some(Spread { figure: figure.to_owned(), median, min, max })
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

fn seconds(duration_ns: u64) -> f64 {
    count(duration_ns) / 1e9
}
