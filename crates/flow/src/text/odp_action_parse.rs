//! Which datapath actions does `set(eth(dst=...)),push_vlan(vid=5,pcp=0),2` name?
//!
//! What `dpctl/dump-flows` prints, read back: for flows that are put by hand. Actions that refer to something that only
//! the pipeline makes (a walk to resume, a meter, a controller, an outer header) cannot be given by hand.

use std::sync::Arc;

use weft_wire::{EtherType, Mac};

use super::ct::parse_dp_ct;
use super::error::{ParseError, Result, bad};
use super::lex::{Pair, pairs};
use super::value::{int, number_of, raw_value};
use crate::{DpAction, DpPort, Field, SetField};

/// How deep lists may stand in each other.
const MAX_DEPTH: usize = 8;
/// Actions in all lists together.
const MAX_ACTIONS: usize = 512;

/// Actions that exist, but only the pipeline can make.
const NOT_BY_HAND: &[&str] =
    &["recirc", "userspace", "meter", "tnl_push", "tnl_pop", "sample", "lb_output", "add_mpls"];

/// Reads datapath actions as [`super::format_dp_actions`] writes them; `drop` and nothing are none. `port_by_name`
/// knows the datapath's ports by name.
///
/// # Errors
/// The first action that is unknown, malformed, or cannot be given by hand.
pub fn parse_dp_actions(text: &str, port_by_name: &dyn Fn(&str) -> Option<DpPort>) -> Result<Vec<DpAction>> {
    let mut reader = Reader { port_by_name, count: 0 };
    reader.list(text, 0)
}

struct Reader<'a> {
    port_by_name: &'a dyn Fn(&str) -> Option<DpPort>,
    count: usize,
}

impl Reader<'_> {
    fn list(&mut self, text: &str, depth: usize) -> Result<Vec<DpAction>> {
        if depth > MAX_DEPTH {
            return Err(ParseError::TooDeep);
        }
        let all = pairs(text)?;
        let mut out = Vec::new();
        for pair in &all {
            if pair.key == "drop" && pair.value.is_none() {
                if all.len() > 1 {
                    return Err(ParseError::DropNotAlone);
                }
                continue;
            }
            self.action(pair, depth, &mut out)?;
            self.count += 1;
            if self.count > MAX_ACTIONS {
                return Err(ParseError::TooDeep);
            }
        }
        Ok(out)
    }

    fn action(&mut self, pair: &Pair<'_>, depth: usize, out: &mut Vec<DpAction>) -> Result<()> {
        let text = pair.text();
        if pair.value.is_none() {
            out.push(match pair.key {
                "pop_vlan" => DpAction::PopVlan,
                "ct" => DpAction::Ct(Arc::new(parse_dp_ct("")?)),
                "ct_clear" => DpAction::CtClear,
                "copy_ttl_out" => DpAction::CopyTtl { outwards: true },
                "copy_ttl_in" => DpAction::CopyTtl { outwards: false },
                port => DpAction::Output(self.port(port)?),
            });
            return Ok(());
        }
        out.push(match pair.key {
            "trunc" => DpAction::Trunc(int("trunc", text)?),
            "push_vlan" => push_vlan(text)?,
            "set" => return pairs(text)?.iter().try_for_each(|group| set(group, out)),
            "clone" => DpAction::Clone(self.list(text, depth + 1)?.into()),
            "ct" => DpAction::Ct(Arc::new(parse_dp_ct(text)?)),
            "hash" => hash(text)?,
            "push_mpls" => push_mpls(text)?,
            "pop_mpls" => match &pairs(text)?[..] {
                [Pair { key: "eth_type", value: Some(ty), .. }] => DpAction::PopMpls(int("eth_type", ty)?),
                _ => return Err(bad("pop_mpls", text, "eth_type=TYPE")),
            },
            "check_pkt_len" => self.check_pkt_len(text, depth)?,
            name if NOT_BY_HAND.contains(&name) => {
                return Err(ParseError::Unsupported(format!("{name} in a flow put by hand")));
            }
            name => return Err(ParseError::UnknownAction(name.to_owned())),
        });
        Ok(())
    }

    fn port(&self, text: &str) -> Result<DpPort> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(DpPort(int("port", text)?));
        }
        (self.port_by_name)(text).ok_or_else(|| ParseError::UnknownAction(text.to_owned()))
    }

    fn check_pkt_len(&mut self, text: &str, depth: usize) -> Result<DpAction> {
        let (mut len, mut lists) = (None, [Vec::new(), Vec::new()]);
        for pair in pairs(text)? {
            match pair.key {
                "size" => len = Some(int("size", pair.text())?),
                "gt" => lists[0] = self.list(pair.text(), depth + 1)?,
                "le" => lists[1] = self.list(pair.text(), depth + 1)?,
                key => return Err(ParseError::UnknownKeyword(key.to_owned())),
            }
        }
        let len = len.ok_or_else(|| bad("check_pkt_len", text, "size=BYTES,gt(ACTIONS),le(ACTIONS)"))?;
        let [greater, not_greater] = lists;
        Ok(DpAction::CheckPktLen { len, greater: greater.into(), not_greater: not_greater.into() })
    }
}

fn push_vlan(text: &str) -> Result<DpAction> {
    let (mut tpid, mut tci) = (EtherType::VLAN.0, 0u16);
    for pair in pairs(text)? {
        let text = pair.text();
        match pair.key {
            "tpid" => tpid = int("tpid", text)?,
            "vid" => tci |= number_of("vid", text, 12)? as u16,
            "pcp" => tci |= (number_of("pcp", text, 3)? as u16) << 13,
            "cfi" => {}
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        }
    }
    if ![EtherType::VLAN.0, EtherType::QINQ.0].contains(&tpid) {
        return Err(bad("tpid", text, "0x8100 or 0x88a8"));
    }
    Ok(DpAction::PushVlan { tpid, tci })
}

fn hash(text: &str) -> Result<DpAction> {
    match &pairs(text)?[..] {
        [Pair { key: "l4", value: Some(n), .. }] => {
            Ok(DpAction::Hash { basis: int("l4", n)?, symmetric: false })
        }
        [Pair { key: "sym_l4", value: Some(n), .. }] => {
            Ok(DpAction::Hash { basis: int("sym_l4", n)?, symmetric: true })
        }
        _ => Err(bad("hash", text, "l4(BASIS) or sym_l4(BASIS)")),
    }
}

/// A label stack entry, and the other keywords.
fn lse<'a>(text: &'a str, mut other: impl FnMut(&Pair<'a>) -> Result<()>) -> Result<u32> {
    let mut lse = 0;
    for pair in pairs(text)? {
        let (shift, width) = match pair.key {
            "label" => (12, 20),
            "tc" => (9, 3),
            "bos" => (8, 1),
            "ttl" => (0, 8),
            _ => {
                other(&pair)?;
                continue;
            }
        };
        lse |= (number_of(pair.key, pair.text(), width)? as u32) << shift;
    }
    Ok(lse)
}

fn push_mpls(text: &str) -> Result<DpAction> {
    let mut ethertype = 0x8847;
    let lse = lse(text, |pair| {
        if pair.key != "eth_type" {
            return Err(ParseError::UnknownKeyword(pair.key.to_owned()));
        }
        ethertype = int("eth_type", pair.text())?;
        Ok(())
    })?;
    match ethertype {
        0x8847 | 0x8848 => Ok(DpAction::PushMpls { lse, ethertype }),
        _ => Err(bad("eth_type", text, "0x8847 or 0x8848")),
    }
}

/// The fields of one group of `set`.
fn set(group: &Pair<'_>, out: &mut Vec<DpAction>) -> Result<()> {
    let text = group.text();
    match group.key {
        "skb_priority" => out.push(DpAction::Set(SetField::Priority(int("skb_priority", text)?))),
        "skb_mark" => out.push(DpAction::Set(SetField::Mark(int("skb_mark", text)?))),
        "vlan" => match push_vlan(text)? {
            DpAction::PushVlan { tci, .. } => out.push(DpAction::Set(SetField::VlanTci(tci))),
            _ => return Err(ParseError::UnknownKeyword("vlan".to_owned())),
        },
        "mpls" => {
            let unknown = |pair: &Pair<'_>| Err(ParseError::UnknownKeyword(pair.key.to_owned()));
            out.push(DpAction::Set(SetField::Mpls(lse(text, unknown)?)));
        }
        "tunnel" => return Err(ParseError::Unsupported("set(tunnel(...)) in a flow put by hand".to_owned())),
        name => {
            for field in pairs(text)? {
                out.push(DpAction::Set(set_field(name, &field)?));
            }
        }
    }
    Ok(())
}

fn set_field(group: &str, pair: &Pair<'_>) -> Result<SetField> {
    let text = pair.text();
    let whole = |field: Field| -> Result<u128> {
        let (value, mask) = raw_value(field, text)?;
        let all = mask == field.value_mask();
        if all { Ok(value) } else { Err(ParseError::BadMask { field, text: text.to_owned() }) }
    };
    let mac = |field: Field| whole(field).map(|value| Mac::from_u64(value as u64));
    let v6 = |field: Field| whole(field).map(u128::to_be_bytes);
    Ok(match (group, pair.key) {
        ("eth", "src") => SetField::EthSrc(mac(Field::EthSrc)?),
        ("eth", "dst") => SetField::EthDst(mac(Field::EthDst)?),
        ("ipv4", "src") => SetField::Ipv4Src(whole(Field::IpSrc)? as u32),
        ("ipv4", "dst") => SetField::Ipv4Dst(whole(Field::IpDst)? as u32),
        ("ipv4", "tos") | ("ipv6", "tclass") => SetField::IpTos(int(pair.key, text)?),
        ("ipv4", "ttl") | ("ipv6", "hlimit") => SetField::IpTtl(int(pair.key, text)?),
        ("ipv6", "src") => SetField::Ipv6Src(v6(Field::Ipv6Src)?),
        ("ipv6", "dst") => SetField::Ipv6Dst(v6(Field::Ipv6Dst)?),
        ("ipv6", "label") => SetField::Ipv6Label(number_of("label", text, 20)? as u32),
        ("tcp" | "udp" | "sctp", "src") | ("icmp" | "icmpv6", "type") => {
            SetField::TpSrc(int(pair.key, text)?)
        }
        ("tcp" | "udp" | "sctp", "dst") | ("icmp" | "icmpv6", "code") => {
            SetField::TpDst(int(pair.key, text)?)
        }
        ("arp", "sip") => SetField::Ipv4Src(whole(Field::ArpSpa)? as u32),
        ("arp", "tip") => SetField::Ipv4Dst(whole(Field::ArpTpa)? as u32),
        ("arp", "op") => SetField::ArpOp(int("op", text)?),
        ("arp", "sha") => SetField::ArpSha(mac(Field::ArpSha)?),
        ("arp", "tha") => SetField::ArpTha(mac(Field::ArpTha)?),
        ("nd", "target") => SetField::NdTarget(v6(Field::NdTarget)?),
        ("nd", "sll") => SetField::NdSll(mac(Field::NdSll)?),
        ("nd", "tll") => SetField::NdTll(mac(Field::NdTll)?),
        (group, key) => return Err(ParseError::UnknownKeyword(format!("{group}({key})"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PacketKey;
    use crate::text::format_dp_actions;

    fn read(text: &str) -> Result<Vec<DpAction>> {
        parse_dp_actions(text, &|name| (name == "p1").then_some(DpPort(7)))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let key = PacketKey { eth_type: 0x0800, ip_proto: 6, ..PacketKey::default() };
        let cases = [
            "drop",
            "2",
            "set(eth(src=00:00:00:00:00:07)),push_vlan(vid=5,pcp=0),2",
            "push_vlan(tpid=0x88a8,vid=5,pcp=3),pop_vlan,trunc(100),2,3",
            "set(ipv4(src=1.2.3.4,dst=5.6.7.8,tos=0x4,ttl=63)),set(tcp(src=1,dst=80)),1",
            "ct(commit,zone=3,mark=0x1/0xff,nat(src=10.0.0.1-10.0.0.9:1024-65535)),ct_clear,4",
            "clone(ct(force_commit,label=0x1/0xf,helper=ftp),5),hash(l4(0)),hash(sym_l4(5))",
            "check_pkt_len(size=100,gt(2),le(drop))",
            "push_mpls(label=5,tc=1,ttl=3,bos=1,eth_type=0x8847),pop_mpls(eth_type=0x800),1",
            "set(skb_priority(0x10)),set(skb_mark(0x7)),ct,1",
        ];
        for case in cases {
            let read = read(case).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(format_dp_actions(&read, &key, &|_| None), case);
        }
        assert_eq!(read("p1").unwrap(), [DpAction::Output(DpPort(7))]);
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let deep = "clone(".repeat(20) + "1" + &")".repeat(20);
        let wrong = [
            "nonsense",
            "4294967296",
            "drop,1",
            "set(eth(foo=1))",
            "set(ipv4(src=1.2.3.4/255.0.0.0))",
            "recirc(0x5)",
            "userspace(pid=1)",
            "meter(1)",
            "push_vlan(vid=5000)",
            "clone(1",
            "check_pkt_len(gt(1),le(2))",
            "hash(x(1))",
            "set(tunnel(tun_id=1))",
            "ct(zone=70000)",
            "pop_mpls(1)",
            "bad(1)",
            &deep,
        ];
        for text in wrong {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
