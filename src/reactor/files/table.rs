//! What is open: the logs with their directories, and who still uses each descriptor.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringmain_storage::request::{FileName, LogKey};
use slab::Slab;

/// Where a log lies. Operations hold on to it for as long as the kernel may read a path.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) directory: PathBuf,
    pub(super) directory_c: CString,
    pub(super) parent_c: CString,
}

impl Paths {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let parent = directory.parent().unwrap_or(Path::new("/"));
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Ok(Self {
            directory: directory.to_owned(),
            directory_c: CString::new(directory.as_os_str().as_bytes())?,
            parent_c: CString::new(parent.as_os_str().as_bytes())?,
        })
    }

    pub(super) fn directory(&self) -> &CStr {
        &self.directory_c
    }

    pub(super) fn parent(&self) -> &CStr {
        &self.parent_c
    }
}

/// One log and what is open of it, as places among the [`Descriptors`].
#[derive(Debug)]
pub(super) struct Log {
    pub(super) paths: Rc<Paths>,
    pub(super) directory: Option<usize>,
    pub(super) files: BTreeMap<FileName, usize>,
}

/// All logs of a shard.
pub(super) type Logs = BTreeMap<LogKey, Log>;

/// A descriptor on loan to an operation, and sure to stay open until it is given back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loan {
    place: usize,
    pub(super) raw: RawFd,
}

struct Place {
    descriptor: OwnedFd,
    /// Operations that have it on loan.
    loans: u32,
    /// The operation that closes it when the last loan ends.
    closer: Option<usize>,
}

/// Open descriptors. Hazard 3: one is closed only when no operation names it any more, since its
/// number may be given to another file at once.
#[derive(Default)]
pub(super) struct Descriptors(Slab<Place>);

impl Descriptors {
    pub(super) fn insert(&mut self, descriptor: OwnedFd) -> usize {
        self.0.insert(Place { descriptor, loans: 0, closer: None })
    }

    /// # Panics
    ///
    /// When nothing is there: names are taken out of the tables before descriptors.
    pub(super) fn lend(&mut self, place: usize) -> Loan {
        let entry = &mut self.0[place];
        entry.loans += 1;
        Loan { place, raw: entry.descriptor.as_raw_fd() }
    }

    /// Takes a loan back. The last one of a descriptor to be closed brings the operation that has
    /// been waiting to close it, and the descriptor.
    pub(super) fn take_back(&mut self, loan: Loan) -> Option<(usize, OwnedFd)> {
        let entry = &mut self.0[loan.place];
        entry.loans -= 1;
        let closer = entry.closer.filter(|_| entry.loans == 0)?;
        Some((closer, self.0.remove(loan.place).descriptor))
    }

    /// Takes a descriptor out for `closer` to close: now, or when the last loan ends.
    pub(super) fn close(&mut self, place: usize, closer: usize) -> Option<OwnedFd> {
        let entry = &mut self.0[place];
        if entry.loans == 0 {
            return Some(self.0.remove(place).descriptor);
        }
        entry.closer = Some(closer);
        None
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
