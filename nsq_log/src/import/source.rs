//! What an nsqd has left in its data directory: topics and channels as `nsqd.dat` says, and the
//! files of their queues. All of it is only read.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// nsqd's file of topics and channels.
pub(crate) const METADATA_FILE: &str = "nsqd.dat";

/// A queue's files are found by what follows its name.
const QUEUE_MARK: &str = ".diskqueue.";

/// Digits a segment's number has at least.
const NUMBER_DIGITS: usize = 6;

/// What is to be imported.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) topics: Vec<SourceTopic>,
    /// Files of queues that `nsqd.dat` does not name; nsqd leaves them alone as well.
    pub(crate) orphans: Vec<String>,
    /// `nsqd.dat` as it is.
    pub(crate) metadata: Vec<u8>,
}

/// A topic and its channels.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceTopic {
    pub(crate) name: String,
    /// What was not handed to channels.
    pub(crate) queue: QueueFiles,
    pub(crate) channels: Vec<SourceChannel>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SourceChannel {
    pub(crate) name: String,
    pub(crate) queue: QueueFiles,
}

/// The files of one queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueFiles {
    /// Where the positions are, if there is such a file.
    pub(crate) meta: Option<PathBuf>,
    /// By number.
    pub(crate) segments: BTreeMap<u64, PathBuf>,
    /// Segments that nsqd itself has given up on.
    pub(crate) bad: Vec<String>,
    /// Of all segments.
    pub(crate) bytes: u64,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    topics: Option<Vec<MetadataTopic>>,
}

#[derive(Deserialize)]
struct MetadataTopic {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    channels: Option<Vec<MetadataChannel>>,
}

#[derive(Deserialize)]
struct MetadataChannel {
    #[serde(default)]
    name: Option<String>,
}

/// Looks at a directory.
pub(crate) fn look(directory: &Path) -> Result<Source> {
    let path = directory.join(METADATA_FILE);
    let shown = path.display();
    let metadata = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = "there is none, so this is not the data directory of an nsqd";
            return Err(error).with_context(|| format!("cannot read {shown}: {text}"));
        }
        read => read.with_context(|| format!("cannot read {shown}"))?,
    };
    let parsed: Metadata = serde_json::from_slice(&metadata)
        .with_context(|| format!("{shown} is not what nsqd writes"))?;
    let mut queues = queues(directory)?;
    let mut topics = Vec::new();
    let mut seen = BTreeSet::new();
    for topic in parsed.topics.unwrap_or_default() {
        let name = topic.name.unwrap_or_default();
        if !is_name(&name) || !seen.insert(name.clone()) {
            continue;
        }
        let names = topic.channels.unwrap_or_default().into_iter().map(|c| c.name);
        let names: BTreeSet<_> = names.flatten().filter(|name| is_name(name)).collect();
        let channels = names.into_iter().map(|channel| {
            let queue = queues.remove(&format!("{name}:{channel}")).unwrap_or_default();
            SourceChannel { name: channel, queue }
        });
        let channels = channels.collect();
        let queue = queues.remove(&name).unwrap_or_default();
        topics.push(SourceTopic { name, queue, channels });
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    // Positions alone, of a queue that was emptied or deleted, are nothing to tell of.
    let orphans = queues.into_values().flat_map(|queue| queue.segments.into_values());
    let orphans = orphans.map(|path| file_name(&path)).collect();
    Ok(Source { topics, orphans, metadata })
}

/// All queues in a directory, by the names their files begin with.
fn queues(directory: &Path) -> Result<BTreeMap<String, QueueFiles>> {
    let context = || format!("cannot read {}", directory.display());
    let mut queues: BTreeMap<String, QueueFiles> = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((queue, part)) = name.rsplit_once(QUEUE_MARK) else { continue };
        let (part, is_bad) = part.strip_suffix(".bad").map_or((part, false), |part| (part, true));
        let Some(part) = part.strip_suffix(".dat").filter(|_| !queue.is_empty()) else { continue };
        let is_number = part.len() >= NUMBER_DIGITS && part.bytes().all(|b| b.is_ascii_digit());
        let number = part.parse().ok().filter(|_| is_number);
        let files = queues.entry(queue.to_owned()).or_default();
        match number {
            Some(_) if is_bad => files.bad.push(name),
            Some(number) => {
                files.bytes += entry.metadata().with_context(context)?.len();
                files.segments.insert(number, entry.path());
            }
            None if part == "meta" && !is_bad => files.meta = Some(entry.path()),
            None => {}
        }
    }
    Ok(queues)
}

/// NSQ's rule for names, ephemeral ones apart, which have no files.
fn is_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_the_queues_that_the_metadata_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in [
            "a.b.diskqueue.000000.dat",
            "a.b.diskqueue.1234567.dat",
            "a.b.diskqueue.000007.dat.bad",
            "a.b.diskqueue.meta.dat",
            "a.b.diskqueue.meta.dat.77.tmp",
            "a.b:c.diskqueue.000003.dat",
            "gone:c.diskqueue.000000.dat",
            "gone.diskqueue.meta.dat",
            "t#ephemeral:c.diskqueue.000001.dat",
            ".diskqueue.000000.dat",
            "a.b.diskqueue.00000.dat",
        ] {
            fs::write(path.join(name), "12345").unwrap();
        }
        let text = br#"{"topics":[{"name":"a.b","channels":[{"name":"d"},{"name":"c"}]},
            {"name":"x y"},{"name":"a.b"},{"name":"empty","channels":null}],"version":"1.3.0"}"#;
        fs::write(path.join(METADATA_FILE), text).unwrap();
        let source = look(path).unwrap();
        assert_eq!(source.metadata, text);
        let names: Vec<_> = source.topics.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, ["a.b", "empty"]);
        let topic = &source.topics[0];
        assert_eq!(topic.queue.segments.keys().copied().collect::<Vec<_>>(), [0, 1_234_567]);
        assert_eq!((topic.queue.bytes, topic.queue.bad.len()), (10, 1));
        assert!(topic.queue.meta.is_some());
        let channels: Vec<_> = topic.channels.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(channels, ["c", "d"]);
        assert_eq!(topic.channels[0].queue.segments.len(), 1);
        let orphans = ["gone:c.diskqueue.000000.dat", "t#ephemeral:c.diskqueue.000001.dat"];
        assert_eq!(source.orphans, orphans);
    }

    #[test]
    fn a_directory_without_metadata_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = format!("{:#}", look(directory.path()).unwrap_err());
        assert!(error.contains("not the data directory of an nsqd"), "{error}");
        fs::write(directory.path().join(METADATA_FILE), "{").unwrap();
        let error = format!("{:#}", look(directory.path()).unwrap_err());
        assert!(error.contains("is not what nsqd writes"), "{error}");
    }
}
