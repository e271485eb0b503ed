//! How are the frames of an existing device read and written (packet(7))?
//!
//! With `vnet_hdr`, each frame is preceded in its buffer by a virtio_net_hdr of
//! [`PacketSocket::vnet_hdr_len`] bytes, so GSO frames of up to 64 KiB cross whole, as on a [`crate::tun::Tap`].
//! A VLAN tag that the kernel took out of the frame is reported in [`FrameInfo::vlan`]; the caller puts it back.
//! Frames sent by this host out of the device are not received, only those that come in by it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::cmsg;
use crate::error::Context;
use crate::mmsg::Headers;
use crate::sys::{cvt, getsockopt_int, set_buffer, setsockopt, socket};

const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_QDISC_BYPASS: libc::c_int = 20;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const PACKET_VNET_HDR_SZ: libc::c_int = 24;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const ETH_P_8021Q: u16 = 0x8100;
/// The header without `num_buffers`, which kernels before 6.4 speak.
const SHORT_VNET_HDR_LEN: usize = 10;

/// `struct tpacket_auxdata` of <linux/if_packet.h>.
#[derive(Clone, Copy)]
#[repr(C)]
struct Auxdata {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

const RX_CONTROL: usize = cmsg::space(size_of::<Auxdata>());

/// How to open a [`PacketSocket`].
#[derive(Debug, Clone)]
pub struct PacketOptions {
    /// Prefix frames with virtio_net_hdr, both ways.
    pub vnet_hdr: bool,
    /// See frames to any MAC address.
    pub promiscuous: bool,
    /// Send straight to the driver: no queueing discipline, hence no shaping and no capture of what is sent.
    pub qdisc_bypass: bool,
    /// Receive frames; false opens a socket that only sends.
    pub receive: bool,
    /// Receive buffer in bytes; 0 leaves the system's.
    pub recv_buffer: usize,
    /// Send buffer in bytes; 0 leaves the system's.
    pub send_buffer: usize,
    /// Spread frames over all sockets that give the same id for the device, by flow hash (PACKET_FANOUT).
    pub fanout: Option<u16>,
}

impl Default for PacketOptions {
    fn default() -> Self {
        Self {
            vnet_hdr: true,
            promiscuous: true,
            qdisc_bypass: false,
            receive: true,
            recv_buffer: 8 << 20,
            send_buffer: 4 << 20,
            fanout: None,
        }
    }
}

/// A VLAN tag found outside the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// Tag protocol: 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority, DEI and VLAN id.
    pub tci: u16,
}

/// What the kernel tells about a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// Bytes in the buffer, virtio_net_hdr included.
    pub len: usize,
    /// The outermost tag, if the kernel or the NIC took it out; it belongs after the source MAC.
    pub vlan: Option<VlanTag>,
    /// The frame was longer than the buffer.
    pub truncated: bool,
}

/// A raw socket on one device.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    ifindex: u32,
    vnet_hdr_len: usize,
    /// Sends what has a priority where the kernel takes none with a frame.
    by_priority: Mutex<Option<Box<PacketSocket>>>,
}

/// Whether the kernel takes a priority with each frame, as Linux does from 6.14 on; believed until it refuses.
static PRIORITY_BY_FRAME: AtomicBool = AtomicBool::new(true);

impl PacketSocket {
    /// Opens a nonblocking socket on the device `ifindex` of this thread's network namespace.
    pub fn open(ifindex: u32, options: &PacketOptions) -> Result<Self> {
        let what = |deed: &str| format!("{deed} packet socket on device {ifindex}");
        // Protocol 0: nothing arrives before the socket is bound to its device.
        let fd = socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0).context(|| what("open"))?;
        let mut this = Self { fd, ifindex, vnet_hdr_len: 0, by_priority: Mutex::new(None) };
        this.set(PACKET_IGNORE_OUTGOING, 1).context(|| what("ignore outgoing frames on"))?;
        this.set(libc::PACKET_AUXDATA, 1).context(|| what("ask for VLAN tags on"))?;
        if options.vnet_hdr {
            this.enable_vnet_hdr().context(|| what("enable virtio_net_hdr on"))?;
        }
        if options.qdisc_bypass {
            this.set(PACKET_QDISC_BYPASS, 1).context(|| what("bypass queueing on"))?;
        }
        let fd = this.fd.as_fd();
        set_buffer(fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.recv_buffer)
            .context(|| what("size receive buffer of"))?;
        set_buffer(fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.send_buffer)
            .context(|| what("size send buffer of"))?;
        this.bind(options.receive).context(|| what("bind"))?;
        if options.promiscuous && options.receive {
            this.promiscuous().context(|| what("make promiscuous"))?;
        }
        if let Some(id) = options.fanout {
            this.set(libc::PACKET_FANOUT, libc::c_int::from(id)).context(|| what("join fanout on"))?;
        }
        Ok(this)
    }

    fn set(&self, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        setsockopt(self.fd.as_fd(), libc::SOL_PACKET, option, value)
    }

    fn enable_vnet_hdr(&mut self) -> io::Result<()> {
        let long = crate::tun::VNET_HDR_LEN;
        if self.set(PACKET_VNET_HDR_SZ, long as libc::c_int).is_ok() {
            self.vnet_hdr_len = long;
            return Ok(());
        }
        self.set(PACKET_VNET_HDR, 1)?;
        self.vnet_hdr_len = SHORT_VNET_HDR_LEN;
        Ok(())
    }

    fn bind(&self, receive: bool) -> io::Result<()> {
        // SAFETY: plain data for which zero is valid.
        let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        addr.sll_family = libc::AF_PACKET as u16;
        addr.sll_protocol = if receive { (libc::ETH_P_ALL as u16).to_be() } else { 0 };
        addr.sll_ifindex = self.ifindex as libc::c_int;
        // SAFETY: pointer and length describe the live local.
        let ret = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const addr).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        cvt(ret).map(drop)
    }

    fn promiscuous(&self) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: self.ifindex as libc::c_int,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        setsockopt(self.fd.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, request)
    }

    /// The device's index.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Bytes of virtio_net_hdr before each frame: 12, 10 on kernels before 6.4, 0 without `vnet_hdr`.
    pub fn vnet_hdr_len(&self) -> usize {
        self.vnet_hdr_len
    }

    /// Takes the pending error, for example ENETDOWN after the device went down, or ENODEV after it went away.
    pub fn take_error(&self) -> io::Result<()> {
        match getsockopt_int(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR)? {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Frames the socket received and those it lost for want of buffer, since the last call.
    pub fn take_statistics(&self) -> io::Result<(u32, u32)> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: both pointers are to live locals and `len` tells the kernel the room.
        let ret = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        };
        cvt(ret).map(|_| (stats.tp_packets, stats.tp_drops))
    }

    /// Receives waiting frames, one to each of `bufs` in turn, and returns how many; see [`PacketRx::info`].
    ///
    /// `WouldBlock` when none waits; other errors are the socket's pending error (ENETDOWN).
    pub fn recv<B: AsMut<[u8]>>(&self, rx: &mut PacketRx, bufs: &mut [B]) -> io::Result<usize> {
        rx.0.recv(self.fd.as_fd(), bufs)
    }

    /// Sends `bufs`, each a whole frame (virtio_net_hdr first, if enabled), and returns how many went.
    ///
    /// An error is of the first frame, and none went: `WouldBlock` (send buffer full), ENOBUFS (the queue dropped
    /// it), EMSGSIZE (over the MTU and not GSO), EINVAL (bad header), ENETDOWN. To go on, skip that frame.
    pub fn send<B: AsRef<[u8]>>(&self, tx: &mut PacketTx, bufs: &[B]) -> io::Result<usize> {
        tx.0.send(self.fd.as_fd(), bufs)
    }

    /// As [`PacketSocket::send`], with a mark for each frame: those that `marks` has none for go as there.
    pub fn send_marked<B: AsRef<[u8]>>(
        &self,
        tx: &mut PacketTx,
        bufs: &[B],
        marks: &[FrameMark],
    ) -> io::Result<usize> {
        let most = tx.0.len();
        let ranked = marks.iter().take(most).any(|mark| mark.priority != 0);
        if ranked && !PRIORITY_BY_FRAME.load(Relaxed) {
            return self.send_by_priority(tx, bufs, marks);
        }
        let marked =
            || marks.iter().enumerate().take(most).filter(|(_, mark)| **mark != FrameMark::default());
        for (i, mark) in marked() {
            tx.0.attach(i, |control| {
                let end = match mark.priority {
                    0 => 0,
                    priority => cmsg::push(control, 0, libc::SOL_SOCKET, libc::SO_PRIORITY, priority),
                };
                cmsg::push(control, end, libc::SOL_SOCKET, libc::SO_MARK, mark.mark)
            });
        }
        let sent = tx.0.send(self.fd.as_fd(), bufs);
        marked().for_each(|(i, _)| tx.0.attach(i, |_| 0));
        match sent {
            Err(e) if ranked && e.kind() == io::ErrorKind::InvalidInput => {
                PRIORITY_BY_FRAME.store(false, Relaxed);
                self.send_by_priority(tx, bufs, marks)
            }
            sent => sent,
        }
    }

    /// Sends the first frames, those of one priority, by a socket that has it.
    fn send_by_priority<B: AsRef<[u8]>>(
        &self,
        tx: &mut PacketTx,
        bufs: &[B],
        marks: &[FrameMark],
    ) -> io::Result<usize> {
        let Some(first) = marks.first() else { return self.send(tx, bufs) };
        let run = marks.iter().take_while(|mark| mark.priority == first.priority).count().min(tx.0.len());
        let bufs = &bufs[..run.min(bufs.len())];
        let plain: Vec<FrameMark> =
            marks[..run].iter().map(|mark| FrameMark { priority: 0, ..*mark }).collect();
        if first.priority == 0 {
            return self.send_marked(tx, bufs, &plain);
        }
        let mut other = self.by_priority.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match &mut *other {
            Some(socket) => socket,
            none => {
                let vnet_hdr = self.vnet_hdr_len != 0;
                let options =
                    PacketOptions { vnet_hdr, receive: false, recv_buffer: 0, ..PacketOptions::default() };
                none.insert(Box::new(PacketSocket::open(self.ifindex, &options).map_err(io::Error::other)?))
            }
        };
        setsockopt(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY, first.priority as libc::c_int)?;
        socket.send_marked(tx, bufs, &plain)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A thread's header arrays for receiving; serves any number of sockets in turn.
pub struct PacketRx(Headers<RX_CONTROL>);

impl PacketRx {
    /// Arrays for batches of up to `size` frames.
    pub fn new(size: usize) -> Self {
        Self(Headers::new(size, false))
    }

    /// What is known of the `i`th frame of the last [`PacketSocket::recv`].
    pub fn info(&self, i: usize) -> FrameInfo {
        let (control, len) = self.0.control(i);
        let aux = cmsg::items(control, len)
            .find(|(level, kind, _)| *level == libc::SOL_PACKET && *kind == libc::PACKET_AUXDATA)
            .and_then(|(_, _, data)| cmsg::value::<Auxdata>(data));
        let vlan = aux.filter(|a| a.status & TP_STATUS_VLAN_VALID != 0).map(|a| VlanTag {
            tpid: if a.status & TP_STATUS_VLAN_TPID_VALID != 0 { a.vlan_tpid } else { ETH_P_8021Q },
            tci: a.vlan_tci,
        });
        FrameInfo { len: self.0.received(i), vlan, truncated: self.0.truncated(i) }
    }
}

/// What the host's network stack is told of a frame that is sent, by which queueing disciplines and filters choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameMark {
    /// `skb->priority`; 0: the default.
    pub priority: u32,
    /// `skb->mark`; 0: none.
    pub mark: u32,
}

const TX_CONTROL: usize = 2 * cmsg::space(size_of::<u32>());

/// A thread's header arrays for sending; serves any number of sockets in turn.
pub struct PacketTx(Headers<TX_CONTROL>);

impl PacketTx {
    /// Arrays for batches of up to `size` frames.
    pub fn new(size: usize) -> Self {
        Self(Headers::new(size, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Netlink, QueueShape, Shaping, VethEnd, class_of};
    use crate::netns::NetNs;

    /// Sends frames of these priorities; returns how many the kernel queued under class 5.
    fn queued(priorities: &[u32]) -> u64 {
        let mut netlink = Netlink::open().unwrap();
        netlink.add_veth(&VethEnd::named("d0"), &VethEnd::named("d1")).unwrap();
        let (index, other) = (netlink.index_of("d0").unwrap(), netlink.index_of("d1").unwrap());
        netlink.set_up(index, true).unwrap();
        netlink.set_up(other, true).unwrap();
        let queue = |id| QueueShape { id, ..QueueShape::default() };
        let shaping = Shaping { max_rate: 1_000_000_000, queues: vec![queue(0), queue(5)] };
        netlink.shape(index, 1500, &shaping).unwrap();
        let socket = PacketSocket::open(index, &PacketOptions::default()).unwrap();
        let mut frame = vec![0; socket.vnet_hdr_len()];
        frame.extend([0xff; 6].iter().chain(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]).chain(&[0; 46]));
        let frames = vec![frame; priorities.len()];
        let marks: Vec<_> =
            priorities.iter().map(|priority| FrameMark { priority: *priority, mark: 0 }).collect();
        let (mut tx, mut at) = (PacketTx::new(8), 0);
        while at < frames.len() {
            at += socket.send_marked(&mut tx, &frames[at..], &marks[at..]).unwrap();
        }
        netlink.queue_counts(index).unwrap().iter().find(|(id, _)| *id == 5).unwrap().1.packets
    }

    #[test]
    fn priorities_are_told_with_frames_or_by_another_socket() {
        let five = class_of(5);
        for by_frame in [true, false] {
            let ns = NetNs::unnamed("priorities").unwrap();
            PRIORITY_BY_FRAME.store(by_frame, Relaxed);
            let queued = ns.run(|| queued(&[five, 0, five, five, 0])).unwrap();
            assert_eq!(queued, 3, "with frames: {by_frame}");
        }
    }
}
