//! What all connections of nsqlookupd share.

use super::desk::Desk;
use super::flags::LookupOptions;
use super::registrations::{Limits, Patience};
use crate::limits::{LOOKUPD_LISTINGS_AT_ONCE_MAX, LOOKUPD_SILENCE_MIN};
use crate::log::DroppedLines;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Shared by all connections, TCP and HTTP.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) desk: Desk,
    pub(super) patience: Patience,
    pub(super) broadcast_address: String,
    /// The ports really listened on.
    pub(super) tcp_port: u16,
    pub(super) http_port: u16,
    pub(super) counters: Counters,
    /// When there is a log.
    pub(super) dropped_lines: Option<DroppedLines>,
    /// For documents about everything: only so many at once, until they have been sent.
    pub(super) listing_turns: Arc<Semaphore>,
}

/// Counted since the start, for `/metrics`.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// TCP connections open now.
    pub(super) connections: AtomicUsize,
    pub(super) identify: AtomicU64,
    pub(super) register: AtomicU64,
    pub(super) unregister: AtomicU64,
    pub(super) ping: AtomicU64,
    /// Commands that were answered with an error.
    pub(super) refused: AtomicU64,
}

impl Lookup {
    /// Must be called inside the runtime.
    pub(super) fn new(
        options: &LookupOptions,
        tcp_port: u16,
        http_port: u16,
        dropped_lines: Option<DroppedLines>,
    ) -> Self {
        Self {
            desk: Desk::open(Limits::default()),
            patience: Patience {
                inactive_after: options.inactive_producer_timeout,
                tombstone_lifetime: options.tombstone_lifetime,
            },
            broadcast_address: options.broadcast_address.clone(),
            tcp_port,
            http_port,
            counters: Counters::default(),
            dropped_lines,
            listing_turns: Arc::new(Semaphore::new(LOOKUPD_LISTINGS_AT_ONCE_MAX)),
        }
    }

    /// How long an nsqd may be silent before its connection is given up: long after it is no
    /// longer shown to anybody.
    pub(super) fn silence_max(&self) -> Duration {
        self.patience.inactive_after.saturating_mul(2).max(LOOKUPD_SILENCE_MIN)
    }
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
