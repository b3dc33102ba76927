//! IDENTIFY: applies what a client asked for to its session and answers it.

use super::eligible::Proximity;
use super::session::{Identity, Negotiated};
use super::shard::Shard;
use super::time::{Now, Span};
use crate::protocol::frame;
use crate::protocol::identify::{Reply, Settings, response_json};

/// What the IDENTIFY reply says of the daemon.
#[derive(Debug, Clone)]
pub struct Features {
    /// The version of NSQ this daemon stands in for.
    pub version: &'static str,
    /// `--max-msg-timeout` in milliseconds.
    pub max_msg_timeout_ms: u64,
    /// `--max-deflate-level`.
    pub max_deflate_level: u64,
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
        session.negotiated.apply(&settings);
        session.negotiated.proximity = self.config.features.proximity(&settings);
        // NSQ's heartbeat timer starts over when IDENTIFY is applied.
        session.last_heartbeat = now.time;
        if settings.feature_negotiation {
            let reply = self.config.reply(&session.negotiated);
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
    }
}

impl Features {
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
    fn reply(&self, negotiated: &Negotiated) -> Vec<u8> {
        response_json(&Reply {
            max_rdy_count: self.command_limits.max_rdy_count,
            version: self.features.version,
            max_msg_timeout_ms: self.features.max_msg_timeout_ms,
            msg_timeout_ms: negotiated.message_timeout.0 / 1_000_000,
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
