//! Which link-layer address has a neighbour (ARP and ND tables)?

use std::net::IpAddr;

use weft_wire::Mac;

use super::{ACK, DUMP, Message, Netlink, REPLACE, attrs, family, get_u16, get_u32, ip_bytes, ip_from};
use crate::Result;

const NDMSG: usize = 12;
const NUD_PERMANENT: u16 = 0x80;
const NUD_NOARP: u16 = 0x40;
/// `NDA_PROTOCOL` of `<linux/neighbour.h>`.
const NDA_PROTOCOL: u16 = 12;
const NUD_INVALID: u16 = 0x01 | 0x20;

/// An entry of the neighbour tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The link it is on.
    pub ifindex: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its Ethernet address, if known.
    pub mac: Option<Mac>,
    /// The kernel's state bits (NUD_*).
    pub state: u16,
    /// Who put it there (`RTPROT_*`), as it said itself; 0: nobody said.
    pub protocol: u8,
}

impl Neighbour {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (mut ip, mut mac, mut protocol) = (None, None, 0);
        for (kind, value) in attrs(body.get(NDMSG..)?) {
            match kind {
                libc::NDA_DST => ip = ip_from(value),
                libc::NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok().map(Mac),
                NDA_PROTOCOL => protocol = value.first().copied().unwrap_or(0),
                _ => {}
            }
        }
        Some(Self { ifindex: get_u32(body, 4)?, ip: ip?, mac, state: get_u16(body, 8)?, protocol })
    }

    /// It stays until somebody deletes it.
    pub fn is_permanent(&self) -> bool {
        self.state & NUD_PERMANENT != 0
    }

    /// The Ethernet address may be used: resolution neither failed nor is under way.
    pub fn usable(&self) -> bool {
        self.mac.is_some() && self.state & NUD_INVALID == 0 && self.state & NUD_NOARP == 0
    }
}

fn fixed(ifindex: u32, ip: IpAddr, state: u16) -> [u8; NDMSG] {
    let mut fixed = [0; NDMSG];
    fixed[0] = family(ip);
    fixed[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    fixed[8..10].copy_from_slice(&state.to_ne_bytes());
    fixed
}

impl Netlink {
    /// Every neighbour of the namespace.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>> {
        let message = Message::new(libc::RTM_GETNEIGH, DUMP, &[0; NDMSG]);
        let answers = self.request(message, || "list neighbours".into())?;
        Ok(answers.iter().filter_map(|a| Neighbour::parse(&a.body)).collect())
    }

    /// Adds or replaces a permanent entry.
    pub fn add_neighbour(&mut self, ifindex: u32, ip: IpAddr, mac: Mac) -> Result<()> {
        let mut message = Message::new(libc::RTM_NEWNEIGH, REPLACE, &fixed(ifindex, ip, NUD_PERMANENT));
        message.attr(libc::NDA_DST, &ip_bytes(ip)).attr(libc::NDA_LLADDR, &mac.0);
        self.tell(message, || format!("add neighbour {ip} at {mac} to device {ifindex}"))
    }

    /// Adds or replaces a permanent entry, marked with who put it there (`RTPROT_*`).
    pub fn set_neighbour(&mut self, ifindex: u32, ip: IpAddr, mac: Mac, protocol: u8) -> Result<()> {
        let mut message = Message::new(libc::RTM_NEWNEIGH, REPLACE, &fixed(ifindex, ip, NUD_PERMANENT));
        message.attr(libc::NDA_DST, &ip_bytes(ip)).attr(libc::NDA_LLADDR, &mac.0);
        message.attr(NDA_PROTOCOL, &[protocol]);
        self.tell(message, || format!("add neighbour {ip} at {mac} to device {ifindex}"))
    }

    /// Asks the kernel to resolve `ip` (again) by ARP or ND, as if a packet waited for it.
    pub fn probe_neighbour(&mut self, ifindex: u32, ip: IpAddr) -> Result<()> {
        const NUD_NONE: u16 = 0;
        const NTF_USE: u8 = 1;
        let mut head = fixed(ifindex, ip, NUD_NONE);
        head[10] = NTF_USE;
        let mut message = Message::new(libc::RTM_NEWNEIGH, REPLACE, &head);
        message.attr(libc::NDA_DST, &ip_bytes(ip));
        self.tell(message, || format!("probe neighbour {ip} on device {ifindex}"))
    }

    /// Removes an entry.
    pub fn delete_neighbour(&mut self, ifindex: u32, ip: IpAddr) -> Result<()> {
        let mut message = Message::new(libc::RTM_DELNEIGH, ACK, &fixed(ifindex, ip, 0));
        message.attr(libc::NDA_DST, &ip_bytes(ip));
        self.tell(message, || format!("delete neighbour {ip} from device {ifindex}"))
    }
}
