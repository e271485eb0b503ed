//! Which flows does each kind of object ask for? A file each.

pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod port;
mod vlan;

use std::net::IpAddr;

use weft_flow::{Action, Field, OfPort, Subfield};
use weft_wire::{EtherType, Mac};

use crate::Cookie;
use crate::flow::{Flow, mac, put, set};
use crate::stage::{Register, Stage};

/// Matches a destination or source address, or a prefix of it.
pub(crate) fn on_address(flow: Flow, source: bool, address: IpAddr, prefix: u8) -> Flow {
    let (field, ty) = match address {
        IpAddr::V4(_) if source => (Field::IpSrc, EtherType::IPV4),
        IpAddr::V4(_) => (Field::IpDst, EtherType::IPV4),
        IpAddr::V6(_) if source => (Field::Ipv6Src, EtherType::IPV6),
        IpAddr::V6(_) => (Field::Ipv6Dst, EtherType::IPV6),
    };
    on_prefix(flow.ethertype(ty), field, address, prefix)
}

/// Matches a prefix in a field of addresses, whose Ethernet type is matched already.
pub(crate) fn on_prefix(flow: Flow, field: Field, address: IpAddr, prefix: u8) -> Flow {
    let (bits, value) = match address {
        IpAddr::V4(a) => (32, u128::from(u32::from(a))),
        IpAddr::V6(a) => (128, u128::from(a)),
    };
    let shift = bits - u32::from(prefix).min(bits);
    let mask = field.value_mask().checked_shr(shift).unwrap_or(0).checked_shl(shift).unwrap_or(0);
    if mask == 0 { flow } else { flow.on_bits(field, value, mask) }
}

/// A whole field.
pub(crate) fn whole(field: Field) -> Subfield {
    Subfield { field, start: 0, bits: field.bits() }
}

/// Sends by a port, by way of the last stage.
pub(crate) fn leave_by(flow: Flow, port: OfPort) -> Flow {
    flow.act([put(Register::OutPort, port.0)]).goto(Stage::Output)
}

/// Sends a packet back where it came from.
pub(crate) fn back() -> Action {
    Action::Output { port: OfPort::IN_PORT, max_len: 0 }
}

/// Sends whole packets to the agent, and says what for.
pub(crate) fn to_agent(cookie: Cookie) -> Action {
    Action::Controller(Box::new(weft_flow::ControllerAction {
        max_len: u16::MAX,
        id: 0,
        reason: 1,
        userdata: vec![cookie.purpose as u8],
        pause: false,
        meter: None,
    }))
}

/// Answers an ARP request: that address is at this MAC (RFC 826).
pub(crate) fn arp_reply(flow: Flow, address: u32, at: Mac) -> Flow {
    let copy = |src, dst| Action::Move { src: whole(src), dst: whole(dst) };
    flow.ethertype(EtherType::ARP).on(Field::ArpOp, 1u8).on(Field::ArpTpa, address).act([
        copy(Field::EthSrc, Field::EthDst),
        set(Field::EthSrc, mac(at)),
        set(Field::ArpOp, 2u8),
        copy(Field::ArpSha, Field::ArpTha),
        set(Field::ArpSha, mac(at)),
        copy(Field::ArpSpa, Field::ArpTpa),
        set(Field::ArpSpa, address),
        back(),
    ])
}
