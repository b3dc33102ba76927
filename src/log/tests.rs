//! NSQ's lines, levels, JSON lines, and a reader that stalls.

use super::*;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Hands every line to the test.
#[derive(Clone)]
struct Lines(Sender<String>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(level: LogLevel, format: LogFormat, emit: impl FnOnce(&LogFilter)) -> Vec<String> {
    let (sender, receiver): (_, Receiver<String>) = channel();
    let lines = Lines(sender);
    let (subscriber, filter) = subscriber(level, format, "[nsqd] ", move || lines.clone());
    tracing::subscriber::with_default(subscriber, || emit(&filter));
    receiver.try_iter().collect()
}

/// The line with its date and time replaced, after checking that they have NSQ's shape.
fn undated(line: &str) -> String {
    let (prefix, rest) = line.split_at(7);
    let (time, message) = rest.split_at(26);
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999/99/99 99:99:99.999999", "{line}");
    format!("{prefix}T{message}")
}

#[test]
fn lines_have_the_format_of_nsq() {
    let lines = logged(LogLevel::Debug, LogFormat::Text, |_| {
        tracing::debug!("TCP: new client({})", "127.0.0.1:5");
        tracing::info!("ID: {}", 617);
        tracing::warn!("deprecated value 'x\n' used");
        tracing::error!(topic = "t", "failed");
        tracing::error!(target: FATAL, "cannot go on");
    });
    let undated: Vec<String> = lines.iter().map(|line| undated(line)).collect();
    assert_eq!(
        undated,
        [
            "[nsqd] T DEBUG: TCP: new client(127.0.0.1:5)\n",
            "[nsqd] T INFO: ID: 617\n",
            "[nsqd] T WARNING: deprecated value 'x\\n' used\n",
            "[nsqd] T ERROR: failed topic=\"t\"\n",
            "[nsqd] T FATAL: cannot go on\n",
        ]
    );
}

#[test]
fn h2_levels_drop_what_is_below_them_and_change_while_running() {
    let all = |filter: &LogFilter| {
        for level in [None, Some(LogLevel::Warn), Some(LogLevel::Fatal)] {
            if let Some(level) = level {
                filter.set(level);
            }
            tracing::debug!("d");
            tracing::info!("i");
            tracing::warn!("w");
            tracing::error!("e");
            tracing::error!(target: FATAL, "f");
        }
    };
    let lines = logged(LogLevel::Debug, LogFormat::Text, all);
    let last: String = lines.iter().filter_map(|line| line.chars().rev().nth(1)).collect();
    assert_eq!(last, "diwef".to_owned() + "wef" + "f");
}

#[test]
fn json_lines_are_objects() {
    let lines = logged(LogLevel::Info, LogFormat::Json, |_| {
        tracing::warn!(count = 3, name = "a\"b", "said {:?}", "x");
    });
    let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(object["level"], "WARNING");
    assert_eq!(object["message"], "said \"x\"");
    assert_eq!(object["count"], 3);
    assert_eq!(object["name"], "a\"b");
    assert!(object["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert!(lines[0].ends_with("}\n"));
}

#[test]
fn a_reader_that_stalls_costs_lines_and_no_time() {
    /// Waits for the test's permission before each write.
    struct Stalled(Receiver<()>);
    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (permit, wait) = channel();
    let (writer, guard) = writer(Stalled(wait));
    let dropped = DroppedLines(writer.error_counter());
    let (subscriber, _) = subscriber(LogLevel::Info, LogFormat::Text, "", writer);
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..LOG_LINES_QUEUED_MAX + 100 {
            tracing::info!("line");
        }
    });
    assert!(dropped.count() > 0);
    drop(permit);
    drop(guard);
}
