//! nsqadmin as a program, on real clusters: the API case by case, its pages in a browser.
//!
//! Runs against the programs of this package, or those that `RINGMAIN_NSQADMIN`, `RINGMAIN_NSQD`
//! and `RINGMAIN_NSQLOOKUPD` name; cases of what only ours has then pass unlooked at.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod admin {
    mod access;
    mod api;
    mod browser;
    mod cluster;
    mod events;
    mod fake;
    mod g20;
    mod g_cases;
    mod partial;
}
