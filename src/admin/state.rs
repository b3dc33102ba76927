//! What all requests to nsqadmin share.

use super::access::Users;
use super::cluster::{Cluster, Sources};
use super::flags::{AdminOptions, allowed_network};
use super::live::Live;
use super::notify::Notifier;
use crate::client::Config;
use crate::client::tls;
use crate::http::requests::{HttpClient, RequestLimits};
use crate::limits::ADMIN_ANSWER_BYTES_MAX;
use crate::log::LogFilter;
use crate::options::read_roots;
use ipnet::IpNet;
use rustls::ClientConfig;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// Shared by all requests.
#[derive(Debug)]
pub(super) struct Admin {
    /// Two of them may change: the nsqlookupds, and the log's level.
    pub(super) options: watch::Sender<AdminOptions>,
    pub(super) base_path: String,
    pub(super) cluster: Cluster,
    /// For Graphite.
    pub(super) http: HttpClient,
    pub(super) notifier: Notifier,
    pub(super) users: Option<Users>,
    pub(super) config_network: Option<IpNet>,
    pub(super) log_filter: LogFilter,
    pub(super) live: Live,
    /// When something was changed through us last.
    pub(super) changed: watch::Sender<Instant>,
    /// Becomes true when the daemon stops.
    pub(super) stopped: watch::Receiver<bool>,
}

impl Admin {
    /// Must be called inside the runtime.
    ///
    /// # Errors
    /// NSQ's text, when a file cannot be used.
    pub(super) fn new(
        options: AdminOptions,
        log_filter: LogFilter,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, String> {
        let tls = client_tls(&options)?;
        let limits = RequestLimits {
            connect_timeout: options.http_client_connect_timeout,
            request_timeout: options.http_client_request_timeout,
            answer_bytes_max: ADMIN_ANSWER_BYTES_MAX,
        };
        let http = HttpClient::new(tls.as_ref(), limits);
        let users = match options.auth_file.as_str() {
            "" => None,
            path => Some(Users::read(path)?),
        };
        let config_network = allowed_network(&options.allow_config_from_cidr)?;
        let cluster = Cluster::new(http.clone());
        let (base_path, endpoint) =
            (options.base_path.clone(), options.notification_http_endpoint.clone());
        let options = watch::Sender::new(options);
        let watched = options.subscribe();
        let sources = move || Sources::of(&watched.borrow());
        Ok(Self {
            base_path,
            live: Live::start(cluster.clone(), sources),
            cluster,
            notifier: Notifier::start(&endpoint, http.clone()),
            http,
            users,
            config_network,
            log_filter,
            options,
            changed: watch::Sender::new(Instant::now()),
            stopped,
        })
    }

    /// Whom to ask, as of now.
    pub(super) fn sources(&self) -> Sources {
        Sources::of(&self.options.borrow())
    }

    /// The nsqlookupds, if there are any.
    pub(super) fn lookupds(&self) -> Vec<String> {
        self.options.borrow().nsqlookupd_http_addresses.clone()
    }

    /// A path of ours as browsers see it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base_path.trim_end_matches('/'))
    }
}

impl Sources {
    fn of(options: &AdminOptions) -> Self {
        if options.nsqlookupd_http_addresses.is_empty() {
            Self::Nsqds(options.nsqd_http_addresses.clone())
        } else {
            Self::Lookupds(options.nsqlookupd_http_addresses.clone())
        }
    }
}

/// For daemons that are asked over HTTPS. A machine without authorities can still ask over HTTP.
fn client_tls(options: &AdminOptions) -> Result<Option<Arc<ClientConfig>>, String> {
    let file = |path: &String| (!path.is_empty()).then(|| path.into());
    let roots = &options.http_client_tls_root_ca_file;
    if !roots.is_empty() {
        read_roots(roots).map_err(|reason| match reason.starts_with("open ") {
            true => format!("failed to read TLS root CA file {roots} - {reason}"),
            false => format!("failed to AppendCertsFromPEM {roots}"),
        })?;
    }
    let (cert, key) = (&options.http_client_tls_cert, &options.http_client_tls_key);
    let config = Config {
        tls_root_ca_file: file(roots),
        tls_cert: file(cert),
        tls_key: file(key),
        tls_insecure_skip_verify: options.http_client_tls_insecure_skip_verify,
        ..Config::default()
    };
    match tls::client_config(&config) {
        Ok(tls) => Ok(Some(tls)),
        Err(_) if roots.is_empty() && cert.is_empty() => Ok(None),
        Err(reason) => Err(format!("failed to LoadX509KeyPair {cert}, {key} - {reason}")),
    }
}
