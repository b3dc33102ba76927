//! One shard's thread: the loop that turns completions into events for the broker, and what the
//! broker decides into sends, mail and closed sockets. It decides nothing about NSQ itself.
//!
//! A turn reads the clock once, acts on everything that has happened, delivers, sends once per
//! connection that has output, posts mail, and enters the kernel once.

pub mod clock;
pub mod connection;
pub mod event_loop;

mod figures;
mod flush;
mod handshakes;
mod layers;
mod logs;
mod mail;
mod notices;
mod receive;
mod stage;
mod transfer;
mod upgrade;

pub use event_loop::{EventLoop, ShardParts};
pub use handshakes::Handshakes;
pub use mail::ShardMail;
pub use stage::{DaemonStage, Stage};
