//! What a seed decides before anything happens: sizes, levels, and which faults there are. Each
//! seed leaves most faults out and makes some limits tiny, so that together they reach corners
//! that no single mixture would.

use fastrand::Rng;
use ringmain::broker::Features;
use ringmain::broker::admin::ShardIndex;
use ringmain::broker::durability::Durability;
use ringmain::broker::eligible::Proximity;
use ringmain::broker::policy::Policies;
use ringmain::broker::session::Negotiated;
use ringmain::broker::shard::ShardConfig;
use ringmain::broker::time::Span;
use ringmain::protocol::command::CommandLimits;
use ringmain::protocol::identify::IdentifyLimits;
use ringmain_storage::log::LogOptions;

pub(crate) const LEVELS: [Durability; 4] =
    [Durability::Memory, Durability::Overflow, Durability::Logged, Durability::Synced];

/// How likely faults are, in ten thousandths of the occasions there are for each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// A request fails in a way that may be tried again.
    pub(crate) transient: u32,
    /// A transfer is cut short.
    pub(crate) short: u32,
    /// A write fails for good.
    pub(crate) write: u32,
    /// A sync fails.
    pub(crate) sync: u32,
    /// The process is killed, per step.
    pub(crate) kill: u32,
    /// The power goes, per step.
    pub(crate) power: u32,
    /// An orderly stop, per step.
    pub(crate) stop: u32,
    /// The disk becomes full, or has space again, per step.
    pub(crate) full: u32,
    /// A connection is reset, per step.
    pub(crate) reset: u32,
    /// Recovery is killed, per recovery.
    pub(crate) recovery: u32,
    /// Requests of the control plane that destroy something, per such request.
    pub(crate) destruction: u32,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) shards: u16,
    pub(crate) config: ShardConfig,
    /// The level of each topic; none follows the daemon.
    pub(crate) levels: Vec<Option<Durability>>,
    pub(crate) channels: usize,
    /// The shard's memory for logs, in bytes.
    pub(crate) buffer_bytes: usize,
    pub(crate) steps: u32,
    pub(crate) faults: Faults,
    /// Steps that disks and network take at a time; how eager consumers are, in percent.
    pub(crate) eagerness: [u32; 3],
}

impl Plan {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let shards = rng.u16(1..4);
        let mut config = config(shards);
        config.seed = rng.u64(..);
        config.durability = *choose(rng, &LEVELS);
        config.mem_queue_size = *choose(rng, &[0, 0, 1, 3, 20, 1000]);
        config.sync_every = *choose(rng, &[1, 7, 50, 2500]);
        config.sync_timeout = Span::from_ms(*choose(rng, &[50, 500, 2000]));
        config.budget_bytes = *choose(rng, &[200_000, 64 << 20, 64 << 20]);
        config.defaults.message_timeout = Span::from_ms(*choose(rng, &[200, 2000, 60_000]));
        config.log_options.segment_bytes_max = *choose(rng, &[32 << 10, 64 << 10]);
        let topics = rng.usize(1..4);
        let level = |rng: &mut Rng| rng.bool().then(|| *choose(rng, &LEVELS));
        Self {
            shards,
            levels: (0..topics).map(|_| level(rng)).collect(),
            channels: rng.usize(1..4),
            buffer_bytes: *choose(rng, &[512 << 10, 8 << 20]),
            steps: rng.u32(200..800),
            faults: Faults::random(rng),
            eagerness: [
                *choose(rng, &[1, 4, 12]),
                *choose(rng, &[1, 4, 12]),
                *choose(rng, &[10, 40, 80]),
            ],
            config,
        }
    }
}

impl Faults {
    fn random(rng: &mut Rng) -> Self {
        let mut often = |likely: u32, rate: u32| if rng.u32(..100) < likely { rate } else { 0 };
        Self {
            transient: often(40, 300),
            short: often(40, 300),
            write: often(8, 40),
            sync: often(10, 60),
            kill: often(45, 40),
            power: often(45, 40),
            stop: often(50, 40),
            full: often(25, 200),
            reset: often(40, 150),
            recovery: often(30, 4000),
            destruction: often(35, 5000),
        }
    }
}

/// One of some values.
pub(crate) fn choose<'a, T>(rng: &mut Rng, values: &'a [T]) -> &'a T {
    &values[rng.usize(..values.len())]
}

/// Whether something of that likelihood, in ten thousandths, happens.
pub(crate) fn happens(rng: &mut Rng, rate: u32) -> bool {
    rate > 0 && rng.u32(..10_000) < rate
}

/// A daemon's settings with segments of eight blocks, so that they are rolled all the time.
pub(crate) fn config(shards: u16) -> ShardConfig {
    ShardConfig {
        index: ShardIndex(0),
        shards,
        node: 1,
        seed: 7,
        mem_queue_size: 10_000,
        durability: Durability::Overflow,
        policies: Policies::default(),
        sync_every: 2500,
        sync_timeout: Span::from_ms(2000),
        log_options: LogOptions {
            segment_bytes_first: 32 << 10,
            segment_bytes_max: 64 << 10,
            commit_bytes_max: 24 << 10,
            read_bytes: 8 << 10,
            read_blocks_max: 2,
            open_segments_max: 2,
            spares_max: 2,
        },
        budget_bytes: 64 << 20,
        max_channel_consumers: 0,
        max_message_timeout: Span::from_ms(900_000),
        latency: None,
        defaults: Negotiated {
            heartbeat_interval: Some(Span::from_ms(30_000_000)),
            message_timeout: Span::from_ms(60_000),
            sample_rate: 0,
            output_buffer_bytes: 16384,
            output_buffer_timeout_ms: 250,
            proximity: Proximity::Global,
        },
        command_limits: CommandLimits {
            max_msg_size: 1 << 20,
            max_body_size: 5 << 20,
            max_rdy_count: 2500,
            max_req_timeout_ms: 3_600_000,
        },
        identify_limits: IdentifyLimits {
            max_heartbeat_interval_ms: 60_000,
            min_output_buffer_timeout_ms: 25,
            max_output_buffer_timeout_ms: 30_000,
            max_output_buffer_size: 65536,
            max_msg_timeout_ms: 900_000,
        },
        features: Features {
            version: "1.3.0",
            max_msg_timeout_ms: 900_000,
            tls: false,
            tls_required: false,
            snappy: false,
            deflate: false,
            max_deflate_level: 6,
            upgrade_time: Span::from_ms(5000),
            auth_required: false,
            topology_region: String::new(),
            topology_zone: String::new(),
            topology_aware: false,
        },
    }
}
