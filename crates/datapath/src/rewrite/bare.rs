//! How do headers go on and off in front of a packet, whatever it begins with?
//!
//! A packet without an Ethernet header has its EtherType beside it ([`crate::meta::Meta::bare`]) and nothing left to be
//! done by a device: segments are cut and checksums completed before the Ethernet header goes.

use weft_flow::L3Kind;
use weft_wire::nsh::{self, NshRepr, NshView};
use weft_wire::{EtherType, Mac, ethernet, mpls};

use super::{NotThere, Result, get, l3, look_again, put};
use crate::packet::Packet;

/// What the packet is before something is put in front: nothing is left to be done on it.
fn complete(packet: &mut Packet) -> Result {
    match packet.offload.gso {
        None if packet.offload.is_done() => Ok(()),
        None => packet.complete_checksum().map_err(|_| NotThere),
        Some(_) => Err(NotThere),
    }
}

/// The packet begins with this type now; [`EtherType::TEB`] is an Ethernet header.
fn begins_with(packet: &mut Packet, ethertype: EtherType) -> Result {
    packet.meta.bare = if ethertype == EtherType::TEB { 0 } else { ethertype.0 };
    look_again(packet)
}

/// Puts an Ethernet header in front of a packet that has none.
pub(crate) fn push_eth(packet: &mut Packet, src: Mac, dst: Mac) -> Result {
    let ethertype = packet.meta.bare;
    if ethertype == 0 || !packet.push_front(ethernet::HEADER_LEN) {
        return Err(NotThere);
    }
    let frame = packet.data_mut();
    frame[ethernet::field::DST..][..6].copy_from_slice(&dst.0);
    frame[ethernet::field::SRC..][..6].copy_from_slice(&src.0);
    frame[ethernet::field::ETHER_TYPE..][..2].copy_from_slice(&ethertype.to_be_bytes());
    begins_with(packet, EtherType::TEB)
}

/// Takes the Ethernet header off, and 802.2 behind it; a frame with tags keeps it.
pub(crate) fn pop_eth(packet: &mut Packet) -> Result {
    if packet.meta.bare != 0 || packet.layout.vlans != 0 {
        return Err(NotThere);
    }
    complete(packet)?;
    let key = packet.read_headers().map_err(|_| NotThere)?;
    packet.pull_front(usize::from(packet.layout.l2_5));
    begins_with(packet, EtherType(key.eth_type))
}

/// Puts a network service header in front.
pub(crate) fn push_nsh(packet: &mut Packet, header: &NshRepr) -> Result {
    complete(packet)?;
    if !packet.push_front(header.header_len()) {
        return Err(NotThere);
    }
    header.emit(packet.data_mut()).map_err(|_| NotThere)?;
    begins_with(packet, EtherType::NSH)
}

/// Takes the network service header off. The packet becomes what that says.
pub(crate) fn pop_nsh(packet: &mut Packet) -> Result {
    if packet.meta.bare != EtherType::NSH.0 {
        return Err(NotThere);
    }
    let header = NshView::parse(packet.data()).map_err(|_| NotThere)?;
    let inner = nsh::ether_type(header.next_protocol()).ok_or(NotThere)?;
    packet.pull_front(header.header_len());
    begins_with(packet, inner)
}

/// Puts a label stack entry in front.
pub(crate) fn add_mpls(packet: &mut Packet, lse: u32, ethertype: u16) -> Result {
    complete(packet)?;
    if !packet.push_front(mpls::ENTRY_LEN) {
        return Err(NotThere);
    }
    packet.data_mut()[..mpls::ENTRY_LEN].copy_from_slice(&lse.to_be_bytes());
    begins_with(packet, EtherType(ethertype))
}

/// Takes the label stack entry off that the packet begins with; what was beneath has this EtherType.
pub(super) fn pop_bare_mpls(packet: &mut Packet, ethertype: u16) -> Result {
    if packet.layout.kind != L3Kind::Mpls || packet.len() < mpls::ENTRY_LEN {
        return Err(NotThere);
    }
    packet.pull_front(mpls::ENTRY_LEN);
    begins_with(packet, EtherType(ethertype))
}

/// Sets bits of flags and TTL: 8 bits each, at the top of `value` and `mask`.
pub(super) fn set_nsh_base(packet: &mut Packet, value: u32, mask: u32) -> Result {
    // Flags have 2 bits on the wire, the TTL 6.
    let narrow = |word: u32| ((word >> 24 & 3) << 12 | (word >> 16 & 0x3f) << 6) as u16;
    if packet.layout.kind != L3Kind::Nsh {
        return Err(NotThere);
    }
    let at = l3(packet) + nsh::field::FIRST;
    let old = u16::from_be_bytes(get(packet, at)?);
    let new = old & !narrow(mask) | narrow(value) & narrow(mask);
    put(packet, at, &new.to_be_bytes())
}

/// Sets bits of a word.
pub(super) fn set_nsh_word(packet: &mut Packet, at: usize, value: u32, mask: u32) -> Result {
    if packet.layout.kind != L3Kind::Nsh {
        return Err(NotThere);
    }
    let at = l3(packet) + at;
    let old = u32::from_be_bytes(get(packet, at)?);
    put(packet, at, &(old & !mask | value & mask).to_be_bytes())
}

/// Sets bits of a context word. Metadata of type 2 has none: nothing is changed then.
pub(super) fn set_nsh_context(packet: &mut Packet, index: usize, value: u32, mask: u32) -> Result {
    let fixed = packet.data().get(l3(packet)..).and_then(|header| NshView::parse(header).ok());
    match fixed.and_then(|header| header.context()) {
        Some(_) => set_nsh_word(packet, nsh::field::CONTEXT + 4 * index, value, mask),
        None if packet.layout.kind == L3Kind::Nsh => Ok(()),
        None => Err(NotThere),
    }
}
