//! The file of one topic: opened, rotated, synced, closed, and moved where it belongs.
//!
//! A gzip member is written in one piece when it is complete, so a crash leaves complete members;
//! should the kernel have been interrupted within that write, the next start cuts the rest off
//! (decision record 0022).

use super::names::{FileNames, with_date, with_revision};
use super::repair::{self, EMPTY_MEMBER};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Zoned;
use rustix::fs::{AtFlags, CWD, OFlags, linkat};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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
    /// The second whose name that was; a date does not change within one.
    named_at: i64,
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
    },
}

impl FileWriter {
    pub(super) fn new(plan: Arc<Plan>, label: String, format: String) -> Self {
        let (file_name, opened) = (String::new(), Zoned::now());
        Self { plan, label, format, out: None, file_name, revision: 0, opened, named_at: 0 }
    }

    /// Puts right what an earlier run has left half-written; before the first file is opened.
    pub(super) fn mend(&self) {
        if self.plan.gzip_level.is_some() {
            let names = FileNames::new(&self.format, &self.plan.date_format);
            repair::cut_incomplete_members(&self.plan.work_dir, &names, &self.label);
        }
    }

    /// Whether a message of now belongs into another file.
    pub(super) fn needs_rotation(&mut self, now: &Zoned) -> bool {
        let Some(out) = &self.out else { return true };
        let (label, plan) = (&self.label, &self.plan);
        let second = now.timestamp().as_second();
        if second != self.named_at {
            let file_name = with_date(&self.format, &plan.date_format, now);
            if file_name != self.file_name {
                tracing::info!("{label} new filename {file_name}, rotating...");
                return true;
            }
            self.named_at = second;
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
        self.revision = if file_name == self.file_name { self.revision + 1 } else { 0 };
        self.file_name = file_name;
        self.named_at = now.timestamp().as_second();
        self.opened = now.clone();
        let template = self.plan.work_dir.join(&self.file_name);
        create_parent(&template).map_err(|e| self.fault(&format!("unable to create dir: {e}")))?;
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
        // A compressed file is readable from its first moment.
        let beginning: &[u8] = if self.plan.gzip_level.is_some() { EMPTY_MEMBER } else { b"" };
        let opened = match exclusive {
            true => create(&path, beginning),
            // Readable, to see how an earlier run has left it.
            false => OpenOptions::new().read(true).append(true).create(true).open(&path),
        };
        let file = match opened {
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
                Content::Gzip { file, level, member: None }
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
        Ok(if self.plan.gzip_level.is_some() { 0 } else { file.metadata()?.len() })
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
        let closed = out.content.sync();
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
            Self::Gzip { file, member, .. } => {
                if let Some(member) = member.take() {
                    let mut bytes = member.finish()?;
                    bytes.extend_from_slice(EMPTY_MEMBER);
                    file.write_all(&bytes)?;
                }
                file.sync_all()
            }
        }
    }
}

/// Makes a file that was not there, locked and with this content from the moment that it has its
/// name, where the file system can do that.
fn create(path: &Path, content: &[u8]) -> io::Result<File> {
    if path.symlink_metadata().is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let mut options = OpenOptions::new();
    options.write(true);
    let unnamed = options.custom_flags(OFlags::TMPFILE.bits().cast_signed()).open(parent);
    let (mut file, is_named) = match unnamed {
        Ok(file) => (file, false),
        Err(_) => (options.custom_flags(0).create_new(true).open(path)?, true),
    };
    // `prepare` locks it as well; who opens it by name before that finds it whole.
    let _ = file.try_lock();
    file.write_all(content)?;
    if !is_named {
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    }
    Ok(file)
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
