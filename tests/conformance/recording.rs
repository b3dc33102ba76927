//! Replays written-down exchanges: what the original answers to every endpoint and every command,
//! to good input and bad. `recording/README.md` says how they are written; where ours differs on
//! purpose, a line says so beside the original's answer.

use crate::support::auth_server::AuthServer;
use crate::support::certificates::{CERTIFICATES, Shown};
use crate::support::client::{Client, Frame};
use crate::support::daemon::Daemon;
use crate::support::http::{Reply, exchange, request, request_over_tls};
use crate::support::matrix::check;
use std::collections::VecDeque;
use std::io::ErrorKind::UnexpectedEof;
use std::io::{self, Write};
use std::net::Shutdown;

/// A line that says something, and its number.
type Line<'t> = (usize, &'t str);

#[test]
fn http_answers_are_those_recorded() {
    replay(include_str!("recording/http.txt"));
}

#[test]
fn options_are_shown_as_recorded() {
    replay(include_str!("recording/config.txt"));
}

#[test]
fn commands_are_answered_as_recorded() {
    replay(include_str!("recording/commands.txt"));
}

#[test]
fn layers_are_negotiated_as_recorded() {
    replay(include_str!("recording/layers.txt"));
}

#[test]
fn auth_is_answered_as_recorded() {
    replay(include_str!("recording/auth.txt"));
}

/// Plays each part of a recording on daemons with the flags that start it.
fn replay(recording: &str) {
    let numbered = recording.lines().enumerate().map(|(index, line)| (index + 1, line));
    let lines = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let (grants, lines): (Vec<Line<'_>>, Vec<_>) = lines.partition(|(_, l)| l.starts_with("+ "));
    let grants = grants.iter().map(|(_, line)| line[2..].split_once(' ').expect("a document"));
    let auth = AuthServer::start(&grants.collect::<Vec<_>>());
    for part in lines.chunk_by(|_, (_, next)| !next.starts_with('@')) {
        let (first, rest) = part.split_first().expect("chunks are not empty");
        let flags = first.1.strip_prefix('@').expect("flags come first").split_whitespace();
        let flags: Vec<_> = flags.flat_map(|flag| named(flag, &auth)).collect();
        check(&flags.iter().map(String::as_str).collect::<Vec<_>>(), |daemon| {
            let wrong = Player::new(daemon).play(rest);
            assert!(wrong.is_empty(), "with {flags:?}:\n{}", wrong.join("\n"));
        });
    }
}

/// A flag, or those that a name stands for.
fn named(flag: &str, auth: &AuthServer) -> Vec<String> {
    match flag {
        "{certificate}" => CERTIFICATES.flags(&[]),
        "{root}" => vec![CERTIFICATES.root_flag()],
        "{auth}" => vec![format!("--auth-http-address={}", auth.address)],
        flag => vec![flag.to_owned()],
    }
}

/// Text, or a JSON string where it has to be escaped, or `*N TEXT`: N times the same.
fn text(written: &str) -> Vec<u8> {
    if let Some(repeated) = written.strip_prefix('*') {
        let (count, piece) = repeated.split_once(' ').expect("what to repeat");
        return piece.repeat(count.parse().expect("a count")).into_bytes();
    }
    if !written.starts_with('"') {
        return written.as_bytes().to_vec();
    }
    let text: String = serde_json::from_str(written).expect("a JSON string");
    // Bytes that are no text are written as the characters of their numbers.
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect()
}

/// Whether an answer is what is written, of which `…` stands for anything.
fn agrees(written: &str, seen: &str) -> bool {
    let mut parts = written.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = seen.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// Who a client of TLS shows to be, as it is written.
fn shown(written: &str) -> Shown {
    match written {
        "nobody" => Shown::Nothing,
        "signed" => Shown::Signed,
        "unrelated" => Shown::Unrelated,
        _ => panic!("{written} is nobody"),
    }
}

/// One daemon, and what has been going on with it.
struct Player<'d> {
    daemon: &'d Daemon,
    /// The latest is the one that speaks.
    clients: Vec<Client>,
    /// Answers that have come and were not looked at.
    answers: VecDeque<String>,
    reply: Option<Reply>,
    /// Id of the message that came last.
    id: String,
}

impl<'d> Player<'d> {
    fn new(daemon: &'d Daemon) -> Self {
        Self { daemon, clients: vec![], answers: VecDeque::new(), reply: None, id: String::new() }
    }

    /// Says where the answers are others.
    fn play(&mut self, lines: &[Line<'_>]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut rest = lines.iter().copied().peekable();
        while let Some((number, line)) = rest.next() {
            if let Some(theirs) = line.strip_prefix("= ") {
                let ours = rest.next_if(|(_, line)| line.starts_with("! "));
                let ours = ours.filter(|_| !self.daemon.is_original()).map(|(_, line)| &line[2..]);
                let (wanted, seen) = (ours.unwrap_or(theirs), self.answer());
                if !agrees(&wanted.replace("{id}", &self.id), &seen) {
                    wrong.push(format!("line {number}:\n  not {wanted}\n  but {seen}"));
                }
            } else if let Some(header) = line.strip_prefix(": ") {
                let (name, wanted) = header.split_once(": ").expect("a value");
                let seen = self.reply.as_ref().expect("a reply").header(name).unwrap_or("none");
                if !agrees(wanted, seen) {
                    wrong.push(format!("line {number}: {name}\n  not {wanted}\n  but {seen}"));
                }
            } else {
                self.act(line);
            }
        }
        wrong
    }

    fn act(&mut self, line: &str) {
        let line = &line.replace("{id}", &self.id);
        let (mark, what) = line.split_at_checked(2).expect("a mark");
        match mark {
            "--" => {
                if what != " more" {
                    self.clients.clear();
                }
                self.clients.push(match what {
                    " silent" => Client::raw(&self.daemon.tcp),
                    _ => Client::connect(self.daemon),
                });
            }
            "> " => match what.split_once(" | ") {
                Some((command, body)) => self.client().command_with_body(command, &text(body)),
                None => self.client().send(&[&text(what)[..], b"\n"].concat()),
            },
            "} " => self.client().send(&text(what)),
            "~ " => self.layer(what),
            "^ " => self.replied(exchange(&self.daemon.http, &text(what))),
            _ => self.ask(line),
        }
    }

    fn client(&mut self) -> &mut Client {
        self.clients.last_mut().expect("a connection")
    }

    /// What happens below the commands.
    fn layer(&mut self, what: &str) {
        let client = self.clients.last_mut().expect("a connection");
        match what.split_once(' ').unwrap_or((what, "nobody")) {
            ("end", _) => client.shutdown(Shutdown::Write),
            ("raw", bytes) => client.stream.raw.write_all(&text(bytes)).expect("it reads"),
            ("snappy", _) => client.stream.start_snappy(),
            ("deflate", _) => client.stream.start_deflate(),
            ("tls", who) => {
                let config = CERTIFICATES.client(shown(who));
                client.stream.start_tls(config).expect("a handshake");
            }
            ("vain-tls", who) => {
                // The daemon says why beside TLS, not within.
                let told = client.stream.shake_in_vain(CERTIFICATES.client(shown(who)));
                self.answers.push_back(match Frame::read(&mut &told[..]) {
                    Ok(Some(frame)) => written(&frame),
                    other => format!("{other:?}"),
                });
            }
            _ => panic!("layer {what}"),
        }
    }

    /// `METHOD target body`, after `https WHO` where it goes over TLS.
    fn ask(&mut self, line: &str) {
        let secretly = line.strip_prefix("https ").and_then(|rest| rest.split_once(' '));
        let (who, line) = secretly.map_or((None, line), |(who, line)| (Some(who), line));
        let mut words = line.splitn(3, ' ');
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        let body = words.next().map(text).unwrap_or_default();
        let reply = match who {
            None => Ok(request(&self.daemon.http, method, target, &body)),
            Some(who) => {
                let https = self.daemon.https();
                request_over_tls(&https, shown(who), method, target, &body)
            }
        };
        self.replied(reply);
    }

    fn replied(&mut self, reply: io::Result<Reply>) {
        self.answers.push_back(match &reply {
            Ok(reply) => {
                let text = String::from_utf8_lossy(&reply.body);
                format!("{} {text}", reply.status).trim_end().to_owned()
            }
            Err(_) => "refused".to_owned(),
        });
        self.reply = reply.ok();
    }

    /// The next answer but heartbeats, as it is written down.
    fn answer(&mut self) -> String {
        if let Some(answer) = self.answers.pop_front() {
            return answer;
        }
        let is_original = self.daemon.is_original();
        loop {
            return match Frame::read(&mut self.client().stream) {
                Ok(None) => "closed".to_owned(),
                // It does not announce the end of TLS.
                Err(e) if is_original && e.kind() == UnexpectedEof => "closed".to_owned(),
                Err(error) => panic!("no frame came: {error}"),
                Ok(Some(Frame::Response(bytes))) if bytes == b"_heartbeat_" => continue,
                Ok(Some(frame)) => {
                    if let Frame::Message(message) = &frame {
                        self.id.clone_from(&message.id);
                    }
                    written(&frame)
                }
            };
        }
    }
}

fn written(frame: &Frame) -> String {
    match frame {
        Frame::Response(bytes) => format!("response {}", String::from_utf8_lossy(bytes)),
        Frame::Error(error) => format!("error {error}"),
        Frame::Message(message) => {
            format!("message {} {}", message.attempts, String::from_utf8_lossy(&message.body))
        }
    }
}
