//! What does a record tell of a flow? Its shape, which is the template, and the fields by which flows differ.
//!
//! The elements are those that Open vSwitch exports (docs/ipfix.md).

use weft_datapath::Sampled;
use weft_flow::{FRAG_LATER, PacketKey, Sampler, TunnelKey, TunnelKind, VLAN_PRESENT};
use weft_wire::ipfix::{Element, FIRST_TEMPLATE, put_variable};
use weft_wire::{EtherType, IpProto};

/// VMware's private enterprise number.
const VMWARE: u32 = 6876;
/// Most bytes of a port's name.
const NAME_LEN: usize = 64;
/// Length of an Ethernet header, and of a tag in it.
const ETHERNET: u8 = 14;
const TAG: u8 = 4;
/// The options template with which an exporter tells of itself.
pub(super) const OWN_TEMPLATE: u16 = FIRST_TEMPLATE + 256;
/// Exporting process, the scope, and packets that were lost on the way to it.
pub(super) const OWN_ELEMENTS: [Element; 2] = [Element::iana(144, 4), Element::iana(167, 8)];

/// What is known of a port.
#[derive(Clone, Debug, Default)]
pub(super) struct Interface {
    /// Index of its device; 0: there is none.
    pub index: u32,
    /// Type of interface, as IANA numbers them.
    pub kind: u32,
    /// Name.
    pub name: String,
    /// Encapsulation.
    pub tunnel: Option<TunnelKind>,
}

/// Network layer of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Network {
    Other,
    Ipv4,
    Ipv6,
}

/// Transport layer of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    Other,
    Tcp,
    /// UDP and SCTP.
    Ports,
    Icmp,
}

/// Which fields a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub egress: bool,
    pub tunnel: bool,
    pub vlan: bool,
    pub network: Network,
    pub transport: Transport,
    /// `virtual_obs_id`.
    pub observed: bool,
}

/// What makes packets the same flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub shape: Shape,
    /// Observation domain.
    pub domain: u32,
    /// The fields, as they are in records.
    pub fields: Box<[u8]>,
}

const fn iana<const N: usize>(elements: [(u16, u16); N]) -> [Element; N] {
    let mut out = [Element::iana(0, 0); N];
    let mut i = 0;
    while i < N {
        out[i] = Element::iana(elements[i].0, elements[i].1);
        i += 1;
    }
    out
}

const V: u16 = Element::VARIABLE;
/// Observation point, direction, addresses, EtherType, length of the header.
const COMMON: [Element; 6] = iana([(138, 4), (61, 1), (56, 6), (80, 6), (256, 2), (240, 1)]);
/// Index, type, name and description.
const INGRESS: [Element; 4] = iana([(10, 4), (368, 4), (82, V), (83, V)]);
const EGRESS: [Element; 4] = iana([(14, 4), (369, 4), (82, V), (83, V)]);
/// VLAN, the same as 802.1Q has it, priority.
const TAGGED: [Element; 3] = iana([(58, 2), (243, 2), (244, 1)]);
/// Version, TTL, protocol, DSCP, precedence, class of service.
const IP: [Element; 6] = iana([(60, 1), (192, 1), (4, 1), (195, 1), (196, 1), (5, 1)]);
const IPV4: [Element; 2] = iana([(8, 4), (12, 4)]);
/// Addresses and flow label.
const IPV6: [Element; 3] = iana([(27, 16), (28, 16), (31, 4)]);
const PORTS: [Element; 2] = iana([(7, 2), (11, 2)]);
/// Type and code.
const ICMPV4: [Element; 2] = iana([(176, 1), (177, 1)]);
const ICMPV6: [Element; 2] = iana([(178, 1), (179, 1)]);
/// Outer addresses, protocol, ports, encapsulation, identifier.
const TUNNEL: [(u16, u16); 7] = [(893, 4), (894, 4), (895, 1), (896, 2), (897, 2), (891, 1), (892, V)];
const OBSERVED: Element = Element { enterprise: VMWARE, id: 898, len: V };
/// Start and end, dropped and all packets, by kind of receivers, octets of frames, reason of the end.
const COUNTS: [Element; 16] = iana([
    (158, 4),
    (159, 4),
    (133, 8),
    (135, 8),
    (2, 8),
    (86, 8),
    (354, 8),
    (355, 8),
    (356, 8),
    (357, 8),
    (358, 8),
    (19, 8),
    (174, 8),
    (352, 8),
    (353, 8),
    (136, 1),
]);
/// Octets of IP packets: dropped, all, squares, shortest and longest, to groups.
const IP_COUNTS: [Element; 10] =
    iana([(132, 8), (134, 8), (1, 8), (85, 8), (198, 8), (199, 8), (25, 8), (26, 8), (20, 8), (175, 8)]);
/// TCP packets with ACK, FIN, PSH, RST, SYN, URG.
const TCP_COUNTS: [Element; 6] = iana([(222, 8), (219, 8), (221, 8), (220, 8), (218, 8), (223, 8)]);

impl Shape {
    /// Number of its template.
    pub(super) fn template(self) -> u16 {
        let bits = u16::from(self.egress)
            | u16::from(self.tunnel) << 1
            | u16::from(self.vlan) << 2
            | (self.network as u16) << 3
            | (self.transport as u16) << 5
            | u16::from(self.observed) << 7;
        FIRST_TEMPLATE + bits
    }

    /// Its template.
    pub(super) fn elements(self) -> Vec<Element> {
        let mut out = COMMON.to_vec();
        out.extend(INGRESS);
        if self.egress {
            out.extend(EGRESS);
        }
        if self.vlan {
            out.extend(TAGGED);
        }
        match self.network {
            Network::Other => {}
            Network::Ipv4 => out.extend(IP.iter().chain(&IPV4)),
            Network::Ipv6 => out.extend(IP.iter().chain(&IPV6)),
        }
        match (self.transport, self.network) {
            (Transport::Other, _) => {}
            (Transport::Icmp, Network::Ipv6) => out.extend(ICMPV6),
            (Transport::Icmp, _) => out.extend(ICMPV4),
            (Transport::Tcp | Transport::Ports, _) => out.extend(PORTS),
        }
        if self.tunnel {
            out.extend(TUNNEL.map(|(id, len)| Element { enterprise: VMWARE, id, len }));
        }
        out.extend(self.observed.then_some(OBSERVED));
        out.extend(COUNTS);
        if self.network != Network::Other {
            out.extend(IP_COUNTS);
        }
        if self.transport == Transport::Tcp {
            out.extend(TCP_COUNTS);
        }
        out
    }
}

/// Length of a packet's Ethernet header.
pub(super) fn header_len(key: &PacketKey) -> u8 {
    if key.packet_type() != 0 {
        return 0;
    }
    ETHERNET + TAG * key.vlan.iter().filter(|tag| tag.tci & VLAN_PRESENT != 0).count() as u8
}

fn network(key: &PacketKey) -> Network {
    match EtherType(key.eth_type) {
        EtherType::IPV4 => Network::Ipv4,
        EtherType::IPV6 => Network::Ipv6,
        _ => Network::Other,
    }
}

fn transport(key: &PacketKey, network: Network) -> Transport {
    match (network, IpProto(key.ip_proto)) {
        (Network::Other, _) => Transport::Other,
        _ if key.ip_frag & FRAG_LATER != 0 => Transport::Other,
        (_, IpProto::TCP) => Transport::Tcp,
        (_, IpProto::UDP | IpProto::SCTP) => Transport::Ports,
        (Network::Ipv4, IpProto::ICMP) | (Network::Ipv6, IpProto::ICMPV6) => Transport::Icmp,
        _ => Transport::Other,
    }
}

/// The flow of a sample. `of_bridge`: the bridge's observation domain and point; rules bring their own.
pub(super) fn flow(
    sampled: &Sampled,
    of_bridge: (u32, u32),
    virtual_obs_id: &str,
    input: &Interface,
    output: Option<&Interface>,
) -> Flow {
    let (key, to) = (&sampled.key, &sampled.to);
    let (domain, point) = match to.sampler {
        Sampler::Bridge => of_bridge,
        Sampler::Rule { obs_domain_id, obs_point_id, .. } => (obs_domain_id, obs_point_id),
    };
    // What leaves without an outer header is told without, but where a rule asks.
    let came = sampled.tunnel.as_ref().filter(|_| to.output.is_none() || to.sampler != Sampler::Bridge);
    let tunnel = match &to.tunnel {
        Some(outer) => Some((&**outer, output.and_then(|port| port.tunnel))),
        None => came.map(|outer| (outer, input.tunnel)),
    };
    let network = network(key);
    let shape = Shape {
        egress: output.is_some(),
        tunnel: tunnel.is_some(),
        vlan: key.vlan[0].tci & VLAN_PRESENT != 0,
        network,
        transport: transport(key, network),
        observed: !virtual_obs_id.is_empty(),
    };
    let mut out = Vec::with_capacity(160);
    out.extend(point.to_be_bytes());
    out.push(u8::from(to.is_egress()));
    out.extend(key.eth_src.0);
    out.extend(key.eth_dst.0);
    out.extend(key.eth_type.to_be_bytes());
    out.push(header_len(key));
    for port in [Some(input), output].into_iter().flatten() {
        put_interface(&mut out, port);
    }
    if shape.vlan {
        let tci = key.vlan[0].tci;
        out.extend((tci & 0xfff).to_be_bytes());
        out.extend((tci & 0xfff).to_be_bytes());
        out.push((tci >> 13) as u8);
    }
    put_packet(&mut out, key, shape);
    if let Some((outer, kind)) = tunnel {
        put_tunnel(&mut out, outer, kind);
    }
    if shape.observed {
        put_variable(&mut out, virtual_obs_id.as_bytes());
    }
    Flow { shape, domain, fields: out.into() }
}

fn put_interface(out: &mut Vec<u8>, port: &Interface) {
    out.extend(port.index.to_be_bytes());
    out.extend(port.kind.to_be_bytes());
    put_variable(out, &port.name.as_bytes()[..port.name.len().min(NAME_LEN)]);
    put_variable(out, b"");
}

fn put_packet(out: &mut Vec<u8>, key: &PacketKey, shape: Shape) {
    let version = match shape.network {
        Network::Other => return,
        Network::Ipv4 => 4,
        Network::Ipv6 => 6,
    };
    let tos = key.ip_tos;
    out.extend([version, key.ip_ttl, key.ip_proto, tos >> 2, tos >> 5, tos]);
    if shape.network == Network::Ipv4 {
        out.extend(key.ipv4_src.to_be_bytes());
        out.extend(key.ipv4_dst.to_be_bytes());
    } else {
        out.extend(key.ipv6_src);
        out.extend(key.ipv6_dst);
        out.extend(key.ipv6_label.to_be_bytes());
    }
    match shape.transport {
        Transport::Other => {}
        Transport::Icmp => out.extend([key.tp_src as u8, key.tp_dst as u8]),
        Transport::Tcp | Transport::Ports => {
            out.extend(key.tp_src.to_be_bytes());
            out.extend(key.tp_dst.to_be_bytes());
        }
    }
}

/// An outer header. There are no elements for IPv6 addresses: those are told as zero.
fn put_tunnel(out: &mut Vec<u8>, outer: &TunnelKey, kind: Option<TunnelKind>) {
    out.extend(outer.ipv4_src.to_be_bytes());
    out.extend(outer.ipv4_dst.to_be_bytes());
    let (proto, number) = match kind {
        Some(TunnelKind::Gre) => (IpProto::GRE.0, 2),
        Some(TunnelKind::Geneve) => (IpProto::UDP.0, 7),
        Some(TunnelKind::Vxlan) => (IpProto::UDP.0, 1),
        None => (0, 0),
    };
    out.push(proto);
    out.extend(outer.tp_src.to_be_bytes());
    out.extend(outer.tp_dst.to_be_bytes());
    out.push(number);
    let id = (outer.id as u32).to_be_bytes();
    put_variable(out, if number == 2 { &id } else { &id[1..] });
}
