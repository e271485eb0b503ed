//! How does a TAP become a port?
//!
//! One descriptor, one frame per call, GSO frames whole both ways. The device end stays with the host (`internal`),
//! goes to a VM, or is moved into a workload's network namespace; the descriptor keeps working in all cases.

use std::io;

use weft_flow::{DpPort, DropReason};
use weft_host::netlink::Netlink;
use weft_host::tun::{Tap, TapOptions, offload};
use weft_wire::Mac;

use super::{Received, Takes};
use crate::contract::Result;
use crate::packet::Packet;

/// Frames of one batch may have this many bytes in all, so that they are still in the cache when they are sent.
const BATCH_BYTES: usize = 256 * 1024;

/// One queue of a TAP.
pub(crate) struct TapDevice {
    pub(crate) tap: Tap,
}

impl TapDevice {
    /// Opens or creates the TAP of that name in this thread's network namespace; returns its MTU too.
    pub(crate) fn open(name: &str, mac: Option<Mac>, mtu: Option<u32>) -> Result<(Self, u32)> {
        let tap = Tap::open(name, &TapOptions::default())?;
        let mut netlink = Netlink::open()?;
        let mut link = netlink.link(tap.name())?;
        if let Some(mac) = mac.filter(|mac| Some(*mac) != link.mac) {
            netlink.set_mac(link.index, mac)?;
        }
        if let Some(mtu) = mtu.filter(|mtu| *mtu != link.mtu) {
            netlink.set_mtu(link.index, mtu)?;
            link.mtu = mtu;
        }
        Ok((TapDevice { tap }, link.mtu))
    }

    pub(crate) fn takes(&self) -> Takes {
        let uso = self.tap.offloads() & (offload::USO4 | offload::USO6) != 0;
        Takes { prefix: self.tap.vnet_hdr_len(), uso }
    }

    /// Receives; see [`super::Source::receive`].
    pub(crate) fn receive(&self, slots: &mut [Packet], port: DpPort) -> Received {
        let prefix = self.tap.vnet_hdr_len();
        let mut bytes = 0;
        for (n, packet) in slots.iter_mut().enumerate() {
            let room = packet.receive_into(prefix);
            let whole = room.len();
            let len = match self.tap.recv(room) {
                Ok(len) => len,
                // The device was deleted: epoll would report the descriptor for ever.
                Err(e) if e.raw_os_error() == Some(libc::EBADFD) => {
                    return Received { frames: n, more: false, gone: true };
                }
                Err(_) => return Received { frames: n, more: false, gone: false },
            };
            packet.received(len.saturating_sub(prefix), port);
            if len < prefix || len == whole {
                packet.fault = Some(DropReason::FrameTooLong);
            } else {
                packet.take_offload(prefix);
            }
            bytes += len;
            if bytes >= BATCH_BYTES {
                return Received { frames: n + 1, more: true, gone: false };
            }
        }
        Received { frames: slots.len(), more: true, gone: false }
    }

    /// Sends one frame, its offload header before it.
    pub(crate) fn send(&self, packet: &Packet) -> io::Result<()> {
        self.tap.send(packet.with_prefix(self.tap.vnet_hdr_len()))
    }
}
