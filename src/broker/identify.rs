//! IDENTIFY: applies what a client asked for to its session and answers it.

use super::eligible::Proximity;
use super::session::{Identity, Negotiated};
use super::shard::Shard;
use super::time::{Now, Span};
use super::upgrade::{Layers, Upgrade};
use crate::protocol::compression::Compression;
use crate::protocol::error::ProtocolError;
use crate::protocol::frame;
use crate::protocol::identify::{DEFLATE_LEVEL_DEFAULT, Reply, Settings, response_json};

/// What the IDENTIFY reply says of the daemon.
#[derive(Debug, Clone)]
pub struct Features {
    /// The version of NSQ this daemon stands in for.
    pub version: &'static str,
    /// `--max-msg-timeout` in milliseconds.
    pub max_msg_timeout_ms: u64,
    /// Whether there is a certificate.
    pub tls: bool,
    /// `--tls-required`, in either of its forms.
    pub tls_required: bool,
    /// `--snappy`.
    pub snappy: bool,
    /// `--deflate`.
    pub deflate: bool,
    /// `--max-deflate-level`.
    pub max_deflate_level: u8,
    /// How long the upgrades of a client may take.
    pub upgrade_time: Span,
    /// Whether clients must AUTH before they publish or subscribe.
    pub auth_required: bool,
    /// `--topology-region`.
    pub topology_region: String,
    /// `--topology-zone`.
    pub topology_zone: String,
    /// `--enable-experiment=topology-aware-consumption`.
    pub topology_aware: bool,
}

impl Shard {
    pub(super) fn identify(&mut self, now: Now, index: u32, body: &[u8]) {
        let settings = match Settings::parse(body, &self.config.identify_limits) {
            Ok(settings) => settings,
            Err(error) => return self.fail(index, error),
        };
        let session = &mut self.sessions[index as usize];
        let upgrade = match self.config.features.upgrade(&settings, &session.layers) {
            Ok(upgrade) => upgrade,
            Err(error) => return self.fail(index, error),
        };
        session.negotiated.apply(&settings);
        session.negotiated.proximity = self.config.features.proximity(&settings);
        // NSQ's heartbeat timer starts over when IDENTIFY is applied.
        session.last_heartbeat = now.time;
        if settings.feature_negotiation {
            let reply = self.config.reply(&session.negotiated, upgrade);
            session.answer(|out| frame::push_response(out, &reply));
        } else {
            session.answer_ok();
        }
        session.identity = Some(Box::new(Identity {
            client_id: settings.client_id,
            hostname: settings.hostname,
            user_agent: settings.user_agent,
            topology_zone: settings.topology_zone,
            topology_region: settings.topology_region,
        }));
        self.mark_dirty(index);
        self.arm_session(index);
        if !upgrade.is_empty() {
            self.begin_upgrade(now, index, upgrade);
        }
    }
}

impl Features {
    /// What follows IDENTIFY for a client that asks for so much.
    fn upgrade(&self, settings: &Settings, present: &Layers) -> Result<Upgrade, ProtocolError> {
        if !settings.feature_negotiation {
            return Ok(Upgrade::default());
        }
        let compression = match (settings.snappy && self.snappy, settings.deflate && self.deflate) {
            (true, true) => return Err(ProtocolError::IdentifyConflict),
            (true, false) => Some(Compression::Snappy),
            (false, true) => {
                Some(Compression::Deflate { level: settings.deflate_level(self.max_deflate_level) })
            }
            (false, false) => None,
        };
        let tls = settings.tls_v1 && self.tls;
        // A layer below one that is there already cannot be put in any more.
        let comes_late = tls && (present.tls.is_some() || present.compression.is_some())
            || compression.is_some() && present.compression.is_some();
        if comes_late {
            let reason = "the connection has been upgraded already".into();
            return Err(ProtocolError::IdentifyFailed(reason));
        }
        Ok(Upgrade { tls, compression })
    }

    /// How near a client is to this daemon.
    fn proximity(&self, settings: &Settings) -> Proximity {
        if !self.topology_aware {
            Proximity::Global
        } else if settings.topology_zone == self.topology_zone {
            Proximity::Zone
        } else if settings.topology_region == self.topology_region {
            Proximity::Region
        } else {
            Proximity::Global
        }
    }
}

impl Negotiated {
    fn apply(&mut self, settings: &Settings) {
        if let Some(interval_ms) = settings.heartbeat_interval_ms {
            self.heartbeat_interval = (interval_ms > 0).then(|| Span::from_ms(interval_ms));
        }
        if let Some(timeout_ms) = settings.msg_timeout_ms {
            self.message_timeout = Span::from_ms(timeout_ms);
        }
        if let Some(bytes) = settings.output_buffer_size {
            self.output_buffer_bytes = bytes;
        }
        if let Some(timeout_ms) = settings.output_buffer_timeout_ms {
            self.output_buffer_timeout_ms = timeout_ms;
        }
        self.sample_rate = settings.sample_rate;
    }
}

impl super::shard::ShardConfig {
    fn reply(&self, negotiated: &Negotiated, upgrade: Upgrade) -> Vec<u8> {
        // A level is told even where nothing is deflated.
        let (deflate, deflate_level) = match upgrade.compression {
            Some(Compression::Deflate { level }) => (true, level),
            _ => (false, DEFLATE_LEVEL_DEFAULT.min(self.features.max_deflate_level)),
        };
        response_json(&Reply {
            max_rdy_count: self.command_limits.max_rdy_count,
            version: self.features.version,
            max_msg_timeout_ms: self.features.max_msg_timeout_ms,
            msg_timeout_ms: negotiated.message_timeout.0 / 1_000_000,
            tls_v1: upgrade.tls,
            deflate,
            deflate_level,
            snappy: upgrade.compression == Some(Compression::Snappy),
            max_deflate_level: self.features.max_deflate_level,
            sample_rate: negotiated.sample_rate,
            auth_required: self.features.auth_required,
            output_buffer_size: negotiated.output_buffer_bytes,
            output_buffer_timeout_ms: negotiated.output_buffer_timeout_ms,
            topology_region: &self.features.topology_region,
            topology_zone: &self.features.topology_zone,
        })
    }
}
