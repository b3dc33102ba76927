//! Properties: the cut of the bytes does not matter, and no bytes make the decoder panic.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Large enough for bodies in the carry, in one slab and beyond.
const WIDE_LIMITS: CommandLimits =
    CommandLimits { max_msg_size: 200_000, max_body_size: 1_000_000, ..LIMITS };

/// A command of a subscribed client, and what it decodes to.
type Sample = (Vec<u8>, String);

fn topic() -> impl Strategy<Value = &'static str> {
    select(vec!["t", "orders", "a.much-longer_topic#ephemeral"])
}

/// Bodies around every size where the decoder changes its way.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let sizes = vec![
        1,
        2,
        200,
        CARRY_BODY_BYTES_MAX - 1,
        CARRY_BODY_BYTES_MAX,
        CARRY_BODY_BYTES_MAX + 1,
        20_000,
        SLAB_BYTES,
        SLAB_BYTES + 1,
        199_999,
    ];
    (select(sizes), any::<u8>()).prop_map(|(bytes, first)| {
        (0..=250).cycle().map(|at| first.wrapping_add(at)).take(bytes).collect()
    })
}

fn publish() -> impl Strategy<Value = Sample> {
    (topic(), body(), 0..9u64).prop_map(|(topic, body, delay_ms)| {
        let text = body.escape_ascii();
        let (line, text) = match delay_ms {
            0 => (format!("PUB {topic}\n"), format!("PUB {topic} {text}")),
            _ => {
                let line = format!("DPUB {topic} {delay_ms}\r\n");
                (line, format!("DPUB {topic} +{delay_ms} {text}"))
            }
        };
        ([line.into_bytes(), sized(&body)].concat(), text)
    })
}

fn publish_batch() -> impl Strategy<Value = Sample> {
    (topic(), vec(body(), 1..6)).prop_map(|(topic, bodies)| {
        let messages: Vec<_> = bodies.iter().map(Vec::as_slice).collect();
        let bytes = [format!("MPUB {topic}\n").into_bytes(), batch(&messages)].concat();
        let mut text = format!("start {topic}; MPUB {topic}");
        for message in messages {
            write!(text, " [{}]", message.escape_ascii()).unwrap();
        }
        (bytes, text)
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    let line = |text: String| (format!("{text}\n").into_bytes(), text);
    prop_oneof![
        publish(),
        publish_batch(),
        Just(line("NOP".to_owned())),
        (0..2500u64).prop_map(move |count| line(format!("RDY {count}"))),
        any::<u64>().prop_map(move |id| line(format!("FIN {id:016x}"))),
        any::<u64>().prop_map(move |id| line(format!("TOUCH {id:016x}"))),
        (any::<u64>(), 0..1000u64).prop_map(move |(id, ms)| line(format!("REQ {id:016x} {ms}"))),
    ]
}

/// What may end a stream: nothing, something wrong, or something unfinished.
fn ending() -> impl Strategy<Value = Vec<u8>> {
    let long_line = vec![b'x'; COMMAND_LINE_BYTES_MAX + 100];
    prop_oneof![
        select(vec![
            b"".to_vec(),
            b"XXX\n".to_vec(),
            b"IDENTIFY\n".to_vec(),
            b"FIN short\nNOP\n".to_vec(),
            b"PUB $\n".to_vec(),
            b"PUB t\n\0\0\0\0rest".to_vec(),
            b"PUB t\n\0\x01\0\0unfinished".to_vec(),
            b"MPUB t\n\0\0\0\x09\0\0\0\x02\0\0\0\x01a\x7f\0\0\0bc".to_vec(),
            long_line,
        ]),
        vec(any::<u8>(), 0..200),
    ]
}

fn run(bytes: &[u8], cuts: &[usize]) -> Connection {
    let mut connection = Connection::new(State::Subscribed, WIDE_LIMITS);
    let mut from = 0;
    for &cut in cuts {
        connection.feed(&bytes[from..cut]);
        from = cut;
    }
    connection.feed(&bytes[from..]);
    connection
}

/// Cuts of a stream: some anywhere, and a few close together so that small parts are cut too.
fn sorted_cuts(bytes: &[u8], seeds: &[(usize, usize)]) -> Vec<usize> {
    let cut = |&(seed, step): &(usize, usize)| {
        let first = seed % (bytes.len() + 1);
        [first, (first + step).min(bytes.len())]
    };
    let mut cuts: Vec<_> = seeds.iter().flat_map(cut).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_cut_gives_the_same_commands(
        samples in vec(sample(), 0..8),
        ending in ending(),
        seeds in vec((any::<usize>(), 0..12usize), 0..40),
    ) {
        let mut bytes: Vec<u8> = Vec::new();
        samples.iter().for_each(|(sample, _)| bytes.extend(sample));
        let texts: Vec<_> = samples.into_iter().map(|(_, text)| text).collect();
        let valid = run(&bytes, &sorted_cuts(&bytes, &seeds));
        prop_assert!(valid.outcome() == (texts.join("; "), String::new()));
        prop_assert!(valid.decoder.is_at_boundary());

        bytes.extend(ending);
        let cut = run(&bytes, &sorted_cuts(&bytes, &seeds));
        let whole = run(&bytes, &[]);
        prop_assert!(cut.outcome() == whole.outcome(), "{:?} {:?}", cut.error, whole.error);
        if whole.error.is_none() {
            prop_assert_eq!(cut.decoder.end_of_stream(), whole.decoder.end_of_stream());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        state in select(vec![State::Init, State::Subscribed, State::Closing]),
        pieces in vec(
            prop_oneof![
                vec(any::<u8>(), 0..40),
                select(vec!["PUB t\n", "MPUB t\n", "DPUB t 1\n", "SUB t c\n", "CLS\n", "AUTH\n",
                    "IDENTIFY\n", "RDY", "FIN ", "REQ ", "TOUCH ", " ", "\r\n", "\0\0\0\x01",
                    "\0\0\0\x02"]).prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..30,
        ),
    ) {
        let mut connection = Connection::new(state, LIMITS);
        pieces.iter().for_each(|piece| connection.feed(piece));
        let mut whole = Connection::new(state, LIMITS);
        whole.feed(&pieces.concat());
        prop_assert_eq!(connection.outcome(), whole.outcome());
    }
}
