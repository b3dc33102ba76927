//! A simulated disk for one log: what was not synced may be lost, torn or reordered by a crash;
//! any request can be made to fail; space can run out; bits can flip. All by seed.
//!
//! A file has what programs see and what the platter holds. Writes reach the platter at a sync, or
//! in any part and any order when the power goes; names at a sync of the directory, or in their
//! order up to some point. After a failed sync the writes it was for are dropped from what can
//! still become durable, while programs go on seeing them: this is what kernels do.

use crate::buffer::BLOCK_BYTES;
use crate::request::{Completion, Disk, FileName, IoError, Operation, Outcome, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A file name that is not, or no longer, there.
const NOT_FOUND: IoError = IoError { errno: 2 };

/// A file that is not open.
const NOT_OPEN: IoError = IoError { errno: 9 };

/// A file name that is there already.
const EXISTS: IoError = IoError { errno: 17 };

#[derive(Debug, Clone, Default)]
struct Inode {
    /// What programs read.
    seen: Vec<u8>,
    /// What is left after the worst crash.
    durable: Vec<u8>,
    /// Writes that may or may not survive one.
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    open: BTreeSet<String>,
    capacity_bytes: u64,
    executed: u64,
    failures: BTreeMap<u64, IoError>,
    shorts: BTreeSet<u64>,
    unreadable: Vec<(String, Range<usize>)>,
    random: u64,
}

impl FaultyDisk {
    /// An empty disk of unlimited size.
    pub fn new(seed: u64) -> Self {
        Self {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            open: BTreeSet::new(),
            capacity_bytes: u64::MAX,
            executed: 0,
            failures: BTreeMap::new(),
            shorts: BTreeSet::new(),
            unreadable: Vec::new(),
            random: seed,
        }
    }

    /// How many requests were executed.
    pub fn executed(&self) -> u64 {
        self.executed
    }

    /// Lets the request with that number (counted from zero) fail.
    pub fn fail_at(&mut self, number: u64, error: IoError) {
        self.failures.insert(number, error);
    }

    /// Lets the request with that number transfer less than it was asked to.
    pub fn shorten_at(&mut self, number: u64) {
        self.shorts.insert(number);
    }

    /// Limits the space that files take together, in bytes.
    pub fn limit(&mut self, capacity_bytes: u64) {
        self.capacity_bytes = capacity_bytes;
    }

    /// Bytes that files take together.
    pub fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|inode| self.inodes.get(*inode)).map(size).sum()
    }

    /// Lets reads of that range of a file fail.
    pub fn break_range(&mut self, name: &str, range: Range<usize>) {
        self.unreadable.push((name.to_owned(), range));
    }

    /// Names and sizes of all files.
    pub fn files(&self) -> Vec<(String, usize)> {
        let size = |inode: &usize| self.inodes.get(*inode).map_or(0, |inode| inode.seen.len());
        self.names.iter().map(|(name, inode)| (name.clone(), size(inode))).collect()
    }

    /// What is in a file.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        Some(&self.inodes.get(*self.names.get(name)?)?.seen)
    }

    /// Puts a file there, durably, or replaces it.
    pub fn put(&mut self, name: &str, bytes: Vec<u8>) {
        self.inodes.push(Inode { durable: bytes.clone(), seen: bytes, unsynced: Vec::new() });
        self.names.insert(name.to_owned(), self.inodes.len() - 1);
        self.durable_names.insert(name.to_owned(), self.inodes.len() - 1);
    }

    /// Takes a file away, durably.
    pub fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        self.durable_names.remove(name);
        let inode = self.names.remove(name)?;
        self.inodes.get(inode).map(|inode| inode.seen.clone())
    }

    /// Turns one bit of a file over, durably.
    pub fn flip(&mut self, name: &str, bit: usize) {
        let inode = self.names.get(name).and_then(|inode| self.inodes.get_mut(*inode));
        let Some(inode) = inode else { return };
        for bytes in [&mut inode.seen, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// The program ends: open files are closed, everything written stays.
    pub fn kill(&mut self) {
        self.open.clear();
        self.failures.clear();
        self.shorts.clear();
    }

    /// The power goes: what was not synced stays in part, by the seed.
    pub fn crash(&mut self, seed: u64) {
        self.kill();
        self.random ^= seed;
        let kept = self.below(self.unsynced_names.len() + 1);
        let changes: Vec<_> = self.unsynced_names.drain(..).take(kept).collect();
        for change in changes {
            apply(&mut self.durable_names, change);
        }
        self.names = self.durable_names.clone();
        for index in 0..self.inodes.len() {
            self.crash_inode(index);
        }
    }

    fn crash_inode(&mut self, index: usize) {
        let Some(inode) = self.inodes.get_mut(index) else { return };
        let writes = std::mem::take(&mut inode.unsynced);
        let mut durable = std::mem::take(&mut inode.durable);
        for (offset, bytes) in writes {
            // All of it, nothing, or some sectors: each as likely.
            let fate = self.below(3);
            for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if fate == 0 || fate == 1 && self.below(2) == 0 {
                    write(&mut durable, offset + number * SECTOR_BYTES, sector);
                }
            }
        }
        if let Some(inode) = self.inodes.get_mut(index) {
            inode.seen.clone_from(&durable);
            inode.durable = durable;
        }
    }

    /// A random number below a limit.
    fn below(&mut self, limit: usize) -> usize {
        self.random = crate::segment::mix(self.random);
        usize::try_from(self.random % limit.max(1) as u64).unwrap_or(0)
    }

    fn inode(&mut self, file: FileName) -> Result<&mut Inode, IoError> {
        let name = file.to_string();
        if !self.open.contains(&name) {
            return Err(NOT_OPEN);
        }
        let inode = self.names.get(&name).ok_or(NOT_FOUND)?;
        self.inodes.get_mut(*inode).ok_or(NOT_FOUND)
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, change.clone());
        self.unsynced_names.push(change);
    }

    fn perform(&mut self, operation: &mut Operation) -> Result<Outcome, IoError> {
        match operation {
            Operation::MakeDirectory => {}
            Operation::List => {
                let files = self.files().into_iter();
                let files = files.map(|(name, size)| (name, size as u64)).collect();
                return Ok(Outcome::Listing(files));
            }
            Operation::SyncDirectory => {
                self.unsynced_names.clear();
                self.durable_names = self.names.clone();
            }
            Operation::Create { file } => self.create(*file)?,
            Operation::Open { file } => {
                let name = file.to_string();
                if !self.names.contains_key(&name) {
                    return Err(NOT_FOUND);
                }
                self.open.insert(name);
            }
            Operation::Close { file } => {
                if !self.open.remove(&file.to_string()) {
                    return Err(NOT_OPEN);
                }
            }
            Operation::Preallocate { file, bytes } => self.preallocate(*file, *bytes)?,
            Operation::Write { file, offset, buffer, range } => {
                let end = self.shorten(range);
                let bytes = buffer.as_bytes().get(range.start..end).unwrap_or_default().to_vec();
                return self.write(*file, *offset, bytes);
            }
            Operation::Read { file, offset, buffer, range } => {
                let end = self.shorten(range);
                let bytes = buffer.as_mut_bytes().get_mut(range.start..end);
                return self.read(*file, *offset, bytes.unwrap_or_default());
            }
            Operation::Sync { file } => {
                let inode = self.inode(*file)?;
                for (offset, bytes) in std::mem::take(&mut inode.unsynced) {
                    write(&mut inode.durable, offset, &bytes);
                }
                let size = inode.durable.len().max(inode.seen.len());
                inode.durable.resize(size, 0);
            }
            Operation::Rename { from, to } => self.rename(*from, *to)?,
            Operation::Remove { file } => {
                let name = file.to_string();
                if !self.names.contains_key(&name) {
                    return Err(NOT_FOUND);
                }
                assert!(!self.open.contains(&name), "{name} is removed while it is open");
                self.change(NameChange::Unlink(name));
            }
        }
        Ok(Outcome::Done)
    }

    /// Where a transfer that is cut short ends.
    fn shorten(&mut self, range: &Range<usize>) -> usize {
        if self.shorts.remove(&(self.executed - 1)) {
            let blocks = range.len() / BLOCK_BYTES;
            return range.start + self.below(blocks) * BLOCK_BYTES + self.below(8) * SECTOR_BYTES;
        }
        range.end
    }

    fn create(&mut self, file: FileName) -> Result<(), IoError> {
        let name = file.to_string();
        if self.names.contains_key(&name) {
            return Err(EXISTS);
        }
        self.inodes.push(Inode::default());
        self.open.insert(name.clone());
        self.change(NameChange::Link(name, self.inodes.len() - 1));
        Ok(())
    }

    fn preallocate(&mut self, file: FileName, bytes: u64) -> Result<(), IoError> {
        let (used, capacity) = (self.used_bytes(), self.capacity_bytes);
        let inode = self.inode(file)?;
        let size = usize::try_from(bytes).map_err(|_| IoError::NO_SPACE)?;
        let grown = size.saturating_sub(inode.seen.len());
        if used + grown as u64 > capacity {
            return Err(IoError::NO_SPACE);
        }
        inode.seen.resize(inode.seen.len() + grown, 0);
        Ok(())
    }

    fn write(&mut self, file: FileName, offset: u64, bytes: Vec<u8>) -> Result<Outcome, IoError> {
        let (used, capacity) = (self.used_bytes(), self.capacity_bytes);
        let inode = self.inode(file)?;
        let offset = usize::try_from(offset).map_err(|_| IoError::NO_SPACE)?;
        let length = bytes.len();
        let grown = (offset + length).saturating_sub(inode.seen.len());
        if grown > 0 && used + grown as u64 > capacity {
            return Err(IoError::NO_SPACE);
        }
        write(&mut inode.seen, offset, &bytes);
        inode.unsynced.push((offset, bytes));
        Ok(Outcome::Bytes(length))
    }

    fn read(&mut self, file: FileName, offset: u64, bytes: &mut [u8]) -> Result<Outcome, IoError> {
        let offset = usize::try_from(offset).map_err(|_| IoError::DEVICE)?;
        let (name, end) = (file.to_string(), offset + bytes.len());
        let is_hit = |(broken, range): &(String, Range<usize>)| {
            *broken == name && range.start < end && offset < range.end
        };
        if self.unreadable.iter().any(is_hit) {
            return Err(IoError::DEVICE);
        }
        let inode = self.inode(file)?;
        let found = inode.seen.get(offset..).unwrap_or_default();
        let length = found.len().min(bytes.len());
        for (byte, found) in bytes.iter_mut().zip(found) {
            *byte = *found;
        }
        Ok(Outcome::Bytes(length))
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), IoError> {
        let (from, to) = (from.to_string(), to.to_string());
        if !self.names.contains_key(&from) {
            return Err(NOT_FOUND);
        }
        assert!(!self.names.contains_key(&to), "{from} would replace {to}");
        if self.open.remove(&from) {
            self.open.insert(to.clone());
        }
        self.change(NameChange::Rename(from, to));
        Ok(())
    }

    /// A request that fails may have done part of its work.
    fn perform_badly(&mut self, operation: &Operation, error: IoError) {
        match operation {
            // What a failed sync was for will never become durable, and nobody will say so.
            Operation::Sync { file } if !error.did_not_run() => {
                if let Ok(inode) = self.inode(*file) {
                    inode.unsynced.clear();
                }
            }
            Operation::Write { file, offset, buffer, range } if error == IoError::DEVICE => {
                let end = range.start + self.below(range.len() / SECTOR_BYTES) * SECTOR_BYTES;
                let bytes = buffer.as_bytes().get(range.start..end).unwrap_or_default().to_vec();
                // Whether that part gets there is nobody's business: the write failed.
                let _part = self.write(*file, *offset, bytes);
            }
            _ => {}
        }
    }
}

impl Disk for FaultyDisk {
    fn execute(&mut self, request: Request) -> Completion {
        let Request { ticket, mut operation, .. } = request;
        let failure = self.failures.remove(&self.executed);
        self.executed += 1;
        let result = match failure {
            Some(error) => {
                self.perform_badly(&operation, error);
                Err(error)
            }
            None => self.perform(&mut operation),
        };
        let buffer = match operation {
            Operation::Write { buffer, .. } | Operation::Read { buffer, .. } => Some(buffer),
            _ => None,
        };
        Completion { ticket, result, buffer }
    }
}

fn size(inode: &Inode) -> u64 {
    inode.seen.len() as u64
}

fn write(bytes: &mut Vec<u8>, offset: usize, part: &[u8]) {
    if bytes.len() < offset + part.len() {
        bytes.resize(offset + part.len(), 0);
    }
    let (_, rest) = bytes.split_at_mut(offset);
    rest.split_at_mut(part.len()).0.copy_from_slice(part);
}

fn apply(names: &mut BTreeMap<String, usize>, change: NameChange) {
    match change {
        NameChange::Link(name, inode) => {
            names.insert(name, inode);
        }
        NameChange::Unlink(name) => {
            names.remove(&name);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}
