//! An auth server of our own: gives each secret the answer a test chose, and tells who asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The secret that is never answered.
pub(crate) const SILENCE: &str = "silence";

/// A running server. Its threads end with the process.
pub(crate) struct AuthServer {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    asks: Sender<Ask>,
}

/// One question as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) method: String,
    pub(crate) remote_ip: String,
    pub(crate) tls: String,
    pub(crate) common_name: String,
    pub(crate) secret: String,
}

/// What a test wants of the server's one owner, and what its sockets report.
enum Ask {
    Asked(Question, Sender<Option<String>>),
    Answer(String, String),
    Look(Sender<Vec<Question>>),
}

impl AuthServer {
    /// Starts one that answers these secrets with these documents, and others with none.
    pub(crate) fn start(answers: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (asks, inbox) = channel();
        let own = |(secret, answer): &(&str, &str)| ((*secret).to_owned(), (*answer).to_owned());
        let answers: HashMap<_, _> = answers.iter().map(own).collect();
        thread::spawn(move || serve(answers, &inbox));
        let events = asks.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let events = events.clone();
                thread::spawn(move || speak(stream, &events));
            }
        });
        Self { address, asks }
    }

    /// From now on this is the answer to a secret.
    pub(crate) fn answer(&self, secret: &str, document: &str) {
        self.tell(Ask::Answer(secret.to_owned(), document.to_owned()));
    }

    /// The questions with a secret so far.
    pub(crate) fn questions(&self, secret: &str) -> Vec<Question> {
        let (asker, answer) = channel();
        self.tell(Ask::Look(asker));
        let mut questions = answer.recv().expect("the server runs");
        questions.retain(|question| question.secret == secret);
        questions
    }

    fn tell(&self, ask: Ask) {
        self.asks.send(ask).unwrap_or_else(|_| panic!("the server has ended"));
    }
}

fn serve(mut answers: HashMap<String, String>, inbox: &Receiver<Ask>) {
    let (mut asked, mut waiting) = (Vec::new(), Vec::new());
    for ask in inbox {
        match ask {
            Ask::Asked(question, asker) if question.secret == SILENCE => {
                asked.push(question);
                waiting.push(asker);
            }
            Ask::Asked(question, asker) => {
                let answer = answers.get(&question.secret).cloned();
                asked.push(question);
                asker.send(answer).unwrap_or_default();
            }
            Ask::Answer(secret, document) => {
                answers.insert(secret, document);
            }
            // The test may have given up.
            Ask::Look(asker) => asker.send(asked.clone()).unwrap_or_default(),
        }
    }
}

/// One request and its answer; `None` when the daemon went away.
fn speak(stream: TcpStream, asks: &Sender<Ask>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut body_bytes = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(length) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            body_bytes = length.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; body_bytes];
    stream.read_exact(&mut body).ok()?;
    let question = Question::parse(&line, &body)?;
    let (asker, answer) = channel();
    asks.send(Ask::Asked(question, asker)).ok()?;
    let (status, text) = match answer.recv().ok()? {
        Some(document) => ("200 OK", document),
        None => ("403 Forbidden", "{}".to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}", text.len());
    stream.get_mut().write_all(format!("{head}\r\n\r\n{text}").as_bytes()).ok()
}

impl Question {
    fn parse(line: &str, body: &[u8]) -> Option<Self> {
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let fields: HashMap<String, String> = if method == "POST" {
            let form: HashMap<String, Vec<String>> = serde_json::from_slice(body).ok()?;
            form.into_iter().filter_map(|(name, mut values)| Some((name, values.pop()?))).collect()
        } else {
            let (_, query) = target.split_once('?')?;
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let field = |name: &str| fields.get(name).cloned();
        Some(Self {
            remote_ip: field("remote_ip")?,
            tls: field("tls")?,
            common_name: field("common_name")?,
            secret: field("secret")?,
            method,
        })
    }
}
