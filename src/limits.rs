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

/// Most shards a daemon runs: a mailbox for each ordered pair of them is a table of 65 536.
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

/// An output buffer that stays with its connection, in bytes: room for 25 `OK`s, and little enough
/// for ten thousand idle ones.
pub const OUTPUT_KEPT_BYTES_MAX: usize = 256;

/// Output buffers a shard keeps for the next delivery.
pub const OUTPUTS_SPARE_MAX: usize = 64;

/// A smaller output buffer is not worth keeping: it held answers, not messages.
pub const OUTPUT_SPARE_BYTES_MIN: usize = 4 * 1024;

/// A larger output buffer is given back: one large message had made it grow.
pub const OUTPUT_SPARE_BYTES_MAX: usize = 4 * OUTPUT_BYTES_MAX;

/// Bytes received from a client whose commands have to wait, before its socket is left unread.
pub const STASH_BYTES_MAX: usize = 64 * 1024;

/// Most bytes that one chunk of a snappy stream stands for (its framing format).
pub const SNAPPY_PLAIN_BYTES_MAX: usize = 64 * 1024;

/// Longest content of a chunk of a snappy stream, checksum included: the largest outcome of
/// compressing, and what NSQ takes. A longer one is refused before it is held.
pub const SNAPPY_CHUNK_BYTES_MAX: usize = 76_490 + 4;

/// Room made at a time for what comes out of deflate in either direction.
pub const DEFLATE_STEP_BYTES: usize = 32 * 1024;

/// Bytes that a connection may unpack in one turn; a few that come may stand for a thousand times
/// as many. The rest is unpacked in the turns that follow, between which others are served.
pub const UNPACKED_PER_TURN: usize = 256 * 1024;

/// Most memory, in bytes, of each buffer that a connection's layers keep while it is empty.
pub const LAYER_BYTES_KEPT: usize = 4 * 1024;

/// TLS handshakes that are at once with the thread that does their arithmetic, per shard: enough
/// to keep it busy from one turn to the next. The others wait where they end with their client.
pub const HANDSHAKES_AT_ONCE_MAX: usize = 16;

/// How long a client may take for its upgrades after IDENTIFY, TLS handshake included (NSQ).
pub const UPGRADE_TIME_MAX: Duration = Duration::from_secs(5);

/// Mail a shard can have for another before it has to keep some back.
pub const MAILBOX_CAPACITY: usize = 1024;

/// Mail taken from each other shard in one turn, so that one cannot keep a shard from its sockets.
pub const MAIL_PER_TURN: usize = 256;

/// Control requests a shard holds before the control thread has to wait.
pub const CONTROL_MAIL_MAX: usize = 1024;

/// Control requests carried out in one turn.
pub const CONTROL_MAIL_PER_TURN: usize = 32;

/// How often mail that found no room is tried again.
pub const OUTBOX_RETRY: Duration = Duration::from_millis(1);

/// Bodies of this many bytes and more are sent from where they were received; copying a smaller
/// one next to its header is cheaper than another I/O vector.
pub const SHARED_BODY_BYTES_MIN: usize = 16 * 1024;

/// How long a client without heartbeats may take to receive its last answers, in nanoseconds.
pub const CLOSE_PATIENCE_NS: u64 = 30_000_000_000;

/// Answers of one connection that may wait for other shards; then its commands wait.
pub const ANSWERS_MAX: usize = 1024;

/// Topics whose publish counts a connection keeps for `/stats`.
pub const PUBLISH_COUNTS_MAX: usize = 16;

/// What a message costs beside its body, for the memory budget: its slot, its entries in queues,
/// and its share of their growth.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// What each further channel that has a message costs, for the memory budget: an entry of 8 bytes
/// in a queue that may have grown to twice its need.
pub const MESSAGE_HOLDER_BYTES: usize = 16;

/// Messages of one batch that a shard keeps scratch memory for; a larger batch gets its own.
pub const SCRATCH_KEPT_MAX: usize = 4096;

/// Entries (8 KiB of them) that a channel's queue keeps room for while it is empty.
pub const QUEUE_IDLE_MAX: usize = 1024;

/// The least time between two looks through a queue for messages that have lived their time, in
/// nanoseconds.
pub const SWEEP_MIN_NS: u64 = 10_000_000;

/// The most of it, in nanoseconds, while something may come back from a client.
pub const SWEEP_MAX_NS: u64 = 1_000_000_000;

/// Reads of a log, of [`REFILL_MESSAGES_MAX`] messages each, in one such look.
pub const SWEEP_ROUNDS_MAX: usize = 4;

/// Dead letters of a channel that are on their way at a time.
pub const DEAD_LETTERS_SENT_MAX: usize = 64;

/// Dead letters of a channel that wait for their topic before it delivers nothing more.
pub const DEAD_LETTERS_WAITING_MAX: usize = 1024;

/// How long an orderly stop waits for answers about dead letters on their way.
pub const DEAD_LETTERS_PATIENCE: Duration = Duration::from_secs(1);

/// When a dead-letter topic that refused is tried again, in nanoseconds.
pub const DEAD_LETTER_RETRY_NS: u64 = 1_000_000_000;

/// Most HTTP tokens: each is compared with that of every request.
pub const HTTP_TOKENS_MAX: usize = 1024;

/// Longest HTTP token in bytes.
pub const HTTP_TOKEN_BYTES_MAX: usize = 1024;

/// Most `[[policy]]` tables of a configuration: each is compared with every new topic and channel.
pub const POLICY_ROWS_MAX: usize = 256;

/// Most topics of a daemon.
pub const TOPICS_MAX: usize = 1 << 20;

/// Most channels of a shard.
pub const CHANNELS_MAX: usize = 1 << 20;

/// Mail for one shard that may wait for room in its mailbox before publishes to it wait.
pub const OUTBOX_MAX: usize = 64;

/// A producer's connection moves to a topic's shard after this many publishes in a row to topics
/// of that shard: enough to be a habit, and to pay for the move (some tens of microseconds).
pub const MOVE_AFTER_PUBLISHES: u32 = 64;

/// Each move doubles the run it takes for the next, up to this many times (64 << 12 publishes).
pub const MOVES_MAX: u8 = 12;

/// Topics and channels in one page of a snapshot for `/stats`.
pub const STATS_PAGE_ROWS: usize = 512;

/// Slots looked at for one page of a snapshot.
pub const STATS_PAGE_SCAN: usize = 2048;

/// Time between heartbeats until a client negotiates another (NSQ: half of its client timeout).
pub const HEARTBEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);

/// `output_buffer_size` until a client negotiates another (NSQ).
pub const OUTPUT_BUFFER_BYTES_DEFAULT: u64 = 16 * 1024;

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

/// Least time between two writes of `nsqd.dat` that nobody waits for, so that a burst of new topics
/// is one write; also what a new topic may take longer to be in the file.
pub const METADATA_REST: Duration = Duration::from_millis(20);

/// How long after a failed write of `nsqd.dat` it is tried again.
pub const METADATA_RETRY: Duration = Duration::from_secs(1);

/// HTTP requests waiting for `nsqd.dat` to be written whose number the writer knows; further ones
/// wait for a place.
pub const METADATA_ASKERS_MAX: usize = 64;

/// Topics brought back at a time when the daemon starts; a shard's inbox must hold that many.
pub const RESTORED_AT_ONCE: usize = 256;

/// nsqlookupds a daemon registers with at a time; a fleet has three to five.
pub const LOOKUPS_MAX: usize = 64;

/// How long connecting to an nsqlookupd, and each wait for its answer, may take (NSQ).
pub const LOOKUP_TIME_MAX: Duration = Duration::from_secs(1);

/// Time between two PINGs to an nsqlookupd (NSQ). It forgets a daemon after 300 s of silence.
pub const LOOKUP_PING_EVERY: Duration = Duration::from_secs(15);

/// How long after a first failure an nsqlookupd is tried again; doubled with each further one.
pub const LOOKUP_RETRY_MIN: Duration = Duration::from_millis(250);

/// Longest time between two tries to reach an nsqlookupd (NSQ tries with every PING).
pub const LOOKUP_RETRY_MAX: Duration = LOOKUP_PING_EVERY;

/// Commands sent to an nsqlookupd before its answers are read: at some 140 bytes each they fit any
/// socket's buffer, so that neither side waits for the other to read.
pub const LOOKUP_PIPELINE_MAX: usize = 64;

/// Least time between two looks at all topics for nsqlookupd, so that a burst of new ones is one.
pub const LOOKUP_REST: Duration = Duration::from_millis(10);

/// How long after shards did not answer they are asked again for what nsqlookupd has to know.
pub const LOOKUP_SHARDS_RETRY: Duration = Duration::from_secs(1);

/// New topics for which nsqlookupds are asked for channels at a time; further ones wait.
pub const TOPICS_STARTING_MAX: usize = 64;

/// Questions to auth servers at a time; further clients wait for their turn.
pub const AUTH_AT_ONCE_MAX: usize = 256;

/// Clients whose question to an auth server has not yet been read by the control thread, which
/// reads them at once: beyond it AUTH fails.
pub const AUTH_QUESTIONS_MAX: usize = 64 * 1024;

/// The secret of AUTH, in bytes: it is kept as long as its connection, and goes into a URL, of
/// which servers take 8 to 64 KiB.
pub const AUTH_SECRET_BYTES_MAX: usize = 16 * 1024;

/// Patterns of topics and channels in what an auth server grants to one client.
pub const AUTH_PATTERNS_MAX: usize = 256;

/// Memory of one compiled pattern, in bytes; `\w`, which knows all of Unicode, takes some 70 KiB.
pub const AUTH_PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Compiled patterns kept for the next client that is granted the same.
pub const AUTH_PATTERNS_CACHED_MAX: usize = 1024;

/// The longest processing time that is told from longer ones, in nanoseconds: a week.
pub const LATENCY_MAX_NS: u64 = 7 * 24 * 3600 * 1_000_000_000;

/// The shortest processing time that is told from shorter ones, in nanoseconds.
pub const LATENCY_STEP_NS: u64 = 1000;

/// What a channel with processing times counts for in a page of `/stats`, in rows: adding up its
/// histograms takes as long as writing so many.
pub const STATS_LATENCY_ROWS: usize = 16;

/// How long looking up the name of a statsd server may take (NSQ).
pub const STATSD_RESOLVE_TIME_MAX: Duration = Duration::from_secs(1);

/// Largest answer read from an HTTP server of others (nsqlookupd, auth), in bytes: 100 000 channels
/// of 64 bytes.
pub const HTTP_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

const _: () = assert!(RESTORED_AT_ONCE <= CONTROL_MAIL_MAX);
const _: () = assert!(HTTP_BODY_BYTES_MAX >= 2 * BODY_BYTES_MAX_DEFAULT);
const _: () = assert!(HTTP_IDLE_TIME_MAX.as_secs() > ADMIN_REPLY_WAIT_MAX.as_secs());
const _: () = assert!(SHARED_BODY_BYTES_MIN < SLAB_BYTES / 2);
const _: () = assert!(CARRY_IDLE_BYTES_MAX < CARRY_BODY_BYTES_MAX);
const _: () = assert!(CARRY_BODY_BYTES_MAX <= SLAB_EXACT_BYTES_MAX);
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

/// Requests for files that a shard has with the kernel at a time, each a single completion to come.
/// Half of [`RING_COMPLETION_ENTRIES`]: they alone never overflow the ring. Further ones wait.
pub const FILE_REQUESTS_MAX: usize = 4096;

/// How often one step of a request for a file that was interrupted, or did not run, is tried again
/// at once. A kernel that says so each time would otherwise keep the shard busy for nothing.
pub const FILE_RETRIES_MAX: u8 = 8;

/// Most bytes of one read or write; the kernel's own limit is just below 2 GiB. More is continued.
pub const FILE_TRANSFER_BYTES_MAX: usize = 1 << 30;

/// Bytes of the first segment of a log beside two of the largest bodies: headers of segment and
/// records, and some 3000 messages in a batch.
pub const LOG_SEGMENT_SPARE_BYTES: u64 = 256 << 10;

/// Bytes of blocks that the logs of one shard have in memory, half of it at most for reading.
pub const LOG_BUFFER_BYTES_MAX: usize = 32 << 20;

/// Messages a channel reads back from its log at a time, when somebody takes them.
pub const REFILL_MESSAGES_MAX: usize = 1024;

/// Bytes of bodies a channel reads back at a time; one message may exceed it.
pub const REFILL_BYTES_MAX: usize = 256 << 10;

/// Deferred messages that a channel holds in memory; further ones are left to the log.
pub const DEFERRED_IN_MEMORY_MAX: usize = 10_000;

/// Deferred messages of a channel that are only in the log and of which it knows by itself when
/// they are due, some 25 bytes each; of further ones it knows where they begin.
pub const DEFERRED_INDEX_MAX: usize = 1 << 19;

/// Messages finished in a topic before its cursors are made durable: as many may be delivered again
/// after a crash, per channel.
pub const CHECKPOINT_AFTER_FINISHED: u64 = 10_000;

/// Nanoseconds between looks at the logs that have something to sync, to save or to try again.
pub const LOGS_TENDED_EVERY_NS: u64 = 1_000_000_000;

/// How long a start that has failed waits for a shard to say why.
pub const FAILURE_PATIENCE: Duration = Duration::from_millis(200);

/// How long the start waits for an address that is in use.
pub const BIND_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is tried again.
pub const BIND_RETRY: Duration = Duration::from_millis(20);

/// How long an orderly stop waits for the disk, before it leaves the logs as they are.
pub const SAVING_PATIENCE: Duration = Duration::from_secs(60);

/// How long a shard that saves sleeps at most before it looks at the clock again.
pub const SAVING_TURN: Duration = Duration::from_millis(50);

/// Sockets of one shard: the ring's user data gives a socket index 24 bits.
pub const SOCKETS_PER_SHARD_MAX: usize = 1 << 24;

/// Clients of nsqlookupd's TCP port at a time; further ones wait in the kernel's backlog. An idle
/// one costs some kilobytes.
pub const LOOKUPD_CONNECTIONS_MAX: usize = 16 * 1024;

/// Descriptors nsqlookupd leaves to HTTP and to itself when it has fewer than it wants.
pub const LOOKUPD_DESCRIPTORS_KEPT: usize = HTTP_CONNECTIONS_MAX + 64;

/// Longest line of the lookup protocol in bytes, the line feed included. The longest that makes
/// sense is UNREGISTER with two names, 142 bytes.
pub const LOOKUPD_LINE_BYTES_MAX: usize = 1024;

/// Largest body of the lookup protocol's IDENTIFY in bytes; nsqd's has some 300.
pub const LOOKUPD_BODY_BYTES_MAX: usize = 8 * 1024;

/// Bytes read from a client of nsqlookupd at a time.
pub const LOOKUPD_CHUNK_BYTES: usize = 4 * 1024;

/// Answers gathered for a client of nsqlookupd, in bytes, before they are sent; the last of them
/// may exceed it, by a quoted line at most.
pub const LOOKUPD_OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// How long a client of nsqlookupd that has not identified itself may take for a command.
pub const LOOKUPD_GREETING_TIME_MAX: Duration = Duration::from_secs(60);

/// How long one that has may be silent, at least; twice the time after which it counts as inactive
/// if that is longer. nsqd says something every 15 s.
pub const LOOKUPD_SILENCE_MIN: Duration = Duration::from_secs(600);

/// How long a client of nsqlookupd may take to receive an answer.
pub const LOOKUPD_WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// Topics and channels that nsqlookupd knows, some 400 bytes each.
pub const LOOKUPD_REGISTRATIONS_MAX: usize = 1 << 20;

/// Pairs of a topic or channel and an nsqd that has it, some 60 bytes each: 1000 nsqds with 1000
/// topics and 3 channels each.
pub const LOOKUPD_PLACEMENTS_MAX: usize = 1 << 22;

/// Documents about all topics or all nsqds that nsqlookupd has in memory at a time, each until its
/// last piece is with the client. Further requests wait.
pub const LOOKUPD_LISTINGS_AT_ONCE_MAX: usize = 16;

/// The pieces, in bytes, in which a large HTTP document is given to its connection.
pub const HTTP_PIECE_BYTES: usize = 32 * 1024;

/// Questions to the registrations that may wait; who has another one waits for room.
pub const LOOKUPD_QUESTIONS_MAX: usize = 1024;

/// Bytes the client library makes room for before it reads a socket; a message larger than this
/// takes several reads.
pub const CLIENT_READ_BYTES: usize = 64 * 1024;

/// Largest frame the client library takes, in bytes: far above the message of any sensible nsqd,
/// far below what would hurt the machine.
pub const CLIENT_FRAME_BYTES_MAX: usize = 256 << 20;

/// Bytes of commands a connection of the client library may have waiting for its socket; beyond,
/// publishes go to another nsqd or wait.
pub const CLIENT_OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Replies and publishes the client library takes up at a time before it looks at sockets again.
pub const CLIENT_TURN_MAX: usize = 1024;

/// Reads of one socket in a row before the client library looks at what else there is.
pub const CLIENT_READS_PER_TURN: u32 = 4;

/// Messages a consumer of the client library holds beyond twice its max-in-flight before it stops
/// reading: an nsqd may send a message again while its first copy is still worked on.
pub const CLIENT_MESSAGES_SPARE: usize = 1024;

/// Bytes of a body that count as one more publish in a producer's window.
pub const CLIENT_WINDOW_UNIT_BYTES: usize = 4096;

/// Seconds a stopping consumer waits for messages in hand before it cuts its connections.
pub const CLIENT_STOP_PATIENCE_S: u64 = 30;

/// Milliseconds before a lost nsqd is tried again for the first time; doubled each time.
pub const CLIENT_RETRY_MS: u64 = 100;

/// Milliseconds at most before a lost nsqd of a producer is tried again.
pub const CLIENT_RETRY_MS_MAX: u64 = 15_000;

/// Largest answer of a lookup service that is read, in bytes.
pub const CLIENT_LOOKUP_BYTES_MAX: usize = 16 << 20;

/// Most addresses of nsqd a consumer keeps; lookup services that name more are ignored.
pub const CLIENT_ADDRESSES_MAX: usize = 4096;

/// Largest answer of an nsqd or nsqlookupd that nsqadmin reads, in bytes: the statistics of some
/// hundred thousand channels.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 64 << 20;

/// Questions to daemons that nsqadmin has under way; further ones wait.
pub const ADMIN_QUESTIONS_AT_ONCE_MAX: usize = 128;

/// Largest body of a request to nsqadmin, in bytes (NSQ, where it has a limit at all).
pub const ADMIN_BODY_BYTES_MAX: usize = 1 << 20;

/// Notifications of nsqadmin that wait to be sent; further ones are dropped, and logged.
pub const ADMIN_NOTIFICATIONS_MAX: usize = 256;

/// How often nsqadmin asks the cluster while somebody watches one of its pages.
pub const ADMIN_POLL_EVERY: Duration = Duration::from_secs(2);

/// How soon it asks again when somebody wants to see what has just been changed.
pub const ADMIN_POLL_PAUSE_MIN: Duration = Duration::from_millis(150);

/// How long it goes on when nobody watches any more: long enough to go from page to page.
pub const ADMIN_LINGER: Duration = Duration::from_secs(30);

/// How long pages wait for daemons that are slow; they come without them then.
pub const ADMIN_POLL_PATIENCE: Duration = Duration::from_millis(700);

/// How old the picture of a page may be, when nothing has been changed through nsqadmin since.
pub const ADMIN_PICTURE_AGE_MAX: Duration = Duration::from_secs(5);

/// How long the last answer of an nsqd that does not answer any more is shown.
pub const ADMIN_STALE_AFTER: Duration = Duration::from_secs(15);

/// Shortest time that rates are taken over.
pub const ADMIN_RATE_TIME_MIN: Duration = Duration::from_millis(1500);

/// Pages that can be watched at a time, each a connection; further ones show no live values.
pub const ADMIN_WATCHERS_MAX: usize = 256;

/// How long a page is kept up to date over one request; then it makes another one. Less than a
/// connection may be silent.
pub const ADMIN_STREAM_TIME_MAX: Duration = Duration::from_secs(60);

/// Rows of a page's list, where its reader asks for no other number.
pub const ADMIN_PAGE_ROWS: usize = 250;

/// Rows of a page's list at most.
pub const ADMIN_PAGE_ROWS_MAX: usize = 5000;

/// Clients that a page shows.
pub const ADMIN_PAGE_CLIENTS_MAX: usize = 1000;

const _: () = assert!(ADMIN_STREAM_TIME_MAX.as_secs() < HTTP_IDLE_TIME_MAX.as_secs());
const _: () = assert!(ADMIN_WATCHERS_MAX < HTTP_CONNECTIONS_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX_DEFAULT <= BODY_BYTES_MAX_DEFAULT);
const _: () = assert!(NAME_BYTES_MAX < COMMAND_LINE_BYTES_MAX);
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && WHOLE_RECEIVE_BUFFERS.is_power_of_two());
const _: () = assert!(ACCEPT_BACK_OFF_NS < 1_000_000_000);
const _: () = assert!(FILE_REQUESTS_MAX < SOCKETS_PER_SHARD_MAX);
const _: () = assert!(FILE_REQUESTS_MAX * 2 <= RING_COMPLETION_ENTRIES as usize);
const _: () = assert!(2 * NAME_BYTES_MAX + 16 < LOOKUPD_LINE_BYTES_MAX);
const _: () = assert!(HTTP_PIECE_BYTES < HTTP_BUFFER_BYTES_MAX);
