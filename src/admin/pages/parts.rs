//! Pieces that several pages are made of.

use crate::admin::figures::{Figures, NONE, time_ns};
use crate::admin::model::{Latency, Percentile};
use maud::{Markup, html};

/// One number of the head of a page, with a chart of its last minutes.
pub(super) fn tiles(figures: &Figures, tiles: &[(&str, &str)]) -> Markup {
    html! {
        dl.tiles data-k="total" {
            @for (name, label) in tiles {
                div.tile data-chart=(name) {
                    dt { (label) }
                    dd data-f=(name) { (figures.cell(name)) }
                    svg.chart viewBox="0 0 120 32" preserveAspectRatio="none" aria-hidden="true" {}
                }
            }
        }
    }
}

/// Cells of a row that are kept up to date.
pub(super) fn cells(figures: &Figures, names: &[&str]) -> Markup {
    let all = figures.cells();
    let text = |name: &str| all.iter().find(|(known, _)| *known == name).map_or("", |(_, t)| t);
    html! {
        @for name in names {
            @let text = text(name);
            td.n.zero[text == "0"] data-f=(name) { (text) }
        }
    }
}

/// Times from publish to FIN, where nsqds are told to measure them: of each percentile the average
/// over nsqds, and the extremes where there are several.
pub(super) fn latencies(rows: &[(&str, Option<&Latency>)]) -> Markup {
    let of = |latency: Option<&Latency>| {
        latency.and_then(|latency| latency.percentiles.clone()).unwrap_or_default()
    };
    let widest = rows.iter().map(|(_, latency)| of(*latency)).max_by_key(Vec::len);
    let quantiles: Vec<f64> = widest.into_iter().flatten().map(|p| p.quantile).collect();
    #[expect(clippy::float_cmp, reason = "quantiles are what was configured")]
    let find = |latency: Option<&Latency>, quantile: f64| {
        of(latency).into_iter().find(|percentile| percentile.quantile == quantile)
    };
    html! {
        @if !quantiles.is_empty() {
            section {
                h2 { "Processing time " span.count { "publish to finish" } }
                div.scroll tabindex="0" role="region" aria-label="Processing time" {
                    table.list {
                        thead {
                            tr {
                                th scope="col" { "Of" }
                                @for quantile in &quantiles {
                                    th.n scope="col" { (format!("{} %", quantile * 100.0)) }
                                }
                            }
                        }
                        tbody {
                            @for (name, latency) in rows {
                                tr {
                                    th scope="row" { (name) }
                                    @for quantile in &quantiles {
                                        td.n { (percentile(find(*latency, *quantile))) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn percentile(percentile: Option<Percentile>) -> Markup {
    html! {
        @match percentile.filter(|percentile| percentile.count > 0.0) {
            None => (NONE),
            Some(p) => {
                @if p.min < p.max {
                    span.muted { (time_ns(p.min)) " – " (time_ns(p.max)) "  " }
                }
                (time_ns(p.average))
            },
        }
    }
}

/// Heads of columns with numbers.
pub(super) fn heads(names: &[(&str, &str)]) -> Markup {
    html! { @for (_, label) in names { th.n scope="col" { (label) } } }
}

pub(super) fn badge(kind: &str, text: &str) -> Markup {
    html! { " " span.badge.(kind) { (text) } }
}

/// What a name alone and its level say of a topic or channel. The mark of a pause is always there;
/// the row says whether it shows.
pub(super) fn badges(name: &str, durability: Option<&str>) -> Markup {
    html! {
        (badge("paused", "paused"))
        @if name.ends_with("#ephemeral") { (badge("plain", "ephemeral")) }
        @match durability {
            None | Some("overflow") => {}
            Some("") => (badge("warn", "mixed durability")),
            Some(level) => (badge("plain", level)),
        }
    }
}

/// A way through the pages above this one.
pub(super) fn trail(steps: &[(String, &str)]) -> Markup {
    html! {
        nav.trail aria-label="Breadcrumb" {
            ol { @for (path, name) in steps { li { a href=(path) { (name) } } } }
        }
    }
}

/// A button that changes the cluster, with everything that is said before it does.
pub(super) struct Action<'a> {
    pub(super) label: &'a str,
    pub(super) method: &'a str,
    pub(super) url: String,
    /// JSON.
    pub(super) body: String,
    pub(super) title: String,
    /// `{n}` is replaced by the count of messages at that moment.
    pub(super) text: String,
    pub(super) is_dangerous: bool,
    /// Where `{n}` comes from: a topic or a channel of the API.
    pub(super) count_url: Option<String>,
    /// What has to be typed while there are messages.
    pub(super) typed: Option<&'a str>,
    /// Where to go when it is done, if not back to the same page.
    pub(super) then: Option<String>,
}

impl Action<'_> {
    pub(super) fn button(&self) -> Markup {
        html! {
            button.action.danger[self.is_dangerous] type="button"
                data-method=(self.method) data-url=(self.url) data-body=(self.body)
                data-title=(self.title) data-text=(self.text)
                data-count=[self.count_url.as_ref()] data-typed=[self.typed]
                data-then=[self.then.as_ref()] { (self.label) }
        }
    }
}

/// A JSON document for the API with one field.
pub(super) fn order(name: &str, value: &str) -> String {
    serde_json::json!({ name: value }).to_string()
}

/// `1 channel`, `2 channels`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
