//! How is a frame taken out of outer headers that are in the frame?
//!
//! What is decapsulated makes up a batch of its own, which is looked up as received by the tunnel port. Of a train,
//! TCP segments are merged again.

use smallvec::SmallVec;
use weft_flow::{DpPort, DropReason, L3Kind, TunnelKey, TunnelKind};
use weft_pipeline::TunnelListener;
use weft_wire::checksum::Sum;
use weft_wire::vnet::{Csum, GsoKind, VnetHdr};
use weft_wire::{IpProto, ipv4, ipv6, udp};

use crate::lane::Lane;
use crate::packet::{BATCH, Packet, Slot};
use crate::tunnel::{decap, header};

/// Deepest nesting of decapsulation.
const MAX_DEPTH: u8 = 4;

/// A frame to be decapsulated.
pub(crate) struct Popped {
    /// Where it is; held.
    pub(crate) slot: Slot,
    /// A tunnel port that stands for its listener.
    pub(crate) port: DpPort,
    /// How many outer headers it has lost when this is done.
    pub(crate) depth: u8,
    /// Train: where the next datagram begins in the frame; 0 at first.
    pub(crate) at: usize,
}

/// Where the tunnel header and the inner frame of an outer packet are.
#[derive(Clone, Copy, Default)]
struct Outer {
    /// Where the tunnel header begins.
    at: usize,
    /// Where the last tunnelled byte ends.
    end: usize,
}

/// Reads and checks the outer IP and UDP headers; `key` is zero at first.
#[inline]
fn read_outer(packet: &Packet, kind: TunnelKind, key: &mut TunnelKey) -> Result<Outer, DropReason> {
    let layout = &packet.layout;
    let malformed = DropReason::TunnelMalformed;
    let (l3, l4, end) = (usize::from(layout.l3), usize::from(layout.l4), layout.end as usize);
    let frame = packet.data().get(..end).ok_or(malformed)?;
    let ip = frame.get(l3..l4).filter(|_| l4 != 0).ok_or(malformed)?;
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
    let proto = if kind == TunnelKind::Gre { IpProto::GRE } else { IpProto::UDP };
    if packet.ip_proto != proto.0 {
        return Err(malformed);
    }
    if kind == TunnelKind::Gre {
        return Ok(Outer { at: l4, end });
    }
    let udp = &frame[l4..];
    let Some(header) = udp.first_chunk::<{ udp::HEADER_LEN }>() else { return Err(malformed) };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if usize::from(word(udp::field::LEN)) != udp.len() {
        return Err(malformed);
    }
    key.tp_src = word(udp::field::SRC_PORT);
    key.tp_dst = word(udp::field::DST_PORT);
    if word(udp::field::CHECKSUM) != 0 && packet.offload.csum == Csum::None {
        let sum = Sum::of(addresses) + Sum::word(17) + Sum::word(udp.len() as u16) + Sum::of(udp);
        if !sum.is_valid() {
            return Err(DropReason::TunnelBadChecksum);
        }
    }
    Ok(Outer { at: l4 + udp::HEADER_LEN, end })
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

/// What a popped frame is.
enum Read {
    /// One frame; [`Outer::at`] is where it begins.
    Whole(Half),
    /// Datagrams of so many bytes, one behind the other.
    Train(Half, u16),
}

/// A frame between the two passes of [`Lane::begin_popped`].
#[derive(Clone, Copy)]
struct Half {
    slot: Slot,
    listener: TunnelListener,
    outer: Outer,
    /// Where the tunnel header begins, once `outer.at` is where the inner frame does.
    header: usize,
    /// The EtherType that what is inside begins with; 0: it is a frame.
    bare: u16,
}

impl Lane {
    /// Makes a batch of what decapsulated frames hold. False: it is empty.
    ///
    /// In two passes, reading headers and deciding, because a key that was just written in small fields is slow to
    /// read back in words.
    pub(crate) fn begin_popped(&mut self) -> bool {
        let mut popped = std::mem::take(&mut self.exec.popped);
        self.batch.begin(0);
        // The frames of a batch are equally deep; what their actions decapsulate is one deeper.
        self.exec.depth = popped.first().map_or(0, |frame| frame.depth);
        let mut halves: SmallVec<[Half; BATCH]> = SmallVec::new();
        let mut done = 0;
        while done < popped.len() && halves.len() + 1 < BATCH && self.batch.len == 0 {
            let frame = &mut popped[done];
            if frame.depth != self.exec.depth {
                break;
            }
            let result = match frame.depth {
                ..=MAX_DEPTH => self.read(frame, halves.len()),
                _ => Err(DropReason::RecursionTooDeep),
            };
            match result {
                Ok(Read::Whole(half)) => halves.push(half),
                Ok(Read::Train(_, _)) if !halves.is_empty() => break,
                Ok(Read::Train(half, stride)) => match self.pop_train(frame, &half, stride) {
                    Ok(true) => {}
                    // It goes on in the next batch.
                    Ok(false) => break,
                    Err(reason) => self.refuse(frame.slot, reason),
                },
                Err(reason) => self.refuse(frame.slot, reason),
            }
            done += 1;
        }
        self.pop_all(&halves);
        popped.drain(..done);
        // Frames popped by actions of this batch come after those that are left.
        popped.append(&mut self.exec.popped);
        self.exec.popped = popped;
        self.batch.len > 0
    }

    fn refuse(&mut self, slot: Slot, reason: DropReason) {
        self.exec.drop_slot(slot, reason);
        self.exec.pool.release(slot);
    }

    /// First pass: the outer headers, into the key of place `i`.
    #[inline]
    fn read(&mut self, frame: &Popped, i: usize) -> Result<Read, DropReason> {
        let listener = self.demux.listener(frame.port)?;
        let packet = self.exec.pool.get(frame.slot);
        self.batch.tunnelled |= 1 << i;
        let key = &mut self.batch.keys[i].tunnel;
        *key = TunnelKey::default();
        let outer = read_outer(packet, listener.kind, key)?;
        let mut half = Half { slot: frame.slot, listener, outer, header: 0, bare: 0 };
        match packet.offload.gso {
            Some(gso) if gso.kind == GsoKind::UdpL4 => Ok(Read::Train(half, gso.size)),
            // A kernel's tunnel describes the inner packet's segmentation.
            _ => {
                let payload = &packet.data()[half.outer.at..half.outer.end];
                half.header = half.outer.at;
                let (len, bare) = header::parse(listener.kind, payload, key)?;
                (half.outer.at, half.bare) = (half.outer.at + len, bare);
                Ok(Read::Whole(half))
            }
        }
    }

    /// Second pass: which ports take the frames, and the frames themselves.
    fn pop_all(&mut self, halves: &[Half]) {
        // Counted for a run of frames of one port.
        let mut run = (DpPort(u32::MAX), 0, 0);
        for (i, half) in halves.iter().enumerate() {
            let key = self.batch.keys[i].tunnel;
            let header = &self.exec.pool.get(half.slot).data()[half.header..half.outer.at];
            let options = header::options(half.listener.kind, header);
            let TunnelListener { kind, dst_port, .. } = half.listener;
            let port = self.demux.port(kind, dst_port, &key, half.bare != 0);
            let (port, options) = match port.and_then(|port| Ok((port, self.demux.options(port, options)?))) {
                Ok(found) => found,
                Err(reason) => {
                    self.refuse(half.slot, reason);
                    continue;
                }
            };
            let Some(slot) = self.own(half.slot) else { continue };
            let packet = self.exec.pool.get_mut(slot);
            packet.truncate(half.outer.end);
            packet.pull_front(half.outer.at);
            packet.offload = inner_offload(packet.offload, half.outer.at);
            packet.in_port = port;
            packet.meta.reset();
            packet.meta.bare = half.bare;
            let bytes = packet.len() as u64;
            if run.0 != port {
                self.count_popped(run);
                run = (port, 0, 0);
            }
            run = (port, run.1 + 1, run.2 + bytes);
            let at = self.batch.len;
            self.batch.slots[at] = slot;
            if at != i {
                self.batch.tunnelled_by(at, key);
            }
            if let Some(options) = &options {
                self.batch.optioned_by(at, options);
            }
            self.batch.len += 1;
        }
        self.count_popped(run);
        // Places beyond the batch hold keys of frames that were refused.
        for key in &mut self.batch.keys[self.batch.len..=halves.len().max(self.batch.len)] {
            key.tunnel = TunnelKey::default();
        }
        self.batch.tunnelled &= !(u32::MAX << self.batch.len);
    }

    /// The frame for the batch alone: itself, or a copy if others hold it. `None`: dropped.
    fn own(&mut self, slot: Slot) -> Option<Slot> {
        if !self.exec.pool.is_shared(slot) {
            return Some(slot);
        }
        let copy = self.exec.copy(slot);
        self.exec.pool.release(slot);
        copy
    }

    fn count_popped(&mut self, (port, frames, bytes): (DpPort, u64, u64)) {
        self.exec.handle().counters.tunnel_pop.add(frames);
        if let Some(port) = self.exec.port(port) {
            port.counters[self.number].rx_packets.add(frames);
            port.counters[self.number].rx_bytes.add(bytes);
        }
    }

    /// Decapsulates a train's datagrams into buffers of their own, TCP segments merged.
    fn pop_train(&mut self, frame: &mut Popped, half: &Half, stride: u16) -> Result<bool, DropReason> {
        let (outer, TunnelListener { kind, dst_port, .. }) = (half.outer, half.listener);
        let outer_key = std::mem::take(&mut self.batch.keys[0].tunnel);
        if self.exec.pool.spare() < BATCH {
            self.exec.flush();
        }
        if self.exec.pool.spare() < BATCH {
            return Err(DropReason::TxQueueFull);
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
            let mut key = outer_key;
            let datagram = &whole.data()[at..stop];
            match header::read(kind, dst_port, datagram, &mut key, &mut self.demux) {
                Ok((len, of)) => filler.add(&datagram[len..], key, of),
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
