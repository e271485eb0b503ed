//! Which packets are exported? What a bridge samples by itself, and what `sample` actions ask for.

use std::sync::Arc;

use weft_flow::{DpAction, DpPort, OfPort, Sample, SampleTo, Sampler, TunnelKey, share_of_probability};

use super::Walk;
use crate::config::PortKind;

impl Walk<'_> {
    /// Samples the packet as it came in, if the bridge wants that.
    pub(super) fn sample_input(&mut self) {
        let bridge = self.bridge;
        let Some(sampling) = bridge.config.sampling.bridge.filter(|s| s.input) else { return };
        let to = SampleTo {
            bridge: bridge.config.id,
            sampler: Sampler::Bridge,
            output: None,
            tunnel: None,
            tunnels: sampling.tunnels,
        };
        self.emit(DpAction::Sample { share: sampling.share, to: Arc::new(to) });
    }

    /// Samples the packet as it goes out, with its outer header, if the bridge wants that.
    pub(super) fn sample_output(&mut self, port: DpPort, outer: Option<TunnelKey>) {
        let bridge = self.bridge;
        let Some(sampling) = bridge.config.sampling.bridge.filter(|s| s.output) else { return };
        // What no port sent did not pass the bridge.
        if self.in_port() == OfPort::NONE {
            return;
        }
        let to = SampleTo {
            bridge: bridge.config.id,
            sampler: Sampler::Bridge,
            output: Some(port),
            tunnel: outer.filter(|_| sampling.tunnels).map(Box::new),
            tunnels: sampling.tunnels,
        };
        self.emit(DpAction::Sample { share: sampling.share, to: Arc::new(to) });
    }

    /// Samples the packet as it is, for the collectors of a rule's choice.
    pub(super) fn sample_by_rule(&mut self, sample: &Sample) {
        let bridge = self.bridge;
        let Some(&tunnels) = bridge.config.sampling.sets.get(&sample.collector_set_id) else {
            let id = sample.collector_set_id;
            return self.note(|| format!("no collector set {id} is configured: nothing is sampled"));
        };
        let (mut output, mut tunnel) = (None, None);
        if sample.sampling_port != OfPort::NONE && sample.sampling_port != self.in_port() {
            let Some(port) = bridge.port(sample.sampling_port) else {
                let port = sample.sampling_port;
                return self.warn(|| format!("can't use unknown port {port} in flow sample action"));
            };
            output = port.dp_port;
            if let PortKind::Tunnel(config) = &port.kind
                && tunnels
            {
                tunnel = self.outer_key(config).map(Box::new);
            }
        }
        self.commit();
        let sampler = Sampler::Rule {
            probability: sample.probability,
            collector_set_id: sample.collector_set_id,
            obs_domain_id: sample.obs_domain_id,
            obs_point_id: sample.obs_point_id,
            direction: sample.direction,
        };
        let to = SampleTo { bridge: bridge.config.id, sampler, output, tunnel, tunnels };
        let share = share_of_probability(sample.probability);
        self.emit(DpAction::Sample { share, to: Arc::new(to) });
    }
}
