//! Everything that happens, as one number: two runs of a seed are the same when theirs are. With
//! `RINGMAIN_SIM_TRACE=1` the lines go to standard error as well.

use std::fmt::Write;

/// See the module's text.
#[derive(Default)]
pub(crate) struct Trace {
    hash: u64,
    lines: u64,
    line: String,
    is_shown: bool,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let is_shown = std::env::var_os("RINGMAIN_SIM_TRACE").is_some();
        Self { is_shown, ..Self::default() }
    }

    /// One thing that happened.
    pub(crate) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.line.clear();
        self.line.write_fmt(what).expect("a string takes everything");
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.hash = self.hash.rotate_left(23) ^ 0x9e37_79b9_7f4a_7c15;
        self.lines += 1;
        if self.is_shown {
            eprintln!("{:6} {}", self.lines, self.line);
        }
    }

    /// The number, and of how many things.
    pub(crate) fn sum(&self) -> (u64, u64) {
        (self.hash, self.lines)
    }
}
