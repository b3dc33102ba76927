//! nsqlookupd as a whole: its sockets, its start and its end.

use super::flags::LookupOptions;
use super::state::Lookup;
use super::{api, connections};
use crate::http::HttpListener;
use crate::http::connections as http;
use crate::http::listener::{go_text, resolve};
use crate::limits::{LISTEN_BACKLOG, LOOKUPD_CONNECTIONS_MAX, LOOKUPD_DESCRIPTORS_KEPT};
use crate::log::{self, Log};
use crate::options::{ListenAddress, version_text_of};
use crate::process;
use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Runs nsqlookupd until it is told to stop.
pub fn run(options: &LookupOptions) -> ExitCode {
    let log = Log::start(options.log_level, options.log_format, &options.log_prefix);
    process::end_on_panic();
    tracing::info!("{}", version_text_of("nsqlookupd"));
    if options.verbose {
        tracing::warn!("--verbose has no effect: use --log-level");
    }
    let code = match serve(options, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tracing::error!(target: log::FATAL, "failed to instantiate nsqlookupd - {reason}");
            ExitCode::FAILURE
        }
    };
    drop(log);
    code
}

/// Binds the sockets, and serves until a signal comes.
fn serve(options: &LookupOptions, log: &Log) -> Result<(), String> {
    let descriptors = process::allow_many_descriptors();
    let tcp = bind(&options.tcp_address)?;
    let http = bind(&options.http_address)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime does not start - {error}"))?;
    runtime.block_on(async {
        let (tcp_port, http_port) = (port(&tcp), port(&http));
        let dropped = log.dropped_lines();
        let lookup = Arc::new(Lookup::new(options, tcp_port, http_port, Some(dropped.clone())));
        let watch = |kind| signal(kind).map_err(|error| format!("cannot watch signals - {error}"));
        let mut interrupt = watch(SignalKind::interrupt())?;
        let mut terminate = watch(SignalKind::terminate())?;
        let tcp_address = address(&tcp);
        let listener = tokio::net::TcpListener::from_std(tcp)
            .map_err(|error| format!("listen ({tcp_address}) failed - {error}"))?;
        let (stop, stopped) = watch::channel(false);
        tracing::info!("TCP: listening on {tcp_address}");
        let places = connections_max(descriptors);
        let tcp =
            connections::serve(listener, tcp_address, places, Arc::clone(&lookup), stopped.clone());
        let tcp = tokio::spawn(tcp);
        tracing::info!("HTTP: listening on {}", address(&http));
        let router = api::router(Arc::clone(&lookup));
        let http = tokio::spawn(http::serve(HttpListener::Tcp(http), router, stopped));
        tokio::spawn(process::report_dropped_lines(dropped));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
        tcp.await.expect("a panic of a task ends the process");
        http.await.expect("a panic of a task ends the process");
        Ok(())
    })
}

/// TCP connections there is room for, beside what HTTP and the daemon itself need.
fn connections_max(descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.and_then(|count| usize::try_from(count).ok());
    let left = descriptors.map(|count| count.saturating_sub(LOOKUPD_DESCRIPTORS_KEPT));
    left.unwrap_or(usize::MAX).clamp(1, LOOKUPD_CONNECTIONS_MAX)
}

/// Binds a TCP address; nsqlookupd has no unix sockets.
fn bind(address: &str) -> Result<TcpListener, String> {
    let failed = |reason: String| format!("listen ({address}) failed - {reason}");
    let bound =
        |error: io::Error| failed(format!("listen tcp {address}: bind: {}", go_text(&error)));
    let ListenAddress::Tcp { host, port } = ListenAddress::parse(address).map_err(failed)? else {
        return Err(failed(format!("listen tcp: address {address}: missing port in address")));
    };
    let addresses = resolve(&host, port).map_err(|error| failed(error.to_string()))?;
    let listener = TcpListener::bind(addresses.as_slice()).map_err(bound)?;
    // Again, for more than the standard library's 128: all nsqds may come back at once.
    rustix::net::listen(&listener, LISTEN_BACKLOG).map_err(|error| bound(error.into()))?;
    listener.set_nonblocking(true).map_err(bound)?;
    Ok(listener)
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}

/// As NSQ logs it.
fn address(listener: &TcpListener) -> String {
    listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_left_for_http() {
        assert_eq!(connections_max(None), LOOKUPD_CONNECTIONS_MAX);
        assert_eq!(connections_max(Some(1 << 20)), LOOKUPD_CONNECTIONS_MAX);
        assert_eq!(connections_max(Some(4096)), 4096 - 1024 - 64);
        assert_eq!(connections_max(Some(256)), 1, "too few for anything");
    }
}
