//! A log on a simulated disk: requests are executed in an order chosen by a seed, and what was
//! promised is written down beside, to be compared with what is found after a crash.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "every test file uses another part")]

use ringmain_storage::cursors::{CursorId, Cursors};
use ringmain_storage::faulty_disk::FaultyDisk;
use ringmain_storage::log::{AppendError, Io, Log, LogOptions};
use ringmain_storage::read::{Read, ReadCursor};
use ringmain_storage::recovery::{RecoveryReport, recover};
use ringmain_storage::request::{Completion, Disk, IoError, LogKey, Operation, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Segments of eight blocks, so that they are rolled all the time.
pub const TINY: LogOptions = LogOptions {
    segment_bytes_first: 8 * 4096,
    segment_bytes_max: 16 * 4096,
    commit_bytes_max: 6 * 4096,
    read_bytes: 8192,
    read_blocks_max: 2,
    open_segments_max: 1,
    spares_max: 2,
};

/// More requests than any test needs.
const EXECUTED_MAX: u64 = 200_000;

/// See the module's text.
pub struct Bench {
    pub disk: FaultyDisk,
    pub log: Log,
    pub io: Io,
    pub options: LogOptions,
    outstanding: Vec<Request>,
    random: fastrand::Rng,
    /// Every entry appended, by sequence; withdrawn and cut ones are taken out.
    pub appended: BTreeMap<u64, Vec<u8>>,
    /// What no cursor needed at some checkpoint.
    pub needless: BTreeSet<u64>,
    pub deleted: BTreeSet<CursorId>,
    /// Where each cursor began.
    pub starts: BTreeMap<Vec<u8>, u64>,
    /// What each cursor finished, as the log was told.
    pub finished: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    /// The cursors of the checkpoint on its way, and of the last durable one.
    saving: Option<Cursors>,
    pub saved: Option<Cursors>,
    /// Nothing is executed from that request on.
    pub stop: u64,
    next_body: u64,
}

/// A disk that does nothing any more after a number of requests.
struct StoppingDisk<'a> {
    disk: &'a mut FaultyDisk,
    left: u64,
}

impl Disk for StoppingDisk<'_> {
    fn execute(&mut self, request: Request) -> Completion {
        if self.left > 0 {
            self.left -= 1;
            return self.disk.execute(request);
        }
        let buffer = match request.operation {
            Operation::Read { buffer, .. } => Some(buffer),
            _ => None,
        };
        Completion { ticket: request.ticket, result: Err(IoError::DEVICE), buffer }
    }
}

impl Bench {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, TINY)
    }

    pub fn with(seed: u64, options: LogOptions) -> Self {
        Self {
            disk: FaultyDisk::new(seed),
            log: Log::new(LogKey(1), options, seed),
            io: Io::new(1 << 20),
            options,
            outstanding: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            appended: BTreeMap::new(),
            needless: BTreeSet::new(),
            deleted: BTreeSet::new(),
            starts: BTreeMap::new(),
            finished: BTreeMap::new(),
            saving: None,
            saved: None,
            stop: u64::MAX,
            next_body: 0,
        }
    }

    /// A body that no other entry has.
    fn body(&mut self, bytes: usize) -> Vec<u8> {
        self.next_body += 1;
        // No zeros, so that no end of a body looks like padding.
        let text = (self.next_body ^ 0xa5a5_a5a5_a5a5_a5a5).to_le_bytes();
        text.into_iter().cycle().take(bytes.max(8)).collect()
    }

    pub fn append(&mut self, bytes: usize) -> Result<u64, AppendError> {
        let body = self.body(bytes);
        let (front, back) = body.split_at(body.len() / 3);
        let sequence = self.log.append_message(&[front, back], &mut self.io)?;
        self.insert(sequence, body);
        Ok(sequence)
    }

    pub fn append_batch(&mut self, count: usize, bytes: usize) -> Result<u64, AppendError> {
        let bodies: Vec<Vec<u8>> = (0..count).map(|_| self.body(bytes)).collect();
        let entries = bodies.iter().map(|body| body.split_at(body.len() / 2));
        let first = self.log.append_batch(entries, &mut self.io)?;
        for (sequence, body) in (first..).zip(bodies) {
            self.insert(sequence, body);
        }
        Ok(first)
    }

    fn insert(&mut self, sequence: u64, body: Vec<u8>) {
        let last = self.appended.last_key_value().map_or(0, |(last, _)| *last);
        assert!(last < sequence, "{sequence} is given after {last}");
        self.appended.insert(sequence, body);
    }

    pub fn withdraw(&mut self) {
        let withdrawn = self.log.withdraw(&mut self.io);
        self.appended.retain(|sequence, _| !withdrawn.contains(sequence));
    }

    pub fn create_cursor(&mut self, name: &[u8], low: u64) -> CursorId {
        let id = self.log.create_cursor(name, low, &mut self.io);
        self.finished.insert(name.to_vec(), BTreeSet::new());
        self.starts.insert(name.to_vec(), low);
        id
    }

    pub fn delete_cursor(&mut self, name: &[u8]) {
        if let Some(id) = self.log.cursors().find(name) {
            self.log.delete_cursor(id, &mut self.io);
            self.deleted.insert(id);
            self.finished.remove(name);
        }
    }

    pub fn finish(&mut self, name: &[u8], sequence: u64) {
        let Some(id) = self.log.cursors().find(name) else { return };
        self.log.cursor_mut(id).expect("just found").finish(sequence);
        self.finished.get_mut(name).expect("the bench made the cursor").insert(sequence);
    }

    /// Executes one outstanding request; whether there was one.
    pub fn step(&mut self) -> bool {
        self.outstanding.append(&mut self.io.requests);
        if self.outstanding.is_empty() || self.disk.executed() >= self.stop {
            return false;
        }
        assert!(self.disk.executed() < EXECUTED_MAX, "there is no end of requests");
        let index = self.random.usize(..self.outstanding.len());
        let request = self.outstanding.swap_remove(index);
        let completion = self.disk.execute(request);
        let progress = self.log.complete(completion, &mut self.io);
        if progress.has_saved {
            self.saved = self.saving.take();
        }
        self.outstanding.append(&mut self.io.requests);
        true
    }

    /// Executes until nothing is outstanding.
    pub fn drain(&mut self) {
        while self.step() {}
    }

    pub fn commit(&mut self) {
        self.log.commit(&mut self.io);
    }

    pub fn sync(&mut self) {
        self.log.sync(&mut self.io);
    }

    pub fn checkpoint(&mut self) {
        if !self.log.is_checkpointing() {
            self.note_saving();
        }
        self.log.checkpoint(&mut self.io);
    }

    fn note_saving(&mut self) {
        let cursors = self.log.cursors().clone();
        let is_needless = |sequence: &&u64| cursors.have_finished(&(**sequence..**sequence + 1));
        self.needless.extend(self.appended.keys().filter(is_needless));
        self.saving = Some(cursors);
    }

    pub fn close(&mut self) {
        self.drain();
        self.note_saving();
        self.log.close(&mut self.io);
        self.drain();
        assert!(self.log.is_closed());
    }

    /// The power goes; the log is opened again.
    pub fn crash(&mut self, seed: u64) -> RecoveryReport {
        self.disk.crash(seed);
        self.reopen(seed)
    }

    /// The power goes while the log is opened, after a number of requests that the seed says.
    pub fn recover_in_part(&mut self, seed: u64) {
        let mut disk = self.disk.clone();
        let before = disk.executed();
        let _whole = recover(LogKey(1), self.options, seed, &mut disk);
        let stop = seed % (disk.executed() - before);
        let mut disk = StoppingDisk { disk: &mut self.disk, left: stop };
        // It fails when the disk stops; what it did until then stays.
        let _failed = recover(LogKey(1), self.options, seed, &mut disk);
        self.disk.crash(seed);
    }

    /// Opens the log again from what is on disk, and forgets what is no longer there.
    pub fn reopen(&mut self, seed: u64) -> RecoveryReport {
        self.disk.kill();
        self.outstanding.clear();
        self.saving = None;
        self.stop = u64::MAX;
        self.io = Io::new(1 << 20);
        let key = LogKey(1);
        let opened = recover(key, self.options, seed ^ 0xfeed, &mut self.disk);
        let (log, report) = opened.unwrap_or_else(|error| panic!("{error}"));
        self.log = log;
        // A deletion is durable with the next checkpoint only; its owner repeats it.
        let names: Vec<_> = self.log.cursors().iter().map(|(_, c)| c.name().to_vec()).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "two cursors of one name");
        for name in names.iter().filter(|name| !self.finished.contains_key(*name)) {
            let id = self.log.cursors().find(name).expect("it was named");
            self.log.delete_cursor(id, &mut self.io);
        }
        report
    }

    /// Everything that can be read from a sequence on, and what is told to be lost.
    pub fn read_from(&mut self, sequence: u64) -> (BTreeMap<u64, Vec<u8>>, Vec<Range<u64>>) {
        let mut cursor = ReadCursor::new(sequence);
        let (mut found, mut lost) = (BTreeMap::new(), Vec::new());
        loop {
            match self.log.read(&mut cursor, &mut self.io) {
                Read::Entry(entry) => {
                    let previous = found.insert(entry.sequence, entry.bytes().to_vec());
                    assert!(previous.is_none(), "{} is read twice", entry.sequence);
                }
                Read::Lost(range) => lost.push(range),
                Read::Wait => assert!(self.step(), "someone waits and nothing is outstanding"),
                Read::End => return (found, lost),
            }
        }
    }

    /// Every so many sequences are read alone, as somebody does who needs few of them.
    pub fn read_sparsely(&mut self, apart: u64) {
        let wanted: Vec<_> = self.appended.range(..self.log.written_up_to()).collect();
        let wanted = wanted.into_iter().filter(|(sequence, _)| *sequence % apart == 0);
        let wanted: Vec<_> = wanted.map(|(sequence, body)| (*sequence, body.clone())).collect();
        let mut cursor = ReadCursor::sparse(0);
        for (index, (sequence, body)) in wanted.iter().enumerate() {
            cursor.seek(*sequence);
            loop {
                match self.log.read(&mut cursor, &mut self.io) {
                    Read::Entry(entry) if entry.sequence == *sequence => {
                        break assert_eq!(entry.bytes(), body, "{sequence}");
                    }
                    Read::Wait => {
                        let mut ahead = wanted.iter().skip(index + 1);
                        while ahead.next().is_some_and(|(sequence, _)| {
                            self.log.read_sparsely_ahead(*sequence, &mut self.io)
                        }) {}
                        assert!(self.step(), "someone waits and nothing is outstanding");
                    }
                    // Later ones are there; this one was reclaimed.
                    Read::Entry(_) | Read::End if self.needless.contains(sequence) => break,
                    other => panic!("{sequence} is not read: {other:?}"),
                }
            }
        }
    }

    /// Everything that can be read.
    pub fn read_all(&mut self) -> BTreeMap<u64, Vec<u8>> {
        let (found, lost) = self.read_from(0);
        assert_eq!(lost, []);
        found
    }

    /// The log as it is now holds exactly the entries below some sequence at or above
    /// `promised`, from its first on; the entries above are forgotten.
    pub fn check_prefix(&mut self, promised: u64) {
        let found = self.read_all();
        let end = found.last_key_value().map_or(0, |(last, _)| last + 1);
        let end = end.max(promised);
        self.appended.retain(|sequence, _| *sequence < end);
        for (sequence, body) in &found {
            assert_eq!(self.appended.get(sequence), Some(body), "{sequence} was never appended");
        }
        // What is not there was reclaimed, and only what no cursor needs is.
        for sequence in self.appended.keys().filter(|sequence| !found.contains_key(sequence)) {
            assert!(
                self.needless.contains(sequence),
                "{sequence} is lost; promised {promised}, end {end}"
            );
        }
    }

    /// Every cursor of the last durable checkpoint is there and has finished what it had; no
    /// cursor has finished what it was not told to, unless nothing is there.
    pub fn check_cursors(&self) {
        let saved = self.saved.clone().unwrap_or_default();
        for (id, cursor) in saved.iter() {
            let name = String::from_utf8_lossy(cursor.name()).into_owned();
            let Some(found) = self.log.cursors().cursor(id) else {
                assert!(self.deleted.contains(&id), "cursor {name} is lost");
                continue;
            };
            assert!(found.has_finished(0..cursor.low()), "{name} has lost its place");
            for range in cursor.finished_ranges() {
                assert!(found.has_finished(range.clone()), "{name} has lost {range:?}");
            }
        }
        for (_, cursor) in self.log.cursors().iter() {
            let Some(finished) = self.finished.get(cursor.name()) else { continue };
            let start = self.starts.get(cursor.name()).copied().unwrap_or(0);
            for sequence in self.appended.range(start..).map(|(sequence, _)| *sequence) {
                let is_told = finished.contains(&sequence);
                assert!(is_told || !cursor.is_finished(sequence), "{sequence} was not finished");
            }
        }
    }
}
