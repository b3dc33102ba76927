//! Query parameters, read as strictly as Go reads them.

use super::body;
use super::response::{Fault, INVALID_REQUEST};
use crate::protocol::name::{ChannelName, TopicName};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, Uri};

/// The parameters of a request, in order. Values are bytes: a name is checked when it is asked
/// for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    /// Reads a URL's query string.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for an escape that is none, or a `;`.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Fault> {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            if pair.contains(';') {
                return None;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name, b' ')?, unescape(value, b' ')?))
        });
        pairs.collect::<Option<_>>().map(Self).ok_or(INVALID_REQUEST)
    }

    /// The first value of a parameter.
    pub(crate) fn value(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(found, _)| found == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// The topic's bytes, whatever they are.
    ///
    /// # Errors
    /// `MISSING_ARG_TOPIC`.
    pub(crate) fn topic_bytes(&self) -> Result<&[u8], Fault> {
        self.value("topic").ok_or(Fault(StatusCode::BAD_REQUEST, "MISSING_ARG_TOPIC"))
    }

    /// The topic; which text an invalid name has depends on the endpoint.
    pub(crate) fn topic(&self, invalid: &'static str) -> Result<TopicName, Fault> {
        TopicName::parse(self.topic_bytes()?).map_err(|_| Fault(StatusCode::BAD_REQUEST, invalid))
    }

    /// Topic and channel, checked in NSQ's order.
    pub(crate) fn topic_and_channel(&self) -> Result<(TopicName, ChannelName), Fault> {
        let topic = self.topic("INVALID_ARG_TOPIC")?;
        let missing = Fault(StatusCode::BAD_REQUEST, "MISSING_ARG_CHANNEL");
        let channel = ChannelName::parse(self.value("channel").ok_or(missing)?)
            .map_err(|_| Fault(StatusCode::BAD_REQUEST, "INVALID_ARG_CHANNEL"))?;
        Ok((topic, channel))
    }

    /// A switch as NSQ reads one: `None` when the text is not one of its four words.
    pub(crate) fn switch(value: &[u8]) -> Option<bool> {
        match value {
            b"true" | b"1" => Some(true),
            b"false" | b"0" => Some(false),
            _ => None,
        }
    }
}

/// The parameters of a request whose body means nothing: it is read and forgotten.
pub(crate) struct Parameters(pub(crate) Query);

impl<S: Sync> FromRequest<S> for Parameters {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let query = Query::of(request.uri());
        body::discard(request.into_body()).await;
        Ok(Self(query?))
    }
}

/// Resolves `%xx` in a path; `None` when an escape is malformed.
pub(crate) fn unescape_path(text: &str) -> Option<Vec<u8>> {
    unescape(text, b'+')
}

/// Resolves `%xx`, and replaces `+` by what it stands for.
fn unescape(text: &str, plus: u8) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let value = digit(bytes.next())? << 4 | digit(bytes.next())?;
                u8::try_from(value).ok()?
            }
            b'+' => plus,
            byte => byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &'static str) -> Result<Query, Fault> {
        Query::of(&Uri::from_static(text))
    }

    #[test]
    fn parameters_are_unescaped_and_the_first_wins() {
        let query = query("/x?topic=a%2eb&&topic=c&empty=&bare&p=1+2%2B3").unwrap();
        assert_eq!(query.value("topic"), Some(&b"a.b"[..]));
        assert_eq!(query.value("empty"), Some(&b""[..]));
        assert_eq!(query.value("bare"), Some(&b""[..]));
        assert_eq!(query.value("p"), Some(&b"1 2+3"[..]));
        assert_eq!(query.value("absent"), None);
    }

    #[test]
    fn malformed_queries_are_refused() {
        for text in ["/x?a=%zz", "/x?a=%2", "/x?%=1", "/x?a;b=1", "/x?topic=a&b=%+1"] {
            assert_eq!(query(text), Err(INVALID_REQUEST), "{text}");
        }
    }
}
