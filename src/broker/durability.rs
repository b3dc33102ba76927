//! What `OK` promises of a message: the four levels, by what survives.

use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What a publish to a topic promises when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The message is queued in memory, and nowhere else.
    Memory,
    /// It is queued in memory, or written to the log past the high-water mark (what nsqd does).
    #[default]
    Overflow,
    /// It is written to the log: it survives the end of the process.
    Logged,
    /// It is on stable storage: it survives the end of the power.
    Synced,
}

impl Durability {
    /// As in `--durability` and `/stats`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Overflow => "overflow",
            Self::Logged => "logged",
            Self::Synced => "synced",
        }
    }

    /// Whether every message is written before it is acknowledged.
    pub const fn writes_all(self) -> bool {
        matches!(self, Self::Logged | Self::Synced)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let levels = [Self::Memory, Self::Overflow, Self::Logged, Self::Synced];
        let found = levels.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| {
            format!("{text:?} is no durability level: use memory, overflow, logged or synced")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        let levels =
            [Durability::Memory, Durability::Overflow, Durability::Logged, Durability::Synced];
        assert!(levels.is_sorted(), "each promises at least what the one before does");
        for level in levels {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        let error = "Synced".parse::<Durability>().unwrap_err();
        assert!(error.contains("\"Synced\"") && error.contains("memory, overflow"), "{error}");
    }
}
