//! Which of two megaflows is wider? Their bits by field, as `ofproto/trace` prints them.

use std::collections::BTreeMap;

use crate::actions::number;

/// How Weft's mask is to Open vSwitch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Width {
    Same,
    /// It looks at fewer bits.
    Wider,
    /// It looks at more.
    Narrower,
    /// Each looks at bits that the other does not look at.
    Other,
}

/// Compares the masks of the first passes.
pub(crate) fn compare(theirs: &str, ours: &str) -> Option<Width> {
    let first = |trace: &str| trace.lines().find_map(|l| l.strip_prefix("Megaflow: ")).map(bits);
    let (theirs, ours) = (first(theirs)?, first(ours)?);
    let within = |a: &Bits, b: &Bits| a.iter().all(|(f, bits)| bits & !b.get(f).copied().unwrap_or(0) == 0);
    Some(match (within(&ours, &theirs), within(&theirs, &ours)) {
        (true, true) => Width::Same,
        (true, false) => Width::Wider,
        (false, true) => Width::Narrower,
        (false, false) => Width::Other,
    })
}

type Bits = BTreeMap<String, u128>;

/// Bits that are looked at, by field. What both always match (port, EtherType, fragments) is left out, and so is what
/// Open vSwitch writes although there is nothing to see (`eth`, marks of connections that were not tracked), and what it
/// always matches and does not write: that there is no tag.
fn bits(text: &str) -> Bits {
    let mut out = Bits::new();
    for part in text.trim().split(',') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let mask = match value.split_once('/') {
            Some((_, mask)) => prefix(name, mask),
            None if value.starts_with(['+', '-']) => flags(value),
            None => u128::MAX,
        };
        let (name, mask) = match name {
            "eth" | "recirc_id" | "in_port" | "ct_mark" | "skb_priority" | "nw_frag" => continue,
            // A keyword of a protocol beyond the EtherType.
            "tcp" | "udp" | "sctp" | "icmp" | "tcp6" | "udp6" | "sctp6" | "icmp6" => ("nw_proto", 0xff),
            "ip" | "ipv6" | "arp" | "mpls" => continue,
            "dl_vlan" => ("vlan_tci", 0x1fff),
            "dl_vlan_pcp" => ("vlan_tci", 0xf000),
            "dl_vlan1" => ("vlan_tci1", 0x1fff),
            "dl_vlan_pcp1" => ("vlan_tci1", 0xf000),
            "vlan_tci" | "vlan_tci1" if value.starts_with("0x0000") => continue,
            "vlan_tci" | "vlan_tci1" => (name, mask & 0xffff),
            "nw_proto" => (name, 0xff),
            _ => (name, mask),
        };
        *out.entry(name.to_owned()).or_default() |= mask;
    }
    out
}

/// A mask, which may be written as the length of a prefix.
fn prefix(name: &str, mask: &str) -> u128 {
    let width = match name {
        "nw_src" | "nw_dst" | "arp_spa" | "arp_tpa" => 32,
        "ipv6_src" | "ipv6_dst" | "nd_target" => 128,
        _ => return number(mask).unwrap_or(u128::MAX),
    };
    match mask.parse::<u32>() {
        Ok(n) if n <= width => u128::MAX.checked_shl(width - n).unwrap_or(0) & (u128::MAX >> (128 - width)),
        _ => number(mask).unwrap_or(u128::MAX),
    }
}

/// Which flags are looked at: one bit each.
fn flags(text: &str) -> u128 {
    const NAMES: [&str; 16] = [
        "fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "new", "est", "rel", "rpl", "inv",
        "trk", "snat",
    ];
    let bit = |n: &str| NAMES.iter().position(|name| *name == n).map_or(1 << 100, |i| 1u128 << i);
    text.split(['+', '-']).filter(|n| !n.is_empty()).map(bit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_bits_are_wider() {
        for (theirs, ours, is) in [
            ("eth,tcp,in_port=p1,nw_src=10.0.0.0/8", "tcp,in_port=1,nw_src=10.0.0.0/8", Width::Same),
            ("ip,nw_src=10.0.0.1", "ip,nw_src=10.0.0.0/9", Width::Wider),
            ("ip,nw_src=10.0.0.0/9", "ip,nw_src=10.0.0.0/255.128.0.1", Width::Narrower),
            ("ip,dl_vlan=1", "ip,vlan_tci=0x1000/0x1000", Width::Wider),
            ("ip,dl_src=02:00:00:00:00:01", "ip,dl_dst=02:00:00:00:00:01", Width::Other),
            ("tcp", "ip,nw_proto=6", Width::Same),
            ("ip", "ip,vlan_tci=0x0000/0x1fff", Width::Same),
            ("tcp,tcp_flags=+syn-ack", "tcp,tcp_flags=+syn", Width::Wider),
        ] {
            let [theirs, ours] = [theirs, ours].map(|m| format!("Megaflow: {m}\n"));
            assert_eq!(compare(&theirs, &ours), Some(is), "{theirs}{ours}");
        }
    }
}
