//! Which object does a flow serve, and to what end? Its cookie says so, without a table to look it up in.

use std::fmt;

/// First byte of every cookie of ours: `W`.
const MARK: u64 = 0x57;

/// The kind of object that a flow serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The bridge as a whole.
    Node = 1,
    /// A network.
    Network = 2,
    /// A port.
    Port = 3,
}

/// What a flow is for. Those that drop say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Purpose {
    /// Leads on.
    Forward = 0,
    /// Answers ARP.
    Arp = 1,
    /// Takes a neighbour solicitation to the one it asks for.
    Neighbour = 2,
    /// Takes DHCP to its server.
    Dhcp = 3,
    /// Takes router solicitations to the one who answers.
    RouterAdvert = 4,
    /// Takes DNS questions to their server.
    Dns = 5,
    /// Answers pings for a gateway.
    Echo = 6,
    /// Routes.
    Route = 7,
    /// Asks for an ICMP error: there is no route.
    NoRoute = 8,
    /// Floods.
    Flood = 9,
    /// Learns where a MAC address is.
    Learn = 10,
    /// Leads on by a meter, which drops what exceeds its rate.
    Limit = 11,
    /// Asks for an ICMP error: it is too big for the next network.
    TooBig = 12,
    /// Takes answers to the agent's own ARP probes to it (RFC 5227 §2.1).
    Probe = 13,
    /// Drops: the port belongs to no network.
    NoNetwork = 32,
    /// Drops: sent from a MAC address that is not the port's.
    SpoofedMac = 33,
    /// Drops: sent from an IP address that is not the port's.
    SpoofedIp = 34,
    /// Drops: ARP or neighbour advertisement for an address that is not the port's.
    SpoofedNeighbour = 35,
    /// Drops: a port played DHCP server.
    DhcpServerGuard = 36,
    /// Drops: a port played router.
    RouterGuard = 37,
    /// Drops: ports of this network may not talk to each other.
    Isolated = 38,
    /// Drops: it came by a tunnel and would go into one.
    TunnelLoop = 39,
    /// Drops: the port is not in the frame's VLAN.
    OtherVlan = 40,
}

impl Purpose {
    const ALL: [Purpose; 23] = [
        Purpose::Forward,
        Purpose::Arp,
        Purpose::Neighbour,
        Purpose::Dhcp,
        Purpose::RouterAdvert,
        Purpose::Dns,
        Purpose::Echo,
        Purpose::Route,
        Purpose::NoRoute,
        Purpose::Flood,
        Purpose::Learn,
        Purpose::Limit,
        Purpose::TooBig,
        Purpose::Probe,
        Purpose::NoNetwork,
        Purpose::SpoofedMac,
        Purpose::SpoofedIp,
        Purpose::SpoofedNeighbour,
        Purpose::DhcpServerGuard,
        Purpose::RouterGuard,
        Purpose::Isolated,
        Purpose::TunnelLoop,
        Purpose::OtherVlan,
    ];

    /// What the flow does, in words.
    pub const fn about(self) -> &'static str {
        match self {
            Purpose::Forward => "leads on",
            Purpose::Arp => "answers ARP",
            Purpose::Neighbour => "takes a neighbour solicitation to the one it asks for",
            Purpose::Dhcp => "takes DHCP to its server",
            Purpose::RouterAdvert => "takes router solicitations to the one who answers",
            Purpose::Dns => "takes DNS questions to their server",
            Purpose::Echo => "answers pings for the gateway",
            Purpose::Route => "routes",
            Purpose::NoRoute => "tells the sender that there is no route",
            Purpose::Flood => "floods",
            Purpose::Learn => "learns where a MAC address is",
            Purpose::Limit => "leads on, up to the port's bandwidth",
            Purpose::TooBig => "tells the sender that it is too big for the next network",
            Purpose::Probe => "takes answers to the agent, which asked whether an address is free",
            Purpose::NoNetwork => "drops: the port belongs to no network",
            Purpose::SpoofedMac => "drops: sent from a MAC address that is not the port's",
            Purpose::SpoofedIp => "drops: sent from an IP address that is not the port's",
            Purpose::SpoofedNeighbour => "drops: claims the address of another in ARP or neighbour discovery",
            Purpose::DhcpServerGuard => "drops: a port may not be a DHCP server",
            Purpose::RouterGuard => "drops: a port may not be a router",
            Purpose::Isolated => "drops: ports of this network may not talk to each other",
            Purpose::TunnelLoop => "drops: it came by a tunnel and would go into one",
            Purpose::OtherVlan => "drops: the port is not in the frame's VLAN",
        }
    }

    /// Whether flows of this purpose drop.
    pub const fn drops(self) -> bool {
        self as u8 >= Purpose::NoNetwork as u8
    }
}

/// What a flow is for and whose it is; 64 bits on the wire: mark 8, kind 8, purpose 8, nothing 8, key 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cookie {
    /// Kind of object.
    pub kind: Kind,
    /// What for.
    pub purpose: Purpose,
    /// The object's key on this node; 0 for the node.
    pub key: u32,
}

impl Cookie {
    /// All cookies of ours, as cookie and mask of a filter.
    pub const OURS: (u64, u64) = (MARK << 56, 0xff << 56);

    /// The number.
    pub const fn to_u64(self) -> u64 {
        MARK << 56 | (self.kind as u64) << 48 | (self.purpose as u64) << 40 | self.key as u64
    }

    /// What a number says; `None`: it is not ours.
    pub fn from_u64(cookie: u64) -> Option<Cookie> {
        let kind = match cookie >> 48 & 0xff {
            1 => Kind::Node,
            2 => Kind::Network,
            3 => Kind::Port,
            _ => return None,
        };
        let purpose = Purpose::ALL.into_iter().find(|p| *p as u64 == cookie >> 40 & 0xff)?;
        (cookie >> 56 == MARK && cookie >> 32 & 0xff == 0).then_some(Cookie {
            kind,
            purpose,
            key: cookie as u32,
        })
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Node => return write!(f, "node: {}", self.purpose.about()),
            Kind::Network => "network",
            Kind::Port => "port",
        };
        write!(f, "{kind} {}: {}", self.key, self.purpose.about())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_read_back() {
        for kind in [Kind::Node, Kind::Network, Kind::Port] {
            for purpose in Purpose::ALL {
                let cookie = Cookie { kind, purpose, key: 0xfedc_ba98 };
                assert_eq!(Cookie::from_u64(cookie.to_u64()), Some(cookie));
                assert_eq!(cookie.to_u64() & Cookie::OURS.1, Cookie::OURS.0);
                assert_eq!(purpose.drops(), purpose.about().starts_with("drops"), "{purpose:?}");
            }
        }
        for other in [0, u64::MAX, 0x5704_0000_0000_0001, 0x5701_1f00_0000_0000, 0x5702_0001_0000_0000] {
            assert_eq!(Cookie::from_u64(other), None, "{other:#x}");
        }
    }
}
