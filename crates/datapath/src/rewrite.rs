//! How is one header field changed, with every checksum over it kept right?
//!
//! Checksums are updated by the difference (RFC 1624). A checksum that is still to be completed holds the sum of
//! the pseudo header: there only addresses count, and with the opposite sign.

mod bare;
mod layers;
mod ttl;

use weft_flow::{L3Kind, SetField};
use weft_wire::checksum::{self, Sum};
use weft_wire::vnet::{self, Csum};
use weft_wire::{IpProto, Mac, arp, ethernet, icmpv4, ipv4, ipv6, nsh, sctp, tcp, udp};

use crate::packet::Packet;

pub(crate) use bare::{add_mpls, pop_eth, pop_nsh, push_eth, push_nsh};
pub(crate) use layers::{look_again, pop_mpls, pop_vlan, push_mpls, push_vlan};
pub(crate) use ttl::copy_ttl;

/// The field is not in the frame: the action does not fit the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotThere;

type Result = std::result::Result<(), NotThere>;

/// Length of an ND message before its options (RFC 4861 §4.3, §4.4), and offsets of its flags and target.
const ND_LEN: usize = 24;
const ND_RESERVED: usize = 4;
const ND_TARGET: usize = 8;
/// ND options: source and target link-layer address.
const ND_OPT_SLL: u8 = 1;
const ND_OPT_TLL: u8 = 2;

/// Applies a change to the frame.
pub(crate) fn set_field(packet: &mut Packet, field: &SetField) -> Result {
    match *field {
        SetField::EthSrc(mac) => put(packet, ethernet::field::SRC, &mac.0),
        SetField::EthDst(mac) => put(packet, ethernet::field::DST, &mac.0),
        SetField::VlanTci(tci) if packet.layout.vlans > 0 => {
            put(packet, ethernet::HEADER_LEN, &tci.to_be_bytes())
        }
        SetField::Mpls(entry) if packet.layout.kind == L3Kind::Mpls => {
            put(packet, usize::from(packet.layout.l2_5), &entry.to_be_bytes())
        }
        SetField::Ipv4Src(ip) => set_ipv4(packet, ipv4::field::SRC, arp::field::SPA, ip),
        SetField::Ipv4Dst(ip) => set_ipv4(packet, ipv4::field::DST, arp::field::TPA, ip),
        SetField::Ipv6Src(ip) => set_ipv6(packet, ipv6::field::SRC, ip),
        SetField::Ipv6Dst(ip) => set_ipv6(packet, ipv6::field::DST, ip),
        SetField::Ipv6Label(label) => change_ipv6_word(packet, |word| word & !0xf_ffff | label & 0xf_ffff),
        SetField::IpTos(tos) => match packet.layout.kind {
            L3Kind::Ipv4 => change_ipv4_byte(packet, ipv4::field::TOS, tos),
            _ => change_ipv6_word(packet, |word| word & !0x0ff0_0000 | u32::from(tos) << 20),
        },
        SetField::IpTtl(ttl) => match packet.layout.kind {
            L3Kind::Ipv4 => change_ipv4_byte(packet, ipv4::field::TTL, ttl),
            L3Kind::Ipv6 => put(packet, l3(packet) + ipv6::field::HOP_LIMIT, &[ttl]),
            _ => Err(NotThere),
        },
        SetField::TpSrc(port) => set_port(packet, 0, port),
        SetField::TpDst(port) => set_port(packet, 2, port),
        SetField::ArpOp(op) => put_arp(packet, arp::field::OP, &op.to_be_bytes()),
        SetField::ArpSha(mac) => put_arp(packet, arp::field::SHA, &mac.0),
        SetField::ArpTha(mac) => put_arp(packet, arp::field::THA, &mac.0),
        SetField::NdTarget(ip) => {
            let at = nd(packet)? + ND_TARGET;
            replace_summed(packet, at, &ip)
        }
        SetField::NdSll(mac) => set_nd_option(packet, ND_OPT_SLL, mac),
        SetField::NdTll(mac) => set_nd_option(packet, ND_OPT_TLL, mac),
        SetField::NdReserved(flags) => {
            let at = nd(packet)? + ND_RESERVED;
            replace_summed(packet, at, &flags.to_be_bytes())
        }
        SetField::NdOptionsType(kind) => set_nd_option_type(packet, kind),
        SetField::Priority(priority) => {
            packet.meta.priority = priority;
            Ok(())
        }
        SetField::Mark(mark) => {
            packet.meta.mark = mark;
            Ok(())
        }
        SetField::NshBase { value, mask } => bare::set_nsh_base(packet, value, mask),
        SetField::NshPath { value, mask } => bare::set_nsh_word(packet, nsh::field::PATH, value, mask),
        SetField::NshContext { index, value, mask } => {
            bare::set_nsh_context(packet, usize::from(index & 3), value, mask)
        }
        SetField::VlanTci(_) | SetField::Mpls(_) => Err(NotThere),
    }
}

/// Raises the drop precedence of an assured-forwarding DSCP (RFC 2597 §6) by so much, at most to the highest. Other
/// packets have none.
pub(crate) fn raise_drop_precedence(packet: &mut Packet, by: u8) -> Result {
    let tos = match packet.layout.kind {
        L3Kind::Ipv4 => get::<{ ipv4::field::TOS + 1 }>(packet, l3(packet))?[ipv4::field::TOS],
        L3Kind::Ipv6 => {
            let [a, b] = get(packet, l3(packet))?;
            a << 4 | b >> 4
        }
        _ => return Ok(()),
    };
    let (class, precedence, rest) = (tos >> 5, tos >> 3 & 3, tos & 7);
    if !(1..=4).contains(&class) || precedence == 0 || rest & 4 != 0 {
        return Ok(());
    }
    let raised = precedence.saturating_add(by).min(3);
    set_field(packet, &SetField::IpTos(class << 5 | raised << 3 | rest))
}

fn l3(packet: &Packet) -> usize {
    usize::from(packet.layout.l3)
}

/// Overwrites bytes that no checksum covers.
fn put(packet: &mut Packet, at: usize, bytes: &[u8]) -> Result {
    let place = packet.data_mut().get_mut(at..at + bytes.len()).ok_or(NotThere)?;
    place.copy_from_slice(bytes);
    Ok(())
}

fn get<const N: usize>(packet: &Packet, at: usize) -> std::result::Result<[u8; N], NotThere> {
    packet.data().get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(NotThere)
}

fn put_arp(packet: &mut Packet, at: usize, bytes: &[u8]) -> Result {
    match packet.layout.kind {
        L3Kind::Arp => put(packet, l3(packet) + at, bytes),
        _ => Err(NotThere),
    }
}

fn set_ipv4(packet: &mut Packet, in_ip: usize, in_arp: usize, ip: u32) -> Result {
    if packet.layout.kind != L3Kind::Ipv4 {
        return put_arp(packet, in_arp, &ip.to_be_bytes());
    }
    let at = l3(packet) + in_ip;
    let old: [u8; 4] = get(packet, at)?;
    put(packet, at, &ip.to_be_bytes())?;
    let (old, new) = (Sum::of(&old), Sum::long(ip));
    update_at(packet, l3(packet) + ipv4::field::CHECKSUM, old, new)?;
    update_transport(packet, old, new, Covered::Pseudo)
}

fn set_ipv6(packet: &mut Packet, in_ip: usize, ip: [u8; 16]) -> Result {
    if packet.layout.kind != L3Kind::Ipv6 {
        return Err(NotThere);
    }
    let at = l3(packet) + in_ip;
    let old: [u8; 16] = get(packet, at)?;
    put(packet, at, &ip)?;
    update_transport(packet, Sum::of(&old), Sum::of(&ip), Covered::Pseudo)
}

fn change_ipv4_byte(packet: &mut Packet, at: usize, value: u8) -> Result {
    // The 16-bit word that the byte is in.
    let word_at = l3(packet) + (at & !1);
    let old: [u8; 2] = get(packet, word_at)?;
    let mut new = old;
    new[at & 1] = value;
    put(packet, word_at, &new)?;
    update_at(packet, l3(packet) + ipv4::field::CHECKSUM, Sum::of(&old), Sum::of(&new))
}

fn change_ipv6_word(packet: &mut Packet, change: impl FnOnce(u32) -> u32) -> Result {
    if packet.layout.kind != L3Kind::Ipv6 {
        return Err(NotThere);
    }
    let at = l3(packet) + ipv6::field::VERSION_TC_FLOW;
    let word = u32::from_be_bytes(get(packet, at)?);
    put(packet, at, &change(word).to_be_bytes())
}

fn set_port(packet: &mut Packet, offset: usize, port: u16) -> Result {
    if packet.layout.l4 == 0 {
        return Err(NotThere);
    }
    let l4 = usize::from(packet.layout.l4);
    match IpProto(packet.ip_proto) {
        IpProto::TCP | IpProto::UDP | IpProto::UDPLITE => {
            replace_summed(packet, l4 + offset, &port.to_be_bytes())
        }
        IpProto::SCTP => {
            let end = packet.layout.end as usize;
            let partial = matches!(packet.offload.csum, Csum::Partial { .. });
            let whole = packet.data_mut().get_mut(l4..end).ok_or(NotThere)?;
            let view = sctp::SctpView::parse(whole).map_err(|_| NotThere)?;
            // What was left to a device is done now; what was wrong stays so, and is found out by the receiver.
            let error = if partial { 0 } else { view.checksum_error() };
            whole[offset..offset + 2].copy_from_slice(&port.to_be_bytes());
            sctp::refill_checksum(whole, error).map_err(|_| NotThere)?;
            packet.offload.csum = Csum::None;
            Ok(())
        }
        // Type and code, one byte each.
        IpProto::ICMP | IpProto::ICMPV6 => {
            let mut word: [u8; 2] = get(packet, l4)?;
            word[offset / 2] = port as u8;
            replace_summed(packet, l4, &word)
        }
        _ => Err(NotThere),
    }
}

/// Where the ND message starts.
fn nd(packet: &Packet) -> std::result::Result<usize, NotThere> {
    let is_icmp6 = packet.layout.kind == L3Kind::Ipv6 && packet.ip_proto == IpProto::ICMPV6.0;
    let l4 = usize::from(packet.layout.l4);
    let kind = packet.data().get(l4).copied();
    (is_icmp6 && l4 != 0 && matches!(kind, Some(135 | 136))).then_some(l4).ok_or(NotThere)
}

/// Where the first link-layer address option of a wanted type is.
fn nd_option(packet: &Packet, wanted: impl Fn(u8) -> bool) -> std::result::Result<usize, NotThere> {
    let mut at = nd(packet)? + ND_LEN;
    let end = (packet.layout.end as usize).min(packet.len());
    while at + 8 <= end {
        let [kind, units] = get(packet, at)?;
        if units == 0 {
            break;
        }
        if wanted(kind) && units == 1 {
            return Ok(at);
        }
        at += usize::from(units) * 8;
    }
    Err(NotThere)
}

fn set_nd_option(packet: &mut Packet, wanted: u8, mac: Mac) -> Result {
    let at = nd_option(packet, |kind| kind == wanted)? + 2;
    replace_summed(packet, at, &mac.0)
}

/// Changes the type of the first link-layer address option.
fn set_nd_option_type(packet: &mut Packet, kind: u8) -> Result {
    let at = nd_option(packet, |kind| matches!(kind, ND_OPT_SLL | ND_OPT_TLL))?;
    let [_, units]: [u8; 2] = get(packet, at)?;
    replace_summed(packet, at, &[kind, units])
}

/// Overwrites bytes of the transport header or payload, at an even offset from the transport header.
fn replace_summed<const N: usize>(packet: &mut Packet, at: usize, new: &[u8; N]) -> Result {
    let old: [u8; N] = get(packet, at)?;
    put(packet, at, new)?;
    update_transport(packet, Sum::of(&old), Sum::of(new), Covered::Transport)
}

/// Overwrites bytes of the transport header or payload, wherever they stand.
pub(crate) fn patch(packet: &mut Packet, at: usize, new: &[u8]) -> Result {
    let l4 = usize::from(packet.layout.l4);
    let end = (packet.layout.end as usize).min(packet.len());
    if l4 == 0 || at < l4 || at + new.len() > end {
        return Err(NotThere);
    }
    // Whole words of the sum.
    let (from, to) = (at - (at - l4) % 2, (at + new.len() + (at + new.len() - l4) % 2).min(end));
    let frame = packet.data_mut();
    let old = Sum::of(&frame[from..to]);
    frame[at..at + new.len()].copy_from_slice(new);
    let new = Sum::of(&frame[from..to]);
    update_transport(packet, old, new, Covered::Transport)
}

/// Replaces `remove` bytes of the payload of TCP or UDP by others. The checksum is left to be completed.
pub(crate) fn splice(packet: &mut Packet, at: usize, remove: usize, insert: &[u8]) -> Result {
    let end = (packet.layout.end as usize).min(packet.len());
    let payload = usize::from(packet.layout.payload);
    let after = at.checked_add(remove).filter(|after| *after <= end).ok_or(NotThere)?;
    if payload == 0 || at < payload {
        return Err(NotThere);
    }
    // Ethernet padding goes.
    packet.truncate(end);
    let len = end - remove + insert.len();
    let room = packet.room_mut();
    let to = at + insert.len();
    if len > room.len() {
        return Err(NotThere);
    }
    room.copy_within(after..end, to);
    room[at..to].copy_from_slice(insert);
    packet.set_len(len);
    packet.layout.end = len as u32;
    let at_l3 = l3(packet);
    match packet.layout.kind {
        L3Kind::Ipv4 => {
            let total = u16::try_from(len - at_l3).map_err(|_| NotThere)?;
            let old: [u8; 2] = get(packet, at_l3 + ipv4::field::TOTAL_LEN)?;
            put(packet, at_l3 + ipv4::field::TOTAL_LEN, &total.to_be_bytes())?;
            update_at(packet, at_l3 + ipv4::field::CHECKSUM, Sum::of(&old), Sum::word(total))?;
        }
        L3Kind::Ipv6 => {
            let total = u16::try_from(len - at_l3 - ipv6::HEADER_LEN).map_err(|_| NotThere)?;
            put(packet, at_l3 + ipv6::field::PAYLOAD_LEN, &total.to_be_bytes())?;
        }
        _ => return Err(NotThere),
    }
    if packet.ip_proto == IpProto::UDP.0 {
        let l4 = usize::from(packet.layout.l4);
        let total = u16::try_from(len - l4).map_err(|_| NotThere)?;
        put(packet, l4 + udp::field::LEN, &total.to_be_bytes())?;
        if get(packet, l4 + udp::field::CHECKSUM)? == [0, 0] && packet.offload.csum == Csum::None {
            return Ok(());
        }
    }
    packet.offload.csum = vnet::make_partial(packet.data_mut()).map_err(|_| NotThere)?;
    Ok(())
}

/// What part of what a transport checksum covers was changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Covered {
    Pseudo,
    Transport,
}

/// Updates the transport checksum, if there is one here and it covers the change.
fn update_transport(packet: &mut Packet, old: Sum, new: Sum, covered: Covered) -> Result {
    let l4 = usize::from(packet.layout.l4);
    if l4 == 0 {
        // A later fragment: the checksum is in the first one, which gets the same change.
        return Ok(());
    }
    let offset = match IpProto(packet.ip_proto) {
        IpProto::TCP => tcp::field::CHECKSUM,
        IpProto::UDP | IpProto::UDPLITE => udp::field::CHECKSUM,
        IpProto::ICMP if covered == Covered::Pseudo => return Ok(()),
        IpProto::ICMP | IpProto::ICMPV6 => icmpv4::field::CHECKSUM,
        _ => return Ok(()),
    };
    let at = l4 + offset;
    if let Csum::Partial { start, offset: o } = packet.offload.csum
        && usize::from(start) + usize::from(o) == at
    {
        if covered == Covered::Transport {
            return Ok(());
        }
        let sum = u16::from_be_bytes(get(packet, at)?);
        return put(packet, at, &(!checksum::update(!sum, old, new)).to_be_bytes());
    }
    let is_udp = packet.ip_proto == IpProto::UDP.0;
    if is_udp && get(packet, at)? == [0, 0] {
        // No checksum (RFC 768).
        return Ok(());
    }
    update_at(packet, at, old, new)?;
    if is_udp && get(packet, at)? == [0, 0] {
        put(packet, at, &[0xff, 0xff])?;
    }
    Ok(())
}

fn update_at(packet: &mut Packet, at: usize, old: Sum, new: Sum) -> Result {
    let sum = u16::from_be_bytes(get(packet, at)?);
    put(packet, at, &checksum::update(sum, old, new).to_be_bytes())
}

#[cfg(test)]
mod tests;
