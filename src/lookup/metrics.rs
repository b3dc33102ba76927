//! `/metrics`: nsqlookupd's numbers as Prometheus reads them.

use super::registrations::Counts;
use super::state::Lookup;
use crate::log::DroppedLines;
use crate::options::VERSION;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Prometheus's text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(lookup): State<Arc<Lookup>>) -> Response {
    let patience = lookup.patience;
    let counts = lookup.desk.ask(move |registrations, now| registrations.counts(now, &patience));
    ([(CONTENT_TYPE, EXPOSITION)], exposition(&lookup, &counts.await)).into_response()
}

fn exposition(lookup: &Lookup, counts: &Counts) -> String {
    let mut page = Page(String::new());
    let version = format!("version=\"{VERSION}\"");
    page.family("build_info", "gauge", "What runs.", &[(version.as_str(), 1)]);
    page.gauge("topics", "Registered topics.", counts.topics);
    page.gauge(
        "topics_without_producers",
        "Topics that a look-up finds no producer of.",
        counts.topics_without_producers,
    );
    page.gauge("channels", "Registered channels.", counts.channels);
    page.family(
        "producers",
        "gauge",
        "nsqds that have identified themselves, by whether they ping.",
        &[
            ("state=\"active\"", counts.producers_active),
            ("state=\"inactive\"", counts.producers_inactive),
        ],
    );
    page.gauge(
        "registrations",
        "Pairs of a topic or channel and an nsqd that has it.",
        counts.placements,
    );
    page.gauge("tombstones", "Tombstones in force.", counts.tombstones);
    let counters = &lookup.counters;
    page.gauge("connections", "Open TCP connections.", counters.connections.load(Relaxed));
    page.family(
        "commands_total",
        "counter",
        "Commands carried out.",
        &[
            ("command=\"IDENTIFY\"", counters.identify.load(Relaxed)),
            ("command=\"REGISTER\"", counters.register.load(Relaxed)),
            ("command=\"UNREGISTER\"", counters.unregister.load(Relaxed)),
            ("command=\"PING\"", counters.ping.load(Relaxed)),
        ],
    );
    let refused = counters.refused.load(Relaxed);
    page.family("commands_refused_total", "counter", "Faulty commands.", &[("", refused)]);
    let dropped = lookup.dropped_lines.as_ref().map_or(0, DroppedLines::count);
    page.family("log_lines_dropped_total", "counter", "Lost log lines.", &[("", dropped)]);
    page.0
}

/// A page of metrics, as far as it is written.
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: usize) {
        self.family(name, "gauge", help, &[("", value)]);
    }

    /// Metrics of one name, told apart by their labels.
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(&str, impl Display)]) {
        let page = &mut self.0;
        let head = format!("# HELP nsqlookupd_{name} {help}\n# TYPE nsqlookupd_{name} {kind}\n");
        page.push_str(&head);
        for (labels, value) in samples {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            writeln!(page, "nsqlookupd_{name}{labels} {value}").expect("strings take all text");
        }
    }
}
