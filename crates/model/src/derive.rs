//! Which values follow from others when nobody wrote them?

use weft_wire::Mac;

use crate::network::{Network, NetworkMode, OverlayKind};
use crate::port::Port;
use crate::scalar::MacAddr;

/// The underlay carries IP packets of this size unless the node says otherwise.
pub const DEFAULT_UNDERLAY_MTU: u16 = 1500;

impl Network {
    /// Largest IP packet of the network, in bytes: what was written, else what the underlay carries less the overlay's
    /// headers.
    #[must_use]
    pub fn mtu(&self, underlay: u16) -> u16 {
        self.spec.mtu.unwrap_or_else(|| {
            let overlay = self.spec.overlay.as_ref();
            let outer_v6 = overlay.is_some_and(|o| o.peers.iter().any(std::net::IpAddr::is_ipv6));
            let kind = overlay.map_or(OverlayKind::None, |o| o.kind);
            underlay.saturating_sub(kind.overhead(outer_v6))
        })
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
    use crate::network::{NetworkSpec, Overlay};
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
