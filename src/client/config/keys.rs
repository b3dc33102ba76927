//! NSQ's names of settings, how each is read from text, and its range.

use super::{BackoffStrategy, Config, TlsMinVersion};
use crate::options::duration;
use std::time::Duration;

/// Ranges of durations, both ends included.
type DurationRange = (&'static str, fn(&Config) -> Duration, Duration, Duration);

const DURATION_RANGES: [DurationRange; 9] = [
    ("read_timeout", |c| c.read_timeout, Duration::from_millis(100), Duration::from_secs(300)),
    ("write_timeout", |c| c.write_timeout, Duration::from_millis(100), Duration::from_secs(300)),
    (
        "lookupd_poll_interval",
        |c| c.lookupd_poll_interval,
        Duration::from_millis(10),
        Duration::from_secs(300),
    ),
    ("max_requeue_delay", |c| c.max_requeue_delay, Duration::ZERO, Duration::from_secs(3600)),
    (
        "default_requeue_delay",
        |c| c.default_requeue_delay,
        Duration::ZERO,
        Duration::from_secs(3600),
    ),
    ("max_backoff_duration", |c| c.max_backoff_duration, Duration::ZERO, Duration::from_secs(3600)),
    ("backoff_multiplier", |c| c.backoff_multiplier, Duration::ZERO, Duration::from_secs(3600)),
    (
        "low_rdy_idle_timeout",
        |c| c.low_rdy_idle_timeout,
        Duration::from_millis(1),
        Duration::from_secs(300),
    ),
    ("low_rdy_timeout", |c| c.low_rdy_timeout, Duration::from_millis(1), Duration::from_secs(300)),
];

/// Whole numbers and their largest and smallest value.
type NumberRange = (&'static str, fn(&Config) -> u64, u64, u64);

const NUMBER_RANGES: [NumberRange; 2] = [
    ("sample_rate", |c| u64::from(c.sample_rate), 0, 99),
    ("deflate_level", |c| u64::from(c.deflate_level), 1, 9),
];

/// The first setting that is out of range, worded as NSQ's client does.
pub(super) fn fault(config: &Config) -> Option<String> {
    for (name, value, min, max) in DURATION_RANGES {
        let (value, go) = (value(config), duration::format);
        if value < min {
            return Some(format!("invalid {name} ! {} < {}", go(value), go(min)));
        }
        if value > max {
            return Some(format!("invalid {name} ! {} > {}", go(value), go(max)));
        }
    }
    for (name, value, min, max) in NUMBER_RANGES {
        let value = value(config);
        if value < min {
            return Some(format!("invalid {name} ! {value} < {min}"));
        }
        if value > max {
            return Some(format!("invalid {name} ! {value} > {max}"));
        }
    }
    let jitter = config.lookupd_poll_jitter;
    if !(0.0..=1.0).contains(&jitter) {
        let sign = if jitter < 0.0 { "< 0" } else { "> 1" };
        return Some(format!("invalid lookupd_poll_jitter ! {jitter} {sign}"));
    }
    let interval = config.rdy_redistribute_interval;
    if interval < Duration::from_millis(1) || interval > Duration::from_secs(5) {
        let shown = duration::format(interval);
        return Some(format!("invalid rdy_redistribute_interval ! {shown} outside 1ms to 5s"));
    }
    None
}

/// Sets one option and checks the ranges again.
pub(super) fn set(config: &mut Config, name: &str, value: &str) -> Result<(), String> {
    let name = name.replace('-', "_");
    let mut changed = config.clone();
    let known = set_timing(&mut changed, &name, value)?
        || set_text(&mut changed, &name, value)
        || set_tls(&mut changed, &name, value)?
        || set_other(&mut changed, &name, value)?;
    if !known {
        return Err(format!("invalid option {name}"));
    }
    if let Some(fault) = fault(&changed) {
        return Err(fault);
    }
    *config = changed;
    Ok(())
}

fn set_timing(config: &mut Config, name: &str, value: &str) -> Result<bool, String> {
    let field = match name {
        "dial_timeout" => &mut config.dial_timeout,
        "read_timeout" => &mut config.read_timeout,
        "write_timeout" => &mut config.write_timeout,
        "lookupd_poll_interval" => &mut config.lookupd_poll_interval,
        "lookupd_poll_timeout" => &mut config.lookupd_poll_timeout,
        "max_requeue_delay" => &mut config.max_requeue_delay,
        "default_requeue_delay" => &mut config.default_requeue_delay,
        "max_backoff_duration" => &mut config.max_backoff_duration,
        "backoff_multiplier" => &mut config.backoff_multiplier,
        "low_rdy_idle_timeout" => &mut config.low_rdy_idle_timeout,
        "low_rdy_timeout" => &mut config.low_rdy_timeout,
        "rdy_redistribute_interval" => &mut config.rdy_redistribute_interval,
        "msg_timeout" => &mut config.msg_timeout,
        "heartbeat_interval" => {
            config.heartbeat_interval = time_or_off(name, value)?;
            return Ok(true);
        }
        "output_buffer_timeout" => {
            config.output_buffer_timeout = time_or_off(name, value)?;
            return Ok(true);
        }
        _ => return Ok(false),
    };
    *field = time(name, value)?;
    Ok(true)
}

fn set_text(config: &mut Config, name: &str, value: &str) -> bool {
    let field = match name {
        "client_id" => &mut config.client_id,
        "hostname" => &mut config.hostname,
        "user_agent" => &mut config.user_agent,
        "topology_region" => &mut config.topology_region,
        "topology_zone" => &mut config.topology_zone,
        "auth_secret" => &mut config.auth_secret,
        "local_addr" => {
            config.local_addr = Some(value.to_owned());
            return true;
        }
        _ => return false,
    };
    value.clone_into(field);
    true
}

fn set_tls(config: &mut Config, name: &str, value: &str) -> Result<bool, String> {
    match name {
        "tls_v1" => config.tls_v1 = boolean(name, value)?,
        "tls_insecure_skip_verify" => config.tls_insecure_skip_verify = boolean(name, value)?,
        "tls_root_ca_file" => config.tls_root_ca_file = Some(value.into()),
        "tls_cert" => config.tls_cert = Some(value.into()),
        "tls_key" => config.tls_key = Some(value.into()),
        "tls_min_version" => {
            config.tls_min_version = match value {
                // The library's own minimum is above what these allow.
                "ssl3.0" | "tls1.0" | "tls1.1" | "tls1.2" => TlsMinVersion::Tls12,
                _ => return Err(format!("ERROR: {value} is not a tls version")),
            };
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn set_other(config: &mut Config, name: &str, value: &str) -> Result<bool, String> {
    match name {
        "lookupd_poll_jitter" => {
            let jitter = value.parse().map_err(|_| wrong(name, value))?;
            config.lookupd_poll_jitter = jitter;
        }
        "backoff_strategy" => {
            config.backoff_strategy = match value {
                "" | "exponential" => BackoffStrategy::Exponential,
                "full_jitter" => BackoffStrategy::FullJitter,
                _ => return Err(wrong(name, value)),
            };
        }
        "max_attempts" => config.max_attempts = number(name, value)?,
        "sample_rate" => config.sample_rate = number(name, value)?,
        "deflate" => config.deflate = boolean(name, value)?,
        "deflate_level" => config.deflate_level = number(name, value)?,
        "snappy" => config.snappy = boolean(name, value)?,
        "max_in_flight" => config.max_in_flight = number(name, value)?,
        "max_msg_size" => config.max_msg_size = number(name, value)?,
        "output_buffer_size" => {
            config.output_buffer_size =
                if value == "-1" { None } else { Some(number(name, value)?) };
        }
        "skip_lookupd_authorization" => config.lookupd_authorization = boolean(name, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn time(name: &str, value: &str) -> Result<Duration, String> {
    if let Ok(milliseconds) = value.parse() {
        return Ok(Duration::from_millis(milliseconds));
    }
    let nanoseconds = duration::parse_nanoseconds(value).ok_or_else(|| wrong(name, value))?;
    u64::try_from(nanoseconds).map(Duration::from_nanos).map_err(|_| wrong(name, value))
}

/// A duration, or a negative one for none.
fn time_or_off(name: &str, value: &str) -> Result<Option<Duration>, String> {
    let negative = value.strip_prefix('-').map_or(value, |rest| rest);
    let time = time(name, negative)?;
    Ok(if value.starts_with('-') { None } else { Some(time) })
}

fn boolean(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(wrong(name, value)),
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| wrong(name, value))
}

fn wrong(name: &str, value: &str) -> String {
    format!("failed to coerce option {name} ({value}): not a valid value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, value: &str) -> Result<Config, String> {
        let mut config = Config::default();
        config.set(name, value).map(|()| config).map_err(|error| error.to_string())
    }

    /// J8: settings by name.
    #[test]
    fn j8_settings() {
        assert_eq!(
            outcome("not_a_real_option", "x").unwrap_err(),
            "invalid option not_a_real_option"
        );
        assert!(outcome("tls_v1", "nope").unwrap_err().contains("tls_v1"));
        assert!(outcome("tls-v1", "true").unwrap().tls_v1);
        assert!(outcome("tls-min-version", "tls1.2").is_ok());
        assert!(outcome("tls-min-version", "tls1.3").is_err());
        let local = outcome("local_addr", "127.0.0.1:27015").unwrap().local_addr;
        assert_eq!(local.as_deref(), Some("127.0.0.1:27015"));
        assert_eq!(Config::default().backoff_strategy, BackoffStrategy::Exponential);
        let jitter = outcome("backoff_strategy", "full_jitter").unwrap();
        assert_eq!(jitter.backoff_strategy, BackoffStrategy::FullJitter);
        assert_eq!(outcome("deflate_level", "100").unwrap_err(), "invalid deflate_level ! 100 > 9");

        let mut config = Config::default();
        config.set_flag("heartbeat_interval,1s").unwrap();
        config.set_flag("max_attempts,10").unwrap();
        config.set_flag("snappy").unwrap();
        assert_eq!(config.heartbeat_interval, Some(Duration::from_secs(1)));
        assert_eq!((config.max_attempts, config.snappy), (10, true));
        config.check().unwrap();
    }

    #[test]
    fn ranges_are_checked() {
        for (name, value, text) in [
            ("read_timeout", "99ms", "invalid read_timeout ! 99ms < 100ms"),
            ("read_timeout", "301s", "invalid read_timeout ! 5m1s > 5m0s"),
            ("lookupd_poll_jitter", "1.5", "invalid lookupd_poll_jitter ! 1.5 > 1"),
            ("sample_rate", "100", "invalid sample_rate ! 100 > 99"),
            ("max_requeue_delay", "61m", "invalid max_requeue_delay ! 1h1m0s > 1h0m0s"),
        ] {
            assert_eq!(outcome(name, value).unwrap_err(), text);
        }
        assert_eq!(
            outcome("msg_timeout", "1500").unwrap().msg_timeout,
            Duration::from_millis(1500)
        );
        assert_eq!(outcome("heartbeat_interval", "-1").unwrap().heartbeat_interval, None);
        assert_eq!(outcome("output_buffer_size", "-1").unwrap().output_buffer_size, None);
        let config =
            Config { heartbeat_interval: Some(Duration::from_secs(120)), ..Config::default() };
        let text = "heartbeat_interval must not exceed read_timeout";
        assert_eq!(config.check().unwrap_err().to_string(), text);
    }
}
