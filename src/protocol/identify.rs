//! IDENTIFY: a client's wishes out of its JSON, checked; and the JSON that answers them.
//!
//! Decoding follows Go's rules, since clients in the field rely on them.

use super::error::ProtocolError;
use super::go_json;
use crate::limits::IDENTIFY_TEXT_BYTES_MAX;

/// What an operator limits in IDENTIFY; the options in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentifyLimits {
    /// `--max-heartbeat-interval` in milliseconds.
    pub max_heartbeat_interval_ms: u64,
    /// `--min-output-buffer-timeout` in milliseconds.
    pub min_output_buffer_timeout_ms: u64,
    /// `--max-output-buffer-timeout` in milliseconds.
    pub max_output_buffer_timeout_ms: u64,
    /// `--max-output-buffer-size` in bytes.
    pub max_output_buffer_size: u64,
    /// `--max-msg-timeout` in milliseconds.
    pub max_msg_timeout_ms: u64,
}

/// A client's wishes, all within bounds. `None` keeps what is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Free text, at most [`IDENTIFY_TEXT_BYTES_MAX`] bytes, like every text here.
    pub client_id: String,
    /// Free text.
    pub hostname: String,
    /// Free text.
    pub user_agent: String,
    /// Whether the client wants the JSON reply instead of `OK`.
    pub feature_negotiation: bool,
    /// 0 for no heartbeats.
    pub heartbeat_interval_ms: Option<u64>,
    /// 0 for no timed flush.
    pub output_buffer_timeout_ms: Option<u64>,
    /// In bytes; 1 for unbuffered.
    pub output_buffer_size: Option<u64>,
    /// Percent of messages to deliver, 0 for all.
    pub sample_rate: u8,
    /// Milliseconds a delivered message may stay unfinished.
    pub msg_timeout_ms: Option<u64>,
    /// Asks for TLS.
    pub tls_v1: bool,
    /// Asks for snappy.
    pub snappy: bool,
    /// Asks for deflate.
    pub deflate: bool,
    /// Wished level; counts only if positive.
    pub deflate_level: i64,
    /// Free text.
    pub topology_region: String,
    /// Free text.
    pub topology_zone: String,
}

impl Settings {
    /// The deflate level for this client: what it wishes if it asks for deflate, else NSQ's
    /// default, and never more than `max`.
    pub fn deflate_level(&self, max: u8) -> u8 {
        let wished = if self.deflate { u8::try_from(self.deflate_level.min(9)).ok() } else { None };
        wished.filter(|level| *level > 0).unwrap_or(DEFLATE_LEVEL_DEFAULT).min(max)
    }

    /// Decodes and checks the body of an IDENTIFY.
    ///
    /// # Errors
    /// The first thing wrong with it, in NSQ's order.
    pub fn parse(body: &[u8], limits: &IdentifyLimits) -> Result<Self, ProtocolError> {
        let mut wishes = Wishes::default();
        go_json::read_object(body, |key, value| wishes.set(key, value))
            .ok_or(ProtocolError::IdentifyUndecodable)?;
        wishes.check(limits)
    }
}

/// The level NSQ reports and uses unless the client wishes another one.
pub const DEFLATE_LEVEL_DEFAULT: u8 = 6;

/// The document as decoded, before its values are checked. Absent is zero, as in Go.
#[derive(Default)]
struct Wishes {
    settings: Settings,
    heartbeat_interval: i64,
    output_buffer_timeout: i64,
    output_buffer_size: i64,
    sample_rate: i64,
    msg_timeout: i64,
}

impl Wishes {
    fn check(self, limits: &IdentifyLimits) -> Result<Settings, ProtocolError> {
        let mut settings = self.settings;
        settings.heartbeat_interval_ms = check_setting(
            "heartbeat interval",
            self.heartbeat_interval,
            1000..=limits.max_heartbeat_interval_ms,
        )?;
        settings.output_buffer_timeout_ms = check_setting(
            "output buffer timeout",
            self.output_buffer_timeout,
            limits.min_output_buffer_timeout_ms..=limits.max_output_buffer_timeout_ms,
        )?;
        settings.output_buffer_size = check_setting(
            "output buffer size",
            self.output_buffer_size,
            64..=limits.max_output_buffer_size,
        )?;
        if settings.output_buffer_size == Some(0) {
            // Unbuffered: NSQ reports a size of 1, and a timed flush would have nothing to do.
            settings.output_buffer_size = Some(1);
            settings.output_buffer_timeout_ms = Some(0);
        }
        let sample_rate = u8::try_from(self.sample_rate).ok().filter(|&percent| percent <= 99);
        settings.sample_rate = sample_rate.ok_or(ProtocolError::IdentifyInvalid {
            setting: "sample rate",
            value: self.sample_rate,
        })?;
        let setting = "msg timeout";
        if self.msg_timeout == -1 {
            return Err(ProtocolError::IdentifyInvalid { setting, value: self.msg_timeout });
        }
        settings.msg_timeout_ms =
            check_setting(setting, self.msg_timeout, 1000..=limits.max_msg_timeout_ms)?;
        Ok(settings)
    }

    /// Takes over the value of one key; `None` if it has the wrong type.
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let settings = &mut self.settings;
        match key {
            "client_id" => settings.client_id = decode_text(value)?,
            "hostname" => settings.hostname = decode_text(value)?,
            "user_agent" => settings.user_agent = decode_text(value)?,
            "topology_region" => settings.topology_region = decode_text(value)?,
            "topology_zone" => settings.topology_zone = decode_text(value)?,
            "feature_negotiation" => settings.feature_negotiation = value.parse().ok()?,
            "tls_v1" => settings.tls_v1 = value.parse().ok()?,
            "snappy" => settings.snappy = value.parse().ok()?,
            "deflate" => settings.deflate = value.parse().ok()?,
            // JSON's syntax has been checked, so what parses here is what Go accepts: no
            // fraction, no exponent, within 64 bits (32 for the sample rate).
            "deflate_level" => settings.deflate_level = value.parse().ok()?,
            "heartbeat_interval" => self.heartbeat_interval = value.parse().ok()?,
            "output_buffer_timeout" => self.output_buffer_timeout = value.parse().ok()?,
            "output_buffer_size" => self.output_buffer_size = value.parse().ok()?,
            "sample_rate" => self.sample_rate = value.parse::<i32>().ok()?.into(),
            "msg_timeout" => self.msg_timeout = value.parse().ok()?,
            _ => {}
        }
        Some(())
    }
}

/// -1 switches off (0 in the result), 0 keeps what is in force, all else must be in range.
fn check_setting(
    setting: &'static str,
    value: i64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, ProtocolError> {
    match (value, u64::try_from(value)) {
        (-1, _) => Ok(Some(0)),
        (0, _) => Ok(None),
        (_, Ok(value)) if range.contains(&value) => Ok(Some(value)),
        _ => Err(ProtocolError::IdentifyInvalid { setting, value }),
    }
}

/// A JSON string, cut at a character's end if it is too long.
fn decode_text(value: &str) -> Option<String> {
    let mut text = go_json::text(value)?;
    text.truncate(text.floor_char_boundary(IDENTIFY_TEXT_BYTES_MAX));
    text.shrink_to_fit();
    Some(text)
}

/// What the daemon answers to a client that negotiates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'r> {
    /// `--max-rdy-count`.
    pub max_rdy_count: u64,
    /// NSQ's version that this daemon stands in for.
    pub version: &'r str,
    /// `--max-msg-timeout` in milliseconds.
    pub max_msg_timeout_ms: u64,
    /// In force for this client, in milliseconds.
    pub msg_timeout_ms: u64,
    /// Whether TLS follows.
    pub tls_v1: bool,
    /// Whether deflate follows.
    pub deflate: bool,
    /// The level of deflate, or the one it would have.
    pub deflate_level: u8,
    /// `--max-deflate-level`.
    pub max_deflate_level: u8,
    /// Whether snappy follows.
    pub snappy: bool,
    /// In force for this client, in percent.
    pub sample_rate: u8,
    /// Whether an auth server is configured.
    pub auth_required: bool,
    /// In force for this client, in bytes; 1 for unbuffered.
    pub output_buffer_size: u64,
    /// In force for this client, in milliseconds; 0 for none.
    pub output_buffer_timeout_ms: u64,
    /// The daemon's own.
    pub topology_region: &'r str,
    /// The daemon's own.
    pub topology_zone: &'r str,
}

/// The reply as JSON, keys in NSQ's order.
pub fn response_json(reply: &Reply<'_>) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Document<'r> {
        max_rdy_count: u64,
        version: &'r str,
        max_msg_timeout: u64,
        msg_timeout: u64,
        tls_v1: bool,
        deflate: bool,
        deflate_level: u8,
        max_deflate_level: u8,
        snappy: bool,
        sample_rate: u8,
        auth_required: bool,
        output_buffer_size: u64,
        output_buffer_timeout: u64,
        topology_region: &'r str,
        topology_zone: &'r str,
    }
    let document = Document {
        max_rdy_count: reply.max_rdy_count,
        version: reply.version,
        max_msg_timeout: reply.max_msg_timeout_ms,
        msg_timeout: reply.msg_timeout_ms,
        tls_v1: reply.tls_v1,
        deflate: reply.deflate,
        deflate_level: reply.deflate_level,
        max_deflate_level: reply.max_deflate_level,
        snappy: reply.snappy,
        sample_rate: reply.sample_rate,
        auth_required: reply.auth_required,
        output_buffer_size: reply.output_buffer_size,
        output_buffer_timeout: reply.output_buffer_timeout_ms,
        topology_region: reply.topology_region,
        topology_zone: reply.topology_zone,
    };
    serde_json::to_vec(&document).expect("numbers and strings always serialize")
}

#[cfg(test)]
mod tests;
