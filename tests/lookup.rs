//! nsqlookupd, case by case: the lookup protocol, the HTTP API, and clients that mean harm.
//!
//! Runs against the `nsqlookupd` of this package, or against the program that
//! `RINGMAIN_NSQLOOKUPD` names; cases of what only ours has then pass unlooked at.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod lookup {
    mod client;
    mod daemon;
    mod f_cases;
    mod hostile;
    mod http_api;
    mod lifecycle;
    mod protocol;
}
