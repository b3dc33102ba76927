//! What is between the protocol's bytes and the socket's when TLS or compression was negotiated.
//! It is given bytes and gives bytes; it does no I/O, but for the handshake.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use snap::write::FrameEncoder;

/// Room made at a time for what comes out of deflate.
const CHUNK_BYTES: usize = 16 * 1024;
/// Most bytes of a chunk of the snappy framing format, decoded, and of its stream identifier.
const SNAPPY_CHUNK_BYTES_MAX: usize = 1 << 16;
const SNAPPY_IDENTIFIER: u8 = 0xff;

/// The layers of a connection: compression inside TLS.
#[derive(Default)]
pub(crate) struct Codec {
    tls: Option<Box<ClientConnection>>,
    packer: Option<Packer>,
}

/// Compression, both ways.
enum Packer {
    Snappy { encoder: Box<FrameEncoder<Vec<u8>>>, received: Vec<u8> },
    Deflate { compress: Box<Compress>, decompress: Box<Decompress> },
}

impl Codec {
    /// Makes the TLS connection on `stream`. Certificates are not checked: a load generator has
    /// no secrets, and daemons under test have certificates of their own.
    pub(crate) fn shake_hands(&mut self, stream: &mut TcpStream) -> Result<()> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let name = ServerName::try_from("nsqd").context("a constant name")?;
        let mut connection = ClientConnection::new(Arc::new(config), name)?;
        while connection.is_handshaking() {
            connection.complete_io(stream).context("the TLS handshake failed")?;
        }
        connection.set_buffer_limit(None);
        self.tls = Some(Box::new(connection));
        Ok(())
    }

    /// Compresses with snappy from here on.
    pub(crate) fn pack_with_snappy(&mut self) {
        let encoder = Box::new(FrameEncoder::new(Vec::new()));
        self.packer = Some(Packer::Snappy { encoder, received: Vec::new() });
    }

    /// Compresses with deflate from here on.
    pub(crate) fn pack_with_deflate(&mut self) {
        self.packer = Some(Packer::Deflate {
            compress: Box::new(Compress::new(Compression::default(), false)),
            decompress: Box::new(Decompress::new(false)),
        });
    }

    /// What is to be sent for `plain`.
    pub(crate) fn encode(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let packed = match &mut self.packer {
            Some(packer) => packer.pack(plain)?,
            None => plain.to_vec(),
        };
        let Some(tls) = &mut self.tls else { return Ok(packed) };
        let mut out = Vec::with_capacity(packed.len() + 256);
        tls.writer().write_all(&packed)?;
        while tls.wants_write() {
            tls.write_tls(&mut out)?;
        }
        Ok(out)
    }

    /// Appends to `plain` what `received` brings.
    pub(crate) fn decode(&mut self, mut received: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        loop {
            let Some(tls) = &mut self.tls else { return self.unpack(received, plain) };
            let state = tls.process_new_packets().context("TLS failed")?;
            let mut packed = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut packed)?;
            let fed = if received.is_empty() { 0 } else { tls.read_tls(&mut received)? };
            self.unpack(&packed, plain)?;
            if fed == 0 {
                return Ok(());
            }
        }
    }

    /// Appends to `plain` what `packed` brings, compressed bytes that came out of TLS before.
    pub(crate) fn unpack(&mut self, packed: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        match &mut self.packer {
            None => plain.extend_from_slice(packed),
            Some(Packer::Snappy { received, .. }) => {
                received.extend_from_slice(packed);
                let used = unframe_snappy(received, plain)?;
                received.drain(..used);
            }
            Some(Packer::Deflate { decompress, .. }) => inflate(decompress, packed, plain)?,
        }
        Ok(())
    }
}

impl Packer {
    fn pack(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Snappy { encoder, .. } => {
                encoder.write_all(plain)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Deflate { compress, .. } => {
                let mut out = Vec::new();
                let mut rest = plain;
                loop {
                    out.reserve(CHUNK_BYTES);
                    let before = compress.total_in();
                    compress.compress_vec(rest, &mut out, FlushCompress::Sync)?;
                    rest = &rest[usize::try_from(compress.total_in() - before)?..];
                    if rest.is_empty() && out.len() < out.capacity() {
                        return Ok(out);
                    }
                }
            }
        }
    }
}

fn inflate(decompress: &mut Decompress, mut rest: &[u8], plain: &mut Vec<u8>) -> Result<()> {
    loop {
        plain.reserve(CHUNK_BYTES);
        let before = decompress.total_in();
        let status = decompress
            .decompress_vec(rest, plain, FlushDecompress::Sync)
            .context("what the daemon sent is no deflate stream")?;
        rest = &rest[usize::try_from(decompress.total_in() - before)?..];
        ensure!(status != Status::StreamEnd, "the daemon ended its deflate stream");
        // Room is left: there was no more to come out.
        if rest.is_empty() && plain.len() < plain.capacity() {
            return Ok(());
        }
    }
}

/// Takes whole chunks of the snappy framing format off `bytes`; returns how many bytes they took.
fn unframe_snappy(bytes: &[u8], plain: &mut Vec<u8>) -> Result<usize> {
    let mut used = 0;
    while let Some(([kind, low, middle, high], rest)) = bytes[used..].split_first_chunk::<4>() {
        let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
        let Some(chunk) = rest.get(..length) else { break };
        match kind {
            0 | 1 => {
                // The checksum is the daemon's and the kernel's worry, and bodies have their own.
                let content = chunk.get(4..).context("a snappy chunk without checksum")?;
                if *kind == 1 {
                    plain.extend_from_slice(content);
                } else {
                    let decoded = snap::raw::decompress_len(content)?;
                    ensure!(decoded <= SNAPPY_CHUNK_BYTES_MAX, "a snappy chunk of {decoded} bytes");
                    plain.extend(snap::raw::Decoder::new().decompress_vec(content)?);
                }
            }
            0x80..=SNAPPY_IDENTIFIER => {}
            _ => bail!("a snappy chunk of unknown kind {kind}"),
        }
        used += 4 + length;
    }
    Ok(used)
}

/// Takes any certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything written comes back, however the bytes are cut.
    fn check(make: fn() -> Codec) {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut there, mut back) = (make(), make());
        let (mut sent, mut wire, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for bytes in [1, 10, 70_000, 0, 300_000, 5] {
            let part: Vec<u8> =
                std::iter::repeat_with(|| random.u8(..if bytes > 100_000 { 4 } else { 255 }))
                    .take(bytes)
                    .collect();
            wire.extend(there.encode(&part).unwrap());
            sent.extend(part);
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (part, more) = rest.split_at(random.usize(1..=5_000).min(rest.len()));
            back.decode(part, &mut plain).unwrap();
            rest = more;
        }
        assert!(plain == sent, "{} bytes of {}", plain.len(), sent.len());
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        check(Codec::default);
        check(|| {
            let mut codec = Codec::default();
            codec.pack_with_snappy();
            codec
        });
        check(|| {
            let mut codec = Codec::default();
            codec.pack_with_deflate();
            codec
        });
    }

    #[test]
    fn every_write_can_be_read_at_once() {
        let make = |deflate: bool| {
            let mut codec = Codec::default();
            if deflate {
                codec.pack_with_deflate()
            } else {
                codec.pack_with_snappy()
            }
            codec
        };
        for deflate in [true, false] {
            let (mut there, mut back) = (make(deflate), make(deflate));
            for text in [&b"one"[..], b"two", &[7; 100_000]] {
                let mut plain = Vec::new();
                back.decode(&there.encode(text).unwrap(), &mut plain).unwrap();
                assert!(plain == text);
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut codec = Codec::default();
        codec.pack_with_snappy();
        assert!(codec.decode(&[2, 1, 0, 0, 0], &mut Vec::new()).is_err());
        let mut codec = Codec::default();
        codec.pack_with_deflate();
        assert!(codec.decode(&[0xff; 64], &mut Vec::new()).is_err());
    }
}
