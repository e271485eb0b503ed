//! How is a TUN/TAP device opened, with checksum and segmentation offloads?
//!
//! A TAP with `vnet_hdr` prefixes every frame, both ways, with a [`VNET_HDR_LEN`]-byte virtio_net_hdr
//! (`virtio_net_hdr_v1` layout, little endian on x86 and Arm), so that a 64 KiB TCP segment crosses in one call.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Result;
use crate::error::Context;
use crate::sys::{cvt, from_ifname, ifreq, ioctl};

/// Bytes of virtio_net_hdr before each frame when `vnet_hdr` is set.
pub const VNET_HDR_LEN: usize = 12;

const IFF_TUN_EXCL: libc::c_int = 0x8000;

/// What kind of device to open, and how.
#[derive(Debug, Clone)]
pub struct TapOptions {
    /// Ethernet frames (TAP) if true, bare IP packets (TUN) if false.
    pub ethernet: bool,
    /// Prefix frames with virtio_net_hdr and let the kernel hand over unsegmented, unchecksummed frames.
    pub vnet_hdr: bool,
    /// Open one queue of several; each further [`Tap::open`] of the name adds a queue.
    pub multi_queue: bool,
    /// Fail with EBUSY if the device already exists.
    pub exclusive: bool,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self { ethernet: true, vnet_hdr: true, multi_queue: false, exclusive: false }
    }
}

/// One queue of a TUN/TAP device. The device goes when its last queue closes, unless made persistent.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    name: String,
    offloads: u32,
    vnet_hdr_len: usize,
}

/// Offload bits (`TUN_F_*`): what this side takes unfinished from the kernel.
pub mod offload {
    /// Frames whose checksum is still to be completed.
    pub const CSUM: u32 = libc::TUN_F_CSUM;
    /// TCP over IPv4 larger than the MTU.
    pub const TSO4: u32 = libc::TUN_F_TSO4;
    /// TCP over IPv6 larger than the MTU.
    pub const TSO6: u32 = libc::TUN_F_TSO6;
    /// TSO also with ECN.
    pub const TSO_ECN: u32 = libc::TUN_F_TSO_ECN;
    /// UDP over IPv4 to be cut into datagrams (Linux 6.2).
    pub const USO4: u32 = libc::TUN_F_USO4;
    /// UDP over IPv6 to be cut into datagrams (Linux 6.2).
    pub const USO6: u32 = libc::TUN_F_USO6;
    /// Everything Weft can take.
    pub const ALL: u32 = CSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6;
}

impl Tap {
    /// Opens (creating if need be) the device `name` in this thread's network namespace, nonblocking.
    ///
    /// `name` may hold `%d`, for which the kernel puts a number; see [`Tap::name`].
    /// With `vnet_hdr`, the richest set of offloads the kernel takes is switched on; see [`Tap::offloads`].
    pub fn open(name: &str, options: &TapOptions) -> Result<Self> {
        let mut req = ifreq(name)?;
        let mut flags = libc::IFF_NO_PI;
        flags |= if options.ethernet { libc::IFF_TAP } else { libc::IFF_TUN };
        flags |= if options.vnet_hdr { libc::IFF_VNET_HDR } else { 0 };
        flags |= if options.multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
        flags |= if options.exclusive { IFF_TUN_EXCL } else { 0 };
        // The kernel's field is a short whose bits are flags.
        req.ifr_ifru.ifru_flags = flags as libc::c_short;

        let fd = open_clone_device().context(|| "open /dev/net/tun".into())?;
        // SAFETY: TUNSETIFF reads and writes one ifreq.
        unsafe { ioctl(fd.as_fd(), libc::TUNSETIFF, &mut req) }
            .context(|| format!("open tap device {name}"))?;
        let mut tap = Self { fd, name: from_ifname(&req.ifr_name), offloads: 0, vnet_hdr_len: 0 };
        if options.vnet_hdr {
            let mut size = VNET_HDR_LEN as libc::c_int;
            // SAFETY: TUNSETVNETHDRSZ reads one int.
            unsafe { ioctl(tap.fd.as_fd(), libc::TUNSETVNETHDRSZ, &mut size) }
                .context(|| format!("set virtio header size of {}", tap.name))?;
            tap.vnet_hdr_len = VNET_HDR_LEN;
            tap.negotiate_offloads();
        }
        Ok(tap)
    }

    /// Takes the most the kernel offers: USO came in Linux 6.2, TSO_ECN and TSO need CSUM.
    fn negotiate_offloads(&mut self) {
        use offload::{ALL, CSUM, TSO_ECN, TSO4, TSO6, USO4, USO6};
        let steps =
            [ALL, ALL & !(USO4 | USO6), CSUM | TSO4 | TSO6, ALL & !(TSO_ECN | TSO4 | TSO6 | USO4 | USO6)];
        if let Some(taken) = steps.into_iter().find(|bits| self.set_offloads(*bits).is_ok()) {
            self.offloads = taken;
        }
    }

    /// Sets exactly these [`offload`] bits; 0 makes the kernel finish every frame before handing it over.
    pub fn set_offloads(&mut self, bits: u32) -> Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let ret = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(bits)) };
        cvt(ret).context(|| format!("set offloads {bits:#x} of {}", self.name))?;
        self.offloads = bits;
        Ok(())
    }

    /// The [`offload`] bits in force.
    pub fn offloads(&self) -> u32 {
        self.offloads
    }

    /// The device's name, with the kernel's number in place of `%d`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of virtio_net_hdr before each frame: [`VNET_HDR_LEN`] or 0.
    pub fn vnet_hdr_len(&self) -> usize {
        self.vnet_hdr_len
    }

    /// Sets the device's carrier, which its user sees as link up or down.
    pub fn set_carrier(&self, up: bool) -> Result<()> {
        let mut value = libc::c_int::from(up);
        // SAFETY: TUNSETCARRIER reads one int.
        unsafe { ioctl(self.fd.as_fd(), libc::TUNSETCARRIER, &mut value) }
            .context(|| format!("set carrier of {}", self.name))
    }

    /// Lets the device outlive this process, or not.
    pub fn set_persistent(&self, on: bool) -> Result<()> {
        // SAFETY: TUNSETPERSIST takes its argument by value.
        let ret = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETPERSIST, libc::c_ulong::from(on)) };
        cvt(ret).map(drop).context(|| format!("set persistence of {}", self.name))
    }

    /// Lets this user open the device without privileges.
    pub fn set_owner(&self, uid: u32) -> Result<()> {
        // SAFETY: TUNSETOWNER takes its argument by value.
        let ret = unsafe { libc::ioctl(self.fd.as_raw_fd(), TUNSETOWNER, libc::c_ulong::from(uid)) };
        cvt(ret).map(drop).context(|| format!("set the owner of {}", self.name))
    }

    /// The name the kernel now gives the device behind this queue (it may have been renamed).
    pub fn query_name(&self) -> Result<String> {
        let mut req = ifreq("x")?;
        // SAFETY: TUNGETIFF writes one ifreq.
        unsafe { ioctl(self.fd.as_fd(), TUNGETIFF, &mut req) }
            .context(|| format!("query tap device {}", self.name))?;
        Ok(from_ifname(&req.ifr_name))
    }

    /// Reads one frame the kernel sent out of the device: header and frame, its length returned.
    ///
    /// `WouldBlock` when none waits. A frame longer than `buf` is cut without notice: offer 65,536 + header.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        // SAFETY: pointer and length describe `buf`, exclusively borrowed.
        let n = unsafe { libc::read(self.fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
    }

    /// Hands one frame (header first, if `vnet_hdr`) to the kernel as received from the device.
    ///
    /// EINVAL: the header's offsets or sizes lie outside the frame. EIO: the device is administratively down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length describe `frame`; the kernel only reads.
        let n = unsafe { libc::write(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len()) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// `TUNSETOWNER`, `_IOW('T', 204, int)`.
const TUNSETOWNER: libc::Ioctl = 0x4004_54cc_u32 as libc::Ioctl;
/// `TUNGETIFF`, `_IOR('T', 210, unsigned int)`.
const TUNGETIFF: libc::Ioctl = 0x8004_54d2_u32 as libc::Ioctl;

fn open_clone_device() -> io::Result<OwnedFd> {
    // SAFETY: the path is a NUL-terminated literal; a successful return is a descriptor nobody else owns.
    unsafe {
        let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let fd = cvt(libc::open(c"/dev/net/tun".as_ptr(), flags))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}
