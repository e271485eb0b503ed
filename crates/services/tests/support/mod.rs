//! How do cases write bytes, and how are replies read without the code under test?
#![allow(dead_code)] // Each test program uses its part.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a case: `ip 10.0.0.1 10.0.0.2`, `u8 1`, `u16 1500`, `u32 3600`, `text abc`, or hex digits.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words = || rest.split_whitespace();
    match kind {
        "ip" => words().flat_map(|w| w.parse::<Ipv4Addr>().expect("IPv4 address").octets()).collect(),
        "ip6" => words().flat_map(|w| w.parse::<Ipv6Addr>().expect("IPv6 address").octets()).collect(),
        "u8" => words().map(|w| w.parse::<u8>().expect("u8")).collect(),
        "u16" => words().flat_map(|w| w.parse::<u16>().expect("u16").to_be_bytes()).collect(),
        "u32" => words().flat_map(|w| w.parse::<u32>().expect("u32").to_be_bytes()).collect(),
        "text" => rest.as_bytes().to_vec(),
        _ => {
            let digits: Vec<u8> = text.bytes().filter(|b| b.is_ascii_hexdigit()).collect();
            assert!(digits.len().is_multiple_of(2), "odd number of hex digits: {text}");
            let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
            digits.chunks(2).map(pair).collect()
        }
    }
}

/// A DHCPv4 message taken apart by hand: fixed fields, and options in the order they stand.
#[derive(Debug)]
pub(crate) struct Reply4 {
    pub(crate) op: u8,
    pub(crate) flags: u16,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) yiaddr: Ipv4Addr,
    pub(crate) siaddr: Ipv4Addr,
    pub(crate) giaddr: Ipv4Addr,
    pub(crate) sname: String,
    pub(crate) file: String,
    pub(crate) order: Vec<u8>,
    pub(crate) options: BTreeMap<u8, Vec<u8>>,
}

impl Reply4 {
    pub(crate) fn read(b: &[u8]) -> Self {
        let ip = |at: usize| Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]);
        let text = |r: std::ops::Range<usize>| {
            let field = &b[r];
            let end = field.iter().position(|c| *c == 0).expect("a NUL ends the field");
            String::from_utf8_lossy(&field[..end]).into_owned()
        };
        let mut reply = Self {
            op: b[0],
            flags: u16::from_be_bytes([b[10], b[11]]),
            ciaddr: ip(12),
            yiaddr: ip(16),
            siaddr: ip(20),
            giaddr: ip(24),
            sname: String::new(),
            file: String::new(),
            order: Vec::new(),
            options: BTreeMap::new(),
        };
        assert_eq!(b[236..240], [99, 130, 83, 99]);
        reply.collect(&b[240..]);
        let how = reply.options.get(&52).map_or(0, |v| v[0]);
        if how & 1 != 0 {
            reply.collect(&b[108..236])
        } else {
            reply.file = text(108..236)
        }
        if how & 2 != 0 {
            reply.collect(&b[44..108])
        } else {
            reply.sname = text(44..108)
        }
        reply
    }

    fn collect(&mut self, field: &[u8]) {
        let mut at = 0;
        loop {
            match field[at] {
                0 => at += 1,
                255 => return,
                code => {
                    let len = usize::from(field[at + 1]);
                    if !self.options.contains_key(&code) {
                        self.order.push(code);
                    }
                    self.options.entry(code).or_default().extend(&field[at + 2..at + 2 + len]);
                    at += 2 + len;
                }
            }
        }
    }
}
