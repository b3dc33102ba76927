//! The NSQ wire: bytes ⇄ values. Pure: no I/O, no clock; decoding never allocates per command and
//! never panics, whatever the bytes are.

pub mod name;
