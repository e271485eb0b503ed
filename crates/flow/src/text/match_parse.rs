//! What does `tcp,in_port=1,nw_dst=10.0.0.0/8` match?

use super::Syntax;
use super::error::{ParseError, Result, bad};
use super::lex::{Pair, pairs};
use super::value::{number_of, parse_option, parse_value};
use crate::{Field, FlowKey, Match, OptionValue, VLAN_PRESENT};

/// Words for protocols: EtherType and IP protocol.
pub(super) const SHORTHANDS: &[(&str, u16, Option<u8>)] = &[
    ("ip", 0x0800, None),
    ("icmp", 0x0800, Some(1)),
    ("tcp", 0x0800, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("ipv6", 0x86dd, None),
    ("ip6", 0x86dd, None),
    ("icmp6", 0x86dd, Some(58)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp6", 0x86dd, Some(132)),
    ("arp", 0x0806, None),
    ("rarp", 0x8035, None),
    ("mpls", 0x8847, None),
    ("mplsm", 0x8848, None),
];

/// Reads a match. Fields may come in any order; one that comes twice counts as it came last.
///
/// A match of a field without its prerequisites is returned as written; see [`Match::check_prereqs`] and
/// [`Match::normalize`].
///
/// # Errors
/// The first keyword that is unknown, or the first value that is wrong.
pub fn parse_match(text: &str, syntax: &Syntax<'_>) -> Result<Match> {
    let mut out = Match::any();
    for pair in pairs(text)? {
        if !add_field(&mut out, &pair, syntax)? {
            return Err(ParseError::UnknownKeyword(pair.key.to_owned()));
        }
    }
    Ok(out)
}

/// Reads the packet that a text describes, as `ofproto/trace` has it: fields that are not named are zero.
///
/// # Errors
/// As [`parse_match`], and [`ParseError::BadMask`] where a mask is given, [`ParseError::Prerequisite`] where a field
/// is given that the packet cannot have.
pub fn parse_key(text: &str, syntax: &Syntax<'_>) -> Result<FlowKey> {
    for pair in pairs(text)? {
        if let (true, Some(field)) = (pair.text().contains('/'), Field::by_name(pair.key)) {
            return Err(ParseError::BadMask { field, text: pair.text().to_owned() });
        }
    }
    let described = parse_match(text, syntax)?;
    described.check_prereqs().map_err(ParseError::Prerequisite)?;
    let mut key = described.key;
    for vlan in &mut key.packet.vlan {
        if vlan.is_present() {
            vlan.tpid = 0x8100;
        }
    }
    if key.pipeline.packet_type >> 16 == 1 {
        key.packet.eth_type = key.pipeline.packet_type as u16;
    }
    key.note_extras();
    Ok(key)
}

/// Adds one pair to a match. False: the keyword is no field.
pub(super) fn add_field(out: &mut Match, pair: &Pair<'_>, syntax: &Syntax<'_>) -> Result<bool> {
    if pair.key == "eth" {
        out.set(Field::PacketType, 0);
        // Ethernet is what a match without packet type means; one form for both.
        out.set_masked(Field::PacketType, 0, 0);
        return Ok(true);
    }
    if let Some((_, eth_type, proto)) = SHORTHANDS.iter().find(|(word, ..)| *word == pair.key) {
        out.set(Field::EthType, (*eth_type).into());
        if let Some(proto) = proto {
            out.set(Field::NwProto, (*proto).into());
        }
        return Ok(true);
    }
    if add_inner(out, pair)? {
        return Ok(true);
    }
    let name = match pair.key {
        // What Open vSwitch prints for these two is not what it reads.
        "gtpu_flags" => "tun_gtpu_flags",
        "gtpu_msgtype" => "tun_gtpu_msgtype",
        name => name,
    };
    let Some(field) = Field::by_name(name) else { return Ok(false) };
    if !field.supported() {
        return Err(ParseError::Unsupported(field.name().to_owned()));
    }
    if field.tun_metadata_index().is_some() {
        // Without a value it matches whatever the option's value is.
        let option = match pair.value {
            Some(text) => parse_option(field, text)?,
            None => OptionValue::masked(field, &[], &[]),
        };
        let mapped = out.set_option(&option, syntax.tlv);
        return if mapped { Ok(true) } else { Err(ParseError::Unmapped(field)) };
    }
    let text = pair.value.ok_or_else(|| ParseError::MissingValue(pair.key.to_owned()))?;
    if text == "*" {
        out.set_masked(field, 0, 0);
        return Ok(true);
    }
    let (value, mask) = parse_value(field, text, syntax)?;
    if !field.accepts(value) && mask == field.value_mask() {
        return Err(bad(pair.key, text, "a value that the protocol has"));
    }
    if field == Field::DlVlan && (0x1000..0xffff).contains(&value) {
        return Err(ParseError::TooLarge { field: pair.key.to_owned(), text: text.to_owned(), bits: 12 });
    }
    match field {
        Field::DlVlan => out.set_masked(field, number_of(pair.key, text, 16)?, mask),
        Field::PacketType if value == 0 => out.set_masked(field, 0, 0),
        _ => out.set_masked(field, value, mask),
    }
    Ok(true)
}

/// Fields of the second tag and of further label stack entries, which have no number in OpenFlow and occur in traces.
fn add_inner(out: &mut Match, pair: &Pair<'_>) -> Result<bool> {
    let (key, mask) = (&mut out.key.packet, &mut out.mask.0.packet);
    match pair.key {
        "vlan_tci1" => {
            key.vlan[1].tci = number_of(pair.key, pair.text(), 16)? as u16;
            mask.vlan[1].tci = 0xffff;
        }
        "dl_vlan1" => {
            let vid = number_of(pair.key, pair.text(), 12)? as u16;
            key.vlan[1].tci = key.vlan[1].tci & 0xe000 | VLAN_PRESENT | vid;
            mask.vlan[1].tci |= 0x1fff;
        }
        "dl_vlan_pcp1" => {
            let pcp = number_of(pair.key, pair.text(), 3)? as u16;
            key.vlan[1].tci = key.vlan[1].tci & 0x0fff | VLAN_PRESENT | pcp << 13;
            mask.vlan[1].tci |= 0xf000;
        }
        "mpls_lse1" | "mpls_lse2" => {
            let n = if pair.key.ends_with('1') { 1 } else { 2 };
            key.mpls[n] = number_of(pair.key, pair.text(), 32)? as u32;
            mask.mpls[n] = u32::MAX;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
