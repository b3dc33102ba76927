//! How an import becomes part of a data directory: all of it or nothing, wherever it is cut off.
//!
//! Everything is written into one directory, `nsq_log.import.tmp`. When all of it is durable, that
//! directory is renamed to `nsq_log.import.ready`: from then on the import is made, and only moves
//! are left. The report moves last, as `nsq_log.imported`, and says to everyone that it was done.

use crate::import::source::{METADATA_FILE, file_name};
use crate::logs::LOG_SUFFIX;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where an import is written.
const STAGING: &str = "nsq_log.import.tmp";

/// What it is called when only moves are left.
const READY: &str = "nsq_log.import.ready";

/// The report of an import that was made; without it there was none.
pub(crate) const MARKER: &str = "nsq_log.imported";

/// How far an import into a directory is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There was none, or none that counts.
    None,
    /// One was written, and some of it is yet to be moved.
    Ready,
    /// One was made.
    Done,
}

/// A directory that an import goes to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    directory: PathBuf,
}

impl Target {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn stage(&self) -> Result<Stage> {
        let is_there = |name: &str| fs::exists(self.directory.join(name));
        let context = || format!("cannot look at {}", self.directory.display());
        Ok(if is_there(READY).with_context(context)? {
            Stage::Ready
        } else if is_there(MARKER).with_context(context)? {
            Stage::Done
        } else {
            Stage::None
        })
    }

    /// Makes an empty directory to write to, in the place of one that was left behind.
    pub(crate) fn begin(&self) -> Result<PathBuf> {
        let staging = self.directory.join(STAGING);
        match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = staging.display();
                return Err(error).with_context(|| format!("cannot remove {path}"));
            }
            _ => {}
        }
        fs::create_dir(&staging).with_context(|| format!("cannot make {}", staging.display()))?;
        Ok(staging)
    }

    /// Removes what was written, as far as that is possible.
    pub(crate) fn abandon(&self) {
        let _ = fs::remove_dir_all(self.directory.join(STAGING));
    }

    /// Refuses to write where something is already.
    pub(crate) fn ensure_free(&self, name: &str, why: &str) -> Result<()> {
        let path = self.directory.join(name);
        ensure!(!fs::exists(&path).unwrap_or(true), "{} is there already: {why}", path.display());
        Ok(())
    }

    /// Makes what was written part of the directory, with its report.
    pub(crate) fn commit(&self, report: &str) -> Result<()> {
        let staging = self.directory.join(STAGING);
        write_durably(&staging.join(MARKER), report.as_bytes())?;
        sync_directory(&staging)?;
        let ready = self.directory.join(READY);
        rename(&staging, &ready)?;
        sync_directory(&self.directory)?;
        self.finish()
    }

    /// Moves what is ready to be moved; may be cut off and done again. Gives the report.
    pub(crate) fn finish(&self) -> Result<()> {
        let ready = self.directory.join(READY);
        let context = || format!("cannot read {}", ready.display());
        for entry in fs::read_dir(&ready).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let name = file_name(&path);
            if name == MARKER {
                continue;
            }
            if name != METADATA_FILE && !name.ends_with(LOG_SUFFIX) {
                bail!("{} is no part of an import", path.display());
            }
            self.ensure_free(&name, "it was made while an import was not finished")?;
            rename(&path, &self.directory.join(&name))?;
        }
        sync_directory(&self.directory)?;
        let marker = ready.join(MARKER);
        if fs::exists(&marker).with_context(context)? {
            rename(&marker, &self.directory.join(MARKER))?;
            sync_directory(&self.directory)?;
        }
        fs::remove_dir(&ready).with_context(|| format!("cannot remove {}", ready.display()))?;
        Ok(())
    }

    /// What was said about the import that was made.
    pub(crate) fn report(&self) -> String {
        fs::read_to_string(self.directory.join(MARKER)).unwrap_or_default()
    }

    /// Where that is said.
    pub(crate) fn marker(&self) -> PathBuf {
        self.directory.join(MARKER)
    }
}

/// Writes a new file and makes its content durable.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot rename {} to {}", from.display(), to.display());
    fs::rename(from, to).with_context(context)
}

fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("cannot sync {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(path: &Path) -> Target {
        let target = Target::new(path);
        let staging = target.begin().unwrap();
        for name in ["a.log", "b.log"] {
            fs::create_dir(staging.join(name)).unwrap();
            fs::write(staging.join(name).join("x"), name).unwrap();
        }
        fs::write(staging.join(METADATA_FILE), "{}").unwrap();
        target
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| file_name(&entry.unwrap().path())).collect();
        names.sort();
        names
    }

    const ALL: [&str; 4] = ["a.log", "b.log", MARKER, METADATA_FILE];

    #[test]
    fn an_import_is_there_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let target = begun(path);
        assert_eq!(target.stage().unwrap(), Stage::None);
        assert_eq!(names(path), [STAGING]);
        target.commit("report").unwrap();
        assert_eq!((target.stage().unwrap(), target.report()), (Stage::Done, "report".into()));
        assert_eq!(names(path), ALL);
    }

    #[test]
    fn what_was_cut_off_while_moving_is_finished() {
        for moved in 0..=3 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            let target = begun(path);
            let ready = path.join(READY);
            fs::write(path.join(STAGING).join(MARKER), "report").unwrap();
            fs::rename(path.join(STAGING), &ready).unwrap();
            for name in ["a.log", METADATA_FILE, "b.log"].iter().take(moved) {
                fs::rename(ready.join(name), path.join(name)).unwrap();
            }
            assert_eq!(target.stage().unwrap(), Stage::Ready);
            target.finish().unwrap();
            assert_eq!(names(path), ALL);
            assert_eq!(fs::read_to_string(path.join("b.log/x")).unwrap(), "b.log");
        }
    }

    #[test]
    fn what_was_cut_off_before_is_begun_anew_and_nothing_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let target = begun(path);
        let staging = target.begin().unwrap();
        assert_eq!(names(&staging), [""; 0]);
        drop(target);
        let target = begun(path);
        fs::create_dir(path.join("b.log")).unwrap();
        let error = target.commit("").unwrap_err().to_string();
        assert!(error.contains("b.log is there already"), "{error}");
        assert_eq!(names(&path.join("b.log")), [""; 0]);
        assert_eq!(target.stage().unwrap(), Stage::Ready);
    }
}
