//! The broker as a whole: shards in one thread, mail carried between them in any order a mesh of
//! queues allows, clients that speak real bytes, a clock that only the test moves.

mod auditor;
mod authorization;
mod cases;
mod cases_across;
mod disks;
mod invariants;
mod overflow;
mod policies;
mod random;
mod windows;
pub(crate) mod world;
