//! How do frames leave? Queues by port, filled during a batch and flushed at its end.
//!
//! A queue holds frames by number, so that one frame may stand in many queues without a copy. Offload work that a
//! port does not take is done here, at the last moment: checksums completed, GSO frames cut.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{DpPort, DropReason};
use weft_wire::ethernet;
use weft_wire::segment::Segmenter;
use weft_wire::vnet::{Csum, Gso, GsoKind};

use crate::packet::{BATCH, Pool, Slot};
use crate::ports::{Io, Port, Takes, Tools};
use crate::recirc::{BUDGET, Resumed};
use crate::sample::Dice;
use crate::shared::{LaneHandle, Shared};
use crate::tunnel::{Popped, TunnelTx};

/// A queue that gets longer than this is flushed before the batch ends.
const QUEUE: usize = 64;

/// A lane's hands: buffers, ports, queues.
pub(crate) struct Executor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lane: usize,
    pub(crate) pool: Pool,
    pub(crate) tools: Tools,
    pub(crate) tunnel: TunnelTx,
    /// Next number for outer headers: GRE sequence, IPv4 identification.
    serial: u32,
    /// Frames to be decapsulated and looked up again.
    pub(crate) popped: Vec<Popped>,
    /// Frames to be looked up again.
    pub(crate) resumed: VecDeque<Resumed>,
    /// Outer headers that the frames in hand have lost.
    pub(crate) depth: u8,
    /// How often the frames in hand were looked up again.
    pub(crate) passes: u8,
    /// How many more frames may be looked up again for the batch received last.
    pub(crate) budget: u32,
    /// Some frame in hand was put together from fragments.
    pub(crate) reassembled: bool,
    /// Milliseconds, as the lane knows them.
    pub(crate) now_ms: u64,
    /// Chooses packets to sample.
    pub(crate) dice: Dice,
    ports: Vec<Option<Arc<Port>>>,
    /// By port number.
    queues: Vec<Vec<Slot>>,
    /// Ports whose queue is not empty.
    active: Vec<u32>,
}

impl Executor {
    pub(crate) fn new(shared: &Arc<Shared>, lane: usize) -> std::io::Result<Self> {
        Ok(Executor {
            shared: shared.clone(),
            lane,
            pool: Pool::new()?,
            tools: Tools::new(),
            tunnel: TunnelTx::new(),
            // Lanes count in ranges of their own.
            serial: (lane as u32) << 26,
            popped: Vec::new(),
            resumed: VecDeque::new(),
            depth: 0,
            passes: 0,
            budget: BUDGET,
            reassembled: false,
            now_ms: 0,
            dice: Dice::new(shared.seed.wrapping_add(lane as u64)),
            ports: Vec::new(),
            queues: Vec::new(),
            active: Vec::new(),
        })
    }

    pub(crate) fn handle(&self) -> &LaneHandle {
        &self.shared.lanes[self.lane]
    }

    /// Takes `n` numbers for outer headers.
    #[inline]
    pub(crate) fn serial(&mut self, n: u32) -> u32 {
        let first = self.serial;
        self.serial = first.wrapping_add(n);
        first
    }

    /// Makes a port known.
    pub(crate) fn add_port(&mut self, port: Arc<Port>) {
        let at = port.number.0 as usize;
        if self.ports.len() <= at {
            self.ports.resize_with(at + 1, || None);
            self.queues.resize_with(at + 1, Vec::new);
        }
        self.queues[at].reserve(2 * QUEUE);
        self.ports[at] = Some(port);
    }

    /// Forgets a port; what is queued for it is sent.
    pub(crate) fn remove_port(&mut self, port: DpPort) {
        self.flush();
        if let Some(slot) = self.ports.get_mut(port.0 as usize) {
            *slot = None;
        }
    }

    pub(crate) fn port(&self, port: DpPort) -> Option<&Arc<Port>> {
        self.ports.get(port.0 as usize)?.as_ref()
    }

    /// Counts frames that came in by `port` and go nowhere.
    pub(crate) fn drop_received(&self, port: DpPort, reason: DropReason, frames: u64) {
        match self.port(port) {
            Some(port) => port.counters[self.lane].rx_drops.add(reason, frames),
            None => self.handle().counters.drops.add(reason, frames),
        }
    }

    /// Counts a frame that goes nowhere for the port it came in by.
    pub(crate) fn drop_slot(&self, slot: Slot, reason: DropReason) {
        self.drop_received(self.pool.get(slot).in_port, reason, 1);
    }

    /// Queues members of a batch for a port.
    #[inline(always)]
    pub(crate) fn output_members(&mut self, port: u32, members: &[u8], slots: &[Slot; BATCH]) {
        let Executor { ports, queues, active, pool, reassembled, .. } = self;
        let queued = match ports.get(port as usize) {
            Some(Some(to)) if !(matches!(to.io, Io::Tunnel(_)) || *reassembled) => &mut queues[port as usize],
            _ => return self.output_nowhere(port, members, slots),
        };
        if queued.is_empty() {
            active.push(port);
        }
        for &i in members {
            let slot = slots[usize::from(i) % BATCH];
            pool.hold(slot);
            queued.push(slot);
        }
        if queued.len() >= QUEUE {
            self.flush();
        }
    }

    /// A plain output to a port that is gone, to a tunnel without an outer header, or of frames that may have to be
    /// fragmented again.
    #[cold]
    fn output_nowhere(&mut self, port: u32, members: &[u8], slots: &[Slot; BATCH]) {
        let slots: SmallVec<[Slot; BATCH]> = members.iter().map(|i| slots[usize::from(*i) % BATCH]).collect();
        self.output(DpPort(port), &slots, None);
    }

    /// Queues frames for a port, or encapsulates them if it is a tunnel.
    pub(crate) fn output(&mut self, port: DpPort, slots: &[Slot], outer: Option<&weft_flow::TunnelOut>) {
        if self.reassembled {
            return self.output_reassembled(port, slots, outer);
        }
        let Some(Some(to)) = self.ports.get(port.0 as usize) else {
            slots.iter().for_each(|slot| self.drop_slot(*slot, DropReason::PortGone));
            return;
        };
        if let Io::Tunnel(_) = to.io {
            let to = to.clone();
            let Some(outer) = outer else {
                to.counters[self.lane].tx_drops.add(DropReason::TunnelNoRemote, slots.len() as u64);
                return;
            };
            return self.tunnel.encapsulate(&to, outer, &mut self.pool, slots, self.lane, &self.shared);
        }
        let queue = &mut self.queues[port.0 as usize];
        if queue.is_empty() {
            self.active.push(port.0);
        }
        for slot in slots {
            self.pool.hold(*slot);
            queue.push(*slot);
        }
        if queue.len() >= QUEUE {
            self.flush();
        }
    }

    /// Outputs frames one by one, those that were put together from fragments in fragments again.
    #[cold]
    fn output_reassembled(&mut self, port: DpPort, slots: &[Slot], outer: Option<&weft_flow::TunnelOut>) {
        self.reassembled = false;
        for &slot in slots {
            let packet = self.pool.get(slot);
            let longest = usize::from(packet.layout.l3) + usize::from(packet.meta.mru);
            if packet.meta.mru != 0 && packet.meta.bare == 0 && packet.len() > longest {
                self.output_fragments(port, slot, outer);
            } else {
                self.output(port, &[slot], outer);
            }
        }
        self.reassembled = true;
    }

    /// Sends everything queued.
    pub(crate) fn flush(&mut self) {
        while let Some(number) = self.active.pop() {
            let mut slots = std::mem::take(&mut self.queues[number as usize]);
            if let Some(port) = self.ports[number as usize].take() {
                self.send(&port, &slots);
                self.ports[number as usize] = Some(port);
            }
            slots.iter().for_each(|slot| self.pool.release(*slot));
            slots.clear();
            self.queues[number as usize] = slots;
        }
        self.tunnel.flush(self.lane, &self.shared);
    }

    /// A copy of a frame, held once; flushes the queues if buffers ran out. `None`: dropped.
    pub(crate) fn copy(&mut self, slot: Slot) -> Option<Slot> {
        if self.pool.spare() == 0 {
            self.flush();
        }
        let copy = self.pool.copy(slot);
        match copy {
            Some(_) => self.handle().counters.packet_copy.add(1),
            None => self.drop_slot(slot, DropReason::TxQueueFull),
        }
        copy
    }

    /// Sends frames by a port that is no tunnel.
    fn send(&mut self, port: &Port, slots: &[Slot]) {
        if let Io::Null = port.io {
            return port.send(&mut self.tools, &self.pool, slots, self.lane);
        }
        let takes = port.takes();
        let mtu = port.mtu.load(std::sync::atomic::Ordering::Relaxed) as usize;
        let mut ready: SmallVec<[Slot; BATCH]> = SmallVec::new();
        for &slot in slots {
            match fitness(&mut self.pool, slot, takes, mtu) {
                Ok(Fit::Ready) => ready.push(slot),
                Ok(Fit::Cut) => {
                    // Order within a flow is kept: what came before goes first.
                    port.send(&mut self.tools, &self.pool, &ready, self.lane);
                    ready.clear();
                    self.send_cut(port, slot, takes, mtu);
                }
                Err(reason) => port.counters[self.lane].tx_drops.add(reason, 1),
            }
        }
        port.send(&mut self.tools, &self.pool, &ready, self.lane);
    }

    /// Cuts a GSO frame in software and sends the segments.
    fn send_cut(&mut self, port: &Port, slot: Slot, takes: Takes, mtu: usize) {
        let whole = self.pool.detach(slot);
        let offload = whole.offload;
        let mut error = None;
        match Segmenter::new(whole.data(), &offload) {
            Ok(cut) if too_long(cut.max_segment_len(), mtu) => error = Some(DropReason::MtuExceeded),
            Ok(cut) => {
                self.handle().counters.gso_segment.add(1);
                let mut index = 0;
                while index < cut.count() && error.is_none() {
                    let mut part: SmallVec<[Slot; BATCH]> = SmallVec::new();
                    while index < cut.count()
                        && part.len() < BATCH
                        && let Some(slot) = self.pool.take()
                    {
                        part.push(slot);
                        let packet = self.pool.get_mut(slot);
                        packet.received(cut.segment_len(index), whole.in_port);
                        if cut.write(index, packet.data_mut()).is_err() {
                            packet.truncate(0);
                        }
                        packet.write_offload(takes.prefix);
                        index += 1;
                    }
                    if part.is_empty() {
                        error = Some(DropReason::TxQueueFull);
                    }
                    port.send(&mut self.tools, &self.pool, &part, self.lane);
                    part.iter().for_each(|slot| self.pool.release(*slot));
                }
            }
            Err(_) => error = Some(DropReason::BadOffloadHeader),
        }
        if let Some(reason) = error {
            port.counters[self.lane].tx_drops.add(reason, 1);
        }
        self.pool.attach(slot, whole);
    }
}

/// What is to be done with a frame before a port takes it.
enum Fit {
    /// Nothing any more.
    Ready,
    /// To be cut.
    Cut,
}

/// Whether a frame of that length exceeds an MTU; a VLAN tag is free, as the kernel has it.
fn too_long(len: usize, mtu: usize) -> bool {
    mtu != 0 && len > mtu + ethernet::HEADER_LEN + weft_wire::vlan::TAG_LEN
}

/// The same for segments that fit the MTU: a TCP stream may be cut anywhere, so a workload whose peer has a larger MTU
/// than the port is served all the same.
fn smaller(gso: Gso, headers: usize, mtu: usize) -> Option<Gso> {
    // RFC 1122 §4.2.2.6: every host takes that much.
    const DEFAULT_MSS: usize = 536;
    let size = (mtu + ethernet::HEADER_LEN).checked_sub(headers).filter(|size| *size >= DEFAULT_MSS)?;
    let tcp = matches!(gso.kind, GsoKind::TcpV4 | GsoKind::TcpV6);
    tcp.then_some(Gso { size: size as u16, ..gso })
}

/// Makes a frame fit for a port, or says what else is needed.
fn fitness(pool: &mut Pool, slot: Slot, takes: Takes, mtu: usize) -> Result<Fit, DropReason> {
    let packet = pool.get_mut(slot);
    match packet.offload.gso {
        None if too_long(packet.len(), mtu) => return Err(DropReason::MtuExceeded),
        None => {}
        // A datagram to be fragmented by IP: the kernel does it, if there is one.
        Some(gso) if gso.kind == GsoKind::Udp && takes.prefix != 0 => {}
        Some(gso) => {
            let uncut = takes.prefix == 0 || (gso.kind == GsoKind::UdpL4 && !takes.uso);
            if uncut {
                return Ok(Fit::Cut);
            }
            let headers = usize::from(packet.layout.payload);
            if headers != 0 && too_long(headers + usize::from(gso.size), mtu) {
                packet.offload.gso = Some(smaller(gso, headers, mtu).ok_or(DropReason::MtuExceeded)?);
            }
        }
    }
    if takes.prefix != 0 {
        packet.write_offload(takes.prefix);
    } else if let Csum::Partial { .. } = packet.offload.csum {
        packet.complete_checksum()?;
    }
    Ok(Fit::Ready)
}
