//! Answers of the daemon's HTTP API to publishes on connections that are kept alive.

use anyhow::{Context, Result, bail, ensure};

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Takes the first answer off `bytes`: how many bytes it took, or `None` when more are needed. Any
/// status but 200 is an error, as is an answer longer than `answer_bytes_max`.
pub(crate) fn parse_ok(bytes: &[u8], answer_bytes_max: usize) -> Result<Option<usize>> {
    let Some(head_bytes) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(bytes.len() < HEAD_BYTES_MAX.min(answer_bytes_max), "an HTTP head without an end");
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..head_bytes]).context("an HTTP head is not text")?;
    let body_bytes = content_length(head)?;
    let end = head_bytes + 4 + body_bytes;
    ensure!(end <= answer_bytes_max, "an HTTP answer of {body_bytes} bytes");
    let Some(body) = bytes.get(head_bytes + 4..end) else { return Ok(None) };
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        let text = String::from_utf8_lossy(body);
        bail!("a publish got status {status}: {text:?}");
    }
    Ok(Some(end))
}

fn content_length(head: &str) -> Result<usize> {
    for line in head.lines().skip(1) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return value.trim().parse().context("a Content-Length that is no number");
        }
    }
    bail!("an HTTP answer without Content-Length: {head:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 2\r\n\r\nOK";

    #[test]
    fn an_answer_is_taken_when_all_of_it_is_there() {
        let two = [OK, OK].concat();
        for cut in 0..OK.len() {
            assert_eq!(parse_ok(&two[..cut], 1024).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(parse_ok(&two, 1024).unwrap(), Some(OK.len()));
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let refused = b"HTTP/1.1 413 Too\r\nContent-Length: 11\r\n\r\nMSG_TOO_BIG";
        let error = parse_ok(refused, 1024).unwrap_err().to_string();
        assert!(error.contains("413") && error.contains("MSG_TOO_BIG"), "{error}");
        assert!(parse_ok(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", 1024).is_err());
        assert!(parse_ok(OK, OK.len() - 1).is_err());
        assert!(parse_ok(&[b'x'; 9000], 16 * 1024).is_err());
    }
}
