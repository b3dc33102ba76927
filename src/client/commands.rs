//! Commands as bytes, appended to a connection's output.

use crate::protocol::name::{ChannelName, TopicName};
use bytes::Bytes;
use std::io::Write as _;

/// What every connection begins with.
pub(super) const MAGIC: &[u8; 4] = b"  V2";

/// The answer to a heartbeat.
pub(super) const NOP: &[u8] = b"NOP\n";

/// The beginning of a graceful end.
pub(super) const CLOSE: &[u8] = b"CLS\n";

pub(super) fn push_identify(out: &mut Vec<u8>, document: &[u8]) {
    out.extend_from_slice(b"IDENTIFY\n");
    push_sized(out, document);
}

pub(super) fn push_auth(out: &mut Vec<u8>, secret: &[u8]) {
    out.extend_from_slice(b"AUTH\n");
    push_sized(out, secret);
}

pub(super) fn push_subscribe(out: &mut Vec<u8>, topic: &TopicName, channel: &ChannelName) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(topic.as_bytes());
    out.push(b' ');
    out.extend_from_slice(channel.as_bytes());
    out.push(b'\n');
}

pub(super) fn push_ready(out: &mut Vec<u8>, count: u32) {
    writeln!(out, "RDY {count}").expect("a vector takes all bytes");
}

/// FIN, once per message: one copy of known length.
#[inline]
pub(super) fn push_finish(out: &mut Vec<u8>, id: &[u8; 16]) {
    let mut command = *b"FIN 0123456789abcdef\n";
    command[4..20].copy_from_slice(id);
    out.extend_from_slice(&command);
}

pub(super) fn push_touch(out: &mut Vec<u8>, id: &[u8; 16]) {
    out.extend_from_slice(b"TOUCH ");
    out.extend_from_slice(id);
    out.push(b'\n');
}

pub(super) fn push_requeue(out: &mut Vec<u8>, id: &[u8; 16], delay_ms: u128) {
    out.extend_from_slice(b"REQ ");
    out.extend_from_slice(id);
    writeln!(out, " {delay_ms}").expect("a vector takes all bytes");
}

/// PUB, or DPUB with a delay, in whole milliseconds.
#[inline]
pub(super) fn push_publish(
    out: &mut Vec<u8>,
    topic: &TopicName,
    delay_ms: Option<u128>,
    body: &[u8],
) {
    out.extend_from_slice(if delay_ms.is_some() { b"DPUB " } else { b"PUB " });
    out.extend_from_slice(topic.as_bytes());
    match delay_ms {
        Some(delay_ms) => writeln!(out, " {delay_ms}").expect("a vector takes all bytes"),
        None => out.push(b'\n'),
    }
    push_sized(out, body);
}

/// MPUB: the size of what follows, the count, then every message with its size.
pub(super) fn push_batch(out: &mut Vec<u8>, topic: &TopicName, bodies: &[Bytes]) {
    out.extend_from_slice(b"MPUB ");
    out.extend_from_slice(topic.as_bytes());
    out.push(b'\n');
    let total: usize = bodies.iter().map(|body| 4 + body.len()).sum();
    push_length(out, 4 + total);
    push_length(out, bodies.len());
    for body in bodies {
        push_sized(out, body);
    }
}

#[inline]
fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    push_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[inline]
fn push_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("bodies are limited before they come here");
    out.extend_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_commands() {
        let topic = TopicName::parse(b"t").unwrap();
        let channel = ChannelName::parse(b"c#ephemeral").unwrap();
        let id = b"0123456789abcdef";
        let check = |push: &dyn Fn(&mut Vec<u8>), expected: &[u8]| {
            let mut out = b"x".to_vec();
            push(&mut out);
            assert_eq!(String::from_utf8_lossy(&out[1..]), String::from_utf8_lossy(expected));
        };
        check(&|out| push_identify(out, b"{}"), b"IDENTIFY\n\0\0\0\x02{}");
        check(&|out| push_auth(out, b"abc"), b"AUTH\n\0\0\0\x03abc");
        check(&|out| push_subscribe(out, &topic, &channel), b"SUB t c#ephemeral\n");
        check(&|out| push_ready(out, 2500), b"RDY 2500\n");
        check(&|out| push_finish(out, id), b"FIN 0123456789abcdef\n");
        check(&|out| push_touch(out, id), b"TOUCH 0123456789abcdef\n");
        check(&|out| push_requeue(out, id, 90_000), b"REQ 0123456789abcdef 90000\n");
        check(&|out| push_publish(out, &topic, None, b"ab"), b"PUB t\n\0\0\0\x02ab");
        check(&|out| push_publish(out, &topic, Some(5), b"ab"), b"DPUB t 5\n\0\0\0\x02ab");
        let bodies = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        check(
            &|out| push_batch(out, &topic, &bodies),
            b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x02ab\0\0\0\x01c",
        );
    }
}
