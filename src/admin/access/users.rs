//! The file of `--auth-file`: who may sign in, and with which role.
//!
//! ```toml
//! [[users]]
//! name = "ops"
//! password_sha256 = "…"   # or: password = "…"
//! role = "operate"        # or: view
//!
//! [[tokens]]
//! name = "dashboard"
//! token_sha256 = "…"      # or: token = "…"
//! role = "view"
//! ```
//!
//! Only digests stay in memory. They are compared in constant time, and always with all of them.

use super::Credentials;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use subtle::{Choice, ConstantTimeEq};

/// What somebody who has signed in may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::admin) enum Role {
    /// Look.
    View,
    /// Look, and change the cluster.
    Operate,
}

/// Everybody who may sign in.
pub(in crate::admin) struct Users {
    /// A user has a name to sign in with, a token has not.
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    is_token: bool,
    digest: [u8; 32],
    role: Role,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users and tokens", self.entries.len())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    tokens: Vec<Token>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    password: Option<String>,
    password_sha256: Option<String>,
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    name: String,
    token: Option<String>,
    token_sha256: Option<String>,
    role: Role,
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it, for the log; never a secret of it.
    pub(in crate::admin) fn read(path: &str) -> Result<Self, String> {
        let unreadable = |reason: String| format!("failed to read --auth-file ({path}) - {reason}");
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o004 != 0 {
            tracing::warn!("--auth-file {path} can be read by everybody on this machine");
        }
        Self::parse(&text).map_err(unreadable)
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The parser's own text would show lines of the file.
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut entries = Vec::new();
        for user in file.users {
            let digest = digest_of(user.password, user.password_sha256.as_deref());
            let digest = digest.map_err(|reason| format!("user {}: {reason}", user.name))?;
            entries.push(Entry { name: user.name, is_token: false, digest, role: user.role });
        }
        for token in file.tokens {
            let digest = digest_of(token.token, token.token_sha256.as_deref());
            let digest = digest.map_err(|reason| format!("token {}: {reason}", token.name))?;
            entries.push(Entry { name: token.name, is_token: true, digest, role: token.role });
        }
        if entries.is_empty() {
            return Err("it names nobody, so nobody could sign in".to_owned());
        }
        Ok(Self { entries })
    }

    /// The name and role behind these credentials, if they are right.
    pub(in crate::admin) fn find(&self, credentials: &Credentials) -> Option<(String, Role)> {
        let (name, secret) = match credentials {
            Credentials::Password(name, secret) => (Some(name.as_str()), secret),
            Credentials::Token(secret) => (None, secret),
        };
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let mut found = None;
        for entry in &self.entries {
            let kind = Choice::from(u8::from(entry.is_token == name.is_none()));
            let named = name.map_or(Choice::from(1), |n| n.as_bytes().ct_eq(entry.name.as_bytes()));
            if bool::from(kind & named & entry.digest.ct_eq(&digest)) {
                found = Some((entry.name.clone(), entry.role));
            }
        }
        found
    }
}

/// The digest of a secret that stands in the file as it is, or as its digest in hex.
fn digest_of(plain: Option<String>, hex: Option<&str>) -> Result<[u8; 32], &'static str> {
    match (plain, hex) {
        (Some(plain), None) if !plain.is_empty() => Ok(Sha256::digest(plain).into()),
        (None, Some(hex)) if hex.len() == 64 && hex.is_ascii() => {
            let mut digest = [0; 32];
            for (byte, index) in digest.iter_mut().zip((0..64).step_by(2)) {
                *byte = u8::from_str_radix(&hex[index..index + 2], 16)
                    .map_err(|_| "a SHA-256 in hex has 64 digits")?;
            }
            Ok(digest)
        }
        (None, Some(_)) => Err("a SHA-256 in hex has 64 digits"),
        _ => Err("exactly one secret is needed: as it is, or its SHA-256"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(name: &str, secret: &str) -> Credentials {
        Credentials::Password(name.to_owned(), secret.as_bytes().to_vec())
    }

    #[test]
    fn users_and_tokens_are_found_by_their_secrets() {
        let text = "[[users]]\nname = \"ops\"\npassword = \"s\"\nrole = \"operate\"\n\
            [[tokens]]\nname = \"board\"\nrole = \"view\"\n\
            token_sha256 = \"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\"\n";
        let users = Users::parse(text).unwrap();
        assert_eq!(users.find(&password("ops", "s")), Some(("ops".to_owned(), Role::Operate)));
        let token = Credentials::Token(b"foo".to_vec());
        assert_eq!(users.find(&token), Some(("board".to_owned(), Role::View)));
        for wrong in [
            password("ops", "S"),
            password("op", "s"),
            password("board", "foo"),
            Credentials::Token(b"s".to_vec()),
        ] {
            assert_eq!(users.find(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn faulty_files_are_refused_without_their_secrets() {
        let user = "[[users]]\nname = \"a\"\nrole = \"view\"\n";
        for text in [
            "",
            user,
            &format!("{user}password = \"\""),
            &format!("{user}password_sha256 = \"12\""),
            &format!("{user}password = \"hush\"\npassword_sha256 = \"12\""),
            &format!("{user}passwort = \"hush\""),
            "[[users]]\nname = \"a\"\npassword = \"hush\"\nrole = \"god\"\n",
        ] {
            let reason = Users::parse(text).unwrap_err();
            assert!(!reason.contains("hush"), "{reason}");
        }
    }
}
