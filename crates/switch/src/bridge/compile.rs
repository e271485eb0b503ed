//! What does the pipeline need to know of a bridge?

use std::sync::Arc;

use weft_flow::OfPort;
use weft_pipeline::{BridgeConfig, PortConfig, PortKind, Snapshot};

use super::{Bridge, Iface, World};
use crate::net::Links;
use crate::wanted::IfaceKind;

impl World {
    /// Puts every bridge into a snapshot, with those of its ports that are not published yet. True when that changed
    /// anything.
    pub(crate) fn compile(&self, snapshot: &mut Snapshot, links: &Links) -> bool {
        let gone: Vec<u32> =
            snapshot.bridges().map(|b| b.config.id).filter(|id| self.by_id(*id).is_none()).collect();
        let mut changed = !gone.is_empty();
        for id in gone {
            snapshot.remove_bridge(id);
        }
        for bridge in self.bridges.values() {
            let old = snapshot.bridge(bridge.id).map(|old| Arc::clone(&old.config));
            let config = self.compile_bridge(bridge, old.as_deref(), links);
            if old.is_none_or(|old| *old != config) {
                snapshot.set_bridge(config);
                changed = true;
            }
        }
        changed
    }

    /// Everything is published, and controllers were told of it.
    pub(crate) fn published(&mut self) {
        self.bridges.values_mut().for_each(|bridge| bridge.ifaces.unpublished.clear());
    }

    /// `old`: the configuration that the bridge has.
    fn compile_bridge(&self, bridge: &Bridge, old: Option<&BridgeConfig>, links: &Links) -> BridgeConfig {
        let mut config = BridgeConfig::new(bridge.id, &bridge.name);
        config.fail_mode = bridge.wanted.fail_mode;
        config.controller_connected = bridge.controller_connected;
        config.miss_to_controller = bridge.miss_to_controller;
        config.fragments = bridge.fragments;
        config.mac_aging_ms = bridge.wanted.mac_aging_ms;
        config.mac_table_size = bridge.wanted.mac_table_size;
        config.forward_bpdu = bridge.wanted.forward_bpdu;
        config.flood_vlans = bridge.wanted.flood_vlans.clone();
        config.sampling = Arc::clone(&bridge.wanted.exports.sampling);
        let Some(old) = old else {
            config.ports = bridge.open().filter_map(|i| self.compile_port(bridge, i, links)).collect();
            return config;
        };
        config.ports = old.ports.clone();
        for number in &bridge.ifaces.unpublished {
            let port = bridge.by_ofport(*number).and_then(|i| self.compile_port(bridge, i, links));
            match port {
                Some(port) if config.ports.get(*number) != Some(&port) => config.ports.insert(port),
                Some(_) => {}
                None => _ = config.ports.remove(*number),
            }
        }
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
        port.bond =
            bridge.ifaces.bonds().get(&iface.port).filter(|_| iface.home.bond.is_some()).map(|b| b.number);
        port.link_up = iface.state.link_up;
        port.mtu = iface.state.mtu.unwrap_or(0);
        port.mac = iface.state.mac.unwrap_or(bridge.mac);
        Some(port)
    }

    /// The patch port named `peer`, if it names `name` as its peer in turn.
    fn other_end(&self, name: &str, peer: &str) -> Option<(u32, OfPort)> {
        let (bridge, iface) = self.bridges.values().find_map(|b| Some((b, b.ifaces.get(peer)?)))?;
        match &iface.wanted.kind {
            Ok(IfaceKind::Patch { peer }) if peer == name => Some((bridge.id, iface.ofport?)),
            _ => None,
        }
    }
}
