//! What a client's input means: commands carried out, answers worded, all of it logged.

use super::command::{Command, Refusal};
use super::peer::Peer;
use super::registrations::{Key, ProducerId, Registered};
use super::state::{Lookup, count};
use crate::http::response::json;
use crate::options::{VERSION, duration, hostname};
use crate::protocol::name::{ChannelName, TopicName};
use serde::Serialize;
use std::sync::Arc;

/// One client of the lookup protocol.
pub(super) struct Client {
    lookup: Arc<Lookup>,
    /// The other end, as log lines and `/nodes` name it.
    name: String,
    /// Once it has identified itself.
    producer: Option<ProducerId>,
}

/// What follows a line that is in order.
pub(super) enum Reaction {
    /// This is said.
    Answer(Vec<u8>),
    /// A body is to come.
    ExpectBody,
}

/// What nsqlookupd says of itself; keys in Go's order.
#[derive(Serialize)]
struct Introduction<'l> {
    broadcast_address: &'l str,
    hostname: &'l str,
    http_port: u16,
    tcp_port: u16,
    version: &'static str,
}

const OK: &[u8] = b"OK";

impl Client {
    pub(super) fn new(lookup: Arc<Lookup>, name: String) -> Self {
        Self { lookup, name, producer: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_identified(&self) -> bool {
        self.producer.is_some()
    }

    /// Carries out a line.
    pub(super) async fn line(&self, line: &[u8]) -> Result<Reaction, Refusal> {
        let command = Command::parse(line, self.is_identified())?;
        match (command, self.producer) {
            (Command::Identify, _) => return Ok(Reaction::ExpectBody),
            (Command::Ping, producer) => self.ping(producer).await,
            (Command::Register(topic, channel), Some(producer)) => {
                self.register(producer, topic, channel).await?;
            }
            (Command::Unregister(topic, Some(channel)), Some(producer)) => {
                self.unregister_channel(producer, topic, channel).await;
            }
            (Command::Unregister(topic, None), Some(producer)) => {
                self.unregister_topic(producer, topic).await;
            }
            (Command::Register(..) | Command::Unregister(..), None) => {
                unreachable!("these are refused before IDENTIFY")
            }
        }
        Ok(Reaction::Answer(OK.to_vec()))
    }

    /// Carries out IDENTIFY.
    pub(super) async fn identify(&mut self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let peer = Peer::parse(body, &self.name)?;
        tracing::info!(
            "CLIENT({}): IDENTIFY Address:{} TCP:{} HTTP:{} Version:{}",
            self.name,
            peer.broadcast_address,
            peer.tcp_port,
            peer.http_port,
            peer.version
        );
        let desk = &self.lookup.desk;
        self.producer =
            Some(desk.ask(|registrations, now| registrations.identify(peer, now)).await);
        count(&self.lookup.counters.identify);
        self.log_change("REGISTER", "client", "", "");
        Ok(json(&Introduction {
            broadcast_address: &self.lookup.broadcast_address,
            hostname: &hostname(),
            http_port: self.lookup.http_port,
            tcp_port: self.lookup.tcp_port,
            version: VERSION,
        }))
    }

    /// Forgets the client, whose connection has ended.
    pub(super) async fn disconnect(&mut self) {
        let Some(producer) = self.producer.take() else { return };
        let ask = self.lookup.desk.ask(move |registrations, _| registrations.disconnect(producer));
        for key in ask.await {
            self.log_key("UNREGISTER", &key);
        }
        self.log_change("UNREGISTER", "client", "", "");
    }

    async fn ping(&self, producer: Option<ProducerId>) {
        count(&self.lookup.counters.ping);
        let Some(producer) = producer else { return };
        let ask = self.lookup.desk.ask(move |registrations, now| registrations.ping(producer, now));
        let silence = duration::format(ask.await);
        tracing::info!("CLIENT({}): pinged (last ping {silence})", self.name);
    }

    async fn register(
        &self,
        producer: ProducerId,
        topic: TopicName,
        channel: Option<ChannelName>,
    ) -> Result<(), Refusal> {
        let desk = &self.lookup.desk;
        let ask =
            desk.ask(move |registrations, _| registrations.register(producer, topic, channel));
        let Registered { channel: new_channel, topic: new_topic } =
            ask.await.map_err(|_| Refusal::full("REGISTER"))?;
        count(&self.lookup.counters.register);
        if let Some(channel) = channel.filter(|_| new_channel) {
            self.log_key("REGISTER", &Key::Channel(topic, channel));
        }
        if new_topic {
            self.log_key("REGISTER", &Key::Topic(topic));
        }
        Ok(())
    }

    async fn unregister_channel(
        &self,
        producer: ProducerId,
        topic: TopicName,
        channel: ChannelName,
    ) {
        count(&self.lookup.counters.unregister);
        let ask = self.lookup.desk.ask(move |registrations, _| {
            registrations.unregister_channel(producer, topic, channel)
        });
        if ask.await {
            self.log_key("UNREGISTER", &Key::Channel(topic, channel));
        }
    }

    async fn unregister_topic(&self, producer: ProducerId, topic: TopicName) {
        count(&self.lookup.counters.unregister);
        let desk = &self.lookup.desk;
        let ask = desk.ask(move |registrations, _| registrations.unregister_topic(producer, topic));
        let unregistered = ask.await;
        for channel in unregistered.channels {
            tracing::warn!(
                "client({}) unexpected UNREGISTER category:channel key:{topic} subkey:{channel}",
                self.name
            );
        }
        if unregistered.topic {
            self.log_key("UNREGISTER", &Key::Topic(topic));
        }
    }

    fn log_key(&self, command: &str, key: &Key) {
        match key {
            Key::Topic(topic) => self.log_change(command, "topic", topic.as_str(), ""),
            Key::Channel(topic, channel) => {
                self.log_change(command, "channel", topic.as_str(), channel.as_str());
            }
        }
    }

    fn log_change(&self, command: &str, category: &str, key: &str, subkey: &str) {
        let name = &self.name;
        tracing::info!(
            "DB: client({name}) {command} category:{category} key:{key} subkey:{subkey}"
        );
    }
}
