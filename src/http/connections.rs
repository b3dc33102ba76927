//! HTTP connections: how many, for how long, and how they end.

use super::listener::{HttpListener, peer_name};
use crate::limits::{
    HTTP_BUFFER_BYTES_MAX, HTTP_CONNECTIONS_MAX, HTTP_HEADER_TIME_MAX, HTTP_HEADERS_MAX,
    HTTP_IDLE_TIME_MAX, HTTP_STOP_TIME_MAX, UPGRADE_TIME_MAX,
};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

/// The other end of a connection, as the access log names it.
#[derive(Debug, Clone)]
pub(crate) struct Peer(pub(crate) Arc<str>);

/// How long to wait after an accept that failed, for instance for want of descriptors.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Accepts and serves connections until told to stop, then lets requests in progress finish for
/// a bounded time.
pub(crate) async fn serve(listener: HttpListener, router: Router, stop: watch::Receiver<bool>) {
    accept_all(listener, None, router, stop).await;
}

/// The same over TLS: the one that is offered when a client comes.
pub(crate) async fn serve_tls(
    listener: HttpListener,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    accept_all(listener, Some(tls), router, stop).await;
}

async fn accept_all(
    listener: HttpListener,
    tls: Option<watch::Receiver<Option<Arc<ServerConfig>>>>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let listener = match Acceptor::new(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("HTTP: cannot listen - {error}");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place.expect("the semaphore is never closed"))
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, watcher) = (router.clone(), graceful.watcher());
                let offered = tls.as_ref().map(|tls| tls.borrow().clone());
                tokio::spawn(async move {
                    let stream = match offered {
                        None => Some(stream),
                        Some(offered) => shake_hands(stream, offered, &peer).await,
                    };
                    if let Some(stream) = stream {
                        // What goes wrong on one connection concerns only its client, who sees it.
                        let _ = watcher.watch(connection(stream, peer, router)).await;
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("temporary Accept() failure - {error}");
                tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
            }
        }
    }
    tracing::info!("HTTP: closing {}", listener.address);
    drop(listener);
    let _ = tokio::time::timeout(HTTP_STOP_TIME_MAX, graceful.shutdown()).await;
}

/// TLS over a stream; `None` when the peer does not get there.
async fn shake_hands(
    stream: Stream,
    offered: Option<Arc<ServerConfig>>,
    peer: &Peer,
) -> Option<Stream> {
    let accepting = TlsAcceptor::from(offered?).accept(stream);
    match tokio::time::timeout(UPGRADE_TIME_MAX, accepting).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::warn!("http: TLS handshake error from {}: {error}", peer.0);
            None
        }
        Err(_) => {
            tracing::warn!("http: TLS handshake error from {}: i/o timeout", peer.0);
            None
        }
    }
}

/// One connection under its limits.
fn connection(
    stream: Stream,
    peer: Peer,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection {
    let mut stream = TimeoutStream::new(stream);
    stream.set_read_timeout(Some(HTTP_IDLE_TIME_MAX));
    stream.set_write_timeout(Some(HTTP_IDLE_TIME_MAX));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEADER_TIME_MAX)
        .max_headers(HTTP_HEADERS_MAX)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX)
        .half_close(true)
        // NSQ's headers are spelled `X-Nsq-Content-Type`.
        .title_case_headers(true)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router.layer(Extension(peer))),
        )
}

/// A listening socket inside the runtime.
struct Acceptor {
    socket: Socket,
    address: String,
    /// Removed when listening ends, so that the next start finds the path free.
    path: Option<PathBuf>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted socket of either kind.
type Stream = Box<dyn ByteStream>;

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

impl Acceptor {
    fn new(listener: HttpListener) -> io::Result<Self> {
        let address = listener.address();
        let (socket, path) = match listener {
            HttpListener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                (Socket::Tcp(TcpListener::from_std(listener)?), None)
            }
            HttpListener::Unix(listener, path) => {
                listener.set_nonblocking(true)?;
                (Socket::Unix(UnixListener::from_std(listener)?), Some(path))
            }
        };
        Ok(Self { socket, address, path })
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Peer(peer_name(address).into())))
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Peer("@".into())))
            }
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Somebody else may have removed it already; either way it is gone.
            let _ = std::fs::remove_file(path);
        }
    }
}
