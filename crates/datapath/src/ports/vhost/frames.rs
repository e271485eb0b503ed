//! How do frames come out of a guest's rings, and into them? (virtio 1.2 §5.1.6)
//!
//! One copy each way: between the guest's buffers and the lane's.

use std::collections::VecDeque;
use std::ptr::NonNull;

use smallvec::SmallVec;
use weft_flow::{DpPort, DropReason};
use weft_wire::vnet::{ByteOrder, Csum, GsoKind, VnetForm, VnetHdr};

use super::feature;
use super::memory::Memory;
use super::ring::{Broken, Ring};
use crate::packet::{FRAME_ROOM, Packet};

/// Bytes that may wait for a guest to give buffers: as much as a TAP's queue keeps of full frames.
const BACKLOG: usize = 4 << 20;
/// Frames that may wait.
const BACKLOG_FRAMES: usize = 1024;

/// Buffers that one frame may need.
const MOST_PIECES: usize = 4096;

/// What the guest and this side agreed to do, as far as frames are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    features: u64,
}

impl Agreed {
    pub(super) fn new(features: u64) -> Agreed {
        Agreed { features }
    }

    pub(super) fn has(self, features: u64) -> bool {
        self.features & features == features
    }

    /// Bytes of the header before each frame.
    #[inline]
    pub(super) fn header(self) -> usize {
        let long = self.features & (feature::VERSION_1 | feature::MRG_RXBUF) != 0;
        if long { VnetForm::Mrg.len() } else { VnetForm::Legacy.len() }
    }

    fn form(self) -> VnetForm {
        if self.header() == VnetForm::Mrg.len() { VnetForm::Mrg } else { VnetForm::Legacy }
    }

    /// Whether the guest takes unfinished frames.
    pub(super) fn takes_offloads(self) -> bool {
        self.has(feature::GUEST_CSUM | feature::GUEST_TSO4 | feature::GUEST_TSO6 | feature::GUEST_ECN)
    }

    /// Whether the guest may leave that to be done.
    fn may_leave(self, offload: &VnetHdr) -> bool {
        let csum = !matches!(offload.csum, Csum::Partial { .. }) || self.has(feature::CSUM);
        let gso = offload.gso.is_none_or(|gso| {
            let wanted = match gso.kind {
                GsoKind::TcpV4 => feature::HOST_TSO4,
                GsoKind::TcpV6 => feature::HOST_TSO6,
                GsoKind::UdpL4 => feature::HOST_USO,
                GsoKind::Udp => return false,
            };
            self.has(wanted) && (!gso.ecn || self.has(feature::HOST_ECN))
        });
        csum && gso
    }
}

/// A frame, its header before it, that waits until the guest has room.
type Waiting = Box<[u8]>;

/// A guest's ring of receive buffers, and what waits for it.
pub(super) struct ToGuest {
    pub(super) ring: Ring,
    agreed: Agreed,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// Buffers taken for one frame.
type Heads = SmallVec<[(u16, u32); 32]>;
type Pieces = SmallVec<[(u64, u32); 32]>;

impl ToGuest {
    pub(super) fn new(ring: Ring, agreed: Agreed) -> ToGuest {
        ToGuest { ring, agreed, waiting: VecDeque::new(), bytes: 0 }
    }

    /// Sends a frame, or has it wait. An error: it goes nowhere, and why.
    pub(super) fn send(&mut self, packet: &Packet) -> Result<Result<(), DropReason>, Broken> {
        let mut header = [0u8; 12];
        let len = self.agreed.header();
        let mut offload = VnetHdr { num_buffers: 0, ..packet.offload };
        if !self.agreed.has(feature::GUEST_CSUM) && offload.csum == Csum::Valid {
            offload.csum = Csum::None;
        }
        if offload.gso.is_some_and(|gso| gso.kind == GsoKind::Udp)
            || offload.emit(&mut header[..len], self.agreed.form(), ByteOrder::Little).is_err()
        {
            return Ok(Err(DropReason::BadOffloadHeader));
        }
        let header = &mut header[..len];
        if self.waiting.is_empty() && self.put(header, packet.data())? {
            return Ok(Ok(()));
        }
        if self.waiting.len() >= BACKLOG_FRAMES || self.bytes + len + packet.len() > BACKLOG {
            return Ok(Err(DropReason::TxQueueFull));
        }
        self.bytes += len + packet.len();
        self.waiting.push_back([header, packet.data()].concat().into());
        Ok(Ok(()))
    }

    /// Sends what waits, as far as there are buffers.
    pub(super) fn send_waiting(&mut self) -> Result<(), Broken> {
        while let Some(frame) = self.waiting.pop_front() {
            let mut header = [0u8; 12];
            let (first, rest) = frame.split_at(self.agreed.header());
            header[..first.len()].copy_from_slice(first);
            if !self.put(&mut header[..first.len()], rest)? {
                self.waiting.push_front(frame);
                break;
            }
            self.bytes -= frame.len();
        }
        Ok(())
    }

    /// What the guest is to be told: whether it is to be interrupted. When frames wait, the guest will tell of buffers
    /// it adds.
    pub(super) fn finish(&mut self) -> Result<bool, Broken> {
        let mut tell = self.ring.show();
        if self.waiting.is_empty() {
            self.ring.be_quiet();
        } else {
            // Buffers may have come until it was asked to tell of more, or while it was asked.
            loop {
                let added = self.ring.listen();
                self.send_waiting()?;
                tell |= self.ring.show();
                if self.waiting.is_empty() || self.ring.added() == added {
                    break;
                }
            }
        }
        Ok(tell)
    }

    /// Puts a frame into the guest's buffers. False: there is no room, and nothing was done.
    fn put(&mut self, header: &mut [u8], frame: &[u8]) -> Result<bool, Broken> {
        let whole = header.len() + frame.len();
        let first = self.ring.next();
        let (mut heads, mut pieces, mut room) = (Heads::new(), Pieces::new(), 0usize);
        while room < whole {
            let merges = self.agreed.has(feature::MRG_RXBUF);
            let head = match self.ring.take()? {
                Some(head) if heads.is_empty() || merges => head,
                _ => {
                    self.ring.put_back(first);
                    return Ok(false);
                }
            };
            let mut here = 0usize;
            self.ring.chain(head, |buffer| {
                if buffer.writable && here < whole {
                    pieces.push((buffer.at, buffer.len));
                    here += buffer.len as usize;
                }
            })?;
            // Buffers of a byte, or of none, keep a lane busy for nothing.
            if here == 0 || pieces.len() > MOST_PIECES {
                return Err(Broken);
            }
            heads.push((head, here.min(whole - room) as u32));
            room += here;
        }
        if header.len() == VnetForm::Mrg.len() {
            header[10..12].copy_from_slice(&(heads.len() as u16).to_le_bytes());
        }
        self.scatter(&pieces, header, frame)?;
        for (head, len) in heads {
            self.ring.give_back(head, len);
        }
        Ok(true)
    }

    /// Copies a header and a frame into buffers.
    fn scatter(&self, pieces: &[(u64, u32)], header: &[u8], frame: &[u8]) -> Result<(), Broken> {
        let mut parts = [header, frame];
        let mut at = 0;
        for (guest, len) in pieces {
            let (mut guest, mut left) = (*guest, *len as usize);
            while left > 0 && at < parts.len() {
                let n = left.min(parts[at].len());
                let (now, later) = parts[at].split_at(n);
                let mut now = now;
                let copied = self.ring.memory().each_piece(guest, n, |to, n| {
                    copy_in(&now[..n], to);
                    now = &now[n..];
                });
                if !copied {
                    return Err(Broken);
                }
                parts[at] = later;
                at += usize::from(later.is_empty());
                guest = guest.wrapping_add(n as u64);
                left -= n;
            }
        }
        Ok(())
    }
}

/// A guest's ring of frames to send.
pub(super) struct FromGuest {
    pub(super) ring: Ring,
    agreed: Agreed,
}

impl FromGuest {
    pub(super) fn new(ring: Ring, agreed: Agreed) -> FromGuest {
        FromGuest { ring, agreed }
    }

    /// Receives the next frame into a buffer. False: there is none.
    pub(super) fn receive(&mut self, packet: &mut Packet, port: DpPort) -> Result<bool, Broken> {
        let Some(head) = self.ring.take()? else { return Ok(false) };
        let prefix = self.agreed.header();
        let room = packet.receive_into(prefix);
        let whole = room.len();
        let (mut filled, mut wrong) = (0usize, false);
        let memory: &Memory = self.ring.memory();
        self.ring.chain(head, |buffer| {
            let n = buffer.len as usize;
            // What is for the device to write has no business here; what is too long is counted, not copied.
            if buffer.writable || wrong || filled >= whole {
                return;
            }
            let n = n.min(whole - filled);
            let mut to = &mut room[filled..filled + n];
            wrong = !memory.each_piece(buffer.at, n, |from, n| {
                let (now, later) = std::mem::take(&mut to).split_at_mut(n);
                copy_out(from, now);
                to = later;
            });
            filled += n;
        })?;
        if wrong {
            return Err(Broken);
        }
        self.ring.give_back(head, 0);
        packet.received(filled.saturating_sub(prefix).min(FRAME_ROOM), port);
        if filled < prefix || filled == whole {
            packet.fault = Some(DropReason::FrameTooLong);
            return Ok(true);
        }
        packet.take_offload(prefix);
        if !self.agreed.may_leave(&packet.offload) {
            packet.fault = Some(DropReason::BadOffloadHeader);
        }
        Ok(true)
    }
}

/// Copies into memory that the guest may change or read at the same time.
#[inline]
fn copy_in(from: &[u8], to: NonNull<u8>) {
    // SAFETY: `to` is the first of `from.len()` bytes of a mapping that lives; a Rust object is never there. What the
    // guest does meanwhile can only garble its own frame.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) };
}

/// Copies out of memory that the guest may change at the same time; only the copy is looked at.
#[inline]
fn copy_out(from: NonNull<u8>, to: &mut [u8]) {
    // SAFETY: as in `copy_in`, the other way.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
}
