//! How does each kind of port read and write frames?
//!
//! A [`Port`] is shared by all lanes: any of them may send by it, and it counts for each lane apart. Receiving is
//! one lane's: [`Source`] is what that lane owns.

mod device;
mod pcap;
mod tap;
mod vhost;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use smallvec::SmallVec;
use weft_flow::{DpPort, DropReason};
use weft_host::netlink::Netlink;
use weft_host::packet::{PacketRx, PacketTx};
use weft_host::udp::DatagramRx;

pub(crate) use device::Device;
pub(crate) use pcap::Replay;
pub use pcap::{PcapError, parse_pcap};
pub(crate) use tap::TapDevice;
pub(crate) use vhost::VhostDevice;

use crate::batch::Batch;
use crate::contract::{DropCounts, Error, PortInfo, PortKind, PortSpec, PortStats, Result};
use crate::executor::Executor;
use crate::packet::{BATCH, Packet, Pool, Slot};
use crate::police::Policer;
use crate::stats::PortCounters;
use crate::tunnel::{Demux, ListenKey, Listener, TunnelPort};

/// Number of ports a datapath may have.
pub(crate) const MAX_PORTS: u32 = 65_536;

/// A port, as all lanes see it.
pub(crate) struct Port {
    pub(crate) number: DpPort,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) io: Io,
    /// Largest layer-3 packet; 0: not known, and then the kernel is left to say.
    pub(crate) mtu: AtomicU32,
    /// The lane that receives.
    pub(crate) lane: usize,
    /// What it may take in; `None`: anything.
    pub(crate) policer: ArcSwapOption<Policer>,
    /// By lane.
    pub(crate) counters: Box<[PortCounters]>,
}

/// How a port sends.
pub(crate) enum Io {
    /// Counts.
    Null,
    /// AF_PACKET.
    Device(Device),
    /// TAP, `internal` or not.
    Tap(TapDevice),
    /// A virtual machine's memory.
    Vhost(VhostDevice),
    /// Over the host's IP stack; see [`crate::tunnel`].
    Tunnel(TunnelPort),
}

/// What a port leaves to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Takes {
    /// Bytes of virtio_net_hdr before each frame; 0: only finished frames.
    pub(crate) prefix: usize,
    /// UDP to be cut into datagrams.
    pub(crate) uso: bool,
}

/// A lane's tools for system calls on batches; they serve all ports in turn.
pub(crate) struct Tools {
    pub(crate) packet_rx: PacketRx,
    pub(crate) packet_tx: PacketTx,
    pub(crate) datagram_rx: DatagramRx,
}

impl Tools {
    pub(crate) fn new() -> Self {
        Tools {
            packet_rx: PacketRx::new(BATCH),
            packet_tx: PacketTx::new(BATCH),
            datagram_rx: DatagramRx::new(BATCH),
        }
    }
}

impl Port {
    /// Opens a port that is neither tunnel nor vhost-user.
    pub(crate) fn open(number: DpPort, spec: &PortSpec, lanes: usize) -> Result<(Port, Option<Replay>)> {
        let (mut mtu, mut replay) = (0, None);
        let io = match &spec.kind {
            PortKind::Null => Io::Null,
            PortKind::Pcap(pcap) => {
                replay = Some(Replay::new(pcap));
                Io::Null
            }
            PortKind::Device => {
                let device = Device::open(&spec.name)?;
                mtu = device.mtu;
                Io::Device(device)
            }
            PortKind::Internal { mac, mtu: wanted } => {
                let (tap, actual) = TapDevice::open(&spec.name, *mac, *wanted)?;
                mtu = actual;
                Io::Tap(tap)
            }
            PortKind::Tap => {
                let (tap, actual) = TapDevice::open(&spec.name, None, None)?;
                mtu = actual;
                Io::Tap(tap)
            }
            PortKind::Tunnel(_) | PortKind::Vhost(_) => return Err(Error::Unsupported(spec.kind.name())),
        };
        Ok((Port::new(number, spec, io, mtu, lanes), replay))
    }

    /// A port that sends by `io`.
    pub(crate) fn new(number: DpPort, spec: &PortSpec, io: Io, mtu: u32, lanes: usize) -> Port {
        Port {
            number,
            name: spec.name.clone(),
            kind: spec.kind.name(),
            io,
            mtu: AtomicU32::new(mtu),
            lane: 0,
            policer: ArcSwapOption::empty(),
            counters: (0..lanes).map(|_| PortCounters::default()).collect(),
        }
    }

    /// What may be left undone in frames sent by the port.
    pub(crate) fn takes(&self) -> Takes {
        match &self.io {
            // Nothing is too much for a port that forgets.
            Io::Null => Takes { prefix: weft_host::tun::VNET_HDR_LEN, uso: true },
            Io::Device(device) => device.takes(),
            Io::Tap(tap) => tap.takes(),
            Io::Vhost(vhost) => vhost.takes(),
            Io::Tunnel(_) => Takes { prefix: 0, uso: false },
        }
    }

    /// Sends finished frames (offload headers written before them) and counts them for `lane`.
    pub(crate) fn send(&self, tools: &mut Tools, pool: &Pool, slots: &[Slot], lane: usize) {
        let counters = &self.counters[lane];
        let mut sent = (0, 0);
        let mut on_sent = |slot: Slot| sent = (sent.0 + 1, sent.1 + pool.get(slot).len() as u64);
        let on_error = |error: &io::Error| counters.tx_drops.add(tx_error(error), 1);
        match &self.io {
            Io::Null => slots.iter().for_each(|slot| on_sent(*slot)),
            Io::Device(device) => device.send(&mut tools.packet_tx, pool, slots, on_sent, on_error),
            Io::Tap(tap) => {
                for slot in slots {
                    match tap.send(pool.get(*slot)) {
                        Ok(()) => on_sent(*slot),
                        Err(e) => on_error(&e),
                    }
                }
            }
            Io::Vhost(vhost) => {
                let on_drop = |reason| counters.tx_drops.add(reason, 1);
                vhost.send(pool, slots, on_sent, on_drop);
            }
            Io::Tunnel(_) => {}
        }
        counters.tx_packets.add(sent.0);
        counters.tx_bytes.add(sent.1);
    }

    /// Traffic, over all lanes.
    pub(crate) fn stats(&self) -> PortStats {
        let mut stats = PortStats::default();
        if let Io::Device(device) = &self.io {
            stats.rx_missed = device.missed();
        }
        for counters in &self.counters {
            stats.rx_packets += counters.rx_packets.get();
            stats.rx_bytes += counters.rx_bytes.get();
            stats.tx_packets += counters.tx_packets.get();
            stats.tx_bytes += counters.tx_bytes.get();
            for &reason in DropReason::ALL {
                let (rx, tx) = (counters.rx_drops.get(reason), counters.tx_drops.get(reason));
                let to_rx = if is_fault(reason) { &mut stats.rx_errors } else { &mut stats.rx_dropped };
                *to_rx += rx;
                let to_tx =
                    if reason == DropReason::TxError { &mut stats.tx_errors } else { &mut stats.tx_dropped };
                *to_tx += tx;
            }
        }
        stats
    }

    /// Adds the port's drops, over all lanes.
    pub(crate) fn sum_drops(&self, total: &mut DropCounts) {
        for counters in &self.counters {
            counters.rx_drops.sum_into(total);
            counters.tx_drops.sum_into(total);
        }
    }

    /// What is known of the port now.
    pub(crate) fn info(&self) -> PortInfo {
        let mut info = PortInfo {
            number: self.number,
            name: self.name.clone(),
            kind: self.kind,
            ifindex: None,
            mac: None,
            mtu: None,
            admin_up: true,
            link_up: true,
            offloads: self.takes().prefix != 0,
            driver: None,
            status: Vec::new(),
        };
        if let Io::Vhost(vhost) = &self.io {
            info.mtu = Some(self.mtu.load(Relaxed));
            info.link_up = vhost.link_up();
            info.status = vhost.status();
        }
        if let Io::Device(_) | Io::Tap(_) = self.io {
            self.ask_kernel(&mut info);
        }
        info
    }

    fn ask_kernel(&self, info: &mut PortInfo) {
        let link = Netlink::open().and_then(|mut netlink| match &self.io {
            Io::Device(device) => netlink.link_by_index(device.ifindex),
            _ => netlink.link(&self.name),
        });
        match link {
            Ok(link) => {
                self.mtu.store(link.mtu, Relaxed);
                info.ifindex = Some(link.index);
                info.mac = link.mac;
                info.mtu = Some(link.mtu);
                info.admin_up = link.admin_up;
                info.link_up = link.carrier;
                info.driver = link.kind;
            }
            // A TAP's device end that was moved to another namespace is that namespace's to describe.
            Err(_) if matches!(self.io, Io::Tap(_)) => self.mtu.store(0, Relaxed),
            Err(_) => (info.admin_up, info.link_up) = (false, false),
        }
    }
}

/// Whether a drop is the frame's own fault, as interface statistics tell errors from drops.
fn is_fault(reason: DropReason) -> bool {
    use DropReason::{BadOffloadHeader, FrameTooLong, MalformedFrame, TunnelBadChecksum, TunnelMalformed};
    matches!(reason, MalformedFrame | BadOffloadHeader | FrameTooLong | TunnelMalformed | TunnelBadChecksum)
}

/// Why the kernel refused a frame.
pub(crate) fn tx_error(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::TxQueueFull,
        Some(libc::EMSGSIZE) => DropReason::MtuExceeded,
        Some(libc::ENETDOWN | libc::EIO) => DropReason::PortDown,
        Some(libc::ENODEV | libc::ENXIO | libc::EBADFD) => DropReason::PortGone,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => DropReason::TunnelNoRoute,
        _ => DropReason::TxError,
    }
}

/// Frames as the kernel is handed them.
pub(crate) fn frames<'p>(pool: &'p Pool, slots: &[Slot], prefix: usize) -> SmallVec<[&'p [u8]; BATCH]> {
    slots.iter().map(|slot| pool.get(*slot).with_prefix(prefix)).collect()
}

/// What came of [`Source::receive`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Frames, in the first buffers of the batch.
    pub(crate) frames: usize,
    /// There may be more at once.
    pub(crate) more: bool,
    /// There will never be any more.
    pub(crate) gone: bool,
}

impl Received {
    /// Nothing now.
    pub(crate) const NOTHING: Received = Received { frames: 0, more: false, gone: false };
    /// Nothing ever again: the device is gone.
    pub(crate) const GONE: Received = Received { frames: 0, more: false, gone: true };
}

/// What a lane receives from.
pub(crate) enum Source {
    /// Frames from memory: always ready.
    Replay {
        /// The port they come in by.
        port: Arc<Port>,
        /// Which comes next.
        replay: Replay,
    },
    /// A device or TAP.
    Port(Arc<Port>),
    /// A lane's part of a vhost-user port's queues.
    Vhost {
        /// The port.
        port: Arc<Port>,
        /// Which part.
        shard: usize,
    },
    /// A socket on which tunnel ports listen.
    Underlay(Listener),
}

impl Source {
    /// Receives up to a batch into the first buffers of the pool, without waiting.
    ///
    /// Faulty frames have their fault noted in them, to be dropped and counted when they are parsed.
    pub(crate) fn receive(&mut self, exec: &mut Executor, batch: &mut Batch, demux: &mut Demux) -> Received {
        let lane = exec.lane;
        let slots = exec.pool.batch_mut();
        let (port, received) = match self {
            Source::Replay { port, replay } => {
                let frames = replay.receive(slots, port.number);
                (port, Received { frames, more: !replay.is_done(), gone: replay.is_done() })
            }
            Source::Port(port) => {
                let received = match &port.io {
                    Io::Device(device) => device.receive(&mut exec.tools.packet_rx, slots, port.number),
                    Io::Tap(tap) => tap.receive(slots, port.number),
                    Io::Null | Io::Tunnel(_) | Io::Vhost(_) => Received::GONE,
                };
                (port, received)
            }
            Source::Vhost { port, shard } => {
                let received = match &port.io {
                    Io::Vhost(vhost) => vhost.receive(*shard, slots, port.number),
                    _ => Received::GONE,
                };
                (port, received)
            }
            Source::Underlay(listener) => return listener.receive(exec, batch, demux),
        };
        let counters = &port.counters[lane];
        let bytes: usize = slots[..received.frames].iter().map(Packet::len).sum();
        counters.rx_packets.add(received.frames as u64);
        counters.rx_bytes.add(bytes as u64);
        if received.frames > 0 {
            batch.policer = port.policer.load_full();
        }
        received
    }

    /// What epoll is to watch; `None`: always ready.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Source::Replay { .. } => None,
            Source::Port(port) => match &port.io {
                Io::Device(device) => Some(device.socket.as_fd()),
                Io::Tap(tap) => Some(tap.tap.as_fd()),
                Io::Null | Io::Tunnel(_) | Io::Vhost(_) => None,
            },
            Source::Vhost { port, shard } => match &port.io {
                Io::Vhost(vhost) => Some(vhost.epoll(*shard).as_fd()),
                _ => None,
            },
            Source::Underlay(listener) => Some(listener.as_fd()),
        }
    }

    /// Whether this is the listening socket of that name.
    pub(crate) fn listens_on(&self, key: &ListenKey) -> bool {
        matches!(self, Source::Underlay(listener) if listener.key() == key)
    }

    /// The port whose frames these are; `None`: those of any tunnel.
    pub(crate) fn port(&self) -> Option<DpPort> {
        match self {
            Source::Replay { port, .. } | Source::Port(port) | Source::Vhost { port, .. } => {
                Some(port.number)
            }
            Source::Underlay(_) => None,
        }
    }
}
