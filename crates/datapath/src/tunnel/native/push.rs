//! How are outer headers put before a frame?
//!
//! The pipeline brings them whole; lengths, the source port and checksums are filled in here. A GSO frame becomes one
//! outer UDP datagram train: outer headers once, then for each segment a tunnel header and a frame, marked to be cut by
//! whoever sends it (USO), so that it crosses whole. GRE has no such thing and is cut at once.

use smallvec::SmallVec;
use weft_flow::{DropReason, EncapHeader, L3Kind, Layout, TunnelKind};
use weft_wire::checksum::Sum;
use weft_wire::segment::Segmenter;
use weft_wire::vnet::{self, Csum, Gso, GsoKind, VnetHdr};
use weft_wire::{gre, ipv4, ipv6, udp};

use crate::executor::Executor;
use crate::packet::{BATCH, Packet, Slot};

/// Datagrams in a train, as kernels take them.
const MAX_DATAGRAMS: usize = 64;
/// First of the outer source ports (RFC 7348 §5 recommends 49152–65535).
const FIRST_PORT: u16 = 49_152;

/// Outer headers, looked at once for a group of frames.
///
/// Sums are taken of the header as it was brought, not as it stands in a frame: what was just copied in large pieces
/// is slow to read back in small ones.
pub(crate) struct Plan<'a> {
    outer: &'a EncapHeader,
    l3: usize,
    l4: usize,
    /// Where the tunnel header begins (UDP) or 0 (GRE).
    payload: usize,
    ipv6: bool,
    /// Sum of the IPv4 header without length, identification and checksum.
    ip_sum: Sum,
    /// IPv4 packets that may be fragmented are told apart by their identification (RFC 6864 §4).
    numbered: bool,
    /// A UDP checksum is wanted.
    csum: bool,
    /// First and last source port.
    ports: (u16, u16),
}

impl<'a> Plan<'a> {
    pub(crate) fn new(outer: &'a EncapHeader, ports: Option<(u16, u16)>) -> Result<Self, DropReason> {
        let bad = DropReason::BadAction;
        let l3 = outer.ip_offset;
        let ip = outer.bytes.get(l3..).ok_or(bad)?;
        let ipv6 = ip.first().ok_or(bad)? >> 4 == 6;
        let ip_len = if ipv6 { ipv6::HEADER_LEN } else { ipv4::MIN_HEADER_LEN };
        let (ip, rest) = ip.split_at_checked(ip_len).ok_or(bad)?;
        let gre = outer.kind == TunnelKind::Gre;
        let least = if gre { gre::MIN_HEADER_LEN } else { udp::HEADER_LEN };
        if rest.len() < least {
            return Err(bad);
        }
        let l4 = l3 + ip_len;
        Ok(Plan {
            outer,
            l3,
            l4,
            payload: if gre { 0 } else { l4 + udp::HEADER_LEN },
            ipv6,
            ip_sum: Sum::of(&ip[..ipv4::field::TOTAL_LEN])
                + Sum::of(&ip[ipv4::field::FRAG..ipv4::field::CHECKSUM])
                + Sum::of(&ip[ipv4::field::SRC..]),
            numbered: !ipv6 && ip[ipv4::field::FRAG] & 0x40 == 0,
            // Over IPv6 a checksum is due; over IPv4 zero says there is none.
            ports: ports.unwrap_or((FIRST_PORT, u16::MAX)),
            csum: !gre && (ipv6 || rest[udp::field::CHECKSUM..][..2] != [0, 0]),
        })
    }

    /// Puts the outer headers before a finished inner frame.
    #[inline]
    fn prepend(&self, packet: &mut Packet, serial: u32) -> Result<(), DropReason> {
        let bytes = &self.outer.bytes[..];
        if !packet.push_front(bytes.len()) {
            return Err(DropReason::FrameTooLong);
        }
        packet.offload = VnetHdr::default();
        packet.meta.bare = 0;
        packet.data_mut()[..bytes.len()].copy_from_slice(bytes);
        self.finish(packet, serial)
    }

    /// Fills in lengths, source port and checksums of the outer headers at the start of the frame, and its layout.
    #[inline]
    fn finish(&self, packet: &mut Packet, serial: u32) -> Result<(), DropReason> {
        let (l3, l4, hash, len) = (self.l3, self.l4, packet.flow_hash, packet.len());
        let train = packet.offload.gso.is_some();
        let too_long = |_| DropReason::FrameTooLong;
        let (ip_len, l4_len) =
            (u16::try_from(len - l3).map_err(too_long)?, u16::try_from(len - l4).map_err(too_long)?);
        let frame = packet.data_mut();
        let mut put = |at: usize, value: u16| frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        if self.ipv6 {
            put(l3 + ipv6::field::PAYLOAD_LEN, l4_len);
        } else {
            let id = if self.numbered { serial as u16 } else { 0 };
            put(l3 + ipv4::field::TOTAL_LEN, ip_len);
            put(l3 + ipv4::field::ID, id);
            put(l3 + ipv4::field::CHECKSUM, (self.ip_sum + Sum::word(ip_len) + Sum::word(id)).finish());
        }
        if self.payload != 0 {
            let (first, last) = self.ports;
            let folded = u32::from(hash as u16 ^ (hash >> 16) as u16);
            let share = (folded * (u32::from(last - first) + 1)) >> 16;
            put(l4 + udp::field::SRC_PORT, first + share as u16);
            put(l4 + udp::field::LEN, l4_len);
            // A train's must be there to be cut.
            if self.csum || train {
                put(l4 + udp::field::CHECKSUM, 0);
                self.udp_checksum(packet, l4_len);
            }
        } else {
            self.finish_gre(packet, serial)?;
        }
        packet.ip_proto = if self.payload == 0 { 47 } else { 17 };
        packet.layout = Layout {
            l2_5: l3 as u16,
            l3: l3 as u16,
            l4: l4 as u16,
            payload: self.payload as u16,
            end: len as u32,
            kind: if self.ipv6 { L3Kind::Ipv6 } else { L3Kind::Ipv4 },
            vlans: 0,
        };
        Ok(())
    }

    fn finish_gre(&self, packet: &mut Packet, serial: u32) -> Result<(), DropReason> {
        let gre = &mut packet.data_mut()[self.l4..];
        let flags = gre[0];
        // Behind checksum and key, if they are there (RFC 2890 §2).
        let sequence_at = 4 * (1 + usize::from(flags >> 7) + usize::from(flags >> 5 & 1));
        if flags & 0x10 != 0
            && let Some(sequence) = gre.get_mut(sequence_at..sequence_at + 4)
        {
            sequence.copy_from_slice(&serial.to_be_bytes());
        }
        if flags & 0x80 != 0 {
            gre::fill_checksum(gre).map_err(|_| DropReason::BadAction)?;
        }
        Ok(())
    }

    /// Fills in the checksum of the outer UDP header; a train's is left to be completed.
    fn udp_checksum(&self, packet: &mut Packet, udp_len: u16) {
        let (l3, l4) = (self.l3, self.l4);
        let train = packet.offload.gso.is_some();
        let frame = packet.data_mut();
        let addresses = if self.ipv6 { ipv6::field::SRC } else { ipv4::field::SRC };
        let pseudo = Sum::of(&frame[l3 + addresses..l4]) + Sum::word(17) + Sum::word(udp_len);
        let field = l4 + udp::field::CHECKSUM;
        let value = if train { pseudo.value() } else { (pseudo + Sum::of(&frame[l4..])).finish_nonzero() };
        frame[field..field + 2].copy_from_slice(&value.to_be_bytes());
        if train {
            packet.offload.csum = Csum::Partial { start: l4 as u16, offset: udp::field::CHECKSUM as u16 };
        }
    }
}

/// Encapsulates a frame that is not to be segmented; the result is held once more. `in_place`: the frame itself is
/// used if nobody else holds it.
#[inline]
pub(crate) fn push_one(
    exec: &mut Executor,
    slot: Slot,
    plan: &Plan<'_>,
    in_place: bool,
) -> Result<Slot, DropReason> {
    let to = if in_place && !exec.pool.is_shared(slot) {
        exec.pool.hold(slot);
        slot
    } else {
        exec.copy(slot).ok_or(DropReason::TxQueueFull)?
    };
    let serial = exec.serial(1);
    let packet = exec.pool.get_mut(to);
    let done = complete(packet).and_then(|()| plan.prepend(packet, serial));
    if let Err(reason) = done {
        exec.pool.release(to);
        return Err(reason);
    }
    Ok(to)
}

/// Completes the inner checksum.
#[inline]
fn complete(packet: &mut Packet) -> Result<(), DropReason> {
    if packet.offload.is_done() {
        return Ok(());
    }
    let mut offload = packet.offload;
    vnet::complete_checksum(packet.data_mut(), &mut offload).map_err(|_| DropReason::BadOffloadHeader)?;
    packet.offload = offload;
    Ok(())
}

/// Encapsulates the segments of a GSO frame from `*next` on; `*next` is `None` when all are done. The results are held
/// once.
pub(crate) fn push_segments(
    exec: &mut Executor,
    slot: Slot,
    plan: &Plan<'_>,
    next: &mut Option<usize>,
) -> Result<SmallVec<[Slot; BATCH]>, DropReason> {
    let Some(first) = next.take() else { return Ok(SmallVec::new()) };
    // Buffers may run out; then what is queued is sent.
    if exec.pool.spare() < BATCH {
        exec.flush();
    }
    let whole = exec.pool.detach(slot);
    let result = match Segmenter::new(whole.data(), &whole.offload) {
        Ok(cut) if plan.payload == 0 => cut_gre(exec, &whole, &cut, plan, first, next),
        Ok(cut) => train(exec, &whole, &cut, plan, first, next).map(|slot| SmallVec::from_slice(&[slot])),
        Err(_) => Err(DropReason::BadOffloadHeader),
    };
    exec.pool.attach(slot, whole);
    result
}

fn cut_gre(
    exec: &mut Executor,
    whole: &Packet,
    cut: &Segmenter<'_>,
    plan: &Plan<'_>,
    first: usize,
    next: &mut Option<usize>,
) -> Result<SmallVec<[Slot; BATCH]>, DropReason> {
    let mut slots = SmallVec::new();
    let serial = exec.serial(BATCH as u32);
    let mut index = first;
    while index < cut.count() && slots.len() < BATCH {
        // `push_segments` saw to it that there are as many.
        let Some(slot) = exec.pool.take() else { break };
        slots.push(slot);
        let packet = exec.pool.get_mut(slot);
        packet.received(cut.segment_len(index), whole.in_port);
        packet.flow_hash = whole.flow_hash;
        let written = cut.write(index, packet.data_mut()).map_err(|_| DropReason::FrameTooLong);
        let done = written.and_then(|_| plan.prepend(packet, serial.wrapping_add(slots.len() as u32)));
        if let Err(reason) = done {
            slots.iter().for_each(|slot| exec.pool.release(*slot));
            return Err(reason);
        }
        index += 1;
    }
    *next = (index < cut.count() && !slots.is_empty()).then_some(index);
    Ok(slots)
}

fn train(
    exec: &mut Executor,
    whole: &Packet,
    cut: &Segmenter<'_>,
    plan: &Plan<'_>,
    first: usize,
    next: &mut Option<usize>,
) -> Result<Slot, DropReason> {
    let slot = exec.pool.take().ok_or(DropReason::TxQueueFull)?;
    let serial = exec.serial(MAX_DATAGRAMS as u32);
    let packet = exec.pool.get_mut(slot);
    packet.received(0, whole.in_port);
    packet.flow_hash = whole.flow_hash;
    match write_train(packet, cut, plan, first, serial) {
        Ok(segments) => {
            *next = Some(first + segments).filter(|index| *index < cut.count());
            Ok(slot)
        }
        Err(reason) => {
            exec.pool.release(slot);
            Err(reason)
        }
    }
}

/// Lays outer headers and segments into an empty buffer; returns how many segments.
fn write_train(
    packet: &mut Packet,
    cut: &Segmenter<'_>,
    plan: &Plan<'_>,
    first: usize,
    serial: u32,
) -> Result<usize, DropReason> {
    let too_long = |_| DropReason::FrameTooLong;
    let (head, tunnel) = plan.outer.bytes.split_at(plan.payload);
    let room = packet.room_mut();
    // The outer IP packet stays below 64 KiB.
    let room_len = room.len().min(plan.l3 + 65_535);
    let (to, rest) = room[..room_len].split_at_mut(plan.payload);
    to.copy_from_slice(head);
    let train = cut.write_train(first, MAX_DATAGRAMS, tunnel, rest).map_err(|_| DropReason::FrameTooLong)?;
    packet.set_len(plan.payload + train.len);
    if train.segments > 1 {
        let size = u16::try_from(train.stride).map_err(too_long)?;
        let hdr_len = plan.payload as u16;
        packet.offload.gso = Some(Gso { kind: GsoKind::UdpL4, size, ecn: false, hdr_len });
    }
    plan.finish(packet, serial)?;
    Ok(train.segments)
}
