//! Which tables does a packet pass, in which order, and what do registers hold on the way?

use weft_flow::{Field, Subfield};

/// A stage is a flow table of the integration bridge. A packet passes them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Which network is the packet of, and where does it come from?
    Classify = 0,
    /// Does the port own the addresses that it sends from?
    Guard = 10,
    /// ARP is answered here; neighbour solicitations are taken to the one they ask for.
    Neighbour = 20,
    /// DHCP, router solicitations, DNS and pings for the gateway.
    Service = 30,
    /// What is for the gateway's MAC address goes to another network, to the host, or nowhere.
    Route = 40,
    /// Does it fit into the next network, whose links take less?
    Fit = 45,
    /// The MAC address of the next hop.
    NextHop = 50,
    /// Which port has the destination's MAC address?
    Bridge = 60,
    /// MAC addresses learned from tunnels and uplinks. A side table: looked up from [`Stage::Bridge`].
    Learned = 61,
    /// Known by now, or flooded.
    Flood = 62,
    /// Out by the port found, as that port needs it.
    Output = 70,
}

impl Stage {
    /// All stages, in the order of a packet's way.
    pub const ALL: [Stage; 11] = [
        Stage::Classify,
        Stage::Guard,
        Stage::Neighbour,
        Stage::Service,
        Stage::Route,
        Stage::Fit,
        Stage::NextHop,
        Stage::Bridge,
        Stage::Learned,
        Stage::Flood,
        Stage::Output,
    ];

    /// The flow table.
    pub const fn table(self) -> u8 {
        self as u8
    }

    /// The stage of a flow table.
    pub fn of_table(table: u8) -> Option<Stage> {
        Stage::ALL.into_iter().find(|s| s.table() == table)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Classify => "classify",
            Stage::Guard => "guard",
            Stage::Neighbour => "neighbour",
            Stage::Service => "service",
            Stage::Route => "route",
            Stage::Fit => "fit",
            Stage::NextHop => "next-hop",
            Stage::Bridge => "bridge",
            Stage::Learned => "learned",
            Stage::Flood => "flood",
            Stage::Output => "output",
        }
    }

    /// What happens there, in a line.
    pub const fn about(self) -> &'static str {
        match self {
            Stage::Classify => "which network the packet is of, and where it comes from",
            Stage::Guard => "whether the port owns the MAC and IP addresses it sends from",
            Stage::Neighbour => "ARP answered; neighbour solicitations taken to the one they ask for",
            Stage::Service => "DHCP, router solicitation, DNS, pings for the gateway",
            Stage::Route => "from the gateway's MAC to another network, to the host, or nowhere",
            Stage::Fit => "whether it fits into the next network, or its sender hears of that network's MTU",
            Stage::NextHop => "the MAC address of the next hop",
            Stage::Bridge => "the port that has the destination's MAC address",
            Stage::Learned => "MAC addresses learned from tunnels and uplinks",
            Stage::Flood => "known by now, or to all of the network",
            Stage::Output => "out by the port found, as that port needs it",
        }
    }
}

/// What registers hold between stages. The network's key is in `metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The OpenFlow port to send by; 0: not known.
    OutPort,
    /// The packet came by a tunnel: it goes into none again.
    FromTunnel,
    /// The packet came from a port of an isolated network: it reaches the gateway only.
    FromIsolated,
    /// The packet is larger than the next network takes.
    TooBig,
    /// The packet is of another VLAN than the network's own, and has its tag.
    Tagged,
    /// The packet passes by all that answers for the network.
    Direct,
}

impl Register {
    /// Where it stands.
    pub const fn subfield(self) -> Subfield {
        match self {
            Register::OutPort => Subfield { field: Field::Reg15, start: 0, bits: 32 },
            Register::FromTunnel => Subfield { field: Field::Reg10, start: 0, bits: 1 },
            Register::FromIsolated => Subfield { field: Field::Reg10, start: 1, bits: 1 },
            Register::TooBig => Subfield { field: Field::Reg10, start: 2, bits: 1 },
            Register::Tagged => Subfield { field: Field::Reg10, start: 3, bits: 1 },
            Register::Direct => Subfield { field: Field::Reg10, start: 4, bits: 1 },
        }
    }
}
