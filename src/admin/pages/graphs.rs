//! Pictures of Graphite, where `--graphite-url` names one: keys as nsqd pushes them.

use crate::admin::state::Admin;
use crate::client::http::escape;
use maud::{Markup, html};

/// One picture: what it is called, and what Graphite is asked to draw.
type Graph = (&'static str, String);

pub(super) fn of_topic(admin: &Admin, topic: &str) -> Markup {
    let keys = Keys::of(admin, "*");
    let topic = clean(topic);
    let key = |what: &str| format!("topic.{topic}.{what}");
    draw(
        admin,
        &[
            ("Depth", format!("sumSeries({})", keys.gauge(&key("depth")))),
            ("Messages", format!("sumSeries({})", keys.counter(&key("message_count")))),
        ],
    )
}

pub(super) fn of_channel(admin: &Admin, topic: &str, channel: &str) -> Markup {
    let keys = Keys::of(admin, "*");
    let (topic, channel) = (clean(topic), clean(channel));
    let key = |what: &str| format!("topic.{topic}.channel.{channel}.{what}");
    draw(
        admin,
        &[
            ("Depth", format!("sumSeries({})", keys.gauge(&key("depth")))),
            ("In flight", format!("sumSeries({})", keys.gauge(&key("in_flight_count")))),
            ("Messages", format!("sumSeries({})", keys.counter(&key("message_count")))),
            ("Timed out", format!("sumSeries({})", keys.counter(&key("timeout_count")))),
        ],
    )
}

pub(super) fn of_node(admin: &Admin, address: &str) -> Markup {
    let keys = Keys::of(admin, &address.replace(['.', ':'], "_"));
    draw(admin, &[("Memory in use", keys.gauge("mem.heap_in_use_bytes"))])
}

/// How keys are made of names.
struct Keys {
    prefix: String,
    counter: String,
    gauge: String,
}

impl Keys {
    fn of(admin: &Admin, host: &str) -> Self {
        let options = admin.options.borrow();
        let mut prefix = options.statsd_prefix.replace("%s", host);
        if !prefix.is_empty() && !prefix.ends_with('.') {
            prefix.push('.');
        }
        let (counter, gauge) = (&options.statsd_counter_format, &options.statsd_gauge_format);
        Self { prefix, counter: counter.clone(), gauge: gauge.clone() }
    }

    fn counter(&self, key: &str) -> String {
        self.counter.replace("%s", &format!("{}{key}", self.prefix))
    }

    fn gauge(&self, key: &str) -> String {
        self.gauge.replace("%s", &format!("{}{key}", self.prefix))
    }
}

/// A name as Graphite can have it.
fn clean(name: &str) -> String {
    let name = name.replace(' ', "_").replace('/', "-");
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
}

fn draw(admin: &Admin, graphs: &[Graph]) -> Markup {
    let (graphite, proxy, interval_s) = {
        let options = admin.options.borrow();
        (options.graphite_url.clone(), options.proxy_graphite, options.statsd_interval.as_secs())
    };
    if graphite.is_empty() {
        return html! {};
    }
    let render = if proxy { admin.path("/render") } else { format!("{graphite}/render") };
    let url = |target: &str, width: u32, height: u32| {
        let target = format!("summarize({target},\"{interval_s}sec\",\"avg\")");
        let target = escape(target.as_bytes(), "%20");
        format!(
            "{render}?target={target}&from=-2hours&width={width}&height={height}&hideLegend=true"
        )
    };
    html! {
        section.graphs {
            h2 { "Graphite " span.muted { "last 2 hours" } }
            @for (name, target) in graphs {
                a href=(url(target, 1024, 512)) rel="noreferrer" {
                    figure {
                        img src=(url(target, 320, 120)) width="320" height="120" loading="lazy"
                            alt={ (name) " over the last 2 hours" };
                        figcaption { (name) }
                    }
                }
            }
        }
    }
}
