//! nsqlookupd's HTTP endpoints.
//!
//! `*` stands for every topic where something is looked up, as in NSQ. There it also deletes and
//! tombstones every topic; here that is refused, for it is never what was meant.

use super::metrics;
use super::registrations::{Full, Key, Moment, Registrations, TopicPattern};
use super::state::Lookup;
use crate::http::listing;
use crate::http::query::{Parameters, Query};
use crate::http::response::{CHANNEL_NOT_FOUND, Fault, Reply, TOPIC_NOT_FOUND, json};
use crate::http::routes::{self, route};
use crate::options::VERSION;
use crate::protocol::name::TopicName;
use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

type Route = routes::Route<Arc<Lookup>>;
type Shared = State<Arc<Lookup>>;

static ROUTES: [Route; 13] = [
    route(Method::GET, "/ping", || get(ping)),
    route(Method::GET, "/info", || get(describe)),
    route(Method::GET, "/debug", || get(debug)),
    route(Method::GET, "/lookup", || get(lookup)),
    route(Method::GET, "/topics", || get(topics)),
    route(Method::GET, "/channels", || get(channels)),
    route(Method::GET, "/nodes", || get(nodes)),
    route(Method::GET, "/metrics", || get(metrics::metrics)),
    route(Method::POST, "/topic/create", || post(create_topic)),
    route(Method::POST, "/topic/delete", || post(delete_topic)),
    route(Method::POST, "/channel/create", || post(create_channel)),
    route(Method::POST, "/channel/delete", || post(delete_channel)),
    route(Method::POST, "/topic/tombstone", || post(tombstone)),
];

const INVALID_ARG_TOPIC: &str = "INVALID_ARG_TOPIC";
const MISSING_ARG_NODE: Fault = Fault(StatusCode::BAD_REQUEST, "MISSING_ARG_NODE");

/// NSQ has no limit here, and so no word for it.
const TOO_MANY: Fault = Fault(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_REGISTRATIONS");

/// The whole HTTP API.
pub(super) fn router(lookup: Arc<Lookup>) -> Router {
    routes::router(&ROUTES, lookup)
}

async fn ping() -> Reply {
    Reply::Plain("OK")
}

async fn describe() -> Reply {
    #[derive(Serialize)]
    struct Description {
        version: &'static str,
    }
    Reply::json(&Description { version: VERSION })
}

async fn debug(State(lookup): Shared) -> Response {
    listing(&lookup, |registrations, _| json(&registrations.debug())).await
}

async fn topics(State(lookup): Shared) -> Response {
    listing(&lookup, |registrations, _| json(&registrations.topics())).await
}

async fn nodes(State(lookup): Shared) -> Response {
    let patience = lookup.patience;
    listing(&lookup, move |registrations, now| json(&registrations.nodes(now, &patience))).await
}

async fn channels(State(lookup): Shared, Parameters(query): Parameters) -> Result<Response, Fault> {
    match TopicPattern::parse(query.topic_bytes()?) {
        Some(topics) => {
            let question =
                move |registrations: &mut Registrations, _| json(&registrations.channels(topics));
            Ok(listing(&lookup, question).await)
        }
        None => Ok(Reply::Json(br#"{"channels":[]}"#.to_vec()).into_response()),
    }
}

async fn lookup(State(lookup): Shared, Parameters(query): Parameters) -> Result<Response, Fault> {
    let topics = TopicPattern::parse(query.topic_bytes()?).ok_or(TOPIC_NOT_FOUND)?;
    let patience = lookup.patience;
    let question = move |registrations: &mut Registrations, now| {
        registrations.lookup(topics, now, &patience).map(|found| json(&found))
    };
    // Consumers depend on look-ups of a topic, which are short: they wait for nobody's turn.
    let turn = match topics {
        TopicPattern::All => Some(listing_turn(&lookup).await),
        TopicPattern::Exactly(_) => None,
    };
    let document = lookup.desk.ask(question).await.ok_or(TOPIC_NOT_FOUND)?;
    Ok(match turn {
        Some(turn) => listing::reply(document, turn),
        None => Reply::Json(document).into_response(),
    })
}

async fn create_topic(
    State(lookup): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let topic = query.topic(INVALID_ARG_TOPIC)?;
    tracing::info!("DB: adding topic({topic})");
    create(&lookup, vec![Key::Topic(topic)]).await
}

async fn create_channel(
    State(lookup): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let (topic, channel) = query.topic_and_channel()?;
    tracing::info!("DB: adding channel({channel}) in topic({topic})");
    tracing::info!("DB: adding topic({topic})");
    create(&lookup, vec![Key::Channel(topic, channel), Key::Topic(topic)]).await
}

async fn delete_topic(
    State(lookup): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let Some(topic) = single_topic(&query)? else { return Ok(Reply::Empty) };
    let (channels, known) =
        lookup.desk.ask(move |registrations, _| registrations.delete_topic(topic)).await;
    for channel in channels {
        tracing::info!("DB: removing channel({channel}) from topic({topic})");
    }
    if known {
        tracing::info!("DB: removing topic({topic})");
    }
    Ok(Reply::Empty)
}

async fn delete_channel(
    State(lookup): Shared,
    Parameters(query): Parameters,
) -> Result<Reply, Fault> {
    let (topic, channel) = query.topic_and_channel()?;
    let question =
        move |registrations: &mut Registrations, _| registrations.delete_channel(topic, channel);
    if !lookup.desk.ask(question).await {
        return Err(CHANNEL_NOT_FOUND);
    }
    tracing::info!("DB: removing channel({channel}) from topic({topic})");
    Ok(Reply::Empty)
}

async fn tombstone(State(lookup): Shared, Parameters(query): Parameters) -> Result<Reply, Fault> {
    query.topic_bytes()?;
    let node = query.value("node").ok_or(MISSING_ARG_NODE)?.to_vec();
    let Some(topic) = single_topic(&query)? else { return Ok(Reply::Empty) };
    let shown = String::from_utf8_lossy(&node).into_owned();
    tracing::info!("DB: setting tombstone for producer@{shown} of topic({topic})");
    lookup.desk.ask(move |registrations, now| registrations.tombstone(topic, &node, now)).await;
    Ok(Reply::Empty)
}

/// The topic, whose name NSQ does not check here: `None` for an invalid one, which does not exist.
fn single_topic(query: &Query) -> Result<Option<TopicName>, Fault> {
    match TopicPattern::parse(query.topic_bytes()?) {
        Some(TopicPattern::Exactly(topic)) => Ok(Some(topic)),
        Some(TopicPattern::All) => Err(Fault(StatusCode::BAD_REQUEST, INVALID_ARG_TOPIC)),
        None => Ok(None),
    }
}

async fn create(lookup: &Lookup, keys: Vec<Key>) -> Result<Reply, Fault> {
    let created = lookup.desk.ask(move |registrations, _| registrations.create(&keys)).await;
    created.map(|()| Reply::Empty).map_err(|Full| TOO_MANY)
}

/// A question about everything, which may be answered with a large document.
async fn listing(
    lookup: &Lookup,
    question: impl FnOnce(&mut Registrations, Moment) -> Vec<u8> + Send + 'static,
) -> Response {
    let turn = listing_turn(lookup).await;
    listing::reply(lookup.desk.ask(question).await, turn)
}

async fn listing_turn(lookup: &Lookup) -> OwnedSemaphorePermit {
    let turns = Arc::clone(&lookup.listing_turns);
    turns.acquire_owned().await.expect("the semaphore is never closed")
}
