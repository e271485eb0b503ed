//! What can bundles do (OpenFlow 1.5), and how much was exported as IPFIX (Nicira)?

use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// Bits of [`BundleFeatures::capabilities`].
pub mod bundle_capability {
    /// All or nothing.
    pub const ATOMIC: u16 = 1 << 0;
    /// In the order of the messages.
    pub const ORDERED: u16 = 1 << 1;
    /// At a time.
    pub const TIME: u16 = 1 << 2;
}

/// What bundles can do (OpenFlow 1.5 §7.3.5.19).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BundleFeatures {
    /// [`bundle_capability`] bits.
    pub capabilities: u16,
}

impl BundleFeatures {
    /// Properties say when bundles may be applied, which is not supported, and are not looked at.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let features = BundleFeatures { capabilities: r.u16()? };
        r.skip(6)?;
        Ok(features)
    }
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.u16(self.capabilities);
        out.zeros(6);
    }
}

/// Counts of an IPFIX exporter: of the bridge, or of a collector set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpfixStats {
    /// Flows ever, flows now, packets, of IPv4, of IPv6, in error, of IPv4, of IPv6, export packets, errors of them.
    pub counts: [u64; 10],
    /// Collector set; 0 for the bridge.
    pub collector_set_id: u32,
}

impl IpfixStats {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut s = IpfixStats::default();
        for n in &mut s.counts {
            *n = r.u64()?;
        }
        s.collector_set_id = r.u32()?;
        r.skip(4)?;
        Ok(s)
    }
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.counts.iter().for_each(|n| out.u64(*n));
        out.u32(self.collector_set_id);
        out.u32(0);
    }
}
