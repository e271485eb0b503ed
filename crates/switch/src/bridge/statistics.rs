//! How much traffic has an interface seen, in the words of the `statistics` column?

use weft_datapath::{Datapath, PortStats};
use weft_host::netlink::{Link, LinkStats};

use super::{Iface, World};
use crate::net::Links;

/// Counters of an interface; those its kind does not have are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// What the datapath counted.
    pub port: PortStats,
    /// What the kernel counted for a device, of what the datapath does not see.
    pub device: Option<LinkStats>,
}

impl World {
    /// Reads the datapath's counters of every port.
    pub(crate) fn read_statistics(&mut self, datapath: &dyn Datapath) {
        for bridge in self.bridges.values_mut() {
            for iface in bridge.ifaces.books() {
                iface.read_statistics(datapath);
            }
        }
    }
}

impl Iface {
    fn read_statistics(&mut self, datapath: &dyn Datapath) {
        if let Some(stats) = self.dp_port.and_then(|port| datapath.port_stats(port).ok()) {
            self.stats = stats;
        }
    }

    /// The counters as of the last reading, with the kernel's for devices.
    pub(crate) fn counters(&self, links: &Links) -> Counters {
        let device = links.by_index(self.state.ifindex).filter(|_| self.has_device());
        let device = device.map(|link: &Link| link.stats);
        // Of a port without device nobody else counts anything.
        Counters { port: self.stats, device: device.or(self.is_vhost().then(LinkStats::default)) }
    }
}

impl Counters {
    /// Names and values as the database has them.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, i64)> {
        let p = &self.port;
        let mut pairs = vec![
            ("rx_bytes", p.rx_bytes),
            ("rx_packets", p.rx_packets),
            ("tx_bytes", p.tx_bytes),
            ("tx_packets", p.tx_packets),
        ];
        if let Some(device) = &self.device {
            pairs.extend([
                ("collisions", device.collisions),
                ("rx_crc_err", device.rx_crc_errors),
                ("rx_dropped", p.rx_dropped),
                ("rx_errors", p.rx_errors),
                ("rx_frame_err", device.rx_frame_errors),
                ("rx_missed_errors", p.rx_missed),
                ("rx_multicast_packets", device.multicast),
                ("rx_over_err", device.rx_over_errors),
                ("tx_dropped", p.tx_dropped),
                ("tx_errors", p.tx_errors),
            ]);
        }
        pairs.into_iter().map(|(name, n)| (name, i64::try_from(n).unwrap_or(i64::MAX))).collect()
    }
}
