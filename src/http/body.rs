//! Request bodies, read piece by piece under a limit of bytes and of time.

use crate::limits::{HTTP_BODY_TIME_MAX, HTTP_DISCARD_BYTES_MAX, HTTP_DISCARD_TIME_MAX};
use axum::body::{Body, HttpBody};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It is longer than the limit; at most the limit has been held.
    TooBig,
    /// The client stopped sending, was too slow, or sent nonsense.
    Broken,
}

/// The length the client has announced, if it has.
pub(crate) fn announced_bytes(body: &Body) -> Option<u64> {
    body.size_hint().exact()
}

/// Reads a whole body.
pub(crate) async fn read(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, BodyFault> {
    let deadline = Instant::now() + HTTP_BODY_TIME_MAX;
    let announced = announced_bytes(&body).and_then(|bytes| usize::try_from(bytes).ok());
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(bytes_max));
    loop {
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| BodyFault::Broken)?;
        let Some(frame) = frame else { return Ok(bytes) };
        let frame = frame.map_err(|_| BodyFault::Broken)?;
        let Ok(piece) = frame.into_data() else { continue };
        if bytes.len() + piece.len() > bytes_max {
            drop(bytes);
            discard(body).await;
            return Err(BodyFault::TooBig);
        }
        bytes.extend_from_slice(&piece);
    }
}

/// Reads on and forgets, within limits, so that a client which is still sending gets to see the
/// answer, and its connection can be used again.
pub(crate) async fn discard(mut body: Body) {
    let mut left = HTTP_DISCARD_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let piece = frame.data_ref().map_or(0, |piece| piece.len());
            let Some(remaining) = left.checked_sub(piece) else { return };
            left = remaining;
        }
    };
    let _ = timeout(HTTP_DISCARD_TIME_MAX, reading).await;
}
