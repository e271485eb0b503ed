//! How is a BPF program hung on a device's ingress where TCX is missing (clsact and cls_bpf)?

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{CREATE, Message, Netlink};
use crate::Result;

pub(super) const TCA_KIND: u16 = 1;
pub(super) const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const TC_H_CLSACT_INGRESS: u32 = 0xffff_fff2;
/// Priority 1 in the upper half, ETH_P_ALL in network order in the lower.
const INFO: u32 = (1 << 16) | (libc::ETH_P_ALL as u16).to_be() as u32;

/// `struct tcmsg`: family u8, 3 pad, ifindex i32, handle u32, parent u32, info u32.
pub(super) fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut fixed = [0; 20];
    fixed[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    fixed[8..12].copy_from_slice(&handle.to_ne_bytes());
    fixed[12..16].copy_from_slice(&parent.to_ne_bytes());
    fixed[16..20].copy_from_slice(&info.to_ne_bytes());
    fixed
}

/// Adds the clsact queueing discipline; EEXIST if the device has one.
pub(crate) fn add_clsact(netlink: &mut Netlink, ifindex: u32) -> Result<()> {
    let fixed = tcmsg(ifindex, 0xffff_0000, TC_H_CLSACT, 0);
    let mut message = Message::new(libc::RTM_NEWQDISC, CREATE, &fixed);
    message.str(TCA_KIND, "clsact");
    netlink.tell(message, || format!("add clsact to device {ifindex}"))
}

/// Hangs `program` on ingress under `handle`.
pub(crate) fn add_ingress_bpf(
    netlink: &mut Netlink,
    ifindex: u32,
    handle: u32,
    program: BorrowedFd<'_>,
) -> Result<()> {
    let fixed = tcmsg(ifindex, handle, TC_H_CLSACT_INGRESS, INFO);
    let mut message = Message::new(libc::RTM_NEWTFILTER, CREATE, &fixed);
    message.str(TCA_KIND, "bpf").nest(TCA_OPTIONS, |m| {
        m.u32(TCA_BPF_FD, program.as_raw_fd() as u32)
            .str(TCA_BPF_NAME, "weft_ingress")
            .u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    });
    netlink.tell(message, || format!("attach ingress filter to device {ifindex}"))
}

impl Netlink {
    /// Removes the filter `handle` of [`add_ingress_bpf`].
    pub(crate) fn delete_ingress_bpf(&mut self, ifindex: u32, handle: u32) -> Result<()> {
        let fixed = tcmsg(ifindex, handle, TC_H_CLSACT_INGRESS, INFO);
        let mut message = Message::new(libc::RTM_DELTFILTER, super::ACK, &fixed);
        message.str(TCA_KIND, "bpf");
        self.tell(message, || format!("remove ingress filter from device {ifindex}"))
    }

    /// Removes the clsact queueing discipline and all that hangs on it.
    pub(crate) fn delete_clsact(&mut self, ifindex: u32) -> Result<()> {
        let fixed = tcmsg(ifindex, 0xffff_0000, TC_H_CLSACT, 0);
        let message = Message::new(libc::RTM_DELQDISC, super::ACK, &fixed);
        self.tell(message, || format!("remove clsact from device {ifindex}"))
    }
}
