//! How do tags and labels go on and off a frame?

use weft_flow::L3Kind;
use weft_wire::{EtherType, ethernet, mpls, vlan};

use super::{NotThere, Result};
use crate::packet::Packet;

/// Puts a tag outermost.
pub(crate) fn push_vlan(packet: &mut Packet, tpid: u16, tci: u16) -> Result {
    const ADDRESSES: usize = ethernet::field::ETHER_TYPE;
    if packet.len() < ethernet::HEADER_LEN || packet.offload.shift(vlan::TAG_LEN as i32).is_err() {
        return Err(NotThere);
    }
    if !packet.push_front(vlan::TAG_LEN) {
        return Err(NotThere);
    }
    let frame = packet.data_mut();
    frame.copy_within(vlan::TAG_LEN..vlan::TAG_LEN + ADDRESSES, 0);
    frame[ADDRESSES..ADDRESSES + 2].copy_from_slice(&tpid.to_be_bytes());
    frame[ADDRESSES + 2..ADDRESSES + 4].copy_from_slice(&tci.to_be_bytes());
    shift_layout(packet, vlan::TAG_LEN as i32);
    packet.layout.vlans = packet.layout.vlans.saturating_add(1);
    Ok(())
}

/// Takes the outermost tag off.
pub(crate) fn pop_vlan(packet: &mut Packet) -> Result {
    const ADDRESSES: usize = ethernet::field::ETHER_TYPE;
    let whole = packet.len() >= ethernet::HEADER_LEN + vlan::TAG_LEN;
    if packet.layout.vlans == 0 || !whole || packet.offload.shift(-(vlan::TAG_LEN as i32)).is_err() {
        return Err(NotThere);
    }
    packet.data_mut().copy_within(..ADDRESSES, vlan::TAG_LEN);
    packet.pull_front(vlan::TAG_LEN);
    shift_layout(packet, -(vlan::TAG_LEN as i32));
    packet.layout.vlans -= 1;
    Ok(())
}

/// Moves the offsets of the headers behind the tags.
fn shift_layout(packet: &mut Packet, by: i32) {
    let layout = &mut packet.layout;
    for at in [&mut layout.l2_5, &mut layout.l3, &mut layout.l4, &mut layout.payload] {
        if *at != 0 {
            *at = at.wrapping_add_signed(by as i16);
        }
    }
    layout.end = layout.end.saturating_add_signed(by);
}

/// Where labels begin in a frame whose EtherType stands right before them.
fn labels_at(packet: &Packet) -> std::result::Result<usize, NotThere> {
    let at = usize::from(packet.layout.l2_5);
    let plain = at == ethernet::HEADER_LEN + usize::from(packet.layout.vlans) * vlan::TAG_LEN;
    (plain && packet.len() >= at).then_some(at).ok_or(NotThere)
}

/// Puts a label stack entry before the layer-3 header, or before the other entries. Not for GSO frames.
pub(crate) fn push_mpls(packet: &mut Packet, lse: u32, ethertype: u16) -> Result {
    let at = labels_at(packet)?;
    if packet.offload.shift(mpls::ENTRY_LEN as i32).is_err() || !packet.push_front(mpls::ENTRY_LEN) {
        return Err(NotThere);
    }
    let frame = packet.data_mut();
    frame.copy_within(mpls::ENTRY_LEN..mpls::ENTRY_LEN + at, 0);
    frame[at - 2..at].copy_from_slice(&ethertype.to_be_bytes());
    frame[at..at + mpls::ENTRY_LEN].copy_from_slice(&lse.to_be_bytes());
    look_again(packet)
}

/// Takes the outermost label stack entry off; what was beneath has this EtherType.
pub(crate) fn pop_mpls(packet: &mut Packet, ethertype: u16) -> Result {
    if packet.meta.bare != 0 {
        return super::bare::pop_bare_mpls(packet, ethertype);
    }
    let at = labels_at(packet)?;
    let whole = packet.len() >= at + mpls::ENTRY_LEN;
    if packet.layout.kind != L3Kind::Mpls || !whole {
        return Err(NotThere);
    }
    packet.offload.shift(-(mpls::ENTRY_LEN as i32)).map_err(|_| NotThere)?;
    packet.data_mut().copy_within(..at, mpls::ENTRY_LEN);
    packet.pull_front(mpls::ENTRY_LEN);
    packet.data_mut()[at - 2..at].copy_from_slice(&ethertype.to_be_bytes());
    look_again(packet)
}

/// Finds the headers anew.
pub(crate) fn look_again(packet: &mut Packet) -> Result {
    packet.read_headers().map(|_| ()).map_err(|_| NotThere)
}

// Labels stand behind their EtherType as tags do.
const _: () = assert!(mpls::ENTRY_LEN == 4 && EtherType::MPLS.0 == 0x8847);
