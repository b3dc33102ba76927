//! What a process costs, from `/proc`: CPU time, context switches, resident memory, writes.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// Counters of a process at one moment; all but the memory only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessSample {
    /// Time on a CPU, of all live threads (`/proc/PID/task/*/schedstat`).
    pub(crate) cpu_ns: u64,
    /// Clock ticks in user mode; with the next, only good for their ratio.
    pub(crate) user_ticks: u64,
    /// Clock ticks in the kernel.
    pub(crate) system_ticks: u64,
    /// Times a thread went to sleep.
    pub(crate) voluntary_switches: u64,
    /// Times a thread was made to wait for the CPU.
    pub(crate) involuntary_switches: u64,
    /// Resident memory (VmRSS).
    pub(crate) resident_bytes: u64,
    /// Sent to storage (`/proc/PID/io`); `None` where that may not be read.
    pub(crate) written_bytes: Option<u64>,
    /// Read from storage.
    pub(crate) read_bytes: Option<u64>,
}

impl ProcessSample {
    /// Reads the counters of process `pid`.
    pub(crate) fn take(pid: u32) -> Result<Self> {
        let read = |path: &str| {
            fs::read_to_string(path)
                .with_context(|| format!("cannot read {path}: is process {pid} still running?"))
        };
        let mut sample = Self::default();
        let tasks = format!("/proc/{pid}/task");
        let entries = fs::read_dir(&tasks)
            .with_context(|| format!("cannot read {tasks}: is process {pid} still running?"))?;
        for entry in entries {
            let task = entry?.path();
            // A thread may end between the listing and the reading.
            if let Ok(text) = fs::read_to_string(task.join("schedstat")) {
                sample.cpu_ns += parse_schedstat(&text);
            }
            if let Ok(text) = fs::read_to_string(task.join("status")) {
                sample.voluntary_switches += status_number(&text, "voluntary_ctxt_switches:");
                sample.involuntary_switches += status_number(&text, "nonvoluntary_ctxt_switches:");
            }
        }
        (sample.user_ticks, sample.system_ticks) = parse_stat(&read(&format!("/proc/{pid}/stat"))?);
        let status = read(&format!("/proc/{pid}/status"))?;
        sample.resident_bytes = status_number(&status, "VmRSS:") * 1024;
        if let Ok(io) = fs::read_to_string(format!("/proc/{pid}/io")) {
            // At the start of a line: there is a cancelled_write_bytes too.
            sample.written_bytes = Some(status_number(&io, "write_bytes:"));
            sample.read_bytes = Some(status_number(&io, "read_bytes:"));
        }
        Ok(sample)
    }

    /// What was used since `earlier`, in seconds of CPU: user and system.
    #[expect(clippy::cast_precision_loss, reason = "days of nanoseconds are far below 2^53")]
    pub(crate) fn cpu_seconds_since(&self, earlier: &Self) -> CpuSeconds {
        let total = self.cpu_ns.saturating_sub(earlier.cpu_ns) as f64 / 1e9;
        let user = self.user_ticks.saturating_sub(earlier.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(earlier.system_ticks) as f64;
        let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        CpuSeconds { total, user: total * user_share, system: total * (1.0 - user_share) }
    }
}

/// CPU time of a window: the total from schedstat, split as the clock ticks are.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CpuSeconds {
    pub(crate) total: f64,
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// Time on a CPU of one of our own threads.
pub(crate) fn own_thread_cpu_ns(thread_id: i32) -> Result<u64> {
    let path = format!("/proc/self/task/{thread_id}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(parse_schedstat(&text))
}

/// The command line of a process, for the report.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    Some(text.trim_end().to_owned())
}

/// Where a run was made.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) memory_bytes: u64,
}

impl Machine {
    /// This machine; what cannot be read is left empty.
    pub(crate) fn here() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpu: model.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: kernel.trim().to_owned(),
            memory_bytes: status_number(&memory, "MemTotal:") * 1024,
        }
    }
}

/// Time on the CPU in nanoseconds: the first of three numbers.
fn parse_schedstat(text: &str) -> u64 {
    text.split_ascii_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// utime and stime. The name before them is in parentheses and may itself contain any character.
fn parse_stat(text: &str) -> (u64, u64) {
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// The number after `key` at the start of a line.
fn status_number(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value.map_or(0, parse_schedstat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_where_they_are() {
        assert_eq!(parse_schedstat("123456789 42 7\n"), 123_456_789);
        let stat = "17 (a) b (c)) S 1 17 17 0 -1 4194560 900 0 3 0 51 23 0 0 20 0 9 0 8000 1 2";
        assert_eq!(parse_stat(stat), (51, 23));
        let status = "Name:\tx\nVmRSS:\t   2048 kB\nvoluntary_ctxt_switches:\t5\n\
                      nonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(status_number(status, "VmRSS:"), 2048);
        assert_eq!(status_number(status, "voluntary_ctxt_switches:"), 5);
        assert_eq!(status_number(status, "nonvoluntary_ctxt_switches:"), 9);
        assert_eq!(status_number(status, "VmHWM:"), 0);
    }

    #[test]
    fn cpu_time_is_split_as_the_ticks_are() {
        let later = ProcessSample {
            cpu_ns: 3_000_000_000,
            user_ticks: 30,
            system_ticks: 90,
            ..ProcessSample::default()
        };
        let cpu = later.cpu_seconds_since(&ProcessSample::default());
        assert!((cpu.total - 3.0).abs() < 1e-9);
        assert!((cpu.user - 0.75).abs() < 1e-9);
        assert!((cpu.system - 2.25).abs() < 1e-9);
    }

    #[test]
    fn this_process_can_be_sampled_and_only_grows() {
        let before = ProcessSample::take(std::process::id()).unwrap();
        let mut sum = 0u64;
        for number in 0..20_000_000u64 {
            sum = std::hint::black_box(sum ^ number);
        }
        let after = ProcessSample::take(std::process::id()).unwrap();
        assert!(after.cpu_ns > before.cpu_ns);
        assert!(after.resident_bytes > 100_000);
        assert!(after.written_bytes.is_some() && after.read_bytes.is_some());
        assert!(ProcessSample::take(u32::MAX).is_err());
    }
}
