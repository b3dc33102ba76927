//! Every limit of the daemon, in one place, each with its unit and where the number comes from.
//!
//! Limits that NSQ lets an operator set (message size, RDY, timeouts, …) have their *defaults*
//! here; the values in force travel in the options. The relations between limits are asserted at
//! compile time at the end of this file.

use std::time::Duration;

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

/// How often lines that the log has dropped are reported.
pub const LOG_DROPS_REPORTED_EVERY: Duration = Duration::from_secs(10);

/// How long the control thread keeps trying to put a request into a shard's full inbox.
pub const ADMIN_MAIL_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long the control thread waits for a shard's answer. A shard answers within a turn of its
/// loop, so this passes only when one is stuck.
pub const ADMIN_REPLY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Topics whose home the control thread remembers, some 100 bytes each.
pub const TOPIC_HOMES_CACHED_MAX: usize = 10_000;

/// HTTP connections at a time; further ones wait in the kernel's backlog.
pub const HTTP_CONNECTIONS_MAX: usize = 1024;

/// Headers of one HTTP request.
pub const HTTP_HEADERS_MAX: usize = 100;

/// Read buffer of an HTTP connection in bytes: the longest request line and headers.
pub const HTTP_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How long an HTTP client may take to send the head of a request.
pub const HTTP_HEADER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long an HTTP connection may neither send nor take a byte when it is to do either.
pub const HTTP_IDLE_TIME_MAX: Duration = Duration::from_secs(75);

/// How long an HTTP client may take to send a body.
pub const HTTP_BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Memory for all bodies of HTTP requests being received, in bytes. Requests beyond it wait.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The unit in which that memory is handed out, in bytes.
pub const BODY_PERMIT_BYTES: usize = 4 * 1024;

/// How much of a body nobody wants is read, in bytes, so that the client sees the answer.
pub const HTTP_DISCARD_BYTES_MAX: usize = 256 * 1024;

/// How long reading a body that nobody wants may take.
pub const HTTP_DISCARD_TIME_MAX: Duration = Duration::from_millis(500);

/// Requests for `/stats` worked on at a time; each holds a snapshot of every topic and client.
pub const HTTP_STATS_AT_ONCE_MAX: usize = 2;

/// How long HTTP requests in progress may take to finish when the daemon stops.
pub const HTTP_STOP_TIME_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(HTTP_BODY_BYTES_MAX >= 2 * BODY_BYTES_MAX_DEFAULT);
const _: () = assert!(HTTP_IDLE_TIME_MAX.as_secs() > ADMIN_REPLY_WAIT_MAX.as_secs());
const _: () = assert!(MESSAGE_BYTES_MAX_DEFAULT <= BODY_BYTES_MAX_DEFAULT);
const _: () = assert!(NAME_BYTES_MAX < COMMAND_LINE_BYTES_MAX);
