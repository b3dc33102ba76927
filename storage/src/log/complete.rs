//! What answers mean: the group commit, the next segment, failures and their healing.

use super::{Io, Log, State};
use crate::commit::{self, Commit};
use crate::control::SegmentEnd;
use crate::prepare;
use crate::request::{Completion, FileName, IoError, Purpose, Ticket};
use crate::segment::DATA_START;
use crate::segments::{Handle, Segment};
use std::ops::Range;

/// What a completion changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// More is written or durable than before.
    pub has_advanced: bool,
    /// Readers that were told to wait may ask again.
    pub can_read: bool,
    /// [`Log::state`] is another than before.
    pub has_changed_state: bool,
    /// A checkpoint became durable.
    pub has_saved: bool,
}

impl Log {
    /// Takes the answer to a request.
    pub fn complete(&mut self, completion: Completion, io: &mut Io) -> Progress {
        let Completion { ticket: Ticket(purpose), result, buffer } = completion;
        let before = (self.written_up_to, self.durable_up_to, self.state);
        let mut progress = Progress::default();
        match purpose {
            Purpose::Commit => {
                // Gone when the log failed meanwhile.
                if let Some(mut commit) = self.commit.take() {
                    let step = commit.complete(&result, buffer);
                    self.go_on(commit, step, io);
                }
                progress.can_read = true;
            }
            Purpose::Prepare => {
                if let Some(mut preparation) = self.preparation.take() {
                    let step = preparation.complete(&result, buffer, &mut io.buffers);
                    self.go_on_preparing(preparation, step, io);
                }
            }
            Purpose::Checkpoint => {
                progress.has_saved = self.complete_checkpoint(&result, buffer, io);
            }
            Purpose::Reclaim => self.complete_reclaim(&result, io),
            Purpose::Open(segment) => {
                self.complete_open(segment, &result, io);
                progress.can_read = true;
            }
            Purpose::Read(slot) => {
                self.complete_read(slot, &result, buffer, io);
                progress.can_read = true;
            }
            Purpose::Close(segment) => {
                self.complete_close(segment);
                progress.can_read = true;
            }
            Purpose::Recover => {}
        }
        self.pump(io);
        self.advance_close(io);
        let after = (self.written_up_to, self.durable_up_to, self.state);
        progress.has_advanced = (before.0, before.1) != (after.0, after.1);
        progress.has_changed_state = before.2 != after.2;
        debug_assert!(self.durable_up_to <= self.written_up_to);
        debug_assert!(self.written_up_to <= self.appended_up_to());
        progress
    }

    /// Whether something waits for space: a commit, or a segment that is not needed yet.
    pub fn waits_for_space(&self) -> bool {
        self.commit.as_ref().is_some_and(|commit| commit.blocked().is_some())
            || self.preparation.as_ref().is_some_and(|p| p.blocked.is_some())
    }

    /// Tries again what waits for space, if anything does. To be called about every second.
    pub fn probe(&mut self, io: &mut Io) {
        if self.commit.as_ref().is_some_and(|commit| commit.blocked().is_some())
            && let Some(mut commit) = self.commit.take()
        {
            let operation = commit.operation();
            self.request(Purpose::Commit, operation, io);
            self.commit = Some(commit);
        }
        self.prepare_again(io);
    }

    /// Tries again to make the next segment, if that waits.
    pub(super) fn prepare_again(&mut self, io: &mut Io) {
        if let Some(mut preparation) = self.preparation.take_if(|p| p.blocked.is_some()) {
            self.make_do(&mut preparation);
            let operation = preparation.operation();
            self.request(Purpose::Prepare, operation, io);
            self.preparation = Some(preparation);
        }
    }

    /// A segment there is no space for need not be a new file, nor a large one. Whether it was to
    /// be one or the other until now.
    fn make_do(&mut self, preparation: &mut prepare::Preparation) -> bool {
        if !preparation.is_without_space() {
            return false;
        }
        let mut identity = preparation.identity;
        let spare = self.usable_spare();
        let spare_bytes = spare.and_then(|index| Some(self.spares.get(index)?.1));
        identity.bytes = spare_bytes.unwrap_or(self.options.segment_bytes_first);
        let is_other = spare.is_some() || identity.bytes < preparation.identity.bytes;
        if !is_other || !self.appender.resize(identity) {
            return false;
        }
        let spare = spare.map(|index| FileName::Spare(self.spares.remove(index).0));
        preparation.resize(identity.bytes, spare);
        for planned in self.next.iter_mut().filter(|planned| planned.id == identity.id) {
            *planned = identity;
        }
        true
    }

    /// Drops the records that were appended and are not on their way to disk, so that whoever
    /// waits for them can be told that they were not taken. Gives their sequences, which will be
    /// given again. A log that is blocked drops all that are not written; one that failed has
    /// nothing left to drop, and what is not written there will not be.
    pub fn withdraw(&mut self, io: &mut Io) -> Range<u64> {
        let end = self.appended_up_to();
        let is_blocked = |commit: &mut Commit| commit.blocked().is_some();
        let unwritten = self.commit.take_if(is_blocked).and_then(Commit::into_staged);
        let unused = self.appender.withdraw(unwritten, &mut io.buffers);
        for identity in unused.into_iter().rev() {
            self.next.push_front(identity);
        }
        self.sync_up_to = self.sync_up_to.min(self.appended_up_to());
        self.appended_up_to()..end
    }

    /// Begins with the next commit or sync when none is on its way.
    pub(super) fn pump(&mut self, io: &mut Io) {
        if self.commit.is_some() || matches!(self.state, State::Failed(_)) {
            return;
        }
        if let Some(identity) = self.appender.peek() {
            // A segment that is not ready yet will bring us back here.
            if self.segments.segment(identity.id).is_none() {
                if let Some(error) = self.preparation.as_ref().and_then(|p| p.blocked) {
                    self.state = State::Blocked(error);
                }
                return;
            }
            if let Some(staged) = self.appender.take() {
                self.go_on(Commit::write(staged), commit::Progress::Next, io);
            }
        } else if self.sync_up_to > self.durable_up_to
            && let Some(segment) = self.written_segment
        {
            self.go_on(Commit::sync(segment), commit::Progress::Next, io);
        }
    }

    fn go_on(&mut self, mut commit: Commit, step: commit::Progress, io: &mut Io) {
        match step {
            commit::Progress::Next => {}
            commit::Progress::Written => {
                if !self.take_written(&mut commit, io) {
                    return;
                }
            }
            commit::Progress::Synced => {
                self.durable_up_to = self.written_up_to;
                self.note_end();
                return;
            }
            commit::Progress::Blocked(error) => {
                self.state = State::Blocked(error);
                self.commit = Some(commit);
                return;
            }
            commit::Progress::Failed(error) => {
                if let Some(staged) = commit.into_staged() {
                    io.buffers.give(staged.buffer);
                }
                return self.fail(error, io);
            }
        }
        let operation = commit.operation();
        self.request(Purpose::Commit, operation, io);
        self.commit = Some(commit);
    }

    /// Notes that a block is written; whether a sync has to follow.
    fn take_written(&mut self, commit: &mut Commit, io: &mut Io) -> bool {
        let staged = commit.then_sync().expect("what was written has a block");
        let id = staged.identity.id;
        let first = self.written_up_to;
        self.written_up_to = staged.end_sequence();
        self.written_segment = Some(id);
        if let Some(segment) = self.segments.segment_mut(id) {
            if segment.end_offset == DATA_START {
                segment.sequences = first..first;
            }
            segment.mark(first, staged.first_offset());
            staged.marks.iter().for_each(|(sequence, offset)| segment.mark(*sequence, *offset));
            segment.sequences.end = self.written_up_to;
            segment.end_offset = staged.offset + staged.bytes as u64;
            segment.is_ended = staged.seals;
        }
        io.buffers.give(staged.buffer);
        self.unblock();
        let is_failed = matches!(self.state, State::Failed(_));
        !is_failed && (staged.seals || self.sync_up_to > self.durable_up_to)
    }

    /// After a sync: the segment written to last may have ended with it.
    fn note_end(&mut self) {
        let written = self.written_segment.and_then(|id| self.segments.segment(id));
        if let Some(segment) = written.filter(|segment| segment.is_ended) {
            self.ended = Some(SegmentEnd {
                segment: segment.identity.id,
                offset: segment.end_offset,
                sequence: segment.sequences.end,
            });
        }
    }

    fn go_on_preparing(
        &mut self,
        mut preparation: prepare::Preparation,
        step: prepare::Progress,
        io: &mut Io,
    ) {
        match step {
            prepare::Progress::Next => {
                let operation = preparation.operation();
                self.request(Purpose::Prepare, operation, io);
                self.preparation = Some(preparation);
            }
            prepare::Progress::Ready => {
                self.has_directory = true;
                let identity = preparation.identity;
                self.segments.add(Segment::new(identity, self.written_up_to, Handle::Open));
                self.unblock();
            }
            prepare::Progress::Blocked(_) => {
                if self.make_do(&mut preparation) {
                    let operation = preparation.operation();
                    self.request(Purpose::Prepare, operation, io);
                }
                self.preparation = Some(preparation);
            }
            prepare::Progress::Failed(error) => {
                preparation.abandon(&mut io.buffers);
                self.fail(error, io);
            }
        }
    }

    fn unblock(&mut self) {
        let is_waiting = self.preparation.as_ref().is_some_and(|p| p.blocked.is_some());
        if matches!(self.state, State::Blocked(_)) && !is_waiting {
            self.state = State::Healthy;
        }
    }

    /// Takes nothing more, for good, and drops what was not written.
    pub(super) fn fail(&mut self, error: IoError, io: &mut Io) {
        self.state = State::Failed(error);
        self.appender.withdraw(None, &mut io.buffers);
        self.sync_up_to = 0;
    }
}
