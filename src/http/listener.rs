//! The socket HTTP requests come in on: TCP or unix.

use crate::options::ListenAddress;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// A bound listening socket.
#[derive(Debug)]
pub enum HttpListener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket; its path is removed when listening ends.
    Unix(UnixListener, PathBuf),
}

impl HttpListener {
    /// Binds an address as `--http-address` has it; `None` for the empty one.
    ///
    /// # Errors
    /// The text of NSQ's failure: `listen (<address>) failed - <reason>`.
    pub fn bind(address: &str) -> Result<Option<Self>, String> {
        if address.is_empty() {
            return Ok(None);
        }
        let failed = |reason: String| format!("listen ({address}) failed - {reason}");
        let listener = match ListenAddress::parse(address).map_err(failed)? {
            ListenAddress::Tcp { host, port } => {
                let addresses = resolve(&host, port).map_err(|error| failed(error.to_string()))?;
                TcpListener::bind(addresses.as_slice()).map(Self::Tcp)
            }
            ListenAddress::Unix(path) => {
                UnixListener::bind(&path).map(|listener| Self::Unix(listener, path))
            }
        };
        listener.map(Some).map_err(|error| failed(error.to_string()))
    }

    /// The port, −1 for a unix socket.
    pub fn port(&self) -> i32 {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(0, |address| address.port().into()),
            Self::Unix(..) => -1,
        }
    }

    /// The address as NSQ logs it.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
            }
            Self::Unix(_, path) => path.display().to_string(),
        }
    }
}

/// The socket addresses of a host to listen on, the preferred first. The empty host is every
/// interface, over both IP versions where the kernel has both.
///
/// # Errors
/// When the name cannot be resolved.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.is_empty() {
        return Ok(vec![([0_u16; 8], port).into(), ([0_u8; 4], port).into()]);
    }
    Ok((host, port).to_socket_addrs()?.collect())
}

/// The other end of a connection as NSQ logs it: an IPv4 client of a socket for both IP versions
/// has its IPv4 address.
pub fn peer_name(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// An error of the system as Go words it: without the number.
pub fn go_text(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}
