//! The segmented append-only log: knows bytes, not NSQ.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod log;

pub mod cursors;
pub mod read;
pub mod record;
pub mod segment;

pub mod buffer;
pub mod request;

pub mod recovery;

pub mod faulty_disk;

mod append;
mod checkpoint;
mod codec;
mod commit;
mod control;
mod prepare;
mod save;
pub mod scan;
mod segments;
