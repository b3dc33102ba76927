//! Layers come between a connection's socket and the protocol, one after the other, and what is
//! received through them is decoded.

use super::connection::Connection;
use super::event_loop::EventLoop;
use super::layers::{Handshake, Layers};
use crate::broker::session::SessionKey;
use crate::broker::shard::Shard;
use crate::broker::time::Now;
use crate::broker::upgrade::{Layer, Upgrade};
use crate::limits::UNPACKED_PER_TURN;
use crate::protocol::compression::Compression;

impl EventLoop {
    /// A client has been told which layers come. What is in the output is the last that goes out
    /// as it is.
    pub(super) fn begin_upgrade(&mut self, key: SessionKey, upgrade: Upgrade) {
        let (config, now) = (self.tls.borrow().clone(), self.now);
        let Some(token) = self.connection_of(key).map(|connection| connection.token) else {
            return;
        };
        let Some(connection) = self.connections[token.index()].as_mut() else { return };
        let layers = connection.layers.get_or_insert_default();
        seal(&mut self.shard, key, layers);
        if upgrade.tls {
            log(&mut self.shard, key, "TLS");
            let begun = match config {
                Some(config) => layers.begin_tls(config).map_err(|error| error.to_string()),
                None => Err("no certificate".to_owned()),
            };
            if let Err(reason) = begun {
                self.shard.upgrade_failed(key, reason);
            }
        } else {
            install_packing(&mut self.shard, now, key, layers, upgrade.compression);
        }
        self.shard.mark_for_sending(key);
        self.schedule_resume(key);
    }
}

/// Puts everything in the session's output through the layers there are.
fn seal(shard: &mut Shard, key: SessionKey, layers: &mut Layers) {
    if let Some(session) = shard.session_mut(key) {
        layers.send(&mut session.output);
    }
}

fn install_packing(
    shard: &mut Shard,
    now: Now,
    key: SessionKey,
    layers: &mut Layers,
    compression: Option<Compression>,
) {
    let Some(compression) = compression else { return };
    match compression {
        Compression::Snappy => log(shard, key, "snappy"),
        Compression::Deflate { level } => log(shard, key, &format!("deflate (level {level})")),
    }
    layers.begin_packing(compression);
    shard.upgraded(now, key, Layer::Compression(compression));
}

fn log(shard: &mut Shard, key: SessionKey, layer: &str) {
    if let Some(session) = shard.session_mut(key) {
        let address = &session.remote_address;
        tracing::info!("PROTOCOL(V2): [{address}] upgrading connection to {layer}");
    }
}

/// As [`decode`](super::receive::decode), through layers. What is left of `wire`, or held by the
/// layers, is for a later turn, or for a handshake; whether that turn should come by itself.
pub(super) fn decode_through<'i>(
    shard: &mut Shard,
    now: Now,
    connection: &mut Connection,
    mut wire: &'i [u8],
) -> (&'i [u8], bool) {
    let Some(mut layers) = connection.layers.take() else { return (wire, false) };
    let key = connection.session;
    let (mut unpacked, mut comes_back) = (0, false);
    loop {
        if shard.is_closed(key) {
            wire = &[];
            break;
        }
        if layers.is_shaking_hands() {
            break;
        }
        let left = super::receive::decode(shard, now, key, &mut connection.decoder, layers.plain());
        let left = left.len();
        layers.leave(left);
        if left > 0 || layers.is_congested() || !shard.may_read(key) {
            break;
        }
        if unpacked >= UNPACKED_PER_TURN {
            comes_back = true;
            break;
        }
        match layers.receive(&mut wire) {
            Ok(true) => unpacked += layers.plain().len(),
            Ok(false) => {
                if layers.has_ended() {
                    shard.end_input(key, connection.decoder.end_of_stream().err());
                }
                break;
            }
            Err(damage) => {
                if let Some(session) = shard.session_mut(key) {
                    let address = &session.remote_address;
                    tracing::error!("client({address}) - failed to read command - {damage}");
                }
                shard.end_input(key, None);
            }
        }
    }
    if !layers.wire.is_empty() {
        shard.mark_for_sending(key);
    }
    connection.layers = Some(layers);
    (wire, comes_back)
}

/// A step of a TLS handshake was taken: what follows if it was the last.
pub(super) fn handshake_ended(
    shard: &mut Shard,
    now: Now,
    key: SessionKey,
    layers: &mut Layers,
    outcome: Handshake,
) {
    match outcome {
        Handshake::UnderWay => {}
        Handshake::Failed(reason) => shard.upgrade_failed(key, reason),
        Handshake::Done(peer) => {
            let compression = shard.session_mut(key).and_then(|s| s.upgrade.compression);
            shard.upgraded(now, key, Layer::Tls(peer));
            // The OK for TLS goes through TLS alone.
            seal(shard, key, layers);
            install_packing(shard, now, key, layers, compression);
        }
    }
}
