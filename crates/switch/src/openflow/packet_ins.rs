//! In which order, and how fast, do packets go to a controller?
//!
//! Without a limit they go at once, unless the controller is slow: then they are dropped. With `controller_rate_limit`
//! a token bucket sets the pace, for packets that no rule matched and those that a rule sent separately; what exceeds
//! it waits in a queue per port, and the queues take turns, so that a port that floods does not silence the others.

use std::collections::{BTreeMap, VecDeque};

use weft_flow::OfPort;

/// Tokens are counted in thousandths: one millisecond at one packet per second.
const PACKET: u64 = 1000;
/// Packets that wait for one controller unless configured.
pub(crate) const DEFAULT_QUEUE: usize = 100;

/// Limits of one controller (`controller_rate_limit`, `controller_burst_limit`, `controller_queue_size`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Packets per second.
    pub rate: u32,
    /// Packets that may go at once after a pause.
    pub burst: u32,
    /// Packets that may wait.
    pub queue: usize,
}

/// The two kinds that are limited separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No rule matched.
    Miss,
    /// A rule sent it.
    Action,
}

/// What has been done with packets, for `status` of the Controller table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Sent at once.
    pub bypassed: u64,
    /// Made to wait.
    pub queued: u64,
    /// Dropped.
    pub dropped: u64,
}

/// Both kinds, for one controller. Without limits nothing waits here.
pub(super) struct PacketIns<T = super::packets::Waiting> {
    kinds: Option<[Limiter<T>; 2]>,
    /// Packets dropped because the controller did not keep up.
    pub(super) congested: u64,
}

impl<T> Default for PacketIns<T> {
    fn default() -> Self {
        PacketIns { kinds: None, congested: 0 }
    }
}

/// What to do with a packet.
pub(super) enum Admitted<T> {
    /// Send it.
    Send(T),
    /// It waits its turn; another one may have been dropped for it.
    Waits,
}

impl<T> PacketIns<T> {
    /// Sets or removes limits; what waits is kept, as far as it may.
    pub(super) fn limit(&mut self, limits: Option<Limits>, now: u64) {
        match (limits, &mut self.kinds) {
            (None, kinds) => *kinds = None,
            (Some(limits), Some(kinds)) => kinds.iter_mut().for_each(|k| k.limits = limits),
            (Some(limits), kinds) => {
                *kinds = Some([Limiter::new(limits, now), Limiter::new(limits, now)]);
            }
        }
    }

    /// Whether there are limits.
    pub(super) fn is_limited(&self) -> bool {
        self.kinds.is_some()
    }

    /// A packet that came in by a port.
    pub(super) fn admit(&mut self, kind: Kind, port: OfPort, packet: T, now: u64) -> Admitted<T> {
        match &mut self.kinds {
            None => Admitted::Send(packet),
            Some(kinds) => kinds[kind as usize].admit(port, packet, now),
        }
    }

    /// The next packet whose turn it is.
    pub(super) fn next(&mut self, now: u64) -> Option<T> {
        self.kinds.as_mut()?.iter_mut().find_map(|k| k.next(now))
    }

    /// When [`PacketIns::next`] has something, if anything waits.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.kinds.as_ref()?.iter().filter_map(Limiter::deadline).min()
    }

    /// Counts and backlog by kind, while there are limits.
    pub(super) fn counts(&self) -> Option<[(&'static str, Counts, usize); 2]> {
        let [miss, action] = self.kinds.as_ref()?;
        Some([("miss", miss.counts, miss.waiting), ("action", action.counts, action.waiting)])
    }

    /// Packets dropped, for whatever reason.
    pub(super) fn dropped(&self) -> u64 {
        let limited = self.kinds.iter().flatten().map(|k| k.counts.dropped).sum::<u64>();
        self.congested + limited
    }
}

struct Limiter<T> {
    limits: Limits,
    tokens: u64,
    filled_ms: u64,
    queues: BTreeMap<OfPort, VecDeque<T>>,
    /// The port whose turn was last.
    last: OfPort,
    waiting: usize,
    counts: Counts,
}

impl<T> Limiter<T> {
    fn new(limits: Limits, now: u64) -> Limiter<T> {
        Limiter {
            limits,
            tokens: u64::from(limits.burst) * PACKET,
            filled_ms: now,
            queues: BTreeMap::new(),
            last: OfPort(0),
            waiting: 0,
            counts: Counts::default(),
        }
    }

    fn take_token(&mut self, now: u64) -> bool {
        let new = now.saturating_sub(self.filled_ms).saturating_mul(self.limits.rate.into());
        self.tokens = self.tokens.saturating_add(new).min(u64::from(self.limits.burst) * PACKET);
        self.filled_ms = now.max(self.filled_ms);
        let enough = self.tokens >= PACKET;
        if enough {
            self.tokens -= PACKET;
        }
        enough
    }

    fn admit(&mut self, port: OfPort, packet: T, now: u64) -> Admitted<T> {
        if self.waiting == 0 && self.take_token(now) {
            self.counts.bypassed += 1;
            return Admitted::Send(packet);
        }
        if self.waiting >= self.limits.queue {
            self.drop_one();
        }
        self.queues.entry(port).or_default().push_back(packet);
        self.waiting += 1;
        self.counts.queued += 1;
        Admitted::Waits
    }

    /// Drops the oldest packet of the longest queue.
    fn drop_one(&mut self) {
        if let Some((&port, queue)) = self.queues.iter_mut().max_by_key(|(_, q)| q.len()) {
            queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&port);
            }
            self.waiting -= 1;
            self.counts.dropped += 1;
        }
    }

    fn next(&mut self, now: u64) -> Option<T> {
        if self.waiting == 0 || !self.take_token(now) {
            return None;
        }
        let after = self.queues.range(self.last..).map(|(p, _)| *p).find(|p| *p != self.last);
        let port = after.or_else(|| self.queues.keys().next().copied())?;
        self.last = port;
        let queue = self.queues.get_mut(&port)?;
        let packet = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&port);
        }
        self.waiting -= 1;
        packet
    }

    fn deadline(&self) -> Option<u64> {
        let missing = PACKET.saturating_sub(self.tokens);
        let wait = missing.div_ceil(u64::from(self.limits.rate.max(1)));
        (self.waiting > 0).then(|| self.filled_ms + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(rate: u32, burst: u32, queue: usize) -> PacketIns<u32> {
        let mut packets = PacketIns::default();
        packets.limit(Some(Limits { rate, burst, queue }), 0);
        packets
    }

    #[test]
    fn bursts_go_at_once_and_the_rest_at_the_rate() {
        let mut packets = limited(100, 3, 10);
        let at_once =
            (0..8).filter(|i| matches!(packets.admit(Kind::Action, OfPort(1), *i, 0), Admitted::Send(_)));
        assert_eq!(at_once.count(), 3);
        assert_eq!(packets.deadline(), Some(10));
        let mut times = Vec::new();
        for now in 0..200 {
            while packets.next(now).is_some() {
                times.push(now);
            }
        }
        assert_eq!(times, [10, 20, 30, 40, 50]);
        assert_eq!(packets.deadline(), None);
    }

    #[test]
    fn a_flooding_port_does_not_silence_another() {
        let mut packets = limited(100, 1, 20);
        for i in 0..1000 {
            packets.admit(Kind::Action, OfPort(1), i, 0);
        }
        for i in 0..3 {
            packets.admit(Kind::Action, OfPort(2), 5000 + i, 0);
        }
        // Other packets than those sent by rules have a bucket of their own.
        assert!(matches!(packets.admit(Kind::Miss, OfPort(1), 0, 0), Admitted::Send(0)));
        let first: Vec<u32> = (0..80).filter_map(|now| packets.next(now)).collect();
        assert_eq!(first.iter().filter(|p| **p >= 5000).count(), 3, "{first:?}");
        assert_eq!(packets.dropped(), 1003 - 1 - 20);
    }
}
