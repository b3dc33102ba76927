//! What the 64 bits of user data on an operation mean: what it was for (8 bits), of which socket or
//! listener (24 bits), in which generation of that place (32 bits).

use super::super::Token;
use crate::limits::SOCKETS_PER_SHARD_MAX;

/// What an operation was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Multishot accept on a listener.
    Accept = 1,
    /// The rest of a listener after a refused accept.
    BackOff = 2,
    /// Multishot receive on a socket.
    Receive = 3,
    /// The send of a socket.
    Send = 4,
    /// The patience with a closed socket's send.
    Linger = 5,
    /// Read of the eventfd.
    Eventfd = 6,
    /// Message to a peer's ring, index is the peer; heard of only when it failed.
    Wake = 7,
    /// Cancellation; heard of only when there was nothing to cancel.
    Cancel = 8,
    /// Message from a peer's ring.
    Woken = 9,
    /// One step of a request for a file, index is its place among those under way.
    File = 10,
}

impl Operation {
    const ALL: [Self; 10] = [
        Self::Accept,
        Self::BackOff,
        Self::Receive,
        Self::Send,
        Self::Linger,
        Self::Eventfd,
        Self::Wake,
        Self::Cancel,
        Self::Woken,
        Self::File,
    ];

    /// Whether the kernel always reports the end of such an operation of ours.
    pub(super) fn always_completes(self) -> bool {
        !matches!(self, Self::Wake | Self::Cancel | Self::Woken)
    }
}

/// The meaning of user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UserData {
    pub(super) operation: Operation,
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl UserData {
    pub(super) fn of_socket(operation: Operation, token: Token) -> Self {
        Self { operation, index: token.index, generation: token.generation }
    }

    /// For operations of the reactor itself: of a listener, a peer, or nothing in particular.
    pub(super) fn of_reactor(operation: Operation, index: u32) -> Self {
        Self { operation, index, generation: 0 }
    }

    /// The socket it names, for operations on sockets.
    pub(super) fn token(self) -> Token {
        Token { index: self.index, generation: self.generation }
    }

    pub(super) fn pack(self) -> u64 {
        debug_assert!((self.index as usize) < SOCKETS_PER_SHARD_MAX);
        (self.operation as u64) << 56 | u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// `None` for bits that no operation of ours carries.
    pub(super) fn unpack(bits: u64) -> Option<Self> {
        let operation = usize::try_from((bits >> 56).checked_sub(1)?).ok()?;
        let operation = *Operation::ALL.get(operation)?;
        let index = (bits >> 32) & (SOCKETS_PER_SHARD_MAX as u64 - 1);
        Some(Self {
            operation,
            index: u32::try_from(index).ok()?,
            generation: u32::try_from(bits & u64::from(u32::MAX)).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_survives_packing() {
        for operation in Operation::ALL {
            for index in [0, 1, (1 << 24) - 1] {
                for generation in [0, 1, u32::MAX] {
                    let user_data = UserData { operation, index, generation };
                    assert_eq!(UserData::unpack(user_data.pack()), Some(user_data));
                }
            }
        }
    }

    #[test]
    fn foreign_bits_mean_nothing() {
        assert_eq!(UserData::unpack(0), None);
        assert_eq!(UserData::unpack(u64::MAX), None);
        assert_eq!(UserData::unpack(11 << 56), None);
    }
}
