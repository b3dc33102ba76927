//! Records, good and bad.
