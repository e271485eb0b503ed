//! Which packets are exported, and as what? Samples, as verdicts ask datapaths for them.

use crate::{DpPort, SampleDirection, TunnelKey};

/// A share that is every packet: shares are out of 2^32 - 1.
pub const EVERY_PACKET: u32 = u32::MAX;

/// What a sample is taken for. Equal when it is the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleTo {
    /// Bridge, as the switch numbers them.
    pub bridge: u32,
    /// Who wants it.
    pub sampler: Sampler,
    /// Port that the packet leaves by, if that is known.
    pub output: Option<DpPort>,
    /// Outer header that it leaves with, if that is exported.
    pub tunnel: Option<Box<TunnelKey>>,
    /// Whether the outer header that it came in with is exported.
    pub tunnels: bool,
}

/// Who wants samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampler {
    /// The bridge, of all its packets.
    Bridge,
    /// A rule's `sample` action.
    Rule {
        /// Packets out of 65535.
        probability: u16,
        /// Collector set.
        collector_set_id: u32,
        /// Observation domain.
        obs_domain_id: u32,
        /// Observation point.
        obs_point_id: u32,
        /// Which way the packet counts.
        direction: SampleDirection,
    },
}

impl SampleTo {
    /// Whether the packet is seen on its way out.
    pub fn is_egress(&self) -> bool {
        match self.sampler {
            Sampler::Rule { direction: SampleDirection::Ingress, .. } => false,
            Sampler::Rule { direction: SampleDirection::Egress, .. } => true,
            _ => self.output.is_some(),
        }
    }
}

/// The share of packets that `sample(probability=…)` means.
pub fn share_of_probability(probability: u16) -> u32 {
    u32::from(probability) << 16 | u32::from(probability)
}
