//! Which of several links does a flow take?
//!
//! `multipath`, `bundle` and select groups hash header fields and choose by the hash (`ovs-actions(7)`). The hashes
//! are Open vSwitch's own on x86-64, so that both switches choose the same link: Bob Jenkins' lookup3 for some fields,
//! MurmurHash3 (32 bits) for others, over the headers in wire order read as little-endian words.

use crate::{
    BundleAlgorithm, FRAG_ANY, Field, FlowKey, FlowMask, HashFields, Match, Multipath, MultipathAlgorithm,
    PacketKey,
};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Adds a word to a MurmurHash3.
pub fn murmur_add(hash: u32, data: u32) -> u32 {
    let data = data.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ data).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Adds two words, the low one first.
fn murmur_add64(hash: u32, data: u64) -> u32 {
    murmur_add(murmur_add(hash, data as u32), (data >> 32) as u32)
}

/// Mixes the bits of a MurmurHash3; `last` is usually the length.
pub fn murmur_finish(hash: u32, last: u32) -> u32 {
    let mut h = hash ^ last;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// Hash of two words.
pub fn hash_2words(a: u32, b: u32) -> u32 {
    murmur_finish(murmur_add(murmur_add(a, 0), b), 8)
}

/// Hash of a 64-bit number.
pub fn hash_u64(n: u64) -> u32 {
    murmur_finish(murmur_add64(0, n), 8)
}

/// Hash of bytes, read as little-endian words, the last one filled up with zeros.
pub fn hash_bytes(bytes: &[u8], basis: u32) -> u32 {
    let hash = bytes.chunks(4).fold(basis, |hash, chunk| murmur_add(hash, le_word(chunk)));
    murmur_finish(hash, bytes.len() as u32)
}

/// Up to four bytes as a little-endian word.
fn le_word(chunk: &[u8]) -> u32 {
    chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// lookup3 of bytes (Bob Jenkins, public domain), as Open vSwitch computes it.
fn jenkins(bytes: &[u8], basis: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(bytes.len() as u32).wrapping_add(basis);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut chunks = bytes.chunks_exact(12);
    let word = |chunk: &[u8], n: usize| le_word(chunk.get(4 * n..).map_or(&[], |w| &w[..w.len().min(4)]));
    for chunk in &mut chunks {
        a = a.wrapping_add(word(chunk, 0));
        b = b.wrapping_add(word(chunk, 1));
        c = c.wrapping_add(word(chunk, 2));
        jenkins_mix(&mut a, &mut b, &mut c);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 1));
        c = c.wrapping_add(word(rest, 2));
        jenkins_final(&mut a, &mut b, &mut c);
    }
    c
}

fn jenkins_mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    let step = |x: &mut u32, y: &mut u32, z: &mut u32, bits| {
        *x = x.wrapping_sub(*z) ^ z.rotate_left(bits);
        *z = z.wrapping_add(*y);
    };
    step(a, b, c, 4);
    step(b, c, a, 6);
    step(c, a, b, 8);
    step(a, b, c, 16);
    step(b, c, a, 19);
    step(c, a, b, 4);
}

fn jenkins_final(a: &mut u32, b: &mut u32, c: &mut u32) {
    let step = |x: &mut u32, y: u32, bits| *x = (*x ^ y).wrapping_sub(y.rotate_left(bits));
    step(c, *b, 14);
    step(a, *c, 11);
    step(b, *a, 25);
    step(c, *b, 16);
    step(a, *c, 4);
    step(b, *a, 14);
    step(c, *b, 24);
}

/// The bytes of two arrays, XORed: the same in both directions of a flow.
fn xor<const N: usize>(a: &[u8; N], b: &[u8; N]) -> [u8; N] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// VLAN identifiers of all tags, XORed.
fn vids(p: &PacketKey) -> u16 {
    p.vlan.iter().fold(0, |v, tag| v ^ tag.vid())
}

/// Ethernet, VLAN identifiers, addresses of IP, and ports of TCP and SCTP.
fn symmetric_l4(p: &PacketKey, basis: u32) -> u32 {
    let mut bytes = [0; 32];
    let mut proto = 0;
    match p.eth_type {
        IPV4 => {
            bytes[..4].copy_from_slice(&(p.ipv4_src ^ p.ipv4_dst).to_be_bytes());
            proto = p.ip_proto;
        }
        IPV6 => {
            bytes[..16].copy_from_slice(&xor(&p.ipv6_src, &p.ipv6_dst));
            proto = p.ip_proto;
        }
        _ => {}
    }
    bytes[16..18].copy_from_slice(&p.eth_type.to_be_bytes());
    bytes[18..20].copy_from_slice(&vids(p).to_be_bytes());
    if matches!(proto, TCP | SCTP) {
        bytes[20..22].copy_from_slice(&(p.tp_src ^ p.tp_dst).to_be_bytes());
    }
    bytes[22..28].copy_from_slice(&xor(&p.eth_src.0, &p.eth_dst.0));
    bytes[28] = proto;
    jenkins(&bytes, basis)
}

/// Ethernet and VLAN identifiers.
fn symmetric_l2(p: &PacketKey, basis: u32) -> u32 {
    let mut bytes = [0; 12];
    bytes[..2].copy_from_slice(&p.eth_type.to_be_bytes());
    bytes[2..4].copy_from_slice(&vids(p).to_be_bytes());
    bytes[4..10].copy_from_slice(&xor(&p.eth_src.0, &p.eth_dst.0));
    let hash = bytes.chunks(4).fold(basis, |hash, chunk| murmur_add(hash, le_word(chunk)));
    murmur_finish(hash, basis)
}

/// Adds the addresses of an IP packet; `None`: it is none.
fn add_addresses(p: &PacketKey, basis: u32) -> Option<u32> {
    match p.eth_type {
        IPV4 => Some(murmur_add(basis, (p.ipv4_src ^ p.ipv4_dst).swap_bytes())),
        IPV6 => {
            let both = xor(&p.ipv6_src, &p.ipv6_dst);
            Some(both.chunks(4).fold(basis, |hash, chunk| murmur_add(hash, le_word(chunk))))
        }
        _ => None,
    }
}

/// Addresses, protocol, and ports of TCP and SCTP, of UDP too where asked for. What is not IP is hashed by its
/// Ethernet header.
fn symmetric_l3l4(p: &PacketKey, basis: u32, udp: bool) -> u32 {
    let Some(hash) = add_addresses(p, basis) else { return symmetric_l2(p, basis) };
    let mut hash = murmur_add(hash, p.ip_proto.into());
    if has_ports(p, udp) {
        hash = murmur_add(hash, (p.tp_src ^ p.tp_dst).swap_bytes().into());
    }
    murmur_finish(hash, basis)
}

/// Whether a hash of layers 3 and 4 takes the ports. Those of fragments do not count: later ones have none.
fn has_ports(p: &PacketKey, udp: bool) -> bool {
    p.ip_frag & FRAG_ANY == 0 && (matches!(p.ip_proto, TCP | SCTP) || udp && p.ip_proto == UDP)
}

/// EtherType and addresses.
fn symmetric_l3(p: &PacketKey, basis: u32) -> u32 {
    let mut bytes = [0; 20];
    match p.eth_type {
        IPV4 => bytes[..4].copy_from_slice(&(p.ipv4_src ^ p.ipv4_dst).to_be_bytes()),
        IPV6 => bytes[..16].copy_from_slice(&xor(&p.ipv6_src, &p.ipv6_dst)),
        _ => {}
    }
    bytes[16..18].copy_from_slice(&p.eth_type.to_be_bytes());
    jenkins(&bytes, basis)
}

fn one_address(eth_type: u16, ipv4: u32, ipv6: &[u8; 16], basis: u32) -> u32 {
    match eth_type {
        IPV4 => jenkins(&ipv4.to_be_bytes(), basis),
        IPV6 => jenkins(ipv6, basis),
        _ => basis,
    }
}

impl HashFields {
    /// Hash of these fields of a packet.
    pub fn hash(self, key: &FlowKey, basis: u32) -> u32 {
        let p = &key.packet;
        match self {
            HashFields::EthSrc => jenkins(&p.eth_src.0, basis),
            HashFields::SymmetricL4 => symmetric_l4(p, basis),
            HashFields::SymmetricL3L4 => symmetric_l3l4(p, basis, false),
            HashFields::SymmetricL3L4Udp => symmetric_l3l4(p, basis, true),
            HashFields::NwSrc => one_address(p.eth_type, p.ipv4_src, &p.ipv6_src, basis),
            HashFields::NwDst => one_address(p.eth_type, p.ipv4_dst, &p.ipv6_dst, basis),
            HashFields::SymmetricL3 => symmetric_l3(p, basis),
        }
    }

    /// The fields whose values [`HashFields::hash`] of this packet rests on, besides its EtherType, its fragment
    /// flags and its VLAN identifiers.
    pub fn fields(self, key: &FlowKey) -> Vec<Field> {
        use Field::{EthDst, EthSrc, IpDst, IpSrc, Ipv6Dst, Ipv6Src, NwProto};
        let p = &key.packet;
        let (src, dst) = match p.eth_type {
            IPV4 => (IpSrc, IpDst),
            IPV6 => (Ipv6Src, Ipv6Dst),
            _ => {
                return match self {
                    HashFields::EthSrc => vec![EthSrc],
                    HashFields::NwSrc | HashFields::NwDst | HashFields::SymmetricL3 => Vec::new(),
                    _ => vec![EthSrc, EthDst],
                };
            }
        };
        let ports = |on: bool| match p.ip_proto {
            UDP if on => vec![Field::UdpSrc, Field::UdpDst],
            SCTP if on => vec![Field::SctpSrc, Field::SctpDst],
            _ if on => vec![Field::TcpSrc, Field::TcpDst],
            _ => Vec::new(),
        };
        match self {
            HashFields::EthSrc => vec![EthSrc],
            HashFields::NwSrc => vec![src],
            HashFields::NwDst => vec![dst],
            HashFields::SymmetricL3 => vec![src, dst],
            HashFields::SymmetricL4 => {
                let ports = ports(matches!(p.ip_proto, TCP | SCTP));
                [vec![EthSrc, EthDst, src, dst, NwProto], ports].concat()
            }
            HashFields::SymmetricL3L4 | HashFields::SymmetricL3L4Udp => {
                let ports = ports(has_ports(p, self == HashFields::SymmetricL3L4Udp));
                [vec![src, dst, NwProto], ports].concat()
            }
        }
    }

    /// Adds every bit that [`HashFields::hash`] of this packet looks at.
    pub fn mask_add(self, key: &FlowKey, mask: &mut FlowMask) {
        let fields = self.fields(key);
        for field in &fields {
            field.mask_add(mask, field.value_mask());
        }
        let p = &mut mask.0.packet;
        if self != HashFields::EthSrc {
            p.eth_type = 0xffff;
        }
        if fields.contains(&Field::EthDst) {
            p.vlan[0].tci |= 0x1fff;
            p.vlan[1].tci |= 0x1fff;
        }
        let l3l4 = matches!(self, HashFields::SymmetricL3L4 | HashFields::SymmetricL3L4Udp);
        if l3l4 && fields.contains(&Field::NwProto) {
            p.ip_frag |= FRAG_ANY;
        }
    }
}

impl PacketKey {
    /// What [`crate::DpAction::Hash`] puts in `dp_hash`: a hash of addresses, protocol and ports of IP. Fragments of a
    /// datagram hash alike, because their ports do not count. Never 0, which stands for a hash that was not computed.
    pub fn dp_hash(&self, basis: u32, symmetric: bool) -> u32 {
        if symmetric {
            return symmetric_l3l4(self, basis, false).max(1);
        }
        let words =
            |hash, bytes: &[u8; 16]| bytes.chunks(4).fold(hash, |h, chunk| murmur_add(h, le_word(chunk)));
        let hash = match self.eth_type {
            IPV4 => murmur_add(murmur_add(basis, self.ipv4_src.swap_bytes()), self.ipv4_dst.swap_bytes()),
            IPV6 => words(words(basis, &self.ipv6_src), &self.ipv6_dst),
            _ => return symmetric_l2(self, basis).max(1),
        };
        let mut hash = murmur_add(hash, self.ip_proto.into());
        if has_ports(self, true) {
            let ports = u32::from(self.tp_src.swap_bytes()) | u32::from(self.tp_dst.swap_bytes()) << 16;
            hash = murmur_add(hash, ports);
        }
        murmur_finish(hash, 42).max(1)
    }
}

impl Multipath {
    /// The number of the link that the packet takes, 0 to `max_link`.
    pub fn link(&self, key: &FlowKey) -> u16 {
        let hash = self.fields.hash(key, self.basis.into());
        self.algorithm.choose(hash, u32::from(self.max_link) + 1, self.arg)
    }
}

impl MultipathAlgorithm {
    /// The number of one of `links` links (1 to 65536) for a hash.
    pub fn choose(self, hash: u32, links: u32, arg: u32) -> u16 {
        let links = links.clamp(1, 65536);
        let link = match self {
            MultipathAlgorithm::ModuloN => hash % links,
            MultipathAlgorithm::HashThreshold if links == 1 => 0,
            MultipathAlgorithm::HashThreshold => hash / (u32::MAX / links + 1),
            MultipathAlgorithm::Hrw if links > 64 => iterate(hash, links, 0),
            MultipathAlgorithm::Hrw => {
                let weighed = (0..links).map(|link| (hash_2words(hash, link), link));
                weighed
                    .reduce(|best, other| if other.0 > best.0 { other } else { best })
                    .map_or(0, |(_, link)| link)
            }
            MultipathAlgorithm::IterHash => iterate(hash, links, arg),
        };
        link as u16
    }
}

/// Hashes again and again until the hash modulo `modulo` is a link.
fn iterate(hash: u32, links: u32, modulo: u32) -> u32 {
    let fits = modulo >= links && modulo / 2 <= links;
    let modulo = if fits { modulo } else { links.next_power_of_two() };
    // Half of all tries succeed; the limit is for the sake of certainty only.
    let mut tries = (0..10_000).map(|i| hash_2words(hash, i) % modulo);
    tries.find(|link| *link < links).unwrap_or(0)
}

impl BundleAlgorithm {
    /// The index of one of several members of which some are up. `hash` is of the bundle's fields.
    pub fn choose(self, hash: u32, members: usize, up: impl Fn(usize) -> bool) -> Option<usize> {
        let mut candidates = (0..members).filter(|i| up(*i));
        match self {
            BundleAlgorithm::ActiveBackup => candidates.next(),
            BundleAlgorithm::Hrw => {
                let weight = |i: &usize| hash_2words(*i as u32, hash);
                candidates.reduce(|best, i| if weight(&i) > weight(&best) { i } else { best })
            }
        }
    }
}

/// The hash of a select group whose method is `hash`: over the bits of these fields that the packet has, the method's
/// parameter first. Fields without their prerequisites do not count. Also says what it looked at, in `mask`.
pub fn selection_hash(fields: &[(Field, u128)], param: u64, key: &FlowKey, mask: &mut FlowMask) -> u32 {
    let mut all = FlowMask::empty();
    all.0.words_mut().fill(u64::MAX);
    let described = Match::new(key, all);
    let mut fields: Vec<_> = fields.to_vec();
    fields.sort_by_key(|(field, _)| *field);
    let mut hash = hash_u64(param);
    for (field, bits) in fields {
        if !described.meets(field.prereq()) {
            continue;
        }
        let value = (field.get(key) & bits).to_be_bytes();
        let len = usize::from(field.bytes()).min(value.len());
        hash = hash_bytes(&value[value.len() - len..], hash);
        field.mask_add(mask, bits & field.value_mask());
    }
    hash
}

/// The score of a bucket of a select group under a hash: the live bucket of the highest score, the last of equal
/// ones, takes the packet.
pub fn bucket_score(bucket_id: u32, weight: u16, hash: u32) -> u32 {
    (hash_2words(bucket_id, hash) & 0xffff).wrapping_mul(weight.into())
}
