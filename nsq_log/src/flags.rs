//! What can be asked for on the command line.

use crate::executors::Executors;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::thread::available_parallelism;

/// Looks into the logs of a stopped nsqd, and imports the queues of another one.
#[derive(Debug, Parser)]
#[command(name = "nsq_log", version)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Threads that read, each with an executor of its own; the default is one for each core
    #[arg(long, global = true, value_name = "COUNT")]
    cores: Option<std::num::NonZeroUsize>,

    /// Read through the page cache, without io_uring
    #[arg(long, global = true)]
    plain: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read every record and say what is damaged; exit code 3 when something is
    Verify(LogFlags),
    /// Say what logs hold, and what each channel has yet to finish
    Stat(StatFlags),
    /// Write messages in the order of their log, as lines of JSON or as bare bodies
    Dump(DumpFlags),
    /// Take over topics, channels and messages of a stopped nsqd 1.3; exit code 3 when some of it
    /// was damaged
    Import(ImportFlags),
}

#[derive(Debug, Args)]
pub(crate) struct LogFlags {
    /// A data directory (--data-path of nsqd), or one <topic>.log in it
    pub(crate) path: PathBuf,

    /// Only this topic; may be repeated
    #[arg(long = "topic", value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,

    /// Look even while nsqd is running: what it writes meanwhile may look damaged
    #[arg(long)]
    pub(crate) live: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatFlags {
    #[command(flatten)]
    pub(crate) logs: LogFlags,

    /// One JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DumpFlags {
    #[command(flatten)]
    pub(crate) logs: LogFlags,

    /// Only what this channel has not finished
    #[arg(long)]
    pub(crate) channel: Option<String>,

    /// Only what some channel, or the topic, has not finished
    #[arg(long)]
    pub(crate) waiting: bool,

    /// Begin at this sequence
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    pub(crate) from: u64,

    /// No more than this many messages of each topic
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<u64>,

    /// Bodies as they are, each followed by a line feed
    #[arg(long)]
    pub(crate) raw: bool,

    /// With --raw: a zero byte instead of the line feed
    #[arg(long, requires = "raw")]
    pub(crate) null: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportFlags {
    /// The data directory of a stopped nsqd; nothing in it is changed or removed
    pub(crate) source: PathBuf,

    /// Write here instead of into the same directory; made if it does not exist
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) into: Option<PathBuf>,
}

impl Flags {
    pub(crate) fn executors(&self) -> Executors {
        let cores = self.cores.or_else(|| available_parallelism().ok());
        Executors { count: cores.map_or(1, usize::from), is_plain: self.plain }
    }
}
