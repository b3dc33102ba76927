//! Names of files: placeholders and dates. Pure.

use crate::options::hostname;
use jiff::Zoned;

/// What is replaced by the revision, `-000000` and up.
pub(super) const REVISION: &str = "<REV>";

/// Fills in what does not change while the program runs; `<DATETIME>` and `<REV>` stay.
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
    let format = format.replace("<TOPIC>", topic).replace("<HOST>", &identifier);
    let mut format = format.replace("<PID>", &std::process::id().to_string());
    if gzip && !format.ends_with(".gz") {
        format.push_str(".gz");
    }
    Ok(format)
}

/// Fills in the date.
pub(super) fn with_date(format: &str, date_format: &str, now: &Zoned) -> String {
    format.replace("<DATETIME>", &strftime(date_format, now))
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
        let code =
            rest.peek().copied().filter(|code| c == '%' && "BbmAadHIMSYypZz%".contains(*code));
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
        assert_eq!(pid, format!("{}.gz", std::process::id()));
        let missing = file_name_format("x", "t", "", true, false).unwrap_err();
        assert!(missing.starts_with("missing <REV> in --filename-format"), "{missing}");
    }
}
