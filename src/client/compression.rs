//! Compression of one connection, both ways, between its frames and its socket.

use super::error::Error;
use crate::protocol::compression::{Compression, Packer, Unpacker};
use bytes::{Buf as _, BytesMut};

/// See the module's text.
pub(super) struct Packing {
    /// Bytes read from the socket and not yet unpacked.
    pub(super) received: BytesMut,
    packer: Packer,
    unpacker: Unpacker,
    unpacked: Vec<u8>,
}

impl Packing {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            received: BytesMut::new(),
            packer: Packer::new(compression),
            unpacker: Unpacker::new(compression),
            unpacked: Vec::new(),
        }
    }

    /// Appends to `wire` what is to be sent for `plain`, all of it: the peer can read on to the
    /// last byte.
    pub(super) fn pack(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        self.packer.pack(plain, wire);
        self.packer.flush(wire);
    }

    /// Unpacks some of `received`; `false` when nothing is left that could be unpacked. Bounded
    /// work: a few bytes may stand for very many.
    ///
    /// # Errors
    /// The bytes are not of this compression.
    pub(super) fn unpack(&mut self, plain: &mut BytesMut) -> Result<bool, Error> {
        let mut rest = &self.received[..];
        self.unpacked.clear();
        let has_more = self.unpacker.unpack(&mut rest, &mut self.unpacked);
        let has_more = has_more.map_err(|damage| Error::NotConnected(damage.0.into()))?;
        let left = rest.len();
        self.received.advance(self.received.len() - left);
        plain.extend_from_slice(&self.unpacked);
        Ok(has_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_as_it_comes() {
        for compression in [Compression::Snappy, Compression::Deflate { level: 6 }] {
            let mut there = Packing::new(compression);
            let mut back = Packing::new(compression);
            let (mut wire, mut plain) = (Vec::new(), BytesMut::new());
            let texts = [&b"one"[..], &[7; 300_000], b"", b"the end"];
            texts.iter().for_each(|text| there.pack(text, &mut wire));
            for piece in wire.chunks(1000) {
                back.received.extend_from_slice(piece);
                while back.unpack(&mut plain).unwrap() {}
            }
            assert!(plain == texts.concat());
            back.received.extend_from_slice(&[0x7f, 1, 0, 0, 0]);
            assert!(back.unpack(&mut plain).is_err(), "{compression:?}");
        }
    }
}
