//! `verify`: reads every record of every log and says what is wrong.

use crate::executors::Executors;
use crate::files::Backend;
use crate::logs::{FoundLog, FoundSegment, LogDirectory};
use crate::progress::Progress;
use crate::walk::{Met, Walked, walk};
use anyhow::{Context, Result};
use ringmain_storage::message::Entry;
use ringmain_storage::record::{Kind, batch_entries};
use ringmain_storage::request::{FileName, Slot};
use ringmain_storage::scan::Damage;
use ringmain_storage::segment::SegmentId;
use std::io::{self, Write};

/// Findings named one by one for each segment; the others are counted.
const FINDINGS_MAX: usize = 100;

/// What was found in one log.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) topic: String,
    pub(crate) segments: usize,
    /// Entries that could be read.
    pub(crate) messages: u64,
    pub(crate) cursors: usize,
    /// What is wrong, a line each.
    pub(crate) findings: Vec<String>,
}

/// What was found in one segment.
#[derive(Debug, Default)]
struct Inspection {
    messages: u64,
    findings: Vec<String>,
    more: usize,
}

/// Checks logs; one job for each segment of each.
pub(crate) fn inspect(logs: Vec<LogDirectory>, executors: Executors) -> Result<Vec<Verdict>> {
    let mut found = Vec::new();
    for log in logs {
        found.push(FoundLog::open(log)?);
    }
    let progress = Progress::new("verifying", found.iter().map(data_bytes).sum());
    let numbered = found.iter().enumerate();
    let jobs: Vec<(usize, FoundSegment)> = numbered
        .flat_map(|(log, found)| found.segments.iter().map(move |s| (log, s.clone())))
        .collect();
    let results = executors.run(jobs, async |backend, (log, segment)| {
        let inspected = inspect_segment(backend, &segment, &progress).await;
        let context = || format!("cannot read {}", segment.path.display());
        (log, inspected.with_context(context))
    });
    progress.finish();
    let mut verdicts: Vec<Verdict> = found.iter().map(Verdict::of).collect();
    for (log, inspection) in results {
        let (verdict, inspection) = (&mut verdicts[log], inspection?);
        verdict.messages += inspection.messages;
        verdict.findings.extend(inspection.findings);
        if inspection.more > 0 {
            verdict.findings.push(format!("and {} more in that segment", inspection.more));
        }
    }
    Ok(verdicts)
}

/// Writes what was found; whether nothing was wrong.
pub(crate) fn report(verdicts: &[Verdict], out: &mut impl Write) -> io::Result<bool> {
    for verdict in verdicts {
        let Verdict { topic, segments, messages, cursors, findings } = verdict;
        let counts = format!(
            "{segments} {}, {messages} {}, {cursors} {}",
            plural(*segments as u64, "segment"),
            plural(*messages, "message"),
            plural(*cursors as u64, "cursor")
        );
        let state = if findings.is_empty() { "good" } else { "NOT GOOD" };
        writeln!(out, "{topic}: {state} ({counts})")?;
        for finding in findings {
            writeln!(out, "  {finding}")?;
        }
    }
    if verdicts.is_empty() {
        writeln!(out, "no logs here")?;
    }
    Ok(verdicts.iter().all(|verdict| verdict.findings.is_empty()))
}

pub(crate) fn plural(count: u64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn data_bytes(log: &FoundLog) -> u64 {
    log.segments.iter().map(|segment| segment.outline.end_offset).sum()
}

impl Verdict {
    /// What can be said before the segments were read.
    fn of(log: &FoundLog) -> Self {
        let mut findings = Vec::new();
        let report = &log.report;
        for slot in &report.bad_checkpoints {
            let file = FileName::Checkpoint(*slot);
            let other = FileName::Checkpoint(if *slot == Slot::A { Slot::B } else { Slot::A });
            let then = if report.has_lost_checkpoint {
                "no other is good: what channels had finished is delivered again".to_owned()
            } else {
                format!("{other} is in force")
            };
            findings.push(format!(
                "{file}: not a good checkpoint (damaged, or cut off by a crash); {then}"
            ));
        }
        if let Some(tail) = &report.torn_tail {
            findings.push(format!(
                "{}: the log's end is torn at byte {} (cut off by a crash, or damaged): sequences \
                 {} to {} are lost; the next start ends the log there",
                segment_file(tail.segment),
                tail.offset,
                tail.sequences.start,
                tail.sequences.end.saturating_sub(1)
            ));
        }
        for missing in &report.missing {
            let last = missing.end.saturating_sub(1);
            let text =
                format!("sequences {} to {last} are missing with their segment", missing.start);
            findings.push(text);
        }
        for file in &report.unreadable {
            findings.push(format!("{file}: has a log's name and is not a file of this log"));
        }
        for name in &report.strange {
            findings.push(format!("{name}: not a file of a log"));
        }
        Self {
            topic: log.directory.topic.clone(),
            segments: log.segments.len(),
            messages: 0,
            cursors: log.cursors.len(),
            findings,
        }
    }
}

impl Inspection {
    fn find(&mut self, text: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(text());
        } else {
            self.more += 1;
        }
    }
}

async fn inspect_segment(
    backend: Backend,
    segment: &FoundSegment,
    progress: &Progress,
) -> io::Result<Inspection> {
    let mut inspection = Inspection::default();
    let file = segment_file(segment.outline.identity.id);
    let walked = walk(backend, segment, progress, |met| {
        match met {
            Met::Record(header, payload) => {
                let mut check = |sequence: u64, entry: &[u8]| {
                    inspection.messages += 1;
                    if Entry::split(entry).is_none() {
                        inspection.find(|| format!("{file}: sequence {sequence} is no message"));
                    }
                };
                match header.kind {
                    Kind::Message => check(header.sequence, payload),
                    Kind::Batch => {
                        for (sequence, range) in (header.sequence..).zip(batch_entries(payload)) {
                            check(sequence, payload.get(range).unwrap_or_default());
                        }
                    }
                    _ => {}
                }
            }
            Met::Padding(at) => {
                inspection.find(|| format!("{file}: byte {at}: padding is not zero; harmless"));
            }
            Met::Damaged(damage) => inspection.find(|| damaged(&file, &damage)),
        }
        true
    });
    let Walked { unreadable, has_odd_header } = walked.await?;
    for range in unreadable {
        let text = || format!("{file}: bytes {} to {} cannot be read", range.start, range.end - 1);
        inspection.find(text);
    }
    if has_odd_header {
        let text = format!("{file}: the header and its copy differ; one is damaged");
        inspection.findings.insert(0, text);
    }
    Ok(inspection)
}

fn segment_file(id: SegmentId) -> String {
    FileName::Segment(id).to_string()
}

fn damaged(file: &str, damage: &Damage) -> String {
    let Damage { offsets, sequences, .. } = damage;
    let lost = match sequences.end - sequences.start {
        0 => "no message is lost with them".to_owned(),
        1 => format!("sequence {} is lost", sequences.start),
        _ => format!("sequences {} to {} are lost", sequences.start, sequences.end - 1),
    };
    format!("{file}: bytes {} to {}: damaged, {lost}", offsets.start, offsets.end.max(1) - 1)
}
