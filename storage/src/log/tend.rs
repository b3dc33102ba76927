//! What goes on beside appending and reading: checkpoints, reclaiming, closing.

use super::{Io, Log, Report, State};
use crate::buffer::AlignedBuffer;
use crate::checkpoint::Picture;
use crate::request::{FileName, IoError, Operation, Outcome, Purpose};
use crate::save;
use crate::segment::SegmentId;
use crate::segments::{Disposal, Handle};

/// A segment's file that is being disposed of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reclaim {
    id: SegmentId,
    bytes: u64,
    disposal: Disposal,
    step: Step,
    retries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Close,
    Rename,
    SyncDirectory,
    Remove,
}

/// How often a step that did not run is asked for again at once.
const RETRIES_MAX: u32 = 8;

/// How far an orderly end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    No,
    /// The last segment is to be sealed, written and synced. What waits for space is tried once
    /// more: whether it has been.
    Sealing {
        has_probed: bool,
    },
    /// The last checkpoint is on its way.
    Saving,
    /// Nothing is left to do.
    Done,
}

impl Log {
    /// Makes the cursors durable as they are now. Afterwards segments that no cursor needs are
    /// reclaimed. Nothing happens while a checkpoint is on its way, before the first record, and
    /// without memory.
    pub fn checkpoint(&mut self, io: &mut Io) {
        self.save(io);
    }

    /// Whether a checkpoint is on its way.
    pub fn is_checkpointing(&self) -> bool {
        self.saver.is_running()
    }

    /// Whether the file of a segment that nobody needs is being disposed of.
    pub fn is_reclaiming(&self) -> bool {
        self.reclaim.is_some()
    }

    /// Ends the log in good order: everything appended is made durable, the last segment sealed,
    /// and a last checkpoint written. Nothing may be appended afterwards.
    pub fn close(&mut self, io: &mut Io) {
        if self.closing == Closing::No {
            self.closing = Closing::Sealing { has_probed: false };
            self.advance_close(io);
        }
    }

    /// Whether [`Self::close`] has done all it could: everything, unless the log is blocked or has
    /// failed.
    pub fn is_closed(&self) -> bool {
        self.closing == Closing::Done
    }

    pub(super) fn advance_close(&mut self, io: &mut Io) {
        let is_failed = matches!(self.state, State::Failed(_));
        if let Closing::Sealing { has_probed } = self.closing {
            if !is_failed {
                // Without memory for the seal, the next completion brings us back here.
                let sealed = self.appender.seal(self.durable_end(), &mut io.buffers);
                self.sync(io);
                let is_idle = self.commit.is_none() && self.appender.peek().is_none();
                let is_blocked = matches!(self.state, State::Blocked(_)) && self.waits_for_space();
                if is_blocked && !has_probed {
                    self.closing = Closing::Sealing { has_probed: true };
                    self.probe(io);
                    return;
                }
                if !is_blocked && (sealed.is_err() || !is_idle) {
                    return;
                }
            }
            if self.saver.is_running() {
                return;
            }
            self.save(io);
            self.closing = if self.saver.is_running() { Closing::Saving } else { Closing::Done };
        } else if self.closing == Closing::Saving && !self.saver.is_running() {
            self.closing = Closing::Done;
        }
    }

    fn save(&mut self, io: &mut Io) {
        // A failed sync may have been of the checkpoint's own file: leave the good one alone.
        let is_failed = matches!(self.state, State::Failed(_));
        if self.saver.is_running() || is_failed || !self.has_directory {
            return;
        }
        let picture = Picture {
            log_id: self.log_id,
            generation: self.saver.next_generation(),
            next_sequence: self.appended_up_to(),
            durable_up_to: self.durable_end(),
            ended: self.ended,
            cursors: self.cursors.clone(),
        };
        if self.saver.start(&picture, &mut io.buffers).is_some() {
            self.reclaiming = self.segments.reclaimable(&self.cursors).into();
            let operation = self.saver.operation();
            self.request(Purpose::Checkpoint, operation, io);
        }
    }

    /// Takes an answer; whether the checkpoint is durable.
    pub(super) fn complete_checkpoint(
        &mut self,
        result: &Result<Outcome, IoError>,
        buffer: Option<AlignedBuffer>,
        io: &mut Io,
    ) -> bool {
        match self.saver.complete(result, buffer, &mut io.buffers) {
            save::Progress::Next => {
                let operation = self.saver.operation();
                self.request(Purpose::Checkpoint, operation, io);
            }
            save::Progress::Saved => {
                self.reclaim_next(io);
                return true;
            }
            save::Progress::Abandoned(error) => {
                self.reclaiming.clear();
                self.report(Report::CheckpointFailed(error));
            }
            save::Progress::Failed(error) => {
                self.reclaiming.clear();
                self.fail(error, io);
            }
        }
        false
    }

    /// Disposes of the next segment that the durable checkpoint says nobody needs.
    fn reclaim_next(&mut self, io: &mut Io) {
        if self.reclaim.is_some() || self.saver.is_running() {
            return;
        }
        while let Some(id) = self.reclaiming.pop_front() {
            let Some(segment) = self.segments.segment(id) else { continue };
            let is_needed = !self.cursors.have_finished(&segment.sequences);
            let is_syncing = self.written_segment == Some(id) && self.commit.is_some();
            let is_moving = matches!(segment.handle, Handle::Opening | Handle::Closing);
            if segment.reads > 0 || is_syncing || is_moving || is_needed {
                continue;
            }
            let disposal = if segment.is_damaged {
                Disposal::Keep
            } else if self.spares.len() < self.options.spares_max {
                Disposal::Recycle
            } else {
                Disposal::Remove
            };
            let bytes = segment.identity.bytes;
            let is_open = segment.handle == Handle::Open;
            let step = if is_open { Step::Close } else { disposal_step(disposal) };
            if self.written_segment == Some(id) {
                self.written_segment = None;
            }
            self.segments.remove(id);
            self.reader.forget(id, &mut io.buffers);
            self.reclaim = Some(Reclaim { id, bytes, disposal, step, retries: 0 });
            return self.request_reclaim(io);
        }
    }

    fn request_reclaim(&self, io: &mut Io) {
        let Some(reclaim) = self.reclaim else { return };
        let file = FileName::Segment(reclaim.id);
        let operation = match reclaim.step {
            Step::Close => Operation::Close { file },
            Step::Rename => {
                let to = reclaim.disposal.new_name(reclaim.id);
                Operation::Rename { from: file, to: to.unwrap_or(file) }
            }
            Step::SyncDirectory => Operation::SyncDirectory,
            Step::Remove => Operation::Remove { file },
        };
        self.request(Purpose::Reclaim, operation, io);
    }

    pub(super) fn complete_reclaim(&mut self, result: &Result<Outcome, IoError>, io: &mut Io) {
        let Some(mut reclaim) = self.reclaim.take() else { return };
        match result {
            Err(error) if error.is_transient() && reclaim.retries < RETRIES_MAX => {
                reclaim.retries += 1;
                self.reclaim = Some(reclaim);
                return self.request_reclaim(io);
            }
            Err(error) if reclaim.step == Step::SyncDirectory => self.fail(*error, io),
            // The file stays where it is; the next start finds it, and that nobody needs it.
            Err(error) => {
                self.report(Report::FileFailed(FileName::Segment(reclaim.id), *error));
            }
            Ok(_) => match reclaim.step {
                Step::Close => {
                    return self.reclaim_step(disposal_step(reclaim.disposal), reclaim, io);
                }
                Step::Rename => return self.reclaim_step(Step::SyncDirectory, reclaim, io),
                // Only now is it certain that no crash brings back the old name.
                Step::SyncDirectory if reclaim.disposal == Disposal::Recycle => {
                    self.spares.push((reclaim.id, reclaim.bytes));
                }
                Step::SyncDirectory | Step::Remove => {}
            },
        }
        // There is more space, or a spare, than before.
        self.prepare_again(io);
        self.reclaim_next(io);
    }

    fn reclaim_step(&mut self, step: Step, reclaim: Reclaim, io: &mut Io) {
        self.reclaim = Some(Reclaim { step, ..reclaim });
        self.request_reclaim(io);
    }
}

/// What is done with a closed file.
fn disposal_step(disposal: Disposal) -> Step {
    if disposal == Disposal::Remove { Step::Remove } else { Step::Rename }
}
