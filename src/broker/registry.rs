//! The table of topics: every shard's copy of where each topic lives.
//!
//! Shard 0's copy is the original (the registrar's); the others learn by mail. Names are hashed
//! once, when a connection meets a topic for the first time; after that a [`TopicId`] is an index.

use super::admin::{ShardIndex, TopicId};
use crate::limits::TOPICS_MAX;
use crate::protocol::name::TopicName;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// One shard's copy of the table. Invariant: `by_name[n] == i` exactly when `places[i]` is in use
/// and has the name `n`.
#[derive(Debug)]
pub struct Registry {
    by_name: HashMap<TopicName, u32, FixedState>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// Topics per shard; only the registrar's counts are complete.
    topic_counts: Vec<usize>,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Whose row it is.
    pub name: TopicName,
    /// The owner.
    pub home: ShardIndex,
    /// How far its creation or deletion is.
    pub stage: Stage,
    generation: u32,
}

/// The life of a row. Only the registrar sees `Creating` and `Deleting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its home has been told to create it.
    Creating,
    /// It may be used.
    Known,
    /// Shards are forgetting it.
    Deleting,
    /// No topic.
    Free,
}

impl Registry {
    /// An empty table. `seed` keeps clients from choosing names that collide.
    pub fn new(shards: u16, seed: u64) -> Self {
        Self {
            by_name: HashMap::with_hasher(FixedState::with_seed(seed)),
            places: Vec::new(),
            free: Vec::new(),
            topic_counts: vec![0; usize::from(shards)],
        }
    }

    /// The topic of that name, in whatever stage.
    pub fn find(&self, name: &TopicName) -> Option<(TopicId, &Place)> {
        let index = *self.by_name.get(name)?;
        let place = &self.places[index as usize];
        Some((TopicId { index, generation: place.generation }, place))
    }

    /// The row of a topic, unless it has been given up since.
    pub fn place(&self, id: TopicId) -> Option<&Place> {
        let place = self.places.get(id.index as usize)?;
        (place.generation == id.generation && place.stage != Stage::Free).then_some(place)
    }

    /// Where to send what belongs to a topic; `None` when it is not usable (any more).
    pub fn home(&self, id: TopicId) -> Option<ShardIndex> {
        self.place(id).filter(|place| place.stage == Stage::Known).map(|place| place.home)
    }

    /// Moves a row to another stage.
    pub fn set_stage(&mut self, id: TopicId, stage: Stage) {
        debug_assert!(self.place(id).is_some());
        self.places[id.index as usize].stage = stage;
    }

    /// Registrar: takes a row for a new topic and chooses its home: the shard with the fewest
    /// topics, and among those `preferred`, where the topic is first used.
    ///
    /// `None` when there are [`TOPICS_MAX`] topics.
    pub fn allocate(
        &mut self,
        name: TopicName,
        preferred: ShardIndex,
    ) -> Option<(TopicId, ShardIndex)> {
        if self.by_name.len() >= TOPICS_MAX {
            return None;
        }
        let fewest = self.topic_counts.iter().min().copied().unwrap_or(0);
        let home = if self.topic_counts[usize::from(preferred.0)] == fewest {
            preferred
        } else {
            let first = self.topic_counts.iter().position(|count| *count == fewest);
            ShardIndex(u16::try_from(first.unwrap_or(0)).expect("at most SHARDS_MAX shards"))
        };
        let index = self
            .free
            .pop()
            .unwrap_or_else(|| u32::try_from(self.places.len()).expect("TOPICS_MAX is below 2^32"));
        let generation = self.places.get(index as usize).map_or(0, |place| place.generation);
        let id = TopicId { index, generation };
        self.fill(id, Place { name, home, stage: Stage::Creating, generation });
        Some((id, home))
    }

    /// Notes what the registrar said.
    pub fn learn(&mut self, id: TopicId, name: TopicName, home: ShardIndex) {
        if self.place(id).is_none() {
            let generation = id.generation;
            self.fill(id, Place { name, home, stage: Stage::Known, generation });
        }
    }

    /// Drops a row; the registrar also makes its index available again.
    pub fn forget(&mut self, id: TopicId, reuse: bool) {
        let Some(place) = self.place(id).copied() else { return };
        if self.by_name.get(&place.name) == Some(&id.index) {
            self.by_name.remove(&place.name);
        }
        self.topic_counts[usize::from(place.home.0)] -= 1;
        let row = &mut self.places[id.index as usize];
        row.stage = Stage::Free;
        if reuse {
            row.generation = row.generation.wrapping_add(1);
            self.free.push(id.index);
        }
    }

    fn fill(&mut self, id: TopicId, place: Place) {
        let index = id.index as usize;
        if index >= self.places.len() {
            let free = Place { stage: Stage::Free, generation: 0, ..place };
            self.places.resize(index + 1, free);
        }
        self.topic_counts[usize::from(place.home.0)] += 1;
        self.by_name.insert(place.name, id.index);
        self.places[index] = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName {
        TopicName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn topics_spread_evenly_and_stay_where_they_are_first_used_on_a_tie() {
        let mut registry = Registry::new(3, 1);
        let homes: Vec<u16> = (0..6)
            .map(|i| registry.allocate(name(&format!("t{i}")), ShardIndex(1)).unwrap().1.0)
            .collect();
        assert_eq!(homes[0], 1, "all are equal: where it is used");
        for shard in 0..3 {
            assert_eq!(homes.iter().filter(|home| **home == shard).count(), 2, "{homes:?}");
        }
    }

    #[test]
    fn a_reused_row_is_not_mistaken_for_the_old_topic() {
        let mut registry = Registry::new(1, 1);
        let (old, home) = registry.allocate(name("a"), ShardIndex(0)).unwrap();
        registry.set_stage(old, Stage::Known);
        assert_eq!(registry.home(old), Some(home));
        registry.forget(old, true);
        assert_eq!(registry.home(old), None);
        assert!(registry.find(&name("a")).is_none());
        let (new, _) = registry.allocate(name("b"), ShardIndex(0)).unwrap();
        assert_eq!(new.index, old.index);
        registry.set_stage(new, Stage::Known);
        assert_eq!(registry.home(old), None);
        assert!(registry.home(new).is_some());
    }
}
