//! Connections: opened with blocking calls, which bring their own deadlines and plain error texts,
//! then driven by tokio-uring.

use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::codec::Codec;
use crate::endpoint::Endpoint;
use crate::http;
use crate::link::Link;
use crate::wire::{self, Frame};

/// Time the daemon has to answer each command of a connection's start. Some write a list of all
/// topics to disk first, whenever one is new.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest answer expected while a connection starts.
const OPEN_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Bytes read at a time where they must be decoded.
const LAYERED_READ_BYTES: usize = 64 * 1024;

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

/// A connection that is open, not yet on a ring.
pub(crate) struct Opened {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) codec: Option<Codec>,
    /// Received with the last answer, decoded.
    pub(crate) early: Vec<u8>,
}

/// Connects, sends the magic, and waits for the answer to each command of `opening`.
pub(crate) fn open(endpoint: &Endpoint, opening: &Opening) -> Result<Opened> {
    let mut opened = Opened { stream: endpoint.connect()?, codec: None, early: Vec::new() };
    if opening.http {
        return Ok(opened);
    }
    opened.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    opened.stream.write_all(wire::MAGIC)?;
    if let Some(identify) = &opening.identify {
        let answer = opened.ask(identify, endpoint)?;
        check_demands(&opening.demands, &answer)?;
        opened.upgrade(&opening.demands).context("the features that were granted do not work")?;
    }
    if let Some(subscribe) = &opening.subscribe {
        let answer = opened.ask(subscribe, endpoint)?;
        ensure!(answer == b"OK", "SUB got {:?}", String::from_utf8_lossy(&answer));
    }
    opened.stream.set_read_timeout(None)?;
    Ok(opened)
}

/// Connects on the ring and sends the magic and IDENTIFY; the answer is still to come.
pub(crate) async fn reopen(endpoint: &Endpoint, opening: &Opening) -> Result<Rc<Link>> {
    let link = Rc::new(Link::plain(endpoint.connect_on_ring().await?));
    if !opening.http {
        let mut start = wire::MAGIC.to_vec();
        start.extend_from_slice(opening.identify.as_deref().unwrap_or_default());
        write(&link, start).await?;
    }
    Ok(link)
}

impl Opened {
    /// Sends a command and waits for its answer.
    fn ask(&mut self, command: &[u8], endpoint: &Endpoint) -> Result<Vec<u8>> {
        self.send(command)?;
        let name = command.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        self.read_answer()
            .with_context(|| format!("{endpoint} did not answer {name:?} as it should"))
    }

    /// Puts the granted layers between the protocol and the socket; the daemon says OK through
    /// each.
    fn upgrade(&mut self, demands: &[&'static str]) -> Result<()> {
        for demand in demands {
            let mut codec = self.codec.take().unwrap_or_default();
            // The daemon's OK may have come right after what it answered before.
            let packed = std::mem::take(&mut self.early);
            match *demand {
                "tls_v1" => codec.shake_hands(&mut self.stream)?,
                "snappy" => codec.pack_with_snappy(),
                _ => codec.pack_with_deflate(),
            }
            codec.unpack(&packed, &mut self.early)?;
            codec.decode(&[], &mut self.early)?;
            self.codec = Some(codec);
            let answer = self.read_answer()?;
            ensure!(answer == b"OK", "{demand} got {:?}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }

    fn send(&mut self, plain: &[u8]) -> Result<()> {
        match &mut self.codec {
            Some(codec) => self.stream.write_all(&codec.encode(plain)?)?,
            None => self.stream.write_all(plain)?,
        }
        Ok(())
    }

    /// Reads frames up to the first that is not a heartbeat, which must be a response.
    fn read_answer(&mut self) -> Result<Vec<u8>> {
        loop {
            let found = wire::parse_frame(&self.early, OPEN_FRAME_BYTES_MAX)?;
            let (answer, used) = match found {
                Some((Frame::Response(text), used)) => (text.to_vec(), used),
                Some((other, _)) => bail!("got {}", describe(&other)),
                None => {
                    self.receive()?;
                    continue;
                }
            };
            self.early.drain(..used);
            if answer != wire::HEARTBEAT {
                return Ok(answer);
            }
            self.send(wire::NOP)?;
        }
    }

    fn receive(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        let received = self.stream.read(&mut bytes)?;
        ensure!(received > 0, "the daemon closed the connection");
        match &mut self.codec {
            Some(codec) => codec.decode(&bytes[..received], &mut self.early),
            None => {
                self.early.extend_from_slice(&bytes[..received]);
                Ok(())
            }
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
            "the daemon does not offer {flag}, as its answer to IDENTIFY says: run without --{flag}"
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
pub(crate) async fn write(link: &Link, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let all = 0..bytes.len();
    let (result, bytes) = link.write(bytes, all).await;
    result.map(|()| bytes)
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
    /// From the socket, where that must be decoded.
    received: Vec<u8>,
    /// Decoded, and no room for it above.
    decoded: Vec<u8>,
}

impl Input {
    /// A buffer of `capacity_bytes`, which is also the longest frame it can take.
    pub(crate) fn new(capacity_bytes: usize, link: &Link) -> Self {
        let received = if link.is_layered() { vec![0; LAYERED_READ_BYTES] } else { Vec::new() };
        Self { bytes: vec![0; capacity_bytes], start: 0, end: 0, received, decoded: Vec::new() }
    }

    /// Waits for more bytes; false when the daemon has closed the connection.
    pub(crate) async fn fill(&mut self, link: &Link) -> Result<bool> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        self.decoded.extend(link.take_early());
        if link.is_layered() {
            while self.decoded.is_empty() {
                let received = std::mem::take(&mut self.received);
                let (result, received) = link.read(received, 0).await;
                self.received = received;
                let bytes = result?;
                if bytes == 0 {
                    return Ok(false);
                }
                link.decode(&self.received[..bytes], &mut self.decoded)?;
            }
        }
        if !self.decoded.is_empty() {
            let count = self.decoded.len().min(self.bytes.len() - self.end);
            self.bytes[self.end..self.end + count].copy_from_slice(&self.decoded[..count]);
            self.decoded.drain(..count);
            self.end += count;
            return Ok(true);
        }
        let (result, bytes) = link.read(std::mem::take(&mut self.bytes), self.end).await;
        self.bytes = bytes;
        let read_bytes = result?;
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
        assert!(refused.contains("does not offer tls,"), "{refused}");
        assert!(check_demands(&["deflate"], answer).is_err());
        assert!(check_demands(&["deflate"], b"OK").is_err());
    }
}
