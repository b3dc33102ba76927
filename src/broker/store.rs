//! Where a shard keeps its messages: small fixed slots, and pages that hold the bodies.
//!
//! A body is copied at most once after it was received: small ones are packed one after the other
//! into an open page, a large batch is taken over whole with the slab it arrived in. Channels
//! share a message by its slot; the last to release it frees it. A page goes back to the pool
//! with its last message, and the open page starts over when nothing in it is alive, so that
//! under steady load the same few warm pages go round.
//!
//! Invariants: `references` of a slot counts the queues, in-flight entries and deferrals that name
//! it; `live` of a page counts the slots that point into it.

use crate::limits::{MESSAGE_HOLDER_BYTES, MESSAGE_OVERHEAD_BYTES, SLAB_BYTES};
use crate::protocol::command::{BatchIter, PublishKind};
use crate::protocol::slab::{OverBudget, SlabPool};
use std::ops::Range;
use std::rc::Rc;

/// A message's slot in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageSlot(u32);

/// What is the same for every channel that has the message.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// As rendered on the wire, in hex.
    pub id: u64,
    /// When it was published, UNIX nanoseconds.
    pub timestamp_ns: i64,
    /// Its sequence in the topic's log; 0 when it is only in memory.
    pub sequence: u64,
    page: u32,
    offset: u32,
    length: u32,
    references: u32,
}

/// Where a body lies, before it has a message.
#[derive(Debug, Clone, Copy)]
pub struct BodyPlace {
    page: u32,
    offset: u32,
    length: u32,
}

#[cfg(test)]
impl MessageSlot {
    /// Tells slots apart.
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

#[derive(Debug)]
struct Page {
    bytes: Rc<Vec<u8>>,
    live: u32,
}

/// See the module's text.
#[derive(Debug)]
pub struct MessageStore {
    /// The bytes all this lives in, and their budget.
    pub pool: SlabPool,
    messages: Vec<Message>,
    /// The slot freed last, or none; a free slot's `offset` names the next.
    first_free: u32,
    pages: Vec<Page>,
    free_pages: Vec<u32>,
    /// The page small bodies are appended to.
    open: Option<u32>,
    live_count: usize,
}

/// No slot: the end of the list of free ones.
const NO_SLOT: u32 = u32::MAX;

/// The least number of slots the table grows by.
const SLOTS_MIN: usize = 1024;

/// Slots (2.5 MiB of them) that stay when no message is alive: what a burst took beyond goes back.
const SLOTS_KEPT_MAX: usize = 1 << 16;

impl MessageStore {
    /// An empty store with a byte budget.
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            pool: SlabPool::new(budget_bytes),
            messages: Vec::new(),
            first_free: NO_SLOT,
            pages: Vec::new(),
            free_pages: Vec::new(),
            open: None,
            live_count: 0,
        }
    }

    /// Messages alive, in whatever state.
    pub fn live_count(&self) -> usize {
        self.live_count
    }

    /// Copies a body into the open page, or into a page of its own when it is large, and lists its
    /// place.
    ///
    /// # Errors
    /// [`OverBudget`] when the shard's memory budget has no room for it.
    #[inline]
    pub fn copy_body(
        &mut self,
        body: &[u8],
        places: &mut Vec<BodyPlace>,
    ) -> Result<(), OverBudget> {
        self.pool.charge(MESSAGE_OVERHEAD_BYTES)?;
        let Ok((page, offset)) = self.append(body) else {
            self.pool.uncharge(MESSAGE_OVERHEAD_BYTES);
            return Err(OverBudget);
        };
        places.push(BodyPlace { page, offset, length: to_u32(body.len()) });
        Ok(())
    }

    /// The same for a message that is in the log already, and must be delivered whatever the
    /// budget says; how many of those there are is limited where they are read.
    pub fn copy_body_anyway(&mut self, body: &[u8]) -> BodyPlace {
        self.pool.charge_anyway(MESSAGE_OVERHEAD_BYTES);
        let length = to_u32(body.len());
        if let Ok((page, offset)) = self.append(body) {
            return BodyPlace { page, offset, length };
        }
        let slab = body.to_vec();
        self.pool.adopt(&slab);
        let page = self.add_page(slab);
        self.pages[page as usize].live = 1;
        BodyPlace { page, offset: 0, length }
    }

    /// Whether the budget has room for so many more messages with so many holders each.
    pub fn has_room(&self, messages: usize, holders: usize, body_bytes: usize) -> bool {
        let each = MESSAGE_OVERHEAD_BYTES + holders * MESSAGE_HOLDER_BYTES;
        let bytes = messages.saturating_mul(each).saturating_add(body_bytes + SLAB_BYTES);
        self.pool.bytes_used().saturating_add(bytes) <= self.pool.bytes_max()
    }

    /// Takes over a slab whole, without copying, and lists the bodies in it: of a batch of
    /// messages, or the slab as one. It lives as long as a message in it.
    ///
    /// # Errors
    /// [`OverBudget`] when the messages' own bookkeeping does not fit the budget. The places
    /// listed by then are to be [abandoned](Self::abandon).
    pub fn adopt(
        &mut self,
        slab: Vec<u8>,
        kind: PublishKind,
        places: &mut Vec<BodyPlace>,
    ) -> Result<(), OverBudget> {
        let page = self.add_page(slab);
        let mut live = 0;
        let bytes = &self.pages[page as usize].bytes;
        let mut place = |offset: usize, body: &[u8]| {
            self.pool.charge(MESSAGE_OVERHEAD_BYTES)?;
            live += 1;
            places.push(BodyPlace { page, offset: to_u32(offset), length: to_u32(body.len()) });
            Ok(())
        };
        let placed = match kind {
            PublishKind::Mpub => {
                BatchIter::new(bytes).try_for_each(|(offset, body)| place(offset, body))
            }
            PublishKind::Pub | PublishKind::Dpub => place(0, bytes),
        };
        self.pages[page as usize].live = live;
        if live == 0 {
            self.free_page(page);
        }
        placed
    }

    /// Gives back a place no message was made of.
    pub fn abandon(&mut self, place: BodyPlace) {
        self.pool.uncharge(MESSAGE_OVERHEAD_BYTES);
        self.release_page(place.page);
    }

    /// Charges what so many messages cost beside their bodies when each has so many holders; the
    /// first is part of a body's place. Each [release](Self::release) but the last takes its
    /// share back.
    ///
    /// # Errors
    /// [`OverBudget`]; nothing is charged then.
    pub fn charge_holders(&mut self, messages: usize, holders: u32) -> Result<(), OverBudget> {
        let further = messages.saturating_mul(holders.saturating_sub(1) as usize);
        self.pool.charge(further.saturating_mul(MESSAGE_HOLDER_BYTES))
    }

    /// Makes a message of a body, with so many references, at least one; further ones than that
    /// have been [charged](Self::charge_holders).
    #[inline]
    pub fn insert(
        &mut self,
        (id, timestamp_ns): (u64, i64),
        place: BodyPlace,
        references: u32,
    ) -> MessageSlot {
        let BodyPlace { page, offset, length } = place;
        let message = Message { id, timestamp_ns, sequence: 0, page, offset, length, references };
        self.live_count += 1;
        let free = self.first_free;
        if let Some(slot) = self.messages.get_mut(free as usize) {
            self.first_free = slot.offset;
            *slot = message;
            return MessageSlot(free);
        }
        if self.messages.len() == self.messages.capacity() {
            self.grow_messages();
        }
        self.messages.push(message);
        MessageSlot(to_u32(self.messages.len() - 1))
    }

    /// The message in a slot.
    #[inline]
    pub fn message(&self, slot: MessageSlot) -> &Message {
        &self.messages[slot.0 as usize]
    }

    /// Its sequence in the topic's log; 0 when it is only in memory.
    #[inline]
    pub fn sequence(&self, slot: MessageSlot) -> u64 {
        self.message(slot).sequence
    }

    /// Notes that it is in the log.
    #[inline]
    pub fn set_sequence(&mut self, slot: MessageSlot, sequence: u64) {
        self.messages[slot.0 as usize].sequence = sequence;
    }

    /// Its body.
    #[inline]
    pub fn body(&self, slot: MessageSlot) -> &[u8] {
        let message = self.message(slot);
        &self.pages[message.page as usize].bytes[message.range()]
    }

    /// Its body, to be held beyond the message's life without copying.
    pub fn shared_body(&self, slot: MessageSlot) -> (Rc<Vec<u8>>, Range<usize>) {
        let message = self.message(slot);
        (Rc::clone(&self.pages[message.page as usize].bytes), message.range())
    }

    /// How many holders a message has.
    #[cfg(test)]
    pub(super) fn references(&self, slot: MessageSlot) -> u32 {
        self.message(slot).references
    }

    /// Adds references: one more holder each. They are charged but never refused, since the
    /// message has been acknowledged.
    pub fn retain(&mut self, slot: MessageSlot, holders: u32) {
        self.pool.charge_anyway(holders as usize * MESSAGE_HOLDER_BYTES);
        self.messages[slot.0 as usize].references += holders;
    }

    /// Drops one reference, and the message with the last.
    #[inline]
    pub fn release(&mut self, slot: MessageSlot) {
        let message = &mut self.messages[slot.0 as usize];
        debug_assert!(message.references > 0, "released more often than retained");
        message.references -= 1;
        if message.references == 0 {
            let page = message.page;
            message.offset = std::mem::replace(&mut self.first_free, slot.0);
            self.live_count -= 1;
            self.pool.uncharge(MESSAGE_OVERHEAD_BYTES);
            self.release_page(page);
            if self.live_count == 0 && self.messages.capacity() > SLOTS_KEPT_MAX {
                self.messages = Vec::new();
                self.first_free = NO_SLOT;
            }
        } else {
            self.pool.uncharge(MESSAGE_HOLDER_BYTES);
        }
    }

    /// Room for more slots: a large table grows by an eighth, so that a deep queue does not hold
    /// twice what it needs.
    #[cold]
    fn grow_messages(&mut self) {
        let slots = self.messages.len();
        let more = if slots < SLOTS_KEPT_MAX { slots.max(SLOTS_MIN) } else { slots / 8 };
        self.messages.reserve_exact(more);
    }

    /// Puts a body into a page; which one, and at which offset.
    #[inline]
    fn append(&mut self, body: &[u8]) -> Result<(u32, u32), OverBudget> {
        let page = match self.open {
            Some(open) if self.open_has_room(open, body.len()) => open,
            _ => self.open_page(body.len())?,
        };
        let entry = &mut self.pages[page as usize];
        let bytes = Rc::get_mut(&mut entry.bytes).expect("only full pages are shared");
        let offset = to_u32(bytes.len());
        bytes.extend_from_slice(body);
        entry.live += 1;
        Ok((page, offset))
    }

    /// Whether the open page takes a body without growing. A page whose bodies are being sent
    /// from is shared and takes nothing more.
    fn open_has_room(&self, open: u32, bytes: usize) -> bool {
        let page = &self.pages[open as usize];
        page.bytes.capacity() - page.bytes.len() >= bytes && Rc::strong_count(&page.bytes) == 1
    }

    /// Starts a page with room for a body. One that fills most of a page gets it for itself, so
    /// the page that was open stays open for smaller ones.
    fn open_page(&mut self, bytes: usize) -> Result<u32, OverBudget> {
        let slab = self.pool.take(bytes.max(SLAB_BYTES))?;
        let page = self.add_page(slab);
        if bytes < SLAB_BYTES / 2 {
            let before = self.open.replace(page);
            if let Some(before) = before.filter(|p| self.pages[*p as usize].live == 0) {
                self.free_page(before);
            }
        }
        Ok(page)
    }

    fn add_page(&mut self, slab: Vec<u8>) -> u32 {
        let page = Page { bytes: Rc::new(slab), live: 0 };
        if let Some(index) = self.free_pages.pop() {
            self.pages[index as usize] = page;
            return index;
        }
        self.pages.push(page);
        to_u32(self.pages.len() - 1)
    }

    #[inline]
    fn release_page(&mut self, index: u32) {
        let page = &mut self.pages[index as usize];
        page.live -= 1;
        if page.live > 0 {
            return;
        }
        if self.open == Some(index) {
            // Start over in the same warm memory, unless a send still reads from it.
            if let Some(bytes) = Rc::get_mut(&mut page.bytes) {
                bytes.clear();
                return;
            }
            self.open = None;
        }
        self.free_page(index);
    }

    fn free_page(&mut self, index: u32) {
        let bytes = std::mem::take(&mut self.pages[index as usize].bytes);
        self.free_pages.push(index);
        match Rc::try_unwrap(bytes) {
            Ok(slab) => self.pool.give(slab),
            // A send still reads from it and frees the memory when it completes; what sends may
            // hold is bounded by their own limits.
            Err(shared) => self.pool.uncharge(shared.capacity()),
        }
    }
}

impl BodyPlace {
    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        self.length as usize
    }
}

impl Message {
    /// Bytes of its body.
    pub fn body_bytes(&self) -> usize {
        self.length as usize
    }

    fn range(&self) -> Range<usize> {
        self.offset as usize..self.offset as usize + self.length as usize
    }
}

/// Offsets and counts fit: a slab is at most `--max-body-size` (a signed 32-bit length on the
/// wire), and slots cost more than 32 bytes of a budget below 2^32 × 32 bytes.
fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("slabs and slot counts stay below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn add(store: &mut MessageStore, body: &[u8]) -> MessageSlot {
        let mut places = Vec::new();
        store.copy_body(body, &mut places).unwrap();
        store.insert((1, 2), places[0], 1)
    }

    #[test]
    fn everything_is_given_back_with_the_last_reference() {
        let mut store = MessageStore::new(1 << 20);
        let slot = add(&mut store, b"hello");
        store.retain(slot, 1);
        store.release(slot);
        assert_eq!(store.body(slot), b"hello");
        store.release(slot);
        assert_eq!(store.live_count(), 0);
        let warm = store.pool.bytes_used();
        assert!(warm <= SLAB_BYTES, "only the open page stays: {warm}");
    }

    #[test]
    fn over_budget_takes_nothing() {
        let mut store = MessageStore::new(SLAB_BYTES * 2);
        let before = store.pool.bytes_used();
        assert!(store.copy_body(&vec![0; SLAB_BYTES * 4], &mut Vec::new()).is_err());
        assert_eq!(store.pool.bytes_used(), before);
    }

    #[test]
    fn a_body_being_sent_outlives_its_message() {
        let mut store = MessageStore::new(1 << 22);
        let slot = add(&mut store, &vec![7; SLAB_BYTES]);
        let (bytes, range) = store.shared_body(slot);
        store.release(slot);
        assert_eq!(bytes[range], vec![7; SLAB_BYTES][..]);
        assert_eq!(store.pool.bytes_used(), 0);
    }

    proptest! {
        /// Against a plain list of bodies, with any mix of sizes and any order of release.
        #[test]
        fn bodies_survive_until_released(
            operations in proptest::collection::vec(
                (any::<bool>(), 1usize..40_000, any::<u16>()),
                1..150,
            )
        ) {
            let mut store = MessageStore::new(64 << 20);
            let mut model: Vec<(MessageSlot, u8, usize)> = Vec::new();
            for (adds, length, pick) in operations {
                if adds || model.is_empty() {
                    let fill = (pick % 251) as u8;
                    model.push((add(&mut store, &vec![fill; length]), fill, length));
                } else {
                    let (slot, fill, length) = model.swap_remove(pick as usize % model.len());
                    prop_assert_eq!(store.body(slot), &vec![fill; length][..]);
                    store.release(slot);
                }
            }
            prop_assert_eq!(store.live_count(), model.len());
            for (slot, ..) in model {
                store.release(slot);
            }
            prop_assert!(store.pool.bytes_used() <= SLAB_BYTES);
        }
    }
}
