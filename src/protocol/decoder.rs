//! Bytes of a connection in, commands out; the bytes may be cut anywhere.
//!
//! A command that lies wholly in the input is decoded in place. Of one that does not, the decoder
//! holds the part that has come: a line, and a body of up to [`CARRY_BODY_BYTES_MAX`], in its own
//! small `carry`; a larger body in memory of the shard's budget, which grows with the bytes that
//! have come and not with the size the client claims. Between commands it holds nothing, so a
//! connection can change threads there.

mod line;

use self::line::Line;
use super::batch::{BatchScan, check_count};
use super::command::{Body, Command, CommandLimits, CommandName, Publish, PublishKind, State};
use super::error::ProtocolError;
use super::name::TopicName;
use super::slab::{OverBudget, SlabPool};
use crate::limits::{
    AUTH_SECRET_BYTES_MAX, CARRY_BODY_BYTES_MAX, CARRY_IDLE_BYTES_MAX, COMMAND_LINE_BYTES_MAX,
    SLAB_BYTES,
};

const MAGIC: &[u8; 4] = b"  V2";

/// What decoding depends on besides the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// Which commands are allowed.
    pub state: State,
    /// Whether the connection has heartbeats, without which SUB is refused.
    pub heartbeats: bool,
    /// Whether TLS is required and not there: only IDENTIFY is allowed.
    pub lacks_tls: bool,
    /// The limits in force.
    pub limits: &'c CommandLimits,
}

/// Decodes the commands of one connection.
#[derive(Debug)]
pub struct Decoder {
    stage: Stage,
    /// The beginning of a line, of a size, or of a body; at `Stage::Boundary` what is left of the
    /// last command.
    carry: Vec<u8>,
    /// The beginning of a body too large for `carry`. Charged to the shard's budget.
    slab: Vec<u8>,
    /// The topic of the last publish: most publishers have one, which is then not checked again.
    topic: Option<TopicName>,
    /// The delay of a DPUB whose body is being read.
    delay_ms: u64,
}

/// What is to be read next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Magic,
    /// A line, of which nothing has come.
    Boundary,
    /// A line, the beginning of which is in `carry`.
    Line,
    /// The size of a body.
    Size(CommandName),
    /// A body, parts of which may be in `carry` or `slab`.
    Body {
        command: CommandName,
        body_bytes: usize,
    },
    /// The count of an MPUB.
    Count {
        body_bytes: usize,
    },
    /// The messages of an MPUB, parts of which may be in `carry` or `slab`. What the client says
    /// of their size is but a hint, as for NSQ.
    Batch {
        scan: BatchScan,
        bytes_expected: usize,
    },
}

/// Where a body is that has been read to its end.
enum Place<'i> {
    Input(&'i [u8]),
    Carry,
    Slab,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder for a new connection; the first thing it reads is the magic.
    pub fn new() -> Self {
        let (carry, slab) = (Vec::new(), Vec::new());
        Self { stage: Stage::Magic, carry, slab, topic: None, delay_ms: 0 }
    }

    /// A decoder for a connection whose magic has been read.
    pub fn after_magic() -> Self {
        Self { stage: Stage::Boundary, ..Self::new() }
    }

    /// The next command out of `input`, which is advanced past it. `None` when all of `input` has
    /// been taken and more is needed. What the command borrows is valid until the next call.
    ///
    /// # Errors
    /// Always fatal: nothing more may be decoded from this connection.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        context: &Context<'_>,
        slabs: &mut SlabPool,
    ) -> Result<Option<Command<'a>>, ProtocolError> {
        self.drop_last_command(slabs);
        loop {
            match self.stage {
                Stage::Magic => {
                    let Some(magic) = self.read_chunk(input) else { return Ok(None) };
                    if &magic != MAGIC {
                        return Err(ProtocolError::BadProtocol);
                    }
                    self.stage = Stage::Boundary;
                }
                Stage::Boundary | Stage::Line => match self.read_line(input, context)? {
                    None => return Ok(None),
                    Some(Line::Whole(short)) => return Ok(Some(short.into_command())),
                    Some(Line::Body(command)) => {
                        self.stage = Stage::Size(command);
                        if command == CommandName::Mpub {
                            return Ok(Some(Command::PublishStart { topic: self.topic() }));
                        }
                    }
                },
                Stage::Size(command) => {
                    let Some(size) = self.read_chunk(input) else { return Ok(None) };
                    let size = i32::from_be_bytes(size);
                    let body_bytes = check_size(command, size, context.limits)?;
                    self.stage = match command {
                        CommandName::Mpub => Stage::Count { body_bytes },
                        _ => Stage::Body { command, body_bytes },
                    };
                }
                Stage::Body { command, body_bytes } => {
                    let place = self.read_body(input, body_bytes, slabs);
                    let place = place.map_err(|OverBudget| no_memory(command))?;
                    let Some(place) = place else { return Ok(None) };
                    return Ok(Some(self.finish_body(command, place)));
                }
                Stage::Count { body_bytes } => {
                    let Some(count) = self.read_chunk(input) else { return Ok(None) };
                    let count = check_count(i32::from_be_bytes(count), context.limits)?;
                    let bytes_expected = body_bytes.saturating_sub(size_of_val(&count));
                    self.stage = Stage::Batch { scan: BatchScan::new(count), bytes_expected };
                }
                Stage::Batch { scan, bytes_expected } => {
                    let max_msg_size = context.limits.max_msg_size;
                    let place =
                        self.read_batch(input, scan, bytes_expected, max_msg_size, slabs)?;
                    let Some(place) = place else { return Ok(None) };
                    let count = scan.count();
                    return Ok(Some(self.finish_publish(PublishKind::Mpub, count, place)));
                }
            }
        }
    }

    /// The connection ends: gives back the memory of an unfinished command.
    pub fn release(&mut self, slabs: &mut SlabPool) {
        self.stage = Stage::Boundary;
        self.carry = Vec::new();
        self.drop_last_command(slabs);
    }

    /// Whether it holds nothing of an unfinished command: the connection may change threads, and
    /// an end of the stream is a clean one.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.stage, Stage::Boundary)
    }

    /// What to tell a client that ends its stream here: nothing at a boundary or inside a line
    /// (or the magic), otherwise what NSQ says of a body that cannot be read.
    ///
    /// # Errors
    /// The error to send before closing.
    pub fn end_of_stream(&self) -> Result<(), ProtocolError> {
        use super::batch::BatchError;
        match &self.stage {
            Stage::Magic | Stage::Boundary | Stage::Line => Ok(()),
            Stage::Size(command) => Err(ProtocolError::BodySizeUnread(*command)),
            Stage::Body { command, .. } => Err(ProtocolError::BodyUnread(*command)),
            Stage::Count { .. } => Err(BatchError::CountUnread.into()),
            Stage::Batch { scan, .. } => Err(scan.unread().into()),
        }
    }

    /// Bytes of memory it holds of its own, beside what is charged to the shard's budget.
    pub fn carry_bytes(&self) -> usize {
        self.carry.capacity()
    }

    #[inline]
    fn drop_last_command(&mut self, slabs: &mut SlabPool) {
        if self.is_at_boundary() {
            self.carry.clear();
            if self.carry.capacity() > CARRY_IDLE_BYTES_MAX {
                self.carry = Vec::new();
            }
            if self.slab.capacity() > 0 {
                slabs.give(std::mem::take(&mut self.slab));
            }
        }
    }

    /// Reads a line and decodes it; `None` when its end has not come.
    #[inline]
    fn read_line(
        &mut self,
        input: &mut &[u8],
        context: &Context<'_>,
    ) -> Result<Option<Line>, ProtocolError> {
        let bytes_max = COMMAND_LINE_BYTES_MAX.saturating_sub(self.carry.len());
        let window = input.get(..bytes_max).unwrap_or(input);
        let Some(end) = memchr::memchr(b'\n', window) else {
            if window.len() == bytes_max {
                return Err(ProtocolError::LineTooLong);
            }
            if !window.is_empty() {
                self.carry.extend_from_slice(window);
                self.stage = Stage::Line;
            }
            *input = &[];
            return Ok(None);
        };
        let (line, rest) = input.split_at(end);
        *input = rest.get(1..).unwrap_or_default();
        self.stage = Stage::Boundary;
        if self.carry.is_empty() {
            return line::decode(line, context, &mut self.topic, &mut self.delay_ms).map(Some);
        }
        self.carry.extend_from_slice(line);
        let decoded = line::decode(&self.carry, context, &mut self.topic, &mut self.delay_ms);
        self.carry.clear();
        decoded.map(Some)
    }

    /// Reads four bytes; `None` when they have not all come.
    #[inline]
    fn read_chunk(&mut self, input: &mut &[u8]) -> Option<[u8; 4]> {
        if self.carry.is_empty()
            && let Some((chunk, rest)) = input.split_first_chunk()
        {
            *input = rest;
            return Some(*chunk);
        }
        let (piece, rest) = split_at_most(input, 4 - self.carry.len().min(4));
        *input = rest;
        self.carry.extend_from_slice(piece);
        let chunk = self.carry.first_chunk().copied()?;
        self.carry.clear();
        Some(chunk)
    }

    /// Reads a body of known size; `None` when its end has not come.
    #[inline]
    fn read_body<'i>(
        &mut self,
        input: &mut &'i [u8],
        body_bytes: usize,
        slabs: &mut SlabPool,
    ) -> Result<Option<Place<'i>>, OverBudget> {
        let held_bytes = self.carry.len() + self.slab.len();
        let (piece, rest) = split_at_most(input, body_bytes.saturating_sub(held_bytes));
        *input = rest;
        let is_complete = held_bytes + piece.len() == body_bytes;
        self.place(piece, is_complete, body_bytes, slabs)
    }

    /// Reads the messages of an MPUB; `None` when their end has not come.
    fn read_batch<'i>(
        &mut self,
        input: &mut &'i [u8],
        mut scan: BatchScan,
        bytes_expected: usize,
        max_msg_size: usize,
        slabs: &mut SlabPool,
    ) -> Result<Option<Place<'i>>, ProtocolError> {
        let bytes_used = scan.feed(input, max_msg_size)?;
        self.stage = Stage::Batch { scan, bytes_expected };
        let (piece, rest) = split_at_most(input, bytes_used);
        *input = rest;
        let place = self.place(piece, scan.is_complete(), bytes_expected, slabs);
        place.map_err(|OverBudget| no_memory(CommandName::Mpub))
    }

    /// Leaves the last piece of a body where it is if it is the whole body, and otherwise puts it
    /// behind the pieces before it. Where the body is, once it is complete.
    #[inline]
    fn place<'i>(
        &mut self,
        piece: &'i [u8],
        is_complete: bool,
        bytes_expected: usize,
        slabs: &mut SlabPool,
    ) -> Result<Option<Place<'i>>, OverBudget> {
        let is_whole = is_complete && self.carry.is_empty() && self.slab.is_empty();
        if is_whole {
            return Ok(Some(Place::Input(piece)));
        }
        self.hold(piece, bytes_expected, slabs)?;
        let place = if self.slab.is_empty() { Place::Carry } else { Place::Slab };
        Ok(is_complete.then_some(place))
    }

    /// Keeps a piece of an unfinished body.
    #[cold]
    fn hold(
        &mut self,
        piece: &[u8],
        bytes_expected: usize,
        slabs: &mut SlabPool,
    ) -> Result<(), OverBudget> {
        let bytes_needed = self.carry.len() + self.slab.len() + piece.len();
        if bytes_needed <= CARRY_BODY_BYTES_MAX {
            self.carry.extend_from_slice(piece);
            return Ok(());
        }
        if self.slab.capacity() == 0 {
            self.slab = slabs.take(bytes_needed.max(bytes_expected.min(SLAB_BYTES)))?;
            self.slab.append(&mut self.carry);
        } else {
            slabs.grow_towards(&mut self.slab, bytes_needed, bytes_expected)?;
        }
        self.slab.extend_from_slice(piece);
        Ok(())
    }

    #[inline]
    fn finish_body<'a>(&'a mut self, command: CommandName, place: Place<'a>) -> Command<'a> {
        match command {
            CommandName::Pub => self.finish_publish(PublishKind::Pub, 1, place),
            CommandName::Dpub => self.finish_publish(PublishKind::Dpub, 1, place),
            CommandName::Auth => Command::Auth { secret: self.finish_borrowed(place) },
            _ => Command::Identify { body: self.finish_borrowed(place) },
        }
    }

    fn finish_borrowed<'a>(&'a mut self, place: Place<'a>) -> &'a [u8] {
        self.stage = Stage::Boundary;
        match place {
            Place::Input(bytes) => bytes,
            Place::Carry => &self.carry,
            Place::Slab => &self.slab,
        }
    }

    #[inline]
    fn finish_publish<'a>(
        &'a mut self,
        kind: PublishKind,
        count: u32,
        place: Place<'a>,
    ) -> Command<'a> {
        self.stage = Stage::Boundary;
        let delay_ms = if kind == PublishKind::Dpub { self.delay_ms } else { 0 };
        let body = match place {
            Place::Input(bytes) => Body::Borrowed(bytes),
            Place::Slab => Body::Owned(std::mem::take(&mut self.slab)),
            Place::Carry => Body::Borrowed(&self.carry),
        };
        let topic = self.topic.as_ref().expect("the line of a publish leaves its topic here");
        Command::Publish(Publish { topic, kind, delay_ms, count, body })
    }

    fn topic(&self) -> &TopicName {
        self.topic.as_ref().expect("the line of a publish leaves its topic here")
    }
}

#[inline]
fn split_at_most(input: &[u8], bytes_max: usize) -> (&[u8], &[u8]) {
    input.split_at_checked(bytes_max).unwrap_or((input, &[]))
}

/// Checks the size of a body, which on the wire is signed.
#[inline]
fn check_size(
    command: CommandName,
    size: i32,
    limits: &CommandLimits,
) -> Result<usize, ProtocolError> {
    let max = match command {
        CommandName::Pub | CommandName::Dpub => limits.max_msg_size,
        CommandName::Auth => limits.max_body_size.min(AUTH_SECRET_BYTES_MAX),
        _ => limits.max_body_size,
    };
    match usize::try_from(size) {
        Ok(0) | Err(_) => Err(ProtocolError::BodySizeInvalid { command, size }),
        Ok(bytes) if bytes > max => Err(ProtocolError::BodyTooBig { command, size, max }),
        Ok(bytes) => Ok(bytes),
    }
}

/// There is no memory for a body: a publish failed, other commands could not be read.
fn no_memory(command: CommandName) -> ProtocolError {
    let kind = match command {
        CommandName::Pub => PublishKind::Pub,
        CommandName::Dpub => PublishKind::Dpub,
        CommandName::Mpub => PublishKind::Mpub,
        _ => return ProtocolError::BodyUnread(command),
    };
    ProtocolError::PublishFailed { kind, reason: OverBudget::REASON.into() }
}

#[cfg(test)]
mod tests;
