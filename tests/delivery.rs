//! Every acknowledged message reaches every channel, whatever happens to connections.
//!
//! Producers and consumers are cut off at random moments, in random ways, and come back. What a
//! consumer has surely finished must not be delivered to anyone again; what it has not may be.
//! The seed is printed; `RINGMAIN_SEED` repeats the choices (not the timing), and
//! `RINGMAIN_DELIVERY_MESSAGES` changes the number of messages.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod delivery {
    mod consumer;
    mod ledger;
    mod producer;
    mod wire;
    mod workload;
}
