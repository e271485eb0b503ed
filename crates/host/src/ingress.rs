//! How is the host's own stack kept from seeing frames the switch takes from a device?
//!
//! A switch port reads its device through AF_PACKET, which sees a frame *before* the device's TC ingress. A BPF
//! program of two instructions there drops the frame, so that neither ARP, IP nor any other protocol of the host
//! answers it a second time. On TCX (Linux 6.6) the attachment is a link that goes with its owner, even if that
//! is killed. Where TCX is missing, clsact and cls_bpf do the same; that filter goes with [`IngressGuard`],
//! or, after a kill, is taken over by the next [`IngressGuard::attach`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::error::Context;
use crate::netlink::{Netlink, add_clsact, add_ingress_bpf};
use crate::{Error, Result};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
/// TCX_DROP and TC_ACT_SHOT.
const DROP: i32 = 2;
/// "WEFT": tells our clsact filter from others'.
const HANDLE: u32 = 0x5745_4654;

/// `struct bpf_insn`: opcode u8, registers u8, offset i16, immediate i32.
#[repr(C)]
struct Instruction(u8, u8, i16, i32);

/// The part of `union bpf_attr` for BPF_PROG_LOAD that we fill.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The part of `union bpf_attr` for BPF_LINK_CREATE that we fill; the tail is `tcx.relative_*`, zero for "last".
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

/// Keeps the host's stack from receiving on a device for as long as it lives.
#[derive(Debug)]
pub struct IngressGuard {
    ifindex: u32,
    hold: Hold,
}

#[derive(Debug)]
enum Hold {
    Link { _fd: OwnedFd },
    Filter { netlink: Netlink, own_qdisc: bool },
}

impl IngressGuard {
    /// Guards the device `ifindex` of this thread's network namespace.
    ///
    /// Needs CAP_BPF and CAP_NET_ADMIN.
    pub fn attach(ifindex: u32) -> Result<Self> {
        let program = load_drop().context(|| "load the ingress filter (needs CAP_BPF)".into())?;
        let link = LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: BPF_TCX_INGRESS,
            ..LinkCreate::default()
        };
        match bpf(BPF_LINK_CREATE, &link) {
            Ok(fd) => Ok(Self { ifindex, hold: Hold::Link { _fd: fd } }),
            // Before Linux 6.6 the attach type is unknown.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Self::attach_clsact(ifindex, &program),
            Err(e) => Err(Error::os(format!("attach the ingress filter to device {ifindex}"), e)),
        }
    }

    /// Guards as [`IngressGuard::attach`] does where TCX is missing.
    #[doc(hidden)]
    pub fn attach_without_tcx(ifindex: u32) -> Result<Self> {
        let program = load_drop().context(|| "load the ingress filter (needs CAP_BPF)".into())?;
        Self::attach_clsact(ifindex, &program)
    }

    fn attach_clsact(ifindex: u32, program: &OwnedFd) -> Result<Self> {
        let mut netlink = Netlink::open()?;
        let own_qdisc = match add_clsact(&mut netlink, ifindex) {
            Ok(()) => true,
            Err(e) if e.exists() => false,
            Err(e) => return Err(e),
        };
        // One left behind by a killed process holds an old program: ours by its handle, so replaced.
        let _ = netlink.delete_ingress_bpf(ifindex, HANDLE);
        add_ingress_bpf(&mut netlink, ifindex, HANDLE, program.as_fd())?;
        Ok(Self { ifindex, hold: Hold::Filter { netlink, own_qdisc } })
    }

    /// True if the kernel removes the guard by itself when its owner dies.
    pub fn dies_with_owner(&self) -> bool {
        matches!(self.hold, Hold::Link { .. })
    }
}

impl Drop for IngressGuard {
    fn drop(&mut self) {
        if let Hold::Filter { netlink, own_qdisc } = &mut self.hold {
            // The device may be gone already, and the filter with it.
            let _ = netlink.delete_ingress_bpf(self.ifindex, HANDLE);
            if *own_qdisc {
                let _ = netlink.delete_clsact(self.ifindex);
            }
        }
    }
}

/// Loads `r0 = DROP; exit`.
fn load_drop() -> io::Result<OwnedFd> {
    let program = [Instruction(0xb7, 0, 0, DROP), Instruction(0x95, 0, 0, 0)];
    let mut load = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..ProgLoad::default()
    };
    load.prog_name[..12].copy_from_slice(b"weft_ingress");
    bpf(BPF_PROG_LOAD, &load)
}

/// bpf(2) for commands that return a descriptor. `T` is the command's part of `union bpf_attr`.
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: pointer and size describe `attr`, whose embedded pointers the callers keep alive; the kernel treats
    // missing trailing bytes as zero. A successful return is a descriptor nobody else owns (close-on-exec by default).
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>());
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}
