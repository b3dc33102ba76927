//! The sending side of connections: one send per connection and turn, and the end of connections
//! that have nothing more to say.

use super::connection::Connection;
use super::event_loop::EventLoop;
use crate::broker::session::{Input, SessionKey};
use crate::protocol::output::Output;
use crate::reactor::{Errno, SendBuffer, Token};

impl EventLoop {
    /// Sends what every marked session has.
    pub(super) fn flush(&mut self) {
        let mut marked = std::mem::take(&mut self.shard.dirty_sessions);
        for index in marked.drain(..) {
            let Some((key, session)) = self.shard.marked_session(index) else { continue };
            if std::mem::take(&mut session.dirty) {
                self.flush_one(key);
            }
        }
        self.shard.dirty_sessions = marked;
    }

    /// A send has ended.
    pub(super) fn sent(&mut self, token: Token, mut buffer: SendBuffer, result: Result<(), Errno>) {
        buffer.clear();
        let Some(connection) = self.connections.get_mut(token.index()).and_then(Option::as_mut)
        else {
            return;
        };
        connection.sending = false;
        if result.is_err() {
            return self.drop_connection(token);
        }
        let session = connection.session;
        self.shard.recycle_output(session, std::mem::take(&mut buffer.output.bytes));
        self.shard.output_sent(session);
        self.note_output(session);
    }

    /// Marks a session whose output, end or departure has to be looked at when the turn ends.
    pub(super) fn note_output(&mut self, key: SessionKey) {
        self.shard.mark_if_due(key);
    }

    fn flush_one(&mut self, key: SessionKey) {
        let Some(connection) = self.connection_of(key) else { return };
        let (token, stashed) = (connection.token, connection.holds_input());
        let is_layered = connection.layers.is_some();
        if connection.sending {
            return;
        }
        let Some(session) = self.shard.session_mut(key) else { return };
        let last = session.input == Input::Closed && session.is_answered();
        let mut output = std::mem::take(&mut session.output);
        if is_layered {
            self.put_through(key, &mut output, last);
        }
        if output.is_empty() {
            self.shard.recycle_output(key, output.bytes);
            return if last { self.close(token) } else { self.try_depart(token) };
        }
        if self.reactor.send(token, SendBuffer::from(output)).is_err() {
            return self.drop_connection(token);
        }
        if last {
            // The reactor lets this send finish, within bounds of its own.
            return self.close(token);
        }
        if let Some(connection) = self.connections[token.index()].as_mut() {
            connection.sending = true;
        }
        self.shard.output_started(self.now, key);
        if stashed {
            self.schedule_resume(key);
        }
    }

    /// Makes of a session's output what goes over the wire, if its connection has layers.
    fn put_through(&mut self, key: SessionKey, output: &mut Output, last: bool) {
        let spare = self.shard.spare_output();
        let Some(layers) = self.connection_of(key).and_then(|found| found.layers.as_mut()) else {
            return;
        };
        if layers.wire.capacity() == 0 {
            layers.wire = spare;
        }
        layers.send(output);
        if last {
            layers.end();
        }
        // What was output is the next wire, or somebody else's output.
        let emptied = std::mem::replace(&mut output.bytes, std::mem::take(&mut layers.wire));
        self.shard.recycle_output(key, emptied);
    }

    /// The session was cut off by the broker.
    pub(super) fn cut_off(&mut self, key: SessionKey) {
        if let Some(connection) = self.connection_of(key) {
            let token = connection.token;
            self.drop_connection(token);
        }
    }

    /// The connection has failed, or is not worth waiting for.
    pub(super) fn drop_connection(&mut self, token: Token) {
        self.reactor.abort(token);
        self.end(token);
    }

    /// The connection has ended in order.
    fn close(&mut self, token: Token) {
        self.reactor.close(token);
        self.end(token);
    }

    fn end(&mut self, token: Token) {
        let Some(Connection { session, .. }) = self.forget(token) else { return };
        if let Some(ended) = self.shard.session_mut(session) {
            tracing::info!("PROTOCOL(V2): [{}] exiting ioloop", ended.remote_address);
        }
        self.shard.disconnect(session);
    }
}
