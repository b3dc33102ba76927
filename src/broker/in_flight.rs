//! Who holds which message: entries in slots, found by id within a channel, and linked per session
//! in order of their deadline.
//!
//! The link order is why no message needs a timer: a session's earliest deadline is always the
//! front of its list. Deadlines of one session rise with each delivery, so an entry is appended;
//! only a TOUCH that meets the `--max-msg-timeout` cap has to walk back to its place.
//!
//! Invariant: an entry is in exactly one channel's [`InFlightIndex`] and in exactly one session's
//! [`InFlightList`]; the list's deadlines never fall from front to back.

use super::store::MessageSlot;
use super::time::Time;

/// A delivered message that was not finished yet.
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// The message's id, for the lookup.
    pub id: u64,
    /// The message.
    pub message: MessageSlot,
    /// Deliveries so far, this one included.
    pub attempts: u16,
    /// The session that holds it, by slot.
    pub session: u32,
    /// When it was delivered: the cap of TOUCH counts from here.
    pub delivered_at: Time,
    /// When it is requeued by itself.
    pub deadline: Time,
    previous: u32,
    next: u32,
}

/// A slot of [`InFlightEntries`].
pub type EntryIndex = u32;

const NONE: u32 = u32::MAX;

/// Entries (3 MiB of them) that stay when nothing is in flight.
const ENTRIES_IDLE_MAX: usize = 1 << 16;

/// All in-flight entries of a shard.
#[derive(Debug, Default)]
pub struct InFlightEntries {
    entries: Vec<InFlight>,
    free: Vec<u32>,
}

/// One session's entries, earliest deadline first.
#[derive(Debug, Clone, Copy)]
pub struct InFlightList {
    front: u32,
    back: u32,
}

/// One channel's entries, by message id: a table of open addressing, at most half full, probed in
/// line. Every message enters it with its delivery and leaves it with its FIN, so an entry leaves
/// no tombstone behind: those after it move up.
#[derive(Debug, Default)]
pub struct InFlightIndex {
    /// A power of two of them, or none.
    slots: Vec<Slot>,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// From the id's hash; spares a look at entries that have another id.
    tag: u32,
    entry: EntryIndex,
}

/// An entry and where it was found in the index; valid until the index changes.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The entry.
    pub entry: EntryIndex,
    position: usize,
}

const EMPTY: Slot = Slot { tag: 0, entry: NONE };
const SLOTS_MIN: usize = 16;

impl Default for InFlightList {
    fn default() -> Self {
        Self { front: NONE, back: NONE }
    }
}

impl InFlightEntries {
    /// The entry in a slot.
    #[inline]
    pub fn entry(&self, index: EntryIndex) -> &InFlight {
        &self.entries[index as usize]
    }

    /// Adds an entry and links it into its session's list.
    #[inline]
    pub fn insert(
        &mut self,
        list: &mut InFlightList,
        (id, message, attempts): (u64, MessageSlot, u16),
        session: u32,
        delivered_at: Time,
        deadline: Time,
    ) -> EntryIndex {
        let entry = InFlight {
            id,
            message,
            attempts,
            session,
            delivered_at,
            deadline,
            previous: NONE,
            next: NONE,
        };
        let index = if let Some(index) = self.free.pop() {
            self.entries[index as usize] = entry;
            index
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 entries fit in memory")
        };
        self.link(list, index);
        index
    }

    /// Unlinks an entry from its session's list and frees the slot.
    #[inline]
    pub fn remove(&mut self, list: &mut InFlightList, index: EntryIndex) -> InFlight {
        self.unlink(list, index);
        self.free.push(index);
        let entry = self.entries[index as usize];
        if self.free.len() == self.entries.len() && self.entries.len() > ENTRIES_IDLE_MAX {
            *self = Self::default();
        }
        entry
    }

    /// Gives an entry a new deadline and its place in the list.
    pub fn postpone(&mut self, list: &mut InFlightList, index: EntryIndex, deadline: Time) {
        self.unlink(list, index);
        self.entries[index as usize].deadline = deadline;
        self.link(list, index);
    }

    /// The entry of a session that is due first.
    pub fn first(&self, list: &InFlightList) -> Option<EntryIndex> {
        (list.front != NONE).then_some(list.front)
    }

    /// When the first entry of a session is due.
    pub fn first_deadline(&self, list: &InFlightList) -> Time {
        self.first(list).map_or(Time::NEVER, |index| self.entry(index).deadline)
    }

    /// The entries of a session, earliest deadline first.
    #[cfg(test)]
    pub(super) fn iter(&self, list: &InFlightList) -> impl Iterator<Item = &InFlight> {
        let next = |index: u32| (index != NONE).then(|| &self.entries[index as usize]);
        std::iter::successors(next(list.front), move |entry| next(entry.next))
    }

    #[inline]
    fn link(&mut self, list: &mut InFlightList, index: u32) {
        let deadline = self.entries[index as usize].deadline;
        let mut after = list.back;
        while after != NONE && self.entries[after as usize].deadline > deadline {
            after = self.entries[after as usize].previous;
        }
        let before = match after {
            NONE => std::mem::replace(&mut list.front, index),
            _ => std::mem::replace(&mut self.entries[after as usize].next, index),
        };
        match before {
            NONE => list.back = index,
            _ => self.entries[before as usize].previous = index,
        }
        let entry = &mut self.entries[index as usize];
        entry.previous = after;
        entry.next = before;
    }

    #[inline]
    fn unlink(&mut self, list: &mut InFlightList, index: u32) {
        let InFlight { previous, next, .. } = self.entries[index as usize];
        match previous {
            NONE => list.front = next,
            _ => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => list.back = previous,
            _ => self.entries[next as usize].previous = previous,
        }
    }
}

impl InFlightIndex {
    /// How many messages are in flight.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Files an entry under its id.
    #[inline]
    pub fn insert(&mut self, id: u64, entry: EntryIndex) {
        if (self.count + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.count += 1;
        self.place(Slot { tag: tag(id), entry });
    }

    /// The entry of a message.
    #[inline]
    pub fn find(&self, entries: &InFlightEntries, id: u64) -> Option<Found> {
        if self.is_empty() {
            return None;
        }
        let (tag, mask) = (tag(id), self.slots.len() - 1);
        let mut position = self.home(tag);
        loop {
            let slot = self.slots[position];
            if slot.entry == NONE {
                return None;
            }
            if slot.tag == tag && entries.entry(slot.entry).id == id {
                return Some(Found { entry: slot.entry, position });
            }
            position = (position + 1) & mask;
        }
    }

    /// Takes an entry out that was just found; the caller then removes it from
    /// [`InFlightEntries`].
    #[inline]
    pub fn remove(&mut self, found: Found) {
        let mask = self.slots.len() - 1;
        let mut hole = found.position;
        let mut position = hole;
        loop {
            position = (position + 1) & mask;
            let slot = self.slots[position];
            if slot.entry == NONE {
                break;
            }
            // It may fill the hole unless its home lies behind the hole.
            let from_home = position.wrapping_sub(self.home(slot.tag)) & mask;
            if from_home >= position.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = position;
            }
        }
        self.slots[hole] = EMPTY;
        self.count -= 1;
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = EntryIndex> {
        self.slots.iter().map(|slot| slot.entry).filter(|entry| *entry != NONE)
    }

    /// Takes all entries out, and gives back the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = EntryIndex> {
        let slots = std::mem::take(self).slots;
        slots.into_iter().map(|slot| slot.entry).filter(|entry| *entry != NONE)
    }

    fn grow(&mut self) {
        let slots = vec![EMPTY; (self.slots.len() * 2).max(SLOTS_MIN)];
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot.entry != NONE {
                self.place(slot);
            }
        }
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut position = self.home(slot.tag);
        while self.slots[position].entry != NONE {
            position = (position + 1) & mask;
        }
        self.slots[position] = slot;
    }

    /// Where a tag's run of slots begins: its highest bits, which are the best mixed.
    fn home(&self, tag: u32) -> usize {
        (tag >> (32 - self.slots.len().trailing_zeros())) as usize
    }
}

/// Ids differ mostly in their low bits (sequence, then time); one multiplication spreads those
/// into the high bits. Clients cannot choose ids.
#[inline]
fn tag(id: u64) -> u32 {
    (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot() -> MessageSlot {
        let mut store = crate::broker::store::MessageStore::new(1 << 20);
        let mut places = Vec::new();
        store.copy_body(b"x", &mut places).unwrap();
        store.insert((1, 1), places[0], 1)
    }

    proptest! {
        /// Any mix of deliveries, finishes and touches keeps list, index and slots in step.
        #[test]
        fn the_list_is_in_order_of_deadline(
            operations in proptest::collection::vec((0u8..3, any::<u16>(), 0u64..1000), 1..200)
        ) {
            let mut entries = InFlightEntries::default();
            let mut list = InFlightList::default();
            let mut index = InFlightIndex::default();
            let mut alive: Vec<(u64, u64)> = Vec::new();
            let slot = slot();
            for (id, (kind, pick, due)) in operations.into_iter().enumerate() {
                let pick = usize::from(pick);
                match kind {
                    0 => {
                        let id = id as u64;
                        let at = (id, slot, 1);
                        let entry = entries.insert(&mut list, at, 0, Time(0), Time(due));
                        index.insert(id, entry);
                        alive.push((id, due));
                    }
                    _ if alive.is_empty() => {}
                    1 => {
                        let (id, _) = alive.swap_remove(pick % alive.len());
                        let found = index.find(&entries, id).unwrap();
                        index.remove(found);
                        prop_assert!(index.find(&entries, id).is_none());
                        entries.remove(&mut list, found.entry);
                    }
                    _ => {
                        let at = pick % alive.len();
                        alive[at].1 = due;
                        let found = index.find(&entries, alive[at].0).unwrap();
                        entries.postpone(&mut list, found.entry, Time(due));
                    }
                }
                prop_assert_eq!(index.len(), alive.len());
                prop_assert!(alive.iter().all(|(id, _)| index.find(&entries, *id).is_some()));
                let earliest = alive.iter().map(|(_, due)| Time(*due)).min();
                prop_assert_eq!(entries.first_deadline(&list), earliest.unwrap_or(Time::NEVER));
            }
            let mut seen = Vec::new();
            while let Some(first) = entries.first(&list) {
                seen.push(entries.remove(&mut list, first).deadline.0);
            }
            let mut expected: Vec<_> = alive.iter().map(|(_, due)| *due).collect();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
        }
    }
}
