//! Which links are there, in what state, and how is one changed?

use weft_wire::Mac;

use super::{ACK, DUMP, Message, Netlink, attrs, get_str, get_u32, get_u64};
use crate::netns::NetNs;
use crate::{Error, Result};

const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_KIND: u16 = 1;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_CARRIER: u16 = 33;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_MIN_MTU: u16 = 50;
const IFLA_MAX_MTU: u16 = 51;
/// Leaves out the statistics we did not ask for.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = libc::IFF_UP as u32;

/// Bytes of `struct ifinfomsg`.
const IFINFO: usize = 16;

/// RFC 2863's operational state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperState {
    /// The driver does not tell (TUN/TAP, loopback); take carrier and admin state instead.
    Unknown,
    /// Hardware is missing.
    NotPresent,
    /// No carrier, or administratively down.
    Down,
    /// A device below it is down.
    LowerLayerDown,
    /// In a test mode.
    Testing,
    /// Waiting for an event, such as 802.1X.
    Dormant,
    /// Passes traffic.
    Up,
}

impl OperState {
    fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

/// Counters since the device was made (`rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub multicast: u64,
    pub collisions: u64,
    pub rx_over_errors: u64,
    pub rx_crc_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_missed_errors: u64,
}

impl LinkStats {
    fn parse(raw: &[u8]) -> Self {
        let at = |i: usize| get_u64(raw, i * 8).unwrap_or(0);
        Self {
            rx_packets: at(0),
            tx_packets: at(1),
            rx_bytes: at(2),
            tx_bytes: at(3),
            rx_errors: at(4),
            tx_errors: at(5),
            rx_dropped: at(6),
            tx_dropped: at(7),
            multicast: at(8),
            collisions: at(9),
            rx_over_errors: at(11),
            rx_crc_errors: at(12),
            rx_frame_errors: at(13),
            rx_missed_errors: at(15),
        }
    }
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in this namespace.
    pub index: u32,
    /// Its name in this namespace.
    pub name: String,
    /// Its Ethernet address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// Largest IP packet it takes, in bytes.
    pub mtu: u32,
    /// Least and greatest MTU the driver takes; 0 for unlimited.
    pub mtu_range: (u32, u32),
    /// Set up by the administrator (IFF_UP).
    pub admin_up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// Operational state.
    pub oper_state: OperState,
    /// The loopback device.
    pub loopback: bool,
    /// `veth`, `bridge`, `tun`, `vxlan`, …; `None` for hardware.
    pub kind: Option<String>,
    /// The bridge or bond it is enslaved to.
    pub master: Option<u32>,
    /// The device it hangs on, or a veth's peer.
    pub lower: Option<u32>,
    /// `lower` is in another namespace, of this id.
    pub lower_ns: Option<u32>,
    /// The operator's remark.
    pub alias: Option<String>,
    /// Transmit queues.
    pub tx_queues: u32,
    /// Counters.
    pub stats: LinkStats,
}

impl Link {
    /// Reads an RTM_NEWLINK or RTM_DELLINK body.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let flags = get_u32(body, 8)?;
        let mut link = Self {
            index: get_u32(body, 4)?,
            name: String::new(),
            mac: None,
            mtu: 0,
            mtu_range: (0, 0),
            admin_up: flags & IFF_UP != 0,
            carrier: flags & libc::IFF_RUNNING as u32 != 0,
            oper_state: OperState::Unknown,
            loopback: flags & libc::IFF_LOOPBACK as u32 != 0,
            kind: None,
            master: None,
            lower: None,
            lower_ns: None,
            alias: None,
            tx_queues: 1,
            stats: LinkStats::default(),
        };
        for (kind, value) in attrs(body.get(IFINFO..)?) {
            match kind {
                IFLA_IFNAME => link.name = get_str(value),
                IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(Mac),
                IFLA_MTU => link.mtu = get_u32(value, 0)?,
                IFLA_MIN_MTU => link.mtu_range.0 = get_u32(value, 0)?,
                IFLA_MAX_MTU => link.mtu_range.1 = get_u32(value, 0)?,
                IFLA_OPERSTATE => link.oper_state = OperState::from_raw(*value.first()?),
                IFLA_CARRIER => link.carrier = *value.first()? != 0,
                IFLA_MASTER => link.master = get_u32(value, 0),
                IFLA_LINK => link.lower = get_u32(value, 0).filter(|i| *i != 0),
                IFLA_LINK_NETNSID => link.lower_ns = get_u32(value, 0),
                IFLA_IFALIAS => link.alias = Some(get_str(value)),
                IFLA_NUM_TX_QUEUES => link.tx_queues = get_u32(value, 0)?,
                IFLA_STATS64 => link.stats = LinkStats::parse(value),
                IFLA_LINKINFO => {
                    link.kind = attrs(value).find(|(k, _)| *k == IFLA_INFO_KIND).map(|(_, v)| get_str(v));
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// The fixed part: device `index` (0 if named by attribute), and which of IFF_UP to change to what.
pub(super) fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; IFINFO] {
    let mut fixed = [0; IFINFO];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

/// Changing one device. Each names the device by its index; errors say what was asked.
impl Netlink {
    /// Every device of the namespace, with counters.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = Message::new(libc::RTM_GETLINK, DUMP, &ifinfo(0, 0, 0));
        let answers = self.request(message, || "list links".into())?;
        Ok(answers.iter().filter_map(|a| Link::parse(&a.body)).collect())
    }

    /// The device of that name, with counters.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        crate::sys::ifname(name)?;
        let mut message = Message::new(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        message.str(IFLA_IFNAME, name);
        self.one_link(message, name)
    }

    /// The device of that index, with counters.
    pub fn link_by_index(&mut self, index: u32) -> Result<Link> {
        let message = Message::new(libc::RTM_GETLINK, 0, &ifinfo(index, 0, 0));
        self.one_link(message, &format!("with index {index}"))
    }

    /// The index of the device of that name, without reading its counters.
    pub fn index_of(&mut self, name: &str) -> Result<u32> {
        crate::sys::ifname(name)?;
        let mut message = Message::new(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        message.str(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        Ok(self.one_link(message, name)?.index)
    }

    fn one_link(&mut self, message: Message, name: &str) -> Result<Link> {
        let answers = self
            .request(message, || format!("read link {name}"))
            .map_err(|e| if e.missing() { Error::NoDevice(name.to_owned()) } else { e })?;
        answers.first().and_then(|a| Link::parse(&a.body)).ok_or_else(|| Error::BadAnswer {
            what: format!("read link {name}"),
            why: "no whole link message".into(),
        })
    }

    fn set(
        &mut self,
        index: u32,
        what: impl Fn() -> String,
        fill: impl FnOnce(&mut Message) -> &mut Message,
    ) -> Result<()> {
        let mut message = Message::new(libc::RTM_SETLINK, ACK, &ifinfo(index, 0, 0));
        fill(&mut message);
        self.tell(message, || format!("{} of device {index}", what()))
    }

    /// Sets the device administratively up or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        let message = Message::new(libc::RTM_SETLINK, ACK, &ifinfo(index, flags, IFF_UP));
        self.tell(message, || format!("set device {index} {}", if up { "up" } else { "down" }))
    }

    /// Sets the MTU in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        self.set(index, || format!("set mtu {mtu}"), |m| m.u32(IFLA_MTU, mtu))
    }

    /// Sets the Ethernet address.
    pub fn set_mac(&mut self, index: u32, mac: Mac) -> Result<()> {
        self.set(index, || format!("set address {mac}"), |m| m.attr(IFLA_ADDRESS, &mac.0))
    }

    /// Renames the device.
    pub fn set_name(&mut self, index: u32, name: &str) -> Result<()> {
        crate::sys::ifname(name)?;
        self.set(index, || format!("set name {name}"), |m| m.str(IFLA_IFNAME, name))
    }

    /// Sets the operator's remark, at most 255 bytes.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<()> {
        self.set(index, || format!("set alias {alias}"), |m| m.attr(IFLA_IFALIAS, alias.as_bytes()))
    }

    /// Puts the device under a bridge, or frees it.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> Result<()> {
        let what = || format!("set master {master:?}");
        self.set(index, what, |m| m.u32(IFLA_MASTER, master.unwrap_or(0)))
    }

    /// Moves the device to another namespace, under `name` if given. It arrives down and without addresses.
    pub fn move_to(&mut self, index: u32, ns: &NetNs, name: Option<&str>) -> Result<()> {
        name.map(crate::sys::ifname).transpose()?;
        self.set(
            index,
            || format!("change namespace to {ns}"),
            |m| {
                m.u32(IFLA_NET_NS_FD, ns.raw_fd() as u32);
                match name {
                    Some(name) => m.str(IFLA_IFNAME, name),
                    None => m,
                }
            },
        )
    }

    /// Deletes the device.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        let message = Message::new(libc::RTM_DELLINK, ACK, &ifinfo(index, 0, 0));
        self.tell(message, || format!("delete device {index}"))
    }
}

/// Appends the Ethernet address of a device being made.
pub(super) fn push_mac(message: &mut Message, mac: Mac) {
    message.attr(IFLA_ADDRESS, &mac.0);
}
