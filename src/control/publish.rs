//! `/pub` and `/mpub`.

use super::body::{self, BodyFault};
use super::query::Query;
use super::response::{Fault, INTERNAL_ERROR, Reply};
use super::shards::{Attempt, Unavailable};
use super::state::Control;
use crate::broker::admin::{AdminReply, AdminRequest, PublishBody};
use crate::protocol::command::{BatchError, CommandLimits, split_batch};
use crate::protocol::name::TopicName;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::EXPECT;
use std::sync::Arc;
use std::time::Duration;

const MSG_TOO_BIG: Fault = Fault(StatusCode::PAYLOAD_TOO_LARGE, "MSG_TOO_BIG");
const BODY_TOO_BIG: Fault = Fault(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_BIG");
const BAD_BODY: Fault = Fault(StatusCode::PAYLOAD_TOO_LARGE, "BAD_BODY");
const BAD_MESSAGE: Fault = Fault(StatusCode::PAYLOAD_TOO_LARGE, "BAD_MESSAGE");
const MSG_EMPTY: Fault = Fault(StatusCode::BAD_REQUEST, "MSG_EMPTY");
const INVALID_DEFER: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_DEFER");
const EXITING: Fault = Fault(StatusCode::SERVICE_UNAVAILABLE, "EXITING");

/// `/pub`: the body is one message. The size is checked before all else, `defer` only after the
/// topic has been created.
pub(super) async fn one(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<Reply, Fault> {
    let (message_bytes_max, defer_max) = {
        let options = control.options.borrow();
        (options.max_msg_size, options.max_req_timeout)
    };
    let query = Query::of(request.uri());
    let body = accept_announced(request, message_bytes_max, MSG_TOO_BIG).await?;
    let _memory = control.body_memory(bytes_to_hold(&body, message_bytes_max)).await;
    let message = body::read(body, message_bytes_max).await.map_err(|fault| match fault {
        BodyFault::TooBig => MSG_TOO_BIG,
        BodyFault::Broken => INTERNAL_ERROR,
    })?;
    if message.is_empty() {
        return Err(MSG_EMPTY);
    }
    let query = query?;
    let topic = query.topic("INVALID_TOPIC")?;
    let defer_ms = match query.value("defer").map(|text| defer_ms(text, defer_max)) {
        None => 0,
        Some(Some(defer_ms)) => defer_ms,
        Some(None) => {
            control.shards.create(topic).await.map_err(|Unavailable| EXITING)?;
            return Err(INVALID_DEFER);
        }
    };
    publish(&control, topic, PublishBody::One(message), defer_ms).await
}

/// `/mpub`: the body is lines, or a counted batch. The topic is created before it is read.
pub(super) async fn many(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<Reply, Fault> {
    let limits = control.options.borrow().command_limits();
    let body_bytes_max = limits.max_body_size;
    let query = Query::of(request.uri());
    let body = accept_announced(request, body_bytes_max, BODY_TOO_BIG).await?;
    let (topic, binary) = match checked(query) {
        Ok(checked) => checked,
        Err(fault) => {
            body::discard(body).await;
            return Err(fault);
        }
    };
    control.shards.create(topic).await.map_err(|Unavailable| EXITING)?;
    let _memory = control.body_memory(bytes_to_hold(&body, body_bytes_max)).await;
    let bytes = body::read(body, body_bytes_max).await.map_err(|fault| match (fault, binary) {
        (BodyFault::TooBig, _) => BODY_TOO_BIG,
        (BodyFault::Broken, true) => BAD_BODY,
        (BodyFault::Broken, false) => INTERNAL_ERROR,
    })?;
    let batch = match binary {
        true => counted_batch(bytes, &limits)?,
        false => lines_batch(&bytes, limits.max_msg_size)?,
    };
    if matches!(batch, PublishBody::Batch { count: 0, .. }) {
        return Ok(Reply::Text("OK".to_owned()));
    }
    publish(&control, topic, batch, 0).await
}

async fn publish(
    control: &Control,
    topic: TopicName,
    messages: PublishBody,
    defer_ms: u64,
) -> Result<Reply, Fault> {
    let mut messages = Some(messages);
    let request = |topic, attempt| {
        let messages = match attempt {
            Attempt::MayRepeat => messages.as_ref().map(copy),
            Attempt::Last => messages.take(),
        };
        let messages = messages.expect("the last attempt comes once, and after the others");
        AdminRequest::Publish { topic, messages, defer_ms }
    };
    match control.shards.ask_home(topic, true, request).await {
        Ok(AdminReply::Done) => Ok(Reply::Text("OK".to_owned())),
        // No line in the log: it may be one for each message.
        Ok(AdminReply::Full(cap)) => Err(Fault(StatusCode::SERVICE_UNAVAILABLE, cap)),
        Ok(AdminReply::Refused(reason)) => {
            tracing::error!("TOPIC({topic}): failed to publish over HTTP - {reason}");
            Err(EXITING)
        }
        _ => Err(EXITING),
    }
}

/// What a first attempt is sent, so that a second can follow.
fn copy(messages: &PublishBody) -> PublishBody {
    match messages {
        PublishBody::One(bytes) => PublishBody::One(bytes.clone()),
        PublishBody::Batch { bytes, count } => {
            PublishBody::Batch { bytes: bytes.clone(), count: *count }
        }
    }
}

/// Refuses a body that says it is too long before it is read. A client that waits to be told to
/// send it is never told.
async fn accept_announced(request: Request, bytes_max: usize, fault: Fault) -> Result<Body, Fault> {
    let waits = request.headers().contains_key(EXPECT);
    let body = request.into_body();
    if body::announced_bytes(&body).is_none_or(|bytes| bytes <= bytes_max as u64) {
        return Ok(body);
    }
    if !waits {
        body::discard(body).await;
    }
    Err(fault)
}

fn bytes_to_hold(body: &Body, bytes_max: usize) -> usize {
    let announced = body::announced_bytes(body).and_then(|bytes| usize::try_from(bytes).ok());
    announced.unwrap_or(bytes_max)
}

/// Milliseconds of deferral; `None` when the text is no integer or it is out of range.
fn defer_ms(text: &[u8], max: Duration) -> Option<u64> {
    let defer_ms: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let defer_ms = u64::try_from(defer_ms).ok()?;
    (Duration::from_millis(defer_ms) <= max).then_some(defer_ms)
}

/// The topic and the mode of an `/mpub`. A word that is no switch means binary, as it always has.
fn checked(query: Result<Query, Fault>) -> Result<(TopicName, bool), Fault> {
    let query = query?;
    let topic = query.topic("INVALID_TOPIC")?;
    let Some(word) = query.value("binary") else { return Ok((topic, false)) };
    let binary = Query::switch(word).unwrap_or_else(|| {
        let word = String::from_utf8_lossy(word);
        tracing::warn!("deprecated value '{word}' used for /mpub binary param");
        true
    });
    Ok((topic, binary))
}

/// Frames the lines of a body. Empty lines are skipped; a carriage return belongs to its line.
fn lines_batch(body: &[u8], message_bytes_max: usize) -> Result<PublishBody, Fault> {
    let lines = || body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    if lines().any(|line| line.len() > message_bytes_max) {
        return Err(MSG_TOO_BIG);
    }
    let count = lines().count();
    let mut bytes = Vec::with_capacity(body.len() + count * SIZE_BYTES);
    for line in lines() {
        let size = i32::try_from(line.len()).map_err(|_| MSG_TOO_BIG)?;
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(line);
    }
    let count = u32::try_from(count).map_err(|_| BODY_TOO_BIG)?;
    Ok(PublishBody::Batch { bytes, count })
}

/// Bytes of the size before each message, and of the count before all.
const SIZE_BYTES: usize = 4;

/// Checks a counted batch and takes the count off. What follows the last message is ignored.
fn counted_batch(mut body: Vec<u8>, limits: &CommandLimits) -> Result<PublishBody, Fault> {
    let (count, messages) = split_batch(&body, limits).map_err(|error| match error {
        BatchError::CountUnread | BatchError::CountInvalid { .. } => BAD_BODY,
        _ => BAD_MESSAGE,
    })?;
    let end = SIZE_BYTES + messages.len();
    body.truncate(end);
    body.drain(..SIZE_BYTES);
    Ok(PublishBody::Batch { bytes: body, count })
}
