//! How is what leaves by a device shaped? Hierarchical token buckets (tc-htb(8)): one class for the device, and within
//! it one for each queue.
//!
//! Handles are those of Open vSwitch, so that `tc class show` reads the same: the device's class is `1:fffe`, that of
//! queue *n* is `1:(n+1)`, and what names no class is queue 0's.

use super::filter::{TCA_KIND, TCA_OPTIONS, tcmsg};
use super::{ACK, CREATE, DUMP, Message, Netlink, REPLACE, attrs, get_u32, get_u64};
use crate::Result;

const HTB: &str = "htb";
const TCA_STATS: u16 = 3;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
const HTB_VERSION: u32 = 3;
const TC_H_ROOT: u32 = u32::MAX;
/// The queueing discipline `1:`.
const ROOT: u32 = 1 << 16;
/// The class of the whole device.
const DEVICE: u32 = ROOT | 0xfffe;
/// `TC_LINKLAYER_ETHERNET`: the kernel computes times itself, no table is needed.
const ETHERNET: u8 = 1;
/// The kernel's unit of time: 64 ns (`PSCHED_SHIFT`).
const TICK_NS: u64 = 64;
/// Bytes of an Ethernet header with a tag and what surrounds a frame.
const OVERHEAD: u64 = 64;
/// The highest number of a queue, plus one.
pub const QUEUES: u32 = 61_440;
/// The rate of what is not limited, bit/s.
pub const UNLIMITED: u64 = 10_000_000_000;

/// How what leaves by a device is shaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shaping {
    /// Of all queues together, bit/s.
    pub max_rate: u64,
    /// The queues; the first is the one for what names none.
    pub queues: Vec<QueueShape>,
}

/// A queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueShape {
    /// Number, below [`QUEUES`].
    pub id: u32,
    /// What it always gets, bit/s; 0: as little as there is.
    pub min_rate: u64,
    /// What it gets at most, bit/s; 0: what the device has.
    pub max_rate: u64,
    /// Bits that may leave at once after a pause; too few are made enough.
    pub burst: u64,
    /// A lower one is served first with what is left.
    pub priority: u32,
}

/// What left by a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Bytes.
    pub bytes: u64,
    /// Packets, as the queueing discipline counts them.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
}

/// The class of a queue, which is also the `skb->priority` that chooses it.
pub fn class_of(queue: u32) -> u32 {
    ROOT | ((queue + 1) & 0xffff)
}

/// A class as the kernel is told: rates in bytes per second, bursts in bytes.
#[derive(Clone, Copy)]
struct Class {
    handle: u32,
    parent: u32,
    rate: u64,
    ceil: u64,
    burst: u64,
    quantum: u32,
    priority: u32,
}

impl Class {
    /// `struct tc_htb_opt`.
    fn opt(&self) -> [u8; 44] {
        let mut opt = [0; 44];
        let words = [
            (8, clamp(self.rate)),
            (20, clamp(self.ceil)),
            (24, ticks(self.burst, self.rate)),
            (28, ticks(self.burst, self.ceil)),
            (32, self.quantum),
            (40, self.priority),
        ];
        // Each `struct tc_ratespec`: cell log, link layer, overhead, cell align, mpu, rate.
        (opt[1], opt[13]) = (ETHERNET, ETHERNET);
        for (at, word) in words {
            opt[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        opt
    }
}

fn clamp(rate: u64) -> u32 {
    u32::try_from(rate).unwrap_or(u32::MAX)
}

/// How long a burst takes at a rate, in the kernel's units.
fn ticks(burst: u64, rate: u64) -> u32 {
    let ns = u128::from(burst) * 1_000_000_000 / u128::from(rate.max(1));
    u32::try_from(ns / u128::from(TICK_NS)).unwrap_or(u32::MAX)
}

impl Shaping {
    /// The classes, the device's first.
    fn classes(&self, mtu: u32) -> Vec<Class> {
        let frame = u64::from(mtu) + OVERHEAD;
        let whole = (self.max_rate / 8).max(1);
        // What comes between two ticks of a slow clock may leave at once.
        let burst = |bits: u64, rate: u64| (bits / 8).max(frame).max(rate / 1000);
        let device = Class {
            handle: DEVICE,
            parent: ROOT,
            rate: whole,
            ceil: whole,
            burst: burst(0, whole),
            quantum: clamp(frame),
            priority: 0,
        };
        let queue = |queue: &QueueShape| {
            // Some is needed for time to pass: a rate of nothing is refused.
            let rate = (queue.min_rate / 8).clamp(frame, whole.max(frame));
            let ceil = if queue.max_rate == 0 { whole } else { (queue.max_rate / 8).min(whole) };
            let ceil = ceil.max(rate);
            Class {
                handle: class_of(queue.id),
                parent: DEVICE,
                rate,
                ceil,
                burst: burst(queue.burst, ceil),
                quantum: clamp(frame),
                priority: queue.priority,
            }
        };
        std::iter::once(device).chain(self.queues.iter().map(queue)).collect()
    }
}

impl Netlink {
    /// Shapes what leaves by a device, in place of whatever did so before. Nothing waits on failure: what was there
    /// before is gone all the same.
    pub fn shape(&mut self, ifindex: u32, mtu: u32, shaping: &Shaping) -> Result<()> {
        let _ = self.unshape(ifindex);
        let first = shaping.queues.first().map_or(0, |queue| queue.id);
        let mut init = [0; 20];
        for (at, word) in [(0, HTB_VERSION), (4, 10), (8, class_of(first) & 0xffff)] {
            init[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        let mut message = Message::new(libc::RTM_NEWQDISC, CREATE, &tcmsg(ifindex, ROOT, TC_H_ROOT, 0));
        message.str(TCA_KIND, HTB).nest(TCA_OPTIONS, |m| {
            m.attr(TCA_HTB_INIT, &init);
        });
        self.tell(message, || format!("queue what leaves by device {ifindex}"))?;
        for class in shaping.classes(mtu) {
            let fixed = tcmsg(ifindex, class.handle, class.parent, 0);
            let mut message = Message::new(libc::RTM_NEWTCLASS, REPLACE, &fixed);
            message.str(TCA_KIND, HTB).nest(TCA_OPTIONS, |m| {
                m.attr(TCA_HTB_PARMS, &class.opt());
                for (kind, rate) in [(TCA_HTB_RATE64, class.rate), (TCA_HTB_CEIL64, class.ceil)] {
                    if rate > u64::from(u32::MAX) {
                        m.attr(kind, &rate.to_ne_bytes());
                    }
                }
            });
            let what = || format!("add class 1:{:x} to device {ifindex}", class.handle & 0xffff);
            if let Err(e) = self.tell(message, what) {
                let _ = self.unshape(ifindex);
                return Err(e);
            }
        }
        Ok(())
    }

    /// Lets a device send as the kernel does by itself. Fails if nothing else was set.
    pub fn unshape(&mut self, ifindex: u32) -> Result<()> {
        let message = Message::new(libc::RTM_DELQDISC, ACK, &tcmsg(ifindex, 0, TC_H_ROOT, 0));
        self.tell(message, || format!("remove the queues of device {ifindex}"))
    }

    /// What left by each queue of [`Netlink::shape`], by number.
    pub fn queue_counts(&mut self, ifindex: u32) -> Result<Vec<(u32, QueueCounts)>> {
        let message = Message::new(libc::RTM_GETTCLASS, DUMP, &tcmsg(ifindex, 0, 0, 0));
        let answers = self.request(message, || format!("ask for the queues of device {ifindex}"))?;
        let mut counts: Vec<_> = answers.iter().filter_map(|a| read_class(&a.body, ifindex)).collect();
        counts.sort_unstable_by_key(|(queue, _)| *queue);
        Ok(counts)
    }
}

/// A class of a queue; `None`: it is none.
fn read_class(body: &[u8], ifindex: u32) -> Option<(u32, QueueCounts)> {
    let handle = get_u32(body, 8)?;
    if get_u32(body, 4)? != ifindex || handle & 0xffff_0000 != ROOT || handle == DEVICE {
        return None;
    }
    let queue = (handle & 0xffff).checked_sub(1)?;
    let mut counts = QueueCounts::default();
    for (kind, value) in attrs(body.get(20..)?) {
        if kind == TCA_STATS2 {
            for (kind, value) in attrs(value) {
                match kind {
                    // `struct gnet_stats_basic`: bytes u64, packets u32.
                    TCA_STATS_BASIC => {
                        counts.bytes = get_u64(value, 0)?;
                        counts.packets = get_u32(value, 8)?.into();
                    }
                    // `struct gnet_stats_queue`: length, backlog, drops, requeues, overlimits.
                    TCA_STATS_QUEUE => counts.drops = get_u32(value, 8)?.into(),
                    _ => {}
                }
            }
        } else if kind == TCA_STATS && counts == QueueCounts::default() {
            // `struct tc_stats` begins in the same way.
            counts.bytes = get_u64(value, 0)?;
            counts.packets = get_u32(value, 8)?.into();
            counts.drops = get_u32(value, 12)?.into();
        }
    }
    Some((queue, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_bursts_as_the_kernel_counts() {
        let queue = |id, min_rate, max_rate, burst| QueueShape { id, min_rate, max_rate, burst, priority: 0 };
        let shaping = Shaping {
            max_rate: 80_000_000,
            queues: vec![queue(0, 0, 0, 0), queue(7, 8_000_000, 800_000_000, 8_000_000)],
        };
        let classes: Vec<_> =
            shaping.classes(1500).iter().map(|c| (c.handle, c.parent, c.rate, c.ceil, c.burst)).collect();
        let expected = [
            (0x1_fffe, 0x1_0000, 10_000_000, 10_000_000, 10_000),
            (0x1_0001, 0x1_fffe, 1564, 10_000_000, 10_000),
            (0x1_0008, 0x1_fffe, 1_000_000, 10_000_000, 1_000_000),
        ];
        assert_eq!(classes, expected, "no queue gets more than the device has, none gets nothing");
        assert_eq!(ticks(10_000, 10_000_000), 15_625, "a millisecond");
        assert_eq!(ticks(u64::MAX, 0), u32::MAX);
    }

    #[test]
    fn classes_are_read_within_their_bounds() {
        let mut body = tcmsg(3, class_of(7), DEVICE, 0).to_vec();
        let basic = [&100u64.to_ne_bytes()[..], &2u32.to_ne_bytes()[..], &[0; 4]].concat();
        let queue: Vec<u8> = [0u32, 0, 5, 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
        let attr = |kind: u16, value: &[u8]| {
            [&(4 + value.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes()[..], value].concat()
        };
        let inner = [attr(TCA_STATS_BASIC, &basic), attr(TCA_STATS_QUEUE, &queue)].concat();
        body.extend(attr(TCA_STATS2, &inner));
        assert_eq!(read_class(&body, 3), Some((7, QueueCounts { bytes: 100, packets: 2, drops: 5 })));
        assert_eq!(read_class(&body, 4), None);
        assert_eq!(read_class(&tcmsg(3, DEVICE, ROOT, 0), 3), None);
        for cut in 0..body.len() {
            let _ = read_class(&body[..cut], 3);
        }
    }
}
