//! How are veth pairs, bridges and VXLAN devices made?

use std::net::IpAddr;

use weft_wire::Mac;

use super::link::{IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, IFLA_NET_NS_FD, ifinfo, push_mac};
use super::{CREATE, Message, Netlink};
use crate::Result;
use crate::netns::NetNs;
use crate::sys::ifname;

const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_UDP_CSUM: u16 = 18;
const IFLA_VXLAN_UDP_ZERO_CSUM6_TX: u16 = 19;
const IFLA_VXLAN_UDP_ZERO_CSUM6_RX: u16 = 20;
const IFLA_VXLAN_GBP: u16 = 23;

/// One end of a veth pair to be made.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; `None` for a random one.
    pub mac: Option<Mac>,
    /// Its MTU; `None` for 1500.
    pub mtu: Option<u32>,
    /// Where it is made; `None` for the handle's namespace.
    pub ns: Option<&'a NetNs>,
    /// Its index; 0 for the next free one. The kernel heeds it only in the handle's namespace. Two ends in two
    /// namespaces should not get the same: the kernel then does not see that they belong together, and tells of
    /// their carrier up to a second late.
    pub index: u32,
}

impl<'a> VethEnd<'a> {
    /// An end in the handle's namespace with a random address and MTU 1500.
    pub fn named(name: &'a str) -> Self {
        Self { name, mac: None, mtu: None, ns: None, index: 0 }
    }

    fn write(&self, message: &mut Message) {
        message.str(IFLA_IFNAME, self.name);
        if let Some(mac) = self.mac {
            push_mac(message, mac);
        }
        if let Some(mtu) = self.mtu {
            message.u32(IFLA_MTU, mtu);
        }
        if let Some(ns) = self.ns {
            message.u32(IFLA_NET_NS_FD, ns.raw_fd() as u32);
        }
    }
}

/// A kernel VXLAN device to be made.
#[derive(Debug, Clone, Copy)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Where unknown destinations go: a peer, or a multicast group.
    pub remote: IpAddr,
    /// Source address; `None` for the route's.
    pub local: Option<IpAddr>,
    /// UDP destination port.
    pub port: u16,
    /// Learn where MAC addresses are.
    pub learning: bool,
    /// Send UDP checksums (IPv4), or may leave them out (IPv6).
    pub checksum: bool,
    /// Carry group policy (draft-smith-vxlan-group-policy).
    pub gbp: bool,
}

impl Netlink {
    /// Makes a pair of connected devices, both down.
    pub fn add_veth(&mut self, a: &VethEnd<'_>, b: &VethEnd<'_>) -> Result<()> {
        ifname(a.name)?;
        ifname(b.name)?;
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &ifinfo(a.index, 0, 0));
        a.write(&mut message);
        message.nest(IFLA_LINKINFO, |m| {
            m.str(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.raw(&ifinfo(b.index, 0, 0));
                    b.write(m);
                });
            });
        });
        self.tell(message, || format!("add veth pair {} {}", a.name, b.name))
    }

    /// Makes a bridge, down; returns its index.
    pub fn add_bridge(&mut self, name: &str) -> Result<u32> {
        ifname(name)?;
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &ifinfo(0, 0, 0));
        message.str(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |m| {
            m.str(IFLA_INFO_KIND, "bridge");
        });
        self.tell(message, || format!("add bridge {name}"))?;
        self.index_of(name)
    }

    /// Makes a VXLAN device, down; returns its index.
    pub fn add_vxlan(&mut self, vxlan: &Vxlan<'_>) -> Result<u32> {
        ifname(vxlan.name)?;
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &ifinfo(0, 0, 0));
        message.str(IFLA_IFNAME, vxlan.name).nest(IFLA_LINKINFO, |m| {
            m.str(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |m| write_vxlan(m, vxlan));
        });
        self.tell(message, || format!("add vxlan device {}", vxlan.name))?;
        self.index_of(vxlan.name)
    }
}

fn write_vxlan(m: &mut Message, vxlan: &Vxlan<'_>) {
    m.u32(IFLA_VXLAN_ID, vxlan.vni);
    m.attr(IFLA_VXLAN_PORT, &vxlan.port.to_be_bytes());
    m.u8(IFLA_VXLAN_LEARNING, u8::from(vxlan.learning));
    match vxlan.remote {
        IpAddr::V4(ip) => m.attr(IFLA_VXLAN_GROUP, &ip.octets()),
        IpAddr::V6(ip) => m.attr(IFLA_VXLAN_GROUP6, &ip.octets()),
    };
    match vxlan.local {
        Some(IpAddr::V4(ip)) => drop(m.attr(IFLA_VXLAN_LOCAL, &ip.octets())),
        Some(IpAddr::V6(ip)) => drop(m.attr(IFLA_VXLAN_LOCAL6, &ip.octets())),
        None => {}
    }
    m.u8(IFLA_VXLAN_UDP_CSUM, u8::from(vxlan.checksum));
    m.u8(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, u8::from(!vxlan.checksum));
    m.u8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1);
    if vxlan.gbp {
        m.attr(IFLA_VXLAN_GBP, &[]);
    }
}
