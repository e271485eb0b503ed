//! How much may a port take in? Ingress policing: token buckets for bytes and for packets, shared by all lanes.
//!
//! ovs-vswitchd.conf.db(5), "Ingress Policing". A GSO frame costs what its segments cost. One that is larger than a
//! whole bucket passes when the bucket is full and leaves it in debt: dropping it always would end the TCP stream that
//! sent it, and the rate over time is the same.

use std::sync::{Mutex, PoisonError};

/// What a port may take in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policing {
    /// Kilobits per second; 0: any number.
    pub kbps: u64,
    /// Kilobits that may come at once; 0: 8000.
    pub burst_kbit: u64,
    /// Thousands of packets per second; 0: any number.
    pub kpps: u64,
    /// Thousands of packets that may come at once; 0: 16.
    pub burst_kpkts: u64,
}

/// Kilobits that may come at once, unless told.
pub(crate) const DEFAULT_BURST_KBIT: u64 = 8000;
/// Thousands of packets that may come at once, unless told.
pub(crate) const DEFAULT_BURST_KPKTS: u64 = 16;
/// The largest rate and burst that make a difference; larger ones count as this.
const LARGEST: u64 = 1_000_000_000_000;

impl Policing {
    /// Whether anything is limited.
    pub fn limits(&self) -> bool {
        self.kbps != 0 || self.kpps != 0
    }
}

/// The buckets of a port.
#[derive(Debug)]
pub(crate) struct Policer {
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    /// When they were last filled, microseconds.
    filled_us: u64,
    /// Thousandths of bits.
    bits: Option<Bucket>,
    /// Thousandths of packets.
    packets: Option<Bucket>,
}

/// A bucket that gets `rate` tokens each microsecond: a thousand in a second is one in a thousandth of one.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    capacity: i64,
    tokens: i64,
}

impl Bucket {
    /// A full one; `None`: nothing is limited.
    fn new(rate: u64, burst: u64, default_burst: u64) -> Option<Bucket> {
        let burst = if burst == 0 { default_burst } else { burst.min(LARGEST) };
        let capacity = i64::try_from(burst * 1_000_000).unwrap_or(i64::MAX);
        (rate != 0).then_some(Bucket { rate: rate.min(LARGEST), capacity, tokens: capacity })
    }

    fn fill(&mut self, elapsed_us: u64) {
        let gain = i64::try_from(elapsed_us.saturating_mul(self.rate)).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(gain).min(self.capacity);
    }

    fn has(&self, cost: i64) -> bool {
        self.tokens >= cost.min(self.capacity)
    }
}

impl Policer {
    pub(crate) fn new(policing: Policing, now_us: u64) -> Policer {
        let bits = Bucket::new(policing.kbps, policing.burst_kbit, DEFAULT_BURST_KBIT);
        let packets = Bucket::new(policing.kpps, policing.burst_kpkts, DEFAULT_BURST_KPKTS);
        Policer { buckets: Mutex::new(Buckets { filled_us: now_us, bits, packets }) }
    }

    /// Has `refuse` told of each of the frames that is too much. Frames are (place, packets, bytes in all).
    pub(crate) fn police(
        &self,
        frames: impl Iterator<Item = (usize, u64, u64)>,
        now_us: u64,
        mut refuse: impl FnMut(usize),
    ) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now_us.saturating_sub(buckets.filled_us);
        buckets.filled_us = buckets.filled_us.max(now_us);
        let Buckets { bits, packets, .. } = &mut *buckets;
        let each = |bucket: &mut Option<Bucket>| bucket.iter_mut().for_each(|b| b.fill(elapsed));
        each(bits);
        each(packets);
        for (at, count, bytes) in frames {
            let cost = |of: u64, each: u64| i64::try_from(of.saturating_mul(each)).unwrap_or(i64::MAX);
            let (in_bits, in_packets) = (cost(bytes, 8_000), cost(count, 1_000));
            let room = bits.as_ref().is_none_or(|b| b.has(in_bits))
                && packets.as_ref().is_none_or(|b| b.has(in_packets));
            if !room {
                refuse(at);
                continue;
            }
            bits.iter_mut().for_each(|b| b.tokens = b.tokens.saturating_sub(in_bits));
            packets.iter_mut().for_each(|b| b.tokens = b.tokens.saturating_sub(in_packets));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these frames (packets, bytes) are refused.
    fn refused(policer: &Policer, frames: &[(u64, u64)], now_us: u64) -> Vec<usize> {
        let mut refused = Vec::new();
        let frames = frames.iter().enumerate().map(|(at, (packets, bytes))| (at, *packets, *bytes));
        policer.police(frames, now_us, |at| refused.push(at));
        refused
    }

    #[test]
    fn bytes_are_limited() {
        // 8 kbit are 1000 bytes.
        let policer = Policer::new(Policing { kbps: 8, burst_kbit: 16, ..Policing::default() }, 0);
        assert_eq!(refused(&policer, &[(1, 1000), (1, 1000), (1, 1), (1, 1)], 0), [2, 3]);
        assert_eq!(refused(&policer, &[(1, 1000)], 999_999), [0], "a second gives 1000 bytes");
        assert_eq!(refused(&policer, &[(1, 1000), (1, 1)], 1_000_000), [1]);
        assert_eq!(refused(&policer, &[(1, 1)], 5), [0], "time that goes back gives nothing");
    }

    #[test]
    fn packets_are_limited_and_the_smaller_limit_counts() {
        let policing = Policing { kpps: 1, burst_kpkts: 1, kbps: 8, burst_kbit: 0 };
        let policer = Policer::new(policing, 0);
        assert_eq!(refused(&policer, &[(600, 600), (600, 600), (400, 400), (1, 1)], 0), [1, 3]);
        assert_eq!(refused(&policer, &[(1, 1), (1, 1)], 1_000), [1], "a millisecond gives a packet");
        assert_eq!(refused(&policer, &[(1, 1_000_000 - 1001)], 1_000_000), [] as [usize; 0]);
        assert_eq!(refused(&policer, &[(1, 2000)], 1_010_000), [0], "packets are left, bytes are not");
    }

    #[test]
    fn a_frame_larger_than_the_bucket_leaves_a_debt() {
        let policer = Policer::new(Policing { kbps: 8, burst_kbit: 8, ..Policing::default() }, 0);
        assert_eq!(refused(&policer, &[(44, 64_000), (1, 1)], 0), [1]);
        assert_eq!(
            refused(&policer, &[(1, 1)], 63_000_000),
            [0],
            "64 seconds' worth is owed, the bucket was full"
        );
        assert_eq!(refused(&policer, &[(1, 1)], 63_001_000), [] as [usize; 0]);
    }

    #[test]
    fn huge_limits_do_not_overflow() {
        let most = Policing { kbps: u64::MAX, burst_kbit: u64::MAX, kpps: u64::MAX, burst_kpkts: u64::MAX };
        let policer = Policer::new(most, 0);
        assert_eq!(refused(&policer, &[(u64::MAX, u64::MAX), (1, 1)], u64::MAX), [1]);
        assert!(!Policing::default().limits());
    }
}
