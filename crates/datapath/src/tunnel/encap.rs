//! How are frames sent through a tunnel with few system calls?
//!
//! Datagrams to one place by one socket are laid back to back in a [`Run`]: all of one size, the last maybe shorter.
//! The kernel is handed a whole run (UDP_SEGMENT) and cuts it. GSO frames are cut straight into their run; checksums
//! are completed on the way.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;
use weft_flow::{DropReason, TUN_DF, TunnelKind, TunnelOut};
use weft_host::inet::TxInfo;
use weft_host::udp::DatagramTx;
use weft_wire::fragment::Fragmenter;
use weft_wire::segment::Segmenter;
use weft_wire::vnet::VnetHdr;
use weft_wire::{EtherType, ethernet, gre, ipv4, ipv6, udp, vnet};

use super::TunnelPort;
use super::header::Header;
use super::pmtu::{self, Fit, PathMtus};
use super::sockets::{Pool, PoolKey};
use crate::clock::now_ms;
use crate::packet::{Packet, Pool as Buffers, Slot};
use crate::ports::{Io, Port, tx_error};
use crate::shared::Shared;

/// Runs of a lane under construction at once.
const RUNS: usize = 16;
/// Datagrams of a run (UDP_MAX_SEGMENTS of older kernels).
const MAX_DATAGRAMS: usize = 64;
/// Bytes of a run: the largest UDP payload over IPv4, which is below that over IPv6.
const MAX_BYTES: usize = 65_507;

/// Datagrams to one place by one socket.
struct Run {
    buf: Box<[u8]>,
    len: usize,
    /// Bytes of each datagram but the last.
    stride: usize,
    datagrams: usize,
    /// A shorter datagram was the last, or nothing may be added for another reason.
    closed: bool,
    info: TxInfo,
    pool: Arc<Pool>,
    socket: usize,
    port: Arc<Port>,
    /// Inner frames and bytes, for statistics.
    frames: u64,
    bytes: u64,
}

/// The sending side of all tunnels of a lane.
pub(crate) struct TunnelTx {
    runs: Vec<Run>,
    /// Buffers of runs that were sent.
    spare: Vec<Box<[u8]>>,
    /// The run added to last.
    current: usize,
    /// Pools in use, so that the shared map is asked once.
    pools: Vec<Arc<Pool>>,
    datagram_tx: DatagramTx,
    pub(crate) mtus: PathMtus,
}

/// Where a datagram goes.
struct To<'a> {
    port: &'a Arc<Port>,
    tunnel: &'a TunnelPort,
    header: &'a Header,
    pool: &'a Arc<Pool>,
    info: TxInfo,
    /// Largest inner frame that the path takes, bytes.
    room: usize,
    /// Whether the outer packet may not be fragmented.
    df: bool,
}

impl TunnelTx {
    pub(crate) fn new() -> Self {
        TunnelTx {
            runs: Vec::new(),
            spare: Vec::new(),
            current: 0,
            pools: Vec::new(),
            datagram_tx: DatagramTx::new(RUNS),
            mtus: PathMtus::default(),
        }
    }

    fn pool(&mut self, shared: &Shared, key: PoolKey) -> Option<Arc<Pool>> {
        if let Some(pool) = self.pools.iter().find(|pool| pool.key == key) {
            return Some(pool.clone());
        }
        let pool = Pool::of(shared, key)?;
        self.pools.push(pool.clone());
        Some(pool)
    }

    /// Encapsulates frames for a tunnel port; they are copied, and sent by [`TunnelTx::flush`] at the latest.
    pub(crate) fn encapsulate(
        &mut self,
        port: &Arc<Port>,
        out: &TunnelOut,
        buffers: &mut Buffers,
        slots: &[Slot],
        lane: usize,
        shared: &Shared,
    ) {
        let Io::Tunnel(tunnel) = &port.io else { return };
        let drop_all = |reason| port.counters[lane].tx_drops.add(reason, slots.len() as u64);
        if !out.key.is_present() {
            return drop_all(DropReason::TunnelNoRemote);
        }
        // Packets of a list begin with the same type nearly always.
        let Some(first) = slots.first() else { return };
        let bare = buffers.get(*first).meta.bare;
        let same = slots.iter().position(|slot| buffers.get(*slot).meta.bare != bare).unwrap_or(slots.len());
        let (slots, others) = slots.split_at(same);
        if !others.is_empty() {
            self.encapsulate(port, out, buffers, slots, lane, shared);
            return self.encapsulate(port, out, buffers, others, lane, shared);
        }
        let inner = if bare == 0 { EtherType::TEB } else { EtherType(bare) };
        let header = match Header::build(&tunnel.spec, out, inner) {
            Ok(header) => header,
            Err(reason) => return drop_all(reason),
        };
        let key = pool_key(tunnel, out, shared.egress_ports());
        let Some(pool) = self.pool(shared, key) else { return drop_all(DropReason::TxError) };
        let info = tx_info(tunnel, out);
        let now = now_ms();
        let outer_len = outer_len(&key) + header.bytes().len();
        let room = self.mtus.of(info.dst.ip(), info.src, now).saturating_sub(outer_len);
        let to = To { port, tunnel, header: &header, pool: &pool, info, room, df: key.df };
        for slot in slots {
            let packet = buffers.get(*slot);
            if let Err(reason) = self.add(&to, packet, lane, shared) {
                port.counters[lane].tx_drops.add(reason, 1);
                if reason == DropReason::MtuExceeded {
                    let (frame, more) = as_frame(packet);
                    let before = self.mtus.answers.len();
                    self.mtus.refuse(&frame, room + more, &out.key, port.number, now);
                    self.mtus.answers[before..].iter_mut().for_each(|answer| answer.bare = bare != 0);
                }
            }
        }
        shared.lanes[lane].counters.tunnel_push.add(slots.len() as u64);
    }

    fn add(&mut self, to: &To<'_>, packet: &Packet, lane: usize, shared: &Shared) -> Result<(), DropReason> {
        let (frame, more) = as_frame(packet);
        match pmtu::fit(&frame, &packet.offload, to.room.saturating_add(more), to.df) {
            Fit::TooBig => return Err(DropReason::MtuExceeded),
            Fit::Fragments(mtu) => self.add_fragments(to, packet, mtu, lane, shared)?,
            Fit::Whole(offload) if offload.gso.is_some() => {
                self.add_segments(to, packet, &offload, lane, shared)?;
            }
            Fit::Whole(_) => {
                let offload = packet.offload;
                self.add_frame(to, packet.data(), offload, packet.flow_hash, lane, shared)?;
            }
        }
        self.count(1, packet.len() as u64);
        Ok(())
    }

    /// Cuts a GSO frame straight into runs.
    fn add_segments(
        &mut self,
        to: &To<'_>,
        packet: &Packet,
        offload: &VnetHdr,
        lane: usize,
        shared: &Shared,
    ) -> Result<(), DropReason> {
        let socket = to.pool.choose(packet.flow_hash);
        let cut = Segmenter::new(packet.data(), offload).map_err(|_| DropReason::BadOffloadHeader)?;
        if cut.max_segment_len() + to.header.bytes().len() > MAX_BYTES {
            return Err(DropReason::FrameTooLong);
        }
        let mut index = 0;
        while index < cut.count() {
            let run = self.run_for(to, socket, cut.segment_len(index), lane, shared);
            index += run.add_train(to, &cut, index)?;
        }
        Ok(())
    }

    /// Fragments the inner IPv4 packet, which allows it.
    fn add_fragments(
        &mut self,
        to: &To<'_>,
        packet: &Packet,
        mtu: usize,
        lane: usize,
        shared: &Shared,
    ) -> Result<(), DropReason> {
        let (frame, more) = as_frame(packet);
        let (mut whole, mut offload) = (frame.into_owned(), packet.offload);
        vnet::complete_checksum(&mut whole, &mut offload).map_err(|_| DropReason::BadOffloadHeader)?;
        let cut = Fragmenter::new(&whole, mtu, 0).map_err(|_| DropReason::MtuExceeded)?;
        let mut fragment = vec![0; to.room.saturating_add(more)];
        for index in 0..cut.count() {
            let len = cut.write(index, &mut fragment).map_err(|_| DropReason::MtuExceeded)?;
            let done = VnetHdr::default();
            self.add_frame(to, &fragment[more..len], done, packet.flow_hash, lane, shared)?;
        }
        Ok(())
    }

    fn add_frame(
        &mut self,
        to: &To<'_>,
        frame: &[u8],
        offload: VnetHdr,
        flow_hash: u32,
        lane: usize,
        shared: &Shared,
    ) -> Result<(), DropReason> {
        if to.header.bytes().len() + frame.len() > MAX_BYTES {
            return Err(DropReason::FrameTooLong);
        }
        let socket = to.pool.choose(flow_hash);
        self.run_for(to, socket, frame.len(), lane, shared).add_one(to, frame, offload)
    }

    fn count(&mut self, frames: u64, bytes: u64) {
        if let Some(run) = self.runs.get_mut(self.current) {
            run.frames += frames;
            run.bytes += bytes;
        }
    }

    /// The run to add a datagram with an inner frame of `len` bytes to.
    fn run_for(&mut self, to: &To<'_>, socket: usize, len: usize, lane: usize, shared: &Shared) -> &mut Run {
        let len = to.header.bytes().len() + len;
        // Only the last run by a socket may grow, lest frames overtake each other.
        let last = self.runs.iter().rposition(|run| run.goes_with(to, socket));
        self.current = match last.filter(|at| self.runs[*at].takes(to, len)) {
            Some(at) => at,
            None => {
                if self.runs.len() == RUNS {
                    self.flush(lane, shared);
                }
                let buf = self.spare.pop().unwrap_or_else(|| vec![0; MAX_BYTES].into_boxed_slice());
                self.runs.push(Run::new(to, socket, buf));
                self.runs.len() - 1
            }
        };
        &mut self.runs[self.current]
    }

    /// Sends everything.
    #[inline]
    pub(crate) fn flush(&mut self, lane: usize, shared: &Shared) {
        if !self.runs.is_empty() {
            self.flush_runs(lane, shared);
        }
    }

    fn flush_runs(&mut self, lane: usize, shared: &Shared) {
        let runs = std::mem::take(&mut self.runs);
        let mut sent: SmallVec<[bool; RUNS]> = SmallVec::from_elem(false, runs.len());
        for first in 0..runs.len() {
            if sent[first] {
                continue;
            }
            // All runs by the same socket go in one call.
            let same =
                |run: &Run| Arc::ptr_eq(&run.pool, &runs[first].pool) && run.socket == runs[first].socket;
            let together: SmallVec<[usize; RUNS]> = (first..runs.len()).filter(|i| same(&runs[*i])).collect();
            together.iter().for_each(|i| sent[*i] = true);
            self.send_runs(&runs, &together, lane);
        }
        shared.lanes[lane].counters.tunnel_tx_calls.add(runs.len() as u64);
        self.spare.extend(runs.into_iter().map(|run| run.buf));
    }

    fn send_runs(&mut self, runs: &[Run], which: &[usize], lane: usize) {
        let raw = runs[which[0]].pool.key.gre;
        let bufs: SmallVec<[&[u8]; RUNS]> = which.iter().map(|i| &runs[*i].buf[..runs[*i].len]).collect();
        let infos: SmallVec<[TxInfo; RUNS]> = which.iter().map(|i| runs[*i].info_of_whole()).collect();
        let mut at = 0;
        while at < which.len() {
            let run = &runs[which[at]];
            let socket = run.pool.socket(run.socket);
            let result =
                if raw { Ok(0) } else { socket.send(&mut self.datagram_tx, &bufs[at..], &infos[at..]) };
            match result {
                Ok(n) if n > 0 => {
                    which[at..at + n].iter().for_each(|i| runs[*i].sent(lane));
                    at += n;
                }
                // A datagram over the MTU cannot be part of a run, but may be sent alone if it may be fragmented.
                Err(e)
                    if !matches!(e.raw_os_error(), Some(libc::EMSGSIZE | libc::EINVAL))
                        || run.datagrams == 1 =>
                {
                    run.failed(tx_error(&e), lane);
                    at += 1;
                }
                _ => {
                    self.send_singly(run, lane);
                    at += 1;
                }
            }
        }
    }

    /// Sends the datagrams of a run one by one.
    fn send_singly(&mut self, run: &Run, lane: usize) {
        let info = TxInfo { segment: 0, ..run.info };
        let socket = run.pool.socket(run.socket);
        let datagrams: SmallVec<[&[u8]; MAX_DATAGRAMS]> = run.buf[..run.len].chunks(run.stride).collect();
        let mut at = 0;
        let mut failed = None;
        while at < datagrams.len() {
            let some = &datagrams[at..datagrams.len().min(at + RUNS)];
            match socket.send(&mut self.datagram_tx, some, &[info; RUNS][..some.len()]) {
                Ok(n) if n > 0 => at += n,
                Ok(_) => break,
                Err(e) => {
                    failed = Some(tx_error(&e));
                    at += 1;
                }
            }
        }
        match failed {
            None => run.sent(lane),
            Some(reason) => run.failed(reason, lane),
        }
    }
}

/// A packet as a frame, with an Ethernet header of zeros where it has none, and how many bytes that is longer.
fn as_frame(packet: &Packet) -> (Cow<'_, [u8]>, usize) {
    match packet.meta.bare {
        0 => (Cow::Borrowed(packet.data()), 0),
        bare => {
            let mut frame = vec![0; ethernet::HEADER_LEN];
            frame[ethernet::field::ETHER_TYPE..].copy_from_slice(&bare.to_be_bytes());
            frame.extend_from_slice(packet.data());
            (Cow::Owned(frame), ethernet::HEADER_LEN)
        }
    }
}

impl Run {
    fn new(to: &To<'_>, socket: usize, buf: Box<[u8]>) -> Self {
        Run {
            buf,
            len: 0,
            stride: 0,
            datagrams: 0,
            closed: false,
            info: to.info,
            pool: to.pool.clone(),
            socket,
            port: to.port.clone(),
            frames: 0,
            bytes: 0,
        }
    }

    /// Whether it goes the same way.
    fn goes_with(&self, to: &To<'_>, socket: usize) -> bool {
        self.socket == socket && Arc::ptr_eq(&self.pool, to.pool)
    }

    /// Whether a datagram of `len` bytes may follow.
    fn takes(&self, to: &To<'_>, len: usize) -> bool {
        !self.closed
            && len <= self.stride
            && self.datagrams < MAX_DATAGRAMS
            && self.len + len <= MAX_BYTES
            && self.info == to.info
            && Arc::ptr_eq(&self.port, to.port)
    }

    /// Appends one frame.
    fn add_one(&mut self, to: &To<'_>, data: &[u8], mut offload: VnetHdr) -> Result<(), DropReason> {
        let prefix = to.header.bytes();
        let start = self.len;
        let end = start + prefix.len() + data.len();
        let datagram = self.buf.get_mut(start..end).ok_or(DropReason::FrameTooLong)?;
        let (head, frame) = datagram.split_at_mut(prefix.len());
        head.copy_from_slice(prefix);
        frame.copy_from_slice(data);
        vnet::complete_checksum(frame, &mut offload).map_err(|_| DropReason::BadOffloadHeader)?;
        finish_gre(to, datagram);
        self.added(1, end - start, end - start);
        Ok(())
    }

    /// Appends segments from `index` on, as many as go; returns how many.
    fn add_train(&mut self, to: &To<'_>, cut: &Segmenter<'_>, index: usize) -> Result<usize, DropReason> {
        let start = self.len;
        // A segment of another size than the run's cannot be followed by more.
        let stride = to.header.bytes().len() + cut.max_segment_len();
        let alone = self.datagrams > 0 && stride != self.stride;
        let max = if alone { 1 } else { MAX_DATAGRAMS - self.datagrams };
        let train = cut
            .write_train(index, max, to.header.bytes(), &mut self.buf[start..])
            .map_err(|_| DropReason::FrameTooLong)?;
        if to.header.checksum || to.header.sequence_at != 0 {
            let written = &mut self.buf[start..start + train.len];
            written.chunks_mut(train.stride).for_each(|datagram| finish_gre(to, datagram));
        }
        let last = train.len - (train.segments - 1) * train.stride;
        self.added(train.segments, train.len, last);
        Ok(train.segments)
    }

    /// Notes that `datagrams` were appended, of `bytes` in all, the last of `last`.
    fn added(&mut self, datagrams: usize, bytes: usize, last: usize) {
        if self.datagrams == 0 {
            self.stride = if datagrams > 1 { (bytes - last) / (datagrams - 1) } else { last };
        }
        self.closed |= last < self.stride;
        self.datagrams += datagrams;
        self.len += bytes;
    }

    fn info_of_whole(&self) -> TxInfo {
        let segment = if self.datagrams > 1 { self.stride as u16 } else { 0 };
        TxInfo { segment, ..self.info }
    }

    fn sent(&self, lane: usize) {
        let counters = &self.port.counters[lane];
        counters.tx_packets.add(self.frames);
        counters.tx_bytes.add(self.bytes);
    }

    fn failed(&self, reason: DropReason, lane: usize) {
        self.port.counters[lane].tx_drops.add(reason, self.frames.max(1));
    }
}

/// Fills in what GRE has per packet.
fn finish_gre(to: &To<'_>, datagram: &mut [u8]) {
    let at = to.header.sequence_at;
    if at != 0 {
        let sequence = to.tunnel.sequence.fetch_add(1, Relaxed);
        datagram[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
    }
    if to.header.checksum {
        // There is a checksum field: the header was built with one.
        let _ = gre::fill_checksum(datagram);
    }
}

fn pool_key(tunnel: &TunnelPort, out: &TunnelOut, ports: Option<(u16, u16)>) -> PoolKey {
    let gre = tunnel.spec.kind == TunnelKind::Gre;
    let ipv6 = out.key.is_ipv6();
    PoolKey {
        gre,
        ipv6,
        df: out.key.flags & TUN_DF != 0,
        // Always, whatever `csum` says: the kernel cuts no train without one (UDP_SEGMENT), and devices fill it in.
        csum: !gre,
        mark: tunnel.spec.mark,
        ports: ports.filter(|_| !gre),
    }
}

/// Bytes of the outer headers that the kernel makes.
fn outer_len(key: &PoolKey) -> usize {
    let ip = if key.ipv6 { ipv6::HEADER_LEN } else { ipv4::MIN_HEADER_LEN };
    ip + if key.gre { 0 } else { udp::HEADER_LEN }
}

fn tx_info(tunnel: &TunnelPort, out: &TunnelOut) -> TxInfo {
    let key = &out.key;
    let dst_port = if key.tp_dst != 0 { key.tp_dst } else { tunnel.spec.dst_port };
    let src = key.src();
    TxInfo {
        dst: SocketAddr::new(key.dst(), dst_port),
        src: (!src.is_unspecified() && src.is_ipv4() == key.dst().is_ipv4()).then_some(src),
        ifindex: 0,
        tos: Some(key.tos),
        ttl: (key.ttl != 0).then_some(key.ttl),
        segment: 0,
    }
}
