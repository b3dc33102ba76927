//! The file of one topic: opened, rotated, synced, closed, and moved where it belongs.
//!
//! A gzip member is written in one piece when it is complete, so a crash leaves complete members;
//! should the kernel have been interrupted within that write, the next start cuts the rest off.

use super::names::{with_date, with_revision};
use super::repair;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Zoned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes gathered before they are given to the system.
const BUFFER_BYTES: usize = 64 * 1024;

/// What the flags say of files.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) output_dir: PathBuf,
    pub(super) work_dir: PathBuf,
    pub(super) date_format: String,
    /// Level 1 to 9, or no compression.
    pub(super) gzip_level: Option<u32>,
    /// Zero: the size does not matter.
    pub(super) rotate_bytes: u64,
    /// Zero: the age does not matter.
    pub(super) rotate_interval: Duration,
}

/// Writes the messages of one topic.
pub(super) struct FileWriter {
    plan: Arc<Plan>,
    /// `[topic/channel]`, for texts.
    label: String,
    format: String,
    out: Option<Out>,
    /// With the date, without the revision.
    file_name: String,
    revision: u32,
    opened: Zoned,
}

/// The open file.
struct Out {
    path: PathBuf,
    content: Content,
    /// Uncompressed, what was there before included.
    bytes: u64,
}

enum Content {
    Plain(BufWriter<File>),
    Gzip {
        file: File,
        level: Compression,
        /// The member under way.
        member: Option<Box<GzEncoder<Vec<u8>>>>,
        is_empty: bool,
    },
}

impl FileWriter {
    pub(super) fn new(plan: Arc<Plan>, label: String, format: String) -> Self {
        let opened = Zoned::now();
        Self { plan, label, format, out: None, file_name: String::new(), revision: 0, opened }
    }

    /// Whether a message of now belongs into another file.
    pub(super) fn needs_rotation(&self, now: &Zoned) -> bool {
        let Some(out) = &self.out else { return true };
        let (label, plan) = (&self.label, &self.plan);
        let file_name = with_date(&self.format, &plan.date_format, now);
        if file_name != self.file_name {
            tracing::info!("{label} new filename {file_name}, rotating...");
            return true;
        }
        let age = now.duration_since(&self.opened).unsigned_abs();
        if !plan.rotate_interval.is_zero() && age > plan.rotate_interval {
            let age = crate::options::duration::format(age);
            tracing::info!("{label} {age} since last open, rotating...");
            return true;
        }
        self.is_too_large(out)
    }

    fn is_too_large(&self, out: &Out) -> bool {
        let most = self.plan.rotate_bytes;
        let is_too_large = most > 0 && out.bytes > most;
        if is_too_large {
            let (label, path, bytes) = (&self.label, out.path.display(), out.bytes);
            tracing::info!("{label} {path} currently {bytes} bytes (> {most}), rotating...");
        }
        is_too_large
    }

    /// Closes the file, if there is one, and opens the one of now.
    ///
    /// # Errors
    /// The line to end with.
    pub(super) fn rotate(&mut self, now: &Zoned) -> Result<(), String> {
        self.close()?;
        let file_name = with_date(&self.format, &self.plan.date_format, now);
        let is_first = self.file_name.is_empty();
        self.revision = if file_name == self.file_name { self.revision + 1 } else { 0 };
        self.file_name = file_name;
        self.opened = now.clone();
        let template = self.plan.work_dir.join(&self.file_name);
        create_parent(&template).map_err(|e| self.fault(&format!("unable to create dir: {e}")))?;
        if is_first && self.plan.gzip_level.is_some() {
            repair::newest(&self.plan.work_dir.join(&self.format), &self.label);
        }
        loop {
            let path = PathBuf::from(with_revision(&template.to_string_lossy(), self.revision));
            if self.is_free(&path)?
                && let Some(out) = self.open(path)?
                && !self.is_too_large(&out)
            {
                self.out = Some(out);
                return Ok(());
            }
            self.revision += 1;
        }
    }

    /// Whether nothing is where the file is to be moved later.
    fn is_free(&self, path: &Path) -> Result<bool, String> {
        if self.plan.work_dir == self.plan.output_dir {
            return Ok(true);
        }
        let target = self.target(path);
        create_parent(&target).map_err(|e| self.fault(&format!("unable to create dir: {e}")))?;
        let exists = target.try_exists().map_err(|error| {
            self.fault(&format!("unable to stat output file {}: {error}", target.display()))
        })?;
        if exists {
            tracing::warn!("{} output file already exists: {}", self.label, target.display());
        }
        Ok(!exists)
    }

    /// `None` when this name is taken.
    fn open(&self, path: PathBuf) -> Result<Option<Out>, String> {
        let exclusive = self.plan.gzip_level.is_some() || !self.plan.rotate_interval.is_zero();
        let mut options = OpenOptions::new();
        if exclusive {
            options.write(true).create_new(true);
        } else {
            // Readable, to see how an earlier run has left it.
            options.read(true).append(true).create(true);
        }
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let path = path.display();
                tracing::warn!("{} working file already exists: {path}", self.label);
                return Ok(None);
            }
            Err(error) => {
                return Err(self.fault(&format!("unable to open {}: {error}", path.display())));
            }
        };
        tracing::info!("{} opening {}", self.label, path.display());
        let prepared = self.prepare(&file, &path, exclusive);
        let bytes = prepared.map_err(|error| {
            self.fault(&format!("unable to stat file {}: {error}", path.display()))
        })?;
        let content = match self.plan.gzip_level {
            None => Content::Plain(BufWriter::with_capacity(BUFFER_BYTES, file)),
            Some(level) => {
                let level = Compression::new(level);
                Content::Gzip { file, level, member: None, is_empty: true }
            }
        };
        Ok(Some(Out { path, content, bytes }))
    }

    /// Locks the file, ends a line that a crash has cut short, and makes its name durable.
    fn prepare(&self, file: &File, path: &Path, exclusive: bool) -> io::Result<u64> {
        // Several programs may append to one file; only the one alone with it mends it.
        let alone = file.try_lock().is_ok();
        if alone && !exclusive {
            repair::end_last_line(file)?;
        }
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        Ok(file.metadata()?.len())
    }

    /// Adds a message and a line feed.
    ///
    /// # Errors
    /// The line to end with.
    pub(super) fn write(&mut self, body: &[u8]) -> Result<(), String> {
        let out = self.out.as_mut().expect("opened by `rotate` before");
        let written = match &mut out.content {
            Content::Plain(file) => file.write_all(body).and_then(|()| file.write_all(b"\n")),
            Content::Gzip { level, member, .. } => {
                let member =
                    member.get_or_insert_with(|| Box::new(GzEncoder::new(Vec::new(), *level)));
                member.write_all(body).and_then(|()| member.write_all(b"\n"))
            }
        };
        out.bytes += body.len() as u64 + 1;
        written.map_err(|error| self.fault(&format!("writing message to disk: {error}")))
    }

    /// Makes everything written durable and, where compressed, readable.
    ///
    /// # Errors
    /// The line to end with.
    pub(super) fn sync(&mut self) -> Result<(), String> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let synced = out.content.sync();
        synced.map_err(|error| self.fault(&format!("failed syncing messages: {error}")))
    }

    /// Syncs, closes, and moves the file from the work directory to the output directory.
    ///
    /// # Errors
    /// The line to end with.
    pub(super) fn close(&mut self) -> Result<(), String> {
        let Some(mut out) = self.out.take() else { return Ok(()) };
        let closed = out.content.end().and_then(|()| out.content.sync());
        closed.map_err(|error| self.fault(&format!("failed to fsync output file: {error}")))?;
        drop(out.content);
        if self.plan.work_dir == self.plan.output_dir { Ok(()) } else { self.publish(&out.path) }
    }

    fn publish(&self, source: &Path) -> Result<(), String> {
        let (label, from) = (&self.label, source.display());
        let mut target = self.target(source);
        tracing::info!("{label} moving finished file {from} to {}", target.display());
        let mut revision = self.revision;
        loop {
            match rename_exclusively(source, &target) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let existing = target.display();
                    tracing::warn!("{label} destination file already exists: {existing}");
                    revision += 1;
                    let name = with_revision(&self.file_name, revision);
                    target = self.plan.output_dir.join(name);
                }
                Err(error) => {
                    let text = format!("unable to move file from {from} to {}", target.display());
                    return Err(self.fault(&format!("{text}: {error}")));
                }
            }
        }
        if revision > self.revision {
            let to = target.display();
            tracing::info!("{label} renamed finished file {from} to {to} to avoid overwrite");
        }
        Ok(())
    }

    /// Where a file of the work directory ends up.
    fn target(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix(&self.plan.work_dir).unwrap_or(path);
        self.plan.output_dir.join(relative)
    }

    fn fault(&self, text: &str) -> String {
        format!("{} {text}", self.label)
    }
}

impl Content {
    fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => {
                file.flush()?;
                file.get_ref().sync_all()
            }
            Self::Gzip { file, member, is_empty, .. } => {
                if let Some(member) = member.take() {
                    file.write_all(&member.finish()?)?;
                    *is_empty = false;
                }
                file.sync_all()
            }
        }
    }

    /// A compressed file without messages is an empty member, which readers take, not an empty
    /// file, which they do not.
    fn end(&mut self) -> io::Result<()> {
        if let Self::Gzip { level, member: member @ None, is_empty: true, .. } = self {
            *member = Some(Box::new(GzEncoder::new(Vec::new(), *level)));
        }
        Ok(())
    }
}

/// A directory as NSQ makes it: not for others.
fn create_parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o770).create(parent)
}

/// Moves a file within a file system; never over another one.
fn rename_exclusively(source: &Path, target: &Path) -> io::Result<()> {
    fs::hard_link(source, target)?;
    if let Some(directory) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    fs::remove_file(source)
}

#[cfg(test)]
mod tests;
