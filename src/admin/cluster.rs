//! Questions to the cluster. All daemons of a step are asked at once; what some of them do not
//! answer is a warning, and only when none does is it a failure, as NSQ has it.

use super::merge;
use super::model::{NodeStats, Producer, ProducerTopic, TopicStats};
use crate::client::http::escape;
use crate::http::requests::HttpClient;
use crate::limits::ADMIN_QUESTIONS_AT_ONCE_MAX;
use crate::options::split_host_port;
use bytes::Bytes;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Asks nsqds and nsqlookupds; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    http: HttpClient,
    /// Further questions wait.
    turns: Arc<Semaphore>,
    /// How long to wait for an answer, when that is less than a request may take.
    patience: Option<Duration>,
}

/// Whom to ask where what is: one kind, by address of its HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sources {
    Lookupds(Vec<String>),
    Nsqds(Vec<String>),
}

/// An answer, and what is missing in it.
#[derive(Debug)]
pub(super) struct Gathered<T> {
    pub(super) value: T,
    /// Why some did not answer.
    pub(super) errors: Vec<String>,
}

/// Nobody has answered; NSQ's text says whom was asked, and why not.
#[derive(Debug)]
pub(super) struct Unanswered(pub(super) String);

/// What a step of a cluster's query comes to.
pub(super) type Answer<T> = Result<Gathered<T>, Unanswered>;

/// Tells servers which form of answers is understood.
static HEADERS: [(HeaderName, HeaderValue); 1] =
    [(ACCEPT, HeaderValue::from_static("application/vnd.nsq; version=1.0"))];

#[derive(Deserialize)]
struct Topics {
    topics: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Channels {
    channels: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Producers {
    producers: Option<Vec<Producer>>,
}

impl<T> Gathered<T> {
    /// Keeps the warnings of one step beside those of others.
    pub(super) fn note(self, warnings: &mut Vec<String>) -> T {
        if !self.errors.is_empty() {
            let text = self.errors.join("\n");
            tracing::warn!("{text}");
            warnings.push(text);
        }
        self.value
    }
}

impl Cluster {
    pub(super) fn new(http: HttpClient) -> Self {
        Self { http, turns: Arc::new(Semaphore::new(ADMIN_QUESTIONS_AT_ONCE_MAX)), patience: None }
    }

    /// The same, for somebody who waits no longer than this for any one daemon.
    pub(super) fn hasty(&self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self.clone() }
    }

    /// All topics, by name.
    pub(super) async fn topics(&self, sources: &Sources) -> Answer<Vec<String>> {
        let names: Gathered<Vec<Vec<String>>> = match sources {
            Sources::Lookupds(lookupds) => {
                let topics = |answer: Topics| answer.topics.unwrap_or_default();
                let gathered = self.ask("nsqlookupd", lookupds, "/topics").await?;
                gathered.map(|answers| answers.into_iter().map(|(_, a)| topics(a)).collect())
            }
            Sources::Nsqds(nsqds) => {
                let target = "/stats?format=json&include_clients=false";
                self.ask::<NodeStats>("nsqd", nsqds, target).await?.map(|answers| {
                    answers.into_iter().map(|(_, stats)| topic_names(&stats)).collect()
                })
            }
        };
        Ok(names.map(union))
    }

    /// The channels that nsqlookupds know of a topic, by name.
    pub(super) async fn channels(&self, lookupds: &[String], topic: &str) -> Answer<Vec<String>> {
        let target = format!("/channels?topic={}", escape(topic.as_bytes(), "+"));
        let gathered = self.ask::<Channels>("nsqlookupd", lookupds, &target).await?;
        let channels = |answer: Channels| answer.channels.unwrap_or_default();
        Ok(gathered.map(|answers| union(answers.into_iter().map(|(_, a)| channels(a)).collect())))
    }

    /// All nsqds, by host name.
    pub(super) async fn producers(&self, sources: &Sources) -> Answer<Vec<Producer>> {
        match sources {
            Sources::Lookupds(lookupds) => {
                let gathered = self.ask::<Producers>("nsqlookupd", lookupds, "/nodes").await?;
                Ok(gathered.map(nodes_of_lookupds))
            }
            Sources::Nsqds(nsqds) => self.nsqds(nsqds).await,
        }
    }

    /// The nsqds that have a topic.
    pub(super) async fn producers_of(
        &self,
        sources: &Sources,
        topic: &str,
    ) -> Answer<Vec<Producer>> {
        match sources {
            Sources::Lookupds(lookupds) => {
                let target = format!("/lookup?topic={}", escape(topic.as_bytes(), "+"));
                let gathered = self.ask::<Producers>("nsqlookupd", lookupds, &target).await?;
                Ok(gathered.map(|answers| {
                    let all = answers.into_iter().flat_map(|(_, answer)| answer.producers);
                    let mut known = BTreeSet::new();
                    let mut producers: Vec<_> = all.flatten().collect();
                    producers.retain(|producer| known.insert(producer.http_address()));
                    producers
                }))
            }
            Sources::Nsqds(nsqds) => {
                let gathered = self.nsqds(nsqds).await?;
                let has = |producer: &Producer| {
                    producer.topics.iter().flatten().any(|known| known.topic == topic)
                };
                Ok(gathered.map(|all| all.into_iter().filter(has).collect()))
            }
        }
    }

    /// nsqds as they describe themselves.
    pub(super) async fn nsqds(&self, addresses: &[String]) -> Answer<Vec<Producer>> {
        let described = addresses.iter().cloned().map(|address| {
            let cluster = self.clone();
            async move { cluster.describe(&address).await }
        });
        let gathered = gather("nsqd", described.collect()).await?;
        Ok(gathered)
    }

    /// One nsqd as it describes itself, without its topics.
    pub(super) async fn nsqd(&self, address: &str) -> Answer<Producer> {
        match self.identify(address).await {
            Ok(value) => Ok(Gathered { value, errors: Vec::new() }),
            Err(error) => Err(Unanswered(format!("failed to query any nsqd: {error}"))),
        }
    }

    async fn describe(&self, address: &str) -> Result<Producer, String> {
        let mut producer = self.identify(address).await?;
        let stats: NodeStats =
            self.get(address, "/stats?format=json&include_clients=false").await?;
        let topics = topic_names(&stats).into_iter();
        let topics = topics.map(|topic| ProducerTopic { topic, tombstoned: false });
        producer.topics = Some(topics.collect()).filter(|topics: &Vec<_>| !topics.is_empty());
        Ok(producer)
    }

    async fn identify(&self, address: &str) -> Result<Producer, String> {
        let mut producer: Producer = self.get(address, "/info").await?;
        if producer.broadcast_address.is_empty() {
            let (host, port) = split_host_port(address).unwrap_or((address, ""));
            producer.broadcast_address = host.to_owned();
            producer.http_port = port.parse().unwrap_or_default();
        }
        if producer.hostname.is_empty() {
            producer.hostname = split_host_port(address).map_or(address, |(host, _)| host).into();
        }
        Ok(producer)
    }

    /// The topics of these nsqds, of each nsqd apart, by host name: all of them, one, or one
    /// channel of one.
    pub(super) async fn stats(
        &self,
        producers: &[Producer],
        topic: &str,
        channel: &str,
        include_clients: bool,
    ) -> Answer<Vec<TopicStats>> {
        let target = stats_target(topic, channel, include_clients);
        let asked = producers.iter().cloned().map(|producer| {
            let (cluster, target) = (self.clone(), target.clone());
            async move {
                let stats = cluster.stats_of(&producer, &target).await?;
                Ok((producer.hostname, stats.topics.unwrap_or_default()))
            }
        });
        let gathered = gather("nsqd", asked.collect()).await?;
        Ok(gathered.map(|mut answers| {
            answers.sort_by(|(a, _), (b, _)| a.cmp(b));
            let topics = answers.into_iter().flat_map(|(_, topics)| topics);
            topics.filter(|stats| topic.is_empty() || stats.topic_name == topic).collect()
        }))
    }

    /// What one nsqd says, completed by what is known of it.
    pub(super) async fn stats_of(
        &self,
        producer: &Producer,
        target: &str,
    ) -> Result<NodeStats, String> {
        let mut stats: NodeStats = self.get(&producer.http_address(), target).await?;
        merge::complete(&mut stats, producer, jiff::Timestamp::now().as_second());
        Ok(stats)
    }

    /// Posts to all these addresses; says which did not take it.
    pub(super) async fn post(&self, addresses: &[String], target: &str) -> Vec<String> {
        let posts = addresses.iter().cloned().map(|address| {
            let (cluster, target) = (self.clone(), target.to_owned());
            async move { cluster.exchange(Method::POST, &address, &target).await }
        });
        let answers = all(posts.collect()).await;
        answers.into_iter().filter_map(Result::err).collect()
    }

    /// Asks all these addresses the same.
    async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        kind: &str,
        addresses: &[String],
        target: &str,
    ) -> Answer<Vec<(String, T)>> {
        let questions = addresses.iter().cloned().map(|address| {
            let (cluster, target) = (self.clone(), target.to_owned());
            async move {
                let answer = cluster.get(&address, &target).await?;
                Ok((address, answer))
            }
        });
        gather(kind, questions.collect()).await
    }

    /// Asks one address.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        address: &str,
        target: &str,
    ) -> Result<T, String> {
        let body = self.exchange(Method::GET, address, target).await?;
        let wrong = |error| format!("Get \"http://{address}{target}\": {error}");
        serde_json::from_slice(&body).map_err(wrong)
    }

    async fn exchange(&self, method: Method, address: &str, target: &str) -> Result<Bytes, String> {
        let url = format!("http://{address}{target}");
        tracing::debug!("CI: querying {url}");
        let verb = if method == Method::GET { "Get" } else { "Post" };
        let uri = url.parse::<Uri>().map_err(|error| format!("{verb} {url:?}: {error}"))?;
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let answer = self.http.insist(method, &uri, &HEADERS, Bytes::new());
        let answer = match self.patience {
            None => answer.await,
            Some(patience) => match timeout(patience, answer).await {
                Ok(answer) => answer,
                Err(_) => Err("no answer in time".to_owned()),
            },
        };
        answer.map_err(|error| match error.starts_with("got response") {
            // As NSQ words it, without saying who answered.
            true => error,
            false => format!("{verb} {url:?}: {error}"),
        })
    }
}

impl<T> Gathered<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Gathered<U> {
        Gathered { value: change(self.value), errors: self.errors }
    }
}

/// The question for an nsqd's statistics.
pub(super) fn stats_target(topic: &str, channel: &str, include_clients: bool) -> String {
    let mut target = "/stats?format=json".to_owned();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            target.push_str(&format!("&{name}={}", escape(value.as_bytes(), "+")));
        }
    };
    add("topic", topic);
    add("channel", channel);
    if !include_clients {
        add("include_clients", "false");
    }
    target
}

/// Awaits all of them at once, and keeps their order.
async fn all<T: Send + 'static>(futures: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for (index, future) in futures.into_iter().enumerate() {
        tasks.spawn(async move { (index, future.await) });
    }
    // Dropped with the request that asks, the set ends its tasks.
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Asks all at once; a failure only when there is no answer at all.
async fn gather<T: Send + 'static>(
    kind: &str,
    questions: Vec<impl Future<Output = Result<T, String>> + Send + 'static>,
) -> Answer<Vec<T>> {
    let (mut value, mut errors) = (Vec::new(), Vec::new());
    for answer in all(questions).await {
        match answer {
            Ok(answer) => value.push(answer),
            Err(error) => errors.push(error),
        }
    }
    if value.is_empty() {
        return Err(Unanswered(format!("failed to query any {kind}: {}", errors.join("\n"))));
    }
    Ok(Gathered { value, errors })
}

fn union(lists: Vec<Vec<String>>) -> Vec<String> {
    let names: BTreeSet<String> = lists.into_iter().flatten().collect();
    names.into_iter().collect()
}

fn topic_names(stats: &NodeStats) -> Vec<String> {
    stats.topics.iter().flatten().map(|topic| topic.topic_name.clone()).collect()
}

/// An nsqd is the same everywhere when its address is; the first to name it describes it.
fn nodes_of_lookupds(answers: Vec<(String, Producers)>) -> Vec<Producer> {
    let mut by_address: BTreeMap<String, Producer> = BTreeMap::new();
    for (lookupd, answer) in answers {
        for producer in answer.producers.into_iter().flatten() {
            let seen = format!("{lookupd}/{}", producer.remote());
            let known = by_address.entry(producer.tcp_address());
            let known = known.or_insert_with(|| with_topics(producer));
            known.remote_addresses.get_or_insert_default().push(seen);
        }
    }
    let mut producers: Vec<_> = by_address.into_values().collect();
    let newest = producers.iter().map(Producer::version_order).max();
    for producer in &mut producers {
        producer.out_of_date = Some(producer.version_order()) < newest;
    }
    producers.sort_by(|a, b| a.hostname.cmp(&b.hostname));
    producers
}

/// Takes the parallel lists of topics and tombstones together.
fn with_topics(mut producer: Producer) -> Producer {
    let names = producer.topic_names.take().unwrap_or_default();
    let mut tombstones = producer.tombstones.take().unwrap_or_default().into_iter();
    let topic = |topic| ProducerTopic { topic, tombstoned: tombstones.next().unwrap_or_default() };
    let mut topics: Vec<_> = names.into_iter().map(topic).collect();
    topics.sort();
    producer.topics = Some(topics).filter(|topics| !topics.is_empty());
    producer
}
