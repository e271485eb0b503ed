//! How much traffic may pass? OpenFlow meters (1.3.5 §5.7) as token buckets that several threads share.
//!
//! Time is an argument, in microseconds of any clock that does not go back.

use std::sync::Mutex;

/// What a band does with what exceeds its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandKind {
    /// Drop it.
    Drop,
    /// Raise the drop precedence of its DSCP by this much (RFC 2597).
    DscpRemark(u8),
}

/// A band: a rate and what happens beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// What to do.
    pub kind: BandKind,
    /// Kilobits, or packets, per second; not 0.
    pub rate: u32,
    /// Kilobits, or packets, that may come at once; 0: as much as `rate`.
    pub burst: u32,
}

/// Packets and bytes, of a meter or of a band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterStats {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterOutcome {
    /// It goes on.
    Pass,
    /// It is dropped.
    Drop,
    /// It goes on with its drop precedence raised by this much.
    Remark(u8),
}

/// A meter of a bridge. Changing one makes another.
#[derive(Debug)]
pub struct Meter {
    /// Number by which controllers know it.
    pub id: u32,
    /// Bridge, as the switch numbers them.
    pub bridge: u32,
    /// Count packets per second rather than kilobits per second.
    pub pktps: bool,
    /// The controller gave burst sizes.
    pub burst: bool,
    /// The controller wants statistics.
    pub stats: bool,
    /// Bands.
    pub bands: Vec<Band>,
    /// When it was made, microseconds.
    pub created_us: u64,
    state: Mutex<State>,
}

impl PartialEq for Meter {
    /// Meters are equal when they are the same meter of the same bridge, whatever they have counted.
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.bridge, self.created_us) == (other.id, other.bridge, other.created_us)
    }
}
impl Eq for Meter {}

#[derive(Debug)]
struct State {
    input: MeterStats,
    /// When the buckets were last filled, microseconds.
    filled_us: u64,
    bands: Vec<BandState>,
}

#[derive(Clone, Copy, Debug)]
struct BandState {
    /// Thousandths of a bit, or millionths of a packet.
    tokens: u64,
    stats: MeterStats,
}

impl Band {
    /// Most tokens the bucket holds: rate and burst are per second, tokens are a millionth of their unit.
    fn capacity(&self) -> u64 {
        let burst = if self.burst == 0 { self.rate } else { self.burst };
        u64::from(burst) * 1_000_000
    }
}

impl Meter {
    /// A meter whose buckets are full.
    pub fn new(
        bridge: u32,
        id: u32,
        pktps: bool,
        burst: bool,
        stats: bool,
        bands: Vec<Band>,
        now_us: u64,
    ) -> Meter {
        let full = |band: &Band| BandState { tokens: band.capacity(), stats: MeterStats::default() };
        let state = State {
            input: MeterStats::default(),
            filled_us: now_us,
            bands: bands.iter().map(full).collect(),
        };
        Meter { id, bridge, pktps, burst, stats, bands, created_us: now_us, state: Mutex::new(state) }
    }

    /// Lets packets of one frame pass, or not: a frame of `packets` segments and `bytes` bytes in all. The band that
    /// acts is the one of the highest rate that is exceeded.
    pub fn admit(&self, packets: u64, bytes: u64, now_us: u64) -> MeterOutcome {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.input.packets += packets;
        state.input.bytes += bytes;
        let elapsed = now_us.saturating_sub(state.filled_us);
        state.filled_us = state.filled_us.max(now_us);
        // A kilobit per second is 1000 tokens per microsecond of 1/1000000 kilobit: a bit is 1000 tokens.
        let cost = if self.pktps { packets.saturating_mul(1_000_000) } else { bytes.saturating_mul(8_000) };
        let mut acting: Option<usize> = None;
        for (i, (band, of)) in self.bands.iter().zip(&mut state.bands).enumerate() {
            let filled = of.tokens.saturating_add(elapsed.saturating_mul(band.rate.into()));
            of.tokens = filled.min(band.capacity());
            if of.tokens >= cost {
                of.tokens -= cost;
            } else if acting.is_none_or(|a| self.bands[a].rate < band.rate) {
                acting = Some(i);
            }
        }
        let Some(i) = acting else { return MeterOutcome::Pass };
        let stats = &mut state.bands[i].stats;
        stats.packets += packets;
        stats.bytes += bytes;
        match self.bands[i].kind {
            BandKind::Drop => MeterOutcome::Drop,
            BandKind::DscpRemark(by) => MeterOutcome::Remark(by),
        }
    }

    /// What came in, and what each band acted on.
    pub fn counts(&self) -> (MeterStats, Vec<MeterStats>) {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (state.input, state.bands.iter().map(|b| b.stats).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(pktps: bool, bands: &[(BandKind, u32, u32)]) -> Meter {
        let band = |&(kind, rate, burst): &(BandKind, u32, u32)| Band { kind, rate, burst };
        Meter::new(1, 1, pktps, true, true, bands.iter().map(band).collect(), 0)
    }

    #[test]
    fn packets_per_second() {
        let m = meter(true, &[(BandKind::Drop, 10, 2)]);
        let outcomes: Vec<_> = (0..3).map(|_| m.admit(1, 60, 0)).collect();
        assert_eq!(outcomes, [MeterOutcome::Pass, MeterOutcome::Pass, MeterOutcome::Drop]);
        assert_eq!(m.admit(1, 60, 99_999), MeterOutcome::Drop, "a tenth of a second gives one packet");
        assert_eq!(m.admit(1, 60, 100_000), MeterOutcome::Pass);
        let (input, bands) = m.counts();
        assert_eq!((input.packets, bands[0].packets, bands[0].bytes), (5, 2, 120));
    }

    #[test]
    fn kilobits_per_second_and_the_higher_band() {
        let m = meter(false, &[(BandKind::DscpRemark(1), 8, 8), (BandKind::Drop, 16, 16)]);
        // 1000 bytes are 8 kilobits.
        let outcomes: Vec<_> = (0..3).map(|_| m.admit(1, 1000, 0)).collect();
        assert_eq!(outcomes, [MeterOutcome::Pass, MeterOutcome::Remark(1), MeterOutcome::Drop]);
    }
}
