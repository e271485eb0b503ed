//! How are values written in libvirt's XML? Each reader says which form it wants when the text has another one.

use std::net::{IpAddr, Ipv4Addr};

use weft_model::{MacAddr, SrvProtocol, parse_hex};

/// A value, or the form that was wanted.
pub(crate) type Form<T> = Result<T, &'static str>;

pub(crate) fn text(value: &str) -> Form<String> {
    if value.is_empty() { Err("a text that is not empty") } else { Ok(value.to_owned()) }
}

pub(crate) fn any(value: &str) -> Form<String> {
    Ok(value.to_owned())
}

pub(crate) fn yes_no(value: &str) -> Form<bool> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("`yes` or `no`"),
    }
}

pub(crate) fn ip(value: &str) -> Form<IpAddr> {
    value.parse().map_err(|_| "an IP address")
}

pub(crate) fn ipv4(value: &str) -> Form<Ipv4Addr> {
    value.parse().map_err(|_| "an IPv4 address")
}

pub(crate) fn mac(value: &str) -> Form<MacAddr> {
    // libvirt takes 0:16:3e:… as well.
    let full: Vec<String> = value.split(':').map(|p| format!("{p:0>2}")).collect();
    full.join(":").parse().map_err(|_| "a hardware address such as 52:54:00:12:34:56")
}

pub(crate) fn u16(value: &str) -> Form<u16> {
    digits(value).and_then(|v| v.parse().ok()).ok_or("a number from 0 to 65535")
}

pub(crate) fn u32(value: &str) -> Form<u32> {
    digits(value).and_then(|v| v.parse().ok()).ok_or("a number from 0 to 4294967295")
}

pub(crate) fn u64(value: &str) -> Form<u64> {
    digits(value).and_then(|v| v.parse().ok()).ok_or("a number")
}

/// Digits alone: `parse` would take a plus sign.
fn digits(value: &str) -> Option<&str> {
    value.bytes().all(|b| b.is_ascii_digit()).then_some(value)
}

pub(crate) fn prefix(value: &str) -> Form<u8> {
    digits(value)
        .and_then(|v| v.parse().ok())
        .filter(|p| *p <= 128)
        .ok_or("the length of a prefix, 0-32 or 0-128")
}

pub(crate) fn family(value: &str) -> Form<bool> {
    match value {
        "ipv4" => Ok(false),
        "ipv6" => Ok(true),
        _ => Err("`ipv4` or `ipv6`"),
    }
}

pub(crate) fn protocol(value: &str) -> Form<SrvProtocol> {
    match value {
        "tcp" => Ok(SrvProtocol::Tcp),
        "udp" => Ok(SrvProtocol::Udp),
        "sctp" => Ok(SrvProtocol::Sctp),
        "tls" => Ok(SrvProtocol::Tls),
        _ => Err("`tcp`, `udp`, `sctp` or `tls`"),
    }
}

/// A DUID, with two digits for each byte.
pub(crate) fn duid(value: &str) -> Form<String> {
    let bytes =
        parse_hex(value).filter(|_| value.contains(':')).ok_or("a DUID such as 0:3:0:1:52:54:0:0:0:1")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":"))
}

/// How many seconds a unit of lease time has.
pub(crate) fn unit(value: &str) -> Form<u64> {
    match value {
        "seconds" => Ok(1),
        "minutes" => Ok(60),
        "hours" => Ok(3_600),
        _ => Err("`seconds`, `minutes` or `hours`"),
    }
}

/// A UUID with or without hyphens.
pub(crate) fn uuid(value: &str) -> Form<()> {
    let hex = value.bytes().filter(u8::is_ascii_hexdigit).count();
    let rest = value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if hex == 32 && rest { Ok(()) } else { Err("a UUID such as 3e3fce45-4f53-4fa7-bb32-11f34168b82b") }
}
