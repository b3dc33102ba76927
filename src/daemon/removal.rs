//! The thread that removes the logs of deleted topics: it may wait for the disk, shards may not.

use crate::broker::admin::AdminRequest;
use crate::control::metadata::{DELETED_SUFFIX, Removal};
use crate::control::{ControlMail, ShardPort};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

/// Starts the thread. It ends when every shard has, and the name of each log that was asked for by
/// then is gone.
///
/// # Errors
/// When the thread cannot be started.
pub(super) fn start(
    removals: Receiver<Removal>,
    ports: Vec<ShardPort>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("removal".to_owned()).spawn(move || {
        for Removal { shard, key, directory } in removals {
            if let Err(error) = remove(&directory) {
                let path = directory.display();
                tracing::error!(
                    "cannot remove the log of a deleted topic in {path} - {error}; remove it by \
                     hand, or the topic is back after a restart"
                );
            }
            let Some(port) = ports.get(usize::from(shard.0)) else { continue };
            let (reply, _) = tokio::sync::oneshot::channel();
            // The inbox is full only for a moment, and closed only when the shard has ended.
            if port
                .mail
                .send(ControlMail { request: AdminRequest::LogRemoved { key }, reply })
                .is_ok()
            {
                (port.wake)();
            }
        }
    })
}

/// Takes the name away first, durably, so that a crash leaves either the log or nothing that
/// belongs to a topic.
fn remove(directory: &Path) -> io::Result<()> {
    let mut name = directory.as_os_str().to_owned();
    name.push(DELETED_SUFFIX);
    let deleted = Path::new(&name);
    if deleted.exists() {
        fs::remove_dir_all(deleted)?;
    }
    match fs::rename(directory, deleted) {
        // Nothing was ever written to it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    fs::remove_dir_all(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_log_goes_whole_and_over_what_an_earlier_removal_left() {
        let home = TempDir::new().unwrap();
        let log = home.path().join("t.log");
        remove(&log).unwrap();
        for directory in [log.clone(), home.path().join("t.log.deleted")] {
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("0000000000000001.segment"), b"x").unwrap();
        }
        remove(&log).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
