//! Connections that change their shard: a consumer goes to its topic's home at SUB, a producer to
//! where it publishes.
//!
//! A connection leaves only when nothing is outstanding: it is not received from, all it was owed
//! is sent, and its decoder is between two commands. What it has received and not decoded goes
//! along, so no byte is lost or read twice.

use super::connection::{Connection, Receive};
use super::event_loop::EventLoop;
use super::mail::MovedConnection;
use crate::broker::admin::ShardIndex;
use crate::broker::session::SessionKey;
use crate::protocol::decoder::Decoder;
use crate::reactor::Token;

impl EventLoop {
    /// The broker wants a connection elsewhere.
    pub(super) fn begin_move(&mut self, key: SessionKey, home: ShardIndex) {
        let Some(connection) = self.connection_of(key) else { return };
        connection.moving = Some(home);
        let token = connection.token;
        if connection.receive == Receive::Started {
            connection.receive = Receive::Stopping;
            self.reactor.stop_receive(token);
        }
        self.note_output(key);
    }

    /// Sends a connection off, if it is to move and nothing is outstanding.
    pub(super) fn try_depart(&mut self, token: Token) {
        let Some(connection) = self.connections.get(token.index()).and_then(Option::as_ref) else {
            return;
        };
        let Some(home) = connection.moving else { return };
        if connection.sending
            || connection.has_wire()
            || !connection.is_quiet()
            || !connection.decoder.is_at_boundary()
        {
            return;
        }
        let key = connection.session;
        let owed = |session: &crate::broker::session::Session| {
            !session.is_answered() || !session.output.is_empty()
        };
        if self.shard.session_mut(key).is_none_or(|session| owed(session)) {
            return;
        }
        let Some(socket) = self.reactor.detach(token) else { return };
        let Some(connection) = self.forget(token) else { return };
        let Some(session) = self.shard.send_session(key) else { return };
        let at_end = connection.receive == Receive::AtEnd;
        let Connection { layers, stash, .. } = connection;
        self.depart(home, MovedConnection { socket, session, layers, stash, at_end });
    }

    /// A connection has come from another shard.
    pub(super) fn arrive(&mut self, moved: MovedConnection) {
        let MovedConnection { socket, session, layers, stash, at_end } = moved;
        let token = self.reactor.add_socket(socket);
        let key = self.shard.receive_session(self.now, session);
        let mut connection = Connection::new(token, key, Decoder::after_magic());
        connection.layers = layers;
        connection.stash = stash;
        if at_end {
            connection.receive = Receive::AtEnd;
        } else {
            connection.receive = Receive::Started;
            self.reactor.start_receive(token);
        }
        self.add(connection);
        self.schedule_resume(key);
    }
}
