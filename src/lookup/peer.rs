//! What an nsqd says of itself in IDENTIFY.

use crate::protocol::go_json;
use serde::Serialize;

/// An nsqd, as `/lookup` and `/nodes` show it: keys in NSQ's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The other end of its connection, `ip:port`.
    pub remote_address: String,
    /// Its host name.
    pub hostname: String,
    /// Where clients are to connect: a name or an address.
    pub broadcast_address: String,
    /// The port for clients; NSQ does not check that it is one.
    pub tcp_port: i64,
    /// The port of its HTTP API.
    pub http_port: i64,
    /// Its version.
    pub version: String,
    /// Where it is.
    pub topology_zone: String,
    /// Where that zone is.
    pub topology_region: String,
}

/// Why an IDENTIFY cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerFault {
    /// No JSON object, or a value of a wrong type.
    Undecodable,
    /// Address, version or a port is missing, empty or zero.
    MissingFields,
}

impl Peer {
    /// Decodes the body of an IDENTIFY.
    ///
    /// # Errors
    /// A [`PeerFault`].
    pub fn parse(body: &[u8], remote_address: &str) -> Result<Self, PeerFault> {
        let mut peer = Self::default();
        let set = |key: &str, value: &str| peer.set(key, value);
        go_json::read_object(body, set).ok_or(PeerFault::Undecodable)?;
        peer.remote_address = remote_address.to_owned();
        let named = !peer.broadcast_address.is_empty() && !peer.version.is_empty();
        let reachable = peer.tcp_port != 0 && peer.http_port != 0;
        if named && reachable { Ok(peer) } else { Err(PeerFault::MissingFields) }
    }

    /// Whether this is what `/topic/tombstone` calls a node: `address:http_port`. NSQ compares an
    /// IPv6 address without brackets, while its nsqadmin sends it with them: both are right here.
    pub fn is_node(&self, node: &[u8]) -> bool {
        let (address, port) = (&self.broadcast_address, self.http_port);
        node == format!("{address}:{port}").as_bytes()
            || address.contains(':') && node == format!("[{address}]:{port}").as_bytes()
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "remote_address" => self.remote_address = go_json::text(value)?,
            "hostname" => self.hostname = go_json::text(value)?,
            "broadcast_address" => self.broadcast_address = go_json::text(value)?,
            "tcp_port" => self.tcp_port = value.parse().ok()?,
            "http_port" => self.http_port = value.parse().ok()?,
            "version" => self.version = go_json::text(value)?,
            "topology_zone" => self.topology_zone = go_json::text(value)?,
            "topology_region" => self.topology_region = go_json::text(value)?,
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identify_is_decoded_as_go_decodes_it() {
        let body = br#"{"tcp_port":1,"HTTP_Port":4151,"tcp_port":4150,"hostname":"h","version":"v",
            "broadcast_address":"b","topology_zone":null,"unknown":[1],"remote_address":"forged"}"#;
        let peer = Peer::parse(body, "127.0.0.1:9").unwrap();
        let expected = Peer {
            remote_address: "127.0.0.1:9".to_owned(),
            hostname: "h".to_owned(),
            broadcast_address: "b".to_owned(),
            tcp_port: 4150,
            http_port: 4151,
            version: "v".to_owned(),
            ..Peer::default()
        };
        assert_eq!(peer, expected);
        let text = serde_json::to_string(&peer).unwrap();
        let keys = r#"{"remote_address":"127.0.0.1:9","hostname":"h","broadcast_address":"b","#;
        assert!(text.starts_with(keys), "{text}");
    }

    #[test]
    fn faulty_bodies_are_refused() {
        use PeerFault::{MissingFields, Undecodable};
        let cases: &[(&str, PeerFault)] = &[
            ("", Undecodable),
            ("[]", Undecodable),
            ("{}x", Undecodable),
            ("null", MissingFields),
            ("{}", MissingFields),
            (r#"{"broadcast_address":1}"#, Undecodable),
            (r#"{"tcp_port":"4150"}"#, Undecodable),
            (r#"{"tcp_port":1.5}"#, Undecodable),
            (r#"{"tcp_port":1e3}"#, Undecodable),
            (r#"{"tcp_port":9223372036854775808}"#, Undecodable),
            (r#"{"remote_address":{}}"#, Undecodable),
            (r#"{"broadcast_address":"","tcp_port":1,"http_port":1,"version":"v"}"#, MissingFields),
            (
                r#"{"broadcast_address":"b","tcp_port":0,"http_port":1,"version":"v"}"#,
                MissingFields,
            ),
            (r#"{"broadcast_address":"b","tcp_port":1,"version":"v"}"#, MissingFields),
            (r#"{"broadcast_address":"b","tcp_port":1,"http_port":1}"#, MissingFields),
        ];
        for (body, fault) in cases {
            assert_eq!(Peer::parse(body.as_bytes(), "a:1"), Err(*fault), "{body}");
        }
    }

    #[test]
    fn nodes_are_named_with_and_without_brackets() {
        let peer = |address: &str| Peer {
            broadcast_address: address.to_owned(),
            http_port: 4151,
            ..Peer::default()
        };
        assert!(peer("host").is_node(b"host:4151"));
        assert!(!peer("host").is_node(b"[host]:4151"));
        assert!(!peer("host").is_node(b"host:4150"));
        assert!(peer("fd4a::1").is_node(b"fd4a::1:4151"));
        assert!(peer("fd4a::1").is_node(b"[fd4a::1]:4151"));
    }
}
