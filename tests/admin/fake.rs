//! An nsqd or nsqlookupd that says whatever a test wants, or nothing at all.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A running fake; its threads end with the process.
pub(super) struct Fake {
    /// `host:port`.
    pub(super) address: String,
    requests: Receiver<String>,
}

impl Fake {
    /// Answers each path (without its query) with its document, and others with 404.
    pub(super) fn start(documents: &[(&str, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let documents: HashMap<String, String> =
            documents.iter().map(|(path, text)| ((*path).to_owned(), text.clone())).collect();
        let (sender, requests) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (documents, sender) = (documents.clone(), sender.clone());
                thread::spawn(move || serve(stream, &documents, &sender));
            }
        });
        Self { address, requests }
    }

    /// Accepts connections and never says a word.
    pub(super) fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (sender, requests) = channel();
        thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().flatten() {
                open.push((stream, sender.clone()));
            }
        });
        Self { address, requests }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.rsplit_once(':').expect("host:port").1.parse().expect("a port")
    }

    /// The next request with its body, as text.
    pub(super) fn request(&self) -> String {
        let patience = crate::support::wait::PATIENCE;
        self.requests.recv_timeout(patience).expect("a request")
    }
}

/// One request per connection.
fn serve(mut stream: TcpStream, documents: &HashMap<String, String>, seen: &Sender<String>) {
    let mut input = BufReader::new(stream.try_clone().expect("a socket"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head).unwrap_or_default() == 0 {
            return;
        }
    }
    let length = head.to_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok())
    });
    let mut body = vec![0; length.unwrap_or_default()];
    if input.read_exact(&mut body).is_err() {
        return;
    }
    seen.send(format!("{head}{}", String::from_utf8_lossy(&body))).unwrap_or_default();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let (status, text) = match documents.get(path) {
        Some(text) => ("200 OK", text.as_str()),
        None => ("404 Not Found", "{\"message\":\"NOT_FOUND\"}"),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", text.len());
    let head = format!("{head}Content-Type: application/json\r\nConnection: close\r\n\r\n");
    // The other side may have gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
}
