//! What the daemon decides: topics, channels, sessions, deliveries. Pure: no socket, file, clock,
//! thread or randomness; time and seeds are arguments, effects leave as values.

pub mod admin;
