//! The TCP side: connections of the lookup protocol, how many, for how long, and how they end.

use super::client::{Client, Reaction};
use super::command::Refusal;
use super::decoder::{Decoder, Expected, Fault, Unit};
use super::state::{Lookup, count};
use crate::http::listener::peer_name;
use crate::limits::{
    HTTP_DISCARD_BYTES_MAX, HTTP_DISCARD_TIME_MAX, LOOKUPD_CHUNK_BYTES, LOOKUPD_GREETING_TIME_MAX,
    LOOKUPD_OUTPUT_BYTES_MAX, LOOKUPD_WRITE_TIME_MAX,
};
use rustix::net::sockopt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long to wait after an accept that failed, for instance for want of descriptors.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

/// A peer that has vanished is noticed after some 150 s of silence: Go's settings.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 9;

/// The only version there is.
const MAGIC: &[u8; 4] = b"  V1";

/// Accepts and serves connections until told to stop, then ends them.
pub(super) async fn serve(
    listener: TcpListener,
    address: String,
    connections_max: usize,
    lookup: Arc<Lookup>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    let mut clients = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place.expect("the semaphore is never closed"))
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = clients.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (lookup, stop) = (Arc::clone(&lookup), stop.clone());
                clients.spawn(async move {
                    lookup.counters.connections.fetch_add(1, Ordering::Relaxed);
                    serve_client(stream, peer_name(peer), &lookup, stop).await;
                    lookup.counters.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("temporary Accept() failure - {error}");
                sleep(ACCEPT_RETRY_AFTER).await;
            }
        }
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
    tracing::info!("TCP: closing {address}");
}

/// One connection, from its first byte to its end.
async fn serve_client(
    stream: TcpStream,
    name: String,
    lookup: &Arc<Lookup>,
    stop: watch::Receiver<bool>,
) {
    tracing::info!("TCP: new client({name})");
    if let Err(error) = prepare(&stream) {
        tracing::debug!("client({name}) - {error}");
    }
    let patience = LOOKUPD_GREETING_TIME_MAX;
    let mut connection =
        Connection { stream, decoder: Decoder::default(), output: Vec::new(), stop, patience };
    let magic = match connection.next().await {
        Ok(Unit::Magic(magic)) => magic,
        Ok(_) => unreachable!("the magic comes first"),
        Err(end) => {
            tracing::error!("failed to read protocol version - {}", end.reason());
            return;
        }
    };
    let shown = String::from_utf8_lossy(&magic);
    tracing::info!("CLIENT({name}): desired protocol magic '{shown}'");
    if magic != *MAGIC {
        // It is about to be told; that it cannot be is no news.
        let _ = connection.say(b"E_BAD_PROTOCOL").await;
        connection.close().await;
        tracing::error!("client({name}) bad protocol magic '{shown}'");
        return;
    }
    let mut client = Client::new(Arc::clone(lookup), name);
    let end = connection.converse(&mut client, lookup).await;
    tracing::info!("PROTOCOL(V1): [{}] exiting ioloop", client.name());
    client.disconnect().await;
    if !matches!(end, End::Stopped) {
        tracing::error!("client({}) - {}", client.name(), end.reason());
    }
    connection.close().await;
}

/// A socket with what has come in and what is to go out.
struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    output: Vec<u8>,
    stop: watch::Receiver<bool>,
    /// How long the next command may take to come.
    patience: Duration,
}

/// Why a connection ends.
enum End {
    /// The other end has closed; here is what was expected next.
    Closed(Expected),
    /// It sends what cannot be.
    Fault(Fault),
    /// It was refused something and has been told.
    Refused(Refusal),
    Silent,
    /// The daemon ends.
    Stopped,
    Broken(io::Error),
}

impl End {
    /// As log lines give it.
    fn reason(&self) -> String {
        match self {
            Self::Closed(_) => "EOF".to_owned(),
            Self::Fault(Fault::LineTooLong) => "line too long".to_owned(),
            Self::Fault(Fault::BodySize(bytes)) => format!("invalid body size {bytes}"),
            Self::Refused(refusal) => String::from_utf8_lossy(&refusal.text).into_owned(),
            Self::Silent => "nothing heard for too long".to_owned(),
            Self::Stopped => "stopping".to_owned(),
            Self::Broken(error) => error.to_string(),
        }
    }

    /// What the other end is told because of it.
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Closed(Expected::BodySize) => Some(Refusal::no_body_size()),
            Self::Closed(Expected::Body(_)) => Some(Refusal::no_body()),
            Self::Fault(Fault::LineTooLong) => Some(Refusal::line_too_long()),
            Self::Fault(Fault::BodySize(bytes)) => Some(Refusal::body_size(*bytes)),
            _ => None,
        }
    }
}

impl Connection {
    /// Answers commands until something ends it.
    async fn converse(&mut self, client: &mut Client, lookup: &Lookup) -> End {
        loop {
            let unit = match self.next().await {
                Ok(unit) => unit,
                Err(end) => match end.refusal() {
                    Some(refusal) => return self.refuse(client, lookup, refusal).await.1,
                    None => return end,
                },
            };
            let answer = match unit {
                Unit::Magic(_) => unreachable!("the magic comes once"),
                Unit::Line(line) => match client.line(&line).await {
                    Ok(Reaction::Answer(answer)) => Ok(answer),
                    Ok(Reaction::ExpectBody) => {
                        self.decoder.expect_body();
                        continue;
                    }
                    Err(refusal) => Err(refusal),
                },
                Unit::Body(body) => client.identify(&body).await,
            };
            if client.is_identified() {
                self.patience = lookup.silence_max();
            }
            let said = match answer {
                Ok(answer) => self.say(&answer).await,
                Err(refusal) => match self.refuse(client, lookup, refusal).await {
                    (false, _) => Ok(()),
                    (true, end) => return end,
                },
            };
            if let Err(error) = said {
                return End::Broken(error);
            }
        }
    }

    /// Tells a client that it cannot have what it wants. Says whether that ends the connection.
    async fn refuse(&mut self, client: &Client, lookup: &Lookup, refusal: Refusal) -> (bool, End) {
        count(&lookup.counters.refused);
        let text = String::from_utf8_lossy(&refusal.text);
        tracing::error!("[{}] - {text}", client.name());
        match self.say(&refusal.text).await {
            Ok(()) => (refusal.fatal, End::Refused(refusal)),
            Err(error) => (true, End::Broken(error)),
        }
    }

    /// The next whole piece of input. What is to be said is said before waiting for it.
    async fn next(&mut self) -> Result<Unit, End> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.decoder.next_unit() {
                Ok(Some(unit)) => return Ok(unit),
                Ok(None) => {}
                Err(fault) => return Err(End::Fault(fault)),
            }
            self.flush().await.map_err(End::Broken)?;
            let readable = tokio::select! {
                readable = timeout_at(deadline, self.stream.readable()) => readable,
                _ = self.stop.wait_for(|stop| *stop) => return Err(End::Stopped),
            };
            readable.map_err(|_| End::Silent)?.map_err(End::Broken)?;
            match self.read() {
                Ok(0) => return Err(End::Closed(self.decoder.expected())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(End::Broken(error)),
            }
        }
    }

    /// Takes what has arrived. Not a future, so that no waiting connection holds the buffer.
    fn read(&mut self) -> io::Result<usize> {
        let mut chunk = [0; LOOKUPD_CHUNK_BYTES];
        let count = self.stream.try_read(&mut chunk)?;
        self.decoder.push(&chunk[..count]);
        Ok(count)
    }

    /// Puts an answer behind its length; it leaves before the next wait for input.
    async fn say(&mut self, answer: &[u8]) -> io::Result<()> {
        let length = u32::try_from(answer.len()).expect("answers are short");
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(answer);
        if self.output.len() >= LOOKUPD_OUTPUT_BYTES_MAX { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        let sending = async {
            let mut rest = output.as_slice();
            while !rest.is_empty() {
                self.stream.writable().await?;
                match self.stream.try_write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let sending = timeout(LOOKUPD_WRITE_TIME_MAX, sending);
        tokio::select! {
            biased; // Even the last answers leave, if they can at once.
            sent = sending => sent.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
            _ = self.stop.wait_for(|stop| *stop) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Closes so that what was said arrives: with unread input left, the kernel would discard it
    /// at the other end.
    async fn close(mut self) {
        if self.flush().await.is_err() || *self.stop.borrow() {
            return;
        }
        // Both fail only where the connection has ended already.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
        let discarding = async {
            let mut left = HTTP_DISCARD_BYTES_MAX;
            while self.stream.readable().await.is_ok() {
                let mut chunk = [0; LOOKUPD_CHUNK_BYTES];
                match self.stream.try_read(&mut chunk) {
                    Ok(count) if count > 0 && count <= left => left -= count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return,
                }
            }
        };
        let _ = timeout(HTTP_DISCARD_TIME_MAX, discarding).await;
    }
}

/// What a connection's socket should be, beside non-blocking.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

#[cfg(test)]
mod tests;
