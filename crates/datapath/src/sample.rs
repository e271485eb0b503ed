//! Which of the packets that pass are exported? Chosen one by one, on the lane that has them.

use std::sync::Arc;

use weft_flow::{EVERY_PACKET, EXTRA_TUNNEL, SampleTo};

use crate::contract::Sampled;
use crate::executor::Executor;
use crate::packet::Slot;

/// Random numbers that need not be good, but fast (xorshift64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    /// Whether this one is among `share` out of 2^32 - 1.
    #[inline]
    fn is_chosen(&mut self, share: u32) -> bool {
        if share == EVERY_PACKET {
            return true;
        }
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as u32) < share
    }
}

impl Executor {
    /// Has some of the frames exported as they are; of GSO frames each segment is a packet. `dropped`: they go nowhere.
    pub(crate) fn sample(&mut self, slots: &[Slot], share: u32, to: &Arc<SampleTo>, dropped: bool) {
        for &slot in slots {
            let (segments, bytes, longest) = self.pool.get(slot).segments();
            let last = bytes.saturating_sub((segments - 1) * longest as u64);
            let mut lengths = [u64::MAX, 0, 0, 0];
            let mut packets = 0;
            for i in 0..segments {
                if self.dice.is_chosen(share) {
                    let len = if i + 1 == segments { last } else { longest as u64 };
                    packets += 1;
                    let [shortest, longest, sum, squares] = lengths;
                    lengths = [shortest.min(len), longest.max(len), sum + len, squares + len * len];
                }
            }
            if packets > 0 {
                self.sampled(slot, packets, lengths, to, dropped);
            }
        }
    }

    #[cold]
    fn sampled(&mut self, slot: Slot, packets: u32, lengths: [u64; 4], to: &Arc<SampleTo>, dropped: bool) {
        let Some(sink) = self.shared.samples.get() else { return };
        let packet = self.pool.get_mut(slot);
        // What cannot be read is a frame to the lane, and none to an exporter.
        let Ok(mut key) = packet.read_headers() else { return };
        key.extras |= packet.meta.extra_bare();
        let tunnel = (to.tunnels && packet.meta.extras & EXTRA_TUNNEL != 0).then_some(packet.meta.tunnel);
        if !sink(Box::new(Sampled { to: to.clone(), key, tunnel, packets, lengths, dropped })) {
            self.handle().counters.sample_lost.add(u64::from(packets));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept() {
        let mut dice = Dice::new(7);
        for (share, least, most) in [
            (0, 0, 0),
            (u32::MAX, 100_000, 100_000),
            (u32::MAX / 2, 49_000, 51_000),
            (u32::MAX / 400, 200, 300),
        ] {
            let chosen = (0..100_000).filter(|_| dice.is_chosen(share)).count();
            assert!((least..=most).contains(&chosen), "{share}: {chosen}");
        }
    }
}
