//! The table of a reactor's sockets: what is outstanding on each, and which generation lives in
//! each place.

use std::os::fd::OwnedFd;

use super::{SendBuffer, Token};
use crate::limits::SOCKETS_PER_SHARD_MAX;

/// One socket and what the kernel still has of it.
pub(super) struct Socket {
    pub(super) descriptor: OwnedFd,
    pub(super) receive: Receive,
    pub(super) closing: Closing,
    /// The buffer the kernel is sending from.
    pub(super) sending: Option<SendBuffer>,
    /// Bytes of `sending` the kernel has taken.
    pub(super) sent: usize,
}

/// Where receiving stands. Hazard 5: a multishot receive stops silently, so the state names the
/// reason for every socket that has none armed; `Armed` and `Stopping` hold exactly while the
/// kernel owes a final completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receive {
    /// Never started, ended, or stopped: the caller knows.
    Idle,
    /// The kernel delivers.
    Armed,
    /// A cancellation is on its way.
    Stopping,
    /// Ended for want of buffers; on the reactor's list to be armed again.
    Starved,
}

/// How far the end of a socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    No,
    /// Its caller is done with it, and so it ends with its receive.
    Waiting,
    /// Its caller is done with it, but an outstanding send may finish within a time.
    Lingering,
    /// Shut down; only final completions are awaited.
    Aborted,
}

impl Socket {
    /// Whether the kernel owes a final completion for this socket.
    pub(super) fn is_outstanding(&self) -> bool {
        self.sending.is_some() || matches!(self.receive, Receive::Armed | Receive::Stopping)
    }
}

struct Place {
    generation: u32,
    socket: Option<Socket>,
}

/// Sockets by index and generation.
#[derive(Default)]
pub(super) struct Sockets {
    places: Vec<Place>,
    free: Vec<u32>,
}

impl Sockets {
    /// # Panics
    ///
    /// When 2^24 sockets are open, which is beyond what the kernel gives one process.
    pub(super) fn insert(&mut self, descriptor: OwnedFd) -> Token {
        let socket = Socket {
            descriptor,
            receive: Receive::Idle,
            closing: Closing::No,
            sending: None,
            sent: 0,
        };
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.socket = Some(socket);
            return Token { index, generation: place.generation };
        }
        assert!(self.places.len() < SOCKETS_PER_SHARD_MAX, "too many sockets on one shard");
        let index = u32::try_from(self.places.len()).expect("bounded by the assertion above");
        self.places.push(Place { generation: 0, socket: Some(socket) });
        Token { index, generation: 0 }
    }

    /// The socket of `token`, also while it is closing.
    pub(super) fn find(&mut self, token: Token) -> Option<&mut Socket> {
        let place = self.places.get_mut(token.index as usize)?;
        if place.generation != token.generation {
            return None;
        }
        place.socket.as_mut()
    }

    /// The socket of `token` if its caller has not closed it.
    pub(super) fn find_open(&mut self, token: Token) -> Option<&mut Socket> {
        self.find(token).filter(|socket| socket.closing == Closing::No)
    }

    /// Whether the socket of `token` exists and its caller has not closed it.
    pub(super) fn is_open(&self, token: Token) -> bool {
        let place = self.places.get(token.index as usize);
        place.is_some_and(|place| {
            place.generation == token.generation
                && place.socket.as_ref().is_some_and(|socket| socket.closing == Closing::No)
        })
    }

    /// Takes the socket out; its place gets a new generation, so that late completions and stale
    /// tokens miss it.
    pub(super) fn remove(&mut self, token: Token) -> Option<Socket> {
        let place = self.places.get_mut(token.index as usize)?;
        if place.generation != token.generation {
            return None;
        }
        let socket = place.socket.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(token.index);
        Some(socket)
    }

    /// Sockets in the table, closing ones included.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// All sockets in the table.
    #[cfg(test)]
    pub(super) fn tokens(&self) -> Vec<Token> {
        let places = self.places.iter().enumerate().filter(|(_, place)| place.socket.is_some());
        places
            .map(|(index, place)| Token {
                index: u32::try_from(index).unwrap(),
                generation: place.generation,
            })
            .collect()
    }
}
