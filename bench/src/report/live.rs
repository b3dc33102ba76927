//! The line at the bottom of a terminal that shows a long run going on.

use std::io::{IsTerminal as _, Write as _};

use crate::clock::{SECOND_NS, now_ns};
use crate::progress::Totals;

/// Short runs need no line.
const QUIET_NS: u64 = SECOND_NS;
/// Time between two of its forms.
const EVERY_NS: u64 = SECOND_NS / 4;

/// A line on standard error, written over itself. Where that is no terminal it writes nothing.
pub(crate) struct LiveLine {
    name: &'static str,
    begin_ns: u64,
    shown: Option<(u64, Totals)>,
    terminal: bool,
}

impl LiveLine {
    /// The line of a run of scenario `name`, which begins now.
    pub(crate) fn new(name: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { name, begin_ns: now_ns(), shown: None, terminal }
    }

    /// Shows the counts, if the last ones have been there for a while.
    pub(crate) fn show(&mut self, totals: &Totals, now: u64) {
        if !self.terminal || now < self.begin_ns + QUIET_NS {
            return;
        }
        match self.shown {
            Some((at_ns, _)) if now < at_ns + EVERY_NS => {}
            before => {
                let line = self.line(before, totals, now);
                // A terminal that has gone away is no reason to end the run.
                let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
                self.shown = Some((now, *totals));
            }
        }
    }

    fn line(&self, before: Option<(u64, Totals)>, totals: &Totals, now: u64) -> String {
        let (at_ns, earlier) = before.unwrap_or((self.begin_ns, Totals::default()));
        let per_s = |to: u64, from: u64| {
            let rate = u128::from(to - from) * u128::from(SECOND_NS) / u128::from(now - at_ns);
            thousands(rate)
        };
        format!(
            "{} {:>3} s  acknowledged {}/s  consumed {}/s",
            self.name,
            (now - self.begin_ns) / SECOND_NS,
            per_s(totals.acknowledged, earlier.acknowledged),
            per_s(totals.consumed, earlier.consumed),
        )
    }
}

impl Drop for LiveLine {
    /// Nothing of it stays on the terminal.
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

/// `1234567` as `1 234 567`.
fn thousands(number: u128) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_rates_since_it_last_did() {
        let live = LiveLine { name: "pub", begin_ns: SECOND_NS, shown: None, terminal: false };
        let before = Totals { acknowledged: 1000, consumed: 10, ..Totals::default() };
        let totals = Totals { acknowledged: 1_501_000, consumed: 10, ..Totals::default() };
        let line = live.line(Some((2 * SECOND_NS, before)), &totals, 2 * SECOND_NS + EVERY_NS);
        assert_eq!(line, "pub   1 s  acknowledged 6 000 000/s  consumed 0/s");
        assert_eq!(thousands(123), "123");
    }
}
