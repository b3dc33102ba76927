//! Documents that may be large, which leave in pieces.

use super::response::Reply;
use crate::limits::HTTP_PIECE_BYTES;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// Answers a JSON document that keeps its turn until the last piece is with the connection: a
/// client that does not read holds a turn, not one more document each time it asks.
pub(crate) fn reply(document: Vec<u8>, turn: OwnedSemaphorePermit) -> Response {
    let mut response = Reply::Json(Vec::new()).into_response();
    *response.body_mut() = Body::new(Listing { rest: document.into(), turn: Some(turn) });
    response
}

/// A body that leaves in pieces if it is large: the kernel copies what it is given in one go, and
/// a shard that shares the CPU would wait for megabytes.
pub(crate) fn body(document: impl Into<Bytes>) -> Body {
    let rest = document.into();
    if rest.len() <= HTTP_PIECE_BYTES {
        return rest.into();
    }
    Body::new(Listing { rest, turn: None })
}

struct Listing {
    rest: Bytes,
    turn: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Listing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = self.rest.len().min(HTTP_PIECE_BYTES);
        let mut piece = self.rest.split_to(bytes);
        if self.turn.is_some() {
            // A slice would keep all of the document alive in the connection's buffer, when
            // another one has this one's turn.
            piece = Bytes::copy_from_slice(&piece);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn a_turn_is_kept_until_the_last_piece() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = Arc::clone(&turns).try_acquire_owned().unwrap();
        let document: Vec<u8> = (0..=255).cycle().take(2 * HTTP_PIECE_BYTES + 1).collect();
        let mut body = reply(document.clone(), turn).into_body();
        assert_eq!(body.size_hint().exact(), Some(document.len() as u64));
        let mut seen = Vec::new();
        for piece in [HTTP_PIECE_BYTES, HTTP_PIECE_BYTES, 1] {
            assert_eq!(turns.available_permits(), 0);
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame.len(), piece);
            seen.extend_from_slice(&frame);
        }
        assert!(body.is_end_stream());
        drop(body);
        assert_eq!(turns.available_permits(), 1);
        assert_eq!(seen, document);
    }
    #[tokio::test]
    async fn a_large_document_leaves_in_pieces_and_a_small_one_whole() {
        for (bytes, pieces) in [(HTTP_PIECE_BYTES, 1), (2 * HTTP_PIECE_BYTES + 1, 3)] {
            let mut body = body(vec![b'x'; bytes]);
            assert_eq!(body.size_hint().exact(), Some(bytes as u64));
            let mut seen = Vec::new();
            while let Some(frame) = body.frame().await {
                seen.push(frame.unwrap().into_data().unwrap().len());
            }
            assert_eq!((seen.len(), seen.iter().sum()), (pieces, bytes));
        }
    }
}
