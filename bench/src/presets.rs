//! The parameters that each scenario starts from; flags change them.

use std::time::Duration;

use crate::body::BodySize;
use crate::scenario::{Kind, Plan};
use crate::schedule::Arrivals;

/// The scenario `name`, without flags.
pub(crate) fn preset(name: &str) -> Option<Plan> {
    Some(match name {
        "pub" => publish("pub"),
        "pub-1" => Plan { connections: 1, ..publish("pub-1") },
        "pub-64" => publish("pub-64"),
        "pub-64x16" => Plan { in_flight: 16, ..publish("pub-64x16") },
        "mpub" => batches("mpub"),
        "overflow-in" => batches("overflow-in"),
        "drain" => Plan { kind: Kind::Drain, ..batches("drain") },
        "overflow-out" => Plan { kind: Kind::Drain, ..batches("overflow-out") },
        "through" => through("through"),
        "latency" => open_loop("latency"),
        "latency-quiet" => Plan {
            connections: 1,
            rate: Some(50.0),
            duration: Duration::from_secs(10),
            ..open_loop("latency-quiet")
        },
        "backlog" => Plan {
            kind: Kind::Drain,
            rate: Some(20_000.0),
            messages: Some(1_000_000),
            ..batches("backlog")
        },
        "slow-consumer" => Plan {
            rate: Some(10_000.0),
            consumers: 4,
            slow_consumers: 1,
            slow_delay: Duration::from_millis(10),
            ..open_loop("slow-consumer")
        },
        "fan-out" => Plan {
            channels: 100,
            consumers: 1,
            batch: 20,
            bound: 2_000,
            rdy: 250,
            ..through("fan-out")
        },
        "hot-topic" => hot_topic(),
        // Some daemons write a list of all lasting topics whenever one is new: minutes for so many.
        "many-topics" => {
            Plan { topics: 10_000, rdy: 10, ephemeral: true, ..open_loop("many-topics") }
        }
        "many-connections" => Plan { idle: 10_000, ..open_loop("many-connections") },
        "churn" => Plan { connections: 16, reconnect_every: 1, ..publish("churn") },
        "durable" => Plan { connections: 1, in_flight: 64, ..publish("durable") },
        "http" => Plan { http: true, ..publish("http") },
        "sweep" => Plan {
            rate: Some(1_000.0),
            p99_bound: Some(Duration::from_millis(10)),
            duration: Duration::from_secs(2),
            warm_up: Duration::from_millis(500),
            ..open_loop("sweep")
        },
        "idle" => Plan {
            kind: Kind::Idle,
            connections: 10_000,
            duration: Duration::from_secs(60),
            warm_up: Duration::ZERO,
            ..publish("idle")
        },
        _ => return None,
    })
}

fn hot_topic() -> Plan {
    Plan {
        connections: 32,
        in_flight: 16,
        batch: 0,
        consumers: 32,
        rdy: 100,
        ..through("hot-topic")
    }
}

/// The parameters that all others start from.
fn publish(name: &'static str) -> Plan {
    Plan {
        name,
        kind: Kind::Publish,
        connections: 64,
        idle: 0,
        in_flight: 1,
        batch: 0,
        consumers: 2,
        rdy: 2500,
        topics: 1,
        channels: 1,
        body: BodySize::Fixed(200),
        body_bytes: 200,
        rate: None,
        arrivals: Arrivals::Fixed,
        messages: None,
        bound: 50_000,
        defer: Duration::ZERO,
        requeue_percent: 0.0,
        requeue_delay: Duration::ZERO,
        slow_consumers: 0,
        slow_delay: Duration::from_millis(10),
        reconnect_every: 0,
        http: false,
        verify: false,
        ephemeral: false,
        p99_bound: None,
        identify: true,
        heartbeat_ms: None,
        output_buffer_ms: None,
        features: Vec::new(),
        duration: Duration::from_secs(3),
        warm_up: Duration::from_millis(500),
    }
}

/// Bounded by number: what nobody consumes stays in the daemon's memory.
fn batches(name: &'static str) -> Plan {
    Plan {
        connections: 2,
        batch: 200,
        messages: Some(2_000_000),
        warm_up: Duration::from_millis(100),
        duration: Duration::from_secs(30),
        ..publish(name)
    }
}

fn through(name: &'static str) -> Plan {
    let publish = publish(name);
    Plan {
        kind: Kind::Through,
        messages: None,
        warm_up: publish.warm_up,
        duration: publish.duration,
        ..batches(name)
    }
}

fn open_loop(name: &'static str) -> Plan {
    Plan {
        kind: Kind::Latency,
        connections: 16,
        consumers: 1,
        rdy: 100,
        rate: Some(20_000.0),
        duration: Duration::from_secs(5),
        warm_up: Duration::from_secs(1),
        ..publish(name)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::flags::Scenario;

    #[test]
    fn every_scenario_of_the_command_line_has_a_preset_of_its_name() {
        let command = clap::Command::new("test");
        let command = <Scenario as clap::Subcommand>::augment_subcommands(command);
        let names: Vec<String> =
            command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
        assert!(names.len() > 20);
        for name in names {
            let matches = command.clone().get_matches_from(["test", &name]);
            let scenario = Scenario::from_arg_matches(&matches).unwrap();
            assert_eq!(scenario.parts().0, name);
            assert_eq!(Plan::new(&scenario).unwrap().0.name, name);
        }
        crate::flags::Flags::command().debug_assert();
    }
}
