//! For tests: the guest's side. Memory, rings and buffers as a driver has them, and a frontend that shares them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vhost::vhost_user::{Frontend as Socket, VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;
use weft_host::sharedmap::SharedMap;

use super::feature;
use super::memory::{Memory, Region, RegionSpec};
use super::ring::{Places, Ring};

/// Descriptors of each ring.
pub(super) const SIZE: u16 = 64;
/// Bytes of the guest's memory, and where the guest and the frontend see it.
pub(super) const LEN: u64 = 4 << 20;
pub(super) const GUEST: u64 = 0x4000_0000;
pub(super) const USER: u64 = 0x7f00_0000_0000;
/// Bytes of each buffer; buffer `i` of ring `r` is at `buffer(r, i)`.
pub(super) const BUFFER: u32 = 2048;

const RINGS: u64 = 0x1000;
const DRIVER: u64 = 0x800;
const DEVICE: u64 = 0xa00;
const BUFFERS: u64 = 0x10_0000;

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;

/// A guest that drives the rings of its device by hand.
pub(super) struct Driver {
    pub(super) file: File,
    map: SharedMap,
    /// By ring: the index of the next chain to offer, and of the next to take back.
    pub(super) offered: Vec<u16>,
    taken: Vec<u16>,
    pub(super) kicks: Vec<EventFd>,
    pub(super) calls: Vec<EventFd>,
}

impl Driver {
    pub(super) fn new(rings: usize) -> Driver {
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN).unwrap();
        let map = SharedMap::new(&file, 0, LEN).unwrap();
        let bells = || (0..rings).map(|_| EventFd::new(libc::EFD_NONBLOCK).unwrap()).collect();
        let (offered, taken) = (vec![0; rings], vec![0; rings]);
        Driver { file, map, offered, taken, kicks: bells(), calls: bells() }
    }

    /// The guest's memory as the device would have it.
    pub(super) fn memory(&self) -> Arc<Memory> {
        let spec = RegionSpec { guest: GUEST, user: USER, len: LEN, offset: 0 };
        Arc::new(Memory::new(vec![Region::new(spec, &self.file).unwrap()]).unwrap())
    }

    /// A ring as the device would have it.
    pub(super) fn ring(&self, ring: usize, event_idx: bool) -> Ring {
        let at = GUEST + Self::place(ring);
        let places = Places { descriptors: at, driver: at + DRIVER, device: at + DEVICE };
        Ring::new(self.memory(), SIZE, places, 0, event_idx).unwrap()
    }

    fn place(ring: usize) -> u64 {
        ring as u64 * RINGS
    }

    /// Where a buffer is, by the guest's addresses.
    pub(super) fn buffer(ring: usize, index: u16) -> u64 {
        GUEST + BUFFERS + (ring as u64 * u64::from(SIZE) + u64::from(index)) * u64::from(BUFFER)
    }

    pub(super) fn write(&self, at: u64, bytes: &[u8]) {
        let to = self.map.range(at, bytes.len()).expect("inside");
        // SAFETY: inside the mapping; nobody has references into it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }

    pub(super) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let from = self.map.range(at, len).expect("inside");
        let mut bytes = vec![0; len];
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), bytes.as_mut_ptr(), len) };
        bytes
    }

    fn number(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.read(at, 2).try_into().unwrap())
    }

    /// Writes a descriptor.
    pub(super) fn describe(&self, ring: usize, index: u16, at: u64, len: u32, flags: u16, next: u16) {
        self.write(Self::place(ring) + 16 * u64::from(index), &descriptor(at, len, flags, next));
    }

    /// Offers the chain that begins with a descriptor.
    pub(super) fn offer(&mut self, ring: usize, head: u16) {
        let driver = Self::place(ring) + DRIVER;
        let slot = u64::from(self.offered[ring] % SIZE);
        self.write(driver + 4 + 2 * slot, &head.to_le_bytes());
        self.offered[ring] = self.offered[ring].wrapping_add(1);
        self.write(driver + 2, &self.offered[ring].to_le_bytes());
    }

    /// Says that there are more chains than there are.
    pub(super) fn claim(&self, ring: usize, index: u16) {
        self.write(Self::place(ring) + DRIVER + 2, &index.to_le_bytes());
    }

    /// Offers a frame in pieces, each in a buffer of its own, from descriptor `head` on.
    pub(super) fn send(&mut self, ring: usize, head: u16, pieces: &[&[u8]]) {
        for (n, piece) in pieces.iter().enumerate() {
            let index = head + n as u16;
            let flags = if n + 1 < pieces.len() { NEXT } else { 0 };
            self.write(Self::buffer(ring, index) - GUEST, piece);
            let at = Self::buffer(ring, index);
            self.describe(ring, index, at, piece.len() as u32, flags, index + 1);
        }
        self.offer(ring, head);
    }

    /// Offers buffers to receive into.
    pub(super) fn offer_buffers(&mut self, ring: usize, indexes: std::ops::Range<u16>) {
        for index in indexes {
            self.describe(ring, index, Self::buffer(ring, index), BUFFER, WRITE, 0);
            self.offer(ring, index);
        }
    }

    /// Whether the device wants to be told of what was added since there were `before` chains
    /// (`VIRTIO_RING_F_EVENT_IDX`).
    pub(super) fn is_wanted(&self, ring: usize, before: u16) -> bool {
        let event = self.number(Self::place(ring) + DEVICE + 4 + 8 * u64::from(SIZE));
        let added = self.offered[ring];
        added.wrapping_sub(event).wrapping_sub(1) < added.wrapping_sub(before)
    }

    /// The next chain that the device gave back: its head, and how much was written.
    pub(super) fn take(&mut self, ring: usize) -> Option<(u16, u32)> {
        let device = Self::place(ring) + DEVICE;
        if self.number(device + 2) == self.taken[ring] {
            return None;
        }
        let element = self.read(device + 4 + 8 * u64::from(self.taken[ring] % SIZE), 8);
        self.taken[ring] = self.taken[ring].wrapping_add(1);
        let word = |at: usize| u32::from_le_bytes(element[at..at + 4].try_into().unwrap());
        Some((word(0) as u16, word(4)))
    }

    /// The next frame that was received, its header before it.
    pub(super) fn received(&mut self, ring: usize) -> Option<Vec<u8>> {
        let (head, len) = self.take(ring)?;
        let mut frame = self.read(Self::buffer(ring, head) - GUEST, len as usize);
        let buffers = u16::from_le_bytes([frame[10], frame[11]]);
        for _ in 1..buffers {
            let (head, len) = self.take(ring).expect("as many buffers as the header says");
            frame.extend(self.read(Self::buffer(ring, head) - GUEST, len as usize));
        }
        Some(frame)
    }

    /// Shares everything by a socket, as QEMU does, and has the device work.
    pub(super) fn connect(&self, stream: std::os::unix::net::UnixStream) -> Socket {
        let rings = self.kicks.len();
        self.enable_early(&stream, 0);
        let mut socket = Socket::from_stream(stream, rings as u64);
        socket.set_owner().unwrap();
        let features = socket.get_features().unwrap();
        socket.set_features(features).unwrap();
        let protocol = socket.get_protocol_features().unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK));
        socket.set_protocol_features(protocol).unwrap();
        assert_eq!(socket.get_queue_num().unwrap(), super::PAIRS as u64);
        socket.set_mem_table(&[self.region()]).unwrap();
        for ring in 0..rings {
            self.set_up(&mut socket, ring);
        }
        assert!(features & feature::VERSION_1 != 0);
        socket
    }

    /// Enables a queue before anything was agreed on, as QEMU does, and asks for an answer.
    fn enable_early(&self, mut stream: &std::os::unix::net::UnixStream, ring: u8) {
        stream.write_all(&[18, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, ring, 0, 0, 0, 1, 0, 0, 0]).unwrap();
        let mut reply = [0; 20];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [18, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    pub(super) fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: LEN,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }

    pub(super) fn set_up(&self, socket: &mut Socket, ring: usize) {
        let at = USER + Self::place(ring);
        socket.set_vring_num(ring, SIZE).unwrap();
        socket.set_vring_base(ring, self.taken[ring]).unwrap();
        let config = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: at,
            avail_ring_addr: at + DRIVER,
            used_ring_addr: at + DEVICE,
            log_addr: None,
        };
        socket.set_vring_addr(ring, &config).unwrap();
        socket.set_vring_call(ring, &self.calls[ring]).unwrap();
        socket.set_vring_kick(ring, &self.kicks[ring]).unwrap();
        socket.set_vring_enable(ring, true).unwrap();
    }
}

pub(super) fn descriptor(at: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&at.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

/// Waits until something is so.
pub(super) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The next frontend that connects, or that is connected to.
pub(super) fn accept(path: &Path) -> std::os::unix::net::UnixListener {
    let _ = std::fs::remove_file(path);
    std::os::unix::net::UnixListener::bind(path).unwrap()
}
