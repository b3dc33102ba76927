//! What lies between a connection's socket and the protocol when its client asked for it: TLS, and
//! compression inside it. Bytes in, bytes out; it moves to another shard with its connection.
//!
//! ```text
//! socket ── wire ──► TLS ── packed ──► unpacker ── plain ──► decoder
//! socket ◄── wire ── TLS ◄── packed ── packer  ◄── output ── session
//! ```

use crate::broker::upgrade::TlsPeer;
use crate::limits::{LAYER_BYTES_KEPT, OUTPUT_BYTES_MAX};
use crate::protocol::compression::{Compression, Damaged, Packer, Unpacker};
use crate::protocol::output::Output;
use rustls::{
    CertificateError, CipherSuite, Error, InvalidMessage, ProtocolVersion, ServerConfig,
    ServerConnection,
};
use std::borrow::Cow;
use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

/// What nsqd says to clients that shake no hands.
const NO_TLS: &str = "tls: first record does not look like a TLS handshake";

/// See the module's text.
#[derive(Default)]
pub(super) struct Layers {
    tls: Option<Box<ServerConnection>>,
    packing: Option<(Packer, Unpacker)>,
    /// Out of TLS, not unpacked yet.
    packed: Vec<u8>,
    /// Unpacked, of which the decoder has taken the first `plain_taken`.
    plain: Vec<u8>,
    plain_taken: usize,
    /// To be sent before anything else.
    pub(super) wire: Vec<u8>,
    /// More may come out without more going in.
    has_more: bool,
    /// The peer has ended its side of TLS.
    has_ended: bool,
}

/// How a TLS handshake stands.
pub(super) enum Handshake {
    /// The peer has to say more.
    UnderWay,
    /// It is over; bytes after it may have come already.
    Done(Box<TlsPeer>),
    /// It has failed; what the client is told of it.
    Failed(String),
}

impl Layers {
    /// Begins TLS, below everything else.
    pub(super) fn begin_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), Error> {
        let mut connection = ServerConnection::new(config)?;
        // What is written is taken out at once; its size is bounded before.
        connection.set_buffer_limit(None);
        self.tls = Some(Box::new(connection));
        Ok(())
    }

    /// Compresses from here on.
    pub(super) fn begin_packing(&mut self, compression: Compression) {
        self.packing = Some((Packer::new(compression), Unpacker::new(compression)));
        // What lies there came out of TLS before it was known to be packed.
        debug_assert!(self.packed.is_empty());
        std::mem::swap(&mut self.packed, &mut self.plain);
        self.packed.drain(..std::mem::take(&mut self.plain_taken));
        self.has_more |= !self.packed.is_empty();
    }

    /// Whether TLS has begun and is not ready.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether the peer has said that nothing more will come.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether something may be decoded without more being received.
    pub(super) fn holds_input(&self) -> bool {
        self.has_more || self.plain_taken < self.plain.len()
    }

    /// Whether so much has gathered for a peer that takes nothing that it has to wait.
    pub(super) fn is_congested(&self) -> bool {
        self.wire.len() >= OUTPUT_BYTES_MAX
    }

    /// Bytes for the decoder; see [`took`](Self::took).
    pub(super) fn plain(&self) -> &[u8] {
        &self.plain[self.plain_taken..]
    }

    /// The decoder has left so many of them.
    pub(super) fn leave(&mut self, bytes: usize) {
        self.plain_taken = self.plain.len() - bytes;
        if bytes == 0 {
            self.plain_taken = 0;
            empty(&mut self.plain);
        }
    }

    /// Takes handshake messages off `wire`, as far as there are whole ones.
    pub(super) fn shake_hands(&mut self, wire: &mut &[u8]) -> Handshake {
        let Some(tls) = &mut self.tls else { return Handshake::UnderWay };
        let outcome = loop {
            let processed = match tls.read_tls(wire) {
                Ok(_) => tls.process_new_packets().map_err(|error| reason(&error)),
                Err(error) => Err(error.to_string().into()),
            };
            match processed {
                Err(reason) if reason == NO_TLS => {
                    // No alert to those who do not speak TLS: they read the text.
                    self.tls = None;
                    return Handshake::Failed(reason.into_owned());
                }
                Err(reason) => break Handshake::Failed(reason.into_owned()),
                Ok(_) if !tls.is_handshaking() => break Handshake::Done(Box::new(peer(tls))),
                Ok(_) if wire.is_empty() => break Handshake::UnderWay,
                Ok(_) => {}
            }
        };
        take_out(tls, &mut self.wire);
        self.has_more = matches!(outcome, Handshake::Done(_));
        outcome
    }

    /// Takes some of `wire`, until there is something for the decoder or nothing more comes of it.
    /// `false` in the latter case.
    ///
    /// # Errors
    /// The bytes are not what they should be; an alert may be left to be sent.
    pub(super) fn receive(&mut self, wire: &mut &[u8]) -> Result<bool, Damaged> {
        loop {
            let got_some = self.unpack(wire)?;
            if got_some {
                return Ok(true);
            }
            if self.tls.is_none() || !self.decrypt(wire)? {
                return Ok(self.has_more);
            }
        }
    }

    /// Unpacks what there is: out of TLS if that lies below, else off `wire`. Whether there is
    /// something for the decoder.
    fn unpack(&mut self, wire: &mut &[u8]) -> Result<bool, Damaged> {
        let Some((_, unpacker)) = &mut self.packing else {
            return Ok(!self.plain.is_empty());
        };
        let mut packed = if self.tls.is_some() { &self.packed[..] } else { &**wire };
        self.has_more = true;
        while self.plain.is_empty() && self.has_more {
            self.has_more = unpacker.unpack(&mut packed, &mut self.plain)?;
        }
        let left = packed.len();
        if self.tls.is_some() {
            self.packed.drain(..self.packed.len() - left);
            if left == 0 {
                empty(&mut self.packed);
            }
        } else {
            *wire = &wire[wire.len() - left..];
        }
        Ok(!self.plain.is_empty())
    }

    /// Takes some kilobytes off `wire` and through TLS. Whether anything may have come of it.
    fn decrypt(&mut self, wire: &mut &[u8]) -> Result<bool, Damaged> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        let before = wire.len();
        // To be given nothing means the end of the stream to it.
        let has_read = wire.is_empty() || tls.read_tls(wire).is_ok();
        let processed = tls.process_new_packets();
        let into = if self.packing.is_some() { &mut self.packed } else { &mut self.plain };
        let mut got_some = false;
        while let Ok(bytes) = tls.reader().fill_buf()
            && !bytes.is_empty()
        {
            let count = bytes.len();
            into.extend_from_slice(bytes);
            tls.reader().consume(count);
            got_some = true;
        }
        take_out(tls, &mut self.wire);
        let state = processed.map_err(|_| Damaged("broken TLS"))?;
        if !has_read {
            return Err(Damaged("TLS takes no more"));
        }
        self.has_ended |= state.peer_has_closed();
        if self.has_ended {
            *wire = &[];
        }
        if self.packing.is_none() {
            self.has_more = false;
        }
        Ok(got_some || wire.len() < before)
    }

    /// Appends all of `output` to `wire`, through the layers that are ready, and empties it.
    pub(super) fn send(&mut self, output: &mut Output) {
        let mut packed = Vec::new();
        match (&mut self.packing, &mut self.tls) {
            (Some((packer, _)), None) => {
                output.pieces().for_each(|piece| packer.pack(piece, &mut self.wire));
                packer.flush(&mut self.wire);
            }
            (Some((packer, _)), Some(tls)) => {
                output.pieces().for_each(|piece| packer.pack(piece, &mut packed));
                packer.flush(&mut packed);
                write(tls, &packed);
            }
            (None, Some(tls)) if !tls.is_handshaking() => {
                output.pieces().for_each(|piece| write(tls, piece));
            }
            // The clear text before a layer, and what is said of a handshake that has failed.
            (None, _) => output.pieces().for_each(|piece| self.wire.extend_from_slice(piece)),
        }
        if let Some(tls) = &mut self.tls {
            take_out(tls, &mut self.wire);
        }
        output.clear();
    }

    /// Nothing more will be sent: tells the peer, which can then tell this from a cut.
    pub(super) fn end(&mut self) {
        if let Some(tls) = &mut self.tls
            && !tls.is_handshaking()
        {
            tls.send_close_notify();
            take_out(tls, &mut self.wire);
        }
    }
}

impl std::fmt::Debug for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tls, packing) = (self.tls.is_some(), self.packing.is_some());
        write!(f, "Layers {{ tls: {tls}, packing: {packing}, wire: {} }}", self.wire.len())
    }
}

fn write(tls: &mut ServerConnection, bytes: &[u8]) {
    // There is no limit. It fails only after the peer has broken TLS, and then nothing matters.
    let _ = tls.writer().write_all(bytes);
}

/// Why a handshake has failed, in nsqd's words where clients meet them.
fn reason(error: &Error) -> Cow<'static, str> {
    match error {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => NO_TLS.into(),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".into(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            let reason = "x509: certificate signed by unknown authority";
            format!("tls: failed to verify certificate: {reason}").into()
        }
        other => other.to_string().into(),
    }
}

/// Moves all TLS has to say to the bytes to be sent.
fn take_out(tls: &mut ServerConnection, wire: &mut Vec<u8>) {
    while tls.wants_write() {
        tls.write_tls(wire).expect("a vector takes all bytes");
    }
}

/// Empties a buffer and keeps its memory, unless that is a lot.
fn empty(bytes: &mut Vec<u8>) {
    bytes.clear();
    if bytes.capacity() > LAYER_BYTES_KEPT {
        *bytes = Vec::new();
    }
}

fn peer(tls: &ServerConnection) -> TlsPeer {
    let certificate = tls.peer_certificates().and_then(|chain| chain.first());
    TlsPeer {
        version: match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS1.2",
            _ => "TLS1.3",
        },
        cipher_suite: tls.negotiated_cipher_suite().map_or("".into(), |suite| name(suite.suite())),
        common_name: certificate.map(|der| subject_name(der)).unwrap_or_default(),
    }
}

/// As nsqd names a suite: it knows the names of some.
fn name(suite: CipherSuite) -> Cow<'static, str> {
    match suite {
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()
        }
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => {
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".into()
        }
        other => format!("Unknown {}", u16::from(other)).into(),
    }
}

/// The last of a certificate's common names, as Go takes it.
fn subject_name(der: &[u8]) -> String {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
        return String::new();
    };
    let names = certificate.subject().iter_common_name();
    names.filter_map(|name| name.as_str().ok()).last().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
