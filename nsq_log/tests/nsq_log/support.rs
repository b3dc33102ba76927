//! Directories for the tool to look into, and running it.

use ringmain_storage::blocking::BlockingDisk;
use ringmain_storage::log::{AppendError, Io, Log, LogOptions};
use ringmain_storage::message::EntryHead;
use ringmain_storage::request::{Disk as _, LogKey};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the tool.
pub(super) fn nsq_log(arguments: &[&str]) -> Output {
    let tool = env!("CARGO_BIN_EXE_nsq_log");
    Command::new(tool).args(arguments).output().expect("the tool was built")
}

/// What the tool says when all goes well.
pub(super) fn stdout_of(arguments: &[&str]) -> String {
    let output = nsq_log(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {} {stderr}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The exit code, and what was said on either side.
pub(super) fn outcome(arguments: &[&str]) -> (i32, String, String) {
    let output = nsq_log(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().expect("not killed");
    (code, text(output.stdout), text(output.stderr))
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

pub(super) fn id(number: u64) -> [u8; 16] {
    format!("{number:016x}").into_bytes().try_into().expect("16 digits")
}

/// A log of ours, written by the package itself.
pub(super) struct TestLog {
    pub(super) log: Log,
    disk: BlockingDisk,
    pub(super) io: Io,
}

impl TestLog {
    pub(super) fn new(directory: &Path, segment_bytes: u64) -> Self {
        let options = LogOptions {
            segment_bytes_first: segment_bytes,
            segment_bytes_max: segment_bytes,
            ..LogOptions::default()
        };
        let log = Log::new(LogKey(1), options, 1);
        Self { log, disk: BlockingDisk::new(directory), io: Io::new(64 << 20) }
    }

    pub(super) fn head(number: u64) -> EntryHead {
        let timestamp_ns = 1_000_000_000 + i64::try_from(number).expect("small");
        EntryHead { deliver_at_ns: 0, timestamp_ns, attempts: 0, id: id(number) }
    }

    pub(super) fn append(&mut self, head: &EntryHead, body: &[u8]) -> u64 {
        let head = head.encode();
        loop {
            match self.log.append_message(&[&head, body], &mut self.io) {
                Err(AppendError::Busy) => self.drain(),
                result => return result.expect("there is space"),
            }
        }
    }

    pub(super) fn append_batch(&mut self, messages: &[(EntryHead, &[u8])]) -> u64 {
        let entries = messages.iter().map(|(head, body)| (head.encode(), *body));
        self.log.append_batch(entries, &mut self.io).expect("there is space")
    }

    pub(super) fn close(mut self) {
        self.log.close(&mut self.io);
        self.drain();
        assert!(self.log.is_closed());
    }

    /// Ends as a killed program does: what was written stays.
    pub(super) fn kill(mut self) {
        self.log.checkpoint(&mut self.io);
        self.log.commit(&mut self.io);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(request) = self.io.requests.pop() {
            self.log.complete(self.disk.execute(request), &mut self.io);
        }
    }
}

/// One message as nsqd keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) number: u64,
    pub(super) attempts: u16,
    pub(super) body: Vec<u8>,
}

impl Stored {
    pub(super) fn new(number: u64, attempts: u16) -> Self {
        let length = usize::try_from(number % 50 * (number % 7)).expect("small");
        let body = format!("body {number} ").into_bytes().into_iter().cycle().take(length);
        Self { number, attempts, body: body.collect() }
    }

    fn record(&self) -> Vec<u8> {
        let timestamp = 1_000_000_000 + self.number;
        let head = [&timestamp.to_be_bytes()[..], &self.attempts.to_be_bytes(), &id(self.number)];
        let message = [&head.concat()[..], &self.body].concat();
        let length = u32::try_from(message.len()).expect("small");
        [&length.to_be_bytes()[..], &message].concat()
    }
}

/// A queue in nsqd's format, written as nsqd writes it.
pub(super) struct DiskQueue {
    directory: PathBuf,
    name: String,
    file_bytes_max: u64,
    depth: u64,
    read: (u64, u64),
    write: (u64, u64),
}

impl DiskQueue {
    pub(super) fn new(directory: &Path, name: &str, file_bytes_max: u64) -> Self {
        let (directory, name) = (directory.to_owned(), name.to_owned());
        Self { directory, name, file_bytes_max, depth: 0, read: (0, 0), write: (0, 0) }
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{}.diskqueue.{number:06}.dat", self.name))
    }

    pub(super) fn meta_path(&self) -> PathBuf {
        self.directory.join(format!("{}.diskqueue.meta.dat", self.name))
    }

    pub(super) fn put(&mut self, message: &Stored) {
        let record = message.record();
        let bytes = record.len() as u64;
        if self.write.1 > 0 && self.write.1 + bytes > self.file_bytes_max {
            self.write = (self.write.0 + 1, 0);
        }
        let path = self.path(self.write.0);
        let mut file = File::options().create(true).append(true).open(path).expect("a new file");
        file.write_all(&record).expect("there is space");
        self.write.1 += bytes;
        self.depth += 1;
    }

    /// Takes the first messages away, as their delivery does.
    pub(super) fn take(&mut self, messages: &[Stored]) {
        for message in messages {
            let length = fs::metadata(self.path(self.read.0)).expect("there is a segment").len();
            self.read.1 += message.record().len() as u64;
            self.depth -= 1;
            if self.read.1 == length && self.read.0 < self.write.0 {
                fs::remove_file(self.path(self.read.0)).expect("it is there");
                self.read = (self.read.0 + 1, 0);
            }
        }
    }

    /// Writes the positions, as an orderly stop does.
    pub(super) fn close(&self) {
        let Self { depth, read, write, .. } = self;
        let text = format!("{depth}\n{},{}\n{},{}\n", read.0, read.1, write.0, write.1);
        fs::write(self.meta_path(), text).expect("there is space");
    }
}

/// Writes `nsqd.dat`: topics with their channels.
pub(super) fn write_metadata(directory: &Path, topics: &[(&str, &[&str])]) {
    let topics = topics.iter().map(|(name, channels)| {
        let channels = channels.iter().map(|name| format!(r#"{{"name":"{name}","paused":false}}"#));
        let channels = channels.collect::<Vec<_>>().join(",");
        format!(r#"{{"name":"{name}","paused":false,"channels":[{channels}]}}"#)
    });
    let topics = topics.collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"topics":[{topics}],"version":"1.3.0"}}"#);
    fs::write(directory.join("nsqd.dat"), text).expect("there is space");
}

/// All files of a directory, by name, with their contents.
pub(super) fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("a readable directory").path();
        if path.is_file() {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            files.push((name, fs::read(&path).expect("a readable file")));
        }
    }
    files.sort();
    files
}
