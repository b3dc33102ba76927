//! The process's memory, under the names of Go's heap that dashboards know.

use serde::Serialize;

/// NSQ's nine figures. Only `heap_in_use_bytes` has an equivalent here: the memory the process
/// really occupies. There is no garbage collector, so the others are 0.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Memory {
    pub(super) heap_objects: u64,
    pub(super) heap_idle_bytes: u64,
    pub(super) heap_in_use_bytes: u64,
    pub(super) heap_released_bytes: u64,
    pub(super) gc_pause_usec_100: u64,
    pub(super) gc_pause_usec_99: u64,
    pub(super) gc_pause_usec_95: u64,
    pub(super) next_gc_bytes: u64,
    pub(super) gc_total_runs: u64,
}

impl Memory {
    /// Asks the kernel; 0 when it does not say.
    pub(super) fn measure() -> Self {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let resident = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or_default();
        Self { heap_in_use_bytes: resident.unwrap_or_default() * page_bytes, ..Self::default() }
    }

    /// The figures with their names, in NSQ's order.
    pub(super) fn figures(&self) -> [(&'static str, u64); 9] {
        [
            ("heap_objects", self.heap_objects),
            ("heap_idle_bytes", self.heap_idle_bytes),
            ("heap_in_use_bytes", self.heap_in_use_bytes),
            ("heap_released_bytes", self.heap_released_bytes),
            ("gc_pause_usec_100", self.gc_pause_usec_100),
            ("gc_pause_usec_99", self.gc_pause_usec_99),
            ("gc_pause_usec_95", self.gc_pause_usec_95),
            ("next_gc_bytes", self.next_gc_bytes),
            ("gc_total_runs", self.gc_total_runs),
        ]
    }
}
