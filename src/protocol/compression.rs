//! Snappy and DEFLATE between the protocol's bytes and those below. Given bytes, gives bytes.
//!
//! Snappy's framing format is written and read here, since each flush has to end a chunk:
//!
//! ```text
//! stream   [ff 06 00 00 "sNaPpY"] chunk*
//! chunk    [kind][3 bytes length, little-endian][length bytes]
//! content  of kinds 0 (compressed) and 1 (as it is): [4 bytes masked CRC-32C][up to 64 KiB]
//! ```

use crate::limits::{DEFLATE_STEP_BYTES, SNAPPY_CHUNK_BYTES_MAX, SNAPPY_PLAIN_BYTES_MAX};
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use std::fmt;

/// A way to compress both directions of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Snappy's framing format.
    Snappy,
    /// Raw DEFLATE.
    Deflate {
        /// 1 (fast) to 9 (small).
        level: u8,
    },
}

/// What came is not of this compression: nothing more can be read from this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged(pub &'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Damaged {}

/// The sending direction.
pub enum Packer {
    /// The encoder, and whether the stream has begun.
    Snappy(Box<snap::raw::Encoder>, bool),
    /// zlib's state: some 300 KiB.
    Deflate(Box<Compress>),
}

/// The receiving direction.
pub enum Unpacker {
    /// Chunks.
    Snappy(Box<Chunks>),
    /// zlib's state: some 40 KiB.
    Deflate(Box<Decompress>),
}

/// Reads snappy's chunks.
#[derive(Default)]
pub struct Chunks {
    decoder: snap::raw::Decoder,
    /// The beginning of a chunk whose end has not come.
    held: Vec<u8>,
    has_begun: bool,
}

const CHUNK_COMPRESSED: u8 = 0;
const CHUNK_PLAIN: u8 = 1;
const CHUNK_IDENTIFIER: u8 = 0xff;
const HEADER_BYTES: usize = 4;
const SUM_BYTES: usize = 4;
const IDENTIFIER: &[u8; 6] = b"sNaPpY";
const STREAM_START: &[u8; 10] = b"\xff\x06\0\0sNaPpY";

impl Packer {
    /// A stream that has not begun.
    pub fn new(compression: Compression) -> Self {
        match compression {
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new()), false),
            Compression::Deflate { level } => {
                let level = flate2::Compression::new(u32::from(level));
                Self::Deflate(Box::new(Compress::new(level, false)))
            }
        }
    }

    /// Appends to `wire` what stands for `plain`. Some of it may stay behind until
    /// [`flush`](Self::flush).
    pub fn pack(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        match self {
            Self::Snappy(encoder, has_begun) => {
                if !std::mem::replace(has_begun, true) {
                    wire.extend_from_slice(STREAM_START);
                }
                for content in plain.chunks(SNAPPY_PLAIN_BYTES_MAX) {
                    push_chunk(encoder, content, wire);
                }
            }
            Self::Deflate(state) => deflate(state, plain, FlushCompress::None, wire),
        }
    }

    /// Appends what is left, so that the peer can read on to the last byte.
    pub fn flush(&mut self, wire: &mut Vec<u8>) {
        if let Self::Deflate(state) = self {
            deflate(state, &[], FlushCompress::Sync, wire);
        }
    }
}

/// Appends a chunk, compressed if that makes it smaller by an eighth at least, as NSQ does.
fn push_chunk(encoder: &mut snap::raw::Encoder, content: &[u8], wire: &mut Vec<u8>) {
    let start = wire.len();
    let content_start = start + HEADER_BYTES + SUM_BYTES;
    wire.resize(content_start + snap::raw::max_compress_len(content.len()), 0);
    let room = wire.get_mut(content_start..).unwrap_or_default();
    let packed = encoder.compress(content, room);
    let packed = packed.expect("there is room for the largest outcome");
    let is_smaller = packed < content.len() - content.len() / 8;
    let kind = if is_smaller { CHUNK_COMPRESSED } else { CHUNK_PLAIN };
    if is_smaller {
        wire.truncate(content_start + packed);
    } else {
        wire.truncate(content_start);
        wire.extend_from_slice(content);
    }
    let length = wire.len() - start - HEADER_BYTES;
    let [low, middle, high, ..] = length.to_le_bytes();
    let sum = masked(crc32c::crc32c(content)).to_le_bytes();
    if let Some(header) = wire.get_mut(start..content_start) {
        let (head, place) = header.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&[kind, low, middle, high]);
        place.copy_from_slice(&sum);
    }
}

fn deflate(state: &mut Compress, mut plain: &[u8], flush: FlushCompress, wire: &mut Vec<u8>) {
    loop {
        wire.reserve(DEFLATE_STEP_BYTES);
        let before = state.total_in();
        let packed = state.compress_vec(plain, wire, flush);
        packed.expect("compressing has no bad input");
        plain = rest_of(plain, state.total_in() - before);
        // Room is left: all is out, the end of a flush included.
        if plain.is_empty() && wire.len() < wire.capacity() {
            return;
        }
    }
}

impl Unpacker {
    /// A stream of which nothing has come.
    pub fn new(compression: Compression) -> Self {
        match compression {
            Compression::Snappy => Self::Snappy(Box::default()),
            Compression::Deflate { .. } => Self::Deflate(Box::new(Decompress::new(false))),
        }
    }

    /// Takes some of `packed` and appends to `plain` what it stands for: at most
    /// [`SNAPPY_PLAIN_BYTES_MAX`] bytes a call, since a few bytes may stand for very many.
    /// `false` when all was taken and nothing more comes of it.
    ///
    /// # Errors
    /// The bytes are not of this compression.
    pub fn unpack(&mut self, packed: &mut &[u8], plain: &mut Vec<u8>) -> Result<bool, Damaged> {
        match self {
            Self::Snappy(chunks) => chunks.unpack(packed, plain),
            Self::Deflate(state) => inflate(state, packed, plain),
        }
    }
}

fn inflate(
    state: &mut Decompress,
    packed: &mut &[u8],
    plain: &mut Vec<u8>,
) -> Result<bool, Damaged> {
    plain.reserve(DEFLATE_STEP_BYTES);
    let before = state.total_in();
    let status = state.decompress_vec(packed, plain, FlushDecompress::Sync);
    let status = status.map_err(|_| Damaged("no deflate stream"))?;
    *packed = rest_of(packed, state.total_in() - before);
    if status == Status::StreamEnd {
        return Err(Damaged("the deflate stream has ended"));
    }
    Ok(!packed.is_empty() || plain.len() == plain.capacity())
}

impl Chunks {
    /// Takes one chunk, or what there is of it.
    fn unpack(&mut self, packed: &mut &[u8], plain: &mut Vec<u8>) -> Result<bool, Damaged> {
        if self.held.is_empty() {
            let Some(bytes) = chunk_bytes(packed)?.filter(|bytes| *bytes <= packed.len()) else {
                self.held.extend_from_slice(packed);
                *packed = &[];
                return Ok(false);
            };
            let (chunk, rest) = packed.split_at(bytes);
            *packed = rest;
            self.open(chunk, plain)?;
            return Ok(!packed.is_empty());
        }
        self.hold(packed, HEADER_BYTES);
        let Some(bytes) = chunk_bytes(&self.held)? else { return Ok(false) };
        self.hold(packed, bytes);
        if self.held.len() < bytes {
            return Ok(false);
        }
        let chunk = std::mem::take(&mut self.held);
        self.open(&chunk, plain)?;
        Ok(!packed.is_empty())
    }

    /// Takes as much as makes so many bytes held.
    fn hold(&mut self, packed: &mut &[u8], bytes: usize) {
        let missing = bytes.saturating_sub(self.held.len());
        let (taken, rest) = packed.split_at_checked(missing).unwrap_or((packed, &[]));
        self.held.extend_from_slice(taken);
        *packed = rest;
    }

    /// Appends what a whole chunk stands for.
    fn open(&mut self, chunk: &[u8], plain: &mut Vec<u8>) -> Result<(), Damaged> {
        let Some(([kind, ..], content)) = chunk.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Damaged("a snappy chunk without header"));
        };
        if *kind == CHUNK_IDENTIFIER {
            self.has_begun = true;
            let is_known = content == IDENTIFIER;
            return if is_known { Ok(()) } else { Err(Damaged("not a snappy stream")) };
        }
        if !self.has_begun {
            return Err(Damaged("not a snappy stream"));
        }
        match *kind {
            CHUNK_COMPRESSED | CHUNK_PLAIN => self.open_content(*kind, content, plain),
            // Padding, and what a reader may skip.
            0x80..=0xfe => Ok(()),
            _ => Err(Damaged("a snappy chunk of an unknown kind")),
        }
    }

    fn open_content(
        &mut self,
        kind: u8,
        content: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), Damaged> {
        let content = content.split_first_chunk::<SUM_BYTES>();
        let (sum, content) = content.ok_or(Damaged("a snappy chunk without checksum"))?;
        let start = plain.len();
        let broken = Damaged("a broken snappy chunk");
        let bytes = match kind {
            CHUNK_PLAIN => content.len(),
            _ => snap::raw::decompress_len(content).map_err(|_| broken)?,
        };
        if bytes > SNAPPY_PLAIN_BYTES_MAX {
            return Err(Damaged("a snappy chunk that is too large"));
        }
        if kind == CHUNK_PLAIN {
            plain.extend_from_slice(content);
        } else {
            plain.resize(start + bytes, 0);
            let room = plain.get_mut(start..).unwrap_or_default();
            self.decoder.decompress(content, room).map_err(|_| broken)?;
        }
        let opened = plain.get(start..).unwrap_or_default();
        if u32::from_le_bytes(*sum) == masked(crc32c::crc32c(opened)) {
            Ok(())
        } else {
            Err(Damaged("a snappy chunk with a wrong checksum"))
        }
    }
}

/// Bytes of the chunk that begins here, its header included; `None` while that is not there.
fn chunk_bytes(bytes: &[u8]) -> Result<Option<usize>, Damaged> {
    let Some([_, low, middle, high]) = bytes.first_chunk() else { return Ok(None) };
    let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
    if length > SNAPPY_CHUNK_BYTES_MAX {
        return Err(Damaged("a snappy chunk that is too large"));
    }
    Ok(Some(HEADER_BYTES + length))
}

/// Checksums are stored masked, so that sums over sums stay meaningful.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// What is left of a slice after zlib took so many bytes of it.
fn rest_of(bytes: &[u8], taken: u64) -> &[u8] {
    usize::try_from(taken).ok().and_then(|taken| bytes.get(taken..)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
