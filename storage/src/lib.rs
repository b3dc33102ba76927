//! The segmented append-only log: knows bytes, not NSQ.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod buffer;
mod checkpoint;
mod codec;
mod control;
pub mod cursors;
pub mod record;
pub mod request;
pub mod scan;
pub mod segment;
