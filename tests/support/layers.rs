//! TLS and compression on the client's side of a connection, written apart from the daemon's.

use super::stream::Stream;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use rustls::{ClientConfig, ClientConnection};
use snap::write::FrameEncoder;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// A connection with the layers that were negotiated on it.
pub(crate) struct Layered {
    pub(crate) raw: Stream,
    tls: Option<Box<ClientConnection>>,
    packing: Option<Packing>,
    /// Unpacked, not read.
    plain: VecDeque<u8>,
}

enum Packing {
    Snappy { encoder: Box<FrameEncoder<Vec<u8>>>, received: Vec<u8> },
    Deflate { compress: Box<Compress>, decompress: Box<Decompress> },
}

impl Layered {
    pub(crate) fn new(raw: Stream) -> Self {
        Self { raw, tls: None, packing: None, plain: VecDeque::new() }
    }

    /// Shakes hands; the peer's refusal of what we show may come only with the next read.
    pub(crate) fn start_tls(&mut self, config: Arc<ClientConfig>) -> io::Result<()> {
        let name = "localhost".try_into().expect("a name");
        let mut tls = ClientConnection::new(config, name).expect("a configuration");
        while tls.is_handshaking() {
            tls.complete_io(&mut self.raw)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// Shakes hands with a daemon that will refuse us, and gives what it sends in the clear after
    /// its last record of TLS.
    pub(crate) fn shake_in_vain(&mut self, config: Arc<ClientConfig>) -> Vec<u8> {
        let name = "localhost".try_into().expect("a name");
        let mut tls = ClientConnection::new(config, name).expect("a configuration");
        let mut received = Vec::new();
        let mut piece = [0; 4096];
        loop {
            // Whether we have noticed does not matter; it is the daemon that ends this.
            while tls.wants_write() && tls.write_tls(&mut self.raw).is_ok_and(|count| count > 0) {}
            let count = self.raw.read(&mut piece).unwrap_or(0);
            if count == 0 {
                break;
            }
            received.extend_from_slice(&piece[..count]);
            if tls.read_tls(&mut &piece[..count]).is_ok() {
                let _ = tls.process_new_packets();
            }
        }
        let mut rest = &received[..];
        while let [20..=23, _, _, high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            rest = after.get(length..).unwrap_or_default();
        }
        rest.to_vec()
    }

    pub(crate) fn start_snappy(&mut self) {
        let encoder = Box::new(FrameEncoder::new(Vec::new()));
        self.packing = Some(Packing::Snappy { encoder, received: Vec::new() });
    }

    pub(crate) fn start_deflate(&mut self) {
        self.packing = Some(Packing::Deflate {
            compress: Box::new(Compress::new(Compression::default(), false)),
            decompress: Box::new(Decompress::new(false)),
        });
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end_tls(&mut self) {
        let tls = self.tls.as_mut().expect("TLS");
        tls.send_close_notify();
        tls.write_tls(&mut self.raw).expect("the daemon reads");
    }

    /// The daemon's certificate.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let chain = self.tls.as_ref().and_then(|tls| tls.peer_certificates());
        chain.expect("TLS")[0].to_vec()
    }

    fn read_packed(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.raw).read(buffer),
            None => self.raw.read(buffer),
        }
    }

    fn write_packed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.raw.write_all(bytes) };
        let mut stream = rustls::Stream::new(&mut **tls, &mut self.raw);
        stream.write_all(bytes)?;
        stream.flush()
    }
}

impl Read for Layered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.packing.is_none() {
            return self.read_packed(buffer);
        }
        while self.plain.is_empty() {
            let mut packed = [0; 4096];
            let count = self.read_packed(&mut packed)?;
            if count == 0 {
                return Ok(0);
            }
            let packing = self.packing.as_mut().expect("it was there above");
            packing.unpack(&packed[..count], &mut self.plain)?;
        }
        self.plain.read(buffer)
    }
}

impl Write for Layered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.packing {
            None => self.write_packed(bytes)?,
            Some(packing) => {
                let packed = packing.pack(bytes)?;
                self.write_packed(&packed)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Packing {
    fn pack(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Snappy { encoder, .. } => {
                encoder.write_all(plain)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Deflate { compress, .. } => {
                let mut packed = Vec::with_capacity(2 * plain.len() + 64);
                compress.compress_vec(plain, &mut packed, FlushCompress::Sync)?;
                assert!(packed.len() < packed.capacity(), "there was room for all");
                Ok(packed)
            }
        }
    }

    fn unpack(&mut self, packed: &[u8], plain: &mut VecDeque<u8>) -> io::Result<()> {
        match self {
            Self::Snappy { received, .. } => {
                received.extend_from_slice(packed);
                let used = unframe(received, plain)?;
                received.drain(..used);
            }
            Self::Deflate { decompress, .. } => {
                let mut rest = packed;
                loop {
                    let mut piece = Vec::with_capacity(64 * 1024);
                    let before = decompress.total_in();
                    decompress.decompress_vec(rest, &mut piece, FlushDecompress::Sync)?;
                    let taken = usize::try_from(decompress.total_in() - before);
                    rest = &rest[taken.expect("a part of a slice")..];
                    let is_all = rest.is_empty() && piece.len() < piece.capacity();
                    plain.extend(piece);
                    if is_all {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Takes whole chunks of the snappy framing format off `bytes`; says how many bytes they took.
fn unframe(bytes: &[u8], plain: &mut VecDeque<u8>) -> io::Result<usize> {
    let mut used = 0;
    while let Some([kind, low, middle, high]) = bytes[used..].first_chunk() {
        let end = used + 4 + u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
        if end > bytes.len() {
            break;
        }
        // The library checks lengths and checksums; each chunk is a stream to it.
        let stream = [b"\xff\x06\0\0sNaPpY", &bytes[used..end]].concat();
        if *kind != 0xff {
            let mut chunk = Vec::new();
            snap::read::FrameDecoder::new(&stream[..]).read_to_end(&mut chunk)?;
            plain.extend(chunk);
        }
        used = end;
    }
    Ok(used)
}
