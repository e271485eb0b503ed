//! What do datapath actions do to a packet? Executed on the packet's headers, which need no bytes.
//!
//! A header field is a value, or what a translation of addresses made of it, which nobody knows before. What leaves is
//! noted in order: by which port or to which controller, with which headers, cut to which length, after which meters
//! and trackings. A recirculation goes on with the actions of its own pass.

use std::collections::{BTreeMap, BTreeSet};

use weft_flow::PacketKey;

use crate::actions::{DpAction, Value};

/// Bits of a field that are known, and what the others are called.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Bits {
    value: u128,
    unknown: u128,
    from: String,
}

/// A packet's headers, and what the datapath remembers with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Headers {
    fields: BTreeMap<&'static str, Bits>,
    eth_type: u16,
    /// TPID and TCI, the outermost last.
    vlans: Vec<(u16, u16)>,
    /// Label stack entries, the outermost last.
    mpls: Vec<u32>,
    /// What tracked it.
    tracked: Option<String>,
    /// Meters that let it pass, in order.
    meters: Vec<String>,
    /// Whether its Ethernet header was taken off.
    bare: bool,
    /// The network service header that it begins with, or that follows Ethernet's, as printed.
    nsh: Vec<String>,
    /// What is beneath that header.
    beneath: Option<Box<Headers>>,
}

/// Something that can be seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    /// A port, a controller, the connection tracker.
    pub(crate) to: String,
    /// Bytes it was cut to.
    cut: Option<u64>,
    headers: Headers,
}

/// Bytes of an Ethernet header without tags, and of a network service header with metadata of type 1 (RFC 8300).
const ETHERNET: i64 = 14;
const NSH: i64 = 24;

/// What a recirculation leads to that hashes the packet before: nobody knows.
pub(crate) const HASHED: &str = "unknown";

impl Event {
    /// Whether another is the same, but for further tags beneath the outermost ones.
    pub(crate) fn agrees_but_for_lost_tags(&self, ours: &Event) -> bool {
        let (theirs, outer) = (&self.headers.vlans, &ours.headers.vlans);
        if !outer.ends_with(theirs) {
            return false;
        }
        let headers = Headers { vlans: theirs.clone(), ..ours.headers.clone() };
        *self == Event { headers, ..ours.clone() }
    }
    /// Whether it is another with a tag of VLAN 0 around it.
    pub(crate) fn has_priority_tag_besides(&self, ours: &Event) -> bool {
        let mut bare = self.clone();
        let tag = bare.headers.vlans.pop();
        tag.is_some_and(|(_, tci)| tci & 0xfff == 0) && bare == *ours
    }
    /// The same, but to another.
    pub(crate) fn sent_to(&self, to: String) -> Event {
        Event { to, ..self.clone() }
    }
    /// Whether the packet has no VLAN tag.
    pub(crate) fn untagged(&self) -> bool {
        self.headers.vlans.is_empty()
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Event { to, cut, headers: h } = self;
        write!(
            f,
            "{to} {cut:?} {}{:#06x} vlan{:x?} mpls{:x?} {:?} {:?} {:?} {:?}",
            if h.bare { "bare " } else { "" },
            h.eth_type,
            h.vlans,
            h.mpls,
            h.tracked,
            h.meters,
            h.nsh,
            h.beneath
        )?;
        for (name, bits) in h.fields.iter().filter(|(_, b)| **b != Bits::default()) {
            write!(f, " {name}={:x}{}", bits.value, bits.from)?;
        }
        Ok(())
    }
}

/// A traced packet's passes: the first one's actions, and those of each recirculation in the order they are met.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    pub(crate) lists: Vec<Vec<DpAction>>,
}

/// Executes passes on a packet of one length.
pub(crate) struct Machine<'a> {
    passes: &'a Passes,
    length: i64,
    grown: i64,
    /// Lengths of the packet received at which it went one way or the other.
    pub(crate) thresholds: BTreeSet<i64>,
    pub(crate) events: Vec<Event>,
    translations: usize,
    /// What went wrong.
    pub(crate) errors: Vec<String>,
}

/// Fields that a translation of addresses may change.
const TRANSLATED: [&str; 6] = ["ipv4.src", "ipv4.dst", "ipv6.src", "ipv6.dst", "tp.src", "tp.dst"];

/// Names of fields by header and field as they are printed, and which bits they have.
const FIELDS: [(&str, &str, &str, u32); 29] = [
    ("eth", "src", "eth.src", 48),
    ("eth", "dst", "eth.dst", 48),
    ("ipv4", "src", "ipv4.src", 32),
    ("ipv4", "dst", "ipv4.dst", 32),
    ("ipv4", "tos", "ip.tos", 8),
    ("ipv4", "ttl", "ip.ttl", 8),
    ("ipv6", "src", "ipv6.src", 128),
    ("ipv6", "dst", "ipv6.dst", 128),
    ("ipv6", "label", "ipv6.label", 20),
    ("ipv6", "tclass", "ip.tos", 8),
    ("ipv6", "hlimit", "ip.ttl", 8),
    ("tcp", "src", "tp.src", 16),
    ("tcp", "dst", "tp.dst", 16),
    ("udp", "src", "tp.src", 16),
    ("udp", "dst", "tp.dst", 16),
    ("sctp", "src", "tp.src", 16),
    ("sctp", "dst", "tp.dst", 16),
    ("icmp", "type", "tp.src", 16),
    ("icmp", "code", "tp.dst", 16),
    ("icmpv6", "type", "tp.src", 16),
    ("icmpv6", "code", "tp.dst", 16),
    ("arp", "sip", "ipv4.src", 32),
    ("arp", "tip", "ipv4.dst", 32),
    ("arp", "op", "arp.op", 16),
    ("arp", "sha", "arp.sha", 48),
    ("arp", "tha", "arp.tha", 48),
    ("nd", "target", "nd.target", 128),
    ("skb_priority", "", "skb.priority", 32),
    ("skb_mark", "", "skb.mark", 32),
];

impl Headers {
    /// Those of a packet as it was received.
    pub(crate) fn of(p: &PacketKey) -> Headers {
        let mac = |m: weft_wire::Mac| u128::from(m.to_u64());
        let v6 = |a: [u8; 16]| u128::from_be_bytes(a);
        let arp = p.eth_type == 0x806;
        let values = [
            ("eth.src", mac(p.eth_src)),
            ("eth.dst", mac(p.eth_dst)),
            ("ipv4.src", p.ipv4_src.into()),
            ("ipv4.dst", p.ipv4_dst.into()),
            ("ipv6.src", v6(p.ipv6_src)),
            ("ipv6.dst", v6(p.ipv6_dst)),
            ("ipv6.label", p.ipv6_label.into()),
            ("ip.tos", p.ip_tos.into()),
            ("ip.ttl", p.ip_ttl.into()),
            ("tp.src", p.tp_src.into()),
            ("tp.dst", p.tp_dst.into()),
            ("arp.op", if arp { p.ip_proto.into() } else { 0 }),
            ("arp.sha", mac(p.arp_sha)),
            ("arp.tha", mac(p.arp_tha)),
            ("nd.target", v6(p.nd_target)),
            ("skb.priority", 0),
            ("skb.mark", 0),
        ];
        let known = |(name, value)| (name, Bits { value, ..Bits::default() });
        let tags = p.vlan.iter().rev().filter(|tag| tag.is_present());
        Headers {
            fields: values.into_iter().map(known).collect(),
            eth_type: p.eth_type,
            vlans: tags.map(|tag| (tag.tpid, tag.tci & !weft_flow::VLAN_PRESENT)).collect(),
            mpls: p.mpls.iter().rev().copied().filter(|lse| *lse != 0).collect(),
            ..Headers::default()
        }
    }

    /// How many VLAN tags there are.
    pub(crate) fn tags(&self) -> usize {
        self.vlans.len()
    }

    fn set(&mut self, header: &str, fields: &[(String, Value)]) -> Result<(), String> {
        if matches!(header, "vlan" | "mpls") {
            let whole = DpAction::whole(fields, header)?;
            let top = || format!("set({header}) without one");
            if header == "vlan" {
                self.vlans.last_mut().ok_or_else(top)?.1 = whole as u16;
            } else {
                *self.mpls.last_mut().ok_or_else(top)? = whole;
            }
            return Ok(());
        }
        if header == "nsh" {
            self.nsh.push(format!("{fields:x?}"));
            return Ok(());
        }
        for (name, Value { value, mask }) in fields {
            let known = FIELDS.iter().find(|(h, n, ..)| h == &header && n == name);
            let (_, _, to, width) = known.ok_or_else(|| format!("set({header}({name})) of what?"))?;
            let mask = mask & (u128::MAX >> (128 - width));
            let bits = self.fields.entry(to).or_default();
            bits.value = bits.value & !mask | value & mask;
            bits.unknown &= !mask;
            if bits.unknown == 0 {
                bits.from.clear();
            }
        }
        Ok(())
    }

    fn set_eth(&mut self, [src, dst]: [u128; 2]) {
        for (name, value) in [("eth.src", src), ("eth.dst", dst)] {
            self.fields.insert(name, Bits { value, ..Bits::default() });
        }
    }

    /// Puts a network service header around what is there.
    fn push_nsh(&mut self, header: &str) {
        let beneath = std::mem::take(self);
        *self = Headers {
            fields: beneath.fields.clone(),
            tracked: beneath.tracked.clone(),
            meters: beneath.meters.clone(),
            eth_type: 0x894f,
            bare: true,
            nsh: vec![header.to_owned()],
            ..Headers::default()
        };
        // Nothing of the packet is left but what the datapath remembers with it.
        self.fields.retain(|name, _| name.starts_with("skb."));
        self.beneath = Some(Box::new(beneath));
    }

    /// Takes it off again; what was remembered meanwhile stays.
    fn pop_nsh(&mut self) -> Result<(), String> {
        let outer = std::mem::take(self);
        *self = *outer.beneath.ok_or("pop_nsh without one")?;
        self.fields.extend(outer.fields.into_iter().filter(|(name, _)| name.starts_with("skb.")));
        (self.tracked, self.meters) = (outer.tracked, outer.meters);
        Ok(())
    }

    /// A translation may have changed addresses and ports.
    fn translate(&mut self, n: usize) {
        for name in TRANSLATED {
            *self.fields.entry(name).or_default() =
                Bits { value: 0, unknown: u128::MAX, from: format!("translation {n}") };
        }
    }
}

impl<'a> Machine<'a> {
    pub(crate) fn run(passes: &'a Passes, headers: Headers, length: i64) -> Machine<'a> {
        let mut machine = Machine {
            passes,
            length,
            grown: 0,
            thresholds: BTreeSet::new(),
            events: Vec::new(),
            translations: 0,
            errors: Vec::new(),
        };
        match passes.lists.first() {
            Some(list) => machine.list(list, headers),
            None => machine.errors.push("no actions".to_owned()),
        }
        machine
    }

    /// Executes a list on a copy.
    fn list(&mut self, list: &'a [DpAction], mut headers: Headers) {
        let (grown, mut cut) = (self.grown, None);
        for action in list {
            if let Err(e) = self.one(action, &mut headers, &mut cut) {
                self.errors.push(e);
            }
        }
        self.grown = grown;
    }

    fn note(&mut self, to: String, cut: Option<u64>, headers: &Headers) {
        self.events.push(Event { to, cut, headers: headers.clone() });
    }

    fn one(&mut self, action: &'a DpAction, h: &mut Headers, cut: &mut Option<u64>) -> Result<(), String> {
        match action {
            DpAction::Output(port) => self.note(format!("port {port}"), cut.take(), h),
            DpAction::Userspace(inner) => {
                // Frozen states are numbered by the switch, and kept for packet-ins that nobody resumes.
                let keep = |f: &&str| !f.starts_with("recirc_id=") && !f.starts_with("pid=");
                let inner = inner.replace("controller(", "controller(,");
                let kept: Vec<_> = inner.split(',').filter(keep).collect();
                self.note(format!("userspace {}", kept.join(",")), cut.take(), h);
            }
            DpAction::Set(header, fields) => h.set(header, fields)?,
            DpAction::PushVlan { tpid, tci } => {
                h.vlans.push((*tpid, *tci));
                self.grown += 4;
            }
            DpAction::PopVlan => {
                h.vlans.pop().ok_or("pop_vlan without a tag")?;
                self.grown -= 4;
            }
            DpAction::PushMpls { lse, eth_type } => {
                h.mpls.push(*lse);
                h.eth_type = *eth_type;
                self.grown += 4;
            }
            DpAction::PopMpls(eth_type) => {
                h.mpls.pop().ok_or("pop_mpls without a label")?;
                h.eth_type = *eth_type;
                self.grown -= 4;
            }
            DpAction::PushEth(addresses) => {
                h.bare = false;
                h.set_eth(*addresses);
                self.grown += ETHERNET;
            }
            DpAction::PopEth => {
                h.bare = true;
                h.set_eth([0, 0]);
                self.grown -= ETHERNET;
            }
            DpAction::PushNsh(header) => {
                h.push_nsh(header);
                self.grown += NSH;
            }
            DpAction::PopNsh => {
                h.pop_nsh()?;
                self.grown -= NSH;
            }
            DpAction::Clone(list) => self.list(list, h.clone()),
            DpAction::CheckPktLen { size, greater, not_greater } => {
                let threshold = size - self.grown;
                self.thresholds.insert(threshold);
                let longer = self.length > threshold;
                self.list(if longer { greater } else { not_greater }, h.clone());
            }
            DpAction::Trunc(bytes) => *cut = Some(cut.map_or(*bytes, |c: u64| c.min(*bytes))),
            DpAction::Ct(spec) => {
                self.note(format!("ct {spec}"), None, h);
                h.tracked = Some(spec.clone());
                if spec.contains("nat") {
                    self.translations += 1;
                    h.translate(self.translations);
                }
            }
            DpAction::CtClear => h.tracked = None,
            DpAction::Hash(how) => h.tracked = Some(format!("hash {how} of {:?}", h.fields)),
            DpAction::Meter(id) => h.meters.push(id.clone()),
            DpAction::Recirc(pass) if pass == HASHED => self.note("looked up again".to_owned(), None, h),
            DpAction::Recirc(pass) => {
                let list = pass.parse::<usize>().ok().and_then(|i| self.passes.lists.get(i));
                let list = list.ok_or_else(|| format!("recirc({pass}) goes nowhere"))?;
                self.list(list, h.clone());
            }
            DpAction::Sample(share, list) => {
                self.note(format!("sample {share}"), None, h);
                self.list(list, h.clone());
            }
        }
        Ok(())
    }
}
