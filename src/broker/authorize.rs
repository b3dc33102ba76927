//! AUTH, and what a client may do by it: where there are auth servers, publishing and subscribing
//! need their permission.
//!
//! A shard cannot wait: the question leaves as [`Action::Authorize`], the command is parked, and
//! goes on when the answer comes to [`Shard::authorize`]. What a server grants holds for as long as
//! it said; the first command after that asks again, with the same secret.

use super::action::Action;
use super::grant::{AuthQuestion, Grant};
use super::session::{Input, Parked, Session, SessionKey};
use super::shard::Shard;
use super::time::{Now, Span, Time};
use crate::protocol::command::{Command, CommandName, PublishKind};
use crate::protocol::error::ProtocolError;
use crate::protocol::frame;
use crate::protocol::go_json::json;
use crate::protocol::name::{ChannelName, TopicName};
use serde::Serialize;

/// What a client has shown with AUTH, and what it may do by it.
#[derive(Debug)]
pub struct Credentials {
    secret: Box<[u8]>,
    /// `None` before the first answer.
    grant: Option<Box<Grant>>,
    /// When the auth server must be asked again.
    expires: Time,
    /// The topic of the last publish that was allowed: most clients have one, whose name is then
    /// not matched again.
    publishes: Option<TopicName>,
    /// Whether an auth server is being asked; the session takes no commands meanwhile.
    pub is_asking: bool,
}

/// Whether a command may be carried out.
pub(super) enum Permission {
    Given,
    Refused(Box<ProtocolError>),
    /// The auth server has to say it again.
    Unknown,
}

/// What a command wants to do. Publishing has no channel.
struct Wanted<'c> {
    command: CommandName,
    topic: &'c TopicName,
    channel: Option<&'c ChannelName>,
}

/// The answer to AUTH.
#[derive(Serialize)]
struct Answer<'g> {
    identity: &'g str,
    identity_url: &'g str,
    permission_count: usize,
}

impl Credentials {
    /// What an auth server has said, though its time may be over.
    pub fn grant(&self) -> Option<&Grant> {
        self.grant.as_deref()
    }

    /// Whether the grant, which must be in force, has what is wanted.
    fn allows(&mut self, wanted: &Wanted<'_>) -> bool {
        let Some(grant) = &self.grant else { return false };
        if let Some(channel) = wanted.channel {
            return grant.may_subscribe(wanted.topic, channel);
        }
        if self.publishes.as_ref() == Some(wanted.topic) {
            return true;
        }
        let may = grant.may_publish(wanted.topic);
        if may {
            self.publishes = Some(*wanted.topic);
        }
        may
    }
}

impl Shard {
    /// AUTH.
    pub(super) fn authenticate(&mut self, index: u32, secret: &[u8]) {
        let session = &mut self.sessions[index as usize];
        if session.has_authorizations() {
            return self.fail(index, ProtocolError::AuthAlreadySet);
        }
        if !self.config.features.auth_required {
            return self.fail(index, ProtocolError::AuthDisabled);
        }
        session.credentials = Some(Box::new(Credentials {
            secret: secret.into(),
            grant: None,
            expires: Time::NEVER,
            publishes: None,
            is_asking: false,
        }));
        self.ask(index, Parked::Auth);
    }

    /// Whether a command of a client may be carried out, where there are auth servers.
    pub(super) fn permission(&mut self, now: Now, index: u32, command: &Command<'_>) -> Permission {
        let Some(wanted) = Wanted::of(command) else { return Permission::Given };
        let session = &mut self.sessions[index as usize];
        if !session.has_authorizations() {
            return wanted.refused(ProtocolError::AuthFirst(wanted.command));
        }
        let Some(shown) = &mut session.credentials else { return wanted.denied() };
        if shown.expires <= now.time {
            Permission::Unknown
        } else if shown.allows(&wanted) {
            Permission::Given
        } else {
            wanted.denied()
        }
    }

    /// The auth server is asked again before a command is carried out.
    pub(super) fn ask_again(&mut self, index: u32, command: Command<'_>) {
        let parked = match command {
            Command::Sub(names) => Parked::Subscribe(names.0, names.1),
            Command::PublishStart { topic } => Parked::PublishStart(*topic),
            Command::Publish(publish) => Parked::Publish(self.own(publish)),
            _ => return,
        };
        self.ask(index, parked);
    }

    /// What an auth server said of a session, which may be gone; `None` when none has answered.
    pub fn authorize(&mut self, now: Now, key: SessionKey, grant: Option<Box<Grant>>) {
        let Some(session) = self.session_mut(key) else { return };
        let Some(shown) = session.credentials.as_mut().filter(|shown| shown.is_asking) else {
            return;
        };
        shown.is_asking = false;
        shown.publishes = None;
        // Nothing of it was read meanwhile.
        session.last_heard = now.time;
        if session.input == Input::Closed {
            return;
        }
        let Some(grant) = grant else { return self.fail(key.index, ProtocolError::AuthFailed) };
        shown.expires = now.time + Span(grant.ttl_s.saturating_mul(1_000_000_000));
        shown.grant = Some(grant);
        let wanted = session.parked.as_deref().and_then(Wanted::of_parked);
        if let Some(wanted) = wanted
            && !shown.allows(&wanted)
            && let Permission::Refused(error) = wanted.denied()
        {
            return self.fail(key.index, *error);
        }
        self.retry(now, key);
        self.arm_session(key.index);
    }

    /// Answers AUTH by what the auth server has just said.
    pub(super) fn answer_auth(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        let grant = session.credentials.as_ref().and_then(|shown| shown.grant());
        let Some(grant) = grant.filter(|grant| grant.permission_count() > 0) else {
            return self.fail(index, ProtocolError::AuthEmpty);
        };
        let answer = json(&Answer {
            identity: &grant.identity,
            identity_url: &grant.identity_url,
            permission_count: grant.permission_count(),
        });
        session.answer(|out| frame::push_response(out, &answer));
        self.mark_dirty(index);
    }

    /// Parks a command and asks what the client may do.
    fn ask(&mut self, index: u32, parked: Parked) {
        let key = self.park(index, parked, Input::Waiting);
        let session = &mut self.sessions[index as usize];
        let Some(shown) = &mut session.credentials else { return };
        shown.is_asking = true;
        let secret = shown.secret.to_vec();
        let question = AuthQuestion {
            remote_ip: session.peer_host().to_owned(),
            tls: session.is_tls(),
            common_name: session.certificate_name().to_owned(),
            secret,
        };
        self.actions.push(Action::Authorize(key, Box::new(question)));
    }
}

impl Session {
    /// Whether an auth server has allowed it anything, be it long ago.
    fn has_authorizations(&self) -> bool {
        let grant = self.credentials.as_ref().and_then(|shown| shown.grant());
        grant.is_some_and(|grant| grant.permission_count() > 0)
    }
}

impl<'c> Wanted<'c> {
    /// What a command wants; `None` for those that everybody may give, and for an MPUB whose line
    /// has been looked at.
    fn of(command: &'c Command<'_>) -> Option<Self> {
        match command {
            Command::Sub(names) => Some(Self::to_subscribe(&names.0, &names.1)),
            Command::PublishStart { topic } => Some(Self::to_publish(PublishKind::Mpub, topic)),
            Command::Publish(publish) if publish.kind != PublishKind::Mpub => {
                Some(Self::to_publish(publish.kind, publish.topic))
            }
            _ => None,
        }
    }

    /// What a command wants that has waited for the auth server.
    fn of_parked(parked: &'c Parked) -> Option<Self> {
        match parked {
            Parked::Subscribe(topic, channel) => Some(Self::to_subscribe(topic, channel)),
            Parked::PublishStart(topic) => Some(Self::to_publish(PublishKind::Mpub, topic)),
            Parked::Publish(publish) => Some(Self::to_publish(publish.kind, &publish.topic)),
            Parked::Auth => None,
        }
    }

    fn to_publish(kind: PublishKind, topic: &'c TopicName) -> Self {
        Self { command: kind.into(), topic, channel: None }
    }

    fn to_subscribe(topic: &'c TopicName, channel: &'c ChannelName) -> Self {
        Self { command: CommandName::Sub, topic, channel: Some(channel) }
    }

    fn denied(&self) -> Permission {
        let channel = self.channel.map(|channel| channel.as_str().as_bytes().into());
        self.refused(ProtocolError::Unauthorized {
            command: self.command,
            topic: self.topic.as_str().as_bytes().into(),
            channel: channel.unwrap_or_default(),
        })
    }

    fn refused(&self, error: ProtocolError) -> Permission {
        Permission::Refused(Box::new(error))
    }
}
