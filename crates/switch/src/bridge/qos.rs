//! How does a device come to queue what leaves by it as the database asks?
//!
//! The kernel shapes: `linux-htb` is its tc-htb(8), as with Open vSwitch. Frames name their queue by `skb->priority`.
//! What leaves by a TAP, a virtual machine's memory or a tunnel passes no queueing discipline of a device.

use weft_host::netlink::{Shaping, UNLIMITED};

use super::{Host, Iface};
use crate::wanted::IfaceKind;

impl Iface {
    /// Has the device queue what leaves by it as its port's QoS row asks, if it does not yet.
    pub(super) fn shape(&mut self, host: &mut Host<'_>) {
        let wanted = self.shaping();
        if wanted == self.shaped {
            return;
        }
        let name = &self.wanted.name;
        let (index, mtu) = (self.state.ifindex, self.state.mtu.unwrap_or(1500));
        let done = match &wanted {
            Some(shaping) => host.links.netlink().shape(index, mtu, shaping),
            None => host.links.netlink().unshape(index),
        };
        match done {
            Ok(()) => {}
            // With the device went what it queued.
            Err(_) if wanted.is_none() => {}
            Err(e) => tracing::warn!(target: "bridge", "{name}: QoS is not in effect: {e}"),
        }
        if let Some(port) = self.dp_port
            && let Err(e) = host.datapath.queueing(port, wanted.is_some())
        {
            tracing::warn!(target: "bridge", "{name}: {e}");
        }
        self.shaped = wanted;
    }

    /// What the device is to do; `None`: what it does by itself.
    fn shaping(&self) -> Option<Shaping> {
        let shaping = self.home.qos.shaping.as_ref()?;
        let is_device = matches!(self.wanted.kind, Ok(IfaceKind::Device));
        if self.dp_port.is_none() || !is_device || self.state.ifindex == 0 {
            return None;
        }
        let mut shaping = shaping.clone();
        if shaping.max_rate == 0 {
            let speed = self.state.speed_mbps.filter(|mbps| *mbps != 0);
            shaping.max_rate = speed.map_or(UNLIMITED, |mbps| u64::from(mbps) * 1_000_000);
        }
        Some(shaping)
    }
}
