//! NSQ's utilities, each with the flags, formats and exit codes of the original.
//!
//! A utility is a thin loop over the client library. What is slow or may block, standard input and
//! output and files, has a thread of its own, so that connections stay alive meanwhile.

mod flags;
mod host_pool;
mod lines;
mod progress;
mod run;
mod timings;

pub mod to_nsq;

pub mod nsq_tail;

pub mod nsq_stat;

pub mod nsq_to_file;

pub mod nsq_to_nsq;

pub mod nsq_to_http;
