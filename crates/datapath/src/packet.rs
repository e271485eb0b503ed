//! Where do frames stand while a lane works on them?
//!
//! A lane owns a fixed set of buffers. The first [`BATCH`] are received into; the others hold copies. A frame
//! that several queues refer to is counted, not copied; whoever wants to change it then takes a copy first.

use weft_flow::{DpPort, DropReason, Layout, MAX_VLANS, PacketKey, extract_bare, extract_into};
use weft_wire::vnet::{self, ByteOrder, Csum, VnetForm, VnetHdr};
use weft_wire::{IpProto, sctp};

use crate::arch::Buffer;
use crate::meta::Meta;

/// Frames that are received and processed together.
pub(crate) const BATCH: usize = 32;
/// Bytes before a received frame: room for outer headers and a virtio_net_hdr.
pub(crate) const HEADROOM: usize = 384;
/// Bytes from a frame's start to the end of its buffer: the largest GSO frame with two VLAN tags, and some.
pub(crate) const FRAME_ROOM: usize = 65_536 + 128;
/// Buffers for copies, beyond the batch.
const SPARE: usize = 64;
/// Buffers are added by so many when all are taken,
const MORE: usize = 32;
/// up to so many in all.
const MOST: usize = 1024;
/// Frames of successive buffers begin this many bytes apart, modulo a page: were all at the same offset, the
/// headers of a batch would fight for the same few lines of the first-level cache.
const COLOUR: usize = 5 * 64;

/// Number of a buffer in its lane's [`Pool`].
pub(crate) type Slot = u16;

/// A frame in its buffer, and what is known of it.
pub(crate) struct Packet {
    buf: Buffer,
    /// Where received frames begin.
    home: u32,
    start: u32,
    len: u32,
    /// Segmentation and checksum work that the frame still waits for.
    pub(crate) offload: VnetHdr,
    /// Where the headers are; as extracted, and kept right by actions.
    pub(crate) layout: Layout,
    /// Datapath port the frame came in by.
    pub(crate) in_port: DpPort,
    /// Why the port that received the frame found it unfit.
    pub(crate) fault: Option<DropReason>,
    /// IP protocol behind extension headers, or 0.
    pub(crate) ip_proto: u8,
    /// Hash of the flow's addresses and ports.
    pub(crate) flow_hash: u32,
    /// What it carries along from pass to pass.
    pub(crate) meta: Meta,
    /// Number of the reading of its headers that still tells what they are; 0: they were changed since.
    pub(crate) read: u64,
    /// Queues and action lists that hold the frame.
    refs: u16,
}

impl Packet {
    fn new((number, buf): (usize, Buffer)) -> Self {
        let home = (HEADROOM + number * COLOUR % 4096) as u32;
        Packet { buf, home, start: home, ..Packet::absent() }
    }

    /// What stands in the place of a packet that was taken out of it.
    fn absent() -> Self {
        Packet {
            buf: Buffer::none(),
            home: 0,
            start: 0,
            len: 0,
            offload: VnetHdr::default(),
            layout: Layout::default(),
            in_port: DpPort(u32::MAX),
            fault: None,
            ip_proto: 0,
            flow_hash: 0,
            meta: Meta::default(),
            read: 0,
            refs: 0,
        }
    }

    /// The frame.
    #[inline(always)]
    pub(crate) fn data(&self) -> &[u8] {
        &self.buf[self.start as usize..(self.start + self.len) as usize]
    }

    /// The frame, to change.
    #[inline(always)]
    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        self.read = 0;
        &mut self.buf[self.start as usize..(self.start + self.len) as usize]
    }

    /// The frame, and where to note its layout.
    #[inline(always)]
    pub(crate) fn parse(&mut self) -> (&[u8], &mut Layout) {
        (&self.buf[self.start as usize..(self.start + self.len) as usize], &mut self.layout)
    }

    /// Reads its headers, and notes where they are.
    pub(crate) fn read_headers(&mut self) -> Result<PacketKey, DropReason> {
        let mut key = PacketKey::default();
        let (in_port, bare) = (self.in_port.0, self.meta.bare);
        let (frame, layout) = self.parse();
        match bare {
            0 => extract_into(frame, in_port, MAX_VLANS, &mut key, layout)?,
            bare => extract_bare(frame, bare, in_port, &mut key, layout),
        }
        self.ip_proto = key.ip_proto;
        Ok(key)
    }

    /// Its length.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Room to receive into: `prefix` bytes of offload header, then the frame.
    #[inline]
    pub(crate) fn receive_into(&mut self, prefix: usize) -> &mut [u8] {
        self.read = 0;
        self.start = self.home;
        &mut self.buf[self.home as usize - prefix..self.home as usize + FRAME_ROOM]
    }

    /// Says that a frame of `len` bytes was received.
    #[inline]
    pub(crate) fn received(&mut self, len: usize, in_port: DpPort) {
        self.read = 0;
        self.start = self.home;
        self.len = len.min(FRAME_ROOM) as u32;
        self.in_port = in_port;
        self.offload = VnetHdr::default();
        self.fault = None;
        self.meta.reset();
        // Held by the batch, or by whoever took the buffer.
        self.refs = 1;
    }

    /// Reads the virtio_net_hdr that was received just before the frame.
    #[inline]
    pub(crate) fn take_offload(&mut self, prefix: usize) {
        let start = self.start as usize;
        let header = &self.buf[start - prefix..start];
        // Nearly always there is nothing to do.
        if header.first_chunk() == Some(&[0u8; 2]) {
            return;
        }
        let hdr = VnetHdr::parse(header, form(prefix), ByteOrder::Native);
        match hdr.and_then(|hdr| hdr.validate(self.data()).map(|()| hdr)) {
            Ok(hdr) => self.offload = hdr,
            Err(_) => self.fault = Some(DropReason::BadOffloadHeader),
        }
    }

    /// Writes the virtio_net_hdr just before the frame.
    #[inline]
    pub(crate) fn write_offload(&mut self, prefix: usize) {
        let hdr = VnetHdr { num_buffers: 0, ..self.offload };
        let header = self.before(prefix);
        if hdr == VnetHdr::default() {
            header.fill(0);
        } else {
            // There is always that much room: `push_front` leaves it.
            let _ = hdr.emit(header, form(prefix), ByteOrder::Native);
        }
    }

    /// Receives a copy of `frame`. False if it is too long.
    #[inline]
    pub(crate) fn fill(&mut self, frame: &[u8], in_port: DpPort) -> bool {
        if frame.len() > FRAME_ROOM {
            return false;
        }
        self.received(frame.len(), in_port);
        self.data_mut().copy_from_slice(frame);
        true
    }

    /// The `n` bytes before the frame.
    pub(crate) fn before(&mut self, n: usize) -> &mut [u8] {
        self.read = 0;
        let start = self.start as usize;
        &mut self.buf[start.saturating_sub(n)..start]
    }

    /// The frame with `prefix` bytes before it.
    #[inline]
    pub(crate) fn with_prefix(&self, prefix: usize) -> &[u8] {
        &self.buf[self.start as usize - prefix..(self.start + self.len) as usize]
    }

    /// Puts `n` bytes of room before the frame. False if there is none (and nothing changed). Leaves a prefix's
    /// room before.
    pub(crate) fn push_front(&mut self, n: usize) -> bool {
        self.read = 0;
        let enough = self.start as usize >= n + 16;
        if enough {
            self.start -= n as u32;
            self.len += n as u32;
        }
        enough
    }

    /// Takes `n` bytes off the front.
    pub(crate) fn pull_front(&mut self, n: usize) {
        self.read = 0;
        let n = n.min(self.len as usize) as u32;
        self.start += n;
        self.len -= n;
    }

    /// Cuts the frame to at most `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.read = 0;
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Sets the length, growing into the room behind; for builders that write the frame.
    pub(crate) fn set_len(&mut self, len: usize) {
        self.read = 0;
        let room = self.buf.len() - self.start as usize;
        self.len = len.min(room) as u32;
    }

    /// Everything from the frame's start to the end of its buffer.
    pub(crate) fn room_mut(&mut self) -> &mut [u8] {
        self.read = 0;
        &mut self.buf[self.start as usize..]
    }

    /// Takes over what is known of the frame that this is a segment of, whose headers are where its own are.
    pub(crate) fn inherit(&mut self, whole: &Packet) {
        self.layout = weft_flow::Layout { end: self.len, ..whole.layout };
        self.ip_proto = whole.ip_proto;
        self.flow_hash = whole.flow_hash;
        self.meta.copy_from(&whole.meta);
    }

    /// Completes a checksum that was left to a device.
    pub(crate) fn complete_checksum(&mut self) -> Result<(), DropReason> {
        let bad = DropReason::BadOffloadHeader;
        let is_partial = matches!(self.offload.csum, Csum::Partial { .. });
        if is_partial && self.ip_proto == IpProto::SCTP.0 && self.layout.l4 != 0 {
            // A CRC, though the offload header calls it what it calls the sums of others (RFC 9260 §6.8).
            let (l4, end) = (usize::from(self.layout.l4), self.layout.end as usize);
            let chunk = self.data_mut().get_mut(l4..end).ok_or(bad)?;
            sctp::fill_checksum(chunk).map_err(|_| bad)?;
            self.offload.csum = Csum::None;
            return Ok(());
        }
        let mut offload = self.offload;
        vnet::complete_checksum(self.data_mut(), &mut offload).map_err(|_| bad)?;
        self.offload = offload;
        Ok(())
    }

    /// A fragment becomes the whole that it completed. False: it is too long.
    pub(crate) fn become_whole(&mut self, frame: &[u8], mru: u16) -> bool {
        self.read = 0;
        if frame.len() > FRAME_ROOM {
            return false;
        }
        let (start, len) = (self.home as usize, frame.len());
        (self.start, self.len) = (self.home, len as u32);
        self.buf[start..start + len].copy_from_slice(frame);
        self.offload = VnetHdr::default();
        self.meta.mru = mru;
        true
    }

    /// Bytes of all headers, repeated in each segment of a GSO frame; 0: not known.
    pub(crate) fn headers_len(&self) -> usize {
        usize::from(self.layout.payload)
    }

    /// How many packets a GSO frame stands for, how many bytes they have in all, and how long the longest is.
    pub(crate) fn segments(&self) -> (u64, u64, usize) {
        let (len, headers) = (self.len(), self.headers_len());
        match self.offload.gso {
            Some(gso) if headers != 0 && len > headers => {
                let segments = (len - headers).div_ceil(usize::from(gso.size).max(1));
                let bytes = len + (segments - 1) * headers;
                (segments as u64, bytes as u64, len.min(headers + usize::from(gso.size)))
            }
            _ => (1, len as u64, len),
        }
    }

    fn copy_from(&mut self, other: &Packet) {
        self.read = 0;
        self.start = self.home;
        self.len = other.len;
        self.data_mut().copy_from_slice(other.data());
        self.offload = other.offload;
        self.layout = other.layout;
        self.in_port = other.in_port;
        self.fault = None;
        self.ip_proto = other.ip_proto;
        self.flow_hash = other.flow_hash;
        self.meta.copy_from(&other.meta);
    }
}

/// The form of a virtio_net_hdr of that many bytes.
fn form(prefix: usize) -> VnetForm {
    if prefix == VnetForm::Legacy.len() { VnetForm::Legacy } else { VnetForm::Mrg }
}

/// The buffers of a lane.
pub(crate) struct Pool {
    packets: Vec<Packet>,
    free: Vec<Slot>,
}

impl Pool {
    pub(crate) fn new() -> std::io::Result<Self> {
        let buffers = Buffer::allocate(BATCH + SPARE, HEADROOM + 4096 + FRAME_ROOM)?;
        let packets: Vec<_> = buffers.into_iter().enumerate().map(Packet::new).collect();
        Ok(Pool { free: (BATCH as Slot..packets.len() as Slot).rev().collect(), packets })
    }

    /// The buffers that are received into.
    pub(crate) fn batch_mut(&mut self) -> &mut [Packet] {
        &mut self.packets[..BATCH]
    }

    #[inline(always)]
    pub(crate) fn get(&self, slot: Slot) -> &Packet {
        &self.packets[usize::from(slot)]
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut Packet {
        &mut self.packets[usize::from(slot)]
    }

    /// A spare buffer, held once. `None`: all are taken.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        if self.free.is_empty() {
            self.grow();
        }
        let slot = self.free.pop()?;
        self.packets[usize::from(slot)].refs = 1;
        Some(slot)
    }

    /// Adds buffers, if the host and the limit allow it. They are kept: who needed them once needs them again.
    #[cold]
    fn grow(&mut self) {
        let first = self.packets.len();
        if first + MORE > MOST {
            return;
        }
        let Ok(buffers) = Buffer::allocate(MORE, HEADROOM + 4096 + FRAME_ROOM) else { return };
        self.packets.extend(buffers.into_iter().enumerate().map(|(i, buf)| Packet::new((first + i, buf))));
        self.free.extend((first..self.packets.len()).rev().map(|slot| slot as Slot));
    }

    /// Number of spare buffers.
    pub(crate) fn spare(&self) -> usize {
        self.free.len()
    }

    /// One more holder.
    #[inline(always)]
    pub(crate) fn hold(&mut self, slot: Slot) {
        self.packets[usize::from(slot)].refs += 1;
    }

    /// One holder less; a spare buffer without holders is free again.
    #[inline(always)]
    pub(crate) fn release(&mut self, slot: Slot) {
        let packet = &mut self.packets[usize::from(slot)];
        packet.refs = packet.refs.saturating_sub(1);
        if packet.refs == 0 && usize::from(slot) >= BATCH {
            self.free.push(slot);
        }
    }

    /// Whether someone besides the caller holds the frame.
    pub(crate) fn is_shared(&self, slot: Slot) -> bool {
        self.packets[usize::from(slot)].refs > 1
    }

    /// Takes a frame out of its place, so that it can be read while other buffers change; see [`Pool::attach`].
    pub(crate) fn detach(&mut self, slot: Slot) -> Packet {
        std::mem::replace(&mut self.packets[usize::from(slot)], Packet::absent())
    }

    /// Puts a frame back into its place.
    pub(crate) fn attach(&mut self, slot: Slot, packet: Packet) {
        self.packets[usize::from(slot)] = packet;
    }

    /// A copy, held once. `None`: no buffer is spare.
    pub(crate) fn copy(&mut self, slot: Slot) -> Option<Slot> {
        let to = self.take()?;
        let (from, to_index) = (usize::from(slot), usize::from(to));
        // Split so that both can be borrowed.
        let (low, high) = self.packets.split_at_mut(from.max(to_index));
        if from < to_index {
            high[0].copy_from(&low[from])
        } else {
            low[to_index].copy_from(&high[0])
        }
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_buffers_come_back_when_nobody_holds_them() {
        let mut pool = Pool::new().unwrap();
        let all = pool.spare();
        assert!(pool.get_mut(3).fill(b"frame", DpPort(7)));
        pool.hold(3);
        let copy = pool.copy(3).unwrap();
        pool.hold(copy);
        assert!(pool.is_shared(copy));
        pool.get_mut(copy).data_mut()[0] = b'F';
        assert_eq!((pool.get(3).data(), pool.get(copy).data()), (&b"frame"[..], &b"Frame"[..]));
        pool.release(copy);
        assert_eq!(pool.spare(), all - 1);
        pool.release(copy);
        pool.release(3);
        assert_eq!(pool.spare(), all, "a slot of the batch is not among the spare ones");
        assert!(!pool.get_mut(3).fill(&vec![0; FRAME_ROOM + 1], DpPort(7)));
    }

    #[test]
    fn room_in_front_is_limited() {
        let mut pool = Pool::new().unwrap();
        let packet = pool.get_mut(0);
        packet.fill(&[1, 2, 3], DpPort(0));
        assert!(packet.push_front(50));
        assert_eq!(packet.len(), 53);
        packet.pull_front(51);
        assert_eq!(packet.data(), [2, 3]);
        assert!(!packet.push_front(HEADROOM + 60));
        packet.pull_front(9);
        assert!(packet.data().is_empty());
    }
}
