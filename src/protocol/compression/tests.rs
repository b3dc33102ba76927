//! Round trips under every cut of the bytes, and hostile streams.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const ALL: [Compression; 2] = [Compression::Snappy, Compression::Deflate { level: 6 }];

/// Unpacks pieces of `packed`, cut at `cuts`, as far as they go.
fn unpack(
    compression: Compression,
    packed: &[u8],
    cuts: &[usize],
) -> (Vec<u8>, Result<(), Damaged>) {
    let mut unpacker = Unpacker::new(compression);
    let mut plain = Vec::new();
    let mut rest = packed;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let (mut piece, more) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
        rest = more;
        loop {
            let before = plain.len();
            match unpacker.unpack(&mut piece, &mut plain) {
                Ok(true) => {}
                Ok(false) => break assert!(piece.is_empty()),
                Err(damaged) => return (plain, Err(damaged)),
            }
            let grown = plain.len() - before;
            assert!(grown <= plain.capacity().max(SNAPPY_PLAIN_BYTES_MAX));
        }
        if let Unpacker::Snappy(chunks) = &unpacker {
            assert!(chunks.held.len() <= HEADER_BYTES + SNAPPY_CHUNK_BYTES_MAX);
        }
    }
    (plain, Ok(()))
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    // Repetitive and random stretches, some longer than a chunk.
    let stretch = (any::<u8>(), 1..255u8, 0..90_000usize, any::<bool>());
    stretch.prop_map(|(seed, modulus, bytes, is_short)| {
        let bytes = if is_short { bytes % 50 } else { bytes };
        let mut random = fastrand::Rng::with_seed(seed.into());
        std::iter::repeat_with(|| random.u8(..modulus)).take(bytes).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_packed_is_unpacked_however_it_is_cut(
        parts in vec(text(), 1..6),
        cuts in vec(1..40_000usize, 1..5),
        level in 1..=9u8,
    ) {
        for compression in [Compression::Snappy, Compression::Deflate { level }] {
            let (mut packer, mut wire) = (Packer::new(compression), Vec::new());
            for part in &parts {
                packer.pack(part, &mut wire);
                packer.flush(&mut wire);
            }
            let (plain, outcome) = unpack(compression, &wire, &cuts);
            prop_assert_eq!(outcome, Ok(()));
            prop_assert!(plain == parts.concat());
        }
    }

    #[test]
    fn hostile_bytes_never_panic(
        mut bytes in vec(any::<u8>(), 0..3000),
        cuts in vec(1..100usize, 1..4),
        begins_well: bool,
    ) {
        if begins_well {
            bytes.splice(0..0, *STREAM_START);
        }
        for compression in ALL {
            let whole = unpack(compression, &bytes, &[usize::MAX]);
            prop_assert_eq!(unpack(compression, &bytes, &cuts), whole);
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_by_snappy(
        text in text(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let (mut packer, mut wire) = (Packer::new(Compression::Snappy), Vec::new());
        packer.pack(&text, &mut wire);
        wire[at.index(text.len().min(1) * 9 + 1)] ^= 1 << bit;
        let (plain, outcome) = unpack(Compression::Snappy, &wire, &[usize::MAX]);
        prop_assert!(outcome.is_err() || plain.len() < text.len() || text.is_empty());
    }
}

#[test]
fn every_byte_by_itself() {
    for compression in ALL {
        let (mut packer, mut wire) = (Packer::new(compression), Vec::new());
        packer.pack(&[7; 70_000], &mut wire);
        packer.pack(b"the end", &mut wire);
        packer.flush(&mut wire);
        let (plain, outcome) = unpack(compression, &wire, &[1]);
        assert_eq!(outcome, Ok(()));
        assert!(plain == [&[7; 70_000][..], b"the end"].concat());
    }
}

#[test]
fn each_flush_can_be_read_to_its_last_byte() {
    for compression in ALL {
        let (mut packer, mut unpacker) = (Packer::new(compression), Unpacker::new(compression));
        for text in [&b"one"[..], b"two", &[7; 100_000], b"x"] {
            let (mut wire, mut plain) = (Vec::new(), Vec::new());
            packer.pack(text, &mut wire);
            packer.flush(&mut wire);
            // Nothing more to flush: nothing more is sent.
            packer.flush(&mut wire);
            let mut packed = &wire[..];
            while unpacker.unpack(&mut packed, &mut plain).unwrap() {}
            assert!(plain == text, "{compression:?}: {} bytes", plain.len());
        }
    }
}

#[test]
fn a_bomb_comes_out_in_steps() {
    for compression in ALL {
        let (mut packer, mut wire) = (Packer::new(compression), Vec::new());
        packer.pack(&vec![0; 20 << 20], &mut wire);
        packer.flush(&mut wire);
        let (mut unpacker, mut packed, mut total) = (Unpacker::new(compression), &wire[..], 0);
        loop {
            let mut plain = Vec::new();
            let has_more = unpacker.unpack(&mut packed, &mut plain).unwrap();
            assert!(plain.capacity() <= SNAPPY_PLAIN_BYTES_MAX.max(2 * DEFLATE_STEP_BYTES));
            total += plain.len();
            if !has_more {
                break;
            }
        }
        assert_eq!(total, 20 << 20, "{compression:?}");
    }
}

#[test]
fn streams_that_are_none_are_refused() {
    let refused = |bytes: &[u8]| unpack(Compression::Snappy, bytes, &[usize::MAX]).1.unwrap_err();
    let begun = |chunk: &[u8]| [&STREAM_START[..], chunk].concat();
    for (bytes, reason) in [
        (&b"PUB t\n"[..], "a snappy chunk that is too large"),
        (b"\x01\x05\0\0\0\0\0\0a", "not a snappy stream"),
        (b"\xff\x06\0\0snappy", "not a snappy stream"),
        (&begun(b"\x02\x01\0\0\0"), "a snappy chunk of an unknown kind"),
        (&begun(b"\0\x03\0\0abc"), "a snappy chunk without checksum"),
        (&begun(b"\x01\x05\0\0\0\0\0\0a"), "a snappy chunk with a wrong checksum"),
        (&begun(b"\0\x05\0\0\0\0\0\0\xff"), "a broken snappy chunk"),
        // Claims 2 MiB of content.
        (&begun(b"\0\x08\0\0\0\0\0\0\x80\x80\x80\x01"), "a snappy chunk that is too large"),
    ] {
        assert_eq!(refused(bytes).0, reason, "{bytes:?}");
    }
    // Padding and unknown chunks that may be skipped are.
    let skipped = begun(b"\xfe\x02\0\0ab\x80\0\0\0");
    assert_eq!(unpack(Compression::Snappy, &skipped, &[3]), (vec![], Ok(())));
    let deflate = Compression::Deflate { level: 6 };
    assert!(unpack(deflate, &[0xff; 20], &[usize::MAX]).1.is_err());
    // A stream that says it has ended.
    assert!(unpack(deflate, &[3, 0], &[usize::MAX]).1.is_err());
}

#[test]
fn golden_snappy() {
    let (mut packer, mut wire) = (Packer::new(Compression::Snappy), Vec::new());
    packer.pack(b"", &mut wire);
    packer.pack(b"NOP\n", &mut wire);
    assert_eq!(wire, b"\xff\x06\0\0sNaPpY\x01\x08\0\0A\xcd|\xe3NOP\n", "{wire:x?}");
}
