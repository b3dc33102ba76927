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

/// Submissions a shard's ring holds before the kernel must be entered; a turn of more operations
/// costs one more system call per this many.
pub const RING_SUBMISSION_ENTRIES: u32 = 1024;

/// Completions a shard's ring holds; multishot operations post several per submission, hence 8
/// times the submissions. More than this in one turn overflow into kernel memory, which is slow.
pub const RING_COMPLETION_ENTRIES: u32 = 8 * RING_SUBMISSION_ENTRIES;

/// Receive buffers of a shard, a power of two. Together 512 KiB: a ring that stays in the cache
/// (16 MiB cost 22 % more per message in batches).
pub const RECEIVE_BUFFERS: u16 = 8;

/// Bytes of one receive buffer. Several receives fill one buffer from front to back; of 32 KiB a
/// batch of 40 KiB costs 10 % more, larger ones gain nothing.
pub const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;

/// Receive buffers of a shard on kernels before 6.12, where each receive takes a whole buffer: half
/// as many cost 64 busy connections 10 % more. Together 1 MiB.
pub const WHOLE_RECEIVE_BUFFERS: u16 = 64;

/// Bytes of one receive buffer on kernels before 6.12. Of 4 KiB a batch of 40 KiB costs 25 % more.
pub const WHOLE_RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;

/// Pieces of one vectored send (`UIO_MAXIOV` of Linux); longer ones are continued.
pub const SEND_PIECES_MAX: usize = 1024;

/// Seconds a closed socket may take to send what it was given before it is cut off.
pub const LINGER_S: u64 = 5;

/// Nanoseconds, below a second, that a listener rests after the kernel refused it a connection
/// (usually: no descriptors left).
pub const ACCEPT_BACK_OFF_NS: u32 = 100_000_000;

/// Connections the kernel holds for a listener that has not accepted them yet; the kernel lowers
/// it to `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Sockets of one shard: the ring's user data gives a socket index 24 bits.
pub const SOCKETS_PER_SHARD_MAX: usize = 1 << 24;

const _: () = assert!(MESSAGE_BYTES_MAX_DEFAULT <= BODY_BYTES_MAX_DEFAULT);
const _: () = assert!(NAME_BYTES_MAX < COMMAND_LINE_BYTES_MAX);
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && WHOLE_RECEIVE_BUFFERS.is_power_of_two());
const _: () = assert!(ACCEPT_BACK_OFF_NS < 1_000_000_000);
