//! Replays written-down exchanges: what the original answers to every endpoint and every command,
//! to good input and bad. `recording/http.txt` and `recording/commands.txt` say how they are
//! written; where ours differs on purpose, a line says so beside the original's answer.

use crate::support::client::{Client, Frame};
use crate::support::daemon::Daemon;
use crate::support::http::request;
use crate::support::matrix::check;

const HTTP: &str = include_str!("recording/http.txt");
const COMMANDS: &str = include_str!("recording/commands.txt");

/// The lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Text, or a JSON string where it has to be escaped.
fn text(written: &str) -> Vec<u8> {
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

/// One exchange: what is sent, the original's answer, and ours if it is another.
fn expected<'t>(daemon: &Daemon, theirs: &'t str, ours: Option<&'t str>) -> &'t str {
    ours.filter(|_| !daemon.is_original()).unwrap_or(theirs)
}

#[test]
fn http_answers_are_those_recorded() {
    let lines: Vec<_> = lines(HTTP).collect();
    check(&["--max-msg-size=100", "--max-body-size=1000"], |daemon| {
        let mut rest = lines.iter().copied().peekable();
        while let Some((number, line)) = rest.next() {
            let mut words = line.splitn(3, ' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            let body = words.next().map(text).unwrap_or_default();
            let (_, theirs) = rest.next().expect("an answer");
            let theirs = theirs.strip_prefix("= ").expect("an answer");
            let ours = rest.next_if(|(_, line)| line.starts_with("! ")).map(|(_, line)| &line[2..]);
            let reply = request(&daemon.http, method, target, &body);
            let seen = format!("{} {}", reply.status, reply.text());
            let wanted = expected(daemon, theirs, ours);
            assert!(
                agrees(wanted, seen.trim_end()),
                "line {number}: {line}\n  got {seen}\n  not {wanted}"
            );
        }
    });
}

#[test]
fn commands_are_answered_as_recorded() {
    let lines: Vec<_> = lines(COMMANDS).collect();
    check(&["--max-msg-size=100", "--max-body-size=1000"], |daemon| {
        let mut client = Client::connect(daemon);
        let mut rest = lines.iter().copied().peekable();
        while let Some((number, line)) = rest.next() {
            let (mark, what) = line.split_at_checked(2).unwrap_or((line, ""));
            match mark {
                "--" => client = Client::connect(daemon),
                "> " => match what.split_once(" | ") {
                    Some((command, body)) => client.command_with_body(command, &text(body)),
                    None => client.send(&[&text(what)[..], b"\n"].concat()),
                },
                "} " => client.send(&text(what)),
                "= " => {
                    let ours = rest.next_if(|(_, line)| line.starts_with("! "));
                    let wanted = expected(daemon, what, ours.map(|(_, line)| &line[2..]));
                    let seen = answer(&mut client);
                    assert!(
                        agrees(wanted, &seen),
                        "line {number}: {line}\n  got {seen}\n  not {wanted}"
                    );
                }
                _ => panic!("line {number}: {line}"),
            }
        }
    });
}

/// The next frame but heartbeats, as it is written down.
fn answer(client: &mut Client) -> String {
    loop {
        return match client.any_frame() {
            None => "closed".to_owned(),
            Some(Frame::Response(bytes)) if bytes == b"_heartbeat_" => continue,
            Some(Frame::Response(bytes)) => format!("response {}", String::from_utf8_lossy(&bytes)),
            Some(Frame::Error(error)) => format!("error {error}"),
            Some(Frame::Message(message)) => {
                let body = String::from_utf8_lossy(&message.body).into_owned();
                format!("message {} {body}", message.attempts)
            }
        };
    }
}
