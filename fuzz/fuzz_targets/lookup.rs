//! Any bytes, cut anywhere, through the lookup protocol's decoder and into the registrations: no
//! panic, and the same units whatever the cuts.
//!
//! Input: `[chunk length][bytes …]`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::lookup::command::Command;
use ringmain::lookup::decoder::{Decoder, Unit};
use ringmain::lookup::peer::Peer;
use ringmain::lookup::registrations::{Limits, Moment, ProducerId, Registrations};
use std::time::Duration;

const NOW: Moment = Moment { elapsed: Duration::ZERO, wall_ns: 0 };

fuzz_target!(|input: &[u8]| {
    let Some((chunk, bytes)) = input.split_first() else { return };
    let whole = units(bytes, bytes.len().max(1));
    assert_eq!(whole, units(bytes, usize::from(*chunk).max(1)));

    let limits = Limits { registrations_max: 8, placements_max: 4 };
    let mut registrations = Registrations::new(limits);
    let mut producer = None;
    for unit in &whole {
        carry_out(&mut registrations, &mut producer, unit);
    }
    if let Some(producer) = producer {
        registrations.disconnect(producer);
    }
});

/// What a connection would make of the bytes, up to the first fault.
fn units(bytes: &[u8], chunk: usize) -> Vec<Unit> {
    let mut decoder = Decoder::default();
    let mut units = Vec::new();
    for piece in bytes.chunks(chunk) {
        decoder.push(piece);
        while let Ok(next) = decoder.next_unit() {
            let Some(unit) = next else { break };
            if let Unit::Line(line) = &unit
                && Command::parse(line, false) == Ok(Command::Identify)
            {
                decoder.expect_body();
            }
            units.push(unit);
        }
    }
    units
}

fn carry_out(
    registrations: &mut Registrations,
    producer: &mut Option<ProducerId>,
    unit: &Unit,
) {
    match (unit, *producer) {
        (Unit::Body(body), None) => {
            if let Ok(peer) = Peer::parse(body, "fuzz:1") {
                *producer = Some(registrations.identify(peer, NOW));
            }
        }
        (Unit::Line(line), Some(id)) => match Command::parse(line, true) {
            // Refused for want of room is as good as done.
            Ok(Command::Register(topic, channel)) => {
                let _ = registrations.register(id, topic, channel);
            }
            Ok(Command::Unregister(topic, Some(channel))) => {
                registrations.unregister_channel(id, topic, channel);
            }
            Ok(Command::Unregister(topic, None)) => {
                registrations.unregister_topic(id, topic);
            }
            _ => {}
        },
        _ => {}
    }
}
