//! Making a connection: the network, then NSQ's handshake with its layers.

use super::compression::Packing;
use super::config::Config;
use super::error::Error;
use super::handshake::{Handshake, Negotiated, Next, Subscription};
use super::link::{Link, Stream};
use super::tls;
use crate::options::split_host_port;
use crate::protocol::compression::Compression;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What all connections of a consumer or producer have in common.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) subscription: Option<Subscription>,
    /// There, when the configuration demands TLS.
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Settings {
    /// # Errors
    /// A setting that cannot be, or a file that cannot be read.
    pub(super) fn new(config: Config, subscription: Option<Subscription>) -> Result<Self, Error> {
        config.check()?;
        let tls = if config.tls_v1 { Some(tls::client_config(&config)?) } else { None };
        Ok(Self { config, subscription, tls })
    }
}

/// Connects to an nsqd: `host:port`, or the path of a unix socket.
///
/// # Errors
/// [`Error::Connect`] with the reason.
pub(super) async fn dial(
    address: Arc<str>,
    settings: Arc<Settings>,
) -> Result<(Link, Negotiated), Error> {
    let patience = settings.config.dial_timeout;
    let stream = within(patience, "i/o timeout", connect(&address, &settings.config)).await;
    let stream = stream.map_err(|reason| Error::connect(&address, reason))?;
    let opened = open(Arc::clone(&address), stream, &settings);
    let opened = within(5 * patience, "timeout in the handshake", opened).await;
    opened.map_err(|reason| Error::connect(&address, reason))
}

async fn within<T>(
    patience: Duration,
    text: &str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    timeout(patience, work).await.unwrap_or_else(|_| Err(text.to_owned()))
}

async fn connect(address: &str, config: &Config) -> Result<Box<dyn Stream>, String> {
    if split_host_port(address).is_none() {
        let stream = UnixStream::connect(address).await.map_err(|error| error.to_string())?;
        return Ok(Box::new(stream));
    }
    let connected = match &config.local_addr {
        None => TcpStream::connect(address).await,
        Some(local) => connect_from(local, address).await,
    };
    let stream = connected.map_err(|error| error.to_string())?;
    // Output leaves in whole turns; waiting for more would only delay it.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(Box::new(stream))
}

async fn connect_from(local: &str, address: &str) -> io::Result<TcpStream> {
    let local: SocketAddr = local.parse().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("local_addr {local}: not host:port"))
    })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of the same family");
    for remote in lookup_host(address).await?.filter(|a| a.is_ipv4() == local.is_ipv4()) {
        let socket = if local.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(local)?;
        match socket.connect(remote).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Plays the handshake.
async fn open(
    address: Arc<str>,
    stream: Box<dyn Stream>,
    settings: &Settings,
) -> Result<(Link, Negotiated), String> {
    let frame_bytes_max = settings.config.max_msg_size;
    let mut link = Link::new(Arc::clone(&address), stream, frame_bytes_max);
    let mut handshake = Handshake::begin(&settings.config, settings.subscription, &mut link.out);
    loop {
        let sent = poll_fn(|cx| link.poll_flush(cx)).await;
        sent.map_err(|error| error.to_string())?;
        match next(&mut link, &mut handshake).await? {
            Next::Read => {}
            Next::Tls => {
                let stream = wrap_in_tls(&address, link.into_stream(), settings).await?;
                link = Link::new(Arc::clone(&address), stream, frame_bytes_max);
            }
            Next::Snappy => link.wrap(Packing::new(Compression::Snappy)),
            Next::Deflate(level) => link.wrap(Packing::new(Compression::Deflate { level })),
            Next::Done => return Ok((link, handshake.negotiated)),
        }
    }
}

async fn next(link: &mut Link, handshake: &mut Handshake) -> Result<Next, String> {
    loop {
        if let Some(frame) = link.frames.next().map_err(|error| error.to_string())? {
            return handshake.frame(&frame, &mut link.out);
        }
        poll_fn(|cx| link.poll_fill(cx)).await?;
    }
}

async fn wrap_in_tls(
    address: &str,
    stream: Box<dyn Stream>,
    settings: &Settings,
) -> Result<Box<dyn Stream>, String> {
    let config = settings.tls.as_ref().expect("TLS is granted only where it was demanded");
    let host = split_host_port(address).map_or("localhost", |(host, _)| host).to_owned();
    let name = ServerName::try_from(host).map_err(|error| format!("TLS: {error}"))?;
    let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    Ok(Box::new(connected.map_err(|error| format!("TLS: {error}"))?))
}
