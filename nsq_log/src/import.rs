//! `import`: takes over what a stopped nsqd has left, into logs of ours. The files of nsqd are only
//! read; `staging` says how the outcome appears all at once.

mod bodies;
mod index;
mod log_writer;
mod queue;
mod source;
mod staging;
mod topic;

use crate::executors::Executors;
use crate::logs::{LOG_SUFFIX, Lock};
use crate::progress::Progress;
use crate::verify::plural;
use anyhow::{Context, Result, bail, ensure};
use source::{METADATA_FILE, Source, SourceTopic};
use staging::{Stage, Target};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use topic::{ImportedQueue, ImportedTopic, import_topic};

/// Imports one data directory into itself or into another one; whether nothing was damaged.
///
/// # Errors
/// When a directory is in use, or was imported before, or something cannot be read or written.
/// Nothing has been changed then, but for what the next try removes or finishes.
pub(crate) fn import(
    source: &Path,
    into: Option<&Path>,
    executors: Executors,
    out: &mut impl Write,
) -> Result<bool> {
    let _source_lock = lock(source)?;
    let mut into = into;
    if let Some(path) = into {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let canonical = |path: &Path| path.canonicalize();
        if canonical(path)? == canonical(source)? {
            into = None;
        }
    }
    let _target_lock = into.map(lock).transpose()?;
    let directory = into.unwrap_or(source);
    let target = Target::new(directory);
    match target.stage()? {
        Stage::None => {}
        Stage::Ready => {
            target.finish()?;
            writeln!(out, "finished an import that was cut off:\n{}", target.report())?;
            return Ok(true);
        }
        Stage::Done => bail!(
            "{} was imported into before, as {} says. To do it again, which delivers every \
             message again, remove that file and the logs",
            directory.display(),
            target.marker().display()
        ),
    }
    let found = source::look(source)?;
    ensure_free(&found, &target, into.is_some())?;
    let staging = target.begin()?;
    let imported = import_topics(&found, &staging, executors);
    let report = imported.and_then(|topics| {
        if into.is_some() {
            staging::write_durably(&staging.join(METADATA_FILE), &found.metadata)?;
        }
        Ok(Report::of(&topics, &found, source, directory))
    });
    let report = report.inspect_err(|_| target.abandon())?;
    target.commit(&report.text)?;
    write!(out, "{}", report.text)?;
    Ok(!report.is_damaged)
}

fn lock(directory: &Path) -> Result<Lock> {
    let lock = Lock::take(directory)?;
    lock.with_context(|| {
        format!("{} is in use by a running nsqd: stop it first", directory.display())
    })
}

/// Refuses before anything is written.
fn ensure_free(found: &Source, target: &Target, is_elsewhere: bool) -> Result<()> {
    if is_elsewhere {
        target.ensure_free(METADATA_FILE, "--into takes a directory that no nsqd has used")?;
    }
    let has_messages = |topic: &&SourceTopic| {
        let mut queues = topic.channels.iter().map(|channel| &channel.queue);
        topic.queue.bytes > 0 || queues.any(|queue| queue.bytes > 0)
    };
    for topic in found.topics.iter().filter(has_messages) {
        let name = format!("{}{LOG_SUFFIX}", topic.name);
        target.ensure_free(&name, "the topic has a log; use --into to import elsewhere")?;
    }
    Ok(())
}

fn import_topics(
    found: &Source,
    staging: &Path,
    executors: Executors,
) -> Result<Vec<ImportedTopic>> {
    let queues = found.topics.iter().flat_map(|topic| {
        let channels = topic.channels.iter().map(|channel| &channel.queue);
        channels.chain([&topic.queue])
    });
    // Every byte is looked at once, and about as many are copied.
    let progress = Progress::new("importing", 2 * queues.map(|queue| queue.bytes).sum::<u64>());
    let topics = executors.run(found.topics.clone(), async |backend, topic| {
        let imported = import_topic(backend, &topic, staging, &progress).await;
        imported.with_context(|| format!("topic {}", topic.name))
    });
    progress.finish();
    topics.into_iter().collect()
}

/// What is said at the end, and kept as the mark that an import was made.
struct Report {
    text: String,
    is_damaged: bool,
}

impl Report {
    fn of(topics: &[ImportedTopic], found: &Source, source: &Path, directory: &Path) -> Self {
        let mut report = Self { text: String::new(), is_damaged: false };
        for topic in topics {
            report.add_topic(topic);
        }
        for name in &found.orphans {
            report.line(format_args!("{name}: of no topic or channel in nsqd.dat, not imported"));
        }
        let messages: u64 = topics.iter().map(|topic| topic.messages).sum();
        let queues = topics.iter().flat_map(|topic| &topic.queues);
        let held: u64 = queues.map(|queue| queue.messages).sum();
        let count = topics.len() as u64;
        report.line(format_args!(
            "imported {messages} {}, {held} with the copies that channels had, of {count} {} from \
             {} into {}",
            plural(messages, "message"),
            plural(count, "topic"),
            source.display(),
            directory.display()
        ));
        report.line(format_args!(
            "nsqd's files are as they were; remove *.diskqueue.* once you do not need them any more"
        ));
        report
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = writeln!(self.text, "{text}");
    }

    fn add_topic(&mut self, topic: &ImportedTopic) {
        let ImportedTopic { name, messages, queues } = topic;
        self.line(format_args!("{name}: {messages} {} written", plural(*messages, "message")));
        for queue in queues {
            self.add_queue(name, queue);
        }
    }

    fn add_queue(&mut self, topic: &str, queue: &ImportedQueue) {
        let ImportedQueue { channel, messages, tried, repeated, depth, remarks, .. } = queue;
        self.is_damaged |= remarks.is_damaged;
        let is_topic = channel.is_empty();
        let name = if is_topic { topic.to_owned() } else { format!("{topic}:{channel}") };
        if !is_topic || *messages > 0 {
            let word = plural(*messages, "message");
            let tried = match tried {
                0 => String::new(),
                count => format!(", {count} of them delivered before"),
            };
            self.line(format_args!("  {name}: {messages} {word}{tried}"));
        }
        if *repeated > 0 {
            let word = if *repeated == 1 { "record is" } else { "records are" };
            let text = "copies of others here, as a crash of nsqd leaves them";
            self.line(format_args!("  {name}: {repeated} {word} {text}"));
        }
        let read = messages + repeated;
        if let Some(depth) = depth.filter(|depth| *depth != read) {
            self.line(format_args!("  {name}: nsqd itself had counted {depth}"));
        }
        for line in &remarks.lines {
            self.line(format_args!("  {name}: {line}"));
        }
        if remarks.more > 0 {
            self.line(format_args!("  {name}: and {} more", remarks.more));
        }
    }
}

/// Imports, and says on standard output what came of it.
pub(crate) fn run(source: &Path, into: Option<&Path>, executors: Executors) -> Result<bool> {
    ensure!(source.is_dir(), "{} is not a directory", source.display());
    import(source, into, executors, &mut io::stdout().lock())
}
