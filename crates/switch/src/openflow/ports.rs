//! Which ports has a bridge, as controllers see them, and what do controllers change about them?

use std::collections::BTreeMap;

use weft_flow::OfPort;
use weft_openflow::ErrorCode;
use weft_openflow::msg::port::{
    PortDesc, PortMod, PortReason, PortStatus, port_config, port_feature, port_state,
};
use weft_pipeline::PortFlags;
use weft_wire::Mac;

use super::OpenFlow;
use crate::bridge::{Bridge, Iface, World, virtual_mac};

/// Ports as controllers were told of them last.
pub(super) type KnownPorts = BTreeMap<OfPort, PortDesc>;

/// Longest name OpenFlow carries.
const MAX_NAME: usize = 15;

/// Every open port of a bridge.
pub(super) fn describe(bridge: &Bridge) -> Vec<PortDesc> {
    bridge.open().filter_map(|iface| describe_one(bridge, iface)).collect()
}

fn describe_one(bridge: &Bridge, iface: &Iface) -> Option<PortDesc> {
    Some(PortDesc {
        port_no: iface.ofport?,
        hw_addr: address(bridge, iface),
        name: short(&iface.wanted.name).to_owned(),
        config: configured(iface),
        state: state(iface),
        curr: features(iface),
        advertised: offered(iface.state.modes.advertised),
        supported: offered(iface.state.modes.supported),
        peer: offered(iface.state.modes.peer),
        curr_speed: kbps(iface),
        max_speed: highest(offered(iface.state.modes.supported)),
    })
}

/// Whether [`describe_one`] would give the same.
fn is_described(desc: &PortDesc, bridge: &Bridge, iface: &Iface) -> bool {
    Some(desc.port_no) == iface.ofport
        && desc.config == configured(iface)
        && desc.state == state(iface)
        && (desc.curr, desc.curr_speed) == (features(iface), kbps(iface))
        && desc.advertised == offered(iface.state.modes.advertised)
        && desc.supported == offered(iface.state.modes.supported)
        && desc.peer == offered(iface.state.modes.peer)
        && desc.hw_addr == address(bridge, iface)
        && desc.name == short(&iface.wanted.name)
}

fn address(bridge: &Bridge, iface: &Iface) -> Mac {
    iface.state.mac.unwrap_or_else(|| virtual_mac(iface, bridge.mac))
}

fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

fn configured(iface: &Iface) -> u32 {
    config_bits(&iface.flags) | if iface.state.admin_up { 0 } else { port_config::PORT_DOWN }
}

fn state(iface: &Iface) -> u32 {
    let up = iface.state.link_up && !iface.flags.down;
    if up { port_state::LIVE } else { port_state::LINK_DOWN }
}

fn kbps(iface: &Iface) -> u32 {
    iface.state.speed_mbps.unwrap_or(0).saturating_mul(1000)
}

fn features(iface: &Iface) -> u32 {
    let full = iface.state.full_duplex == Some(true);
    let rate = match iface.state.speed_mbps {
        None => return 0,
        Some(10) => port_feature::MB10_HD << u32::from(full),
        Some(100) if full => port_feature::MB100_FD,
        Some(1_000) if full => port_feature::GB1_FD,
        Some(10_000) => port_feature::GB10_FD,
        Some(40_000) => port_feature::GB40_FD,
        Some(100_000) => port_feature::GB100_FD,
        Some(_) => port_feature::OTHER,
    };
    let medium = if iface.state.modes.fibre { port_feature::FIBER } else { port_feature::COPPER };
    let autoneg = if iface.state.modes.autoneg { port_feature::AUTONEG } else { 0 };
    rate | medium | autoneg
}

/// Bits of a device's link modes ([`weft_host::ethtool::Modes`]), and what OpenFlow calls them.
const MODES: &[(u32, u32)] = &[
    (0, port_feature::MB10_HD),
    (1, port_feature::MB10_HD << 1),
    (2, port_feature::MB100_FD >> 1),
    (3, port_feature::MB100_FD),
    (4, port_feature::GB1_FD >> 1),
    (5, port_feature::GB1_FD),
    (6, port_feature::AUTONEG),
    (7, port_feature::COPPER),
    (10, port_feature::FIBER),
    (12, port_feature::GB10_FD),
    (13, port_feature::PAUSE),
    (14, port_feature::PAUSE << 1),
    (15, port_feature::OTHER),
    (17, port_feature::GB1_FD),
    (18, port_feature::GB10_FD),
    (19, port_feature::GB10_FD),
    (23, port_feature::GB40_FD),
    (24, port_feature::GB40_FD),
    (25, port_feature::GB40_FD),
    (26, port_feature::GB40_FD),
];

/// Features that link modes stand for.
fn offered(modes: u32) -> u32 {
    MODES.iter().filter(|(bit, _)| modes >> bit & 1 != 0).fold(0, |all, (_, feature)| all | feature)
}

/// Highest rate among features, kbit/s; 0: none is known.
fn highest(features: u32) -> u32 {
    // 10 and 100 Mbit/s and 1 Gbit/s have a bit for half duplex before the one for full duplex.
    let rates = [(0b11, 10), (0b1100, 100), (0b11_0000, 1_000), (1 << 6, 10_000), (1 << 7, 40_000)];
    rates.iter().rev().find(|(bits, _)| features & bits != 0).map_or(0, |(_, mbps)| mbps * 1000)
}

fn config_bits(flags: &PortFlags) -> u32 {
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    bit(flags.down, port_config::PORT_DOWN)
        | bit(flags.no_receive, port_config::NO_RECV)
        | bit(flags.no_receive_stp, port_config::NO_RECV_STP)
        | bit(flags.no_flood, port_config::NO_FLOOD)
        | bit(flags.no_forward, port_config::NO_FWD)
        | bit(flags.no_packet_in, port_config::NO_PACKET_IN)
}

/// Whether a port-mod names a port and its address.
pub(super) fn check(bridge: &Bridge, change: &PortMod) -> Result<(), ErrorCode> {
    let known = bridge.by_ofport(change.port_no).and_then(|iface| describe_one(bridge, iface));
    let known = known.ok_or(ErrorCode::OFPPMFC_BAD_PORT)?;
    if known.hw_addr == change.hw_addr { Ok(()) } else { Err(ErrorCode::OFPPMFC_BAD_HW_ADDR) }
}

/// Carries out a port-mod. True when something changed.
pub(super) fn modify(bridge: &mut Bridge, change: &PortMod) -> Result<bool, ErrorCode> {
    check(bridge, change)?;
    let iface = bridge.by_ofport(change.port_no).ok_or(ErrorCode::OFPPMFC_BAD_PORT)?;
    let (name, before) = (iface.wanted.name.clone(), iface.flags);
    let mut flags = before;
    let set = |flag: &mut bool, bit: u32| {
        if change.mask & bit != 0 {
            *flag = change.config & bit != 0;
        }
    };
    set(&mut flags.down, port_config::PORT_DOWN);
    set(&mut flags.no_receive, port_config::NO_RECV);
    set(&mut flags.no_receive_stp, port_config::NO_RECV_STP);
    set(&mut flags.no_flood, port_config::NO_FLOOD);
    set(&mut flags.no_forward, port_config::NO_FWD);
    set(&mut flags.no_packet_in, port_config::NO_PACKET_IN);
    if flags != before {
        bridge.ifaces.edit(&name, |iface| iface.flags = flags);
    }
    Ok(flags != before)
}

impl OpenFlow {
    /// Tells controllers what changed about ports since they were told last.
    pub(crate) fn tell_ports(&mut self, world: &World) {
        let mut told = Vec::new();
        for live in world.bridges.values() {
            let Some(bridge) = self.bridges.get_mut(&live.id) else { continue };
            let tell = |reason, port: &PortDesc| (live.id, PortStatus { reason, port: port.clone() });
            let mut added = Vec::new();
            for number in &live.ifaces.unpublished {
                let iface = live.by_ofport(*number);
                let old = bridge.known.get(number);
                if old.zip(iface).is_some_and(|(old, iface)| is_described(old, live, iface)) {
                    continue;
                }
                let new = iface.and_then(|iface| describe_one(live, iface));
                match (old, new) {
                    (Some(old), Some(new)) if new.name == old.name => {
                        told.push(tell(PortReason::Modify, &new));
                        bridge.known.insert(*number, new);
                        continue;
                    }
                    // Another device under the same number is another port.
                    (Some(old), new) => {
                        told.push(tell(PortReason::Delete, old));
                        bridge.known.remove(number);
                        added.extend(new);
                    }
                    (None, new) => added.extend(new),
                }
            }
            told.extend(added.iter().map(|new| tell(PortReason::Add, new)));
            bridge.known.extend(added.into_iter().map(|new| (new.port_no, new)));
        }
        for (bridge, status) in told {
            for session in self.sessions_of(bridge) {
                session.port_status(status.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_modes_are_features() {
        // An Ethernet card for copper: 10, 100 and 1000, negotiated, with pause frames.
        let copper = offered(0x20ff);
        assert_eq!(copper, 0b11_1111 | port_feature::COPPER | port_feature::AUTONEG | port_feature::PAUSE);
        assert_eq!(highest(copper), 1_000_000);
        let fibre = offered(1 << 12 | 1 << 10 | 1 << 24);
        assert_eq!(fibre, port_feature::GB10_FD | port_feature::GB40_FD | port_feature::FIBER);
        assert_eq!((highest(fibre), highest(offered(1 << 2)), highest(0)), (40_000_000, 100_000, 0));
    }
}
