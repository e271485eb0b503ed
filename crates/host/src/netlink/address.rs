//! Which IP addresses have the links?

use std::net::IpAddr;

use super::{ACK, DUMP, Message, Netlink, REPLACE, attrs, family, get_u32, ip_bytes, ip_from};
use crate::Result;

const IFADDR: usize = 8;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub ifindex: u32,
    /// The host's own address.
    pub ip: IpAddr,
    /// Prefix length of its subnet.
    pub prefix: u8,
    /// IPv6: duplicate address detection has not finished, the address cannot be used yet.
    pub tentative: bool,
}

impl Address {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (mut local, mut address) = (None, None);
        let mut flags = u32::from(*body.get(2)?);
        for (kind, value) in attrs(body.get(IFADDR..)?) {
            match kind {
                libc::IFA_LOCAL => local = ip_from(value),
                libc::IFA_ADDRESS => address = ip_from(value),
                libc::IFA_FLAGS => flags = get_u32(value, 0)?,
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the peer's.
        let ip = local.or(address)?;
        let tentative = flags & libc::IFA_F_TENTATIVE != 0;
        Some(Self { ifindex: get_u32(body, 4)?, ip, prefix: *body.get(1)?, tentative })
    }
}

fn fixed(ip: IpAddr, prefix: u8, ifindex: u32) -> [u8; IFADDR] {
    // IPv6: the address is ours for certain, do not wait for duplicate address detection.
    let flags = if ip.is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
    let mut fixed = [family(ip), prefix, flags, 0, 0, 0, 0, 0];
    fixed[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    fixed
}

impl Netlink {
    /// Every address of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let message = Message::new(libc::RTM_GETADDR, DUMP, &[0; IFADDR]);
        let answers = self.request(message, || "list addresses".into())?;
        Ok(answers.iter().filter_map(|a| Address::parse(&a.body)).collect())
    }

    /// Gives a link an address; no fault if it has it. An IPv6 address is usable at once (no DAD).
    pub fn add_address(&mut self, ifindex: u32, ip: IpAddr, prefix: u8) -> Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, REPLACE, &fixed(ip, prefix, ifindex));
        message.attr(libc::IFA_LOCAL, &ip_bytes(ip)).attr(libc::IFA_ADDRESS, &ip_bytes(ip));
        self.tell(message, || format!("add address {ip}/{prefix} to device {ifindex}"))
    }

    /// Takes an address from a link.
    pub fn delete_address(&mut self, ifindex: u32, ip: IpAddr, prefix: u8) -> Result<()> {
        let mut message = Message::new(libc::RTM_DELADDR, ACK, &fixed(ip, prefix, ifindex));
        message.attr(libc::IFA_LOCAL, &ip_bytes(ip)).attr(libc::IFA_ADDRESS, &ip_bytes(ip));
        self.tell(message, || format!("delete address {ip}/{prefix} from device {ifindex}"))
    }
}
