//! How is the value of a field written?

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use weft_wire::Mac;

use super::Syntax;
use super::error::{ParseError, Result, bad};
use crate::{FRAG_ANY, FRAG_LATER, Field, Format, MAX_OPTION, OfPort, OptionValue};

/// Names of `ct_state` bits, least significant first.
pub(super) const CT_FLAGS: &[&str] = &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
/// Names of TCP flags, least significant first.
pub(super) const TCP_FLAGS: &[&str] =
    &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
/// Names of `tun_flags` bits, least significant first.
pub(super) const TUN_FLAGS: &[&str] = &["oam"];

/// Words for `ip_frag`, with value and mask.
const FRAGS: &[(&str, u8, u8)] = &[
    ("no", 0, FRAG_ANY | FRAG_LATER),
    ("yes", FRAG_ANY, FRAG_ANY),
    ("first", FRAG_ANY, FRAG_ANY | FRAG_LATER),
    ("later", FRAG_ANY | FRAG_LATER, FRAG_ANY | FRAG_LATER),
    ("not_later", 0, FRAG_LATER),
];

/// Reads a decimal number, or a hexadecimal one after `0x`.
pub(super) fn number(text: &str) -> Option<u128> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u128::from_str_radix(digits, radix).ok()
}

/// Reads pairs of hexadecimal digits.
pub(super) fn hex_bytes(digits: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2 && !p.starts_with('+'))?;
        u8::from_str_radix(pair, 16).ok()
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

/// Reads a number as wide as a tunnel option: the bytes of a hexadecimal one, however long, or a decimal one.
fn wide(text: &str) -> Option<Vec<u8>> {
    let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
        return Some(number(text)?.to_be_bytes().to_vec());
    };
    let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
    hex_bytes(&padded).filter(|bytes| !bytes.is_empty())
}

/// Reads `value` or `value/mask` of a tunnel option.
pub(super) fn parse_option(field: Field, text: &str) -> Result<OptionValue> {
    let read = |text: &str| {
        let bytes = wide(text).ok_or_else(|| bad(field.name(), text, "a number"))?;
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        if bytes.len() - zeros > MAX_OPTION {
            let (field, text) = (field.name().to_owned(), text.to_owned());
            return Err(ParseError::TooLarge { field, text, bits: 8 * MAX_OPTION as u16 });
        }
        Ok(bytes)
    };
    match text.split_once('/') {
        Some((value, mask)) => Ok(OptionValue::masked(field, &read(value)?, &read(mask)?)),
        None => Ok(OptionValue::whole(field, &read(text)?)),
    }
}

/// Writes bytes as one hexadecimal number: zero without prefix.
pub(super) fn wide_hex(out: &mut String, bytes: &[u8]) {
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let digits = digits.trim_start_matches('0');
    out.push_str(if digits.is_empty() { "0" } else { "0x" });
    out.push_str(digits);
}

/// Writes the value of a tunnel option, with its mask unless that is whole.
pub(super) fn format_option(out: &mut String, option: &OptionValue) {
    wide_hex(out, &option.value);
    if !option.is_whole() {
        out.push('/');
        wide_hex(out, &option.mask);
    }
}

/// Reads a number of at most `bits` bits.
pub(super) fn number_of(field: &str, text: &str, bits: u16) -> Result<u128> {
    let n = number(text).ok_or_else(|| bad(field, text, "a number"))?;
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    if bits > 64 && n > u64::MAX.into() && !hexadecimal {
        return Err(bad(field, text, "a number of more than 64 bits in hexadecimal"));
    }
    if bits < 128 && n >> bits != 0 {
        return Err(ParseError::TooLarge { field: field.to_owned(), text: text.to_owned(), bits });
    }
    Ok(n)
}

/// Reads a number that fits a type, such as `u16`.
pub(super) fn int<T: TryFrom<u128>>(field: &str, text: &str) -> Result<T> {
    let n = number(text).ok_or_else(|| bad(field, text, "a number"))?;
    let bits = 8 * size_of::<T>() as u16;
    T::try_from(n).map_err(|_| ParseError::TooLarge { field: field.to_owned(), text: text.to_owned(), bits })
}

/// Reads `value` or `value/mask` of a field: right-aligned bits, the value without bits outside the mask. A mask of
/// zero is allowed everywhere; others only where the field is maskable.
pub(super) fn parse_value(field: Field, text: &str, syntax: &Syntax<'_>) -> Result<(u128, u128)> {
    let all = field.value_mask();
    let (value, mask) = match field.info().format {
        Format::Port => {
            let port = syntax.parse_port(text).ok_or_else(|| ParseError::UnknownPort(text.to_owned()))?;
            (port_bits(field, port).ok_or_else(|| ParseError::UnknownPort(text.to_owned()))?, all)
        }
        Format::Frag => frag(text)?,
        Format::TcpFlags => flags(field, text, TCP_FLAGS)?,
        Format::CtState => flags(field, text, CT_FLAGS)?,
        Format::TunFlags => flags(field, text, TUN_FLAGS)?,
        Format::PacketType => (parse_packet_type(text)?, all),
        _ => raw_value(field, text)?,
    };
    if mask != 0 && mask != all && !field.maskable() {
        return Err(ParseError::BadMask { field, text: text.to_owned() });
    }
    Ok((value & mask, mask))
}

/// Reads `value` or `value/mask` of a field that is a number or an address, whether it is maskable or not.
pub(super) fn raw_value(field: Field, text: &str) -> Result<(u128, u128)> {
    match text.split_once('/') {
        Some((value, mask)) => Ok((one(field, value)?, parse_mask(field, mask)?)),
        None => Ok((one(field, text)?, field.value_mask())),
    }
}

/// Reads the flags of `ct_state` or `tcp_flags`.
pub(super) fn flags_of(field: Field, text: &str) -> Result<(u128, u128)> {
    flags(field, text, if field == Field::CtState { CT_FLAGS } else { TCP_FLAGS })
}

fn port_bits(field: Field, port: OfPort) -> Option<u128> {
    match field {
        Field::InPort16 => port.to_u16().map(u128::from),
        _ => Some(port.0.into()),
    }
}

fn one(field: Field, text: &str) -> Result<u128> {
    let name = field.name();
    match field.info().format {
        Format::Mac => {
            let mac: Mac = text.parse().map_err(|_| bad(name, text, "an Ethernet address"))?;
            Ok(mac.to_u64().into())
        }
        Format::Ipv4 => {
            let ip: Ipv4Addr = text.parse().map_err(|_| bad(name, text, "an IPv4 address"))?;
            Ok(ip.to_bits().into())
        }
        Format::Ipv6 => {
            let ip: Ipv6Addr = text.parse().map_err(|_| bad(name, text, "an IPv6 address"))?;
            Ok(ip.to_bits())
        }
        _ => number_of(name, text, significant_bits(field)),
    }
}

/// Bits a number may have: those of the field, or the whole byte of the TOS and the 16 bits of `dl_vlan` 0xffff.
fn significant_bits(field: Field) -> u16 {
    match field {
        Field::VlanVid => 13,
        Field::DlVlan => 16,
        _ => field.bits(),
    }
}

fn parse_mask(field: Field, text: &str) -> Result<u128> {
    let width = match field.info().format {
        Format::Ipv4 => 32,
        Format::Ipv6 => 128,
        _ => return one(field, text),
    };
    match text.parse::<u32>() {
        Ok(0) => Ok(0),
        Ok(len) if len <= width => {
            Ok(u128::MAX << (width - len) & if width == 32 { u128::from(u32::MAX) } else { u128::MAX })
        }
        _ => one(field, text),
    }
}

/// Reads a word for `ip_frag`.
pub(super) fn frag(text: &str) -> Result<(u128, u128)> {
    let found = FRAGS.iter().find(|(word, ..)| *word == text);
    found
        .map(|(_, value, mask)| (u128::from(*value), u128::from(*mask)))
        .ok_or_else(|| bad("ip_frag", text, "no, yes, first, later or not_later"))
}

/// The word for a value and mask of `ip_frag`.
pub(super) fn frag_word(value: u8, mask: u8) -> &'static str {
    FRAGS.iter().find(|(_, v, m)| (*v, *m) == (value & mask, mask)).map_or("<error>", |(word, ..)| word)
}

/// Writes a packet type: EtherTypes in hexadecimal.
pub(super) fn packet_type(out: &mut String, value: u32) {
    let (namespace, kind) = (value >> 16, value & 0xffff);
    let _ = write!(out, "({namespace},");
    if namespace == 1 {
        hex(out, kind.into());
    } else {
        let _ = write!(out, "{kind}");
    }
    out.push(')');
}

fn parse_packet_type(text: &str) -> Result<u128> {
    let want = "(namespace,type)";
    let wrong = || bad("packet_type", text, want);
    let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).ok_or_else(wrong)?;
    let (ns, ty) = inner.split_once(',').ok_or_else(wrong)?;
    Ok(number_of("packet_type", ns.trim(), 16)? << 16 | number_of("packet_type", ty.trim(), 16)?)
}

/// Reads `+a-b`, `a|b`, a number, or `number/number`.
fn flags(field: Field, text: &str, names: &[&str]) -> Result<(u128, u128)> {
    let unknown = |flag: &str| ParseError::UnknownFlag { field, flag: flag.to_owned() };
    let bit = |flag: &str| -> Result<u128> {
        let at = names.iter().position(|n| *n == flag).ok_or_else(|| unknown(flag))?;
        Ok(1u128 << at)
    };
    let known = (1u128 << names.len()) - 1;
    let all = field.value_mask();
    if let Some((value, mask)) = text.split_once('/') {
        let (value, mask) =
            (number(value).ok_or_else(|| unknown(text))?, number(mask).ok_or_else(|| unknown(text))?);
        return if (value | mask) & !known != 0 { Err(unknown(text)) } else { Ok((value, mask)) };
    }
    if let Some(value) = number(text) {
        return if value & !known != 0 { Err(unknown(text)) } else { Ok((value, all)) };
    }
    if text.starts_with(['+', '-']) {
        let (mut value, mut mask) = (0, 0);
        let mut rest = text;
        while let Some(sign) = rest.chars().next() {
            let end = rest[1..].find(['+', '-']).map_or(rest.len(), |i| i + 1);
            let bit = bit(&rest[1..end])?;
            mask |= bit;
            if sign == '+' {
                value |= bit;
            }
            rest = &rest[end..];
        }
        return Ok((value, mask));
    }
    let value = text.split('|').try_fold(0, |v, flag| bit(flag).map(|bit| v | bit))?;
    Ok((value, all))
}

/// Writes flags: `a|b` when the mask is whole, `+a-b` otherwise; bits without a name are left out.
pub(super) fn format_flags(out: &mut String, value: u128, mask: u128, all: u128, names: &[&str]) {
    if mask == all {
        let set: Vec<&str> =
            names.iter().enumerate().filter(|(i, _)| value >> i & 1 != 0).map(|(_, n)| *n).collect();
        out.push_str(if set.is_empty() { "0" } else { "" });
        out.push_str(&set.join("|"));
        return;
    }
    for (i, name) in names.iter().enumerate().filter(|(i, _)| mask >> i & 1 != 0) {
        out.push(if value >> i & 1 != 0 { '+' } else { '-' });
        out.push_str(name);
    }
}

/// Writes a hexadecimal number as C's `%#x`: zero without prefix.
pub(super) fn hex(out: &mut String, n: u128) {
    let _ = if n == 0 { out.write_char('0') } else { write!(out, "{n:#x}") };
}

/// Writes an IPv4 address with the mask as prefix length or address; nothing behind it when the mask is whole.
pub(super) fn ipv4(out: &mut String, value: u32, mask: u32) {
    let _ = write!(out, "{}", Ipv4Addr::from_bits(value));
    if mask == u32::MAX {
        return;
    }
    let _ = match mask.leading_ones() {
        len if len + mask.trailing_zeros() == 32 => write!(out, "/{len}"),
        _ => write!(out, "/{}", Ipv4Addr::from_bits(mask)),
    };
}

/// Writes an IPv6 address as [`ipv4`] does.
pub(super) fn ipv6(out: &mut String, value: u128, mask: u128) {
    let _ = write!(out, "{}", Ipv6Addr::from_bits(value));
    if mask == u128::MAX {
        return;
    }
    let _ = match mask.leading_ones() {
        len if len + mask.trailing_zeros() == 128 => write!(out, "/{len}"),
        _ => write!(out, "/{}", Ipv6Addr::from_bits(mask)),
    };
}

/// Writes an Ethernet address with its mask, unless that is whole.
pub(super) fn mac(out: &mut String, value: u64, mask: u64) {
    let _ = write!(out, "{}", Mac::from_u64(value));
    if mask != 0xffff_ffff_ffff {
        let _ = write!(out, "/{}", Mac::from_u64(mask));
    }
}

/// Writes a value of a field as `set_field` has it.
pub(super) fn format_value(out: &mut String, field: Field, value: u128, mask: u128, syntax: &Syntax<'_>) {
    let all = field.value_mask();
    match field.info().format {
        Format::Mac => mac(out, value as u64, mask as u64),
        Format::Ipv4 => ipv4(out, value as u32, mask as u32),
        Format::Ipv6 => ipv6(out, value, mask),
        Format::Port => {
            let port =
                if field == Field::InPort16 { OfPort::from_u16(value as u16) } else { OfPort(value as u32) };
            out.push_str(&syntax.port(port));
        }
        Format::Frag => out.push_str(frag_word(value as u8, mask as u8)),
        Format::TcpFlags => format_flags(out, value, mask, all, TCP_FLAGS),
        Format::CtState => format_flags(out, value, mask, all, CT_FLAGS),
        Format::TunFlags => format_flags(out, value, mask, all, TUN_FLAGS),
        Format::PacketType => {
            packet_type(out, value as u32);
        }
        Format::Dec | Format::Hex => {
            if field.info().format == Format::Dec {
                let _ = write!(out, "{value}");
            } else {
                hex(out, value);
            }
            if mask != all {
                let _ = write!(out, "/{mask:#x}");
            }
        }
    }
}
