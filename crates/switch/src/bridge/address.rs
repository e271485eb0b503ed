//! Which MAC address and MTU have a bridge's own ports?

use std::collections::BTreeSet;

use weft_ovsdb::Uuid;
use weft_wire::Mac;

use super::{Bridge, Host, Iface, Role};
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
pub(super) fn may_represent(mac: Mac) -> bool {
    mac.is_unicast() && !mac.is_local()
}

impl Bridge {
    /// Gives the local port its address, internal ports their MTU, devices what `mtu_request` asks for, and the bridge
    /// its datapath identifier.
    ///
    /// `names`: the interfaces that came or changed; others are concerned when what all share changes.
    pub(super) fn choose_addresses(&mut self, names: &BTreeSet<String>, host: &mut Host<'_>) {
        let mac = self.wanted_mac();
        self.datapath_id = self.wanted.datapath_id.unwrap_or_else(|| mac.to_u64());
        let mtu = self.ifaces.least_mtu().unwrap_or(DEFAULT_MTU);
        let mut names = names.clone();
        if std::mem::replace(&mut self.mac, mac) != mac {
            // Ports without a device are told by it.
            self.ifaces.touch_all();
        }
        if self.local().is_some_and(|local| local.state.mac != Some(mac)) {
            names.insert(self.name.clone());
        }
        if self.internal_mtu.replace(mtu) != Some(mtu) {
            names.extend(self.ifaces.with_role(Role::Internal).map(|i| i.wanted.name.clone()));
        }
        for name in names {
            let has_device = |i: &Iface| i.dp_port.is_some() && i.state.ifindex != 0;
            if self.ifaces.get(&name).is_some_and(has_device) {
                self.ifaces.edit(&name, |iface| iface.take_addresses(mac, mtu, host));
            }
        }
    }

    /// `other_config:hwaddr`, else the local interface's `mac`, else the lowest globally administered address of the
    /// other ports, else one of its own.
    fn wanted_mac(&self) -> Mac {
        let asked = self.wanted.hwaddr.or_else(|| self.local()?.wanted.mac);
        asked.or_else(|| self.ifaces.least_mac()).unwrap_or_else(|| default_mac(self.uuid))
    }
}

impl Iface {
    /// Gives the local port its bridge's address, internal ports the MTU that devices share, and others the one that is
    /// asked for.
    fn take_addresses(&mut self, mac: Mac, mtu: u32, host: &mut Host<'_>) {
        let name = &self.wanted.name;
        let internal = matches!(self.wanted.kind, Ok(IfaceKind::Internal));
        let mut stale = false;
        if self.wanted.is_local && self.state.mac != Some(mac) {
            match host.links.netlink().set_mac(self.state.ifindex, mac) {
                Ok(()) => stale = true,
                Err(e) => tracing::warn!(target: "bridge", "{name}: {e}"),
            }
        }
        let chosen = self.wanted.mtu_request.or(internal.then_some(mtu));
        if let Some(mtu) = chosen.filter(|_| self.chosen_mtu != chosen) {
            self.chosen_mtu = chosen;
            if self.state.mtu != Some(mtu) {
                match host.links.netlink().set_mtu(self.state.ifindex, mtu) {
                    Ok(()) => stale = true,
                    Err(e) => tracing::warn!(target: "bridge", "{name}: {e}"),
                }
            }
        }
        if stale {
            self.refresh(host);
        }
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
