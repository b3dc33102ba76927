//! One connection to an nsqlookupd: its protocol V1, bounded in time and size.

use crate::control::listener::go_text;
use crate::limits::LOOKUP_TIME_MAX;
use serde::Deserialize;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// What every connection begins with.
const MAGIC: &[u8] = b"  V1";

/// What nsqlookupd answers to all but IDENTIFY.
const OK: &[u8] = b"OK";

/// An open connection; dropping it closes it, and nsqlookupd then forgets this daemon.
pub(super) struct Connection {
    stream: TcpStream,
    /// Longest answer, in bytes.
    answer_bytes_max: usize,
}

/// What an nsqlookupd says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct LookupIdentity {
    pub(super) tcp_port: i64,
    pub(super) http_port: i64,
    pub(super) version: String,
    pub(super) broadcast_address: String,
}

impl Connection {
    /// Resolves the name, every time anew, and connects to the first address that answers.
    pub(super) async fn open(address: &str, answer_bytes_max: usize) -> Result<Self, String> {
        let failed = |error: io::Error| format!("dial tcp {address}: {}", go_text(&error));
        let resolved = in_time(lookup_host(address)).await.map_err(failed)?;
        let mut reason = io::Error::new(io::ErrorKind::NotFound, "no such host");
        for candidate in resolved {
            match Self::connect(candidate).await {
                Ok(stream) => return Ok(Self { stream, answer_bytes_max }),
                Err(error) => reason = error,
            }
        }
        Err(failed(reason))
    }

    async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = in_time(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        in_time(stream.write_all(MAGIC)).await?;
        Ok(stream)
    }

    /// Says who this daemon is, as a JSON document, and learns who the other side is.
    pub(super) async fn identify(&mut self, document: &[u8]) -> Result<LookupIdentity, String> {
        let size = u32::try_from(document.len()).map_err(|_| "IDENTIFY is too large".to_owned())?;
        let command = [b"IDENTIFY\n", size.to_be_bytes().as_slice(), document].concat();
        self.send(&command).await?;
        let answer = self.answer().await?;
        let text = String::from_utf8_lossy(&answer);
        if text.starts_with("E_") {
            return Err(format!("lookupd returned {text}"));
        }
        serde_json::from_slice(&answer).map_err(|_| format!("parsing response - {text}"))
    }

    /// Sends some lines and reads an answer to each.
    pub(super) async fn order(
        &mut self,
        lines: impl Iterator<Item = impl std::fmt::Display> + Clone,
    ) -> Result<(), String> {
        let mut commands = String::new();
        for line in lines.clone() {
            writeln!(commands, "{line}").expect("strings take all text");
        }
        self.send(commands.as_bytes()).await?;
        for line in lines {
            let answer = self.answer().await.map_err(|reason| format!("{line} - {reason}"))?;
            if answer != OK {
                let text = String::from_utf8_lossy(&answer);
                return Err(format!("{line} - lookupd returned {text}"));
            }
        }
        Ok(())
    }

    /// Returns, with the reason, once the connection is of no more use. It may be dropped before.
    pub(super) async fn ended(&self) -> String {
        match self.stream.peek(&mut [0]).await {
            Ok(0) => "closed by lookupd".to_owned(),
            Ok(_) => "lookupd spoke without being asked".to_owned(),
            Err(error) => go_text(&error),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        in_time(self.stream.write_all(bytes)).await.map_err(|error| go_text(&error))
    }

    /// The next answer: its size and so many bytes.
    async fn answer(&mut self) -> Result<Vec<u8>, String> {
        let read = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed by lookupd".to_owned(),
            _ => go_text(&error),
        };
        let size = in_time(self.stream.read_i32()).await.map_err(read)?;
        let bytes = usize::try_from(size).ok().filter(|bytes| *bytes <= self.answer_bytes_max);
        let Some(bytes) = bytes else {
            let limit = self.answer_bytes_max;
            return Err(format!("response body size ({size}) is greater than limit ({limit})"));
        };
        let mut answer = vec![0; bytes];
        in_time(self.stream.read_exact(&mut answer)).await.map_err(read)?;
        Ok(answer)
    }
}

/// A wait that ends.
async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "i/o timeout");
    timeout(LOOKUP_TIME_MAX, work).await.map_err(late)?
}
