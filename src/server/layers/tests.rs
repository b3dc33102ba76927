//! Whole connections in memory: TLS with either compression, under every cut of the bytes.

use super::*;
use crate::broker::upgrade::TlsPeer;
use proptest::collection::vec;
use proptest::prelude::*;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::Read as _;
use std::sync::LazyLock;

/// Both sides' settings; each trusts the other's one certificate, whose common name is `peer`.
static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "peer");
    let key = rcgen::KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap().der().clone();
    let key = || PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots.clone()),
        Arc::clone(&provider),
    );
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![own.clone()], key())
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key())
        .unwrap();
    (Arc::new(server), Arc::new(client))
});

/// The client's side.
#[derive(Default)]
struct Client {
    tls: Option<ClientConnection>,
    packing: Option<(Packer, Unpacker)>,
}

impl Client {
    fn send(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        match &mut self.packing {
            Some((packer, _)) => {
                packer.pack(plain, &mut packed);
                packer.flush(&mut packed);
            }
            None => packed.extend_from_slice(plain),
        }
        let Some(tls) = &mut self.tls else { return packed };
        let mut wire = Vec::new();
        let mut rest = &packed[..];
        while !rest.is_empty() || tls.wants_write() {
            let taken = tls.writer().write(rest).unwrap();
            rest = &rest[taken..];
            tls.write_tls(&mut wire).unwrap();
        }
        wire
    }

    fn receive(&mut self, mut wire: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        match &mut self.tls {
            Some(tls) => {
                while !wire.is_empty() {
                    tls.read_tls(&mut wire).unwrap();
                    tls.process_new_packets().unwrap();
                    let _ = tls.reader().read_to_end(&mut packed);
                }
            }
            None => packed.extend_from_slice(wire),
        }
        let Some((_, unpacker)) = &mut self.packing else { return packed };
        let (mut rest, mut plain) = (&packed[..], Vec::new());
        while unpacker.unpack(&mut rest, &mut plain).unwrap() {}
        plain
    }
}

/// A client and its layers, ready; the handshake's bytes come in pieces of `cut`.
fn ready(with_tls: bool, compression: Option<Compression>, cut: usize) -> (Client, Layers) {
    let (mut client, mut layers) = (Client::default(), Layers::default());
    if with_tls {
        layers.begin_tls(Arc::clone(&CONFIGS.0)).unwrap();
        let name = "localhost".try_into().unwrap();
        client.tls = Some(ClientConnection::new(Arc::clone(&CONFIGS.1), name).unwrap());
        let mut peer = None;
        while peer.is_none() {
            for mut piece in client.send(&[]).chunks(cut) {
                assert!(layers.is_shaking_hands());
                match layers.shake_hands(&mut piece) {
                    Handshake::UnderWay => assert!(piece.is_empty()),
                    Handshake::Done(known) => peer = Some(known),
                    Handshake::Failed(reason) => panic!("{reason}"),
                }
            }
            let wire = std::mem::take(&mut layers.wire);
            assert!(client.receive(&wire).is_empty());
        }
        let expected = TlsPeer {
            version: "TLS1.3",
            cipher_suite: "Unknown 4866".into(),
            common_name: "peer".into(),
        };
        assert_eq!(peer.as_deref(), Some(&expected));
    }
    if let Some(compression) = compression {
        layers.begin_packing(compression);
        client.packing = Some((Packer::new(compression), Unpacker::new(compression)));
    }
    (client, layers)
}

/// All that comes of some bytes; the decoder takes `take` at a time.
fn drain(layers: &mut Layers, mut wire: &[u8], take: usize) -> Result<Vec<u8>, Damaged> {
    let mut all = Vec::new();
    while layers.receive(&mut wire)? {
        while !layers.plain().is_empty() {
            let plain = layers.plain();
            let (taken, left) = plain.split_at(take.min(plain.len()));
            all.extend_from_slice(taken);
            let left = left.len();
            layers.leave(left);
        }
    }
    assert!(wire.is_empty() && !layers.holds_input());
    Ok(all)
}

fn stacks() -> impl Strategy<Value = (bool, Option<Compression>)> {
    let compression = prop_oneof![
        Just(None),
        Just(Some(Compression::Snappy)),
        Just(Some(Compression::Deflate { level: 1 })),
    ];
    let stack = (any::<bool>(), compression);
    stack.prop_filter("a layer at least", |stack| stack.0 || stack.1.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_goes_in_comes_out(
        stack in stacks(),
        texts in vec((any::<u8>(), 0..50_000usize), 1..4),
        cuts in vec(1..20_000usize, 1..5),
        handshake_cut in 1..3000usize,
        take in 1..40_000usize,
    ) {
        let (mut client, mut layers) = ready(stack.0, stack.1, handshake_cut);
        let mut cuts = cuts.iter().cycle();
        for (seed, bytes) in texts {
            let mut random = fastrand::Rng::with_seed(seed.into());
            let byte = || random.u8(..seed.max(1));
            let text: Vec<u8> = std::iter::repeat_with(byte).take(bytes).collect();
            let (wire, mut came) = (client.send(&text), Vec::new());
            let mut rest = &wire[..];
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = more;
                came.extend(drain(&mut layers, piece, take).unwrap());
                prop_assert!(layers.packed.len() + layers.plain.len() <= 256 * 1024);
            }
            prop_assert!(came == text);

            let mut output = Output::default();
            output.bytes.extend_from_slice(&text);
            output.push_shared(std::rc::Rc::new(text.clone()), 0..text.len());
            output.bytes.extend_from_slice(b"end");
            layers.send(&mut output);
            prop_assert!(output.is_empty());
            let wire = std::mem::take(&mut layers.wire);
            prop_assert!(client.receive(&wire) == [&text[..], &text, b"end"].concat());
        }
    }

    #[test]
    fn hostile_bytes_never_panic(
        stack in stacks(),
        bytes in vec(any::<u8>(), 1..3000),
        flips in vec(any::<prop::sample::Index>(), 1..3),
        cut in 1..500usize,
    ) {
        // In a handshake.
        let mut layers = Layers::default();
        layers.begin_tls(Arc::clone(&CONFIGS.0)).unwrap();
        for mut piece in bytes.chunks(cut) {
            if let Handshake::Failed(_) = layers.shake_hands(&mut piece) {
                break;
            }
        }
        // After one: damaged bytes of the client, then others.
        let (mut client, mut layers) = ready(stack.0, stack.1, 3000);
        let mut wire = client.send(&[7; 20_000]);
        for flip in flips {
            let at = flip.index(wire.len());
            wire[at] ^= 0x55;
        }
        wire.extend(&bytes);
        for piece in wire.chunks(cut) {
            if drain(&mut layers, piece, usize::MAX).is_err() {
                break;
            }
        }
        let mut output = Output::default();
        output.bytes.push(b'x');
        layers.send(&mut output);
        layers.end();
        prop_assert!(layers.wire.len() < 256 * 1024);
    }
}

/// Commands may have come with the last bytes of the handshake.
#[test]
fn what_comes_with_the_end_of_a_handshake_is_not_lost() {
    for compression in [None, Some(Compression::Snappy)] {
        let mut layers = Layers::default();
        layers.begin_tls(Arc::clone(&CONFIGS.0)).unwrap();
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(Arc::clone(&CONFIGS.1), name).unwrap();
        let mut client = Client { tls: Some(tls), packing: None };
        let hello = client.send(&[]);
        assert!(matches!(layers.shake_hands(&mut &hello[..]), Handshake::UnderWay));
        let wire = std::mem::take(&mut layers.wire);
        client.receive(&wire);
        client.packing = compression.map(|kind| (Packer::new(kind), Unpacker::new(kind)));
        let wire = client.send(b"NOP\nNOP\n");
        let mut rest = &wire[..];
        assert!(matches!(layers.shake_hands(&mut rest), Handshake::Done(_)));
        if let Some(compression) = compression {
            layers.begin_packing(compression);
        }
        assert!(layers.holds_input());
        assert_eq!(drain(&mut layers, rest, 3), Ok(b"NOP\nNOP\n".to_vec()));
    }
}

#[test]
fn an_end_of_tls_is_seen_and_said() {
    let (mut client, mut layers) = ready(true, None, 3000);
    let mut wire = client.send(b"NOP\n");
    client.tls.as_mut().unwrap().send_close_notify();
    wire.extend(client.send(&[]));
    assert_eq!(drain(&mut layers, &wire, 3), Ok(b"NOP\n".to_vec()));
    assert!(layers.has_ended());
    layers.end();
    let said = std::mem::take(&mut layers.wire);
    assert!(!said.is_empty());
    client.receive(&said);
    // Once is enough.
    layers.end();
    assert!(layers.wire.is_empty());
}

/// A bomb comes out in steps, each of which a caller may leave for later.
#[test]
fn a_bomb_is_held_back() {
    for compression in [Compression::Snappy, Compression::Deflate { level: 9 }] {
        for with_tls in [false, true] {
            let (mut client, mut layers) = ready(with_tls, Some(compression), 3000);
            let wire = client.send(&vec![0; 10 << 20]);
            let (mut rest, mut total) = (&wire[..], 0);
            while layers.receive(&mut rest).unwrap() {
                let held = layers.plain.capacity() + layers.packed.capacity();
                assert!(held <= 512 * 1024, "{held} bytes");
                total += layers.plain().len();
                layers.leave(0);
            }
            assert_eq!(total, 10 << 20);
        }
    }
}
