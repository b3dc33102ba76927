//! The segmented append-only log: knows bytes, not what they are for.
//!
//! A [`log::Log`] is a pure state machine. It is given entries and completions, and gives requests;
//! who executes those is not its business: a shard's ring, plain files ([`blocking`]), or a
//! simulated disk ([`faulty_disk`]). No clock, no thread, no randomness but a seed.
//!
//! What is promised, of sequences, which are given to entries one by one:
//! * below [`log::Log::written_up_to`]: survives the end of the program;
//! * below [`log::Log::durable_up_to`]: survives the end of the power;
//! * after a crash the log holds what it held up to some sequence at or above those, in order,
//!   each entry as it was; a batch whole or not at all;
//! * what is damaged later costs the records it hits, is told, and is kept;
//! * nothing is removed but segments in which every cursor has finished everything, as a durable
//!   checkpoint says, and that without damage.
//!
//! What is assumed of the device: a sector of 512 bytes is written whole or not at all, and what
//! was synced stays. Any failed sync ends the log, for good; want of space only suspends it.
//!
//! The format of the files, and how it may change, is in `docs/STORAGE_FORMAT.md`.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod log;

pub mod cursors;
pub mod read;
pub mod record;
pub mod segment;

pub mod buffer;
pub mod request;

mod append;
mod checkpoint;
mod codec;
mod commit;
mod control;
mod prepare;
mod save;
pub mod scan;
mod segments;

pub mod recovery;

pub mod message;

pub mod blocking;
pub mod faulty_disk;
