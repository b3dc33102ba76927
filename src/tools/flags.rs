//! Flags that several utilities have, and what is refused of them.

use crate::client::{Config, Consumer, ConsumerBuilder, Error};
use crate::options::{Exit, VERSION, refuse};

/// The version of NSQ's own client library whose behaviour utilities announce in their user agent.
const CLIENT_VERSION: &str = "1.1.0";

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub(super) struct Sources {
    /// address of an nsqd, host:port (repeatable)
    #[arg(long)]
    pub(super) nsqd_tcp_address: Vec<String>,
    /// HTTP address of an nsqlookupd (repeatable)
    #[arg(long)]
    pub(super) lookupd_http_address: Vec<String>,
    /// setting of the consumer, name,value (repeatable)
    #[arg(long, value_parser = client_option)]
    pub(super) consumer_opt: Vec<String>,
}

impl Sources {
    /// Exactly one kind of address has to be there. `end`: what the first text ends with.
    pub(super) fn check(&self, end: &str) -> Result<(), Exit> {
        match (self.nsqd_tcp_address.is_empty(), self.lookupd_http_address.is_empty()) {
            (true, true) => {
                let text = "--nsqd-tcp-address or --lookupd-http-address required";
                Err(refuse(&format!("{text}{end}")))
            }
            (false, false) => {
                Err(refuse("use --nsqd-tcp-address or --lookupd-http-address not both"))
            }
            _ => Ok(()),
        }
    }

    /// Settings of a consumer of this program.
    pub(super) fn config(&self, program: &str, max_in_flight: u32) -> Result<Config, Error> {
        let mut config = Config { user_agent: user_agent(program), ..Config::default() };
        apply(&mut config, &self.consumer_opt)?;
        config.max_in_flight = max_in_flight;
        Ok(config)
    }

    /// A consumer of these sources, to be connected.
    pub(super) fn consumer(&self, topic: &str, channel: &str, config: Config) -> ConsumerBuilder {
        let consumer = Consumer::new(topic, channel).config(config);
        let consumer = self.nsqd_tcp_address.iter().fold(consumer, |c, address| c.nsqd(address));
        self.lookupd_http_address.iter().fold(consumer, |c, address| c.lookupd(address))
    }
}

/// What a utility calls itself in IDENTIFY.
pub(super) fn user_agent(program: &str) -> String {
    format!("{program}/{VERSION} go-nsq/{CLIENT_VERSION}")
}

/// Applies `--consumer-opt` or `--producer-opt`.
pub(super) fn apply(config: &mut Config, options: &[String]) -> Result<(), Error> {
    options.iter().try_for_each(|option| config.set_flag(option))
}

/// Reads one of those: what is wrong with it is wrong with the flag.
pub(super) fn client_option(text: &str) -> Result<String, String> {
    let checked = Config::default().set_flag(text);
    checked.map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// Reads a whole number of messages.
pub(super) fn count(text: &str) -> Result<u32, String> {
    crate::options::value::integer(text)
}
