//! How does an existing network device become a port?
//!
//! By an AF_PACKET socket with virtio_net_hdr, so that GSO frames stay whole both ways. A filter at the device's
//! ingress keeps the host's own stack from receiving the same frames.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use smallvec::SmallVec;
use weft_flow::{DpPort, DropReason};
use weft_host::ingress::IngressGuard;
use weft_host::netlink::{Netlink, QUEUES, class_of};
use weft_host::packet::{FrameMark, PacketOptions, PacketRx, PacketSocket, PacketTx, VlanTag};
use weft_wire::{ethernet, vlan};

use super::{Received, Takes, frames};
use crate::contract::Result;
use crate::packet::{BATCH, Packet, Pool, Slot};

/// A network device behind a socket.
pub(crate) struct Device {
    pub(crate) socket: PacketSocket,
    pub(crate) ifindex: u32,
    /// MTU when it was opened.
    pub(crate) mtu: u32,
    /// Frames the socket had no room for.
    missed: AtomicU64,
    /// The device queues by class what leaves by it.
    pub(crate) queues: AtomicBool,
    _guard: IngressGuard,
}

impl Device {
    /// Opens the device of that name in this thread's network namespace.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let link = Netlink::open()?.link(name)?;
        let guard = IngressGuard::attach(link.index)?;
        let socket = PacketSocket::open(link.index, &PacketOptions::default())?;
        Ok(Device {
            socket,
            ifindex: link.index,
            mtu: link.mtu,
            missed: AtomicU64::new(0),
            queues: AtomicBool::new(false),
            _guard: guard,
        })
    }

    /// Frames lost before they were received, since the port was opened.
    pub(crate) fn missed(&self) -> u64 {
        // The kernel counts since it was last asked.
        let (_, lost) = self.socket.take_statistics().unwrap_or_default();
        self.missed.fetch_add(lost.into(), Relaxed) + u64::from(lost)
    }

    pub(crate) fn takes(&self) -> Takes {
        Takes { prefix: self.socket.vnet_hdr_len(), uso: true }
    }

    /// Receives; see [`super::Source::receive`].
    pub(crate) fn receive(&self, rx: &mut PacketRx, slots: &mut [Packet], port: DpPort) -> Received {
        let prefix = self.socket.vnet_hdr_len();
        let asked = slots.len();
        let mut room: SmallVec<[&mut [u8]; BATCH]> =
            slots.iter_mut().map(|p| p.receive_into(prefix)).collect();
        let n = match self.socket.recv(rx, &mut room) {
            Ok(n) => n,
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Received::GONE,
            // Nothing there, or the pending error (the device went down), which is taken by this.
            Err(_) => return Received::NOTHING,
        };
        drop(room);
        for (i, packet) in slots[..n].iter_mut().enumerate() {
            let info = rx.info(i);
            packet.received(info.len.saturating_sub(prefix), port);
            if info.truncated || info.len < prefix {
                packet.fault = Some(DropReason::FrameTooLong);
                continue;
            }
            packet.take_offload(prefix);
            if let Some(tag) = info.vlan {
                restore_tag(packet, tag);
            }
        }
        Received { frames: n, more: n == asked, gone: false }
    }

    /// Sends all frames; tells which went and why others did not.
    pub(crate) fn send(
        &self,
        tx: &mut PacketTx,
        pool: &Pool,
        slots: &[Slot],
        mut on_sent: impl FnMut(Slot),
        mut on_error: impl FnMut(&io::Error),
    ) {
        let frames = frames(pool, slots, self.socket.vnet_hdr_len());
        let mut marks = marks(pool, slots, self.queues.load(Relaxed));
        let mut at = 0;
        while at < slots.len() {
            let sent = match marks.get(at..).filter(|marks| !marks.is_empty()) {
                Some(marks) => self.socket.send_marked(tx, &frames[at..], marks),
                None => self.socket.send(tx, &frames[at..]),
            };
            match sent {
                Ok(0) => break,
                Ok(n) => {
                    slots[at..at + n].iter().for_each(|slot| on_sent(*slot));
                    at += n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    slots[at..].iter().for_each(|_| on_error(&e));
                    break;
                }
                // Marks are not for everybody to set: the frames go without.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !marks.is_empty() => marks.clear(),
                Err(e) => {
                    on_error(&e);
                    at += 1;
                }
            }
        }
    }
}

/// What the host is to be told of each frame; nothing if there is nothing to tell of any.
fn marks(pool: &Pool, slots: &[Slot], queues: bool) -> SmallVec<[FrameMark; BATCH]> {
    let of = |slot: &Slot| {
        let meta = &pool.get(*slot).meta;
        // What names no queue goes by the device's default class.
        let queued = queues && (1..QUEUES).contains(&meta.priority);
        let priority = if queued { class_of(meta.priority) } else { meta.priority };
        FrameMark { priority, mark: meta.mark }
    };
    if slots.iter().all(|slot| of(slot) == FrameMark::default()) {
        return SmallVec::new();
    }
    slots.iter().map(of).collect()
}

/// Puts back a tag that the kernel keeps outside the frame.
fn restore_tag(packet: &mut Packet, tag: VlanTag) {
    const ADDRESSES: usize = ethernet::field::ETHER_TYPE;
    if packet.len() < ethernet::HEADER_LEN || !packet.push_front(vlan::TAG_LEN) {
        packet.fault = Some(DropReason::MalformedFrame);
        return;
    }
    let frame = packet.data_mut();
    frame.copy_within(vlan::TAG_LEN..vlan::TAG_LEN + ADDRESSES, 0);
    frame[ADDRESSES..ADDRESSES + 2].copy_from_slice(&tag.tpid.to_be_bytes());
    frame[ADDRESSES + 2..ADDRESSES + 4].copy_from_slice(&tag.tci.to_be_bytes());
    if packet.offload.shift(vlan::TAG_LEN as i32).is_err() {
        packet.fault = Some(DropReason::BadOffloadHeader);
    }
}
