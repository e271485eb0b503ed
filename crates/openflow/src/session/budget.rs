//! How much may bundles of all connections hold together, and for how long may one stand idle?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::ErrorCode;

/// Bytes that the bundles of all connections may hold, unless said otherwise: one bundle of 1 GiB fits.
const MAX_BYTES: usize = (1 << 30) + (1 << 27);
/// How many times what is then still free a connection may hold.
const SHARE: usize = 8;
/// Milliseconds that a bundle may stand idle, unless said otherwise (`ovs-vswitchd.conf.db(5)`, `bundle-idle-timeout`).
const IDLE_MS: u64 = 10_000;
/// Bytes that the first piece of a bundle's messages has.
const FIRST_PIECE: usize = 1 << 10;
/// Bytes that a later piece has at most.
const PIECE: usize = 256 << 10;
/// Bytes that a bundle costs without any message.
const EMPTY: usize = 512;

/// What bundles may cost. All connections of a switch share one.
///
/// No connection gets all of it: each may hold eight times what is left to the others, so that one that holds as much as
/// it can leaves a ninth.
#[derive(Debug)]
pub struct BundleBudget {
    max_bytes: usize,
    used: AtomicUsize,
    idle_ms: AtomicU64,
}

impl Default for BundleBudget {
    fn default() -> Self {
        BundleBudget::new(MAX_BYTES)
    }
}

impl BundleBudget {
    /// A budget of some bytes, of which nothing is used.
    pub fn new(max_bytes: usize) -> BundleBudget {
        BundleBudget { max_bytes, used: AtomicUsize::new(0), idle_ms: AtomicU64::new(IDLE_MS) }
    }

    /// Bytes that bundles hold.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Milliseconds that a bundle may stand idle.
    pub fn idle_ms(&self) -> u64 {
        self.idle_ms.load(Ordering::Relaxed)
    }

    /// Sets how long a bundle may stand idle, in milliseconds; `None`: 10 seconds. It is no less than one second
    /// (OpenFlow 1.4 §7.3.9.1).
    pub fn set_idle_ms(&self, ms: Option<u64>) {
        self.idle_ms.store(ms.unwrap_or(IDLE_MS).max(1000), Ordering::Relaxed);
    }

    /// Takes bytes for a connection that holds `own` already; false: they are not to be had.
    fn take(&self, own: usize, bytes: usize) -> bool {
        let more = |used: usize| {
            let used = used.checked_add(bytes)?;
            let free = self.max_bytes.checked_sub(used)?;
            (own + bytes <= free.saturating_mul(SHARE)).then_some(used)
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The messages of a bundle, as they came, one behind the other in pieces. What they cost is given back when they go.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<BundleBudget>,
    pieces: Vec<Vec<u8>>,
    /// Bytes taken of the budget.
    cost: usize,
    count: usize,
}

impl Held {
    /// No messages yet. `own`: bytes that the connection holds.
    ///
    /// # Errors
    /// `OFPBFC_OUT_OF_BUNDLES` when the budget is spent.
    pub(super) fn new(budget: &Arc<BundleBudget>, own: usize) -> Result<Held, ErrorCode> {
        if !budget.take(own, EMPTY) {
            return Err(ErrorCode::OFPBFC_OUT_OF_BUNDLES);
        }
        Ok(Held { budget: budget.clone(), pieces: Vec::new(), cost: EMPTY, count: 0 })
    }

    /// Bytes that it costs.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Number of messages.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Some of the messages, whole and in their order; `None`: there are no more.
    pub(super) fn piece(&self, n: usize) -> Option<&[u8]> {
        self.pieces.get(n).map(Vec::as_slice)
    }

    /// Adds a message. `own` and `max`: bytes that the connection holds, and may hold.
    ///
    /// # Errors
    /// `OFPBFC_MSG_TOO_MANY` when there is no room for it.
    pub(super) fn push(&mut self, message: &[u8], own: usize, max: usize) -> Result<(), ErrorCode> {
        let room = self.pieces.last().map_or(0, |p| p.capacity() - p.len());
        if room < message.len() {
            let size = self.cost.clamp(FIRST_PIECE, PIECE).max(message.len());
            if own + size > max || !self.budget.take(own, size) {
                return Err(ErrorCode::OFPBFC_MSG_TOO_MANY);
            }
            self.cost += size;
            self.pieces.push(Vec::with_capacity(size));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.extend_from_slice(message);
        }
        self.count += 1;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_given_back() {
        let budget = Arc::new(BundleBudget::new(1 << 20));
        let mut first = Held::new(&budget, 0).unwrap();
        let message = [7; 1000];
        while first.push(&message, first.cost(), usize::MAX).is_ok() {}
        // One connection gets eight ninths, as far as pieces go, and what is kept is most of what it costs.
        assert!((600 << 10..932 << 10).contains(&first.cost()), "{}", first.cost());
        assert!(first.count() * 1000 > first.cost() * 9 / 10, "{} of {}", first.count(), first.cost());
        let pieces = (0..).map_while(|n| first.piece(n));
        assert_eq!(pieces.map(<[u8]>::len).sum::<usize>(), first.count() * 1000);
        assert_eq!(budget.used(), first.cost());
        // Others have room still.
        let mut second = Held::new(&budget, 0).unwrap();
        while second.push(&message, second.cost(), usize::MAX).is_ok() {}
        assert!(second.count() > 60, "{}", second.count());
        assert!(budget.used() == first.cost() + second.cost() && budget.used() < 1 << 20);
        drop(first);
        assert_eq!(budget.used(), second.cost());
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_budget_that_is_spent_opens_nothing() {
        let budget = Arc::new(BundleBudget::new(10 << 10));
        let mut all = Vec::new();
        while let Ok(held) = Held::new(&budget, 0) {
            all.push(held);
        }
        assert_eq!(Held::new(&budget, 0).err(), Some(ErrorCode::OFPBFC_OUT_OF_BUNDLES));
        assert!(all.len() >= 19, "{}", all.len());
        all.pop();
        assert_eq!(all[0].push(&[0; 2000], EMPTY, usize::MAX), Err(ErrorCode::OFPBFC_MSG_TOO_MANY));
        assert!(Held::new(&budget, 0).is_ok());
        // What one connection may hold binds as well.
        let mut held = Held::new(&Arc::default(), 0).unwrap();
        assert_eq!(held.push(&[0; 600], EMPTY, 1000), Err(ErrorCode::OFPBFC_MSG_TOO_MANY));
        assert_eq!((held.push(&[0; 600], EMPTY, 2000), held.count()), (Ok(()), 1));
    }

    #[test]
    fn idle_time_is_at_least_a_second() {
        let budget = BundleBudget::default();
        for (ms, kept) in [(None, 10_000), (Some(0), 1000), (Some(3000), 3000), (None, 10_000)] {
            budget.set_idle_ms(ms);
            assert_eq!(budget.idle_ms(), kept);
        }
    }
}
