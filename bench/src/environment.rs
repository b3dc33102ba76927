//! Where and how a measurement was made: what a reader needs to judge its figures or to repeat it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::unix_time_s;
use crate::endpoint::Endpoint;
use crate::process;

/// Time the daemon has to say its version.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of that answer.
const PROBE_BYTES_MAX: usize = 64 * 1024;

/// The machine, the daemon and the command. What cannot be read is empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Environment {
    /// UTC, as `2026-01-31 23:59:59`.
    pub(crate) date: String,
    /// The generator's name and version.
    pub(crate) tool: String,
    pub(crate) command: Vec<String>,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) governor: String,
    pub(crate) kernel: String,
    pub(crate) memory_bytes: u64,
    /// The daemon's own word, as it answers IDENTIFY.
    pub(crate) daemon_version: String,
    /// Its command line, when its process is known.
    pub(crate) daemon_command: String,
    pub(crate) data_directory: String,
    /// Type and mount options of what that directory is on.
    pub(crate) filesystem: String,
    /// What an OK promised.
    pub(crate) durability: String,
}

impl Environment {
    /// This machine, now.
    pub(crate) fn here() -> Self {
        let first_line =
            |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine = process::Machine::here();
        Self {
            date: date(unix_time_s()),
            tool: concat!("nsq_bench ", env!("CARGO_PKG_VERSION")).to_owned(),
            command: std::env::args().collect(),
            cpu: machine.cpu,
            cores: machine.cores,
            governor: first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            kernel: machine.kernel,
            memory_bytes: machine.memory_bytes,
            ..Self::default()
        }
    }

    /// Adds what can be learned of the daemon at `endpoint`, whose process may be known. To be
    /// called while it runs, but not while it is measured.
    pub(crate) fn see_daemon(&mut self, endpoint: &Endpoint, pid: Option<u32>) {
        self.daemon_version = daemon_version(endpoint).unwrap_or_default();
        let Some(pid) = pid else { return };
        self.daemon_command = process::command_line(pid).unwrap_or_default();
        let words: Vec<&str> = self.daemon_command.split_ascii_whitespace().collect();
        let working_directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let data = flag_value(&words, "data-path").map_or(working_directory, PathBuf::from);
        self.filesystem = filesystem_of(&data);
        self.data_directory = data.to_string_lossy().into_owned();
        self.durability = durability(&words);
    }
}

/// The value of `-name VALUE`, `--name=VALUE` and their mixtures.
fn flag_value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or(word.strip_prefix('-')) else { continue };
        match flag.split_once('=') {
            Some((flag, value)) if flag == name => return Some(value),
            None if flag == name => return words.next().copied(),
            _ => {}
        }
    }
    None
}

/// What is known of the promise from the flags, or their defaults.
fn durability(words: &[&str]) -> String {
    let or = |name: &str, default| flag_value(words, name).unwrap_or(default).to_owned();
    format!(
        "OK means accepted, in memory up to {} messages for each queue; past that it is the \
         daemon's affair (nsqd: on disk, synced every {} messages or {})",
        or("mem-queue-size", "10000"),
        or("sync-every", "2500"),
        or("sync-timeout", "2s"),
    )
}

/// The type and options of the mount that `directory` is on.
fn filesystem_of(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    filesystem_in(&mounts, &directory.canonicalize().unwrap_or(directory.to_owned()))
}

fn filesystem_in(mounts: &str, directory: &Path) -> String {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    // Of mounts at the same place the last is on top.
    let holding = fields.filter(|mount| mount.len() > 3 && directory.starts_with(mount[1]));
    let nearest = holding.max_by_key(|mount| mount[1].len());
    nearest.map_or(String::new(), |mount| format!("{} ({})", mount[2], mount[3]))
}

/// Asks for the daemon's version over a connection of its own.
fn daemon_version(endpoint: &Endpoint) -> Option<String> {
    let mut stream = endpoint.connect().ok()?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT)).ok()?;
    let wishes = br#"{"client_id":"nsq_bench","feature_negotiation":true}"#;
    let size = u32::try_from(wishes.len()).ok()?.to_be_bytes();
    stream.write_all(&[b"  V2IDENTIFY\n", &size[..], wishes].concat()).ok()?;
    let mut header = [0; 8];
    stream.read_exact(&mut header).ok()?;
    let size = u32::from_be_bytes(*header.first_chunk()?) as usize;
    let mut answer = vec![0; size.checked_sub(4).filter(|size| *size <= PROBE_BYTES_MAX)?];
    stream.read_exact(&mut answer).ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
    answer["version"].as_str().map(str::to_owned)
}

/// A time since 1970 as a date of the Gregorian calendar, in UTC.
fn date(unix_time_s: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are wanted")]
    let seconds = unix_time_s as i64;
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have their leap day at the end; eras have 400 years.
    let days = day + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    format!(
        "{:04}-{month:02}-{:02} {:02}:{:02}:{:02}",
        era * 400 + year + i64::from(month <= 2),
        of_year - (153 * from_march + 2) / 5 + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0.0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_399.9), "2000-02-28 23:59:59");
        assert_eq!(date(951_782_400.0), "2000-02-29 00:00:00");
        assert_eq!(date(1_798_761_599.0), "2026-12-31 23:59:59");
    }

    #[test]
    fn flags_are_found_in_every_spelling() {
        let words = ["nsqd", "-data-path", "/x", "--sync-every=7", "-mem-queue-size=5"];
        assert_eq!(flag_value(&words, "data-path"), Some("/x"));
        assert_eq!(flag_value(&words, "sync-every"), Some("7"));
        assert_eq!(flag_value(&words, "path"), None);
        let text = durability(&words);
        assert!(text.contains("up to 5 messages") && text.contains("every 7 messages or 2s"));
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw,relatime 0 0\ntmpfs /tmp tmpfs rw 0 0\n\
                      /dev/b /tmp/x xfs ro 0 0\n";
        assert_eq!(filesystem_in(mounts, Path::new("/tmp/y")), "tmpfs (rw)");
        assert_eq!(filesystem_in(mounts, Path::new("/tmp/x/y")), "xfs (ro)");
        assert_eq!(filesystem_in(mounts, Path::new("/tmpest")), "ext4 (rw,relatime)");
    }

    #[test]
    fn this_machine_is_known() {
        let here = Environment::here();
        assert!(here.cores > 0 && !here.kernel.is_empty() && here.date.len() == 19);
    }
}
