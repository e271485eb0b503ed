//! How are frames encapsulated and decapsulated without the host's IP stack?
//!
//! The pipeline brings the outer headers whole; lengths, the source port and checksums are filled in here. A GSO
//! frame becomes one outer UDP datagram train: outer headers once, then for each segment a tunnel header and a frame,
//! marked to be cut by whoever sends it (USO), so that it crosses whole. GRE has no such thing and is cut at once.

use smallvec::SmallVec;
use weft_flow::{DpPort, DropReason, EncapHeader, L3Kind, Layout, TunnelKey, TunnelKind};
use weft_wire::checksum::Sum;
use weft_wire::segment::Segmenter;
use weft_wire::vnet::{self, Csum, Gso, GsoKind, VnetHdr};
use weft_wire::{gre, ipv4, ipv6, udp};

use super::{decap, header};
use crate::executor::Executor;
use crate::lane::Lane;
use crate::packet::{BATCH, Packet, Slot};

/// Datagrams in a train, as kernels take them.
const MAX_DATAGRAMS: usize = 64;
/// First of the outer source ports (RFC 7348 §5 recommends 49152–65535).
const FIRST_PORT: u16 = 49_152;

/// A frame to be decapsulated.
pub(crate) struct Popped {
    /// Where it is; held.
    pub(crate) slot: Slot,
    /// A tunnel port that stands for its listener.
    pub(crate) port: DpPort,
    /// Train: where the next datagram begins in the frame; 0 at first.
    pub(crate) at: usize,
}

/// Encapsulates a frame, or the part of a GSO frame from segment `next` on; returns outer frames, each held once.
/// `next` is `None` when all is done. `in_place`: nobody else needs the frame.
pub(crate) fn push(
    exec: &mut Executor,
    slot: Slot,
    outer: &EncapHeader,
    in_place: bool,
    next: &mut Option<usize>,
) -> SmallVec<[Slot; BATCH]> {
    let Some(first) = *next else { return SmallVec::new() };
    *next = None;
    let result = if exec.pool.get(slot).offload.gso.is_some() {
        push_segments(exec, slot, outer, first, next)
    } else {
        push_one(exec, slot, outer, in_place).map(|slot| SmallVec::from_slice(&[slot]))
    };
    match result {
        Ok(slots) => {
            exec.handle().counters.tunnel_push.add(slots.len() as u64);
            slots
        }
        Err(reason) => {
            exec.drop_slot(slot, reason);
            SmallVec::new()
        }
    }
}

fn push_one(
    exec: &mut Executor,
    slot: Slot,
    outer: &EncapHeader,
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
    let done = complete(packet).and_then(|()| prepend(packet, outer, serial));
    if let Err(reason) = done {
        exec.pool.release(to);
        return Err(reason);
    }
    Ok(to)
}

/// Completes the inner checksum.
fn complete(packet: &mut Packet) -> Result<(), DropReason> {
    if packet.offload.is_done() {
        return Ok(());
    }
    let mut offload = packet.offload;
    vnet::complete_checksum(packet.data_mut(), &mut offload).map_err(|_| DropReason::BadOffloadHeader)?;
    packet.offload = offload;
    Ok(())
}

/// Puts the outer headers before a finished inner frame.
#[inline]
fn prepend(packet: &mut Packet, outer: &EncapHeader, serial: u32) -> Result<(), DropReason> {
    if !packet.push_front(outer.bytes.len()) {
        return Err(DropReason::FrameTooLong);
    }
    packet.offload = VnetHdr::default();
    packet.data_mut()[..outer.bytes.len()].copy_from_slice(&outer.bytes);
    finish(packet, outer, serial)
}

/// Where the sequence number of a GRE header is (RFC 2890 §2): behind checksum and key, if they are there.
fn sequence_at(header: &[u8]) -> Option<usize> {
    let flags = header.first()?;
    let before = 4 * (1 + usize::from(flags >> 7) + usize::from(flags >> 5 & 1));
    (flags & 0x10 != 0 && header.len() >= before + 4).then_some(before)
}

/// Fills in lengths, source port and checksums of the outer headers at the start of the frame, and its layout.
#[inline]
fn finish(packet: &mut Packet, outer: &EncapHeader, serial: u32) -> Result<(), DropReason> {
    let (l3, hash) = (outer.ip_offset, packet.flow_hash);
    let len = packet.len();
    let train = packet.offload.gso.is_some();
    let frame = packet.data_mut();
    let bad = DropReason::BadAction;
    let is_ipv6 = frame.get(l3).ok_or(bad)? >> 4 == 6;
    let l4 = l3 + if is_ipv6 { ipv6::HEADER_LEN } else { ipv4::MIN_HEADER_LEN };
    let ip_len = u16::try_from(len - l3).map_err(|_| DropReason::FrameTooLong)?;
    let udp_len = u16::try_from(len.checked_sub(l4).ok_or(bad)?).map_err(|_| DropReason::FrameTooLong)?;
    if is_ipv6 {
        frame[l3 + ipv6::field::PAYLOAD_LEN..][..2].copy_from_slice(&udp_len.to_be_bytes());
    } else {
        let header = &mut frame[l3..l4];
        header[ipv4::field::TOTAL_LEN..][..2].copy_from_slice(&ip_len.to_be_bytes());
        header[ipv4::field::CHECKSUM..][..2].fill(0);
        // Packets that may be fragmented are told apart by their identification (RFC 6864 §4).
        if header[ipv4::field::FRAG] & 0x40 == 0 {
            header[ipv4::field::ID..][..2].copy_from_slice(&(serial as u16).to_be_bytes());
        }
        let sum = Sum::of(header).finish();
        header[ipv4::field::CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
    }
    let mut payload = 0;
    if outer.kind == TunnelKind::Gre {
        let with_checksum = frame.get(l4).ok_or(bad)? & 0x80 != 0;
        if let Some(at) = sequence_at(&frame[l4..]) {
            frame[l4 + at..l4 + at + 4].copy_from_slice(&serial.to_be_bytes());
        }
        if with_checksum {
            gre::fill_checksum(&mut frame[l4..]).map_err(|_| bad)?;
        }
    } else {
        payload = l4 + udp::HEADER_LEN;
        let udp = frame.get_mut(l4..).filter(|udp| udp.len() >= udp::HEADER_LEN).ok_or(bad)?;
        let port = FIRST_PORT | (hash as u16 ^ (hash >> 16) as u16) & !FIRST_PORT;
        udp[udp::field::SRC_PORT..][..2].copy_from_slice(&port.to_be_bytes());
        udp[udp::field::LEN..][..2].copy_from_slice(&udp_len.to_be_bytes());
        // Over IPv6 a checksum is due; over IPv4 zero says there is none. A train's must be there to be cut.
        if is_ipv6 || train || udp[udp::field::CHECKSUM..][..2] != [0, 0] {
            udp[udp::field::CHECKSUM..][..2].fill(0);
            udp_checksum(packet, l3, l4, is_ipv6, udp_len);
        }
    }
    let kind = if is_ipv6 { L3Kind::Ipv6 } else { L3Kind::Ipv4 };
    packet.ip_proto = if outer.kind == TunnelKind::Gre { 47 } else { 17 };
    packet.layout = Layout {
        l2_5: l3 as u16,
        l3: l3 as u16,
        l4: l4 as u16,
        payload: payload as u16,
        end: len as u32,
        kind,
        vlans: 0,
    };
    Ok(())
}

/// Fills in the checksum of the outer UDP header; a train's is left to be completed.
fn udp_checksum(packet: &mut Packet, l3: usize, l4: usize, is_ipv6: bool, udp_len: u16) {
    let train = packet.offload.gso.is_some();
    let frame = packet.data_mut();
    let addresses = if is_ipv6 { ipv6::field::SRC } else { ipv4::field::SRC };
    let pseudo = Sum::of(&frame[l3 + addresses..l4]) + Sum::word(17) + Sum::word(udp_len);
    let field = l4 + udp::field::CHECKSUM;
    let value = if train { pseudo.value() } else { (pseudo + Sum::of(&frame[l4..])).finish_nonzero() };
    frame[field..field + 2].copy_from_slice(&value.to_be_bytes());
    if train {
        packet.offload.csum = Csum::Partial { start: l4 as u16, offset: udp::field::CHECKSUM as u16 };
    }
}

/// Encapsulates segments of a GSO frame from `first` on.
fn push_segments(
    exec: &mut Executor,
    slot: Slot,
    outer: &EncapHeader,
    first: usize,
    next: &mut Option<usize>,
) -> Result<SmallVec<[Slot; BATCH]>, DropReason> {
    // Buffers may run out; then what is queued is sent.
    if exec.pool.spare() < BATCH {
        exec.flush();
    }
    let whole = exec.pool.detach(slot);
    let result = match Segmenter::new(whole.data(), &whole.offload) {
        Ok(cut) if outer.kind == TunnelKind::Gre => cut_gre(exec, &whole, &cut, outer, first, next),
        Ok(cut) => train(exec, &whole, &cut, outer, first, next).map(|slot| SmallVec::from_slice(&[slot])),
        Err(_) => Err(DropReason::BadOffloadHeader),
    };
    exec.pool.attach(slot, whole);
    result
}

fn cut_gre(
    exec: &mut Executor,
    whole: &Packet,
    cut: &Segmenter<'_>,
    outer: &EncapHeader,
    first: usize,
    next: &mut Option<usize>,
) -> Result<SmallVec<[Slot; BATCH]>, DropReason> {
    let mut slots = SmallVec::new();
    let mut index = first;
    let serial = exec.serial(cut.count() as u32);
    while index < cut.count() && slots.len() < BATCH {
        let slot = exec.pool.take().ok_or(DropReason::TxQueueFull)?;
        slots.push(slot);
        let packet = exec.pool.get_mut(slot);
        packet.received(cut.segment_len(index), whole.in_port);
        packet.flow_hash = whole.flow_hash;
        cut.write(index, packet.data_mut()).map_err(|_| DropReason::FrameTooLong)?;
        prepend(packet, outer, serial.wrapping_add(index as u32))?;
        index += 1;
    }
    *next = (index < cut.count()).then_some(index);
    Ok(slots)
}

fn train(
    exec: &mut Executor,
    whole: &Packet,
    cut: &Segmenter<'_>,
    outer: &EncapHeader,
    first: usize,
    next: &mut Option<usize>,
) -> Result<Slot, DropReason> {
    let slot = exec.pool.take().ok_or(DropReason::TxQueueFull)?;
    let serial = exec.serial(MAX_DATAGRAMS as u32);
    let packet = exec.pool.get_mut(slot);
    packet.received(0, whole.in_port);
    packet.flow_hash = whole.flow_hash;
    let result = (|| {
        let is_ipv6 = outer.bytes.get(outer.ip_offset).is_some_and(|b| b >> 4 == 6);
        let ip_len = if is_ipv6 { ipv6::HEADER_LEN } else { ipv4::MIN_HEADER_LEN };
        let payload = outer.ip_offset + ip_len + udp::HEADER_LEN;
        let (head, tunnel) = outer.bytes.split_at_checked(payload).ok_or(DropReason::BadAction)?;
        let room = packet.room_mut();
        // The outer IP packet stays below 64 KiB.
        let room_len = room.len().min(outer.ip_offset + 65_535);
        let (to, rest) = room[..room_len].split_at_mut(payload);
        to.copy_from_slice(head);
        let train =
            cut.write_train(first, MAX_DATAGRAMS, tunnel, rest).map_err(|_| DropReason::FrameTooLong)?;
        packet.set_len(payload + train.len);
        if train.segments > 1 {
            let size = u16::try_from(train.stride).map_err(|_| DropReason::FrameTooLong)?;
            let hdr_len = payload as u16;
            packet.offload.gso = Some(Gso { kind: GsoKind::UdpL4, size, ecn: false, hdr_len });
        }
        *next = Some(first + train.segments).filter(|index| *index < cut.count());
        finish(packet, outer, serial)
    })();
    match result {
        Ok(()) => Ok(slot),
        Err(reason) => {
            exec.pool.release(slot);
            Err(reason)
        }
    }
}

/// What the outer headers of a frame say.
struct Outer {
    key: TunnelKey,
    /// Where the tunnel header begins.
    at: usize,
    /// Where the last tunnelled byte ends.
    end: usize,
}

/// Reads and checks the outer IP and UDP headers.
fn outer_of(packet: &Packet, kind: TunnelKind) -> Result<Outer, DropReason> {
    let layout = &packet.layout;
    let (l3, l4, end) = (usize::from(layout.l3), usize::from(layout.l4), layout.end as usize);
    let frame = packet.data().get(..end).ok_or(DropReason::TunnelMalformed)?;
    let malformed = DropReason::TunnelMalformed;
    let ip = frame.get(l3..l4).filter(|_| l4 != 0).ok_or(malformed)?;
    let mut key = TunnelKey::default();
    let addresses = match layout.kind {
        L3Kind::Ipv4 if ip.len() >= ipv4::MIN_HEADER_LEN => {
            let word = |at: usize| u32::from_be_bytes([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
            (key.ipv4_src, key.ipv4_dst) = (word(ipv4::field::SRC), word(ipv4::field::DST));
            (key.tos, key.ttl) = (ip[ipv4::field::TOS], ip[ipv4::field::TTL]);
            if !Sum::of(ip).is_valid() {
                return Err(DropReason::TunnelBadChecksum);
            }
            &ip[ipv4::field::SRC..ipv4::MIN_HEADER_LEN]
        }
        L3Kind::Ipv6 if ip.len() >= ipv6::HEADER_LEN => {
            key.ipv6_src.copy_from_slice(&ip[ipv6::field::SRC..][..16]);
            key.ipv6_dst.copy_from_slice(&ip[ipv6::field::DST..][..16]);
            key.tos = ip[0] << 4 | ip[1] >> 4;
            key.ttl = ip[ipv6::field::HOP_LIMIT];
            &ip[ipv6::field::SRC..ipv6::HEADER_LEN]
        }
        _ => return Err(malformed),
    };
    if kind == TunnelKind::Gre {
        return Ok(Outer { key, at: l4, end });
    }
    let udp = &frame[l4..];
    let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    if udp.len() < udp::HEADER_LEN || usize::from(word(udp::field::LEN)) != udp.len() {
        return Err(malformed);
    }
    key.tp_src = word(udp::field::SRC_PORT);
    key.tp_dst = word(udp::field::DST_PORT);
    let unverified = packet.offload.csum == Csum::None && word(udp::field::CHECKSUM) != 0;
    if unverified {
        let sum = Sum::of(addresses) + Sum::word(17) + Sum::word(udp.len() as u16) + Sum::of(udp);
        if !sum.is_valid() {
            return Err(DropReason::TunnelBadChecksum);
        }
    }
    Ok(Outer { key, at: l4 + udp::HEADER_LEN, end })
}

/// What is left to be done on an inner frame that began `at` bytes into the outer one.
fn inner_offload(mut offload: VnetHdr, at: usize) -> VnetHdr {
    match offload.csum {
        // A kernel's tunnel leaves the inner checksum to the device, and the outer one is done or zero.
        Csum::Partial { start, .. } if usize::from(start) >= at => match offload.shift(-(at as i32)) {
            Ok(()) => offload,
            Err(_) => VnetHdr::default(),
        },
        _ => VnetHdr::default(),
    }
}

impl Lane {
    /// Makes a batch of what decapsulated frames hold. False: it is empty.
    pub(crate) fn begin_popped(&mut self, allowed: bool) -> bool {
        let mut popped = std::mem::take(&mut self.exec.popped);
        self.batch.begin(0);
        let mut done = 0;
        while done < popped.len() && self.batch.len + 1 < BATCH {
            let frame = &mut popped[done];
            let result = if allowed { self.pop(frame) } else { Err(DropReason::RecursionTooDeep) };
            match result {
                // A train that goes on in the next batch.
                Ok(false) => break,
                Ok(true) => {}
                Err(reason) => {
                    self.exec.drop_slot(frame.slot, reason);
                    self.exec.pool.release(frame.slot);
                }
            }
            done += 1;
        }
        popped.drain(..done);
        // Frames popped by actions of this batch come after those that are left.
        popped.append(&mut self.exec.popped);
        self.exec.popped = popped;
        self.batch.len > 0
    }

    /// Decapsulates a frame into the batch. False: the frame is a train that has more than the batch takes.
    fn pop(&mut self, frame: &mut Popped) -> Result<bool, DropReason> {
        let listener = self.demux.listener(frame.port)?;
        let packet = self.exec.pool.get(frame.slot);
        let outer = outer_of(packet, listener.kind)?;
        match packet.offload.gso {
            Some(gso) if gso.kind == GsoKind::UdpL4 => {
                return self.pop_train(frame, &outer, gso.size, listener.kind, listener.dst_port);
            }
            // A kernel's tunnel describes the inner packet's segmentation.
            _ => self.pop_one(frame.slot, &outer, listener.kind, listener.dst_port)?,
        }
        Ok(true)
    }

    fn pop_one(
        &mut self,
        slot: Slot,
        outer: &Outer,
        kind: TunnelKind,
        dst_port: u16,
    ) -> Result<(), DropReason> {
        let mut key = outer.key;
        let payload = &self.exec.pool.get(slot).data()[outer.at..outer.end];
        let len = header::parse(kind, payload, &mut key)?;
        let port = self.demux.port(kind, dst_port, &key)?;
        let own = if self.exec.pool.is_shared(slot) {
            let copy = self.exec.pool.copy(slot).ok_or(DropReason::TxQueueFull)?;
            self.exec.pool.release(slot);
            copy
        } else {
            slot
        };
        let packet = self.exec.pool.get_mut(own);
        packet.truncate(outer.end);
        packet.pull_front(outer.at + len);
        packet.offload = inner_offload(packet.offload, outer.at + len);
        packet.in_port = port;
        let bytes = packet.len() as u64;
        self.exec.handle().counters.tunnel_pop.add(1);
        if let Some(port) = self.exec.port(port) {
            port.counters[self.number].rx_packets.add(1);
            port.counters[self.number].rx_bytes.add(bytes);
        }
        let at = self.batch.len;
        self.batch.slots[at] = own;
        self.batch.tunnelled_by(at, key);
        self.batch.len += 1;
        Ok(())
    }

    /// Decapsulates a train's datagrams into buffers of their own, TCP segments merged.
    fn pop_train(
        &mut self,
        frame: &mut Popped,
        outer: &Outer,
        stride: u16,
        kind: TunnelKind,
        dst_port: u16,
    ) -> Result<bool, DropReason> {
        // Its frames fill a batch of their own.
        if self.batch.len > 0 {
            return Ok(false);
        }
        if self.exec.pool.spare() < BATCH {
            self.exec.flush();
        }
        for slot in &mut self.batch.slots {
            *slot = self.exec.pool.take().ok_or(DropReason::TxQueueFull)?;
        }
        let whole = self.exec.pool.detach(frame.slot);
        let in_port = whole.in_port;
        let mut filler = decap::Filler::new(&mut self.exec, &mut self.batch);
        let mut at = frame.at.max(outer.at);
        while at < outer.end && filler.has_room() {
            let stop = outer.end.min(at + usize::from(stride));
            let mut key = outer.key;
            let datagram = &whole.data()[at..stop];
            let parsed = header::parse(kind, datagram, &mut key)
                .and_then(|len| Ok((len, self.demux.port(kind, dst_port, &key)?)));
            match parsed {
                Ok((len, port)) => filler.add(&datagram[len..], key, port),
                Err(reason) => filler.refuse(in_port, reason),
            }
            at = stop;
        }
        let len = filler.finish();
        for slot in &self.batch.slots[len..] {
            self.exec.pool.release(*slot);
        }
        self.batch.len = len;
        self.exec.pool.attach(frame.slot, whole);
        frame.at = at;
        let all = at >= outer.end;
        if all {
            self.exec.pool.release(frame.slot);
        }
        Ok(all)
    }
}
