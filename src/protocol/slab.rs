//! Where the memory of message bodies comes from, and the byte budget of a shard.
//!
//! Every byte is accounted by *capacity*, not length: what is charged for a vector is exactly what
//! is uncharged when it comes back, provided nobody grows it except through [`SlabPool::grow`].

use crate::limits::{SLAB_BYTES, SLAB_EXACT_BYTES_MAX, SLABS_SPARE_MAX};
use std::fmt;

/// The memory of one shard: a budget, and some spare vectors of [`SLAB_BYTES`].
///
/// Invariant: `bytes_used` is the sum of what was charged and not yet uncharged. It exceeds
/// `bytes_max` only by what was [adopted](SlabPool::adopt) or
/// [charged anyway](SlabPool::charge_anyway). Spare slabs are not part of it.
#[derive(Debug)]
pub struct SlabPool {
    /// Empty vectors with a capacity of exactly `SLAB_BYTES`; the last one given is the warmest.
    spare: Vec<Vec<u8>>,
    bytes_used: usize,
    bytes_max: usize,
}

/// The budget does not allow what was asked for. Its text is the reason given to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverBudget;

impl OverBudget {
    /// The reason as clients and logs see it.
    pub const REASON: &'static str = "memory budget exceeded";
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::REASON)
    }
}

impl std::error::Error for OverBudget {}

impl SlabPool {
    /// An empty pool with a budget of `bytes_max` bytes. Allocates nothing.
    pub fn new(bytes_max: usize) -> Self {
        Self { spare: Vec::new(), bytes_used: 0, bytes_max }
    }

    /// An empty vector of at least `capacity` bytes, charged. Requests above
    /// [`SLAB_EXACT_BYTES_MAX`] and up to [`SLAB_BYTES`] get a whole slab, a spare one if there
    /// is one; others get just what they ask for.
    ///
    /// # Errors
    /// [`OverBudget`]; nothing is charged or allocated then.
    pub fn take(&mut self, capacity: usize) -> Result<Vec<u8>, OverBudget> {
        let slab = capacity > SLAB_EXACT_BYTES_MAX && capacity <= SLAB_BYTES;
        let wanted = if slab { SLAB_BYTES } else { capacity };
        self.check_room(wanted)?;
        let spare = if slab { self.spare.pop() } else { None };
        let bytes = spare.unwrap_or_else(|| Vec::with_capacity(wanted));
        self.bytes_used += bytes.capacity();
        Ok(bytes)
    }

    /// Makes a charged vector hold `capacity_needed` bytes in all, at least doubling it if it has
    /// to grow, and charges the difference.
    ///
    /// # Errors
    /// [`OverBudget`]; the vector is as it was then.
    pub fn grow(&mut self, bytes: &mut Vec<u8>, capacity_needed: usize) -> Result<(), OverBudget> {
        self.grow_towards(bytes, capacity_needed, usize::MAX)
    }

    /// As [`grow`](SlabPool::grow), but doubling stops at `capacity_expected`, unless even that
    /// is too small for `capacity_needed`.
    ///
    /// # Errors
    /// [`OverBudget`]; the vector is as it was then.
    pub fn grow_towards(
        &mut self,
        bytes: &mut Vec<u8>,
        capacity_needed: usize,
        capacity_expected: usize,
    ) -> Result<(), OverBudget> {
        let capacity = bytes.capacity();
        if capacity_needed <= capacity {
            return Ok(());
        }
        let doubled = capacity.saturating_mul(2).max(capacity_needed);
        let expected = capacity_expected >= capacity_needed;
        let wanted = if expected { doubled.min(capacity_expected) } else { doubled };
        self.check_room(wanted - capacity)?;
        bytes.reserve_exact(wanted - bytes.len());
        self.bytes_used += bytes.capacity() - capacity;
        Ok(())
    }

    /// Charges a vector that came from elsewhere and is already there, so it cannot be refused.
    pub fn adopt(&mut self, bytes: &Vec<u8>) {
        self.bytes_used += bytes.capacity();
    }

    /// Takes back a charged vector: uncharges it, and keeps or frees its memory.
    pub fn give(&mut self, mut bytes: Vec<u8>) {
        self.uncharge(bytes.capacity());
        if bytes.capacity() == SLAB_BYTES && self.spare.len() < SLABS_SPARE_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Charges memory that is not a vector of this pool.
    ///
    /// # Errors
    /// [`OverBudget`]; nothing is charged then.
    #[inline]
    pub fn charge(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.check_room(bytes)?;
        self.bytes_used += bytes;
        Ok(())
    }

    /// Charges memory that is needed whatever the budget says.
    pub fn charge_anyway(&mut self, bytes: usize) {
        self.bytes_used += bytes;
    }

    /// Takes back a charge.
    #[inline]
    pub fn uncharge(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes_used, "uncharged more than was charged");
        self.bytes_used = self.bytes_used.saturating_sub(bytes);
    }

    /// Bytes charged now.
    pub fn bytes_used(&self) -> usize {
        self.bytes_used
    }

    /// The budget.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn check_room(&self, bytes: usize) -> Result<(), OverBudget> {
        let room = self.bytes_max.saturating_sub(self.bytes_used);
        if bytes <= room { Ok(()) } else { Err(OverBudget) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_charged_by_capacity_until_it_is_given_back() {
        let mut slabs = SlabPool::new(10 * SLAB_BYTES);
        let small = slabs.take(100).unwrap();
        assert_eq!((small.capacity(), slabs.bytes_used()), (100, 100));
        let slab = slabs.take(SLAB_EXACT_BYTES_MAX + 1).unwrap();
        assert_eq!(slab.capacity(), SLAB_BYTES);
        let large = slabs.take(SLAB_BYTES + 1).unwrap();
        assert_eq!(slabs.bytes_used(), 100 + SLAB_BYTES + SLAB_BYTES + 1);
        for bytes in [small, slab, large] {
            slabs.give(bytes);
        }
        assert_eq!((slabs.bytes_used(), slabs.spare.len()), (0, 1));
    }

    #[test]
    fn a_spare_slab_is_used_again_and_comes_back_empty() {
        let mut slabs = SlabPool::new(SLAB_BYTES);
        let mut slab = slabs.take(SLAB_BYTES).unwrap();
        slab.push(1);
        let address = slab.as_ptr();
        slabs.give(slab);
        let again = slabs.take(SLAB_BYTES).unwrap();
        assert_eq!((again.as_ptr(), again.len(), slabs.bytes_used()), (address, 0, SLAB_BYTES));
    }

    #[test]
    fn only_so_many_spare_slabs_are_kept() {
        let mut slabs = SlabPool::new(usize::MAX);
        let taken: Vec<_> = (0..=SLABS_SPARE_MAX).map(|_| slabs.take(SLAB_BYTES)).collect();
        taken.into_iter().for_each(|slab| slabs.give(slab.unwrap()));
        assert_eq!((slabs.spare.len(), slabs.bytes_used()), (SLABS_SPARE_MAX, 0));
    }

    #[test]
    fn the_budget_is_exact_and_a_refusal_changes_nothing() {
        let mut slabs = SlabPool::new(1000);
        let mut bytes = slabs.take(600).unwrap();
        assert_eq!(slabs.take(401), Err(OverBudget));
        assert_eq!(slabs.charge(401), Err(OverBudget));
        assert_eq!(slabs.grow(&mut bytes, 1001), Err(OverBudget));
        assert_eq!((bytes.capacity(), slabs.bytes_used()), (600, 600));
        slabs.charge(400).unwrap();
        assert_eq!(slabs.bytes_used(), slabs.bytes_max());
        slabs.adopt(&Vec::with_capacity(50));
        assert_eq!(slabs.take(1), Err(OverBudget));
    }

    #[test]
    fn growth_doubles_up_to_what_is_expected() {
        let mut slabs = SlabPool::new(100_000);
        let mut bytes = slabs.take(100).unwrap();
        let cases = [(50, 60, 100), (101, 1000, 200), (201, 250, 250), (300, 260, 500)];
        for (needed, expected, capacity) in cases {
            slabs.grow_towards(&mut bytes, needed, expected).unwrap();
            assert_eq!((bytes.capacity(), slabs.bytes_used()), (capacity, capacity));
        }
        slabs.grow(&mut bytes, 5000).unwrap();
        assert_eq!((bytes.capacity(), slabs.bytes_used()), (5000, 5000));
    }
}
