//! Snappy and DEFLATE between the protocol's bytes and the socket's. Given bytes, gives bytes.

use super::error::Error;
use crate::limits::CLIENT_READ_BYTES;
use bytes::BytesMut;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use snap::write::FrameEncoder;
use std::io::Write as _;

/// Most bytes of a snappy chunk, decoded: its framing format says so.
const SNAPPY_CHUNK_BYTES_MAX: usize = 1 << 16;

/// Room made at a time for what comes out of either direction.
const STEP_BYTES: usize = CLIENT_READ_BYTES / 2;

/// Compression of one connection, both ways.
pub(super) struct Packer {
    /// Bytes read from the socket and not yet unpacked.
    pub(super) received: BytesMut,
    method: Method,
}

enum Method {
    Snappy { encoder: Box<FrameEncoder<Vec<u8>>>, decoder: snap::raw::Decoder, chunk: Vec<u8> },
    Deflate { streams: Box<(Compress, Decompress)>, unpacked: Vec<u8> },
}

impl Packer {
    pub(super) fn snappy() -> Self {
        let encoder = Box::new(FrameEncoder::new(Vec::new()));
        let (decoder, chunk) = (snap::raw::Decoder::new(), vec![0; SNAPPY_CHUNK_BYTES_MAX]);
        Self::new(Method::Snappy { encoder, decoder, chunk })
    }

    /// `level`: 1 to 9.
    pub(super) fn deflate(level: u8) -> Self {
        Self::new(Method::Deflate {
            streams: Box::new((
                Compress::new(Compression::new(u32::from(level)), false),
                Decompress::new(false),
            )),
            unpacked: Vec::new(),
        })
    }

    fn new(method: Method) -> Self {
        Self { received: BytesMut::new(), method }
    }

    /// Appends to `wire` what is to be sent for `plain`, all of it: the peer can read on to the
    /// last byte.
    pub(super) fn pack(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        match &mut self.method {
            Method::Snappy { encoder, .. } => {
                let written = encoder.write_all(plain).and_then(|()| encoder.flush());
                written.expect("a vector takes all bytes");
                wire.append(encoder.get_mut());
            }
            Method::Deflate { streams, .. } => deflate(&mut streams.0, plain, wire),
        }
    }

    /// Unpacks some of `received`, at least as much as it can be; `false` when nothing is left
    /// that could be unpacked. Bounded work: a few bytes may stand for very many.
    ///
    /// # Errors
    /// The bytes are not of this compression.
    pub(super) fn unpack(&mut self, plain: &mut BytesMut) -> Result<bool, Error> {
        match &mut self.method {
            Method::Snappy { decoder, chunk, .. } => {
                unframe(decoder, chunk, &mut self.received, plain)
            }
            Method::Deflate { streams, unpacked } => {
                inflate(&mut streams.1, unpacked, &mut self.received, plain)
            }
        }
    }
}

fn deflate(compress: &mut Compress, mut plain: &[u8], wire: &mut Vec<u8>) {
    loop {
        wire.reserve(STEP_BYTES);
        let before = compress.total_in();
        let packed = compress.compress_vec(plain, wire, FlushCompress::Sync);
        packed.expect("compressing has no bad input");
        let taken = usize::try_from(compress.total_in() - before).expect("a part of a slice");
        plain = &plain[taken..];
        // Room is left: all is out, the end of the flush included.
        if plain.is_empty() && wire.len() < wire.capacity() {
            return;
        }
    }
}

fn inflate(
    decompress: &mut Decompress,
    unpacked: &mut Vec<u8>,
    packed: &mut BytesMut,
    plain: &mut BytesMut,
) -> Result<bool, Error> {
    unpacked.clear();
    unpacked.reserve(STEP_BYTES);
    let before = decompress.total_in();
    let status = decompress.decompress_vec(packed, unpacked, FlushDecompress::Sync);
    let status = status.map_err(|_| broken("what nsqd sent is no deflate stream"))?;
    if status == Status::StreamEnd {
        return Err(broken("nsqd ended its deflate stream"));
    }
    let taken = usize::try_from(decompress.total_in() - before).expect("a part of a slice");
    let _ = packed.split_to(taken);
    plain.extend_from_slice(unpacked);
    Ok(!packed.is_empty() || unpacked.len() == unpacked.capacity())
}

/// Takes one chunk of the snappy framing format: a kind, a length of three bytes, content.
fn unframe(
    decoder: &mut snap::raw::Decoder,
    chunk: &mut [u8],
    packed: &mut BytesMut,
    plain: &mut BytesMut,
) -> Result<bool, Error> {
    let Some(([kind, low, middle, high], rest)) = packed.split_first_chunk::<4>() else {
        return Ok(false);
    };
    let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
    let Some(content) = rest.get(..length) else { return Ok(false) };
    match kind {
        0 | 1 => {
            let content = content.split_first_chunk::<4>();
            let (sum, content) = content.ok_or(broken("a snappy chunk without checksum"))?;
            let content = if *kind == 1 {
                content
            } else {
                let decoded = decoder.decompress(content, chunk);
                let bytes = decoded.map_err(|_| broken("a broken snappy chunk"))?;
                &chunk[..bytes]
            };
            if u32::from_le_bytes(*sum) != masked(crc32c::crc32c(content)) {
                return Err(broken("a snappy chunk with a wrong checksum"));
            }
            plain.extend_from_slice(content);
        }
        // Padding, the stream's identifier, and what a reader may skip.
        0x80..=0xff => {}
        _ => return Err(broken("a snappy chunk of an unknown kind")),
    }
    let _ = packed.split_to(4 + length);
    Ok(!packed.is_empty())
}

/// Checksums are stored masked, so that sums over sums stay meaningful.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn broken(reason: &str) -> Error {
    Error::NotConnected(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything written comes out, however the bytes are cut.
    fn check(make: fn() -> Packer) {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut there, mut back) = (make(), make());
        let (mut sent, mut wire, mut plain) = (Vec::new(), Vec::new(), BytesMut::new());
        for bytes in [1, 10, 70_000, 0, 300_000, 5] {
            let values = if bytes > 100_000 { 4 } else { 255 };
            let part: Vec<u8> =
                std::iter::repeat_with(|| random.u8(..values)).take(bytes).collect();
            there.pack(&part, &mut wire);
            sent.extend(part);
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (part, more) = rest.split_at(random.usize(1..=5_000).min(rest.len()));
            back.received.extend_from_slice(part);
            while back.unpack(&mut plain).unwrap() {}
            rest = more;
        }
        assert!(plain == sent, "{} bytes of {}", plain.len(), sent.len());
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        check(Packer::snappy);
        check(|| Packer::deflate(6));
    }

    #[test]
    fn damage_is_noticed() {
        let mut wire = Vec::new();
        Packer::snappy().pack(b"some text, some text, some text", &mut wire);
        for at in [4, 14, 18] {
            let mut packer = Packer::snappy();
            packer.received.extend_from_slice(&wire);
            packer.received[at] ^= 0x11;
            let mut plain = BytesMut::new();
            let mut outcome = Ok(true);
            while outcome == Ok(true) {
                outcome = packer.unpack(&mut plain);
            }
            // The identifier's text is skipped, the rest is checked.
            assert!(outcome.is_err() || at == 4, "byte {at}");
        }
        let mut packer = Packer::deflate(6);
        packer.received.extend_from_slice(&[0xff; 20]);
        assert!(packer.unpack(&mut BytesMut::new()).is_err());
    }
}
