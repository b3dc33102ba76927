//! A filesystem of a test's own: small, on a loop device, to be filled, or to lose its power.
//!
//! The test runs itself again in a namespace of mounts that ends with it, so that nothing is left
//! behind whatever happens.

use crate::support::daemon::program;
use crate::support::wait::eventually;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Set in the process that runs in the namespace.
const INSIDE: &str = "RINGMAIN_TEST_INSIDE";

/// `EXT4_IOC_SHUTDOWN` without flushing the journal: what was not synced is gone.
const CUT_POWER: &str = "open(my $f, '<', $ARGV[0]) or die \"open: $!\"; \
     my $flag = pack('L', 2); ioctl($f, 0x8004587d, $flag) or die \"ioctl: $!\"";

/// Runs a test where it may mount; says so and does nothing where that is not possible. `name` is
/// its path in this program.
pub(super) fn with_mounts(name: &str, test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    if let Err(reason) = Disk::new(8 << 20, &[], Probe::Outside) {
        return eprintln!("SKIPPED: {reason}; run as root, with loop devices");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(env::current_exe().expect("this program has a path"));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let status = command.env(INSIDE, "1").env("RINGMAIN_NSQD", program()).status();
    let status = status.expect("unshare can be run, it was before");
    assert!(status.success(), "{name} in its own namespace: {status}");
}

/// Whether a disk is only made to see that it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// In a namespace that ends at once.
    Outside,
    /// No: it is used.
    Inside,
}

/// An ext4 in a file.
pub(super) struct Disk {
    home: TempDir,
    image: PathBuf,
    /// The image lies on a filesystem of its own, in memory.
    is_thin: bool,
}

impl Disk {
    /// Makes and mounts one of so many bytes. `options` are those of `mkfs.ext4`.
    pub(super) fn new(bytes: u64, options: &[&str], probe: Probe) -> Result<Self, String> {
        let home = TempDir::new().map_err(|error| error.to_string())?;
        let image = home.path().join("image");
        let disk = Self { home, image, is_thin: false };
        fs::create_dir(disk.mount_point()).map_err(|error| error.to_string())?;
        disk.make(bytes, options)?;
        if probe == Probe::Outside {
            let script = "mount -o loop \"$1\" \"$2\" && umount \"$2\"";
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
            run(unshare.arg(&disk.image).arg(disk.mount_point()))?;
            run(Command::new("perl").arg("-v"))?;
        } else {
            disk.mount()?;
        }
        Ok(disk)
    }

    /// One that promises so many bytes, and has far fewer: when those are used up the device fails,
    /// and with it the filesystem's journal.
    pub(super) fn thin(bytes: u64, backing_bytes: u64) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let backing = home.path().join("backing");
        let image = backing.join("image");
        let disk = Self { home, image, is_thin: true };
        for directory in [&backing, &disk.mount_point()] {
            fs::create_dir(directory).expect("a directory in a new one");
        }
        let size = format!("size={backing_bytes}");
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&backing))
            .and_then(|()| disk.make(bytes, &[]))
            .and_then(|()| disk.mount())
            .expect("it may mount");
        disk
    }

    /// What a thin disk has from here on.
    pub(super) fn thicken(&self, backing_bytes: u64) {
        assert!(self.is_thin);
        let size = format!("remount,size={backing_bytes}");
        let backing = self.image.parent().expect("a directory of its own");
        run(Command::new("mount").args(["-o", &size]).arg(backing)).expect("memory for it");
    }

    fn make(&self, bytes: u64, options: &[&str]) -> Result<(), String> {
        let file = File::create(&self.image).and_then(|file| file.set_len(bytes));
        file.map_err(|error| format!("{}: {error}", self.image.display()))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).args(options).arg(&self.image))
    }

    /// Where its files are seen.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.home.path().join("mounted")
    }

    /// The flag that puts a daemon's files there.
    pub(super) fn data_path_flag(&self) -> String {
        format!("--data-path={}", self.mount_point().display())
    }

    /// Makes the files seen again after [`Self::unmount`].
    pub(super) fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).arg(&self.image).arg(self.mount_point()))
    }

    /// The daemon must have ended; the kernel lets go of the files of its ring some time after.
    pub(super) fn unmount(&self) {
        eventually(|| run(Command::new("umount").arg(self.mount_point())));
    }

    /// From here on every access fails, and what was not synced will not be there.
    pub(super) fn cut_power(&self) {
        let mut perl = Command::new("perl");
        run(perl.args(["-e", CUT_POWER]).arg(self.mount_point()))
            .expect("an ext4 can be shut down");
    }

    /// Takes all space that is left.
    pub(super) fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file in the root of the filesystem");
        let mut bytes = &[b'f'; 1 << 20][..];
        while !bytes.is_empty() {
            if file.write_all(bytes).and_then(|()| file.sync_data()).is_err() {
                bytes = &bytes[..bytes.len() / 2];
            }
        }
    }

    /// Gives back what [`Self::fill`] has taken.
    pub(super) fn make_space(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.mount_point().join("filler")
    }
}

/// Runs a command that must succeed; why not, if not.
pub(super) fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A copy of a directory and all in it.
pub(super) fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    run(cp.args(["--archive", "--sparse=always"]).arg(from).arg(to)).expect("files can be copied");
}
