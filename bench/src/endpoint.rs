//! Where a daemon listens: an address of the network or a unix socket.

use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time the daemon has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket of this path.
    Unix(PathBuf),
}

impl Endpoint {
    /// `HOST:PORT`, or the path of a unix socket: whatever has a slash in it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.contains('/') {
            return Ok(Self::Unix(text.strip_prefix("unix:").unwrap_or(text).into()));
        }
        let mut found = text.to_socket_addrs().with_context(|| {
            format!("cannot resolve {text}: give it as HOST:PORT or the path of a unix socket")
        })?;
        Ok(Self::Tcp(found.next().with_context(|| format!("{text} has no address"))?))
    }

    /// Connects and waits for it. A unix socket comes as a `TcpStream` too: that type is but the
    /// owner of a stream socket, and reads, writes and time limits are the same for both.
    pub(crate) fn connect(&self) -> Result<TcpStream> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)
                    .with_context(|| format!("cannot connect to {self}"))?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .with_context(|| format!("cannot connect to {self}"))?;
                Ok(TcpStream::from(OwnedFd::from(stream)))
            }
        }
    }

    /// Connects on the ring of this thread.
    pub(crate) async fn connect_on_ring(&self) -> Result<tokio_uring::net::TcpStream> {
        match self {
            Self::Tcp(address) => {
                let stream = tokio_uring::net::TcpStream::connect(*address)
                    .await
                    .with_context(|| format!("cannot connect to {self}"))?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
            // It never waits for a network.
            Self::Unix(_) => Ok(tokio_uring::net::TcpStream::from_std(self.connect()?)),
        }
    }

    /// Whether somebody accepts connections.
    pub(crate) fn listens(&self) -> bool {
        self.connect().is_ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths_are_told_apart() {
        let shown = |text: &str| Endpoint::parse(text).unwrap();
        assert_eq!(shown("127.0.0.1:4150"), Endpoint::Tcp(([127, 0, 0, 1], 4150).into()));
        assert_eq!(shown("/run/nsqd.sock"), Endpoint::Unix("/run/nsqd.sock".into()));
        assert_eq!(shown("unix:/run/nsqd.sock"), shown("/run/nsqd.sock"));
        assert_eq!(shown("./nsqd.sock").to_string(), "./nsqd.sock");
        assert!(Endpoint::parse("nowhere").is_err());
    }
}
