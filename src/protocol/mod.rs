//! The NSQ wire: bytes ⇄ values. Pure: no I/O, no clock; decoding never allocates per message and
//! never panics, whatever the bytes are.
//!
//! Bytes come in through [`decoder`], which hands out [`command`]s; answers go out through
//! [`frame`]. Memory for bodies that arrive in pieces comes from [`slab`].

#![deny(clippy::indexing_slicing)]

pub mod name;

pub mod message;

pub mod slab;

pub mod command;

mod batch;

pub mod decoder;

pub mod go_json;

pub mod identify;

pub mod frame;

pub mod output;

pub mod compression;

pub mod error;

mod quote;
