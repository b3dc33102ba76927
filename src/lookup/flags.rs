//! nsqlookupd's table of flags: name, type, default and help, once each.

use crate::log::{LogFormat, LogLevel};
use crate::options::value::{boolean, log_format, log_level, time};
use crate::options::{self, Exit, Flags, hostname};
use clap::ArgAction::Set;
use std::ffi::OsString;
use std::time::Duration;

/// What nsqlookupd was told.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
#[command(name = "nsqlookupd", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct LookupOptions {
    /// file with options in TOML; flags given here win over it
    #[arg(long, default_value = "")]
    pub config: String,
    /// print the version and exit
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    pub version: bool,
    /// least severe lines to log: debug, info, warn, error or fatal
    #[arg(long, default_value = "info", value_parser = log_level)]
    pub log_level: LogLevel,
    /// text at the start of each log line
    #[arg(long, default_value = "[nsqlookupd] ")]
    pub log_prefix: String,
    /// form of log lines: text, or json for one object per line
    #[arg(long, default_value = "text", value_parser = log_format)]
    pub log_format: LogFormat,
    /// has no effect any more (use --log-level)
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    pub verbose: bool,

    /// where nsqds connect: host:port
    #[arg(long, default_value = "0.0.0.0:4160")]
    pub tcp_address: String,
    /// where the HTTP API listens: host:port
    #[arg(long, default_value = "0.0.0.0:4161")]
    pub http_address: String,
    /// address of this node that nsqds are told (default: the host name)
    #[arg(long, default_value_t = hostname())]
    pub broadcast_address: String,

    /// how long after its last ping an nsqd is still handed out
    #[arg(long, default_value = "5m", value_parser = time)]
    pub inactive_producer_timeout: Duration,
    /// how long a tombstone hides an nsqd from look-ups of a topic
    #[arg(long, default_value = "45s", value_parser = time)]
    pub tombstone_lifetime: Duration,
}

impl Flags for LookupOptions {
    fn config(&self) -> &str {
        &self.config
    }

    fn version(&self) -> bool {
        self.version
    }
}

impl LookupOptions {
    /// Reads the arguments that follow the program's name, and the configuration file they name.
    ///
    /// # Errors
    /// An [`Exit`] when there is nothing to run: the version or help was asked for, or something
    /// is wrong.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, Exit> {
        options::read(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<LookupOptions, Exit> {
        LookupOptions::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn flags_are_read() {
        let options = parsed(&[]).unwrap();
        assert_eq!(options.tcp_address, "0.0.0.0:4160");
        assert_eq!(options.http_address, "0.0.0.0:4161");
        assert_eq!(options.log_prefix, "[nsqlookupd] ");
        assert_eq!(options.inactive_producer_timeout, Duration::from_secs(300));
        assert_eq!(options.tombstone_lifetime, Duration::from_secs(45));
        assert_eq!(options.broadcast_address, hostname());
        let options = parsed(&["-tombstone-lifetime=50ms", "--inactive-producer-timeout", "1m30s"]);
        let options = options.unwrap();
        assert_eq!(options.tombstone_lifetime, Duration::from_millis(50));
        assert_eq!(options.inactive_producer_timeout, Duration::from_secs(90));
    }

    #[test]
    fn i1_the_configuration_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nsqlookupd.cfg");
        let text = "log_level = \"debug\"\ntombstone_lifetime = 1500\nhttp_address = \"a:1\"\n";
        std::fs::write(&path, text).unwrap();
        let config = format!("-config={}", path.display());
        let options = parsed(&[&config, "-http-address=b:2"]).unwrap();
        assert_eq!(options.log_level, LogLevel::Debug);
        assert_eq!(options.tombstone_lifetime, Duration::from_millis(1500));
        assert_eq!(options.http_address, "b:2");
        std::fs::write(&path, "log_level = \"loud\"").unwrap();
        let exit = parsed(&[&config]).unwrap_err();
        assert!(exit.stderr.starts_with("[nsqlookupd] "), "{}", exit.stderr);
        assert!(exit.stderr.ends_with(" FATAL: failed parsing log_level loud\n"));
        assert_eq!(exit.code, 1);
    }

    #[test]
    fn the_program_has_its_own_name() {
        let exit = parsed(&["-version"]).unwrap_err();
        assert!(exit.stdout.starts_with("nsqlookupd v1.3.0 (built w/rust"), "{}", exit.stdout);
        let exit = parsed(&["-h"]).unwrap_err();
        assert!(exit.stderr.starts_with("Usage of nsqlookupd:\n"), "{}", exit.stderr);
        assert_eq!(exit.code, 0);
        let exit = parsed(&["-data-path=x"]).unwrap_err();
        assert!(exit.stderr.starts_with("flag provided but not defined: -data-path\n"));
        assert_eq!(exit.code, 2);
    }
}
