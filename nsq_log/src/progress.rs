//! The bar on standard error that says how far it is; at a terminal only.

use indicatif::{ProgressBar, ProgressStyle};

/// How far it is, in bytes. Clones are the same bar.
#[derive(Debug, Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for that many bytes, hidden where standard error is no terminal.
    pub(crate) fn new(what: &'static str, bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes).with_message(what);
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// No bar.
    pub(crate) fn none() -> Self {
        Self(ProgressBar::hidden())
    }

    /// That much more is done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
