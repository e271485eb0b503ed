//! Which of several links does the packet take? `multipath` and `bundle`.

use weft_flow::{Bundle, BundleAlgorithm, Field, HashFields, Multipath, MultipathAlgorithm};
use weft_wire::{EtherType, IpProto};

use super::{Origin, Walk};
use crate::group::mix;

/// Fields whose order does not count: hashed as a sum.
type Pairs = &'static [(Field, Field)];

const ETH: Pairs = &[(Field::EthSrc, Field::EthDst)];
const IPV4: Pairs = &[(Field::IpSrc, Field::IpDst)];
const IPV6: Pairs = &[(Field::Ipv6Src, Field::Ipv6Dst)];

impl<'a> Walk<'a> {
    pub(super) fn multipath(&mut self, m: &Multipath) {
        let hash = self.hash_fields(m.fields, m.basis.into());
        let links = u32::from(m.max_link) + 1;
        let link = match m.algorithm {
            MultipathAlgorithm::ModuloN => hash % links,
            MultipathAlgorithm::HashThreshold if links == 1 => 0,
            MultipathAlgorithm::HashThreshold => hash / (u32::MAX / links + 1),
            MultipathAlgorithm::Hrw => (0..links).max_by_key(|i| (mix(*i, hash), u32::MAX - i)).unwrap_or(0),
            MultipathAlgorithm::IterHash => iterated(hash, links, m.arg),
        };
        self.write(m.dst, link.into());
    }

    /// Outputs to one of several ports, or writes its number.
    pub(super) fn bundle(&mut self, b: &Bundle, origin: Origin) {
        let port = match b.algorithm {
            BundleAlgorithm::ActiveBackup => b.members.iter().copied().find(|p| self.is_up(*p)),
            BundleAlgorithm::Hrw => {
                let hash = self.hash_fields(b.fields, b.basis.into());
                let live = b.members.iter().enumerate().filter(|(_, p)| self.is_up(**p));
                live.max_by_key(|(i, _)| (mix(*i as u32, hash), usize::MAX - i)).map(|(_, p)| *p)
            }
        };
        match b.dst {
            Some(dst) => {
                let number = port.map_or(0xffff, |p| p.to_u16().unwrap_or(0xffff));
                self.write(dst, number.into());
            }
            None => match port {
                Some(port) => self.output(port, u16::MAX, origin),
                None => self.blame(weft_flow::DropReason::PortDown),
            },
        }
    }

    /// A hash of the packet.
    pub(super) fn hash_fields(&mut self, fields: HashFields, basis: u32) -> u32 {
        let mut hash = mix(basis, 0);
        match fields {
            HashFields::EthSrc => self.hash_in(&mut hash, Field::EthSrc),
            HashFields::NwSrc => self.hash_address(&mut hash, Field::IpSrc, Field::Ipv6Src),
            HashFields::NwDst => self.hash_address(&mut hash, Field::IpDst, Field::Ipv6Dst),
            HashFields::SymmetricL4 => {
                self.hash_pairs(&mut hash, ETH);
                self.hash_in(&mut hash, Field::VlanVid);
                hash = mix(hash, self.eth_type().0.into());
                self.hash_connection(&mut hash, &[IpProto::TCP, IpProto::SCTP]);
            }
            HashFields::SymmetricL3 => self.hash_connection(&mut hash, &[]),
            HashFields::SymmetricL3L4 => self.hash_connection(&mut hash, &[IpProto::TCP, IpProto::SCTP]),
            HashFields::SymmetricL3L4Udp => {
                self.hash_connection(&mut hash, &[IpProto::TCP, IpProto::SCTP, IpProto::UDP]);
            }
        }
        hash
    }

    fn hash_in(&mut self, hash: &mut u32, field: Field) {
        let value = self.get(field);
        for shift in [0, 32, 64, 96] {
            *hash = mix(*hash, (value >> shift) as u32);
        }
    }

    fn hash_address(&mut self, hash: &mut u32, v4: Field, v6: Field) {
        match self.eth_type() {
            EtherType::IPV4 => self.hash_in(hash, v4),
            EtherType::IPV6 => self.hash_in(hash, v6),
            _ => {}
        }
    }

    fn hash_pairs(&mut self, hash: &mut u32, pairs: Pairs) {
        for (a, b) in pairs {
            let (a, b) = (self.get(*a), self.get(*b));
            let both = a ^ b;
            for shift in [0, 32, 64, 96] {
                *hash = mix(*hash, (both >> shift) as u32);
            }
        }
    }

    /// Addresses, protocol, and ports of these protocols, the same in both directions.
    fn hash_connection(&mut self, hash: &mut u32, with_ports: &[IpProto]) {
        match self.eth_type() {
            EtherType::IPV4 => self.hash_pairs(hash, IPV4),
            EtherType::IPV6 => self.hash_pairs(hash, IPV6),
            _ => return,
        }
        if with_ports.is_empty() {
            return;
        }
        self.hash_in(hash, Field::NwProto);
        if with_ports.iter().any(|proto| self.has_l4(*proto)) {
            self.hash_pairs(hash, &[(Field::TcpSrc, Field::TcpDst)]);
        }
    }
}

/// Hashes again until the result is a link; after some tries it is made one.
fn iterated(mut hash: u32, links: u32, arg: u32) -> u32 {
    let modulo = arg.max(links);
    for _ in 0..64 {
        if hash % modulo < links {
            return hash % modulo;
        }
        hash = mix(hash, 1);
    }
    hash % links
}
