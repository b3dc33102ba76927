//! The start-up check: does io_uring work here, and if not, what is missing and who can allow it.

use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use io_uring::{Probe, opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{BufferMode, Completion, ReactorOptions, SetupError, Uring};

/// What the check found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The kernel's release, such as `6.18.44`.
    pub kernel: String,
    /// How receive buffers can be used here.
    pub buffer_mode: BufferMode,
}

impl Report {
    /// The measured sizes for this kernel.
    pub fn options(&self) -> ReactorOptions {
        ReactorOptions::for_mode(self.buffer_mode)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = match self.buffer_mode {
            BufferMode::Incremental => "incremental receive buffers",
            BufferMode::Whole => "whole receive buffers (incremental ones need Linux 6.12)",
        };
        write!(f, "io_uring on Linux {}, {buffers}", self.kernel)
    }
}

/// Why io_uring cannot be used; displayed, it says what to do.
#[derive(Debug)]
pub struct Unavailable {
    cause: Cause,
    kernel: String,
    /// The sysctl `kernel.io_uring_disabled`, where the kernel has it.
    disabled: Option<String>,
}

#[derive(Debug)]
enum Cause {
    Setup(SetupError),
    Operation(&'static str),
    SelfTest(&'static str),
}

/// Builds a small reactor as a shard would, asks the kernel for every operation used, and receives
/// bytes through a pair of sockets.
///
/// # Errors
///
/// What is missing, and how to allow it.
pub fn check() -> Result<Report, Unavailable> {
    let kernel = kernel_release();
    examine().map(|buffer_mode| Report { kernel: kernel.clone(), buffer_mode }).map_err(|cause| {
        let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        Unavailable { cause, kernel, disabled: disabled.map(|text| text.trim().to_owned()) }
    })
}

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn examine() -> Result<BufferMode, Cause> {
    let (mut reactor, mode) = match small(BufferMode::Incremental) {
        Ok(reactor) => (reactor, BufferMode::Incremental),
        Err(refused) if refused.error.raw_os_error() == Some(libc::EINVAL) => {
            (small(BufferMode::Whole).map_err(Cause::Setup)?, BufferMode::Whole)
        }
        Err(refused) => return Err(Cause::Setup(refused)),
    };
    find_operations(&reactor)?;
    receive_something(&mut reactor)?;
    Ok(mode)
}

fn small(buffer_mode: BufferMode) -> Result<Uring, SetupError> {
    Uring::new(ReactorOptions {
        submission_entries: 8,
        completion_entries: 16,
        buffer_mode,
        buffer_count: 2,
        buffer_bytes: 4096,
    })
}

fn find_operations(reactor: &Uring) -> Result<(), Cause> {
    const USED: [(u8, &str); 16] = [
        (opcode::AcceptMulti::CODE, "ACCEPT"),
        (opcode::RecvMulti::CODE, "RECV"),
        (opcode::Send::CODE, "SEND"),
        (opcode::SendMsg::CODE, "SENDMSG"),
        (opcode::AsyncCancel2::CODE, "ASYNC_CANCEL"),
        (opcode::Timeout::CODE, "TIMEOUT"),
        (opcode::Read::CODE, "READ"),
        (opcode::MsgRingData::CODE, "MSG_RING"),
        (opcode::OpenAt::CODE, "OPENAT"),
        (opcode::Close::CODE, "CLOSE"),
        (opcode::Fallocate::CODE, "FALLOCATE"),
        (opcode::Write::CODE, "WRITE"),
        (opcode::Fsync::CODE, "FSYNC"),
        (opcode::RenameAt::CODE, "RENAMEAT"),
        (opcode::UnlinkAt::CODE, "UNLINKAT"),
        (opcode::MkDirAt::CODE, "MKDIRAT"),
    ];
    let mut probe = Probe::new();
    reactor
        .register_probe(&mut probe)
        .map_err(|error| Cause::Setup(SetupError { step: "ask for its operations", error }))?;
    match USED.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(Cause::Operation(name)),
        None => Ok(()),
    }
}

/// A multishot receive from the buffer ring, twice, so that it is seen to go on.
fn receive_something(reactor: &mut Uring) -> Result<(), Cause> {
    let (near, far) = pair()?;
    let token = reactor.add_socket(near);
    reactor.start_receive(token);
    for expected in [b"first ", b"second"] {
        if rustix::io::write(&far, expected) != Ok(expected.len()) {
            return Err(Cause::SelfTest("could not write to a socket"));
        }
        receive_one(reactor, expected)?;
    }
    reactor.close(token);
    Ok(())
}

fn pair() -> Result<(OwnedFd, OwnedFd), Cause> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|_| Cause::SelfTest("could not create a pair of sockets"))
}

fn receive_one(reactor: &mut Uring, expected: &[u8]) -> Result<(), Cause> {
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        if reactor.enter(Some(Duration::from_millis(100))).is_err() {
            return Err(Cause::SelfTest("the ring could not be entered"));
        }
        while let Some(completion) = reactor.next() {
            match completion {
                Completion::Received { chunk, .. } => {
                    let equal = reactor.bytes(&chunk) == expected;
                    reactor.recycle(chunk);
                    let wrong = Cause::SelfTest("received other bytes than were sent");
                    return if equal { Ok(()) } else { Err(wrong) };
                }
                Completion::ReceiveEnded { .. } => {
                    return Err(Cause::SelfTest("a multishot receive failed"));
                }
                _ => {}
            }
        }
    }
    Err(Cause::SelfTest("a multishot receive delivered nothing within a second"))
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Setup(setup) => {
                write!(f, "{setup}; {}", self.remedy(setup.error.raw_os_error()))
            }
            Cause::Operation(name) => {
                write!(f, "io_uring: the kernel lacks the operation {name}; {}", self.too_old())
            }
            Cause::SelfTest(what) => {
                write!(f, "io_uring: {what} in the start-up test; {}", self.too_old())
            }
        }
    }
}

impl std::error::Error for Unavailable {}

impl Unavailable {
    fn remedy(&self, errno: Option<i32>) -> String {
        match (errno, self.disabled.as_deref()) {
            (Some(libc::EPERM | libc::EACCES), Some("2")) => {
                "it is switched off on this machine: sysctl kernel.io_uring_disabled=0".to_owned()
            }
            (Some(libc::EPERM | libc::EACCES), Some("1")) => {
                "it is kept to privileged processes on this machine: sysctl \
                 kernel.io_uring_disabled=0, or add the daemon's group to \
                 kernel.io_uring_group"
                    .to_owned()
            }
            (Some(libc::EPERM | libc::EACCES), _) => {
                "a seccomp profile forbids it, as that of Docker 25 and containerd 2.0 does: run \
                 the container with a profile that allows io_uring_setup, io_uring_enter and \
                 io_uring_register (docker run --security-opt seccomp=PROFILE.json)"
                    .to_owned()
            }
            (Some(libc::ENOSYS), _) => {
                format!(
                    "this kernel ({}) was built without io_uring, or a sandbox such as gVisor \
                     hides it; Linux 6.1 or later with CONFIG_IO_URING is needed",
                    self.kernel
                )
            }
            (Some(libc::ENOMEM), _) => {
                "there is not enough memory that may be locked: raise RLIMIT_MEMLOCK (ulimit -l, \
                 LimitMEMLOCK= in systemd, --ulimit memlock= in Docker)"
                    .to_owned()
            }
            (Some(libc::EMFILE | libc::ENFILE), _) => {
                "there are too many open files: raise RLIMIT_NOFILE (ulimit -n)".to_owned()
            }
            _ => self.too_old(),
        }
    }

    fn too_old(&self) -> String {
        format!("Linux 6.1 or later is needed, this is {}", self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn unavailable(errno: i32, disabled: Option<&str>) -> String {
        let error = io::Error::from_raw_os_error(errno);
        let cause = Cause::Setup(SetupError { step: "set up a ring", error });
        let kernel = "5.15.0".to_owned();
        Unavailable { cause, kernel, disabled: disabled.map(str::to_owned) }.to_string()
    }

    #[test]
    fn this_machine_passes() {
        let report = check().expect("the tests need io_uring");
        assert!(report.to_string().starts_with("io_uring on Linux "));
        assert_eq!(report.options().buffer_mode, report.buffer_mode);
    }

    #[test]
    fn each_refusal_names_its_remedy() {
        let table = [
            (libc::EPERM, Some("2"), "sysctl kernel.io_uring_disabled=0"),
            (libc::EPERM, Some("1"), "kernel.io_uring_group"),
            (libc::EPERM, Some("0"), "seccomp"),
            (libc::EPERM, None, "seccomp"),
            (libc::ENOSYS, None, "gVisor"),
            (libc::ENOMEM, None, "RLIMIT_MEMLOCK"),
            (libc::EMFILE, None, "RLIMIT_NOFILE"),
            (libc::EINVAL, None, "Linux 6.1 or later is needed, this is 5.15.0"),
        ];
        for (errno, disabled, remedy) in table {
            let text = unavailable(errno, disabled);
            assert!(text.contains(remedy), "{errno} {disabled:?}: {text}");
            assert!(text.starts_with("io_uring: could not set up a ring: "), "{text}");
        }
    }
}
