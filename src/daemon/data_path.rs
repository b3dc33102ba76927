//! The data directory: it belongs to one daemon at a time, and what it holds that is not ours.

use crate::control::metadata::{DELETED_SUFFIX, METADATA_FILE, topic_of_log};
use crate::http::listener::go_text;
use crate::protocol::name::TopicName;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Files named in the warning about what is not read.
const NAMED_MAX: usize = 3;

/// The report that `nsq_log import` leaves when it is done.
const IMPORTED: &str = "nsq_log.imported";

/// Where an import lies that was cut off between its last steps: some of it is in place.
const HALF_IMPORTED: &str = "nsq_log.import.ready";

/// A data directory that no other daemon uses while this value lives.
#[derive(Debug)]
pub struct DataPath {
    path: PathBuf,
    /// Holds the lock, which ends with the descriptor, and so with the process however it ends.
    _directory: File,
}

impl DataPath {
    /// Locks the directory that `--data-path` names; the empty one is the working directory.
    ///
    /// # Errors
    /// NSQ's text, when it does not exist or another daemon has it; and when an import into it is
    /// not finished.
    pub fn lock(data_path: &str) -> Result<Self, String> {
        let working = || std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let path = if data_path.is_empty() { working() } else { PathBuf::from(data_path) };
        let name = path.display();
        let directory = File::open(&path).map_err(|error| {
            format!("failed to lock data-path: open {name}: {}", go_text(&error))
        })?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let reason = go_text(&error.into());
            format!(
                "failed to lock data-path: cannot flock directory {name} - {reason} (possibly in \
                 use by another instance of nsqd)"
            )
        })?;
        if fs::exists(path.join(HALF_IMPORTED)).unwrap_or(false) {
            return Err(format!(
                "failed to lock data-path: an import into {name} was cut off. To finish it, run \
                 nsq_log import {name}"
            ));
        }
        Ok(Self { path, _directory: directory })
    }

    /// Looks at what lies there: removes what a write of the metadata left behind when it was cut
    /// off, or a removal of a log, and warns of nsqd's files of messages. Gives the topics that
    /// have a log here.
    pub(super) fn look_around(&self) -> Vec<TopicName> {
        let path = self.path.display();
        let (mut foreign, mut topics) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!("cannot read {path} - {}", go_text(&error));
                return topics;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_remains(&name) {
                // A file that stays harms nothing.
                let _ = fs::remove_file(entry.path());
            } else if is_nsqd_queue(&name) {
                foreign.push(name);
            } else if is_deleted_log(&name) {
                let _ = fs::remove_dir_all(entry.path());
            } else if let Some(topic) = topic_of_log(&name).filter(|_| entry.path().is_dir()) {
                topics.push(topic);
            }
        }
        foreign.sort();
        let is_imported = fs::exists(self.path.join(IMPORTED)).unwrap_or(false);
        if let Some(warning) = warning(&self.path, &foreign, is_imported) {
            tracing::warn!("{warning}");
        }
        topics
    }
}

/// Whether a name is that of a log whose topic was deleted.
fn is_deleted_log(name: &str) -> bool {
    name.strip_suffix(DELETED_SUFFIX).is_some_and(|log| topic_of_log(log).is_some())
}

/// Whether a name is that of a metadata file that was never finished: `nsqd.dat.<number>.tmp`.
fn is_remains(name: &str) -> bool {
    let number = name.strip_prefix(METADATA_FILE).and_then(|rest| rest.strip_prefix('.'));
    let number = number.and_then(|rest| rest.strip_suffix(".tmp"));
    number.is_some_and(|digits| is_number(digits, 1))
}

/// Whether a name is that of a file in which nsqd keeps messages, or their positions:
/// `<queue>.diskqueue.000000.dat`, `<queue>.diskqueue.meta.dat`.
fn is_nsqd_queue(name: &str) -> bool {
    let Some((queue, part)) = name.rsplit_once(".diskqueue.") else { return false };
    let part = part.strip_suffix(".dat");
    !queue.is_empty() && part.is_some_and(|part| part == "meta" || is_number(part, 6))
}

fn is_number(text: &str, digits_min: usize) -> bool {
    text.len() >= digits_min && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn warning(directory: &Path, files: &[String], is_imported: bool) -> Option<String> {
    let (first, more) = files.split_at(files.len().min(NAMED_MAX));
    let names = first.join(", ");
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let path = directory.display();
    let then = if is_imported {
        format!(
            "What was in them was imported, as {path}/{IMPORTED} says; remove them when they are \
             not needed any more"
        )
    } else {
        format!("To deliver what is in them, stop this nsqd and run: nsq_log import {path}")
    };
    (!files.is_empty()).then(|| {
        format!("message files of nsqd in {path} are left untouched: {names}{more}. {then}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().to_str().unwrap();
        let first = DataPath::lock(path).unwrap();
        assert_eq!(
            DataPath::lock(path).unwrap_err(),
            format!(
                "failed to lock data-path: cannot flock directory {path} - resource temporarily \
                 unavailable (possibly in use by another instance of nsqd)"
            )
        );
        drop(first);
        DataPath::lock(path).unwrap();
    }

    #[test]
    fn a_directory_must_exist() {
        assert_eq!(
            DataPath::lock("/nonexistent/data").unwrap_err(),
            "failed to lock data-path: open /nonexistent/data: no such file or directory"
        );
    }

    #[test]
    fn files_are_known_by_their_names() {
        for (name, queue, remains) in [
            ("t.diskqueue.000000.dat", true, false),
            ("t:c.diskqueue.1234567.dat", true, false),
            ("a.diskqueue.x:c#ephemeral.diskqueue.meta.dat", true, false),
            ("t.diskqueue.00000.dat", false, false),
            ("t.diskqueue.000000.dat.bad", false, false),
            (".diskqueue.000000.dat", false, false),
            ("nsqd.dat", false, false),
            ("nsqd.dat.123.tmp", false, true),
            ("nsqd.dat..tmp", false, false),
            ("nsqd.dat.old.tmp", false, false),
            ("t.diskqueue.meta.dat.123.tmp", false, false),
        ] {
            assert_eq!((is_nsqd_queue(name), is_remains(name)), (queue, remains), "{name}");
        }
    }

    #[test]
    fn the_warning_names_the_first_files_and_the_command() {
        let files = |count: usize| (0..count).map(|n| format!("f{n}")).collect::<Vec<_>>();
        assert_eq!(warning(Path::new("/d"), &[], false), None);
        let text = warning(Path::new("/d"), &files(1), false).unwrap();
        assert!(text.contains("untouched: f0. To"), "{text}");
        assert!(text.ends_with("run: nsq_log import /d"), "{text}");
        let text = warning(Path::new("/d"), &files(5), false).unwrap();
        assert!(text.contains("in /d are") && text.contains(": f0, f1, f2 and 2 more. "), "{text}");
        let text = warning(Path::new("/d"), &files(1), true).unwrap();
        assert!(text.contains("as /d/nsq_log.imported says"), "{text}");
    }

    #[test]
    fn a_directory_with_half_an_import_is_refused() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().to_str().unwrap();
        fs::create_dir(directory.path().join(HALF_IMPORTED)).unwrap();
        let error = DataPath::lock(path).unwrap_err();
        assert!(error.ends_with(&format!("run nsq_log import {path}")), "{error}");
        fs::remove_dir(directory.path().join(HALF_IMPORTED)).unwrap();
        DataPath::lock(path).unwrap();
    }
}
