//! nsqadmin's table of flags: name, type, default and help, once each; and what of them does not
//! fit together.

use crate::http::listener::resolve;
use crate::limits::LOOKUPS_MAX;
use crate::log::{LogFormat, LogLevel};
use crate::options::value::{as_nanoseconds, boolean, log_format, log_level, time};
use crate::options::{self, Exit, Flags, split_host_port};
use clap::ArgAction::Set;
use ipnet::IpNet;
use serde::Serialize;
use std::ffi::OsString;
use std::time::Duration;

/// Where `-help` shows the flags that NSQ's nsqadmin does not have.
const OURS: &str = "Flags that nsqadmin does not have";

/// What nsqadmin was told.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser, Serialize)]
#[command(name = "nsqadmin", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct AdminOptions {
    /// file with options in TOML; flags given here win over it
    #[arg(long, default_value = "")]
    #[serde(skip)]
    pub config: String,
    /// print the version and exit
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    #[serde(skip)]
    pub version: bool,
    /// least severe lines to log: debug, info, warn, error or fatal
    #[arg(long, default_value = "info", value_parser = log_level)]
    pub log_level: LogLevel,
    /// text at the start of each log line
    #[arg(long, default_value = "[nsqadmin] ")]
    pub log_prefix: String,
    /// form of log lines: text, or json for one object per line
    #[arg(long, default_value = "text", value_parser = log_format, help_heading = OURS)]
    pub log_format: LogFormat,
    /// has no effect any more (use --log-level)
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    #[serde(skip)]
    pub verbose: bool,

    /// where pages and API are served: host:port
    #[arg(long, default_value = "0.0.0.0:4171")]
    pub http_address: String,
    /// path under which everything is served
    #[arg(long, default_value = "/")]
    pub base_path: String,
    /// directory to read /static from, for work on it; empty for what is built in
    #[arg(long, default_value = "")]
    pub dev_static_dir: String,

    /// nsqlookupd to ask, host:port of its HTTP; repeatable
    #[arg(long = "lookupd-http-address")]
    pub nsqlookupd_http_addresses: Vec<String>,
    /// nsqd to ask where there is no nsqlookupd, host:port of its HTTP; repeatable
    #[arg(long = "nsqd-http-address")]
    pub nsqd_http_addresses: Vec<String>,
    /// how long a connection to another HTTP server may take to open
    #[arg(long, default_value = "2s", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub http_client_connect_timeout: Duration,
    /// how long a request to another HTTP server may take
    #[arg(long, default_value = "5s", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub http_client_request_timeout: Duration,
    /// take any certificate of the servers asked
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    pub http_client_tls_insecure_skip_verify: bool,
    /// PEM file of the authorities to trust (default: the machine's)
    #[arg(long, default_value = "")]
    pub http_client_tls_root_ca_file: String,
    /// PEM file with the certificate to show servers
    #[arg(long, default_value = "")]
    pub http_client_tls_cert: String,
    /// PEM file with its key
    #[arg(long, default_value = "")]
    pub http_client_tls_key: String,

    /// addresses that may use /config, as CIDR; empty for all
    #[arg(long, default_value = "127.0.0.1/8")]
    pub allow_config_from_cidr: String,
    /// header with the name of the user, as a trusted proxy sets it
    #[arg(long, default_value = "X-Forwarded-User")]
    pub acl_http_header: String,
    /// user who may change things, if not everybody; repeatable
    #[arg(long = "admin-user")]
    pub admin_users: Vec<String>,
    /// TOML file of users and tokens who may sign in, with their roles; empty for no sign-in
    #[arg(long, default_value = "", help_heading = OURS)]
    pub auth_file: String,
    /// URL that is told of every change
    #[arg(long, default_value = "")]
    pub notification_http_endpoint: String,

    /// Graphite's URL; empty for no graphs of it
    #[arg(long, default_value = "")]
    pub graphite_url: String,
    /// fetch graphs on behalf of browsers, under /render
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    pub proxy_graphite: bool,
    /// how counters are named in Graphite
    #[arg(long, default_value = "stats.counters.%s.count")]
    pub statsd_counter_format: String,
    /// how gauges are named in Graphite
    #[arg(long, default_value = "stats.gauges.%s")]
    pub statsd_gauge_format: String,
    /// prefix that nsqds push with; %s stands for the host
    #[arg(long, default_value = "nsq.%s")]
    pub statsd_prefix: String,
    /// how often nsqds push
    #[arg(long, default_value = "1m", value_parser = time)]
    #[serde(serialize_with = "as_nanoseconds")]
    pub statsd_interval: Duration,
}

impl Flags for AdminOptions {
    fn config(&self) -> &str {
        &self.config
    }

    fn version(&self) -> bool {
        self.version
    }
}

impl AdminOptions {
    /// Reads the arguments that follow the program's name, and the configuration file they name.
    ///
    /// # Errors
    /// An [`Exit`] when there is nothing to run: the version or help was asked for, or something
    /// is wrong.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, Exit> {
        options::read(arguments)
    }

    /// Checks what belongs together, in NSQ's order, and brings the base path into form.
    ///
    /// # Errors
    /// NSQ's text for the first thing that is wrong.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let (lookupds, nsqds) = (&self.nsqlookupd_http_addresses, &self.nsqd_http_addresses);
        if lookupds.is_empty() && nsqds.is_empty() {
            return Err("--nsqd-http-address or --lookupd-http-address required".to_owned());
        }
        if !lookupds.is_empty() && !nsqds.is_empty() {
            return Err("use --nsqd-http-address or --lookupd-http-address not both".to_owned());
        }
        if lookupds.len() > LOOKUPS_MAX {
            return Err(format!("--lookupd-http-address can be given {LOOKUPS_MAX} times at most"));
        }
        let (cert, key) = (&self.http_client_tls_cert, &self.http_client_tls_key);
        let pair = |missing: &str, given: &str| {
            Err(format!(
                "--http-client-tls-{missing} must be specified with --http-client-tls-{given}"
            ))
        };
        match (cert.is_empty(), key.is_empty()) {
            (false, true) => return pair("key", "cert"),
            (true, false) => return pair("cert", "key"),
            _ => {}
        }
        for (flag, addresses) in [("lookupd", lookupds), ("nsqd", nsqds)] {
            for address in addresses {
                resolved(address).map_err(|reason| {
                    format!("failed to resolve --{flag}-http-address ({address}) - {reason}")
                })?;
            }
        }
        if self.proxy_graphite && self.graphite_url.parse::<hyper::Uri>().is_err() {
            let url = &self.graphite_url;
            return Err(format!("failed to parse --graphite-url ({url}) - invalid URL"));
        }
        allowed_network(&self.allow_config_from_cidr)?;
        self.base_path = base_path(&self.base_path);
        Ok(())
    }

    /// The options as `/config` names them, with the values it answers.
    pub(super) fn by_name(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("options are numbers, strings and lists of them")
    }
}

fn resolved(address: &str) -> Result<(), String> {
    let missing = || format!("address {address}: missing port in address");
    let (host, port) = split_host_port(address).ok_or_else(missing)?;
    let port = port.parse().map_err(|_| format!("address {address}: invalid port"))?;
    let found = resolve(host, port).map_err(|error| format!("lookup {host}: {error}"))?;
    if found.is_empty() { Err(format!("lookup {host}: no such host")) } else { Ok(()) }
}

/// The network of `--allow-config-from-cidr`; `None` for all of them.
///
/// # Errors
/// NSQ's text, when it is none.
pub(super) fn allowed_network(text: &str) -> Result<Option<IpNet>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let reason = format!("invalid CIDR address: {text}");
        format!("failed to parse --allow-config-from-cidr ({text}) - {reason}")
    })
}

/// A path with a slash before it and none behind, without doubled slashes and dots.
fn base_path(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> AdminOptions {
        AdminOptions::parse(arguments.iter().map(OsString::from)).unwrap()
    }

    fn refusal(arguments: &[&str]) -> String {
        parsed(arguments).check().unwrap_err()
    }

    #[test]
    fn flags_have_nsqs_defaults_and_names() {
        let mut options = parsed(&["-lookupd-http-address=127.0.0.1:4161", "--base-path", "adm/"]);
        options.check().unwrap();
        assert_eq!(options.base_path, "/adm");
        let by_name = options.by_name();
        assert_eq!(by_name["nsqlookupd_http_addresses"], serde_json::json!(["127.0.0.1:4161"]));
        assert_eq!(by_name["log_level"], 2);
        assert_eq!(by_name["http_client_request_timeout"], 5_000_000_000_u64);
        assert_eq!(by_name["statsd_counter_format"], "stats.counters.%s.count");
        assert_eq!(by_name["acl_http_header"], "X-Forwarded-User");
        assert!(by_name.get("config").is_none());
        for (path, expected) in [("", "/"), ("/", "/"), ("//a/../b/", "/b"), ("a/b", "/a/b")] {
            assert_eq!(base_path(path), expected);
        }
    }

    #[test]
    fn g18_g19_one_kind_of_address_is_needed() {
        assert_eq!(refusal(&[]), "--nsqd-http-address or --lookupd-http-address required");
        let both = ["--nsqd-http-address=127.0.0.1:1", "--lookupd-http-address=127.0.0.1:2"];
        assert_eq!(refusal(&both), "use --nsqd-http-address or --lookupd-http-address not both");
    }

    #[test]
    fn what_does_not_fit_is_refused_in_nsqs_words() {
        let nsqd = "--nsqd-http-address=127.0.0.1:1";
        let cases = [
            (
                "--http-client-tls-cert=x",
                "--http-client-tls-key must be specified with --http-client-tls-cert",
            ),
            (
                "--http-client-tls-key=x",
                "--http-client-tls-cert must be specified with --http-client-tls-key",
            ),
            (
                "--nsqd-http-address=x",
                "failed to resolve --nsqd-http-address (x) - address x: missing port in address",
            ),
            (
                "--allow-config-from-cidr=10/x",
                "failed to parse --allow-config-from-cidr (10/x) - invalid CIDR address: 10/x",
            ),
        ];
        for (flag, expected) in cases {
            assert_eq!(refusal(&[nsqd, flag]), expected);
        }
    }

    #[test]
    fn i1_the_configuration_file_has_nsqs_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nsqadmin.cfg");
        let text = "log_level = \"debug\"\nadmin_users = [\"a\", \"b\"]\n\
                    nsqd_http_addresses = [\"h:1\"]\nproxy_graphite = true\n";
        std::fs::write(&path, text).unwrap();
        let options = parsed(&[&format!("-config={}", path.display())]);
        assert_eq!(options.log_level, LogLevel::Debug);
        assert_eq!(options.admin_users, ["a", "b"]);
        assert_eq!(options.nsqd_http_addresses, ["h:1"]);
        assert!(options.proxy_graphite);
    }
}
