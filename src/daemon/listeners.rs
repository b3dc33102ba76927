//! The sockets clients connect to.

use crate::http::listener::{go_text, resolve};
use crate::limits::{BIND_PATIENCE, BIND_RETRY};
use crate::options::ListenAddress;
use crate::reactor::listen::{bind_tcp, bind_unix, local_address};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What `--tcp-address` names, bound.
pub(super) struct TcpSide {
    /// Per shard; for a unix socket only the first has one.
    pub(super) listeners: Vec<Option<OwnedFd>>,
    /// Whether that first shard hands sockets to all shards in turn.
    pub(super) spreads: bool,
    /// What is bound, as NSQ logs it.
    name: String,
}

impl TcpSide {
    /// Binds the address, a listener per shard where it is TCP.
    ///
    /// # Errors
    /// The text of NSQ's failure.
    pub(super) fn bind(address: &str, shards: usize) -> Result<Self, String> {
        let failed = |reason: String| format!("listen ({address}) failed - {reason}");
        match ListenAddress::parse(address).map_err(failed)? {
            ListenAddress::Tcp { host, port } => {
                let addresses = resolve(&host, port).map_err(|error| failed(error.to_string()))?;
                let mut bound = Err(io::ErrorKind::AddrNotAvailable.into());
                for candidate in addresses {
                    bound = bind_patiently(|| bind_tcp(candidate, shards));
                    if bound.is_ok() {
                        break;
                    }
                }
                let sockets = bound.map_err(|error| {
                    failed(format!("listen tcp {address}: bind: {}", go_text(&error)))
                })?;
                let name = sockets.first().and_then(|socket| local_address(socket).ok());
                let name = name.map(|local| local.to_string()).unwrap_or_default();
                let listeners = sockets.into_iter().map(Some).collect();
                Ok(Self { listeners, spreads: false, name })
            }
            ListenAddress::Unix(path) => {
                let socket = bind_unix(&path).map_err(|error| {
                    failed(format!("listen unix {address}: bind: {}", go_text(&error)))
                })?;
                let mut listeners = vec![Some(socket)];
                listeners.resize_with(shards, || None);
                Ok(Self { listeners, spreads: true, name: path.display().to_string() })
            }
        }
    }

    /// The port clients really connect to, −1 for a unix socket.
    pub(super) fn port(&self) -> i32 {
        if self.spreads { -1 } else { self.local().map_or(0, |address| address.port().into()) }
    }

    /// What is bound, as NSQ logs it.
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    /// Removes the file of a unix socket, as the daemon ends.
    pub(super) fn remove(address: &str) {
        if let Ok(ListenAddress::Unix(path)) = ListenAddress::parse(address) {
            // It may have been removed by hand already.
            let _ = std::fs::remove_file(path);
        }
    }

    fn local(&self) -> Option<std::net::SocketAddr> {
        local_address(self.listeners.first()?.as_ref()?).ok()
    }
}

/// Binds, and waits a little for an address that is in use: the kernel frees the sockets of a
/// killed daemon's rings only some milliseconds after the process is gone, and a supervisor
/// restarts it at once.
fn bind_patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut waited = Duration::ZERO;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && waited < BIND_PATIENCE => {
                std::thread::sleep(BIND_RETRY);
                waited += BIND_RETRY;
            }
            bound => return bound,
        }
    }
}
