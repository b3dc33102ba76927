//! Listening sockets, and the names of the peers that connect to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getpeername, getsockname, listen,
    socket_with, sockopt,
};

use crate::limits::LISTEN_BACKLOG;

/// Binds one listener per shard to the same address; the kernel spreads connections over them
/// (`SO_REUSEPORT`). Port 0 is chosen once for all. As in Go, an unspecified address (`0.0.0.0` or
/// `[::]`) listens on IPv6 and IPv4 alike where there is IPv6.
///
/// # Errors
///
/// What the kernel says. A port on which anybody listens, including another daemon of this kind, is
/// `EADDRINUSE`.
pub fn bind_tcp(address: SocketAddr, shards: usize) -> io::Result<Vec<OwnedFd>> {
    if !address.ip().is_unspecified() {
        return bind_tcp_exactly(address, shards);
    }
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
    match bind_tcp_exactly(both, shards) {
        Err(error) if lacks_ipv6(&error) => {
            let ipv4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            bind_tcp_exactly(ipv4, shards)
        }
        result => result,
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_tcp_exactly(address: SocketAddr, shards: usize) -> io::Result<Vec<OwnedFd>> {
    // The first is bound without SO_REUSEPORT, so that it fails where somebody else listens with
    // it; once bound, it lets the others in.
    let first = tcp_socket(address)?;
    bind(&first, &address)?;
    sockopt::set_socket_reuseport(&first, true)?;
    let address = local_address(&first)?;
    listen(&first, LISTEN_BACKLOG)?;
    let mut listeners = vec![first];
    while listeners.len() < shards {
        let socket = tcp_socket(address)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, LISTEN_BACKLOG)?;
        listeners.push(socket);
    }
    Ok(listeners)
}

fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    // Accepted sockets inherit it: answers leave at the end of a turn, not of a round trip.
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Binds a listener to a path. Its file stays when the listener closes; removing it is the
/// caller's.
///
/// # Errors
///
/// What the kernel says; `EADDRINUSE` when the file exists, whoever left it.
pub fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &address)?;
    listen(&socket, LISTEN_BACKLOG)?;
    Ok(socket)
}

/// The address a TCP socket is bound to.
///
/// # Errors
///
/// What the kernel says, and `EAFNOSUPPORT` for a socket that is not of the internet.
pub fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?)
}

/// Who is at the other end, as NSQ writes it: `ip:port`, `[ip]:port` for IPv6, the path of a unix
/// socket, and `@` for one without a name. Empty when the peer is gone already.
pub fn peer_name(socket: &OwnedFd) -> String {
    match getpeername(socket) {
        Ok(Some(address)) => match SocketAddr::try_from(address.clone()) {
            Ok(peer) => SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string(),
            Err(_) => unix_name(SocketAddrUnix::try_from(address).ok()),
        },
        Ok(None) => unix_name(None),
        Err(_) => String::new(),
    }
}

fn unix_name(address: Option<SocketAddrUnix>) -> String {
    let path = address.as_ref().and_then(SocketAddrUnix::path_bytes);
    path.map_or_else(|| "@".to_owned(), |path| String::from_utf8_lossy(path).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn shards_share_a_port_that_nobody_else_gets() {
        let listeners = bind_tcp(loopback(0), 3).unwrap();
        let addresses: Vec<_> =
            listeners.iter().map(|listener| local_address(listener).unwrap()).collect();
        assert!(addresses.iter().all(|address| *address == addresses[0]));
        assert_ne!(addresses[0].port(), 0);
        let error = bind_tcp(addresses[0], 3).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "a second daemon");
        drop(listeners);
        bind_tcp(addresses[0], 1).unwrap();
    }

    #[test]
    fn every_listener_is_given_connections() {
        let listeners: Vec<TcpListener> =
            bind_tcp(loopback(0), 2).unwrap().into_iter().map(TcpListener::from).collect();
        let address = listeners[0].local_addr().unwrap();
        let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut accepted = 0;
        for listener in listeners {
            listener.set_nonblocking(true).unwrap();
            let share = std::iter::from_fn(|| listener.accept().ok()).count();
            assert!(share > 0, "one listener got all {}", clients.len());
            accepted += share;
        }
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn an_unspecified_address_takes_ipv4_clients() {
        let listener = bind_tcp("0.0.0.0:0".parse().unwrap(), 1).unwrap().remove(0);
        let port = local_address(&listener).unwrap().port();
        let client = TcpStream::connect(loopback(port)).unwrap();
        let (socket, _) = TcpListener::from(listener).accept().unwrap();
        // Also when it came through IPv6, an IPv4 client has its own name.
        assert_eq!(peer_name(&socket.into()), client.local_addr().unwrap().to_string());
    }

    #[test]
    fn an_ipv6_peer_is_named_in_brackets() {
        let Ok(listener) = bind_tcp("[::1]:0".parse().unwrap(), 1) else { return };
        let listener = TcpListener::from(listener.into_iter().next().unwrap());
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let port = client.local_addr().unwrap().port();
        assert_eq!(peer_name(&socket.into()), format!("[::1]:{port}"));
    }

    #[test]
    fn unix_sockets() {
        let path = std::env::temp_dir().join(format!("ringmain-listen-{}", std::process::id()));
        let listener = bind_unix(&path).unwrap();
        let error = bind_unix(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "the file is there");
        let client = UnixStream::connect(&path).unwrap();
        let (socket, _) = UnixListener::from(listener).accept().unwrap();
        assert_eq!(peer_name(&socket.into()), "@");
        assert_eq!(peer_name(&client.into()), path.to_str().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(bind_unix(Path::new("/nonexistent/socket")).is_err());
    }
}
