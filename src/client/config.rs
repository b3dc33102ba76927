//! Settings of consumers and producers, by field or by the names NSQ's utilities take in
//! `--consumer-opt` and `--producer-opt`.

mod keys;

use super::backoff::BackoffStrategy;
use super::error::Error;
use crate::options::hostname;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Settings with NSQ's defaults, but where noted. Change fields, or use [`set`](Self::set).
///
/// ```
/// use ringmain::client::Config;
/// let mut config = Config { max_in_flight: 200, snappy: true, ..Config::default() };
/// config.set("max_attempts", "10")?;
/// # Ok::<(), ringmain::client::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// For a connection to be made, TLS and NSQ's handshake included. Default 1 s for each.
    pub dial_timeout: Duration,
    /// A connection that is silent for longer is cut; heartbeats break the silence. Default 60 s.
    pub read_timeout: Duration,
    /// A connection that takes no bytes for longer is cut. Default 1 s.
    pub write_timeout: Duration,
    /// Source address, `host:port`.
    pub local_addr: Option<String>,
    /// How often lookup services are asked, and the longest wait before a lost nsqd is tried again.
    pub lookupd_poll_interval: Duration,
    /// Largest share of the interval by which the first repeated question is put off, 0 to 1, so
    /// that consumers started together do not ask together.
    pub lookupd_poll_jitter: f64,
    /// For one lookup service to answer.
    pub lookupd_poll_timeout: Duration,
    /// Longest automatic delay of a requeued message.
    pub max_requeue_delay: Duration,
    /// Automatic delay of a requeued message, times its attempts.
    pub default_requeue_delay: Duration,
    /// How pauses grow with failures.
    pub backoff_strategy: BackoffStrategy,
    /// Longest pause after failures; zero: failures do not slow the consumer down.
    pub max_backoff_duration: Duration,
    /// Unit of those pauses.
    pub backoff_multiplier: Duration,
    /// Deliveries after which a message is given up and finished; 0 for never.
    pub max_attempts: u16,
    /// With fewer messages allowed than there are nsqds: an nsqd that has its turn and sends
    /// nothing for this long loses it to the next. Otherwise: an nsqd that sent nothing for this
    /// long counts as idle. 100 ms, not NSQ's 10 s, which can leave messages waiting for minutes.
    pub low_rdy_idle_timeout: Duration,
    /// How long a busy nsqd keeps its turn while others wait: 1 s, not NSQ's 30 s.
    pub low_rdy_timeout: Duration,
    /// How often shares are taken from idle nsqds and given to busy ones.
    pub rdy_redistribute_interval: Duration,
    /// Shown in nsqd's statistics; the host's name up to the first dot.
    pub client_id: String,
    /// Shown in nsqd's statistics.
    pub hostname: String,
    /// Shown in nsqd's statistics.
    pub user_agent: String,
    /// Where this client runs: nsqds of one region are preferred by those that know of it.
    pub topology_region: String,
    /// Where this client runs, within its region.
    pub topology_zone: String,
    /// How often nsqd sends a heartbeat; `None` for never (producers only).
    pub heartbeat_interval: Option<Duration>,
    /// Share of messages to get, in percent; 0 for all.
    pub sample_rate: u8,
    /// Demand TLS; a connection to an nsqd without it fails.
    pub tls_v1: bool,
    /// TLS settings made by the caller; the `tls_…` fields below do not count then.
    pub tls_config: Option<Arc<rustls::ClientConfig>>,
    /// PEM file of the authorities to trust, instead of the machine's.
    pub tls_root_ca_file: Option<PathBuf>,
    /// PEM file with the certificate to present.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its key.
    pub tls_key: Option<PathBuf>,
    /// Take any certificate.
    pub tls_insecure_skip_verify: bool,
    /// Oldest TLS to speak: 1.2 or 1.3. (1.0 and 1.1, which NSQ would take, are never spoken.)
    pub tls_min_version: TlsMinVersion,
    /// Ask for DEFLATE.
    pub deflate: bool,
    /// 1 to 9.
    pub deflate_level: u8,
    /// Ask for snappy.
    pub snappy: bool,
    /// nsqd's buffer for this connection in bytes; `None` for no buffering.
    pub output_buffer_size: Option<u32>,
    /// How long nsqd may keep messages in that buffer; `None` for as long as it takes to fill.
    pub output_buffer_timeout: Option<Duration>,
    /// Messages a consumer may hold at a time, over all nsqds; 0 pauses it.
    pub max_in_flight: u32,
    /// How long a message may be held before nsqd gives it to somebody else; zero for nsqd's own
    /// setting.
    pub msg_timeout: Duration,
    /// Largest frame taken from nsqd in bytes; 0 for the library's limit of 256 MiB.
    pub max_msg_size: usize,
    /// Sent with AUTH when nsqd asks for it.
    pub auth_secret: String,
    /// Whether the secret is also sent to lookup services, as a bearer token. (NSQ's name for it,
    /// `skip_lookupd_authorization`, says the opposite.)
    pub lookupd_authorization: bool,
    /// How long a publish may wait for a connection, and then for its answer. Default 30 s.
    pub publish_timeout: Duration,
}

/// The oldest TLS a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMinVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Default for Config {
    fn default() -> Self {
        let hostname = hostname();
        Self {
            dial_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(1),
            local_addr: None,
            lookupd_poll_interval: Duration::from_secs(60),
            lookupd_poll_jitter: 0.3,
            lookupd_poll_timeout: Duration::from_secs(60),
            max_requeue_delay: Duration::from_secs(15 * 60),
            default_requeue_delay: Duration::from_secs(90),
            backoff_strategy: BackoffStrategy::Exponential,
            max_backoff_duration: Duration::from_secs(120),
            backoff_multiplier: Duration::from_secs(1),
            max_attempts: 5,
            low_rdy_idle_timeout: Duration::from_millis(100),
            low_rdy_timeout: Duration::from_secs(1),
            rdy_redistribute_interval: Duration::from_secs(5),
            client_id: hostname.split('.').next().unwrap_or_default().to_owned(),
            hostname,
            user_agent: concat!("ringmain/", env!("CARGO_PKG_VERSION")).to_owned(),
            topology_region: String::new(),
            topology_zone: String::new(),
            heartbeat_interval: Some(Duration::from_secs(30)),
            sample_rate: 0,
            tls_v1: false,
            tls_config: None,
            tls_root_ca_file: None,
            tls_cert: None,
            tls_key: None,
            tls_insecure_skip_verify: false,
            tls_min_version: TlsMinVersion::Tls12,
            deflate: false,
            deflate_level: 6,
            snappy: false,
            output_buffer_size: Some(16 * 1024),
            output_buffer_timeout: Some(Duration::from_millis(250)),
            max_in_flight: 1,
            msg_timeout: Duration::ZERO,
            max_msg_size: 0,
            auth_secret: String::new(),
            lookupd_authorization: true,
            publish_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Sets an option by NSQ's name, dashes or underscores, from text. Durations are Go's
    /// (`1m30s`) or whole milliseconds.
    ///
    /// # Errors
    /// [`Error::Setting`] for an unknown name, a value of another type, or one out of range.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        keys::set(self, name, value).map_err(|text| Error::Setting(text.into()))
    }

    /// Sets an option from the form NSQ's utilities take: `name,value`, or `name` for true.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_flag(&mut self, text: &str) -> Result<(), Error> {
        let (name, value) = text.split_once(',').unwrap_or((text, "true"));
        self.set(name, value)
    }

    /// Checks ranges, and settings that exclude each other.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let fault = keys::fault(self).or_else(|| {
            let too_long = self.heartbeat_interval.is_some_and(|beat| beat > self.read_timeout);
            too_long.then(|| "heartbeat_interval must not exceed read_timeout".to_owned())
        });
        fault.map_or(Ok(()), |text| Err(Error::Setting(text.into())))
    }

    /// Automatic delay of a message requeued after so many attempts.
    pub(super) fn requeue_delay(&self, attempts: u16) -> Duration {
        let delay = self.default_requeue_delay.saturating_mul(u32::from(attempts));
        delay.min(self.max_requeue_delay)
    }
}
