//! Where the logs are, and one of them as the daemon would find it at its next start.

use crate::files::Patch;
use crate::overlay::Overlay;
use anyhow::{Context, Result, ensure};
use ringmain_storage::cursors::Cursors;
use ringmain_storage::log::{LogOptions, Outline};
use ringmain_storage::recovery::{RecoveryReport, recover};
use ringmain_storage::request::{FileName, LogKey};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What the directory of a topic's log ends in.
pub(crate) const LOG_SUFFIX: &str = ".log";

/// A topic's log, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogDirectory {
    /// Whose log it is.
    pub(crate) topic: String,
    pub(crate) path: PathBuf,
}

/// A log as it was found, without having changed anything.
#[derive(Debug)]
pub(crate) struct FoundLog {
    pub(crate) directory: LogDirectory,
    pub(crate) segments: Vec<FoundSegment>,
    pub(crate) cursors: Cursors,
    /// Above every sequence given.
    pub(crate) next_sequence: u64,
    pub(crate) report: RecoveryReport,
}

/// One of its segments.
#[derive(Debug, Clone)]
pub(crate) struct FoundSegment {
    pub(crate) path: PathBuf,
    pub(crate) outline: Outline,
    /// What a start would write to it.
    pub(crate) patches: Vec<Patch>,
}

/// A data directory that no daemon changes while this value lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock ends with the descriptor")] File);

impl Lock {
    /// Locks a directory as nsqd does; `None` when somebody else has it.
    pub(crate) fn take(directory: &Path) -> Result<Option<Self>> {
        let path = directory.display();
        let file = File::open(directory).with_context(|| format!("cannot open {path}"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot lock {path}")),
        }
    }
}

/// The directory whose lock covers a path: itself, or the one that a log lies in.
pub(crate) fn data_path(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match topic_of(path) {
        Some(_) => parent.unwrap_or(Path::new(".")).to_owned(),
        None => path.to_owned(),
    }
}

/// The logs in a data directory, or the one log that a path names, in order of their topics.
pub(crate) fn find(path: &Path, topics: &[String]) -> Result<Vec<LogDirectory>> {
    let shown = path.display();
    let mut logs = Vec::new();
    if let Some(topic) = topic_of(path) {
        ensure!(path.is_dir(), "{shown}: there is no such log");
        logs.push(LogDirectory { topic, path: path.to_owned() });
    } else {
        let entries = fs::read_dir(path).with_context(|| format!("cannot read {shown}"))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {shown}"))?.path();
            if let Some(topic) = topic_of(&path).filter(|_| path.is_dir()) {
                logs.push(LogDirectory { topic, path });
            }
        }
    }
    logs.retain(|log| topics.is_empty() || topics.contains(&log.topic));
    logs.sort_by(|a, b| a.topic.cmp(&b.topic));
    for topic in topics {
        ensure!(logs.iter().any(|log| log.topic == *topic), "{shown} has no log of topic {topic}");
    }
    Ok(logs)
}

fn topic_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(LOG_SUFFIX)?;
    (!name.is_empty()).then(|| name.to_owned())
}

impl FoundLog {
    /// Finds what a start of the daemon would find.
    pub(crate) fn open(directory: LogDirectory) -> Result<Self> {
        let mut disk = Overlay::new(directory.path.clone());
        // The seed serves what is written, and nothing is.
        let recovered = recover(LogKey(0), LogOptions::default(), 0, &mut disk);
        let (log, report) =
            recovered.with_context(|| format!("cannot open {}", directory.path.display()))?;
        let segments = log.outlines().map(|outline| {
            let file = FileName::Segment(outline.identity.id);
            let path = directory.path.join(file.to_string());
            FoundSegment { path, outline, patches: disk.patches(file) }
        });
        let segments = segments.collect();
        let (cursors, next_sequence) = (log.cursors().clone(), log.appended_up_to());
        Ok(Self { directory, segments, cursors, next_sequence, report })
    }

    /// Bytes of all its segments' files.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.outline.identity.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_found_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in ["b.log", "a.log", "x.y.log", ".log", "nsqd.dat", "c"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::write(path.join("file.log"), "").unwrap();
        let topics = |topics: &[&str]| {
            let topics: Vec<_> = topics.iter().map(|&topic| topic.to_owned()).collect();
            let found = find(path, &topics).map_err(|error| error.to_string());
            found.map(|logs| logs.into_iter().map(|log| log.topic).collect::<Vec<_>>())
        };
        assert_eq!(topics(&[]).unwrap(), ["a", "b", "x.y"]);
        assert_eq!(topics(&["b"]).unwrap(), ["b"]);
        assert!(topics(&["b", "d"]).unwrap_err().ends_with("has no log of topic d"));
        let one = path.join("x.y.log");
        assert_eq!(find(&one, &[]).unwrap()[0].topic, "x.y");
        assert_eq!(data_path(&one), path);
        assert_eq!(data_path(path), path);
        assert_eq!(data_path(Path::new("a.log")), Path::new("."));
    }

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(directory.path()).unwrap();
        assert!(lock.is_some());
        assert!(Lock::take(directory.path()).unwrap().is_none());
        drop(lock);
        assert!(Lock::take(directory.path()).unwrap().is_some());
    }
}
