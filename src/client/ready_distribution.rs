//! How many messages each nsqd may send: RDY for every connection of a consumer. Pure: it is given
//! the time, and random numbers come from a seed.
//!
//! Always: the sum over connections of max(RDY, messages in hand) grows only within max-in-flight.
//! It can be exceeded by what an nsqd sent before a lower RDY reached it, and by no more.
//!
//! With at least one message per connection everybody gets an equal share, and idle connections
//! all but one message of theirs goes to the busy ones. With fewer messages than connections they
//! take turns: whoever has sent nothing for a moment passes its turn on at once, and a busy one
//! keeps it for a second. So no nsqd with messages waits behind idle ones, and none waits for ever.

use std::collections::VecDeque;
use std::time::Duration;

/// Times and the limit; see `Config`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) idle: Duration,
    pub(super) turn: Duration,
    pub(super) redistribute: Duration,
}

/// How much may be asked for in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// As much as max-in-flight says.
    All,
    /// One message, to test the waters.
    One,
    /// Nothing.
    Nothing,
}

/// RDY of all connections.
#[derive(Debug)]
pub(super) struct ReadyDistribution {
    max_in_flight: u32,
    limit: Limit,
    pace: Pace,
    connections: Vec<Connection>,
    /// Who waits for a turn, by key; used when there are fewer messages than connections.
    waiting: VecDeque<u32>,
    /// RDY to be sent.
    changes: Vec<(u32, u32)>,
    /// Somebody has less than its share because others still hold messages.
    short: bool,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Connection {
    key: u32,
    ready: u32,
    ready_max: u32,
    in_flight: u32,
    /// Gets nothing more.
    closing: bool,
    /// Sent a message lately.
    active: bool,
    last_message: Duration,
    /// Has a turn, since then.
    turn_since: Option<Duration>,
}

impl Connection {
    /// What of the limit it takes up.
    fn committed(&self) -> u32 {
        self.ready.max(self.in_flight)
    }
}

impl ReadyDistribution {
    pub(super) fn new(max_in_flight: u32, pace: Pace, seed: u64) -> Self {
        Self {
            max_in_flight,
            limit: Limit::All,
            pace,
            connections: Vec::new(),
            waiting: VecDeque::new(),
            changes: Vec::new(),
            short: false,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// RDY commands to send, by key; lower ones come first.
    pub(super) fn changes(&mut self) -> std::vec::Drain<'_, (u32, u32)> {
        self.changes.drain(..)
    }

    /// A connection to an nsqd that takes at most this RDY.
    pub(super) fn add(&mut self, key: u32, ready_max: u32, now: Duration) {
        self.connections.push(Connection {
            key,
            ready: 0,
            ready_max,
            in_flight: 0,
            closing: false,
            active: false,
            last_message: now,
            turn_since: None,
        });
        // Anywhere in the queue, so that consumers do not go round in step.
        let place = self.random.usize(0..=self.waiting.len());
        self.waiting.insert(place, key);
        self.plan(now);
    }

    /// The connection is gone, and with it what it had in hand.
    pub(super) fn remove(&mut self, key: u32, now: Duration) {
        self.connections.retain(|connection| connection.key != key);
        self.changes.retain(|(changed, _)| *changed != key);
        self.waiting.retain(|waiting| *waiting != key);
        self.plan(now);
    }

    /// The connection gets nothing more, and no RDY is sent to it.
    pub(super) fn close(&mut self, key: u32, now: Duration) {
        self.changes.retain(|(changed, _)| *changed != key);
        self.waiting.retain(|waiting| *waiting != key);
        if let Some(connection) = self.find(key) {
            connection.closing = true;
            connection.ready = 0;
            connection.turn_since = None;
        }
        self.plan(now);
    }

    /// A message has come.
    #[inline]
    pub(super) fn delivered(&mut self, key: u32, now: Duration) {
        let Some(connection) = self.find(key) else { return };
        connection.in_flight += 1;
        connection.last_message = now;
        if !connection.active {
            connection.active = true;
            self.plan(now);
        }
    }

    /// A message has been answered.
    #[inline]
    pub(super) fn answered(&mut self, key: u32, now: Duration) {
        let Some(connection) = self.find(key) else { return };
        connection.in_flight = connection.in_flight.saturating_sub(1);
        if self.short {
            self.plan(now);
        }
    }

    pub(super) fn set_max_in_flight(&mut self, max_in_flight: u32, now: Duration) {
        self.max_in_flight = max_in_flight;
        self.plan(now);
    }

    /// Changes what may be asked for. Testing the waters begins with a random connection.
    pub(super) fn set_limit(&mut self, limit: Limit, now: Duration) {
        self.limit = limit;
        if limit == Limit::Nothing {
            for at in 0..self.connections.len() {
                self.end_turn(at);
            }
        }
        if limit == Limit::One && !self.waiting.is_empty() {
            let first = self.random.usize(0..self.waiting.len());
            self.waiting.rotate_left(first);
        }
        self.plan(now);
    }

    /// Messages in hand.
    pub(super) fn in_flight(&self, key: u32) -> u32 {
        self.connections.iter().find(|c| c.key == key).map_or(0, |c| c.in_flight)
    }

    /// Whether some connection has sent almost all it may: more comes only once answers go out.
    pub(super) fn is_starved(&self) -> bool {
        let full = |c: &Connection| {
            u64::from(c.in_flight) * 100 >= u64::from(c.ready) * 85 && c.in_flight > 0
        };
        self.connections.iter().any(|c| !c.closing && full(c))
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Duration) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.takes_turns() {
            for at in 0..self.connections.len() {
                if self.turn_ends(at).is_some_and(|end| end <= now) {
                    self.end_turn(at);
                }
            }
        } else {
            let idle = self.idle_after();
            for connection in &mut self.connections {
                connection.active &= connection.last_message + idle > now;
            }
        }
        self.plan(now);
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        if self.takes_turns() {
            if self.waiting.is_empty() {
                return None;
            }
            return (0..self.connections.len()).filter_map(|at| self.turn_ends(at)).min();
        }
        let idle = self.idle_after();
        let active = self.connections.iter().filter(|c| c.active);
        active.map(|c| c.last_message + idle).min()
    }

    /// Messages that may be in hand.
    fn allowed(&self) -> u32 {
        match self.limit {
            Limit::All => self.max_in_flight,
            Limit::One => self.max_in_flight.min(1),
            Limit::Nothing => 0,
        }
    }

    fn open(&self) -> usize {
        self.connections.iter().filter(|c| !c.closing).count()
    }

    fn takes_turns(&self) -> bool {
        (self.allowed() as usize) < self.open()
    }

    fn idle_after(&self) -> Duration {
        self.pace.idle.max(self.pace.redistribute)
    }

    /// When the connection here has to pass its turn on, if it has one.
    fn turn_ends(&self, at: usize) -> Option<Duration> {
        let connection = &self.connections[at];
        let since = connection.turn_since?;
        let busy = since + self.pace.turn;
        if connection.in_flight > 0 {
            return Some(busy);
        }
        Some(busy.min(connection.last_message.max(since) + self.pace.idle))
    }

    fn end_turn(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.turn_since.take().is_some() {
            self.waiting.push_back(connection.key);
        }
    }

    /// Computes every connection's share and changes RDY towards it.
    fn plan(&mut self, now: Duration) {
        let allowed = self.allowed();
        let targets = if self.takes_turns() { self.turns(now) } else { self.shares() };
        for (connection, target) in self.connections.iter_mut().zip(&targets) {
            if connection.ready > *target {
                connection.ready = *target;
                self.changes.push((connection.key, *target));
            }
        }
        // What others hold is theirs until they answer, so that the limit holds.
        let committed: u32 = self.connections.iter().map(Connection::committed).sum();
        let mut spare = allowed.saturating_sub(committed);
        self.short = false;
        for (connection, target) in self.connections.iter_mut().zip(&targets) {
            if connection.ready >= *target {
                continue;
            }
            let before = connection.committed();
            let ready = (*target).min(before + spare);
            if ready > connection.ready {
                connection.ready = ready;
                spare -= connection.committed() - before;
                self.changes.push((connection.key, ready));
            }
            self.short |= ready < *target;
        }
    }

    /// Who has a turn gets one message.
    fn turns(&mut self, now: Duration) -> Vec<u32> {
        let allowed = self.allowed() as usize;
        let mut having = self.connections.iter().filter(|c| c.turn_since.is_some()).count();
        // Too many, since the limit has become lower: the idle ones go first.
        for only_idle in [true, false] {
            for at in 0..self.connections.len() {
                let idle = self.connections[at].in_flight == 0;
                let has = self.connections[at].turn_since.is_some();
                if having > allowed && has && (idle || !only_idle) {
                    self.end_turn(at);
                    having -= 1;
                }
            }
        }
        while having < allowed {
            let Some(key) = self.waiting.pop_front() else { break };
            let connection = self.find(key).expect("who waits is connected");
            connection.turn_since = Some(now);
            having += 1;
        }
        self.connections.iter().map(|c| u32::from(c.turn_since.is_some())).collect()
    }

    /// Equal shares; the idle keep one message while others are busy.
    fn shares(&mut self) -> Vec<u32> {
        for at in 0..self.connections.len() {
            self.end_turn(at);
        }
        let open: Vec<_> = self.connections.iter().filter(|c| !c.closing).collect();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let active = count(open.iter().filter(|c| c.active).count());
        let idle = count(open.len()) - active;
        let (sharing, pool) = match (active, idle) {
            (0, idle) => (idle, self.allowed()),
            (active, idle) => (active, self.allowed().saturating_sub(idle)),
        };
        let share = pool.checked_div(sharing).unwrap_or(0);
        let mut rest = pool.checked_rem(sharing).unwrap_or(0);
        let target = |connection: &Connection| {
            if connection.closing {
                return 0;
            }
            if active > 0 && !connection.active {
                return 1.min(connection.ready_max);
            }
            let more = u32::from(rest > 0);
            rest -= more;
            (share + more).min(connection.ready_max)
        };
        self.connections.iter().map(target).collect()
    }

    fn find(&mut self, key: u32) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.key == key)
    }
}

#[cfg(test)]
mod tests;
