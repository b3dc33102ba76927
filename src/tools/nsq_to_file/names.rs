//! Names of files: placeholders and dates, and the files that have such names.

use crate::options::hostname;
use jiff::Zoned;
use regex::Regex;
use std::fs;
use std::path::Path;

/// What is replaced by the revision, `-000000` and up.
pub(super) const REVISION: &str = "<REV>";

/// What is replaced by the date.
const DATE: &str = "<DATETIME>";

/// What is replaced by the number of the process.
const PROCESS: &str = "<PID>";

/// The parts of strftime that NSQ knows.
const DATE_CODES: &str = "BbmAadHIMSYypZz%";

/// All names that a format gives, whatever the date, the revision and the process.
#[derive(Debug)]
pub(super) struct FileNames {
    /// One for each directory on the way, and one for the file.
    parts: Vec<Regex>,
}

impl FileNames {
    /// `format`: as [`file_name_format`] gives it.
    pub(super) fn new(format: &str, date_format: &str) -> Self {
        let mut pattern = regex::escape(&format.replace(DATE, date_format));
        pattern = pattern.replace(REVISION, r"-\d{6,}").replace(PROCESS, r"\d+");
        for code in DATE_CODES.chars() {
            pattern = pattern.replace(&format!("%{code}"), ".*");
        }
        let parts = pattern.split('/').filter(|part| !part.is_empty());
        let parts = parts.filter_map(|part| Regex::new(&format!("^{part}$")).ok());
        Self { parts: parts.collect() }
    }

    /// Shows each file below the directory that has such a name.
    pub(super) fn find(&self, directory: &Path, show: &mut dyn FnMut(&Path)) {
        find(&self.parts, directory, show);
    }
}

fn find(parts: &[Regex], directory: &Path, show: &mut dyn FnMut(&Path)) {
    let Some((name, inner)) = parts.split_first() else { return };
    // What is not there, or may not be read, has no files of ours.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !name.is_match(&entry.file_name().to_string_lossy()) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_file() && inner.is_empty() => show(&entry.path()),
            _ => find(inner, &entry.path(), show),
        }
    }
}

/// Fills in what is the same in every run; `<DATETIME>`, `<REV>` and `<PID>` stay.
///
/// # Errors
/// NSQ's text, when files could get in each other's way for want of a revision.
pub(super) fn file_name_format(
    format: &str,
    topic: &str,
    host_identifier: &str,
    needs_revision: bool,
    gzip: bool,
) -> Result<String, String> {
    if needs_revision && !format.contains(REVISION) {
        return Err(
            "missing <REV> in --filename-format when gzip, rotation, or work dir enabled".into()
        );
    }
    let host = hostname();
    let short = host.split('.').next().unwrap_or_default();
    let identifier = match host_identifier {
        "" => short.to_owned(),
        given => given.replace("<SHORT_HOST>", short).replace("<HOSTNAME>", &host),
    };
    let format = if needs_revision { format.to_owned() } else { format.replace(REVISION, "") };
    let mut format = format.replace("<TOPIC>", topic).replace("<HOST>", &identifier);
    if gzip && !format.ends_with(".gz") {
        format.push_str(".gz");
    }
    Ok(format)
}

/// Fills in the date and the process.
pub(super) fn with_date(format: &str, date_format: &str, now: &Zoned) -> String {
    let name = format.replace(PROCESS, &std::process::id().to_string());
    name.replace(DATE, &strftime(date_format, now))
}

/// Fills in the revision.
pub(super) fn with_revision(name: &str, revision: u32) -> String {
    name.replace(REVISION, &format!("-{revision:06}"))
}

/// The part of strftime that NSQ knows; other sequences stay as they are.
fn strftime(format: &str, now: &Zoned) -> String {
    let mut text = String::new();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        let code = rest.peek().copied().filter(|code| c == '%' && DATE_CODES.contains(*code));
        match code {
            Some(code) => {
                rest.next();
                text.push_str(&now.strftime(&format!("%{code}")).to_string());
            }
            None => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_nsq_writes_them() {
        let now: Zoned = "2026-03-05T15:04:09[Europe/Berlin]".parse().unwrap();
        for (format, text) in [
            ("%Y-%m-%d_%H", "2026-03-05_15"),
            ("%B %b %A %a %I %M %S %y %p", "March Mar Thursday Thu 03 04 09 26 PM"),
            ("%Z %z %%", "CET +0100 %"),
            ("%q %", "%q %"),
            // The original takes digits in literal text for parts of the date.
            ("2006 15 Jan", "2006 15 Jan"),
        ] {
            assert_eq!(strftime(format, &now), text);
        }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let format = "<TOPIC>.<HOST><REV>.<DATETIME>.log";
        let fill = |needs_revision, gzip| {
            file_name_format(format, "t", "<SHORT_HOST>-<HOSTNAME>", needs_revision, gzip).unwrap()
        };
        let host = hostname();
        let short = host.split('.').next().unwrap();
        assert_eq!(fill(false, false), format!("t.{short}-{host}.<DATETIME>.log"));
        let name = fill(true, true);
        assert_eq!(name, format!("t.{short}-{host}<REV>.<DATETIME>.log.gz"));
        assert_eq!(with_revision("a<REV>.b", 12), "a-000012.b");
        let pid = file_name_format("<PID>.gz", "t", "", false, true).unwrap();
        let now: Zoned = "2026-03-05T15:04:09[UTC]".parse().unwrap();
        assert_eq!(with_date(&pid, "", &now), format!("{}.gz", std::process::id()));
        let missing = file_name_format("x", "t", "", true, false).unwrap_err();
        assert!(missing.starts_with("missing <REV> in --filename-format"), "{missing}");
    }
}
