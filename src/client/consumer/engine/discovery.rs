//! When to ask the lookup services, and what to do with their answers.

use super::Engine;
use crate::client::config::Config;
use crate::client::error::Error;
use crate::client::lookup::{Found, LookupService, ask};
use crate::client::tls;
use crate::http::requests::{HttpClient, RequestLimits};
use crate::limits::CLIENT_LOOKUP_BYTES_MAX;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;

/// The lookup services of a consumer. At most one round of questions is under way.
pub(super) struct Discovery {
    services: Vec<LookupService>,
    config: Config,
    http: Option<HttpClient>,
    round: JoinSet<Found>,
    /// When to ask; `None` as long as there is nobody to ask.
    due: Option<Duration>,
    /// The regular times to ask go by this one.
    next_regular: Duration,
}

impl Discovery {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            services: Vec::new(),
            config: config.clone(),
            http: None,
            round: JoinSet::new(),
            due: None,
            next_regular: Duration::ZERO,
        }
    }

    /// `false` when it is known already. The first one is asked at once, and again after the
    /// interval and a random part of it.
    pub(super) fn add(&mut self, service: LookupService, now: Duration) -> Result<bool, Error> {
        if self.services.iter().any(|known| known.address == service.address) {
            return Ok(false);
        }
        if self.http.is_none() || service.is_secure() {
            let secure = service.is_secure() || self.services.iter().any(LookupService::is_secure);
            let tls = if secure { Some(tls::client_config(&self.config)?) } else { None };
            let timeout = self.config.lookupd_poll_timeout;
            let limits = RequestLimits {
                connect_timeout: timeout,
                request_timeout: timeout,
                answer_bytes_max: CLIENT_LOOKUP_BYTES_MAX,
            };
            self.http = Some(HttpClient::new(tls.as_ref(), limits));
        }
        if self.services.is_empty() {
            let interval = self.config.lookupd_poll_interval;
            let jitter = interval.mul_f64(self.config.lookupd_poll_jitter * fastrand::f64());
            self.next_regular = now + interval + jitter;
        }
        self.services.push(service);
        self.due = Some(now);
        Ok(true)
    }

    /// The last one cannot be removed: nothing would be found any more.
    pub(super) fn remove(&mut self, address: &str) -> Result<(), Error> {
        let at = self.services.iter().position(|known| &*known.address == address);
        let Some(at) = at else { return Err(Error::UnknownAddress(address.into())) };
        if self.services.len() == 1 {
            let text = "cannot remove the only remaining nsqlookupd HTTP address";
            return Err(Error::Setting(format!("{text} {address}").into()));
        }
        self.services.remove(at);
        Ok(())
    }

    /// Asks at this time, unless that is to be done earlier anyway.
    pub(super) fn ask_at(&mut self, when: Duration) {
        self.due = self.due.map(|due| due.min(when));
    }

    pub(super) fn stop(&mut self) {
        self.services.clear();
        self.due = None;
        self.round.abort_all();
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.due.filter(|_| self.round.is_empty())
    }

    /// `true` when a round has begun.
    pub(super) fn tick(&mut self, now: Duration, label: &str) -> bool {
        if self.deadline().is_none_or(|due| due > now) {
            return false;
        }
        while self.next_regular <= now {
            self.next_regular += self.config.lookupd_poll_interval;
        }
        self.due = Some(self.next_regular);
        for service in &self.services {
            tracing::info!("{label} querying nsqlookupd {}", service.address);
        }
        let secret = if self.config.lookupd_authorization { &self.config.auth_secret } else { "" };
        let http = self.http.clone().expect("made with the first service");
        self.round.spawn(ask(self.services.clone(), http, secret.to_owned()));
        true
    }
}

impl Engine {
    /// The lookup services to begin with.
    pub(in crate::client::consumer) fn ask_services(
        &mut self,
        services: Vec<LookupService>,
    ) -> Result<(), Error> {
        for service in services {
            self.discovery.add(service, self.now)?;
        }
        Ok(())
    }

    pub(super) fn take_found(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        while let Poll::Ready(Some(found)) = self.discovery.round.poll_join_next(cx) {
            busy = true;
            let Ok(Found { nsqds, failed }) = found else { continue };
            for (address, reason) in failed {
                tracing::error!("{} error querying nsqlookupd ({address}) - {reason}", self.label);
            }
            let wants = self.hooks.wants.clone();
            for address in nsqds.iter().filter(|a| wants.as_ref().is_none_or(|wants| wants(a))) {
                if self.stopping.is_none() && self.roster.list(address, self.now) {
                    self.dial(address.clone());
                }
            }
        }
        busy
    }
}
