//! Work spread over the cores: one glommio executor on each, or plain threads where io_uring or
//! the memory it locks is denied.

use crate::files::Backend;
use glommio::{LocalExecutorBuilder, Placement};
use std::io::Write as _;
use std::pin::pin;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

/// Memory an executor registers with the kernel; larger reads take theirs from the heap.
const REGISTERED_BYTES: usize = 1 << 20;

/// How many executors there are, and of which kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Executors {
    /// One thread each.
    pub(crate) count: usize,
    /// Plain threads without asking for more.
    pub(crate) is_plain: bool,
}

impl Executors {
    /// Does every job, as many at a time as there are executors, and gives the results in the
    /// jobs' order.
    pub(crate) fn run<J: Send + Sync + Clone, R: Send>(
        self,
        jobs: Vec<J>,
        work: impl AsyncFn(Backend, J) -> R + Sync,
    ) -> Vec<R> {
        let this = self.probed();
        let next = AtomicUsize::new(0);
        let (results, done) = mpsc::channel();
        let count = self.count.clamp(1, jobs.len().max(1));
        thread::scope(|scope| {
            for core in 0..count {
                let (results, jobs, next, work) = (results.clone(), &jobs, &next, &work);
                scope.spawn(move || {
                    let take = async |backend| {
                        loop {
                            let index = next.fetch_add(1, Ordering::Relaxed);
                            let Some(job) = jobs.get(index) else { break };
                            let result = work(backend, job.clone()).await;
                            // The receiver outlives this scope.
                            let _ = results.send((index, result));
                        }
                    };
                    this.perform(core, count, take);
                });
            }
        });
        drop(results);
        let mut all: Vec<(usize, R)> = done.into_iter().collect();
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, result)| result).collect()
    }

    /// Does one job on this thread.
    pub(crate) fn run_here<R>(self, work: impl AsyncFnOnce(Backend) -> R) -> R {
        self.probed().perform(0, usize::MAX, work)
    }

    /// Without io_uring where there is none.
    fn probed(self) -> Self {
        if self.is_plain {
            return self;
        }
        match io_uring::IoUring::new(1) {
            Ok(_) => self,
            Err(error) => {
                tell(&error.to_string());
                Self { is_plain: true, ..self }
            }
        }
    }

    fn perform<R>(self, core: usize, count: usize, work: impl AsyncFnOnce(Backend) -> R) -> R {
        if self.is_plain {
            return at_once(work(Backend::Plain));
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let online = glommio::CpuSet::online().map_or(0, |set| set.into_iter().count());
        // Cores that this process may not use cannot be bound to.
        let is_bound = cores == online && count <= cores;
        let placement = if is_bound { Placement::Fixed(core) } else { Placement::Unbound };
        let builder = LocalExecutorBuilder::new(placement).io_memory(REGISTERED_BYTES);
        match builder.make() {
            Ok(executor) => executor.run(work(Backend::Direct)),
            Err(error) => {
                tell(&error.to_string());
                at_once(work(Backend::Plain))
            }
        }
    }
}

/// Says once why it may take longer.
fn tell(reason: &str) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        // Nobody to tell is no reason to stop.
        let _ = writeln!(
            std::io::stderr(),
            "nsq_log: no io_uring for direct reads ({reason}); reading through the page cache \
             instead. For direct reads allow io_uring and raise `ulimit -l` to 8192 or more"
        );
    });
}

/// Runs what never waits: reads of plain files.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("plain files never make anyone wait"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_and_results_are_in_order() {
        for is_plain in [false, true] {
            let executors = Executors { count: 3, is_plain };
            let jobs: Vec<u64> = (0..100).collect();
            let results = executors.run(jobs, async |backend, job| {
                assert_eq!(backend == Backend::Plain, is_plain);
                job * 2
            });
            assert!(results.into_iter().eq((0..100).map(|job| job * 2)));
        }
    }
}
