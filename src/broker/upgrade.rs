//! Upgrades after IDENTIFY: TLS, then a compression. The reply to IDENTIFY leaves in the clear;
//! then the caller installs one layer after the other, and each is answered `OK` through itself.

use super::action::Action;
use super::session::{Input, Session, SessionKey};
use super::shard::Shard;
use super::time::Now;
use crate::protocol::compression::Compression;
use crate::protocol::error::ProtocolError;
use std::borrow::Cow;

/// Layers that are to be put between a client's socket and the protocol, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upgrade {
    /// TLS.
    pub tls: bool,
    /// A compression, inside TLS if there is that.
    pub compression: Option<Compression>,
}

/// The layers of a session.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// TLS and what is known of the peer.
    pub tls: Option<Box<TlsPeer>>,
    /// Inside TLS, if there is that.
    pub compression: Option<Compression>,
}

/// One layer that has been installed.
#[derive(Debug)]
pub enum Layer {
    /// TLS, after its handshake.
    Tls(Box<TlsPeer>),
    /// A compression.
    Compression(Compression),
}

/// What a TLS handshake has settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsPeer {
    /// As nsqd prints it: `TLS1.2`, `TLS1.3`.
    pub version: &'static str,
    /// As nsqd prints it: Go's name, or `Unknown` and the number.
    pub cipher_suite: Cow<'static, str>,
    /// Of the client's certificate; empty if it has none.
    pub common_name: String,
}

impl Upgrade {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.tls && self.compression.is_none()
    }
}

impl Session {
    /// Whether its connection is over TLS.
    pub fn is_tls(&self) -> bool {
        self.layers.tls.is_some()
    }

    /// The common name of the client's certificate; empty without one.
    pub fn certificate_name(&self) -> &str {
        self.layers.tls.as_ref().map_or("", |tls| &tls.common_name)
    }
}

impl Shard {
    /// IDENTIFY was answered: nothing more is decoded until its layers are there.
    pub(super) fn begin_upgrade(&mut self, now: Now, index: u32, upgrade: Upgrade) {
        let session = &mut self.sessions[index as usize];
        session.upgrade = upgrade;
        session.input = Input::Upgrading { until: now.time + self.config.features.upgrade_time };
        self.arm_session(index);
        self.ask_for_upgrade(index);
    }

    /// Asks for the layers once the reply to IDENTIFY is in the output: answers of other shards may
    /// have to come before it.
    pub(super) fn ask_for_upgrade(&mut self, index: u32) {
        let session = &self.sessions[index as usize];
        let waits = matches!(session.input, Input::Upgrading { .. }) && session.is_answered();
        if waits && !session.upgrade.is_empty() {
            let key = SessionKey { index, generation: session.generation };
            self.actions.push(Action::Upgrade(key, session.upgrade));
        }
    }

    /// A layer is installed. Everything that was in the output before must have left it: what
    /// comes now goes through the layer.
    pub fn upgraded(&mut self, now: Now, key: SessionKey, layer: Layer) {
        let Some(session) = self.session_mut(key) else { return };
        if !matches!(session.input, Input::Upgrading { .. }) {
            return;
        }
        session.last_heard = now.time;
        match layer {
            Layer::Tls(peer) => {
                session.upgrade.tls = false;
                session.layers.tls = Some(peer);
            }
            Layer::Compression(compression) => {
                session.upgrade.compression = None;
                session.layers.compression = Some(compression);
            }
        }
        session.answer_ok();
        if session.upgrade.is_empty() {
            session.input = Input::Open;
            self.actions.push(Action::Resume(key));
        }
        self.mark_dirty(key.index);
        self.arm_session(key.index);
    }

    /// The layers could not be installed; the client is told as far as it can be.
    pub fn upgrade_failed(&mut self, key: SessionKey, reason: String) {
        if let Some(session) = self.session_mut(key)
            && matches!(session.input, Input::Upgrading { .. })
        {
            self.fail(key.index, ProtocolError::IdentifyFailed(reason.into()));
        }
    }
}
