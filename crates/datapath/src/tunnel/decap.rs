//! How do datagrams of an underlay become frames of a tunnel port?
//!
//! A receive buffer may hold many datagrams of one sender (UDP_GRO). Each is checked and demultiplexed; TCP segments
//! that follow each other are merged into one GSO frame, so that what is behind is done once for all of them.

use std::os::fd::{AsFd, BorrowedFd};

use weft_flow::{DpPort, DropReason, TunMetadata, TunnelKey, TunnelKind};
use weft_host::inet::RxInfo;
use weft_wire::merge::{Merger, Push, Trust};
use weft_wire::vnet::{self, VnetHdr};
use weft_wire::{ethernet, ipv4, ipv6, udp, vxlan};

use super::demux::Demux;
use super::header;
use super::sockets::{ListenKey, Socket};
use crate::batch::Batch;
use crate::clock::now_ms;
use crate::executor::Executor;
use crate::packet::{BATCH, FRAME_ROOM, Packet};
use crate::ports::Received;

/// Receive buffers of a listener.
const BUFFERS: usize = 16;
/// Buffers asked for when they come full of merged datagrams, so that they stay in the cache.
const BUFFERS_LARGE: usize = 4;
/// Bytes of a buffer: the largest IP datagram.
const BUFFER: usize = 65_536;

/// Frames shorter than this never stand for many: every path carries IPv6's least MTU.
const SURELY_WHOLE: usize = 1_200;
/// What comes from the host's own stack came in by no port of the datapath.
const NO_PORT: DpPort = DpPort(u32::MAX);

/// A socket on which tunnel ports listen, as the lane that receives from it has it.
pub(crate) struct Listener {
    key: ListenKey,
    socket: Socket,
    bufs: Vec<Box<[u8]>>,
    /// What the kernel said about the buffers filled by the last system call.
    infos: Vec<RxInfo>,
    /// Where processing stands: buffer, and byte in it.
    next: (usize, usize),
    /// The last system call filled all the buffers it was offered.
    more: bool,
    /// How many buffers to offer.
    ask: usize,
}

/// The frame under construction.
struct Open {
    key: TunnelKey,
    of: Inner,
}

/// Where an inner frame belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inner {
    /// The tunnel port that takes it.
    pub(crate) port: DpPort,
    /// The options it came with, if there are any.
    pub(crate) options: Option<TunMetadata>,
    /// The EtherType it begins with; 0: it is a frame.
    pub(crate) bare: u16,
}

impl Listener {
    pub(crate) fn open(key: ListenKey) -> weft_host::Result<Self> {
        Ok(Listener {
            key,
            socket: key.open()?,
            bufs: (0..BUFFERS).map(|_| vec![0; BUFFER].into_boxed_slice()).collect(),
            infos: Vec::with_capacity(BUFFERS),
            next: (0, 0),
            more: false,
            ask: BUFFERS,
        })
    }

    pub(crate) fn key(&self) -> &ListenKey {
        &self.key
    }

    /// Receives; see [`crate::ports::Source::receive`]. Frames have the tunnel section of their key filled in.
    pub(crate) fn receive(&mut self, exec: &mut Executor, batch: &mut Batch, demux: &mut Demux) -> Received {
        if self.next.0 >= self.infos.len() && !self.fill(exec) {
            return Received::NOTHING;
        }
        batch.begin(BATCH);
        let mut to = Filler::new(exec, batch);
        while self.next.0 < self.infos.len() && to.has_room() {
            let index = self.next.0;
            let info = self.infos[index];
            let buf = &self.bufs[index][..];
            let end = info.len.min(buf.len());
            let stride = if info.segment == 0 { BUFFER } else { usize::from(info.segment) };
            let at = info.offset.max(self.next.1);
            let stop = end.min(at.saturating_add(stride));
            self.next = if stop < end { (index, stop) } else { (index + 1, 0) };
            if info.truncated {
                to.refuse(NO_PORT, DropReason::TunnelMalformed);
                continue;
            }
            let Some(datagram) = buf.get(at..stop) else { continue };
            let mut key = outer_key(&self.key, &info);
            match header::read(self.key.kind, self.key.dst_port, datagram, &mut key, demux) {
                Ok((len, of)) => to.add(&datagram[len..], key, of),
                Err(reason) => to.refuse(NO_PORT, reason),
            }
        }
        let frames = to.finish();
        Received { frames, more: self.more || self.next.0 < self.infos.len(), gone: false }
    }

    /// Asks the kernel for datagrams. False: there are none.
    fn fill(&mut self, exec: &mut Executor) -> bool {
        let rx = &mut exec.tools.datagram_rx;
        let n = self.socket.recv(rx, &mut self.bufs[..self.ask]).unwrap_or(0);
        self.infos.clear();
        self.infos.extend(self.bufs[..n].iter().enumerate().map(|(i, buf)| self.socket.info(rx, i, buf)));
        self.next = (0, 0);
        self.more = n == self.ask;
        let bytes: usize = self.infos.iter().map(|info| info.len).sum();
        self.ask = if bytes > n * BUFFER / 4 { BUFFERS_LARGE } else { BUFFERS };
        n > 0
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the outer headers say.
fn outer_key(listen: &ListenKey, info: &RxInfo) -> TunnelKey {
    let mut key = TunnelKey { tos: info.tos, ttl: info.ttl, tp_dst: listen.dst_port, ..TunnelKey::default() };
    key.set_src(info.src.ip());
    match info.dst {
        Some(dst) => key.set_dst(dst),
        None => key.set_dst(listen.local),
    }
    if listen.kind != TunnelKind::Gre {
        key.tp_src = info.src.port();
    }
    key
}

/// Fills a batch with inner frames, merging TCP segments.
pub(crate) struct Filler<'a> {
    exec: &'a mut Executor,
    batch: &'a mut Batch,
    merger: Merger,
    /// Port and key of the frame under construction, which is the one after the finished ones.
    open: Option<Open>,
    /// Finished frames.
    pub(crate) len: usize,
}

impl<'a> Filler<'a> {
    /// Fills the buffers that `batch.slots` names.
    pub(crate) fn new(exec: &'a mut Executor, batch: &'a mut Batch) -> Self {
        Filler { exec, batch, merger: Merger::new(Trust::Verify), open: None, len: 0 }
    }

    /// Whether another frame may be added: it may finish one and begin one.
    pub(crate) fn has_room(&self) -> bool {
        self.len + 2 < BATCH
    }

    /// Counts a datagram that no tunnel port takes, for the port that the outer packet came in by, if it has one.
    pub(crate) fn refuse(&mut self, port: DpPort, reason: DropReason) {
        self.exec.drop_received(port, reason, 1);
    }

    /// Takes an inner frame.
    pub(crate) fn add(&mut self, frame: &[u8], key: TunnelKey, of: Inner) {
        self.exec.handle().counters.tunnel_pop.add(1);
        if of.bare != 0 {
            return self.add_bare(frame, key, of);
        }
        if self.open.as_ref().is_some_and(|open| open.key != key || open.of != of) {
            self.close();
        }
        let mut push = self.push(frame);
        if push == Push::Full {
            self.close();
            push = self.push(frame);
        }
        if push == Push::Taken {
            self.open = Some(Open { key, of });
            return;
        }
        self.close();
        if frame.len() > FRAME_ROOM {
            return self.exec.drop_received(of.port, DropReason::FrameTooLong, 1);
        }
        // The kernel of this machine may have left checksum and segmentation to a device that there was none of.
        let offload = vnet::infer(frame, self.largest_packet(frame, &key));
        let packet = self.packet();
        packet.fill(frame, of.port);
        packet.offload = offload;
        self.done(key, of);
    }

    /// Takes a packet without an Ethernet header.
    fn add_bare(&mut self, frame: &[u8], key: TunnelKey, of: Inner) {
        self.close();
        if frame.len() > FRAME_ROOM {
            return self.exec.drop_received(of.port, DropReason::FrameTooLong, 1);
        }
        let packet = self.packet();
        packet.fill(frame, of.port);
        packet.meta.bare = of.bare;
        self.done(key, of);
    }

    /// The most bytes of IP packet that a peer may have sent in one datagram: what its path carries.
    fn largest_packet(&mut self, frame: &[u8], key: &TunnelKey) -> usize {
        if frame.len() < SURELY_WHOLE {
            return usize::MAX;
        }
        let ip = if key.is_ipv6() { ipv6::HEADER_LEN } else { ipv4::MIN_HEADER_LEN };
        let headers = ip + udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN;
        self.exec.tunnel.mtus.of(key.src(), None, now_ms()).saturating_sub(headers)
    }

    fn packet(&mut self) -> &mut Packet {
        self.exec.pool.get_mut(self.batch.slots[self.len.min(BATCH - 1)])
    }

    fn push(&mut self, frame: &[u8]) -> Push {
        let packet = self.exec.pool.get_mut(self.batch.slots[self.len.min(BATCH - 1)]);
        if self.merger.is_empty() {
            packet.received(0, DpPort(u32::MAX));
        }
        self.merger.push(frame, packet.room_mut())
    }

    /// Finishes the frame under construction.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let packet = self.exec.pool.get_mut(self.batch.slots[self.len.min(BATCH - 1)]);
        let Ok(Some(merged)) = self.merger.finish(packet.room_mut()) else { return };
        packet.received(merged.len, open.of.port);
        if merged.segments > 1 {
            packet.offload = VnetHdr { num_buffers: 0, ..merged.hdr };
            self.exec.handle().counters.gso_merge.add(merged.segments as u64);
        }
        self.done(open.key, open.of);
    }

    /// Counts a finished frame and gives it its key.
    fn done(&mut self, key: TunnelKey, of: Inner) {
        let len = self.packet().len() as u64;
        if let Some(port) = self.exec.port(of.port) {
            let counters = &port.counters[self.exec.lane];
            counters.rx_packets.add(1);
            counters.rx_bytes.add(len);
        }
        self.batch.tunnelled_by(self.len, key);
        if let Some(options) = &of.options {
            self.batch.optioned_by(self.len, options);
        }
        self.len += 1;
    }

    /// Finishes the last frame; returns how many there are.
    pub(crate) fn finish(mut self) -> usize {
        self.close();
        self.len
    }
}
