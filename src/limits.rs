//! Every limit of the daemon, in one place, each with its unit and where the number comes from.
//!
//! Limits that NSQ lets an operator set (message size, RDY, timeouts, …) have their *defaults*
//! here; the values in force travel in the options. The relations between limits are asserted at
//! compile time at the end of this file.

/// Longest topic or channel name in bytes, `#ephemeral` included (NSQ protocol).
pub const NAME_BYTES_MAX: usize = 64;

/// Longest command line in bytes, the line feed included (NSQ: the size of its read buffer).
pub const COMMAND_LINE_BYTES_MAX: usize = 16 * 1024;

/// Default of `--max-msg-size`: largest message body in bytes (NSQ).
pub const MESSAGE_BYTES_MAX_DEFAULT: usize = 1024 * 1024;

/// Default of `--max-body-size`: largest body of IDENTIFY, AUTH and MPUB in bytes (NSQ).
pub const BODY_BYTES_MAX_DEFAULT: usize = 5 * 1024 * 1024;

/// Default of `--max-rdy-count` (NSQ).
pub const READY_COUNT_MAX_DEFAULT: u64 = 2500;

/// Default of `--mem-queue-size`: messages held in memory per topic and per channel (NSQ).
pub const MEM_QUEUE_SIZE_DEFAULT: usize = 10_000;

/// Most shards a daemon runs; user data on the ring gives a shard index 8 bits.
pub const SHARDS_MAX: usize = 256;

/// Log lines waiting for standard error; further ones are dropped and counted. At some 200 bytes
/// each, 2 MB when nobody reads.
pub const LOG_LINES_QUEUED_MAX: usize = 10_000;

const _: () = assert!(MESSAGE_BYTES_MAX_DEFAULT <= BODY_BYTES_MAX_DEFAULT);
const _: () = assert!(NAME_BYTES_MAX < COMMAND_LINE_BYTES_MAX);
