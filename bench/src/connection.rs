//! Connections: opened with blocking calls, which bring their own deadlines and plain error texts,
//! then driven by tokio-uring.

use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::TcpStream;

use crate::endpoint::Endpoint;
use crate::http;
use crate::wire::{self, Frame};

/// Time the daemon has to answer each command of a connection's start. Some write a list of all
/// topics to disk first, whenever one is new.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest answer expected while a connection starts.
const OPEN_FRAME_BYTES_MAX: usize = 64 * 1024;

/// How a connection starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    /// IDENTIFY, if any.
    pub(crate) identify: Option<Vec<u8>>,
    /// What IDENTIFY asked for that the daemon must grant: keys of its answer.
    pub(crate) demands: Vec<&'static str>,
    /// SUB, if any.
    pub(crate) subscribe: Option<Vec<u8>>,
    /// No protocol of NSQ's: nothing is sent ahead of the first request.
    pub(crate) http: bool,
}

/// Connects, sends the magic, and waits for the answer to each command of `opening`.
pub(crate) fn open(endpoint: &Endpoint, opening: &Opening) -> Result<std::net::TcpStream> {
    let mut stream = endpoint.connect()?;
    if opening.http {
        return Ok(stream);
    }
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(wire::MAGIC)?;
    for command in [&opening.identify, &opening.subscribe].into_iter().flatten() {
        stream.write_all(command)?;
        let name = command.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let answer = read_answer(&mut stream)
            .with_context(|| format!("{endpoint} did not answer {name:?} as it should"))?;
        if name == "IDENTIFY" {
            check_demands(&opening.demands, &answer)?;
        }
    }
    stream.set_read_timeout(None)?;
    Ok(stream)
}

/// Connects on the ring and sends the magic and IDENTIFY; the answer is still to come.
pub(crate) async fn reopen(endpoint: &Endpoint, opening: &Opening) -> Result<Rc<TcpStream>> {
    let stream = Rc::new(endpoint.connect_on_ring().await?);
    if !opening.http {
        let mut start = wire::MAGIC.to_vec();
        start.extend_from_slice(opening.identify.as_deref().unwrap_or_default());
        write(&stream, start).await?;
    }
    Ok(stream)
}

/// Reads frames up to the first that is not a heartbeat, which must be a response.
fn read_answer(stream: &mut std::net::TcpStream) -> Result<Vec<u8>> {
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
            Some((Frame::Response(answer), _)) => return Ok(answer.to_vec()),
            Some((other, _)) => bail!("got {}", describe(&other)),
            None => bail!("got a frame of {size} bytes"),
        }
    }
}

/// IDENTIFY is answered with OK, or with what was granted when something was to be negotiated.
fn check_demands(demands: &[&'static str], answer: &[u8]) -> Result<()> {
    if demands.is_empty() {
        ensure!(answer == b"OK", "IDENTIFY got {:?}", String::from_utf8_lossy(answer));
        return Ok(());
    }
    let granted: Value = serde_json::from_slice(answer)
        .context("the daemon does not negotiate features: its answer to IDENTIFY is not JSON")?;
    for demand in demands {
        let flag = if *demand == "tls_v1" { "tls" } else { demand };
        ensure!(
            granted[*demand] == Value::Bool(true),
            "the daemon does not offer {flag} (its answer to IDENTIFY says so): \
             run without --{flag}"
        );
    }
    Ok(())
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

/// What comes back to one that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A publish was taken.
    Ok,
    /// To be answered with NOP.
    Heartbeat,
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

    /// The next answer to a publish, if it is there; an error when the daemon refused.
    pub(crate) fn next_answer(&mut self, http: bool) -> Result<Option<Answer>> {
        if http {
            let used = http::parse_ok(&self.bytes[self.start..self.end], self.bytes.len())?;
            self.start += used.unwrap_or_default();
            return Ok(used.map(|_| Answer::Ok));
        }
        Ok(match self.next_frame()? {
            None => None,
            Some(Frame::Response(b"OK")) => Some(Answer::Ok),
            Some(Frame::Response(wire::HEARTBEAT)) => Some(Answer::Heartbeat),
            Some(other) => bail!("a publish got {}", describe(&other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_demanded_must_be_granted() {
        assert!(check_demands(&[], b"OK").is_ok());
        assert!(check_demands(&[], b"{}").is_err());
        let answer = br#"{"snappy":true,"tls_v1":false}"#;
        assert!(check_demands(&["snappy"], answer).is_ok());
        let refused = check_demands(&["snappy", "tls_v1"], answer).unwrap_err().to_string();
        assert!(refused.contains("does not offer tls "), "{refused}");
        assert!(check_demands(&["deflate"], answer).is_err());
        assert!(check_demands(&["deflate"], b"OK").is_err());
    }
}
