//! What a service manager is told (systemd's `sd_notify`); without one all of this does nothing.

use super::shards::{Shards, Unavailable};
use crate::broker::admin::AdminRequest;
use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::time::{MissedTickBehavior, interval};

/// Clients are served from here on.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The daemon has begun to stop.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// As long as every shard answers, says so, twice in the time that the watchdog allows. A shard
/// that is stuck silences this thread, and the service manager acts.
pub(super) async fn feed_watchdog(shards: &Shards) {
    let Some(patience) = watchdog_enabled().filter(|patience| !patience.is_zero()) else { return };
    let mut ticks = interval(patience / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if all_answer(shards).await.is_ok() {
            tell(NotifyState::Watchdog);
        } else {
            tracing::error!("a shard does not answer: the watchdog is not fed");
        }
    }
}

async fn all_answer(shards: &Shards) -> Result<(), Unavailable> {
    for shard in shards.indexes() {
        shards.ask(shard, AdminRequest::Figures).await?;
    }
    Ok(())
}

fn tell(state: NotifyState<'_>) {
    let states = [state];
    if let Err(error) = notify(&states) {
        tracing::warn!("the service manager cannot be told {states:?} - {error}");
    }
}
