//! The TLS that clients are offered, over TCP and HTTPS; SIGHUP has its files read again.

use crate::options::{Options, server_tls, version_note};
use rustls::ServerConfig;
use std::sync::Arc;
use tokio::sync::watch;

/// What whoever accepts clients looks at when a handshake begins; `None` without a certificate.
pub type OfferedTls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// See the module's text.
#[derive(Debug)]
pub struct Certificates {
    offered: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl Certificates {
    /// Reads what the options name.
    ///
    /// # Errors
    /// NSQ's text, when something cannot be used.
    pub fn read(options: &Options) -> Result<Self, String> {
        let tls = server_tls(options);
        let tls = tls.map_err(|reason| format!("failed to build TLS config - {reason}"))?;
        if let Some(note) = version_note(options) {
            tracing::info!("{note}");
        }
        Ok(Self { offered: watch::Sender::new(tls) })
    }

    /// To be told what is offered.
    pub fn offered(&self) -> OfferedTls {
        self.offered.subscribe()
    }

    /// Reads the files again. Connections that are there keep what they have; when something
    /// cannot be used, so do new ones.
    pub(super) fn read_again(&self, options: &Options) {
        if self.offered.borrow().is_none() {
            return;
        }
        match server_tls(options) {
            Ok(tls) => {
                self.offered.send_replace(tls);
                tracing::info!("SIGHUP: certificate {} read again", options.tls_cert);
            }
            Err(reason) => {
                let path = &options.tls_cert;
                tracing::error!(
                    "SIGHUP: certificate {path} stays as it was read before - {reason}"
                );
            }
        }
    }
}
