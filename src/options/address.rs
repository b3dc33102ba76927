//! Where to listen: `host:port`, or the path of a unix socket.

use std::path::PathBuf;

/// A listening address. NSQ takes everything that is not `host:port` for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP. An empty host means every interface; IPv6 hosts come without their brackets.
    Tcp {
        /// Name or address.
        host: String,
        /// 0 for any free port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// The reason, when the text has the form `host:port` and the port is not a number below
    /// 65536.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((host, port)) = split_host_port(text) else {
            return Ok(Self::Unix(PathBuf::from(text)));
        };
        let port = match port {
            "" => Ok(0),
            port => port.parse().map_err(|_| format!("address {text}: invalid port")),
        }?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

/// Splits as Go's `net.SplitHostPort` does; `None` where that is an error.
pub fn split_host_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        let plain = !host.contains(['[', ']']) && !port.contains(['[', ']', ':']);
        return plain.then_some((host, port));
    }
    let (host, port) = text.rsplit_once(':')?;
    let plain = !host.contains([':', '[', ']']) && !port.contains(['[', ']']);
    plain.then_some((host, port))
}

/// Joins as Go's `net.JoinHostPort` does: IPv6 hosts get their brackets.
pub fn join_host_port(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h5_addresses_are_told_from_paths() {
        let tcp = |host: &str, port| Ok(ListenAddress::Tcp { host: host.to_owned(), port });
        let unix = |path: &str| Ok(ListenAddress::Unix(PathBuf::from(path)));
        let cases = [
            ("127.0.0.1:80", tcp("127.0.0.1", 80)),
            ("test:80", tcp("test", 80)),
            (":4150", tcp("", 4150)),
            ("[::1%lo0]:80", tcp("::1%lo0", 80)),
            ("/var/run/nsqd.sock", unix("/var/run/nsqd.sock")),
            ("nsqd.sock", unix("nsqd.sock")),
            ("::1", unix("::1")),
            ("test:http?", Err("address test:http?: invalid port".to_owned())),
        ];
        for (text, expected) in cases {
            assert_eq!(ListenAddress::parse(text), expected, "{text}");
        }
    }
}
