//! What every daemon wants of its process: many descriptors, an end when something panics, and to
//! know of log lines that were lost.

use crate::limits::LOG_DROPS_REPORTED_EVERY;
use crate::log::DroppedLines;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::thread::gettid;

/// How nice a thread is that gives way: it gets a tenth of a CPU that others want, too.
const GIVING_WAY: i32 = 10;

/// How nice a thread is that gives way to those as well: it gets a thirtieth.
const GIVING_WAY_TO_ALL: i32 = 15;

/// Has the calling thread, and those it starts, give way to the shards where they share a CPU.
pub(crate) fn give_way() {
    be_nice(GIVING_WAY);
}

/// The same for a thread with much to compute, which gives way to the control thread, too.
pub(crate) fn give_way_to_all() {
    be_nice(GIVING_WAY_TO_ALL);
}

fn be_nice(nice: i32) {
    if let Err(error) = setpriority_process(Some(gettid()), nice) {
        tracing::warn!("cannot lower the priority of a thread - {error}");
    }
}

/// A panic anywhere ends the process at once: what other threads know can no longer be
/// trusted, and a supervisor can start it again.
pub(crate) fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Raises the soft limit on open files to the hard one: a connection is a descriptor. Says how many
/// there may be now, if there is a limit.
pub(crate) fn allow_many_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("cannot raise the limit on open files - {error}");
            limit.current
        }
    }
}

/// Tells, as long as it is polled, of log lines that nobody will see.
pub(crate) async fn report_dropped_lines(dropped: DroppedLines) {
    let mut reported = 0;
    loop {
        tokio::time::sleep(LOG_DROPS_REPORTED_EVERY).await;
        let count = dropped.count();
        if count > reported {
            let lines = count - reported;
            tracing::warn!("{lines} log lines dropped: standard error is not read fast enough");
            reported = count;
        }
    }
}
