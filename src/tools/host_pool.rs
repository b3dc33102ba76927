//! Which of several hosts gets the next message. Pure: it is given the time, and random numbers
//! come from a seed.

use std::time::Duration;

/// First wait before a host that failed is tried again; doubled with each further failure.
const RETRY_FIRST: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(900);

/// Response times count less the older they are, and no more after this many buckets.
const BUCKETS: u64 = 120;
const BUCKET: Duration = Duration::from_millis(2500);

const EPSILON_FIRST: f64 = 0.3;
const EPSILON_DECAY: f64 = 0.9;
const EPSILON_MIN: f64 = 0.01;

/// How a host is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// In turn, whatever their health.
    RoundRobin,
    /// In turn, those that work.
    HostPool,
    /// Mostly the quick ones; sometimes another, to see whether it has become quick.
    EpsilonGreedy,
}

/// The hosts, by index.
#[derive(Debug)]
pub(super) struct HostPool {
    mode: Mode,
    hosts: Vec<Host>,
    next: usize,
    epsilon: f64,
    random: fastrand::Rng,
}

#[derive(Debug, Default)]
struct Host {
    /// It failed: not before this time, and how long the wait was.
    down: Option<(Duration, Duration)>,
    /// Number of the bucket, answers in it and their time.
    times: Vec<(u64, u32, Duration)>,
}

impl HostPool {
    pub(super) fn new(mode: Mode, count: usize, seed: u64) -> Self {
        let hosts = (0..count).map(|_| Host::default()).collect();
        // NSQ counts before it uses the number.
        let next = if mode == Mode::RoundRobin { 1 } else { 0 };
        let random = fastrand::Rng::with_seed(seed);
        Self { mode, hosts, next, epsilon: EPSILON_FIRST, random }
    }

    /// The host for the next message.
    pub(super) fn choose(&mut self, now: Duration) -> usize {
        match self.mode {
            Mode::RoundRobin => self.in_turn(|_| true).unwrap_or(0),
            Mode::HostPool => self.healthy(now),
            Mode::EpsilonGreedy => self.quick(now),
        }
    }

    /// What became of it, after this time.
    pub(super) fn mark(&mut self, at: usize, worked: bool, took: Duration, now: Duration) {
        let host = &mut self.hosts[at];
        match (worked, host.down) {
            (true, _) => host.down = None,
            (false, None) => host.down = Some((now + RETRY_FIRST, RETRY_FIRST)),
            // The wait was doubled when it was tried.
            (false, Some(_)) => {}
        }
        if worked && self.mode == Mode::EpsilonGreedy {
            let number = bucket(now);
            host.times.retain(|(bucket, ..)| bucket + BUCKETS > number);
            match host.times.last_mut().filter(|(bucket, ..)| *bucket == number) {
                Some((_, count, time)) => {
                    *count += 1;
                    *time += took;
                }
                None => host.times.push((number, 1, took)),
            }
        }
    }

    fn in_turn(&mut self, fits: impl Fn(&Host) -> bool) -> Option<usize> {
        let count = self.hosts.len();
        let order = (0..count).map(|step| (self.next + step) % count);
        let chosen = order.into_iter().find(|at| fits(&self.hosts[*at]))?;
        self.next = (chosen + 1) % count;
        Some(chosen)
    }

    fn healthy(&mut self, now: Duration) -> usize {
        let chosen = self.in_turn(|host| host.down.is_none_or(|(until, _)| until <= now));
        let Some(chosen) = chosen else {
            // All are down: better to try than to give up.
            for host in &mut self.hosts {
                host.down = None;
            }
            self.next = 1 % self.hosts.len();
            return 0;
        };
        if let Some((until, wait)) = &mut self.hosts[chosen].down {
            *wait = (*wait * 2).min(RETRY_MAX);
            *until = now + *wait;
        }
        chosen
    }

    fn quick(&mut self, now: Duration) -> usize {
        if self.random.f64() <= self.epsilon {
            self.epsilon = (self.epsilon * EPSILON_DECAY).max(EPSILON_MIN);
            return self.healthy(now);
        }
        let weight = |host: &Host| host.down.is_none().then(|| host.weight(now)).flatten();
        let weights: Vec<f64> = self.hosts.iter().map(|h| weight(h).unwrap_or(0.0)).collect();
        let total: f64 = weights.iter().sum();
        let mut drawn = self.random.f64() * total;
        for (at, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            drawn -= weight;
            if drawn <= 0.0 {
                return at;
            }
        }
        // Nothing is known of any.
        self.healthy(now)
    }
}

impl Host {
    /// The inverse of its average time, recent times counting more; `None` if it has none.
    fn weight(&self, now: Duration) -> Option<f64> {
        let (mut sum, mut weights) = (0.0, 0.0);
        for (number, count, time) in &self.times {
            let age = bucket(now).saturating_sub(*number).min(BUCKETS);
            let weight = (BUCKETS - age) as f64 / BUCKETS as f64;
            sum += time.as_secs_f64() / f64::from(*count) * weight;
            weights += weight;
        }
        let average = if weights > 0.0 { sum / weights } else { return None };
        Some(1.0 / average.max(1e-9))
    }
}

fn bucket(now: Duration) -> u64 {
    u64::try_from(now.as_millis() / BUCKET.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn chosen(pool: &mut HostPool, now: Duration, count: usize) -> Vec<usize> {
        (0..count).map(|_| pool.choose(now)).collect()
    }

    #[test]
    fn round_robin_begins_with_the_second() {
        let mut pool = HostPool::new(Mode::RoundRobin, 3, 1);
        pool.mark(2, false, S, S);
        assert_eq!(chosen(&mut pool, S, 5), [1, 2, 0, 1, 2]);
        assert_eq!(chosen(&mut HostPool::new(Mode::RoundRobin, 1, 1), S, 2), [0, 0]);
    }

    #[test]
    fn a_host_that_fails_rests_ever_longer() {
        let mut pool = HostPool::new(Mode::HostPool, 2, 1);
        assert_eq!(chosen(&mut pool, S, 3), [0, 1, 0]);
        pool.mark(1, false, S, S);
        assert_eq!(chosen(&mut pool, 30 * S, 2), [0, 0]);
        // Its time has come; while it is tried others go on, and it fails again.
        assert_eq!(chosen(&mut pool, 31 * S, 3), [1, 0, 0]);
        pool.mark(1, false, S, 31 * S);
        assert_eq!(chosen(&mut pool, 90 * S, 2), [0, 0]);
        assert_eq!(pool.choose(91 * S), 1);
        pool.mark(1, true, S, 91 * S);
        assert_eq!(chosen(&mut pool, 91 * S, 2), [0, 1]);
        // All down: all are revived, and the first is tried.
        pool.mark(0, false, S, 91 * S);
        pool.mark(1, false, S, 91 * S);
        assert_eq!(chosen(&mut pool, 91 * S, 2), [0, 1]);
    }

    #[test]
    fn quick_hosts_get_more() {
        let mut pool = HostPool::new(Mode::EpsilonGreedy, 2, 7);
        let mut counts = [0; 2];
        for round in 0..2_000 {
            let now = S * (round / 100);
            let at = pool.choose(now);
            counts[at] += 1;
            pool.mark(at, true, Duration::from_millis([1, 50][at]), now);
        }
        assert!(counts[0] > 1_700 && counts[1] > 10, "{counts:?}");
    }
}
