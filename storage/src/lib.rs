//! The segmented append-only log: knows bytes, not NSQ.
