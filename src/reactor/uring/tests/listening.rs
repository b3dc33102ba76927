//! Accepting connections, and being refused them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use super::*;
use crate::reactor::listen;

fn listening(world: &mut World) -> SocketAddr {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = listen::bind_tcp(any_port, 1).unwrap().remove(0);
    let address = listen::local_address(&listener).unwrap();
    assert_eq!(world.reactor.add_listener(listener).index(), 0);
    address
}

#[test]
fn connections_are_accepted() {
    let mut world = World::tiny(BufferMode::Incremental);
    let address = listening(&mut world);
    let clients: Vec<_> = (0..30).map(|_| TcpStream::connect(address).unwrap()).collect();
    world.until(|world| world.accepted.len() == 30);
    assert_eq!(world.reactor.counters().accepted, 30);
    for socket in &world.accepted {
        assert!(rustix::net::sockopt::tcp_nodelay(socket).unwrap(), "inherited");
        let flags = rustix::io::fcntl_getfd(socket).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let name = listen::peer_name(socket);
        assert!(clients.iter().any(|client| client.local_addr().unwrap().to_string() == name));
    }
    let socket = world.accepted.remove(0);
    let token = world.reactor.add_socket(socket);
    world.reactor.start_receive(token);
    for mut client in &clients {
        client.write_all(b"hello").unwrap();
    }
    world.until(|world| world.received(token) == b"hello");
}

#[test]
fn removed_listeners_accept_no_more() {
    let mut world = World::modest(BufferMode::Incremental);
    let address = listening(&mut world);
    let _client = TcpStream::connect(address).unwrap();
    world.until(|world| world.accepted.len() == 1);
    world.reactor.remove_listeners();
    world.until(|_| TcpStream::connect(address).is_err());
    assert_eq!(world.accepted.len(), 1);
}

/// Runs itself again with room for a few descriptors only.
#[test]
fn a_refused_accept_is_reported_and_tried_again() {
    const NAME: &str = "reactor::uring::tests::listening::\
                        a_refused_accept_is_reported_and_tried_again";
    const MARK: &str = "RINGMAIN_FEW_DESCRIPTORS";
    if std::env::var_os(MARK).is_some() {
        return refused_accepts();
    }
    let status = Command::new("sh")
        .args(["-c", "ulimit -n 60 && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(NAME)
        .env(MARK, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.success() && output.contains("1 passed"), "{output}");
}

fn refused_accepts() {
    let mut world = World::modest(BufferMode::Incremental);
    let address = listening(&mut world);
    let mut client = TcpStream::connect(address).unwrap();
    let mut taken = Vec::new();
    while let Ok(descriptor) = std::fs::File::open("/dev/null") {
        taken.push(descriptor);
    }
    world.until(|world| world.refused.len() == 1);
    assert!(!world.reactor.listeners[0].as_ref().unwrap().armed, "it rests");
    world.until(|world| world.refused.len() == 2);
    assert_eq!(world.refused, [Errno(libc::EMFILE); 2]);
    assert_eq!(world.reactor.counters().accepts_failed, 2);
    drop(taken);
    world.until(|world| world.accepted.len() == 1);
    let socket = world.accepted.remove(0);
    let token = world.reactor.add_socket(socket);
    world.reactor.send(token, buffer_of(b"welcome".to_vec())).unwrap();
    world.until(|world| world.sent.len() == 1);
    let mut bytes = [0; 7];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"welcome");

    // One that rests when it is removed ends as well.
    let mut taken = Vec::new();
    while let Ok(descriptor) = std::fs::File::open("/dev/null") {
        taken.push(descriptor);
    }
    taken.pop();
    let _second = TcpStream::connect(address).unwrap();
    world.until(|world| world.refused.len() == 3);
    world.reactor.remove_listeners();
    drop(taken);
    world.until(|_| TcpStream::connect(address).is_err());
}
