//! Which CPUs the process may use, and pinning a thread to one of them.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs the calling thread may run on, ascending; fewer than the machine has under `taskset` or
/// a cpuset. Ask before pinning.
///
/// # Errors
///
/// What the kernel says, for instance on a machine with more CPUs than a mask here holds.
pub fn available_cpus() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect())
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
///
/// `EINVAL` when the thread may not run there.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut wanted = CpuSet::new();
    wanted.set(cpu);
    Ok(sched_setaffinity(None, &wanted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_one_cpu() {
        let cpus = available_cpus().unwrap();
        let last = *cpus.last().unwrap();
        std::thread::spawn(move || {
            pin_to(last).unwrap();
            assert_eq!(available_cpus().unwrap(), [last]);
        })
        .join()
        .unwrap();
        assert_eq!(available_cpus().unwrap(), cpus);
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_refused() {
        assert!(pin_to(CpuSet::MAX_CPU).is_err());
        assert!(pin_to(CpuSet::MAX_CPU - 1).is_err());
    }
}
