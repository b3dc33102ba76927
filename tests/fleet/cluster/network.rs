//! Hosts for a cluster: network namespaces on one bridge where root is available, loopback
//! otherwise.
//!
//! The test runs itself again in a namespace of its own, which holds the bridge and the clients
//! and ends with it, so that nothing is left behind whatever happens.

use std::env;
use std::process::Command;

/// Set in the process that runs in the namespace.
const INSIDE: &str = "RINGMAIN_TEST_INSIDE";

const HOSTS: usize = 4;

/// Makes the bridge and its hosts, `$1` of them; their names are visible here alone.
const SETUP: &str = "set -e
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link set lo up
ip link add bridge0 type bridge
ip addr add 10.64.0.100/24 dev bridge0
ip link set bridge0 up
for i in $(seq \"$1\"); do
    ip netns add host$i
    ip link add veth$i type veth peer name eth0 netns host$i
    ip link set veth$i master bridge0 up
    ip -n host$i addr add 10.64.0.$i/24 dev eth0
    ip -n host$i link set eth0 up
    ip -n host$i link set lo up
done";

/// A machine of the cluster.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// The address that others reach it by.
    pub(super) ip: String,
    namespace: Option<String>,
}

impl Host {
    /// Runs a program on this host.
    pub(super) fn command(&self, program: &str) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, program]);
                command
            }
        }
    }
}

/// Runs a test with hosts. `name` is its path in this program.
pub(super) fn with_hosts(name: &str, test: impl FnOnce([Host; HOSTS])) {
    if env::var_os(INSIDE).is_some() {
        set_up(&mut shell()).expect("it could be set up before");
        return test(std::array::from_fn(|at| Host {
            ip: format!("10.64.0.{}", at + 1),
            namespace: Some(format!("host{}", at + 1)),
        }));
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--propagation", "private"]);
    let mut probe = Command::new("unshare");
    probe.args(unshare.get_args()).arg("sh");
    if let Err(reason) = set_up(&mut probe) {
        eprintln!("on loopback, for want of network namespaces: {reason}");
        let host = || Host { ip: "127.0.0.1".to_owned(), namespace: None };
        return test(std::array::from_fn(|_| host()));
    }
    unshare.arg(env::current_exe().expect("this program has a path"));
    unshare.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let status = unshare.env(INSIDE, "1").status().expect("unshare can be run, it was before");
    assert!(status.success(), "{name} in its own namespace: {status}");
}

fn shell() -> Command {
    Command::new("sh")
}

fn set_up(shell: &mut Command) -> Result<(), String> {
    let output = shell.args(["-c", SETUP, "sh", &HOSTS.to_string()]).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
