//! Which fields can rules match and set, and how is one read from and written to a key?
//!
//! The table itself is in `field_table.rs`. Values are right-aligned `u128`; the only fields wider than that
//! (`tun_metadata0..63`) have no place of their own in the key until a TLV table gives them one, and are carried as bytes.

use std::collections::HashMap;
use std::sync::OnceLock;

use zerocopy::IntoBytes;

pub use super::field_table::Field;
use super::field_table::INFO;
use crate::{FlowKey, FlowMask, OfPort};

/// How `ovs-ofctl` writes values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Decimal.
    Dec,
    /// Hexadecimal with 0x.
    Hex,
    /// `xx:xx:xx:xx:xx:xx`.
    Mac,
    /// Dotted quad.
    Ipv4,
    /// RFC 5952.
    Ipv6,
    /// Port number or reserved name.
    Port,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Frag,
    /// `+syn-ack`.
    TcpFlags,
    /// `+trk-new`.
    CtState,
    /// `+oam`.
    TunFlags,
    /// `(ns,type)`.
    PacketType,
}

/// What a match must hold before it may look at a field, or an action set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prereq {
    /// Nothing.
    None,
    /// An Ethernet frame (`packet_type` (0,0), which is also what is meant when it is not matched).
    Ethernet,
    /// A VLAN tag.
    Vlan,
    /// ARP or RARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// IPv4 or IPv6.
    Ip,
    /// MPLS, unicast or multicast.
    Mpls,
    /// TCP, and not a later fragment.
    Tcp,
    /// UDP, and not a later fragment.
    Udp,
    /// SCTP, and not a later fragment.
    Sctp,
    /// ICMP for IPv4.
    Icmp4,
    /// ICMPv6.
    Icmp6,
    /// Neighbour solicitation.
    NdSolicit,
    /// Neighbour advertisement.
    NdAdvert,
    /// Neighbour solicitation or advertisement.
    Nd,
    /// Network service header.
    Nsh,
    /// A connection-tracking state in which the original-direction tuple is known.
    Ct,
}

/// Where a field is in a [`FlowKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Bits of a number of `size` bytes in host order at byte `at`, starting at bit `shift`.
    Num { at: u16, size: u8, shift: u8 },
    /// `len` bytes in wire order at byte `at`.
    Bytes { at: u16, len: u8 },
    /// `count` registers from `first` on, the first one most significant.
    Regs(u8, u8),
    /// The input port folded to OpenFlow 1.0's 16 bits.
    Port16,
    /// The tunnel option that a TLV table maps to this index.
    Option(u8),
    /// Nowhere: the field is known by name only.
    None,
}

/// One number under which OXM or NXM knows a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodePoint {
    /// Name, such as `NXM_OF_ETH_SRC`.
    pub name: &'static str,
    /// OXM class, or NXM vendor.
    pub class: u16,
    /// Experimenter when `class` is 0xffff, otherwise 0.
    pub experimenter: u32,
    /// Number within the class, 7 bits.
    pub number: u8,
    /// First OpenFlow version (wire number: 3 is OpenFlow 1.2) that has it; 0: an extension.
    pub since_openflow: u8,
    /// First Open vSwitch release that has it.
    pub since_ovs: &'static str,
}

/// Classes by the prefix of a code point's name; longer prefixes first.
const CLASSES: &[(&str, u16, u32)] = &[
    ("OXM_OF_PKT_REG", 0x8001, 0),
    ("ERICOXM_OF_", 0x1000, 0),
    ("NXOXM_ET_", 0xffff, 0x0000_2320),
    ("NXOXM_NSH_", 0xffff, 0x005a_d650),
    ("ONFOXM_ET_", 0xffff, 0x4f4e_4600),
    ("NXM_OF_", 0x0000, 0),
    ("NXM_NX_", 0x0001, 0),
    ("OXM_OF_", 0x8000, 0),
];

const fn starts_with(text: &str, prefix: &str) -> bool {
    let (text, prefix) = (text.as_bytes(), prefix.as_bytes());
    let mut i = 0;
    while i < prefix.len() {
        if i == text.len() || text[i] != prefix[i] {
            return false;
        }
        i += 1;
    }
    true
}

impl CodePoint {
    pub(super) const fn new(
        name: &'static str,
        number: u8,
        since_openflow: u8,
        since_ovs: &'static str,
    ) -> Self {
        let mut i = 0;
        while !starts_with(name, CLASSES[i].0) {
            i += 1;
        }
        let (_, class, experimenter) = CLASSES[i];
        CodePoint { name, class, experimenter, number, since_openflow, since_ovs }
    }
    /// Whether this is an NXM code point: usable in OpenFlow 1.0 with the Nicira extensions.
    pub const fn is_nxm(&self) -> bool {
        self.class <= 1
    }
    /// The 32-bit OXM or NXM header: class, number, has-mask, and the length of the body in bytes, which counts the
    /// experimenter and, with a mask, the value twice.
    pub fn header(&self, value_len: u8, has_mask: bool) -> u32 {
        let body = if has_mask { 2 * u32::from(value_len) } else { u32::from(value_len) };
        let body = body + if self.class == 0xffff { 4 } else { 0 };
        u32::from(self.class) << 16 | u32::from(self.number) << 9 | u32::from(has_mask) << 8 | (body & 0xff)
    }
}

/// What is known of a field.
#[derive(Clone, Copy, Debug)]
pub struct FieldInfo {
    /// Name that is printed.
    pub name: &'static str,
    /// Other names that are understood.
    pub aliases: &'static [&'static str],
    /// Bits that may be set.
    pub bits: u16,
    /// Width in OXM and NXM, bytes.
    pub bytes: u8,
    /// How values are written.
    pub format: Format,
    /// Whether bitwise masks are allowed.
    pub maskable: bool,
    /// What a match must hold besides.
    pub prereq: Prereq,
    /// Whether actions may change it.
    pub writable: bool,
    /// Where it is in a key.
    pub(super) place: Place,
    /// Numbers in OXM and NXM.
    pub points: &'static [CodePoint],
}

struct Index {
    names: HashMap<&'static str, Field>,
    points: HashMap<(u16, u32, u8), (Field, &'static CodePoint)>,
    /// Those of the classes that are used most, by number.
    plain: [[Option<Field>; 128]; 3],
    point_names: HashMap<&'static str, (Field, &'static CodePoint)>,
}

impl Index {
    /// The row of a class in [`Index::plain`].
    fn plain(class: u16) -> Option<usize> {
        match class {
            0x8000 => Some(0),
            0x0000 => Some(1),
            0x0001 => Some(2),
            _ => None,
        }
    }
}

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = Index {
            names: HashMap::new(),
            points: HashMap::new(),
            plain: [[None; 128]; 3],
            point_names: HashMap::new(),
        };
        for &field in Field::ALL {
            let info = field.info();
            index.names.insert(info.name, field);
            for alias in info.aliases {
                index.names.insert(alias, field);
            }
            for point in info.points {
                index.points.insert((point.class, point.experimenter, point.number), (field, point));
                if let Some(row) = Index::plain(point.class) {
                    index.plain[row][usize::from(point.number & 0x7f)] = Some(field);
                }
                index.point_names.insert(point.name, (field, point));
            }
        }
        index
    })
}

impl Field {
    /// Everything that is known of the field.
    #[inline]
    pub fn info(self) -> &'static FieldInfo {
        &INFO[self as usize]
    }
    /// Name, as `ovs-fields(7)` gives it.
    pub fn name(self) -> &'static str {
        self.info().name
    }
    /// The field of this name or alternative name.
    pub fn by_name(name: &str) -> Option<Field> {
        index().names.get(name).copied()
    }
    /// The field and code point with this name, such as `NXM_NX_REG0`.
    pub fn by_point_name(name: &str) -> Option<(Field, &'static CodePoint)> {
        index().point_names.get(name).copied()
    }
    /// The field that OXM or NXM numbers so; `experimenter` is 0 unless `class` is 0xffff.
    pub fn by_oxm(class: u16, number: u8, experimenter: u32) -> Option<Field> {
        let index = index();
        match Index::plain(class) {
            Some(row) => index.plain[row].get(usize::from(number)).copied().flatten(),
            None => index.points.get(&(class, experimenter, number)).map(|(field, _)| *field),
        }
    }
    /// Bits that may be set, counted from the least significant one.
    pub fn bits(self) -> u16 {
        self.info().bits
    }
    /// Width in OXM and NXM, bytes.
    pub fn bytes(self) -> u8 {
        self.info().bytes
    }
    /// Whether bitwise masks are allowed.
    pub fn maskable(self) -> bool {
        self.info().maskable
    }
    /// Whether actions may change it.
    pub fn writable(self) -> bool {
        self.info().writable
    }
    /// Whether the key carries it. False: known by name and number only.
    pub fn supported(self) -> bool {
        self.info().place != Place::None
    }
    /// Whether it is of the pipeline section of the key, which caches do not look at.
    pub fn is_of_pipeline(self) -> bool {
        const FIRST: usize = std::mem::offset_of!(FlowKey, pipeline);
        match self.info().place {
            Place::Num { at, .. } | Place::Bytes { at, .. } => usize::from(at) >= FIRST,
            Place::Regs(..) | Place::Port16 => true,
            Place::Option(_) | Place::None => false,
        }
    }
    /// What a match must hold before it may look at this field.
    pub fn prereq(self) -> Prereq {
        self.info().prereq
    }
    /// The code point to use towards OpenFlow `version` (wire number, 1 is 1.0): from 1.2 on the newest standard one
    /// that the version has, otherwise an extension.
    pub fn oxm(self, version: u8) -> Option<&'static CodePoint> {
        let standard =
            self.info().points.iter().filter(|p| p.since_openflow != 0 && p.since_openflow <= version);
        if version < 3 {
            return self.nxm();
        }
        standard.max_by_key(|p| p.since_openflow).or_else(|| self.nxm())
    }
    /// The code point to use in NXM: a Nicira one if there is one, otherwise the first.
    pub fn nxm(self) -> Option<&'static CodePoint> {
        let points = self.info().points;
        points.iter().find(|p| p.is_nxm()).or_else(|| points.first())
    }
    /// The index of a `tun_metadata` field.
    pub fn tun_metadata_index(self) -> Option<usize> {
        match self.info().place {
            Place::Option(n) => Some(usize::from(n)),
            _ => None,
        }
    }
    /// The field `tun_metadata`*n*.
    pub fn tun_metadata(n: usize) -> Option<Field> {
        if n >= 64 {
            return None;
        }
        Field::ALL.get(Field::TunMetadata0 as usize + n).copied()
    }
    /// The field `reg`*n*.
    pub fn reg(n: usize) -> Option<Field> {
        if n >= 16 {
            return None;
        }
        Field::ALL.get(Field::Reg0 as usize + n).copied()
    }

    /// Every bit that a value may have. Not simply the lowest [`Field::bits`] for `nw_tos`, whose ECN bits are not
    /// its own, `vlan_vid`, whose bit 12 says that a tag is present, and the two that the key holds in fewer bits
    /// than the protocol has (`arp_op`, `ct_state`).
    pub fn value_mask(self) -> u128 {
        match self {
            Field::NwTos => 0xfc,
            Field::VlanVid => 0x1fff,
            Field::ArpOp | Field::CtState => 0xff,
            _ if self.bits() >= 128 => u128::MAX,
            _ => (1 << self.bits()) - 1,
        }
    }

    /// Whether a value that fits the field's bits is one that the protocol has: metadata of a network service header is
    /// of type 1 or 2, and its TTL has 6 bits (RFC 8300 §2.2).
    pub fn accepts(self, value: u128) -> bool {
        match self {
            Field::NshMdtype => matches!(value, 1 | 2),
            Field::NshTtl => value < 64,
            _ => true,
        }
    }

    /// The field's value, right aligned. 0 for `tun_metadata` and fields the key does not carry.
    pub fn get(self, key: &FlowKey) -> u128 {
        let value = match self.info().place {
            Place::Num { at, size, shift } => read_num(key, at, size) >> shift,
            Place::Bytes { at, len } => read_bytes(key, at, len),
            Place::Regs(first, count) => {
                regs(key, first, count).iter().fold(0, |v, r| v << 32 | u128::from(*r))
            }
            Place::Port16 => OfPort(key.pipeline.in_port).to_u16().unwrap_or(0xffff).into(),
            Place::Option(_) | Place::None => 0,
        };
        value & self.value_mask()
    }

    /// Writes the bits of `value` that the field has; other bits of the key stay, the VLAN "present" bit included
    /// unless `value` is of `vlan_vid` or `vlan_tci`. Does nothing for `tun_metadata` and fields the key does not
    /// carry.
    pub fn set(self, key: &mut FlowKey, value: u128) {
        let mask = self.value_mask();
        let value = value & mask;
        match self.info().place {
            Place::Num { at, size, shift } => {
                let old = read_num(key, at, size);
                write_num(key, at, size, old & !(mask << shift) | value << shift);
            }
            Place::Bytes { at, len } => {
                let (at, len) = (usize::from(at), usize::from(len));
                key.as_mut_bytes()[at..at + len].copy_from_slice(&value.to_be_bytes()[16 - len..]);
            }
            Place::Regs(first, count) => {
                for i in 0..count {
                    let r = usize::from(first + i) & 15;
                    key.pipeline.regs[r] = (value >> (32 * u32::from(count - 1 - i))) as u32;
                }
            }
            Place::Port16 => key.pipeline.in_port = OfPort::from_u16(value as u16).0,
            Place::Option(_) | Place::None => {}
        }
    }

    /// Adds bits of the field to a mask of what counts.
    pub fn mask_add(self, mask: &mut FlowMask, bits: u128) {
        match self {
            // Sixteen bits cannot mask a part of the port.
            Field::InPort16 if bits != 0 => mask.0.pipeline.in_port = u32::MAX,
            Field::InPort16 => {}
            _ => {
                let old = self.get(&mask.0);
                self.set(&mut mask.0, old | bits);
            }
        }
    }

    /// The bits of the field that a mask has.
    pub fn mask_of(self, mask: &FlowMask) -> u128 {
        match self {
            Field::InPort16 if mask.0.pipeline.in_port != 0 => 0xffff,
            _ => self.get(&mask.0),
        }
    }
}

fn read_num(key: &FlowKey, at: u16, size: u8) -> u128 {
    let at = usize::from(at);
    let b = &key.as_bytes()[at..at + usize::from(size)];
    match *b {
        [a] => a.into(),
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]).into(),
        _ => 0,
    }
}

fn write_num(key: &mut FlowKey, at: u16, size: u8, value: u128) {
    let at = usize::from(at);
    let b = &mut key.as_mut_bytes()[at..at + usize::from(size)];
    match size {
        1 => b.copy_from_slice(&[value as u8]),
        2 => b.copy_from_slice(&(value as u16).to_ne_bytes()),
        4 => b.copy_from_slice(&(value as u32).to_ne_bytes()),
        _ => b.copy_from_slice(&(value as u64).to_ne_bytes()),
    }
}

fn read_bytes(key: &FlowKey, at: u16, len: u8) -> u128 {
    let at = usize::from(at);
    key.as_bytes()[at..at + usize::from(len)].iter().fold(0, |v, b| v << 8 | u128::from(*b))
}

fn regs(key: &FlowKey, first: u8, count: u8) -> &[u32] {
    let first = usize::from(first);
    key.pipeline.regs.get(first..first + usize::from(count)).unwrap_or(&[])
}
