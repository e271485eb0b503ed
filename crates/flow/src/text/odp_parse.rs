//! Which flow does `in_port(1),eth(src=...),eth_type(0x0800),ipv4(dst=10.0.0.1)` name?
//!
//! What `dpctl/dump-flows` prints, read back: for `ofproto/trace` and other commands that take a datapath flow.

use super::error::{ParseError, Result, bad};
use super::lex::{Pair, pairs};
use super::odp::TUNNEL_FLAGS;
use super::value::{flags_of, frag, hex_bytes, number_of, raw_value};
use crate::{DpPort, Field, FlowKey, FlowMask, MAX_VLANS, Match, OptionValue, TlvTable, VLAN_PRESENT};

/// Fields by the group they stand in and the name they have there.
const FIELDS: &[(&str, &str, Field)] = &[
    ("eth", "src", Field::EthSrc),
    ("eth", "dst", Field::EthDst),
    ("ipv4", "src", Field::IpSrc),
    ("ipv4", "dst", Field::IpDst),
    ("ipv4", "proto", Field::NwProto),
    ("ipv4", "ttl", Field::NwTtl),
    ("ipv6", "src", Field::Ipv6Src),
    ("ipv6", "dst", Field::Ipv6Dst),
    ("ipv6", "label", Field::Ipv6Label),
    ("ipv6", "proto", Field::NwProto),
    ("ipv6", "hlimit", Field::NwTtl),
    ("arp", "sip", Field::ArpSpa),
    ("arp", "tip", Field::ArpTpa),
    ("arp", "op", Field::ArpOp),
    ("arp", "sha", Field::ArpSha),
    ("arp", "tha", Field::ArpTha),
    ("tcp", "src", Field::TcpSrc),
    ("tcp", "dst", Field::TcpDst),
    ("udp", "src", Field::UdpSrc),
    ("udp", "dst", Field::UdpDst),
    ("sctp", "src", Field::SctpSrc),
    ("sctp", "dst", Field::SctpDst),
    ("icmp", "type", Field::IcmpType),
    ("icmp", "code", Field::IcmpCode),
    ("icmpv6", "type", Field::Icmpv6Type),
    ("icmpv6", "code", Field::Icmpv6Code),
    ("nd", "target", Field::NdTarget),
    ("nd", "sll", Field::NdSll),
    ("nd", "tll", Field::NdTll),
    ("nd_ext", "nd_reserved", Field::NdReserved),
    ("nd_ext", "nd_options_type", Field::NdOptionsType),
    ("nsh", "flags", Field::NshFlags),
    ("nsh", "ttl", Field::NshTtl),
    ("nsh", "mdtype", Field::NshMdtype),
    ("nsh", "np", Field::NshNp),
    ("nsh", "spi", Field::NshSpi),
    ("nsh", "si", Field::NshSi),
    ("nsh", "c1", Field::NshC1),
    ("nsh", "c2", Field::NshC2),
    ("nsh", "c3", Field::NshC3),
    ("nsh", "c4", Field::NshC4),
    ("ct_tuple4", "src", Field::CtNwSrc),
    ("ct_tuple4", "dst", Field::CtNwDst),
    ("ct_tuple4", "proto", Field::CtNwProto),
    ("ct_tuple4", "tp_src", Field::CtTpSrc),
    ("ct_tuple4", "tp_dst", Field::CtTpDst),
    ("ct_tuple6", "src", Field::CtIpv6Src),
    ("ct_tuple6", "dst", Field::CtIpv6Dst),
    ("ct_tuple6", "proto", Field::CtNwProto),
    ("ct_tuple6", "tp_src", Field::CtTpSrc),
    ("ct_tuple6", "tp_dst", Field::CtTpDst),
    ("ct_tuple6", "src_port", Field::CtTpSrc),
    ("ct_tuple6", "dst_port", Field::CtTpDst),
    ("mpls", "label", Field::MplsLabel),
    ("mpls", "tc", Field::MplsTc),
    ("mpls", "ttl", Field::MplsTtl),
    ("mpls", "bos", Field::MplsBos),
    ("tunnel", "tun_id", Field::TunId),
    ("tunnel", "src", Field::TunSrc),
    ("tunnel", "dst", Field::TunDst),
    ("tunnel", "ipv6_src", Field::TunIpv6Src),
    ("tunnel", "ipv6_dst", Field::TunIpv6Dst),
    ("gbp", "id", Field::TunGbpId),
    ("gbp", "flags", Field::TunGbpFlags),
];

/// Groups that hold one value.
const SINGLES: &[(&str, Field)] = &[
    ("skb_priority", Field::SkbPriority),
    ("skb_mark", Field::PktMark),
    ("ct_zone", Field::CtZone),
    ("ct_mark", Field::CtMark),
    ("ct_label", Field::CtLabel),
    ("recirc_id", Field::RecircId),
    ("dp_hash", Field::DpHash),
];

/// Reads a datapath flow: key, and which bits of it count; what has no mask counts as a whole. `port_by_name` knows
/// the datapath's ports by name, `options` the tunnel options.
///
/// # Errors
/// The first group, field or value that is unknown or wrong.
pub fn parse_dp_flow(
    text: &str,
    port_by_name: &dyn Fn(&str) -> Option<DpPort>,
    options: &TlvTable,
) -> Result<(FlowKey, FlowMask)> {
    let mut reader = Reader { flow: Match::any(), tags: 0, depth: 0, port_by_name, options };
    reader.groups(text)?;
    let Match { mut key, mut mask } = reader.flow;
    key.note_extras();
    mask.0.packet.extras = u16::MAX;
    Ok((key, mask))
}

struct Reader<'a> {
    flow: Match,
    /// VLAN tags read so far.
    tags: usize,
    /// `encap` groups read so far.
    depth: usize,
    port_by_name: &'a dyn Fn(&str) -> Option<DpPort>,
    options: &'a TlvTable,
}

impl Reader<'_> {
    fn groups(&mut self, text: &str) -> Result<()> {
        pairs(text)?.iter().try_for_each(|pair| self.group(pair))
    }

    fn group(&mut self, pair: &Pair<'_>) -> Result<()> {
        let text = pair.text();
        if let Some((_, field)) = SINGLES.iter().find(|(name, _)| *name == pair.key) {
            return self.set(*field, text);
        }
        let p = (&mut self.flow.key.packet, &mut self.flow.mask.0.packet);
        match pair.key {
            "in_port" => {
                let unknown = || ParseError::UnknownPort(text.to_owned());
                let number = number_of("in_port", text, 32).ok().map(|n| DpPort(n as u32));
                let port = number.or_else(|| (self.port_by_name)(text)).ok_or_else(unknown)?;
                (p.0.in_port, p.1.in_port) = (port.0, u32::MAX);
            }
            "eth_type" => {
                let (value, mask) = raw_value(Field::EthType, text)?;
                (p.0.eth_type, p.1.eth_type) = (value as u16, mask as u16);
            }
            "encap" => {
                self.depth += 1;
                if self.depth > MAX_VLANS {
                    return Err(ParseError::TooDeep);
                }
                self.groups(text)?;
            }
            "vlan" => self.vlan(text)?,
            "ct_state" => self.flags(Field::CtState, text)?,
            "tcp_flags" => self.flags(Field::TcpFlags, text)?,
            "packet_type" => self.packet_type(text)?,
            "ufid" => {}
            name => {
                let known = FIELDS.iter().any(|(group, ..)| *group == name);
                if !known {
                    return Err(ParseError::UnknownKeyword(name.to_owned()));
                }
                for field in pairs(text)? {
                    self.field(name, &field)?;
                }
            }
        }
        Ok(())
    }

    /// Reads `ns=1,id=0x800`.
    fn packet_type(&mut self, text: &str) -> Result<()> {
        let (mut ns, mut id) = (0, 0);
        for pair in pairs(text)? {
            match pair.key {
                "ns" => ns = number_of("ns", pair.text(), 16)? as u32,
                "id" => id = number_of("id", pair.text(), 16)? as u16,
                key => return Err(ParseError::UnknownKeyword(key.to_owned())),
            }
        }
        if ns == 1 {
            self.flow.key.pipeline.packet_type = ns << 16 | u32::from(id);
            (self.flow.key.packet.eth_type, self.flow.mask.0.packet.eth_type) = (id, u16::MAX);
        }
        Ok(())
    }

    fn field(&mut self, group: &str, pair: &Pair<'_>) -> Result<()> {
        let text = pair.text();
        if let Some((.., field)) = FIELDS.iter().find(|(g, name, _)| (*g, *name) == (group, pair.key)) {
            return self.set(*field, text);
        }
        let (key, mask) = (&mut self.flow.key, &mut self.flow.mask.0);
        match (group, pair.key) {
            ("ipv4", "tos") | ("ipv6", "tclass") => {
                (key.packet.ip_tos, mask.packet.ip_tos) = byte(pair.key, text)?;
            }
            ("ipv4" | "ipv6", "frag") => {
                let (value, bits) = frag(text)?;
                (key.packet.ip_frag, mask.packet.ip_frag) = (value as u8, bits as u8);
            }
            ("mpls", "lse0" | "lse1" | "lse2") => {
                let n = usize::from(pair.key.as_bytes()[3] - b'0');
                let (value, bits) = masked(pair.key, text, 32)?;
                (key.packet.mpls[n], mask.packet.mpls[n]) = (value as u32, bits as u32);
            }
            ("tunnel", "tos") => (key.tunnel.tos, mask.tunnel.tos) = byte(pair.key, text)?,
            ("tunnel", "ttl") => (key.tunnel.ttl, mask.tunnel.ttl) = byte(pair.key, text)?,
            ("tunnel", "tp_src" | "tp_dst") => {
                let (value, bits) = masked(pair.key, text, 16)?;
                let (to, of) = if pair.key == "tp_src" {
                    (&mut key.tunnel.tp_src, &mut mask.tunnel.tp_src)
                } else {
                    (&mut key.tunnel.tp_dst, &mut mask.tunnel.tp_dst)
                };
                (*to, *of) = (value as u16, bits as u16);
            }
            ("tunnel", "vxlan") => {
                for inner in pairs(text)? {
                    if inner.key != "gbp" {
                        return Err(ParseError::UnknownKeyword(inner.key.to_owned()));
                    }
                    pairs(inner.text())?.iter().try_for_each(|field| self.field("gbp", field))?;
                }
            }
            ("tunnel", "geneve") => return self.geneve(text),
            ("tunnel", "flags") => {
                (key.tunnel.flags, mask.tunnel.flags) = tunnel_flags(text)?;
            }
            (_, name) => return Err(ParseError::UnknownKeyword(name.to_owned())),
        }
        Ok(())
    }

    fn set(&mut self, field: Field, text: &str) -> Result<()> {
        let (value, mask) = raw_value(field, text)?;
        field.set(&mut self.flow.key, value & mask);
        field.set(&mut self.flow.mask.0, mask);
        Ok(())
    }

    fn flags(&mut self, field: Field, text: &str) -> Result<()> {
        let (value, mask) = flags_of(field, text)?;
        field.set(&mut self.flow.key, value & mask);
        field.set(&mut self.flow.mask.0, mask);
        Ok(())
    }

    /// Reads a tag. The EtherType before it is its TPID.
    fn vlan(&mut self, text: &str) -> Result<()> {
        let n = self.tags;
        self.tags += 1;
        let (key, mask) = (&mut self.flow.key.packet, &mut self.flow.mask.0.packet);
        let (Some(tag), Some(bits)) = (key.vlan.get_mut(n), mask.vlan.get_mut(n)) else {
            return Err(ParseError::TooDeep);
        };
        (tag.tpid, bits.tpid) = (key.eth_type, mask.eth_type);
        (key.eth_type, mask.eth_type) = (0, 0);
        (tag.tci, bits.tci) = (VLAN_PRESENT, VLAN_PRESENT);
        for pair in pairs(text)? {
            let (shift, width) = match pair.key {
                "vid" => (0, 12),
                "pcp" => (13, 3),
                "cfi" => continue,
                key => return Err(ParseError::UnknownKeyword(key.to_owned())),
            };
            let (value, all) = masked(pair.key, pair.text(), width)?;
            tag.tci |= ((value & all) << shift) as u16;
            bits.tci |= (all << shift) as u16;
        }
        Ok(())
    }

    /// Reads `{class=0xffff,type=0x80,len=4,0xa/0xff}`, as often as it comes.
    fn geneve(&mut self, text: &str) -> Result<()> {
        let wrong = || bad("geneve", text, "{class=...,type=...,len=...,0x...}");
        for option in text.split('}').filter(|o| !o.trim().is_empty()) {
            let inner = option.trim().strip_prefix('{').ok_or_else(wrong)?;
            let (mut class, mut kind, mut value) = (None, None, None);
            for part in inner.split(',') {
                match part.split_once('=') {
                    Some(("class", n)) => class = Some(number_of("class", n, 16)? as u16),
                    Some(("type", n)) => kind = Some(number_of("type", n, 8)? as u8),
                    Some(("len", _)) => {}
                    Some(_) => return Err(wrong()),
                    None => value = Some(part),
                }
            }
            let (class, kind) = class.zip(kind).ok_or_else(wrong)?;
            let index = self.options.index_of(class, kind).map(usize::from);
            let field = index.and_then(Field::tun_metadata);
            let field =
                field.ok_or_else(|| ParseError::Unsupported(format!("an unmapped option {option}}}")))?;
            let read = |text: &str| {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
                hex_bytes(&padded).ok_or_else(wrong)
            };
            let option = match value.map(|v| v.split_once('/').ok_or(v)) {
                Some(Ok((value, mask))) => OptionValue::masked(field, &read(value)?, &read(mask)?),
                Some(Err(value)) => OptionValue::whole(field, &read(value)?),
                None => OptionValue::masked(field, &[], &[]),
            };
            self.flow.set_option(&option, self.options);
        }
        Ok(())
    }
}

/// Reads `value[/mask]` of some bits.
fn masked(name: &str, text: &str, bits: u16) -> Result<(u128, u128)> {
    match text.split_once('/') {
        Some((value, mask)) => {
            let (value, mask) = (number_of(name, value, bits)?, number_of(name, mask, bits)?);
            Ok((value & mask, mask))
        }
        None => Ok((number_of(name, text, bits)?, (1 << bits) - 1)),
    }
}

fn byte(name: &str, text: &str) -> Result<(u8, u8)> {
    masked(name, text, 8).map(|(value, mask)| (value as u8, mask as u8))
}

/// Reads `+df-csum+key` or `df|key`, of which all count.
fn tunnel_flags(text: &str) -> Result<(u16, u16)> {
    let names = TUNNEL_FLAGS;
    let find = |name: &str| {
        let bit = names.iter().find(|(_, n)| *n == name).map(|(bit, _)| *bit);
        bit.ok_or_else(|| bad("flags", name, "df, csum, key or oam"))
    };
    if !text.starts_with(['+', '-']) {
        let all = names.iter().fold(0, |all, (bit, _)| all | bit);
        let set = text.split('|').filter(|f| !f.is_empty() && *f != "0");
        let value = set.map(find).try_fold(0, |v, bit| bit.map(|bit| v | bit))?;
        return Ok((value, all));
    }
    let (mut value, mut mask, mut rest) = (0, 0, text);
    while let Some(sign) = rest.chars().next() {
        let end = rest[1..].find(['+', '-']).map_or(rest.len(), |i| i + 1);
        let bit = find(&rest[1..end])?;
        mask |= bit;
        value |= if sign == '+' { bit } else { 0 };
        rest = &rest[end..];
    }
    Ok((value, mask))
}
