//! `nsqd.dat` on disk: read once, replaced as a whole.

use super::document::Metadata;
use crate::http::listener::go_text;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's name in the data directory.
pub const METADATA_FILE: &str = "nsqd.dat";

/// Where the metadata is kept.
#[derive(Debug, Clone)]
pub struct MetadataFile {
    path: PathBuf,
}

impl MetadataFile {
    /// The file in the directory that `--data-path` names; the empty one is the working directory.
    pub fn of(data_path: &str) -> Self {
        Self { path: Path::new(data_path).join(METADATA_FILE) }
    }

    /// Where it is, as log lines have it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. A file that does not exist is a fresh start.
    ///
    /// # Errors
    /// NSQ's text, when it cannot be read or is not what it should be. It is left as it is.
    pub fn load(&self) -> Result<Metadata, String> {
        let path = self.path.display();
        match fs::read(&self.path) {
            Ok(bytes) => Metadata::parse(&bytes)
                .map_err(|error| format!("failed to parse metadata in {path} - {error}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Metadata::default()),
            Err(error) => {
                let reason = go_text(&error);
                Err(format!("failed to read metadata from {path} - open {path}: {reason}"))
            }
        }
    }

    /// Replaces the file. When this returns, the new one is on stable storage; if it is cut off at
    /// any point, the old one or the new one is there, whole. It blocks.
    ///
    /// # Errors
    /// What went wrong, and with which file; a new file that was begun is removed.
    pub(super) fn save(&self, metadata: &Metadata) -> Result<(), String> {
        let temporary = self.temporary();
        let saved = write(&temporary, &metadata.to_json())
            .and_then(|()| {
                fs::rename(&temporary, &self.path).map_err(|e| failed("rename", &temporary, &e))
            })
            .and_then(|()| self.sync_directory());
        if saved.is_err() {
            // After a failure behind the renaming there is none; else the next try makes another.
            let _ = fs::remove_file(&temporary);
        }
        saved
    }

    /// `nsqd.dat.<random>.tmp`, as NSQ names it.
    fn temporary(&self) -> PathBuf {
        let random = RandomState::new().hash_one(0) >> 1;
        self.path.with_file_name(format!("{METADATA_FILE}.{random}.tmp"))
    }

    /// Makes the renaming itself durable, which NSQ leaves out.
    fn sync_directory(&self) -> Result<(), String> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new("."));
        let opened = File::open(directory).map_err(|e| failed("open", directory, &e))?;
        opened.sync_all().map_err(|e| failed("sync", directory, &e))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = new.map_err(|error| failed("open", path, &error))?;
    file.write_all(bytes).map_err(|error| failed("write", path, &error))?;
    file.sync_all().map_err(|error| failed("sync", path, &error))
}

/// Go's form of an error about a file.
fn failed(operation: &str, path: &Path, error: &io::Error) -> String {
    format!("{operation} {}: {}", path.display(), go_text(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn file_in(directory: &TempDir) -> MetadataFile {
        MetadataFile::of(directory.path().to_str().unwrap())
    }

    fn names(directory: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn it_is_replaced_as_a_whole() {
        let directory = TempDir::new().unwrap();
        let file = file_in(&directory);
        assert_eq!(file.load().unwrap(), Metadata::default());
        let text = br#"{"topics":[{"name":"t","paused":true,"channels":null}],"version":"1.3.0"}"#;
        let metadata = Metadata::parse(text).unwrap();
        for metadata in [&Metadata::default(), &metadata] {
            file.save(metadata).unwrap();
            assert_eq!(file.load().unwrap(), *metadata);
            assert_eq!(names(&directory), [METADATA_FILE], "no temporary file stays");
        }
        assert_eq!(fs::read(file.path()).unwrap(), text);
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_failure_says_what_and_leaves_nothing_behind() {
        let directory = TempDir::new().unwrap();
        let file = file_in(&directory);
        // A directory cannot be replaced by a file.
        fs::create_dir(file.path()).unwrap();
        let reason = file.save(&Metadata::default()).unwrap_err();
        assert!(reason.starts_with("rename ") && reason.ends_with(": is a directory"), "{reason}");
        assert_eq!(names(&directory), [METADATA_FILE]);
        let reason = file.load().unwrap_err();
        let path = file.path().display();
        assert!(reason.starts_with(&format!("failed to read metadata from {path} - ")), "{reason}");
        drop(directory);
        let reason = file.save(&Metadata::default()).unwrap_err();
        assert!(reason.ends_with(".tmp: no such file or directory"), "{reason}");
    }

    #[test]
    fn a_damaged_file_is_refused_and_left() {
        let directory = TempDir::new().unwrap();
        let file = file_in(&directory);
        fs::write(file.path(), "{").unwrap();
        let reason = file.load().unwrap_err();
        let path = file.path().display();
        let expected = format!("failed to parse metadata in {path} - ");
        assert!(reason.starts_with(&expected), "{reason}");
        assert_eq!(fs::read(file.path()).unwrap(), b"{");
    }
}
