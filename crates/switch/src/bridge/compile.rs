//! What does the pipeline need to know of a bridge?

use std::sync::Arc;

use weft_flow::OfPort;
use weft_pipeline::{BridgeConfig, PortConfig, PortKind, Snapshot};

use super::{Bridge, Iface, World};
use crate::net::Links;
use crate::wanted::IfaceKind;

impl World {
    /// Puts every bridge into a snapshot. True when that changed anything.
    pub(crate) fn compile(&self, snapshot: &mut Snapshot, links: &Links) -> bool {
        let gone: Vec<u32> =
            snapshot.bridges().map(|b| b.config.id).filter(|id| self.by_id(*id).is_none()).collect();
        let mut changed = !gone.is_empty();
        for id in gone {
            snapshot.remove_bridge(id);
        }
        for bridge in self.bridges.values() {
            let config = self.compile_bridge(bridge, links);
            if snapshot.bridge(bridge.id).is_none_or(|old| *old.config != config) {
                snapshot.set_bridge(config);
                changed = true;
            }
        }
        changed
    }

    fn compile_bridge(&self, bridge: &Bridge, links: &Links) -> BridgeConfig {
        let mut config = BridgeConfig::new(bridge.id, &bridge.name);
        config.fail_mode = bridge.wanted.fail_mode;
        config.controller_connected = bridge.controller_connected;
        config.miss_to_controller = bridge.miss_to_controller;
        config.mac_aging_ms = bridge.wanted.mac_aging_ms;
        config.mac_table_size = bridge.wanted.mac_table_size;
        config.forward_bpdu = bridge.wanted.forward_bpdu;
        config.flood_vlans = bridge.wanted.flood_vlans.clone();
        let ports = bridge.open().into_iter();
        config.ports = ports.filter_map(|i| self.compile_port(bridge, i, links)).collect();
        config
    }

    fn compile_port(&self, bridge: &Bridge, iface: &Iface, links: &Links) -> Option<PortConfig> {
        let kind = match iface.wanted.kind.as_ref().ok()? {
            IfaceKind::Device
            | IfaceKind::Tap
            | IfaceKind::Vhost { .. }
            | IfaceKind::Pcap { .. }
            | IfaceKind::Null => PortKind::Device,
            IfaceKind::Internal => {
                PortKind::Internal { addrs: links.addresses(iface.state.ifindex).to_vec() }
            }
            IfaceKind::Patch { peer } => PortKind::Patch { peer: self.other_end(&iface.wanted.name, peer) },
            IfaceKind::Tunnel { config, .. } => PortKind::Tunnel(Arc::new(config.clone())),
        };
        // While flows are restored no packet is to find its bridge.
        let dp_port = iface.dp_port.filter(|_| !self.restoring);
        let mut port = PortConfig::new(iface.ofport?, dp_port, &iface.wanted.name, kind);
        port.flags = iface.flags;
        port.vlan = iface.home.vlan.clone();
        port.flags.protected = iface.home.protected;
        // The number of a bond is its place among the ports, which are sorted by name.
        port.bond = iface.home.bond.as_ref().and_then(|_| {
            let at = bridge.wanted.ports.binary_search_by(|port| port.name.cmp(&iface.port));
            at.ok().and_then(|at| u32::try_from(at).ok())
        });
        port.link_up = iface.state.link_up;
        port.mtu = iface.state.mtu.unwrap_or(0);
        port.mac = iface.state.mac.unwrap_or(bridge.mac);
        Some(port)
    }

    /// The patch port named `peer`, if it names `name` as its peer in turn.
    fn other_end(&self, name: &str, peer: &str) -> Option<(u32, OfPort)> {
        let (bridge, iface) = self.ifaces().find(|(_, i)| i.wanted.name == peer)?;
        match &iface.wanted.kind {
            Ok(IfaceKind::Patch { peer }) if peer == name => Some((bridge.id, iface.ofport?)),
            _ => None,
        }
    }
}
