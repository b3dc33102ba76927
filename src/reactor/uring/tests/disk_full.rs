//! Small filesystems of a test's own: without space, and without direct I/O. They need root; they
//! are mounted in a namespace that ends with the test's thread, so nothing is left behind.

use std::ffi::CStr;
use std::path::Path;

use ringmain_storage::request::{Operation, Outcome};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tempfile::TempDir;

use super::files::{A, LOG, RingDisk, filled, write};

/// Runs a test in a new filesystem; says so and does nothing where that is not allowed.
fn on(kind: &'static str, options: &'static CStr, test: fn(&Path)) {
    let thread = std::thread::spawn(move || {
        let root = TempDir::new().unwrap();
        // SAFETY: only this thread's view of the mounts becomes its own; no descriptor or memory
        // is affected.
        let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        let mounted = unshared
            .and_then(|()| mount_change("/", private))
            .and_then(|()| mount(kind, root.path(), kind, MountFlags::empty(), options));
        match mounted {
            Ok(()) => test(root.path()),
            Err(errno) => eprintln!("SKIPPED: cannot mount a {kind} ({errno}); run as root"),
        }
    });
    thread.join().unwrap();
}

#[test]
fn a_full_disk_is_told_apart_and_heals() {
    on("tmpfs", c"size=1m", |root| {
        let mut disk = RingDisk::with_file(root);
        let error = disk.result(Operation::Preallocate { file: A, bytes: 2 << 20 }).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        let file = root.join("filler");
        std::fs::write(&file, vec![1; 768 << 10]).unwrap();
        // What fits is written, and said; then there is no more.
        let Ok(Outcome::Bytes(written)) = disk.result(write(A, 0, filled(512 << 10, 5))) else {
            panic!("nothing fits")
        };
        assert!((4096..512 << 10).contains(&written), "{written}");
        let error = disk.result(write(A, 512 << 10, filled(4096, 5))).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(disk.result(write(A, 0, filled(512 << 10, 5))), Ok(Outcome::Bytes(512 << 10)));
        disk.does(Operation::Sync { file: A });
    });
}

#[test]
fn without_direct_io_files_are_buffered_and_it_is_said_once() {
    on("ramfs", c"", |root| {
        let mut disk = RingDisk::with_file(root);
        let other =
            ringmain_storage::request::FileName::Checkpoint(ringmain_storage::request::Slot::B);
        disk.does(Operation::Create { file: other });
        assert_eq!(disk.world.buffered, [LOG]);
        for file in [A, other] {
            assert_eq!(disk.result(write(file, 4096, filled(8192, 5))), Ok(Outcome::Bytes(8192)));
        }
        let bytes = std::fs::read(disk.directory.join("checkpoint.b")).unwrap();
        assert!(bytes[..4096] == [0; 4096] && bytes[4096..] == [5; 8192]);
    });
}
