//! Which MAC address and MTU have a bridge's own ports?

use std::sync::Arc;

use weft_ovsdb::Uuid;
use weft_wire::Mac;

use super::{Bridge, Host};
use crate::wanted::IfaceKind;

/// MTU of internal ports of a bridge without other devices.
const DEFAULT_MTU: u32 = 1500;

/// The address of a bridge that has no hardware: made of its UUID, so that it stays. The bytes are in the order in
/// which Open vSwitch takes them, so that a bridge keeps its address when the switch is replaced.
pub(super) fn default_mac(uuid: Uuid) -> Mac {
    let b = uuid.as_bytes();
    Mac([b[3] & !1 | 2, b[2], b[1], b[0], b[7], b[6]])
}

/// 01:80:c2:00:00:0x and the like are never an interface's own.
fn may_represent(mac: Mac) -> bool {
    mac.is_unicast() && !mac.is_local()
}

impl Bridge {
    /// Gives the local port its address, internal ports their MTU, devices what `mtu_request` asks for, and the bridge
    /// its datapath identifier.
    pub(super) fn choose_addresses(&mut self, host: &mut Host<'_>) {
        self.mac = self.wanted_mac();
        self.datapath_id = self.wanted.datapath_id.unwrap_or_else(|| self.mac.to_u64());
        let mtu = self.common_mtu();
        let mac = self.mac;
        for iface in self.ifaces.values_mut().filter(|i| i.dp_port.is_some() && i.state.ifindex != 0) {
            let name = &iface.wanted.name;
            let internal = matches!(iface.wanted.kind, Ok(IfaceKind::Internal));
            let mut stale = false;
            if iface.wanted.is_local && iface.state.mac != Some(mac) {
                match host.links.netlink().set_mac(iface.state.ifindex, mac) {
                    Ok(()) => stale = true,
                    Err(e) => tracing::warn!(target: "bridge", "{name}: {e}"),
                }
            }
            let chosen = iface.wanted.mtu_request.or(internal.then_some(mtu));
            if let Some(mtu) = chosen.filter(|_| iface.chosen_mtu != chosen) {
                iface.chosen_mtu = chosen;
                if iface.state.mtu != Some(mtu) {
                    match host.links.netlink().set_mtu(iface.state.ifindex, mtu) {
                        Ok(()) => stale = true,
                        Err(e) => tracing::warn!(target: "bridge", "{name}: {e}"),
                    }
                }
            }
            if stale {
                iface.refresh(host);
            }
        }
    }

    /// `other_config:hwaddr`, else the local interface's `mac`, else the lowest globally administered address of the
    /// other ports, else one of its own.
    fn wanted_mac(&self) -> Mac {
        let asked = self.wanted.hwaddr.or_else(|| self.local()?.wanted.mac);
        // Both are sorted by name, and most ports are called as their interface.
        let mut ifaces = self.ifaces.iter().peekable();
        let of_port = |port: &Arc<crate::wanted::Port>| {
            let first = port.ifaces.first().filter(|first| !first.is_local)?;
            while ifaces.next_if(|(name, _)| **name < first.name).is_some() {}
            let next = ifaces.peek().filter(|(name, _)| **name == first.name).map(|(_, iface)| *iface);
            port.mac.or_else(|| next.or_else(|| self.ifaces.get(&first.name))?.state.mac)
        };
        let ports = self.wanted.ports.iter().filter_map(of_port);
        asked.or_else(|| ports.filter(|m| may_represent(*m)).min()).unwrap_or_else(|| default_mac(self.uuid))
    }

    /// The least MTU of the ports that are not the switch's own.
    fn common_mtu(&self) -> u32 {
        let devices = self.ifaces.values().filter(|i| matches!(i.wanted.kind, Ok(IfaceKind::Device)));
        devices.filter_map(|i| i.wanted.mtu_request.or(i.state.mtu)).min().unwrap_or(DEFAULT_MTU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_keeps_the_address_open_vswitch_gave_it() {
        let uuid = weft_ovsdb::parse_uuid("0c9f73e4-a11a-4cd7-99bb-1f1d28580ee6").unwrap();
        assert_eq!(default_mac(uuid).to_string(), "e6:73:9f:0c:d7:4c");
    }
}
