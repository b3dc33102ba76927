//! Auth servers: asked over HTTP or HTTPS what a client may do.
//!
//! Each client's question is a task of its own, so that a server that is slow or gone delays only
//! the clients that wait for it; it ends with its client. What a server grants is kept by who
//! asked, for as long as it said.

use super::http_client;
use super::response;
use super::shards::Shards;
use super::state::Control;
use crate::broker::admin::{AdminRequest, ShardIndex};
use crate::broker::grant::{AuthQuestion, Grant, Patterns};
use crate::broker::session::SessionKey;
use crate::http::requests::HttpClient;
use crate::limits::{AUTH_AT_ONCE_MAX, AUTH_QUESTIONS_MAX};
use crate::options::Options;
use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use std::borrow::Cow;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::sleep;

/// Asks the auth servers of `--auth-http-address`.
pub struct AuthServers {
    addresses: Vec<String>,
    posts: bool,
    http: HttpClient,
    patterns: Mutex<Patterns>,
    turns: Semaphore,
}

/// What a shard wants to know.
#[derive(Debug)]
pub struct AuthMail {
    /// The shard, which gets the answer by mail.
    pub shard: ShardIndex,
    /// For whom.
    pub session: SessionKey,
    /// The client's address, for the log.
    pub remote_address: Box<str>,
    /// What to ask.
    pub question: Box<AuthQuestion>,
    /// Ends when the client is gone: nobody wants the answer then.
    pub gone: oneshot::Receiver<Infallible>,
}

/// The way of shards' questions to the control thread.
pub type AuthInbox = mpsc::Sender<AuthMail>;

/// The auth servers with the end of the way to them.
pub type Desk = (AuthServers, mpsc::Receiver<AuthMail>);

/// The way to the auth servers that the options name, and its end; none when they name none.
///
/// # Errors
/// NSQ's text, when `--tls-root-ca-file` cannot be used.
pub fn servers(options: &Options) -> Result<(Option<AuthInbox>, Option<Desk>), String> {
    let Some(servers) = AuthServers::new(options)? else { return Ok((None, None)) };
    let (inbox, questions) = mpsc::channel(AUTH_QUESTIONS_MAX);
    Ok((Some(inbox), Some((servers, questions))))
}

/// Time between two attempts to tell a shard that does not take mail.
const ANSWER_RETRY: Duration = Duration::from_millis(100);

/// Answers shards as long as there are any.
pub(super) async fn serve(
    servers: AuthServers,
    control: Arc<Control>,
    mut questions: mpsc::Receiver<AuthMail>,
) {
    let servers = Arc::new(servers);
    while let Some(mail) = questions.recv().await {
        let (servers, control) = (Arc::clone(&servers), Arc::clone(&control));
        tokio::spawn(async move {
            let AuthMail { shard, session, remote_address, question, gone } = mail;
            let answer = async {
                let grant = servers.ask(&question).await;
                if let Err(reason) = &grant {
                    tracing::warn!("PROTOCOL(V2): [{remote_address}] AUTH failed {reason}");
                }
                tell(&control.shards, shard, session, grant.ok()).await;
            };
            tokio::select! {
                () = answer => {}
                _ = gone => {}
            }
        });
    }
}

/// Brings an answer to its shard, however long that takes.
async fn tell(shards: &Shards, shard: ShardIndex, session: SessionKey, grant: Option<Grant>) {
    let request = || AdminRequest::Authorize { session, grant: grant.clone().map(Box::new) };
    while shards.post(shard, request()).await.is_err() {
        sleep(ANSWER_RETRY).await;
    }
}

/// The question as the body of a POST: Go's form values, each a list.
#[derive(Serialize)]
struct Form<'a> {
    common_name: [&'a str; 1],
    remote_ip: [&'a str; 1],
    secret: [Cow<'a, str>; 1],
    tls: [&'static str; 1],
}

impl AuthServers {
    /// Reads the options; `None` when there is no auth server.
    ///
    /// # Errors
    /// NSQ's text, when `--tls-root-ca-file` cannot be used.
    pub fn new(options: &Options) -> Result<Option<Self>, String> {
        let addresses = options.auth_http_addresses.clone();
        if addresses.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            addresses,
            posts: options.auth_http_request_method == "post",
            http: http_client::with_tls(options)?,
            patterns: Mutex::default(),
            turns: Semaphore::new(AUTH_AT_ONCE_MAX),
        }))
    }

    /// Asks one server after the other, beginning with any of them, until one answers validly.
    ///
    /// # Errors
    /// Why none did. It is for the log: clients are only told that AUTH has failed.
    pub async fn ask(&self, question: &AuthQuestion) -> Result<Grant, String> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let count = self.addresses.len();
        let start = usize::try_from(RandomState::new().hash_one(0) % count as u64).unwrap_or(0);
        let mut reasons = Vec::new();
        for address in self.addresses.iter().cycle().skip(start).take(count) {
            match self.ask_one(address, question).await {
                Ok(grant) => return Ok(grant),
                Err(reason) => {
                    reasons.push(format!("failed to auth against {address} - {reason}"));
                }
            }
        }
        Err(reasons.join("; "))
    }

    async fn ask_one(&self, address: &str, question: &AuthQuestion) -> Result<Grant, String> {
        let is_url = address.contains("://");
        let url = if is_url { address.to_owned() } else { format!("http://{address}/auth") };
        let answer = if self.posts {
            http_client::answer(&self.http, Method::POST, &url, question.form().into()).await?
        } else {
            let url = format!("{url}?{}", question.query());
            http_client::answer(&self.http, Method::GET, &url, Bytes::new()).await?
        };
        Grant::parse(&answer, &mut *self.patterns.lock().await)
    }
}

impl AuthQuestion {
    fn tls(&self) -> &'static str {
        if self.tls { "true" } else { "false" }
    }

    /// As the query of a URL, names in alphabetical order.
    fn query(&self) -> String {
        let fields = [
            ("common_name", self.common_name.as_bytes()),
            ("remote_ip", self.remote_ip.as_bytes()),
            ("secret", &self.secret),
            ("tls", self.tls().as_bytes()),
        ];
        fields.map(|(name, value)| format!("{name}={}", escaped(value))).join("&")
    }

    fn form(&self) -> Vec<u8> {
        response::json(&Form {
            common_name: [&self.common_name],
            remote_ip: [&self.remote_ip],
            secret: [String::from_utf8_lossy(&self.secret)],
            tls: [self.tls()],
        })
    }
}

/// A value as HTML forms have it.
fn escaped(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(*byte));
            }
            b' ' => text.push('+'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests;
