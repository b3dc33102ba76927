//! Whole TLS connections and both compressions, in memory.
