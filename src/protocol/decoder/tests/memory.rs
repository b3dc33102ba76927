//! What the decoder holds: little when idle, and never more than what has come justifies.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const MIB: usize = 1024 * 1024;

const WIDE_LIMITS: CommandLimits =
    CommandLimits { max_msg_size: MIB, max_body_size: 5 * MIB, ..LIMITS };

fn connection() -> Connection {
    Connection::new(State::Init, WIDE_LIMITS)
}

/// Begins a publish of a body of this size.
fn begin(connection: &mut Connection, line: &str, body_bytes: usize) {
    connection.feed(line.as_bytes());
    connection.feed(&i32::try_from(body_bytes).unwrap().to_be_bytes());
}

#[test]
fn a_whole_body_is_borrowed_and_a_large_one_in_pieces_is_owned() {
    let bytes = [b"PUB t\n".as_slice(), &sized(&[7; 10_000])].concat();
    let limits = WIDE_LIMITS;
    let context =
        Context { state: State::Init, heartbeats: true, lacks_tls: false, limits: &limits };
    let mut slabs = SlabPool::new(MIB);
    let mut decoder = Decoder::after_magic();

    let mut input = bytes.as_slice();
    let command = decoder.next(&mut input, &context, &mut slabs).unwrap();
    let Some(Command::Publish(Publish { body: Body::Borrowed(body), .. })) = command else {
        panic!("not borrowed: {command:?}");
    };
    assert!(bytes.as_ptr_range().contains(&body.as_ptr()), "in the input itself");
    assert_eq!(slabs.bytes_used(), 0);

    let (mut first, mut second) = bytes.split_at(9000);
    assert_eq!(decoder.next(&mut first, &context, &mut slabs), Ok(None));
    let command = decoder.next(&mut second, &context, &mut slabs).unwrap();
    let Some(Command::Publish(Publish { body: Body::Owned(body), .. })) = command else {
        panic!("not owned: {command:?}");
    };
    assert_eq!((body.len(), slabs.bytes_used()), (10_000, body.capacity()));
    slabs.give(body);
    decoder.release(&mut slabs);
    assert_eq!(slabs.bytes_used(), 0);
}

#[test]
fn an_idle_decoder_holds_next_to_nothing() {
    let mut connection = connection();
    for body_bytes in [10, 3000, 100_000] {
        for line in ["PUB t\n", "IDENTIFY\n"] {
            begin(&mut connection, line, body_bytes);
            let body = vec![1; body_bytes];
            body.chunks(body_bytes / 2).for_each(|piece| connection.feed(piece));
            assert!(connection.decoder.carry_bytes() <= CARRY_IDLE_BYTES_MAX);
            assert_eq!(connection.slabs.bytes_used(), 0);
        }
    }
    assert_eq!(connection.commands.len(), 6);
}

#[test]
fn a_claimed_size_costs_nothing_until_its_bytes_come() {
    let mut connection = connection();
    begin(&mut connection, "PUB t\n", MIB);
    connection.feed(&[1; CARRY_BODY_BYTES_MAX]);
    assert_eq!(connection.slabs.bytes_used(), 0);
    connection.feed(&[1]);
    assert_eq!(connection.slabs.bytes_used(), SLAB_BYTES);
    connection.feed(&[1; SLAB_BYTES]);
    assert_eq!(connection.slabs.bytes_used(), 2 * SLAB_BYTES);
    connection.decoder.release(&mut connection.slabs);
    assert_eq!(connection.slabs.bytes_used(), 0);
    assert!(connection.decoder.is_at_boundary());
}

#[test]
fn a_body_over_the_budget_is_refused_with_its_commands_error() {
    for (line, error) in [
        ("PUB t\n", "E_PUB_FAILED PUB failed memory budget exceeded"),
        ("DPUB t 1\n", "E_DPUB_FAILED DPUB failed memory budget exceeded"),
        ("MPUB t\n", "E_MPUB_FAILED MPUB failed memory budget exceeded"),
        ("IDENTIFY\n", "E_BAD_BODY IDENTIFY failed to read body"),
    ] {
        let mut connection = connection();
        connection.slabs = SlabPool::new(2 * SLAB_BYTES);
        begin(&mut connection, line, MIB);
        if line.starts_with("MPUB") {
            connection.feed(&[0, 0, 0, 1, 0, 0x10, 0, 0]);
        }
        (0..3).for_each(|_| connection.feed(&[1; SLAB_BYTES]));
        assert_eq!(connection.outcome().1, error);
        connection.decoder.release(&mut connection.slabs);
        assert_eq!(connection.slabs.bytes_used(), 0);
    }
}

#[test]
fn a_secret_has_a_limit_of_its_own() {
    let mut connection = connection();
    begin(&mut connection, "AUTH\n", AUTH_SECRET_BYTES_MAX + 1);
    assert_eq!(connection.outcome().1, "E_BAD_BODY AUTH body too big 16385 > 16384");
}

proptest! {
    #[test]
    fn memory_is_bounded_by_what_has_come(
        line in prop_oneof![Just("PUB t\n"), Just("MPUB t\n"), Just("IDENTIFY\n"), Just("x")],
        claimed in 1..MIB,
        pieces in vec(1..20_000usize, 0..40),
    ) {
        let mut connection = connection();
        begin(&mut connection, line, claimed);
        if line.starts_with("MPUB") {
            connection.feed(&2i32.to_be_bytes());
            connection.feed(&i32::try_from(claimed).unwrap().to_be_bytes());
        }
        let mut bytes_come = 0;
        for piece in pieces {
            let piece = if line == "x" { piece } else { piece.min(claimed - bytes_come - 1) };
            connection.feed(&vec![1; piece]);
            bytes_come += piece;
            prop_assert!(connection.decoder.carry_bytes() <= 2 * COMMAND_LINE_BYTES_MAX);
            let used = connection.slabs.bytes_used();
            // A batch is held with the sizes of its messages.
            let held_max = bytes_come + size_of::<i32>();
            prop_assert!(used <= SLAB_BYTES || used <= 2 * held_max, "{used} of {bytes_come}");
            prop_assert!(used == 0 || bytes_come > CARRY_BODY_BYTES_MAX);
        }
        connection.decoder.release(&mut connection.slabs);
        prop_assert_eq!(connection.slabs.bytes_used(), 0);
        prop_assert_eq!(connection.decoder.carry_bytes(), 0);
    }
}
