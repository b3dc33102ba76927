//! Any bytes in any cut: no panic, the same commands and error as without cuts, bounded memory,
//! and everything charged is given back.
//!
//! Input: `[state][number of cuts n][n × uint16 piece length]` and the bytes of the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::limits::COMMAND_LINE_BYTES_MAX;
use ringmain::protocol::command::{BatchIter, Body, Command, CommandLimits, PublishKind, State};
use ringmain::protocol::decoder::{Context, Decoder};
use ringmain::protocol::identify::{IdentifyLimits, Settings};
use ringmain::protocol::slab::SlabPool;

const LIMITS: CommandLimits = CommandLimits {
    max_msg_size: 20_000,
    max_body_size: 60_000,
    max_rdy_count: 2500,
    max_req_timeout_ms: 3_600_000,
};

const IDENTIFY_LIMITS: IdentifyLimits = IdentifyLimits {
    max_heartbeat_interval_ms: 60_000,
    min_output_buffer_timeout_ms: 25,
    max_output_buffer_timeout_ms: 30_000,
    max_output_buffer_size: 65_536,
    max_msg_timeout_ms: 900_000,
};

fuzz_target!(|input: &[u8]| {
    let Some((&[state, cuts], rest)) = input.split_first_chunk() else { return };
    let Some((lengths, stream)) = rest.split_at_checked(2 * usize::from(cuts)) else { return };
    let state = match state % 4 {
        0 => None,
        1 => Some(State::Init),
        2 => Some(State::Subscribed),
        _ => Some(State::Closing),
    };
    let mut pieces = Vec::new();
    let mut rest = stream;
    for length in lengths.as_chunks::<2>().0 {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(run(state, &pieces), run(state, &[stream]));
});

/// Everything that comes out; the last line is the error, if any. Without a state the stream
/// begins with the magic.
fn run(state: Option<State>, pieces: &[&[u8]]) -> Vec<String> {
    let mut decoder = state.map_or_else(Decoder::new, |_| Decoder::after_magic());
    let mut state = state.unwrap_or(State::Init);
    let mut slabs = SlabPool::new(usize::MAX);
    let mut lines = Vec::new();
    'stream: for piece in pieces {
        let mut input = *piece;
        loop {
            let context = Context { state, heartbeats: true, lacks_tls: false, limits: &LIMITS };
            match decoder.next(&mut input, &context, &mut slabs) {
                Ok(None) => break,
                Ok(Some(command)) => lines.push(consume(command, &mut state, &mut slabs)),
                Err(error) => {
                    lines.push(error.to_string());
                    break 'stream;
                }
            }
        }
        assert!(input.is_empty());
        assert!(decoder.carry_bytes() <= 2 * COMMAND_LINE_BYTES_MAX);
    }
    decoder.release(&mut slabs);
    assert_eq!(slabs.bytes_used(), 0);
    lines
}

fn consume(command: Command<'_>, state: &mut State, slabs: &mut SlabPool) -> String {
    match command {
        Command::Publish(publish) => {
            let bytes = publish.body.as_bytes();
            if publish.kind == PublishKind::Mpub {
                assert_eq!(BatchIter::new(bytes).count(), publish.count as usize);
            }
            let line = format!("{} {} {bytes:?}", publish.topic, publish.delay_ms);
            if let Body::Owned(bytes) = publish.body {
                slabs.give(bytes);
            }
            return line;
        }
        Command::Identify { body } => {
            return format!("{:?}", Settings::parse(body, &IDENTIFY_LIMITS));
        }
        Command::Sub { .. } => *state = State::Subscribed,
        Command::Close => *state = State::Closing,
        _ => {}
    }
    format!("{command:?}")
}
