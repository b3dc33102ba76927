//! Connections: opened with blocking calls, which bring their own deadlines and plain error texts,
//! then driven by tokio-uring.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::TcpStream;

use crate::wire::{self, Frame};

/// Time the daemon has to accept a connection and to answer each command of its start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer expected while a connection starts.
const OPEN_FRAME_BYTES_MAX: usize = 64 * 1024;

/// How a connection starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    /// IDENTIFY, if any.
    pub(crate) identify: Option<Vec<u8>>,
    /// SUB, if any.
    pub(crate) subscribe: Option<Vec<u8>>,
}

/// Connects, sends the magic, and waits for the OK of each command of `opening`.
pub(crate) fn open(address: SocketAddr, opening: &Opening) -> Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, OPEN_TIMEOUT)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(OPEN_TIMEOUT))?;
    stream.write_all(wire::MAGIC)?;
    for command in [&opening.identify, &opening.subscribe].into_iter().flatten() {
        stream.write_all(command)?;
        let name = command.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        expect_ok(&mut stream).with_context(|| format!("{address} did not answer {name:?}"))?;
    }
    stream.set_read_timeout(None)?;
    Ok(stream)
}

/// Reads frames up to the first that is not a heartbeat, which must be OK.
fn expect_ok(stream: &mut std::net::TcpStream) -> Result<()> {
    loop {
        // Read to the byte: nothing of what follows may be lost to a buffer.
        let mut bytes = vec![0; 4];
        stream.read_exact(&mut bytes)?;
        let size = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        ensure!(size <= OPEN_FRAME_BYTES_MAX, "got {size} bytes instead of an answer");
        bytes.resize(4 + size, 0);
        stream.read_exact(&mut bytes[4..])?;
        match wire::parse_frame(&bytes, OPEN_FRAME_BYTES_MAX + 4)? {
            Some((Frame::Response(wire::HEARTBEAT), _)) => stream.write_all(wire::NOP)?,
            Some((Frame::Response(b"OK"), _)) => return Ok(()),
            Some((other, _)) => bail!("got {}", describe(&other)),
            None => bail!("got a frame of {size} bytes"),
        }
    }
}

/// A frame for an error text.
pub(crate) fn describe(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Error(text) => format!("the error {:?}", String::from_utf8_lossy(text)),
        Frame::Response(text) => format!("the response {:?}", String::from_utf8_lossy(text)),
        Frame::Message(_) => "a message that nobody asked for".to_owned(),
    }
}

/// Writes all of `bytes` and gives the buffer back.
pub(crate) async fn write(stream: &Rc<TcpStream>, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let (result, bytes) = stream.write_all(bytes).await;
    result.context("the connection broke while sending")?;
    Ok(bytes)
}

/// Bytes received and not yet taken as frames, in one buffer that is used again and again.
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// A buffer of `capacity_bytes`, which is also the longest frame it can take.
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        Self { bytes: vec![0; capacity_bytes], start: 0, end: 0 }
    }

    /// Waits for more bytes; false when the daemon has closed the connection.
    pub(crate) async fn fill(&mut self, stream: &Rc<TcpStream>) -> Result<bool> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let space = std::mem::take(&mut self.bytes).slice(self.end..);
        let (result, space) = stream.read(space).await;
        self.bytes = space.into_inner();
        let read_bytes = result.context("the connection broke while receiving")?;
        self.end += read_bytes;
        Ok(read_bytes > 0)
    }

    /// The next whole frame, if there is one.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>> {
        let received = &self.bytes[self.start..self.end];
        let Some((frame, used)) = wire::parse_frame(received, self.bytes.len())? else {
            return Ok(None);
        };
        self.start += used;
        Ok(Some(frame))
    }
}
