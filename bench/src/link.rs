//! A connection as the tasks of a thread share it: the socket on the ring, and the codec between it
//! and the protocol, if there is one.

#![expect(
    clippy::disallowed_types,
    reason = "the tasks of a connection share its codec; no borrow outlives the call that takes it"
)]

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::ops::Range;

use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::TcpStream;

use crate::codec::Codec;
use crate::connection::Opened;

/// A connection that is open.
pub(crate) struct Link {
    stream: TcpStream,
    layered: Option<Layered>,
    /// Received with the answers of the opening, decoded.
    early: Cell<Vec<u8>>,
}

struct Layered {
    codec: RefCell<Codec>,
    /// What was encoded first must be sent first.
    turn: Semaphore,
}

impl Link {
    /// Puts `opened` on the ring of this thread.
    pub(crate) fn new(opened: Opened) -> Self {
        let layered = opened
            .codec
            .map(|codec| Layered { codec: RefCell::new(codec), turn: Semaphore::new(1) });
        let stream = TcpStream::from_std(opened.stream);
        Self { stream, layered, early: Cell::new(opened.early) }
    }

    /// A connection without codec.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { stream, layered: None, early: Cell::new(Vec::new()) }
    }

    /// Whether what is received must be decoded.
    pub(crate) fn is_layered(&self) -> bool {
        self.layered.is_some()
    }

    /// Takes what was received before the link was made.
    pub(crate) fn take_early(&self) -> Vec<u8> {
        self.early.take()
    }

    /// Receives into `bytes` from `start` on: how many bytes, 0 at the end.
    pub(crate) async fn read(&self, bytes: Vec<u8>, start: usize) -> (Result<usize>, Vec<u8>) {
        let (result, space) = self.stream.read(bytes.slice(start..)).await;
        (result.context("the connection broke while receiving"), space.into_inner())
    }

    /// Appends to `plain` what `received` brings.
    pub(crate) fn decode(&self, received: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        let Some(layered) = &self.layered else { return Ok(()) };
        layered.codec.borrow_mut().decode(received, plain)
    }

    /// Sends `part` of `bytes` and gives the buffer back.
    pub(crate) async fn write(&self, bytes: Vec<u8>, part: Range<usize>) -> (Result<()>, Vec<u8>) {
        let broke = "the connection broke while sending";
        let Some(layered) = &self.layered else {
            let (result, part) = self.stream.write_all(bytes.slice(part)).await;
            return (result.context(broke), part.into_inner());
        };
        let _turn = layered.turn.acquire().await.expect("the semaphore is never closed");
        let encoded = layered.codec.borrow_mut().encode(&bytes[part]);
        match encoded {
            Ok(wire) => (self.stream.write_all(wire).await.0.context(broke), bytes),
            Err(error) => (Err(error), bytes),
        }
    }

    /// Ends the connection, and with it a read that waits.
    pub(crate) fn shut_down(&self) {
        // A connection that is closed already is fine.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
