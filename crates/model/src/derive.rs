//! Which values follow from others when nobody wrote them?

use weft_wire::Mac;

use crate::network::{Network, NetworkMode, Overlay};
use crate::port::Port;
use crate::scalar::MacAddr;

/// The underlay carries IP packets of this size unless the node says otherwise.
pub const DEFAULT_UNDERLAY_MTU: u16 = 1500;

impl Network {
    /// Largest IP packet of the network, in bytes: what was written, else what the device or bridge takes that it is joined
    /// to, and what the underlay carries less the overlay's headers.
    #[must_use]
    pub fn mtu(&self, underlay: u16) -> u16 {
        self.spec.mtu.unwrap_or_else(|| {
            let inside = |overlay: &Overlay| {
                let outer_v6 = overlay.peers.iter().any(std::net::IpAddr::is_ipv6);
                underlay.saturating_sub(overlay.kind.overhead(outer_v6))
            };
            let device = self.joined_to().and(self.status.device_mtu);
            let least = device.into_iter().chain(self.spec.overlay.as_ref().map(inside)).min();
            least.unwrap_or(underlay)
        })
    }

    /// The device or bridge of the node whose MTU is the network's, when none is written.
    #[must_use]
    pub fn joined_to(&self) -> Option<&str> {
        let bridged = self.spec.bridged.as_ref().filter(|_| self.spec.mtu.is_none())?;
        bridged.bridge.as_deref().or(bridged.uplink.as_deref())
    }

    /// The network's number on the wire: what was written, else what was allocated.
    #[must_use]
    pub fn key(&self) -> Option<u32> {
        self.spec.overlay.as_ref().and_then(|o| o.key).or(self.status.key)
    }

    /// True when somebody outside of it owns the network's addresses, gateway and DHCP.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(self.spec.mode, NetworkMode::Bridged | NetworkMode::Private)
    }
}

impl Port {
    /// The port's hardware address: what was written, else what it got before, else one that follows from its uid.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        let seed = if self.metadata.uid.is_empty() { &self.metadata.name } else { &self.metadata.uid };
        self.spec.mac.or(self.status.mac).unwrap_or_else(|| stable_mac(seed))
    }

    /// The port's name in DNS and DHCP.
    #[must_use]
    pub fn hostname(&self) -> &str {
        self.spec.hostname.as_deref().unwrap_or(&self.metadata.name)
    }
}

/// A locally administered unicast address that is the same for the same text (FNV-1a of 64 bits, folded to 46).
#[must_use]
pub fn stable_mac(text: &str) -> MacAddr {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folded = (hash ^ (hash >> 40)) & 0x00ff_ffff_ffff;
    // 0x52 as QEMU's own addresses: locally administered, unicast.
    MacAddr(Mac::from_u64(0x5200_0000_0000 | folded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Bridged, NetworkSpec, OverlayKind};
    use crate::port::PortSpec;

    #[test]
    fn mtu() {
        let overlay = |kind, peer: &str| Overlay { kind, key: None, peers: vec![peer.parse().unwrap()] };
        let cases = [
            (None, None, 1500),
            (Some(9000), None, 9000),
            (None, Some(overlay(OverlayKind::Vxlan, "192.0.2.1")), 1450),
            (None, Some(overlay(OverlayKind::Vxlan, "2001:db8::1")), 1430),
            (None, Some(overlay(OverlayKind::Geneve, "192.0.2.1")), 1442),
            (None, Some(overlay(OverlayKind::Gre, "192.0.2.1")), 1458),
        ];
        for (mtu, overlay, want) in cases {
            let network = Network::new("n", NetworkSpec { mtu, overlay, ..NetworkSpec::default() });
            assert_eq!(network.mtu(DEFAULT_UNDERLAY_MTU), want);
        }
        // Joined to a device or a bridge, it is theirs.
        let bridged = Bridged { uplink: Some("eth1".into()), ..Bridged::default() };
        let mut network = Network::new("n", NetworkSpec { bridged: Some(bridged), ..NetworkSpec::default() });
        assert_eq!((network.mtu(1500), network.joined_to()), (1500, Some("eth1")));
        network.status.device_mtu = Some(9000);
        assert_eq!(network.mtu(1500), 9000);
        network.spec.overlay = Some(overlay(OverlayKind::Vxlan, "192.0.2.1"));
        assert_eq!(network.mtu(1500), 1450, "the least of both");
        network.spec.mtu = Some(1280);
        assert_eq!((network.mtu(1500), network.joined_to()), (1280, None));
    }

    #[test]
    fn macs_differ_and_stay() {
        let mut seen = std::collections::HashSet::new();
        for i in 0..10_000 {
            let mut port = Port::new("p", PortSpec::default());
            port.metadata.uid = format!("00000000-0000-4000-8000-{i:012}");
            let mac = port.mac();
            assert!(mac.0.is_unicast() && mac.0.is_local());
            assert_eq!(mac, port.mac());
            assert!(seen.insert(mac), "{mac} twice");
        }
    }
}
