//! How are `encap(...)` and `decap(...)` written?

use weft_wire::EtherType;

use super::error::{ParseError, Result, bad};
use super::lex::pairs;
use super::value::int;
use crate::{Action, Encap};

/// Most bytes of one NSH TLV (RFC 8300 §2.5.1: a length of 7 bits).
const MAX_TLV: usize = 127;

/// Reads what stands between the parentheses of `encap`.
pub(super) fn parse_encap(text: &str) -> Result<Action> {
    let pairs = pairs(text)?;
    let [header] = &pairs[..] else { return Err(bad("encap", text, "one header")) };
    let inner = header.text();
    let encap = match header.key {
        "nsh" => parse_nsh(inner)?,
        "ethernet" if inner.is_empty() => Encap::Ethernet,
        "mpls" if inner.is_empty() => Encap::Mpls(EtherType::MPLS),
        "mpls_mc" if inner.is_empty() => Encap::Mpls(EtherType::MPLS_MC),
        _ => return Err(bad("encap", text, "ethernet, nsh, mpls or mpls_mc")),
    };
    Ok(Action::Encap(encap))
}

fn parse_nsh(text: &str) -> Result<Encap> {
    let (mut md_type, mut tlvs) = (0, Vec::new());
    for pair in pairs(text)? {
        match pair.key {
            "md_type" => match int(pair.key, pair.text())? {
                n @ (1 | 2) => md_type = n,
                _ => return Err(bad("md_type", pair.text(), "1 or 2")),
            },
            "tlv" => tlvs.push(parse_tlv(pair.text())?),
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        }
    }
    Ok(Encap::Nsh { md_type, tlvs })
}

/// Reads `class,type,0xdata`.
fn parse_tlv(text: &str) -> Result<(u16, u8, Vec<u8>)> {
    let want = "class,type,0xdata";
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [class, kind, data] = parts[..] else { return Err(bad("tlv", text, want)) };
    let digits = data.strip_prefix("0x").ok_or_else(|| bad("tlv", text, want))?;
    let data = super::value::hex_bytes(digits).filter(|d| !d.is_empty() && d.len() <= MAX_TLV);
    Ok((int("tlv", class)?, int("tlv", kind)?, data.ok_or_else(|| bad("tlv", text, want))?))
}

/// Reads what stands between the parentheses of `decap`.
pub(super) fn parse_decap(text: &str) -> Result<Action> {
    let want = "packet_type(ns=...,type=...)";
    let outer = pairs(text)?;
    let [packet_type] = &outer[..] else {
        return if outer.is_empty() { Ok(Action::Decap(None)) } else { Err(bad("decap", text, want)) };
    };
    if packet_type.key != "packet_type" {
        return Err(bad("decap", text, want));
    }
    let (mut ns, mut kind) = (None, None);
    for pair in pairs(packet_type.text())? {
        match pair.key {
            "ns" => ns = Some(int::<u16>("ns", pair.text())?),
            "type" => kind = Some(int::<u16>("type", pair.text())?),
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        }
    }
    match (ns, kind) {
        (Some(ns), Some(kind)) => Ok(Action::Decap(Some(u32::from(ns) << 16 | u32::from(kind)))),
        _ => Err(bad("decap", text, want)),
    }
}

pub(super) fn format_encap(encap: &Encap) -> String {
    match encap {
        Encap::Ethernet => "encap(ethernet)".to_owned(),
        Encap::Mpls(EtherType::MPLS_MC) => "encap(mpls_mc)".to_owned(),
        Encap::Mpls(_) => "encap(mpls)".to_owned(),
        Encap::Nsh { md_type: 0, tlvs } if tlvs.is_empty() => "encap(nsh)".to_owned(),
        Encap::Nsh { md_type, tlvs } => {
            let mut parts = Vec::new();
            if *md_type != 0 {
                parts.push(format!("md_type={md_type}"));
            }
            parts.extend(tlvs.iter().map(|(class, kind, data)| {
                // With leading zeros, unlike Open vSwitch, for they count in the length.
                let digits: String = data.iter().map(|b| format!("{b:02x}")).collect();
                format!("tlv(0x{class:04x},{kind},0x{digits})")
            }));
            format!("encap(nsh({}))", parts.join(","))
        }
    }
}

pub(super) fn format_decap(packet_type: Option<u32>) -> String {
    let Some(packet_type) = packet_type else { return "decap()".to_owned() };
    let mut kind = String::new();
    super::value::hex(&mut kind, (packet_type & 0xffff).into());
    format!("decap(packet_type(ns={},type={kind}))", packet_type >> 16)
}
