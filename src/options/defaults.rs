//! Defaults that come from the machine: host name, cores, memory, and the node id made of them.

use md5::{Digest, Md5};
use std::fs;
use std::path::Path;

/// The operating system's host name; empty when it has none or it is not UTF-8.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_str().unwrap_or_default().to_owned()
}

/// The node id NSQ gives a host: CRC-32 (IEEE) of the 16 MD5 bytes of its name, modulo 1024.
pub(super) fn node_id(hostname: &str) -> i64 {
    i64::from(crc32fast::hash(&Md5::digest(hostname.as_bytes())) % 1024)
}

/// One shard for each core this process may use.
pub(super) fn shards() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(crate::limits::SHARDS_MAX)
}

/// Half of the memory the process may still take, in bytes: what the kernel calls available, or
/// what is left of the tightest control group's limit when that is less.
pub(super) fn memory_budget() -> u64 {
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_limit(&text));
    match (available, group) {
        (Some(available), Some(group)) => available.min(group) / 2,
        (Some(bytes), None) | (None, Some(bytes)) => bytes / 2,
        (None, None) => MEMORY_BUDGET_UNKNOWN,
    }
}

/// The budget when the machine does not say what it has.
const MEMORY_BUDGET_UNKNOWN: u64 = 512 * 1024 * 1024;

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The least limit on the way from the process's control group to the root, version 2 or 1.
fn group_limit(proc_self_cgroup: &str) -> Option<u64> {
    let limits = proc_self_cgroup.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let path = path.trim_start_matches('/');
        // Inside a container the path may name a directory of the host: the walk up to the
        // root, which is always tried, finds the container's own limit.
        Path::new(path).ancestors().filter_map(|group| read_limit(root, group, file)).min()
    });
    limits.min()
}

/// A limit file's bytes; `None` for `max`, for version 1's "no limit", and for no such file.
fn read_limit(root: &str, group: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(Path::new(root).join(group).join(file)).ok()?;
    text.trim().parse().ok().filter(|bytes| *bytes < i64::MAX as u64 / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_are_those_nsq_gives() {
        // What the original prints as `ID:` on a host named `vm`.
        assert_eq!(node_id("vm"), 617);
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        let meminfo = "MemTotal: 100 kB\nMemAvailable:   24046592 kB\n";
        assert_eq!(mem_available(meminfo), Some(24_046_592 * 1024));
        assert_eq!(mem_available("MemTotal: 100 kB\n"), None);
    }

    #[test]
    fn a_budget_is_always_found() {
        assert!(memory_budget() > 0);
    }
}
