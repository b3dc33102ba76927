//! Connections over real sockets and a clock that runs ahead: silence, slowness, too many at once.

use super::*;
use crate::limits::LOOKUPD_SILENCE_MIN;
use crate::lookup::flags::LookupOptions;
use crate::options;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// A lookup protocol server inside the test's runtime.
struct Server {
    address: SocketAddr,
    lookup: Arc<Lookup>,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(connections_max: usize) -> Self {
        let options: LookupOptions = options::defaults_of();
        let lookup = Arc::new(Lookup::new(&options, 4160, 4161, None));
        let socket = socket();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let name = address.to_string();
        let serving = serve(listener, name, connections_max, Arc::clone(&lookup), stopped);
        Self { address, lookup, stop, serving: tokio::spawn(serving) }
    }

    /// A connection that has sent its magic.
    async fn connect(&self) -> TcpStream {
        let mut stream = socket().connect(self.address).await.unwrap();
        stream.write_all(MAGIC).await.unwrap();
        stream
    }

    async fn identified(&self) -> TcpStream {
        let body = br#"{"broadcast_address":"b","tcp_port":1,"http_port":2,"version":"v"}"#;
        let mut stream = self.connect().await;
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        stream.write_all(&[b"IDENTIFY\n", &length[..], body].concat()).await.unwrap();
        assert!(answer(&mut stream).await.unwrap().starts_with('{'));
        stream
    }

    async fn producers(&self) -> usize {
        let patience = self.lookup.patience;
        let ask = self.lookup.desk.ask(move |registrations, now| {
            let counts = registrations.counts(now, &patience);
            counts.producers_active + counts.producers_inactive
        });
        ask.await
    }
}

/// A socket with small buffers, so that a test can fill them.
fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket
}

/// The next answer; `None` at the end of the connection.
async fn answer(stream: &mut TcpStream) -> Option<String> {
    let length = stream.read_u32().await.ok()?;
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text).await.unwrap();
    Some(String::from_utf8(text).unwrap())
}

async fn ping(stream: &mut TcpStream) {
    stream.write_all(b"PING\n").await.unwrap();
    assert_eq!(answer(stream).await.as_deref(), Some("OK"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_who_it_is_has_a_minute_for_each_command() {
    let server = Server::start(10).await;
    for begun in [&b""[..], b"  ", b"  V1", b"  V1IDENTIFY\n\0\0", b"  V1PIN"] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        assert_eq!(answer(&mut stream).await, None);
        assert!(started.elapsed() >= LOOKUPD_GREETING_TIME_MAX, "{begun:?}");
    }
    let mut stream = server.connect().await;
    for _ in 0..3 {
        sleep(LOOKUPD_GREETING_TIME_MAX - Duration::from_secs(1)).await;
        ping(&mut stream).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_in_is_not_waited_for() {
    let server = Server::start(10).await;
    let mut stream = server.connect().await;
    stream.write_all(b"IDENTIFY\n\0\0\x10\0").await.unwrap();
    let started = Instant::now();
    while stream.write_all(b" ").await.is_ok() {
        sleep(Duration::from_secs(1)).await;
        assert!(started.elapsed() < 3 * LOOKUPD_GREETING_TIME_MAX);
    }
    assert!(started.elapsed() >= LOOKUPD_GREETING_TIME_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_silent_nsqd_is_given_up_long_after_it_counts_as_inactive() {
    let server = Server::start(10).await;
    let mut stream = server.identified().await;
    sleep(LOOKUPD_SILENCE_MIN - Duration::from_secs(1)).await;
    ping(&mut stream).await;
    assert_eq!(server.producers().await, 1);
    let started = Instant::now();
    assert_eq!(answer(&mut stream).await, None);
    assert!(started.elapsed() >= LOOKUPD_SILENCE_MIN);
    assert_eq!(server.producers().await, 0);
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Server::start(2).await;
    let mut first = server.identified().await;
    let _second = server.connect().await;
    let mut third = server.connect().await;
    third.write_all(b"PING\n").await.unwrap();
    let waited = timeout(Duration::from_secs(30), answer(&mut third)).await;
    assert!(waited.is_err(), "there are two places");
    ping(&mut first).await;
    drop(first);
    assert_eq!(answer(&mut third).await.as_deref(), Some("OK"));
    assert_eq!(server.producers().await, 0);
}

/// Sends until neither side takes any more.
async fn clog(stream: &mut TcpStream) {
    let pings = b"PING\n".repeat(1 << 14);
    while timeout(Duration::from_secs(1), stream.write_all(&pings)).await.is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_answers_is_given_up() {
    let server = Server::start(10).await;
    let mut stream = server.identified().await;
    clog(&mut stream).await;
    sleep(LOOKUPD_WRITE_TIME_MAX).await;
    let started = Instant::now();
    while server.producers().await > 0 {
        sleep(Duration::from_millis(100)).await;
        assert!(started.elapsed() < LOOKUPD_WRITE_TIME_MAX);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_nobody() {
    let server = Server::start(10).await;
    let mut deaf = server.identified().await;
    clog(&mut deaf).await;
    let _silent = server.identified().await;
    let _half = TcpStream::connect(server.address).await.unwrap();
    let started = Instant::now();
    server.stop.send_replace(true);
    server.serving.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens");
}
