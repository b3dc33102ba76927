//! The receiving side of connections: bytes into the decoder, commands into the broker, and
//! back-pressure on clients that send faster than their commands can be carried out.

use super::connection::{Connection, Receive};
use super::event_loop::EventLoop;
use super::upgrade::decode_through;
use crate::broker::session::SessionKey;
use crate::broker::shard::Shard;
use crate::broker::time::Now;
use crate::limits::STASH_BYTES_MAX;
use crate::protocol::decoder::Decoder;
use crate::reactor::{Chunk, ReceiveEnd, Token};
use std::os::fd::OwnedFd;

impl EventLoop {
    /// A client has connected.
    pub(super) fn accept(&mut self, socket: OwnedFd) {
        let address = crate::reactor::listen::peer_name(&socket);
        tracing::info!("TCP: new client({address})");
        let token = self.reactor.add_socket(socket);
        let session = self.shard.connect(self.now, address.into_boxed_str());
        let mut connection = Connection::new(token, session, Decoder::new());
        connection.receive = Receive::Started;
        self.reactor.start_receive(token);
        self.add(connection);
    }

    /// Bytes have arrived.
    pub(super) fn received(&mut self, token: Token, chunk: Chunk) {
        let Some(connection) = self.connections.get_mut(token.index()).and_then(Option::as_mut)
        else {
            return self.reactor.recycle(chunk);
        };
        let bytes = self.reactor.bytes(&chunk);
        let (rest, comes_back) = if connection.stash.is_empty() && !connection.waits_for_handshake()
        {
            take_in(&mut self.shard, self.now, connection, bytes)
        } else {
            (bytes, false)
        };
        if !rest.is_empty() {
            connection.stash.extend_from_slice(rest);
        }
        let too_much = connection.stash.len() > STASH_BYTES_MAX;
        self.reactor.recycle(chunk);
        if too_much && connection.receive == Receive::Started {
            connection.receive = Receive::Stopping;
            self.reactor.stop_receive(token);
        }
        self.taken_in(token, comes_back);
    }

    /// The receiving side has ended, for good or because it was stopped.
    pub(super) fn receive_ended(&mut self, token: Token, cause: ReceiveEnd) {
        let Some(connection) = self.connections.get_mut(token.index()).and_then(Option::as_mut)
        else {
            return;
        };
        match cause {
            ReceiveEnd::Error(_) => return self.drop_connection(token),
            ReceiveEnd::PeerClosed => connection.receive = Receive::AtEnd,
            ReceiveEnd::Stopped => connection.receive = Receive::Stopped,
        }
        let (session, moving) = (connection.session, connection.moving.is_some());
        if moving {
            self.try_depart(token);
        } else {
            self.schedule_resume(session);
        }
    }

    /// Puts a connection on the list of those that may have something to decode, or whose end may
    /// have come.
    pub(super) fn schedule_resume(&mut self, key: SessionKey) {
        let Some(connection) = self.connection_of(key) else { return };
        if !connection.resuming {
            connection.resuming = true;
            let token = connection.token;
            self.resuming.push(token);
        }
    }

    /// Decodes what was stashed, of every connection on the list.
    pub(super) fn resume(&mut self) {
        let mut tokens = std::mem::replace(&mut self.resuming, std::mem::take(&mut self.resumed));
        for token in tokens.drain(..) {
            self.resume_one(token);
            self.act();
        }
        self.resumed = tokens;
    }

    fn resume_one(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token.index()).and_then(Option::as_mut)
        else {
            return;
        };
        if connection.token != token {
            return;
        }
        connection.resuming = false;
        if connection.waits_for_handshake() {
            return;
        }
        let mut comes_back = false;
        if connection.holds_input() {
            let stash = std::mem::take(&mut connection.stash);
            let rest;
            (rest, comes_back) = take_in(&mut self.shard, self.now, connection, &stash);
            let taken = stash.len() - rest.len();
            connection.stash = stash;
            connection.stash.drain(..taken);
        }
        if !connection.holds_input() {
            connection.stash = Vec::new();
            match connection.receive {
                Receive::AtEnd => self.end_input(token),
                Receive::Stopped if connection.moving.is_none() => {
                    connection.receive = Receive::Started;
                    self.reactor.start_receive(token);
                }
                _ => {}
            }
        }
        self.taken_in(token, comes_back);
    }

    /// Something was decoded, as far as it goes: its answers, and what goes on without more
    /// being received.
    fn taken_in(&mut self, token: Token, comes_back: bool) {
        let Some(connection) = self.connections[token.index()].as_ref() else { return };
        let (session, brings_handshake) = (connection.session, connection.brings_handshake());
        self.note_output(session);
        if comes_back {
            self.schedule_resume(session);
        }
        if brings_handshake {
            self.queue_handshake(session);
        }
    }

    /// The client has closed its side and everything it sent was carried out. What it is owed is
    /// still sent.
    fn end_input(&mut self, token: Token) {
        let Some(connection) = self.connections[token.index()].as_ref() else { return };
        let session = connection.session;
        let ending = connection.decoder.end_of_stream();
        self.shard.end_input(session, ending.err());
        self.shard.upgrade_failed(session, "EOF".to_owned());
    }
}

/// Decodes what was received, through the layers if there are any; returns what is left, and
/// whether the connection is to be resumed in the next turn whatever happens.
fn take_in<'i>(
    shard: &mut Shard,
    now: Now,
    connection: &mut Connection,
    input: &'i [u8],
) -> (&'i [u8], bool) {
    if connection.layers.is_some() {
        return decode_through(shard, now, connection, input);
    }
    (decode(shard, now, connection.session, &mut connection.decoder, input), false)
}

/// Decodes and carries out commands as long as the session takes them; returns what is left.
pub(super) fn decode<'i>(
    shard: &mut Shard,
    now: Now,
    key: SessionKey,
    decoder: &mut Decoder,
    mut input: &'i [u8],
) -> &'i [u8] {
    while shard.may_read(key) {
        let (context, pool) = shard.decoding(key);
        match decoder.next(&mut input, &context, pool) {
            Ok(Some(command)) => shard.command(now, key, command),
            Ok(None) => return &[],
            Err(error) => {
                shard.fail(key.index, error);
                return &[];
            }
        }
    }
    // A session that was cut off decodes nothing more, ever.
    if shard.is_closed(key) { &[] } else { input }
}
