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

/// Most bytes kept of each text a client says about itself in IDENTIFY (client id, host name, user
/// agent, topology). NSQ keeps all of it; 1 KiB is far above what client libraries send.
pub const IDENTIFY_TEXT_BYTES_MAX: usize = 1024;

/// Size of the vectors that shards keep warm for message bodies, in bytes: a receive buffer's
/// worth of small messages, and small enough for the allocator to recycle without `mmap`.
pub const SLAB_BYTES: usize = 64 * 1024;

/// A request for at most this many bytes gets a vector of just that size, so that a body of some
/// kilobytes does not hold a whole slab of the budget.
pub const SLAB_EXACT_BYTES_MAX: usize = SLAB_BYTES / 4;

/// Most spare slabs a shard keeps warm (4 MiB).
pub const SLABS_SPARE_MAX: usize = 64;

/// Most bytes of an unfinished body that a decoder holds itself; from there on they are in memory
/// of the shard's budget. A peer must send this much before it costs a slab.
pub const CARRY_BODY_BYTES_MAX: usize = 4 * 1024;

/// Most memory, in bytes, that a decoder keeps between commands.
pub const CARRY_IDLE_BYTES_MAX: usize = 256;

/// Bytes of frames gathered for one connection before its subscriber has to wait: one send of this
/// size per turn costs least (16 KiB costs 30 % more per message). One message may exceed it.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Bodies of this many bytes and more are sent from where they were received; copying a smaller
/// one next to its header is cheaper than another I/O vector.
pub const SHARED_BODY_BYTES_MIN: usize = 16 * 1024;

/// Answers of one connection that may wait for other shards; then its commands wait.
pub const ANSWERS_MAX: usize = 1024;

/// Topics whose publish counts a connection keeps for `/stats`.
pub const PUBLISH_COUNTS_MAX: usize = 16;

/// What a message costs beside its body, for the memory budget: its slot, its entries in queues,
/// and its share of their growth.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// Messages of one batch that a shard keeps scratch memory for; a larger batch gets its own.
pub const SCRATCH_KEPT_MAX: usize = 4096;

/// Entries (8 KiB of them) that a channel's queue keeps room for while it is empty.
pub const QUEUE_IDLE_MAX: usize = 1024;

/// Most topics of a daemon.
pub const TOPICS_MAX: usize = 1 << 20;

/// Most channels of a shard.
pub const CHANNELS_MAX: usize = 1 << 20;

/// Mail for one shard that may wait for room in its mailbox before publishes to it wait.
pub const OUTBOX_MAX: usize = 64;

/// A producer's connection moves to a topic's shard after this many publishes in a row to topics
/// of that shard: enough to be a habit, and to pay for the move (some tens of microseconds).
pub const MOVE_AFTER_PUBLISHES: u32 = 64;

/// Topics and channels in one page of a snapshot for `/stats`.
pub const STATS_PAGE_ROWS: usize = 512;

/// Slots looked at for one page of a snapshot.
pub const STATS_PAGE_SCAN: usize = 2048;

const _: () = assert!(SHARED_BODY_BYTES_MIN < SLAB_BYTES / 2);
const _: () = assert!(CARRY_IDLE_BYTES_MAX < CARRY_BODY_BYTES_MAX);
const _: () = assert!(CARRY_BODY_BYTES_MAX <= SLAB_EXACT_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX_DEFAULT <= BODY_BYTES_MAX_DEFAULT);
const _: () = assert!(NAME_BYTES_MAX < COMMAND_LINE_BYTES_MAX);
