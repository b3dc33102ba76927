//! A report as one page: plots as SVG inside it, nothing loaded from elsewhere, no scripts.

mod plots;

use std::fmt::Write as _;

use serde_json::Value;

use self::plots::{Line, percentile_plot, rate_plot, timeline_plot};
use crate::environment::Environment;
use crate::histogram::Timing;
use crate::report::{Document, LatencyDocument, number, thousands};
use crate::sweep::{Point, Sweep};
use crate::timeline::Interval;

/// Colours of the lines of a plot, in order; they differ in lightness too.
pub(crate) const COLOURS: [(u8, u8, u8); 4] =
    [(37, 99, 235), (217, 70, 16), (5, 150, 105), (126, 58, 200)];
const STYLE: &str = include_str!("html/style.css");

/// A page under construction.
pub(crate) struct Page {
    body: String,
    title: String,
}

/// A number with its name, large at the top of a scenario.
struct Card {
    name: &'static str,
    value: String,
    note: String,
}

impl Page {
    /// A page with nothing but its heading.
    pub(crate) fn new(title: &str) -> Self {
        Self { body: format!("<h1>{}</h1>\n", escape(title)), title: title.to_owned() }
    }

    /// A paragraph.
    pub(crate) fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// A heading inside the page.
    pub(crate) fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// A table; the first column is of names, the others are of numbers.
    pub(crate) fn table(&mut self, columns: &[&str], rows: &[Vec<String>]) {
        self.body.push_str("<div class=\"wide\"><table>\n<tr>");
        columns.iter().for_each(|column| {
            let _ = write!(self.body, "<th>{}</th>", escape(column));
        });
        self.body.push_str("</tr>\n");
        for row in rows {
            self.body.push_str("<tr>");
            row.iter().for_each(|cell| {
                let _ = write!(self.body, "<td>{}</td>", escape(cell));
            });
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</table></div>\n");
    }

    /// Where and how it was measured.
    pub(crate) fn environment(&mut self, at: &Environment) {
        #[expect(clippy::cast_precision_loss, reason = "memory is below 2^53 bytes")]
        let memory = format!("{:.1} GiB", at.memory_bytes as f64 / f64::from(1 << 30));
        let governor = match at.governor.as_str() {
            "" => String::new(),
            governor => format!(", governor {governor}"),
        };
        let rows = [
            ("Date", format!("{} UTC", at.date)),
            ("CPU", format!("{} × {}{governor}", at.cores, at.cpu)),
            ("Memory", memory),
            ("Kernel", at.kernel.clone()),
            ("Daemon", at.daemon_version.clone()),
            ("Daemon's command", at.daemon_command.clone()),
            ("Data directory", at.data_directory.clone()),
            ("Filesystem", at.filesystem.clone()),
            ("Durability", at.durability.clone()),
            ("Generator", at.tool.clone()),
            ("Command", at.command.join(" ")),
        ];
        self.body.push_str("<details open><summary>Environment</summary><dl>\n");
        for (name, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
            let _ = writeln!(self.body, "<dt>{name}</dt><dd>{}</dd>", escape(text));
        }
        self.body.push_str("</dl></details>\n");
    }

    /// A measured scenario: figures, plots, tables, warnings.
    pub(crate) fn scenario(&mut self, report: &Document) {
        let _ = writeln!(self.body, "<section id=\"{0}\">", escape(&report.scenario));
        self.heading(&report.scenario);
        let description = report.description.split_once(": ").map_or("", |(_, rest)| rest);
        let _ = writeln!(self.body, "<p class=\"what\">{}</p>", escape(description));
        if !report.remark.is_empty() {
            self.text(&report.remark);
        }
        for (run, warning) in report.warnings() {
            self.warning(&format!("run {run}: {warning}"));
        }
        if report.is_invalid() {
            self.warning("This was not the load it names: do not quote its latencies.");
        }
        self.cards(report);
        if let Some(sweep) = &report.sweep {
            self.sweep(sweep);
        }
        self.latency(report);
        self.timelines(report);
        self.figures(report);
        self.body.push_str("</section>\n");
    }

    /// Two daemons in one scenario: their distributions in one plot, a line for each run, and a
    /// table to unfold.
    pub(crate) fn duel(
        &mut self,
        description: &str,
        ours: &[Document],
        other: &[Document],
        (columns, rows): (&[&str], &[Vec<String>]),
    ) {
        self.body.push_str("<section>\n");
        let (scenario, what) = description.split_once(": ").unwrap_or((description, ""));
        self.heading(scenario);
        let _ = writeln!(self.body, "<p class=\"what\">{}</p>", escape(what));
        for (side, reports) in [("ours", ours), ("other", other)] {
            for (run, report) in reports.iter().enumerate() {
                for (_, warning) in report.warnings() {
                    self.warning(&format!("{side}, run {}: {warning}", run + 1));
                }
            }
        }
        for timing in [Timing::EndToEnd, Timing::Response, Timing::Service] {
            let line = |reports: &[Document], colour| {
                let all = reports.iter().flat_map(|report| &report.latency);
                let runs = all.filter(|one| one.timing == timing).map(|one| one.curve.clone());
                Line { colour, runs: runs.collect() }
            };
            let lines = [line(ours, COLOURS[0]), line(other, COLOURS[1])];
            if lines.iter().all(Line::is_seen) {
                let names = [("ours", COLOURS[0]), ("other", COLOURS[1])];
                let title = format!("Latency by percentile: {}", name(timing));
                self.figure(&title, &names, &percentile_plot(&lines));
            }
        }
        self.body.push_str("<details><summary>All figures</summary>\n");
        self.table(columns, rows);
        self.body.push_str("</details></section>\n");
    }

    /// Latency over the rates that were tried.
    fn sweep(&mut self, sweep: &Sweep) {
        let line = |index: usize, value: &dyn Fn(&Point) -> Option<f64>| Line {
            colour: COLOURS[index],
            runs: vec![
                sweep
                    .points
                    .iter()
                    .filter_map(|point| Some((point.rate_per_s, value(point)?)))
                    .collect(),
            ],
        };
        let lines = [
            ("p50 of the response", line(0, &|point| point.response_p50_us)),
            ("p99 of the response", line(1, &|point| point.response_p99_us)),
            ("bound of the p99", line(3, &|_| Some(sweep.p99_bound_us))),
        ];
        let names: Vec<_> = lines.iter().map(|(name, line)| (*name, line.colour)).collect();
        let title = match sweep.knee_per_s {
            Some(knee) => format!("Latency by rate: good up to {} messages/s", thousands(knee)),
            None => "Latency by rate: too high at the first".to_owned(),
        };
        let lines: Vec<_> = lines.iter().map(|(_, line)| line).collect();
        self.figure(&title, &names, &rate_plot(&lines));
    }

    fn warning(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"warning\">{}</p>", escape(text));
    }

    /// The page as text.
    pub(crate) fn finish(self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n\
             </body>\n</html>\n",
            escape(&self.title),
            self.body
        )
    }

    fn cards(&mut self, report: &Document) {
        self.body.push_str("<div class=\"cards\">\n");
        for Card { name, value, note } in cards(report) {
            let _ = writeln!(
                self.body,
                "<div class=\"card\"><span>{name}</span><b>{value}</b><i>{note}</i></div>"
            );
        }
        self.body.push_str("</div>\n");
    }

    fn latency(&mut self, report: &Document) {
        if report.latency.is_empty() {
            return;
        }
        let lines: Vec<Line> = report
            .latency
            .iter()
            .map(|one| Line { colour: colour(one.timing), runs: vec![one.curve.clone()] })
            .collect();
        let names = report.latency.iter().map(|one| (name(one.timing), colour(one.timing)));
        let title = match report.loop_kind.as_str() {
            "open" => "Latency by percentile (open loop: from when a message was due)",
            _ => "Latency by percentile (closed loop: service time, not what users would see)",
        };
        self.figure(title, &names.collect::<Vec<_>>(), &percentile_plot(&lines));
        let rows: Vec<_> = report.latency.iter().map(latency_row).collect();
        let columns = ["µs", "samples", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        self.table(&columns, &rows);
    }

    /// Plots over time, where there is more than one point.
    fn timelines(&mut self, report: &Document) {
        if report.runs.iter().all(|run| run.timeline.len() < 2) {
            return;
        }
        let line = |index: usize, value: &dyn Fn(&Interval) -> Option<f64>| Line {
            colour: COLOURS[index],
            runs: report.runs.iter().map(|run| points(&run.timeline, value)).collect(),
        };
        let acknowledged = line(0, &|at| Some(at.acknowledged_per_s));
        let consumed = line(1, &|at| Some(at.consumed_per_s));
        let rates = [("acknowledged", acknowledged), ("consumed", consumed)];
        self.body.push_str("<div class=\"pair\">\n");
        self.timeline("Messages per second", &rates, "/s");
        if let Some(timing) = [Timing::EndToEnd, Timing::Response, Timing::Service]
            .into_iter()
            .find(|timing| report.latency.iter().any(|one| one.timing == *timing))
        {
            let of = |at: &Interval| at.latency.iter().find(|one| one.timing == timing).cloned();
            let lines = [
                ("p50", line(0, &|at| of(at).map(|one| one.p50_us))),
                ("p99", line(1, &|at| of(at).map(|one| one.p99_us))),
                ("max", line(3, &|at| of(at).map(|one| one.max_us))),
            ];
            self.timeline(&format!("Latency, {}", from_to(timing)), &lines, "µs");
        }
        let busy = line(2, &|at| at.server.map(|server| server.busy));
        self.timeline("Daemon: cores busy", &[("CPU", busy)], "");
        #[expect(clippy::cast_precision_loss, reason = "memory is below 2^53 bytes")]
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let memory = line(3, &|at| at.server.map(|server| mebibytes(server.resident_bytes)));
        self.timeline("Daemon: resident memory", &[("memory", memory)], "MiB");
        let written = line(0, &|at| {
            Some(mebibytes(at.server?.written_bytes?) / (at.end_s - at.begin_s).max(1e-9))
        });
        self.timeline("Daemon: written to storage", &[("written", written)], "MiB/s");
        self.body.push_str("</div>\n");
    }

    /// A plot of the lines that are not zero throughout; none if all are.
    fn timeline(&mut self, title: &str, lines: &[(&str, Line)], unit: &str) {
        let lines: Vec<_> = lines.iter().filter(|(_, line)| line.is_seen()).collect();
        if lines.is_empty() {
            return;
        }
        let names: Vec<_> = lines.iter().map(|(name, line)| (*name, line.colour)).collect();
        let lines: Vec<_> = lines.iter().map(|(_, line)| line).collect();
        self.figure(title, &names, &timeline_plot(&lines, unit));
    }

    fn figure(&mut self, title: &str, names: &[(impl AsRef<str>, (u8, u8, u8))], svg: &str) {
        let _ = write!(self.body, "<figure><figcaption><b>{}</b>", escape(title));
        for (name, (red, green, blue)) in names {
            let _ = write!(
                self.body,
                "<span><em style=\"background:rgb({red},{green},{blue})\"></em>{}</span>",
                escape(name.as_ref())
            );
        }
        let _ = writeln!(self.body, "</figcaption>\n{svg}</figure>");
    }

    fn figures(&mut self, report: &Document) {
        let rows: Vec<_> = report
            .summary
            .iter()
            .map(|spread| {
                let numbers = [spread.median, spread.min, spread.max].map(thousands);
                std::iter::once(spread.figure.clone()).chain(numbers).collect()
            })
            .collect();
        let runs = match report.runs.len() {
            1 => "1 run".to_owned(),
            runs => format!("{runs} runs"),
        };
        self.body.push_str("<details><summary>All figures and parameters</summary>\n");
        self.table(&[&runs, "median", "min", "max"], &rows);
        let parameters = serde_json::to_string_pretty(&report.parameters).unwrap_or_default();
        let _ = writeln!(self.body, "<pre>{}</pre></details>", escape(&parameters));
    }
}

/// The figures that answer most questions.
fn cards(report: &Document) -> Vec<Card> {
    let mut cards = Vec::new();
    let spread = |name: &str| report.figure(name);
    let between = |name: &str| match spread(name) {
        Some(spread) if report.runs.len() > 1 => {
            format!("{} to {}", thousands(spread.min), thousands(spread.max))
        }
        _ => String::new(),
    };
    let mut add = |name: &'static str, figure: &str, unit: &str| {
        if let Some(found) = spread(figure) {
            let value = format!("{}<small>{unit}</small>", thousands(found.median));
            cards.push(Card { name, value, note: between(figure) });
        }
    };
    add("Throughput", "messages/s", "/s");
    add("CPU per message", "server CPU µs/message", " µs");
    add("Cores busy", "server cores busy", "");
    add("Memory each", "resident bytes each", " bytes");
    let latency = |timing| report.latency.iter().find(|one| one.timing == timing);
    let shown = latency(Timing::EndToEnd).or(latency(Timing::Response));
    if let Some(one) = shown.or(latency(Timing::Service)) {
        let at = &one.percentiles;
        let figures = [("Median latency", at.p50_us), ("99th percentile", at.p99_us)];
        for (title, figure) in figures {
            if let Some(value) = figure {
                let value = format!("{}<small> µs</small>", thousands(value));
                cards.push(Card { name: title, value, note: from_to(one.timing).to_owned() });
            }
        }
    }
    let missing = report.runs.iter().filter_map(|run| run.figures.get("missing")?.as_u64());
    if report.runs.iter().any(|run| run.figures.get("missing").is_some_and(Value::is_u64)) {
        let value = thousands_of(missing.sum());
        cards.push(Card { name: "Messages lost", value, note: String::new() });
    }
    cards
}

fn latency_row(one: &LatencyDocument) -> Vec<String> {
    let at = &one.percentiles;
    let mut row = vec![name(one.timing), thousands_of(at.samples), number(at.mean_us)];
    for figure in [at.p50_us, at.p90_us, at.p99_us, at.p99_9_us, at.p99_99_us] {
        row.push(figure.map_or("–".to_owned(), thousands));
    }
    row.push(thousands(at.max_us));
    row
}

fn thousands_of(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
    let text = if count < 1000 { count.to_string() } else { thousands(count as f64) };
    text
}

/// The middle of each interval and its value.
fn points(timeline: &[Interval], value: &dyn Fn(&Interval) -> Option<f64>) -> Vec<(f64, f64)> {
    let all = timeline.iter();
    all.filter_map(|at| Some((f64::midpoint(at.begin_s, at.end_s), value(at)?))).collect()
}

fn name(timing: Timing) -> String {
    let name = match timing {
        Timing::Service => "service",
        Timing::Response => "response",
        Timing::SendDelay => "send delay",
        Timing::EndToEnd => "end to end",
        Timing::Connect => "connect",
    };
    format!("{name} ({})", from_to(timing))
}

fn from_to(timing: Timing) -> &'static str {
    match timing {
        Timing::Service => "sent → answered",
        Timing::Response => "due → answered",
        Timing::SendDelay => "due → sent",
        Timing::EndToEnd => "due → delivered",
        Timing::Connect => "connect() → IDENTIFY answered",
    }
}

fn colour(timing: Timing) -> (u8, u8, u8) {
    COLOURS[timing as usize % COLOURS.len()]
}

/// Text as it may stand in an element or a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}
