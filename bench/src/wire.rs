//! NSQ's wire as a client needs it: commands out, frames in. It knows nothing of sockets.

use std::fmt::Write as _;

use anyhow::{Result, bail};

/// What every connection sends first.
pub(crate) const MAGIC: &[u8] = b"  V2";
/// The response frame that asks a client to show life.
pub(crate) const HEARTBEAT: &[u8] = b"_heartbeat_";
/// The answer to a heartbeat.
pub(crate) const NOP: &[u8] = b"NOP\n";
/// Bytes of a message id.
pub(crate) const ID_BYTES: usize = 16;
/// Size and frame type.
const FRAME_HEADER_BYTES: usize = 8;
/// Timestamp, attempts, id.
const MESSAGE_HEADER_BYTES: usize = 8 + 2 + ID_BYTES;

/// One frame from the daemon, borrowed from the bytes it came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// An answer or a heartbeat.
    Response(&'a [u8]),
    /// An error's text.
    Error(&'a [u8]),
    /// A delivery.
    Message(Message<'a>),
}

/// A delivered message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// Counts deliveries, this one included.
    pub(crate) attempts: u16,
    /// Names the message in FIN.
    pub(crate) id: &'a [u8],
    /// What was published.
    pub(crate) body: &'a [u8],
}

/// Takes the first frame off `bytes`: the frame and how many bytes it took, or `None` when more
/// bytes are needed. A frame longer than `frame_bytes_max` is an error, as it could never arrive.
pub(crate) fn parse_frame(
    bytes: &[u8],
    frame_bytes_max: usize,
) -> Result<Option<(Frame<'_>, usize)>> {
    let Some((header, rest)) = bytes.split_at_checked(FRAME_HEADER_BYTES) else {
        return Ok(None);
    };
    let size = read_u32(&header[..4]) as usize;
    let kind = read_u32(&header[4..]);
    if size < 4 || size + 4 > frame_bytes_max {
        bail!("the daemon sent a frame of {size} bytes; this client takes 4 to {frame_bytes_max}");
    }
    let Some(content) = rest.get(..size - 4) else { return Ok(None) };
    let frame = match kind {
        0 => Frame::Response(content),
        1 => Frame::Error(content),
        2 => Frame::Message(parse_message(content)?),
        _ => bail!("the daemon sent a frame of unknown type {kind}"),
    };
    Ok(Some((frame, size + 4)))
}

fn parse_message(content: &[u8]) -> Result<Message<'_>> {
    let Some((header, body)) = content.split_at_checked(MESSAGE_HEADER_BYTES) else {
        bail!("the daemon sent a message frame of only {} bytes", content.len());
    };
    let attempts = u16::from_be_bytes([header[8], header[9]]);
    Ok(Message { attempts, id: &header[10..], body })
}

fn read_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

/// Bytes of a message frame with a body of `body_bytes`.
pub(crate) fn message_frame_bytes(body_bytes: usize) -> usize {
    FRAME_HEADER_BYTES + MESSAGE_HEADER_BYTES + body_bytes
}

/// Appends `FIN <id>\n`.
pub(crate) fn push_finish(out: &mut Vec<u8>, id: &[u8]) {
    out.extend_from_slice(b"FIN ");
    out.extend_from_slice(id);
    out.push(b'\n');
}

/// `RDY <count>\n`.
pub(crate) fn ready(count: u32) -> Vec<u8> {
    format!("RDY {count}\n").into_bytes()
}

/// `SUB <topic> <channel>\n`.
pub(crate) fn subscribe(topic: &str, channel: &str) -> Vec<u8> {
    format!("SUB {topic} {channel}\n").into_bytes()
}

/// Appends `REQ <id> <delay>\n`.
pub(crate) fn push_requeue(out: &mut Vec<u8>, id: &[u8], delay_ms: u128) {
    out.extend_from_slice(b"REQ ");
    out.extend_from_slice(id);
    out.extend_from_slice(format!(" {delay_ms}\n").as_bytes());
}

/// What a client tells and asks in IDENTIFY. `None` leaves the daemon's default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) heartbeat_ms: Option<i64>,
    pub(crate) output_buffer_ms: Option<i64>,
    /// Features to negotiate, by their keys. With none the answer is a plain OK.
    pub(crate) features: Vec<&'static str>,
}

/// `IDENTIFY`.
pub(crate) fn identify(identity: &Identity) -> Vec<u8> {
    let mut json = String::from(r#"{"client_id":"nsq_bench","user_agent":"nsq_bench""#);
    if let Some(interval) = identity.heartbeat_ms {
        let _ = write!(json, r#","heartbeat_interval":{interval}"#);
    }
    if let Some(timeout) = identity.output_buffer_ms {
        let _ = write!(json, r#","output_buffer_timeout":{timeout}"#);
    }
    if !identity.features.is_empty() {
        json.push_str(r#","feature_negotiation":true"#);
    }
    for feature in &identity.features {
        let _ = write!(json, r#","{feature}":true"#);
    }
    json.push('}');
    let mut out = b"IDENTIFY\n".to_vec();
    push_sized(&mut out, json.as_bytes());
    out
}

fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let size = u32::try_from(bytes.len()).expect("flags bound bodies and batches far below 4 GiB");
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(content.len() + 4).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    fn message(attempts: u16, id: &[u8; 16], body: &[u8]) -> Vec<u8> {
        let mut content = 77u64.to_be_bytes().to_vec();
        content.extend_from_slice(&attempts.to_be_bytes());
        content.extend_from_slice(id);
        content.extend_from_slice(body);
        frame(2, &content)
    }

    #[test]
    fn a_frame_is_found_only_when_all_of_it_is_there() {
        let mut stream = frame(0, b"OK");
        stream.extend(message(3, b"0123456789abcdef", b"body"));
        stream.extend(frame(1, b"E_INVALID no"));
        for cut in 0..=stream.len() {
            let mut seen = Vec::new();
            let mut from = 0;
            for to in [cut, stream.len()] {
                while let Some((frame, used)) = parse_frame(&stream[from..to], 1024).unwrap() {
                    seen.push(format!("{frame:?}"));
                    from += used;
                }
            }
            let expected = [
                format!("{:?}", Frame::Response(b"OK")),
                format!(
                    "{:?}",
                    Frame::Message(Message { attempts: 3, id: b"0123456789abcdef", body: b"body" })
                ),
                format!("{:?}", Frame::Error(b"E_INVALID no")),
            ];
            assert_eq!(seen, expected, "cut at {cut}");
            assert_eq!(from, stream.len());
        }
    }

    #[test]
    fn frames_that_cannot_be_right_are_refused() {
        assert!(parse_frame(&frame(9, b"x"), 1024).is_err());
        assert!(parse_frame(&frame(2, b"too short"), 1024).is_err());
        assert!(parse_frame(&[0, 0, 0, 3, 0, 0, 0, 0], 1024).is_err());
        assert!(parse_frame(&frame(0, &[0; 100]), 64).is_err());
    }

    #[test]
    fn commands_have_their_golden_bytes() {
        let mut out = Vec::new();
        push_finish(&mut out, b"0123456789abcdef");
        assert_eq!(out, b"FIN 0123456789abcdef\n");
        out.clear();
        push_requeue(&mut out, b"0123456789abcdef", 1500);
        assert_eq!(out, b"REQ 0123456789abcdef 1500\n");
        let mut identity = Identity { heartbeat_ms: Some(-1), ..Identity::default() };
        assert_eq!(identify(&identity)[..9], *b"IDENTIFY\n");
        assert!(identify(&identity).ends_with(br#""heartbeat_interval":-1}"#));
        identity.features = vec!["snappy"];
        assert!(identify(&identity).ends_with(br#","feature_negotiation":true,"snappy":true}"#));
        assert_eq!(message_frame_bytes(4), message(1, b"0123456789abcdef", b"body").len());
    }
}
