//! nsqadmin as a whole: its socket, its start and its end.

use super::flags::AdminOptions;
use super::routes;
use super::state::Admin;
use crate::http::{HttpListener, connections};
use crate::log::{self, Log};
use crate::options::version_text_of;
use crate::process;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Runs nsqadmin until it is told to stop.
pub fn run(options: AdminOptions) -> ExitCode {
    let log = Log::start(options.log_level, options.log_format, &options.log_prefix);
    process::end_on_panic();
    let verbose = options.verbose;
    let code = match serve(options, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tracing::error!(target: log::FATAL, "failed to instantiate nsqadmin - {reason}");
            ExitCode::FAILURE
        }
    };
    if verbose {
        tracing::warn!("--verbose has no effect: use --log-level");
    }
    drop(log);
    code
}

/// Binds the socket, and serves until a signal comes.
fn serve(mut options: AdminOptions, log: &Log) -> Result<(), String> {
    options.check()?;
    tracing::info!("{}", version_text_of("nsqadmin"));
    process::allow_many_descriptors();
    let address = options.http_address.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime does not start - {error}"))?;
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let admin = Arc::new(Admin::new(options, log.filter(), stopped.clone())?);
        let missing = || format!("listen ({address}) failed - no address");
        let listener = HttpListener::bind(&address)?.ok_or_else(missing)?;
        let watch = |kind| signal(kind).map_err(|error| format!("cannot watch signals - {error}"));
        let mut interrupt = watch(SignalKind::interrupt())?;
        let mut terminate = watch(SignalKind::terminate())?;
        tracing::info!("HTTP: listening on {}", listener.address());
        let router = routes::router(&admin);
        let http = tokio::spawn(connections::serve(listener, router, stopped));
        tokio::spawn(process::report_dropped_lines(log.dropped_lines()));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
        http.await.expect("a panic of a task ends the process");
        Ok(())
    })
}
