//! How does a virtual machine's memory become a port? vhost-user: the machine's process (QEMU) shares the machine's
//! memory over a socket, and the lanes read and write the rings of its virtio-net device (virtio 1.2 §5.1) there.
//!
//! ```text
//!   frontend (QEMU) ◀──socket──▶ session (a thread per port) ──sets up──▶ queues ◀──lanes──▶ guest's memory
//!         └───────────kick (eventfd)──────────▶ a lane's shard (epoll in epoll)       │
//!         ◀───────────call (eventfd)───────────────────────────────────────────────────┘
//! ```
//!
//! Nothing that comes by the socket or stands in the memory is believed. A ring that makes no sense is not looked at
//! any more, and the port's other rings and other ports work on. What remains in the frontend's power (not in its
//! guest's): its eventfds are made nonblocking when they come, and it could undo that and fill the counter, so that a
//! lane waits when it writes to it.

#[cfg(test)]
mod driver;
mod frames;
mod frontend;
mod memory;
mod queue;
mod ring;
mod session;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use weft_flow::{DpPort, DropReason};
use weft_host::poll::{Epoll, Event};

use super::{Received, Takes};
use crate::contract::{PortChanged, Result, VhostSpec};
use crate::packet::{Packet, Pool, Slot};
use crate::shared::lock;
use queue::Queue;
use session::Session;

/// Pairs of queues a device may have.
pub(super) const PAIRS: usize = 16;
/// Frames of one batch may have this many bytes in all, so that they are still in the cache when they are sent.
const BATCH_BYTES: usize = 256 * 1024;

/// Feature bits (virtio 1.2 §5.1.3, §6).
pub(super) mod feature {
    pub(crate) const CSUM: u64 = 1 << 0;
    pub(crate) const GUEST_CSUM: u64 = 1 << 1;
    pub(crate) const GUEST_TSO4: u64 = 1 << 7;
    pub(crate) const GUEST_TSO6: u64 = 1 << 8;
    pub(crate) const GUEST_ECN: u64 = 1 << 9;
    pub(crate) const HOST_TSO4: u64 = 1 << 11;
    pub(crate) const HOST_TSO6: u64 = 1 << 12;
    pub(crate) const HOST_ECN: u64 = 1 << 13;
    pub(crate) const MRG_RXBUF: u64 = 1 << 15;
    /// The control queue is the frontend's to serve; these say that this side has nothing against it.
    pub(crate) const CTRL_VQ: u64 = 1 << 17;
    pub(crate) const CTRL_RX: u64 = 1 << 18;
    pub(crate) const GUEST_ANNOUNCE: u64 = 1 << 21;
    pub(crate) const MQ: u64 = 1 << 22;
    pub(crate) const ANY_LAYOUT: u64 = 1 << 27;
    pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
    pub(crate) const EVENT_IDX: u64 = 1 << 29;
    pub(crate) const PROTOCOL_FEATURES: u64 = 1 << 30;
    pub(crate) const VERSION_1: u64 = 1 << 32;
    pub(crate) const GUEST_USO4: u64 = 1 << 54;
    pub(crate) const GUEST_USO6: u64 = 1 << 55;
    pub(crate) const HOST_USO: u64 = 1 << 56;

    /// All that is offered.
    pub(crate) const OFFERED: u64 = CSUM
        | GUEST_CSUM
        | GUEST_TSO4
        | GUEST_TSO6
        | GUEST_ECN
        | HOST_TSO4
        | HOST_TSO6
        | HOST_ECN
        | MRG_RXBUF
        | CTRL_VQ
        | CTRL_RX
        | GUEST_ANNOUNCE
        | MQ
        | ANY_LAYOUT
        | INDIRECT_DESC
        | EVENT_IDX
        | PROTOCOL_FEATURES
        | VERSION_1
        | GUEST_USO4
        | GUEST_USO6
        | HOST_USO;
}

/// A lane's part of the port: the queues whose frames it receives.
struct Shard {
    /// The doorbells of those queues, edge-triggered: they are never read, so that nobody can have a lane wait.
    epoll: Epoll,
    /// The pair that is looked at first, next time.
    first: AtomicUsize,
}

/// What lanes and the session share.
pub(super) struct Device {
    /// Odd ones are what the guest sends, even ones what it receives.
    queues: Box<[Mutex<Queue>]>,
    shards: Box<[Shard]>,
    /// The shard of pair 0; the others follow.
    lane: usize,
    /// Pairs whose receiving queue works, as bits.
    receiving: AtomicU32,
    /// Pairs whose sending queue works, as bits.
    sending: AtomicU32,
    /// What was agreed on, as of now.
    features: AtomicU64,
    /// Rings that made no sense, since the port was opened.
    broken: AtomicU64,
    number: DpPort,
    changed: OnceLock<PortChanged>,
    spec: VhostSpec,
    status: Mutex<session::Status>,
}

impl Device {
    /// The shard of a pair of queues.
    fn shard_of(&self, pair: usize) -> usize {
        (self.lane + pair) % self.shards.len()
    }

    /// Tells the switch that the port is not what it was.
    fn tell(&self) {
        if let Some(changed) = self.changed.get() {
            changed(self.number);
        }
    }

    /// A queue has been found to make no sense.
    fn note_broken(&self, index: usize) {
        self.broken.fetch_add(1, Relaxed);
        let set = if index.is_multiple_of(2) { &self.receiving } else { &self.sending };
        set.fetch_and(!(1 << (index / 2)), Relaxed);
        self.tell();
    }
}

/// A vhost-user port.
pub(crate) struct VhostDevice {
    device: Arc<Device>,
    session: Arc<Session>,
    thread: Option<JoinHandle<()>>,
}

impl VhostDevice {
    /// Begins to connect, or to listen. `lane` is the first that receives.
    pub(crate) fn open(
        number: DpPort,
        spec: &VhostSpec,
        lanes: usize,
        lane: usize,
        changed: Option<PortChanged>,
    ) -> Result<Self> {
        let host = |what: &str| {
            let what = format!("{what} {}", spec.path.display());
            move |e: io::Error| crate::contract::Error::os(what, e)
        };
        let shard = |_| Ok(Shard { epoll: Epoll::new()?, first: AtomicUsize::new(0) });
        let shards = (0..lanes.max(1)).map(shard).collect::<io::Result<_>>();
        let device = Arc::new(Device {
            queues: (0..2 * PAIRS).map(|_| Mutex::default()).collect(),
            shards: shards.map_err(host("serve"))?,
            lane,
            receiving: AtomicU32::new(0),
            sending: AtomicU32::new(0),
            features: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            number,
            changed: changed.map_or_else(OnceLock::new, OnceLock::from),
            spec: spec.clone(),
            status: Mutex::default(),
        });
        let session = Arc::new(Session::open(spec).map_err(host("listen on"))?);
        let (of_thread, theirs) = (Arc::clone(&session), Arc::clone(&device));
        let thread = std::thread::Builder::new().name("weft-vhost".into()).stack_size(512 << 10);
        let thread = thread.spawn(move || of_thread.run(&theirs)).map_err(host("start a thread for"))?;
        Ok(VhostDevice { device, session, thread: Some(thread) })
    }

    /// What a lane sleeps on.
    pub(crate) fn epoll(&self, shard: usize) -> &Epoll {
        &self.device.shards[shard].epoll
    }

    pub(crate) fn takes(&self) -> Takes {
        let agreed = frames::Agreed::new(self.device.features.load(Relaxed));
        // Headers are written by `send`; the buffer's room before the frame is not used.
        let prefix = if agreed.takes_offloads() { weft_host::tun::VNET_HDR_LEN } else { 0 };
        Takes { prefix, uso: agreed.has(feature::GUEST_USO4 | feature::GUEST_USO6) }
    }

    /// Whether frames pass.
    pub(crate) fn link_up(&self) -> bool {
        self.device.receiving.load(Relaxed) & self.device.sending.load(Relaxed) != 0
    }

    /// What there is to tell of it, in the words of the Interface table's `status`.
    pub(crate) fn status(&self) -> Vec<(String, String)> {
        session::status(&self.device)
    }

    /// Receives what a shard's queues have; see [`super::Source::receive`].
    pub(crate) fn receive(&self, shard: usize, slots: &mut [Packet], port: DpPort) -> Received {
        let device = &*self.device;
        let Some(own) = device.shards.get(shard) else { return Received::GONE };
        // Doorbells that rang are silent again by this.
        let mut events = [Event::EMPTY; 2 * PAIRS];
        let rang = own.epoll.wait(&mut events, Some(0)).map_or(&[][..], |events| events);
        for event in rang {
            let index = event.token() as usize;
            if index.is_multiple_of(2) {
                self.send_waiting(index);
            }
        }
        let (mut frames, mut bytes, mut more) = (0, 0, false);
        let first = own.first.fetch_add(1, Relaxed);
        let sending = device.sending.load(Relaxed);
        for pair in (0..PAIRS).map(|n| (n + first) % PAIRS) {
            if sending & (1 << pair) == 0 || device.shard_of(pair) != shard {
                continue;
            }
            let index = 2 * pair + 1;
            let mut queue = lock(&device.queues[index]);
            match queue.receive(slots, &mut frames, &mut bytes, BATCH_BYTES, port) {
                Ok(left) => more |= left,
                Err(ring::Broken) => device.note_broken(index),
            }
        }
        Received { frames, more, gone: false }
    }

    /// The guest added buffers.
    fn send_waiting(&self, index: usize) {
        if let Some(queue) = self.device.queues.get(index)
            && lock(queue).send_waiting().is_err()
        {
            self.device.note_broken(index);
        }
    }

    /// Sends all frames; tells which went (or wait for the guest) and why others did not.
    pub(crate) fn send(
        &self,
        pool: &Pool,
        slots: &[Slot],
        mut on_sent: impl FnMut(Slot),
        mut on_error: impl FnMut(DropReason),
    ) {
        let device = &*self.device;
        let receiving = device.receiving.load(Relaxed);
        let pairs = receiving.count_ones();
        if pairs == 0 {
            slots.iter().for_each(|_| on_error(DropReason::PortDown));
            return;
        }
        // Frames of one flow go by one queue, in order.
        let mut left = receiving;
        for turn in 0..pairs {
            let pair = left.trailing_zeros() as usize;
            left &= left - 1;
            let is_here = |slot: &Slot| pairs == 1 || pool.get(*slot).flow_hash % pairs == turn;
            let mine = slots.iter().copied().filter(is_here);
            let mut queue = lock(&device.queues[2 * pair]);
            if queue.send(mine.map(|slot| (slot, pool.get(slot))), &mut on_sent, &mut on_error).is_err() {
                device.note_broken(2 * pair);
            }
        }
    }
}

impl Drop for VhostDevice {
    fn drop(&mut self) {
        self.session.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
