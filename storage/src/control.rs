//! Records about the log itself: how a segment begins, and which cursors exist.
//!
//! Every change of the set of cursors gets the next version. A checkpoint says which version it
//! holds, so that recovery applies exactly the changes made since, in whatever order checkpoint
//! and log became durable. Every segment begins with the whole set: with both checkpoints lost,
//! cursors are found in the newest segment.

use crate::codec::{Input, put, put_bytes};
use crate::cursors::{Cursor, CursorId, Cursors};
use crate::record::Kind;
use crate::segment::SegmentId;
use std::collections::BTreeMap;

/// Where the records of a segment ended, and with which next sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
}

/// A control record's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    /// What came before this segment, and the cursors there are, unless they are too many.
    Begin {
        previous: Option<SegmentEnd>,
        table: Option<Table>,
    },
    Created {
        version: u64,
        id: CursorId,
        low: u64,
        name: Vec<u8>,
    },
    Deleted {
        version: u64,
        id: CursorId,
    },
}

/// The cursors of a log by number: low watermark and name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Table {
    pub(crate) version: u64,
    pub(crate) next_id: u32,
    pub(crate) list: BTreeMap<CursorId, (u64, Vec<u8>)>,
}

impl Table {
    pub(crate) fn of(cursors: &Cursors) -> Self {
        let entry = |(id, cursor): (CursorId, &Cursor)| (id, (cursor.low(), cursor.name().into()));
        let list = cursors.iter().map(entry).collect();
        Self { version: cursors.version(), next_id: cursors.next_id(), list }
    }
}

impl Control {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Begin { previous, table } => {
                let none = SegmentEnd { segment: SegmentId(0), offset: 0, sequence: 0 };
                let previous = previous.unwrap_or(none);
                put(&mut bytes, previous.segment.0);
                put(&mut bytes, previous.offset);
                put(&mut bytes, previous.sequence);
                if let Some(table) = table {
                    put(&mut bytes, table.version);
                    put(&mut bytes, u64::from(table.next_id));
                    put(&mut bytes, table.list.len() as u64);
                    for (id, (low, name)) in &table.list {
                        put(&mut bytes, u64::from(id.0));
                        put(&mut bytes, *low);
                        put_bytes(&mut bytes, name);
                    }
                }
            }
            Self::Created { version, id, low, name } => {
                put(&mut bytes, *version);
                put(&mut bytes, u64::from(id.0));
                put(&mut bytes, *low);
                put_bytes(&mut bytes, name);
            }
            Self::Deleted { version, id } => {
                put(&mut bytes, *version);
                put(&mut bytes, u64::from(id.0));
            }
        }
        bytes
    }

    /// Reads the payload of a record of that kind; `None` for kinds that are no control records,
    /// and for payloads this code did not write.
    pub(crate) fn decode(kind: Kind, payload: &[u8]) -> Option<Self> {
        let mut input = Input(payload);
        match kind {
            Kind::Begin => {
                let segment = SegmentId(input.take()?);
                let (offset, sequence) = (input.take()?, input.take()?);
                let previous = SegmentEnd { segment, offset, sequence };
                let previous = (segment.0 != 0).then_some(previous);
                let table = if input.0.is_empty() { None } else { Some(decode_table(input)?) };
                Some(Self::Begin { previous, table })
            }
            Kind::CursorCreated => Some(Self::Created {
                version: input.take()?,
                id: CursorId(input.take_u32()?),
                low: input.take()?,
                name: input.take_bytes()?.into(),
            }),
            Kind::CursorDeleted => {
                let version = input.take()?;
                Some(Self::Deleted { version, id: CursorId(input.take_u32()?) })
            }
            Kind::Message | Kind::Batch | Kind::Seal => None,
        }
    }

    /// Brings a set of cursors up to date with this change, unless it already is.
    pub(crate) fn apply(self, cursors: &mut Cursors) {
        match self {
            Self::Begin { table: Some(table), .. } => apply_table(table, cursors),
            Self::Created { version, id, low, name } if version > cursors.version() => {
                cursors.restore(id, Cursor::new(&name, low));
                cursors.set_version(version);
            }
            Self::Deleted { version, id } if version > cursors.version() => {
                cursors.reserve_ids(id.0.saturating_add(1));
                cursors.remove(id);
                cursors.set_version(version);
            }
            _ => {}
        }
    }
}

fn decode_table(mut input: Input<'_>) -> Option<Table> {
    let (version, next_id) = (input.take()?, input.take_u32()?);
    let mut table = Table { version, next_id, list: BTreeMap::new() };
    for _ in 0..input.take()? {
        let id = CursorId(input.take_u32()?);
        let low = input.take()?;
        table.list.insert(id, (low, input.take_bytes()?.into()));
    }
    Some(table)
}

fn apply_table(table: Table, cursors: &mut Cursors) {
    cursors.reserve_ids(table.next_id);
    if table.version > cursors.version() {
        cursors.retain(|id| table.list.contains_key(&id));
        cursors.set_version(table.version);
        for (id, (low, name)) in &table.list {
            if cursors.cursor(*id).is_none() {
                cursors.restore(*id, Cursor::new(name, *low));
            }
        }
    }
    // What was finished when the segment began is finished, whatever an older checkpoint says.
    for (id, (low, _)) in table.list {
        if let Some(cursor) = cursors.cursor_mut(id) {
            cursor.finish_range(0..low);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(control: Control, kind: Kind, expected: &[u8]) {
        let bytes = control.encode();
        assert_eq!(bytes, expected);
        assert_eq!(Control::decode(kind, &bytes), Some(control));
    }

    #[test]
    fn golden_bytes() {
        let mut cursors = Cursors::default();
        let first = cursors.create(b"a", 5);
        cursors.create(b"bc", 300);
        let previous = SegmentEnd { segment: SegmentId(1), offset: 4096, sequence: 9 };
        let table = Some(Table::of(&cursors));
        let begin = Control::Begin { previous: Some(previous), table };
        let bytes = b"\x01\x80\x20\x09\x02\x02\x02\x00\x05\x01a\x01\xac\x02\x02bc";
        check(begin, Kind::Begin, bytes);
        let begin = Control::Begin { previous: None, table: None };
        check(begin, Kind::Begin, b"\0\0\0");
        let created = Control::Created { version: 3, id: CursorId(7), low: 9, name: b"x".into() };
        check(created, Kind::CursorCreated, b"\x03\x07\x09\x01x");
        let deleted = Control::Deleted { version: 4, id: first };
        check(deleted, Kind::CursorDeleted, b"\x04\0");
        assert_eq!(Control::decode(Kind::Begin, b"\x01"), None);
        assert_eq!(Control::decode(Kind::Seal, b""), None);
    }

    #[test]
    fn changes_apply_once_and_in_order() {
        let mut cursors = Cursors::default();
        let old = cursors.create(b"a", 1);
        let before = cursors.clone();
        cursors.delete(old);
        let deleted = Control::Deleted { version: cursors.version(), id: old };
        let new = cursors.create(b"a", 2);
        let version = cursors.version();
        let created = Control::Created { version, id: new, low: 2, name: b"a".into() };
        let begin = Control::Begin { previous: None, table: Some(Table::of(&cursors)) };

        let mut replayed = before.clone();
        deleted.clone().apply(&mut replayed);
        created.clone().apply(&mut replayed);
        assert_eq!(replayed, cursors);
        cursors.cursor_mut(new).unwrap().finish_range(0..9);
        let finished = cursors.clone();
        for control in [deleted, created, begin.clone()] {
            control.apply(&mut cursors);
            assert_eq!(cursors, finished, "a change that is known already changes nothing");
        }
        let mut rebuilt = before;
        begin.apply(&mut rebuilt);
        assert_eq!(rebuilt, replayed);
    }
}
