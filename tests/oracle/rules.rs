//! Which flow tables are compared? Generated ones: every kind of match and action, in the syntax of ovs-ofctl(8).
//!
//! Values come from small pools, so that rules overlap and packets hit them. Rules go on to later tables only.

use crate::support::Dice;

#[path = "extras.rs"]
mod extras;

/// Tables rules stand in that go on to each other.
pub(crate) const TABLES: u64 = 6;
/// The table that looks at the bit of `check_pkt_larger`.
const BIT: u64 = TABLES;
/// The table of learned rules, which is the last.
const LEARNED: u64 = TABLES + 1;
/// Meters that are there before any table.
pub(crate) const METERS: u64 = 2;
/// Ports of the bridge.
pub(crate) const PORTS: u64 = 6;

pub(crate) const MACS: [&str; 4] =
    ["02:00:00:00:00:01", "02:00:00:00:00:02", "01:00:5e:00:00:05", "02:00:00:00:ff:01"];
pub(crate) const IPS: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.9.0.1", "192.168.3.4"];
pub(crate) const IP6S: [&str; 4] = ["fd00::1", "fd00::2", "fd00:1::1", "2001:db8:5::9"];
pub(crate) const L4: [u16; 5] = [53, 80, 443, 1024, 32769];
pub(crate) const LABELS: [u32; 3] = [16, 17, 1000];

/// What one comparison is about.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) groups: Vec<String>,
    pub(crate) flows: Vec<String>,
}

/// The kind of packet that a rule is for, as its match says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Any,
    Arp,
    Ip,
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Ip6,
    Tcp6,
    Udp6,
    Icmp6,
    Nd,
    Mpls,
}

use Class::{Any, Arp, Icmp, Icmp6, Ip, Ip6, Mpls, Nd, Sctp, Tcp, Tcp6, Udp, Udp6};

const CLASSES: [Class; 16] =
    [Any, Any, Any, Arp, Ip, Ip, Tcp, Tcp, Udp, Sctp, Icmp, Ip6, Tcp6, Udp6, Icmp6, Nd];

impl Class {
    fn v4(self) -> bool {
        matches!(self, Ip | Tcp | Udp | Sctp | Icmp)
    }
    fn v6(self) -> bool {
        matches!(self, Ip6 | Tcp6 | Udp6 | Icmp6 | Nd)
    }
    fn ip(self) -> bool {
        self.v4() || self.v6()
    }
    fn keyword(self) -> &'static str {
        match self {
            Any => "",
            Arp => "arp",
            Ip => "ip",
            Tcp => "tcp",
            Udp => "udp",
            Sctp => "sctp",
            Icmp => "icmp",
            Ip6 => "ipv6",
            Tcp6 => "tcp6",
            Udp6 => "udp6",
            Icmp6 => "icmp6",
            Nd => "icmp6,icmp_type=135,icmp_code=0",
            Mpls => "mpls",
        }
    }
    /// Name of the ports' fields.
    fn l4(self) -> Option<&'static str> {
        match self {
            Tcp | Tcp6 => Some("tcp"),
            Udp | Udp6 => Some("udp"),
            Sctp => Some("sctp"),
            _ => None,
        }
    }
}

/// A rule being made.
struct Maker<'a> {
    dice: &'a mut Dice,
    table: u64,
    priority: u64,
    class: Class,
    /// Tags that the packet is known to have.
    tags: u8,
    /// Whether it is known to have been tracked.
    tracked: bool,
    /// Whether it is known to have one label only.
    bottom: bool,
    /// Lists inside lists.
    depth: u32,
    groups: u64,
    /// Whether rules of this set learn others. If not, they ask for lengths.
    learns: bool,
}

/// Tables of about 45 rules.
pub(crate) fn generate(dice: &mut Dice) -> Tables {
    let mut out = Tables::default();
    // What is learned stays. So it is not mixed with lengths, about which Open vSwitch is asked again.
    let learns = dice.once_in(2);
    let groups = dice.below(4);
    for id in 1..=groups {
        let group = group(dice, id);
        out.groups.push(group);
    }
    for table in 0..=LEARNED {
        // Priorities differ: which of two rules of the same priority matches is nobody's promise.
        let base = dice.below(50);
        let rules = if table < TABLES { 3 + dice.below(8) } else { 2 + dice.below(3) };
        for n in 0..rules {
            let priority = base + 37 * (n + 1) % 101;
            let tags = u8::from(dice.once_in(4));
            let class = if dice.once_in(9) { Mpls } else { *dice.pick(&CLASSES) };
            let mut maker = Maker {
                dice,
                table,
                priority,
                class,
                tags,
                tracked: false,
                bottom: false,
                depth: 0,
                groups,
                learns,
            };
            let flow = maker.rule();
            out.flows.push(flow);
        }
        if table < TABLES && dice.once_in(3) {
            let id = 1 + dice.below(20);
            conjunction(dice, table, id, &mut out.flows);
        }
    }
    out
}

/// A group of any type; buckets send to ports, changed or not.
fn group(dice: &mut Dice, id: u64) -> String {
    let kind = *dice.pick(&["all", "select", "indirect", "ff"]);
    let mut text = format!("group_id={id},type={kind}");
    if kind == "select" {
        text.push_str(match dice.below(4) {
            0 | 1 => ",selection_method=hash,fields(ip_dst,tcp_dst)",
            2 => ",selection_method=dp_hash",
            _ => "",
        });
    }
    let buckets = if kind == "indirect" { 1 } else { 1 + dice.below(3) };
    for _ in 0..buckets {
        text.push_str(",bucket=");
        if kind == "ff" {
            text.push_str(&format!("watch_port:{},", 1 + dice.below(PORTS)));
        }
        if kind == "select" {
            text.push_str(&format!("weight:{},", dice.below(4)));
        }
        let change = match dice.below(3) {
            0 => format!("set_field:{}->eth_src,", dice.pick(&MACS)),
            1 => "push_vlan:0x8100,set_field:4097->vlan_vid,".to_owned(),
            _ => String::new(),
        };
        // Groups lead to those before them.
        let to = match dice.below(6) {
            0 if id > 1 => format!("group:{}", 1 + dice.below(id - 1)),
            _ => format!("output:{}", 1 + dice.below(PORTS)),
        };
        text.push_str(&format!("actions={change}{to}"));
    }
    text
}

/// Two clauses with alternatives each, and the rule they are for.
fn conjunction(dice: &mut Dice, table: u64, id: u64, out: &mut Vec<String>) {
    let priority = 500 + 10 * dice.below(3);
    for ip in IPS.iter().take(2) {
        out.push(format!("table={table},priority={priority},ip,nw_src={ip},actions=conjunction({id},1/2)"));
    }
    for port in [80, 443] {
        out.push(format!(
            "table={table},priority={priority},tcp,tp_dst={port},actions=conjunction({id},2/2)"
        ));
    }
    let to = 1 + dice.below(PORTS);
    out.push(format!("table={table},priority={priority},ip,conj_id={id},actions=output:{to}"));
}

impl Maker<'_> {
    fn rule(&mut self) -> String {
        let cookie = self.dice.below(1 << 16);
        let mut parts = vec![format!("table={},priority={},cookie={cookie:#x}", self.table, self.priority)];
        let word = self.class.keyword();
        if !word.is_empty() {
            parts.push(word.to_owned());
        }
        if self.table == BIT && !self.dice.once_in(4) {
            parts.push(format!("reg4={:#x}/0x1", self.dice.below(2)));
        }
        if self.class.ip() && self.dice.once_in(8) {
            parts.push("ct_state=+trk-inv".to_owned());
        }
        if self.class == Mpls && self.dice.once_in(2) {
            parts.push("mpls_bos=1".to_owned());
            self.bottom = true;
        }
        let mut fields = self.fields();
        fields.extend(self.newer_fields());
        for _ in 0..self.dice.below(4) {
            let field = self.dice.pick(&fields).clone();
            let name = field.split('=').next().unwrap_or_default();
            let same = |p: &String| p.split(',').any(|p| p.split('=').next() == Some(name));
            if !parts.iter().any(same) {
                parts.push(field);
            }
        }
        if self.tags > 0 {
            let vid = self.dice.below(3) + 1;
            parts.retain(|p| !p.starts_with("dl_vlan") && !p.starts_with("vlan_tci"));
            parts.push(format!("dl_vlan={vid}"));
        }
        self.tracked = parts.iter().any(|p| p.starts_with("ct_state=+trk-inv"));
        let actions = self.actions(1 + self.dice.0 % 4);
        format!("{},actions={actions}", parts.join(","))
    }

    /// Fields that a rule of this class may match.
    fn fields(&mut self) -> Vec<String> {
        let d = &mut *self.dice;
        let mut f = vec![
            format!("in_port={}", 1 + d.below(PORTS)),
            format!("dl_src={}", d.pick(&MACS)),
            format!("dl_dst={}", d.pick(&MACS)),
            "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00".to_owned(),
            format!("dl_src={}/ff:ff:ff:ff:00:ff", d.pick(&MACS)),
            "vlan_tci=0x0000".to_owned(),
            "vlan_tci=0x1000/0x1000".to_owned(),
            format!("dl_vlan={}", d.below(3) + 1),
            format!("vlan_tci={:#x}/0x1001", 0x1000 + d.below(2)),
            format!("reg0={}", d.below(3)),
            format!("reg1={:#x}/{:#x}", d.below(2), 1),
            format!("metadata={:#x}/0xf", d.below(4)),
            format!("reg5={}", d.below(2)),
            format!("xreg1={:#x}/0xff00000000", d.below(2) << 32),
            "tun_id=0".to_owned(),
            "actset_output=unset".to_owned(),
        ];
        if self.class.v4() {
            f.push(format!("nw_src={}", d.pick(&IPS)));
            f.push(format!("nw_dst={}", d.pick(&IPS)));
            f.push(format!("nw_src={}/{}", d.pick(&["10.0.0.0", "192.168.0.0"]), 8 + d.below(9)));
            f.push(format!("nw_dst=10.0.0.0/{}", 16 + d.below(9)));
            f.push("nw_dst=0.0.0.1/0.0.0.1".to_owned());
        }
        if self.class.v6() {
            f.push(format!("ipv6_src={}", d.pick(&IP6S)));
            f.push(format!("ipv6_dst={}", d.pick(&IP6S)));
            f.push(format!("ipv6_src=fd00::/{}", 16 + d.below(17)));
            f.push("ipv6_label=0x1".to_owned());
            f.push("ipv6_dst=::1/::1".to_owned());
        }
        if self.class.ip() {
            f.push(format!("nw_ttl={}", d.pick(&[1, 2, 64])));
            f.push(format!("nw_tos={}", d.pick(&[0, 32, 184])));
            f.push(format!("nw_ecn={}", d.below(4)));
            // Later fragments have no ports to match or set.
            let frags = ["no", "first", "not_later", "later", "yes"];
            let some = if matches!(self.class, Ip | Ip6) { &frags[..] } else { &frags[..3] };
            f.push(format!("nw_frag={}", d.pick(some)));
            f.push(format!(
                "ct_state={}",
                d.pick(&["-trk", "+trk", "+trk+new", "+trk-new", "+trk-inv", "+trk-inv"])
            ));
            f.push("ct_mark=0".to_owned());
        }
        if self.class.l4().is_some() {
            f.push(format!("tp_src={}", d.pick(&L4)));
            f.push(format!("tp_dst={}", d.pick(&L4)));
            f.push("tp_dst=0x8000/0x8000".to_owned());
        }
        match self.class {
            Tcp | Tcp6 => f.push(format!("tcp_flags={}", d.pick(&["+syn-ack", "+ack", "+fin", "-rst"]))),
            Icmp => f.push(format!("icmp_type={}", d.pick(&[0, 8, 3]))),
            Icmp6 => f.push(format!("icmp_type={}", d.pick(&[128, 129, 135]))),
            Nd => {
                f.push(format!("nd_target={}", d.pick(&IP6S)));
                f.push(format!("nd_sll={}", d.pick(&MACS)));
            }
            Arp => {
                f.push(format!("arp_op={}", 1 + d.below(2)));
                f.push(format!("arp_spa={}", d.pick(&IPS)));
                f.push("arp_tpa=10.0.0.0/16".to_owned());
                f.push(format!("arp_sha={}", d.pick(&MACS)));
            }
            Mpls => {
                f.push(format!("mpls_label={}", d.pick(&LABELS)));
                f.push(format!("mpls_bos={}", d.below(2)));
                f.push("mpls_tc=0".to_owned());
            }
            _ => {}
        }
        f
    }

    /// A list of actions, the last of them a final one.
    fn actions(&mut self, most: u64) -> String {
        let mut list = Vec::new();
        // A meter stands first, as it does in versions where it is an instruction.
        if self.depth == 0 && self.dice.once_in(9) {
            list.push(format!("meter:{}", 1 + self.dice.below(METERS)));
        }
        for _ in 0..most {
            let action = self.action();
            list.push(action);
        }
        if self.depth == 0 {
            let end = self.ending();
            list.extend(end);
        }
        list.retain(|a| !a.is_empty());
        if list.is_empty() { "drop".to_owned() } else { list.join(",") }
    }

    /// What stands last: instructions, or nothing.
    fn ending(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        let onward = self.table + 1 < TABLES;
        match self.dice.below(8) {
            0 => out.push("clear_actions".to_owned()),
            1 | 2 => {
                let port = 1 + self.dice.below(PORTS);
                let set = match self.dice.below(3) {
                    0 => format!("set_field:{}->eth_dst,", self.dice.pick(&MACS)),
                    1 if self.tags == 0 => "push_vlan:0x8100,".to_owned(),
                    _ => String::new(),
                };
                out.push(format!("write_actions({set}output:{port})"));
            }
            _ => {}
        }
        if self.dice.once_in(5) {
            out.push(format!("write_metadata:{:#x}/0xf", self.dice.below(16)));
        }
        if onward && self.dice.once_in(3) {
            let to = self.table + 1 + self.dice.below(TABLES - self.table - 1);
            out.push(format!("goto_table:{to}"));
        }
        out
    }

    fn port(&mut self) -> u64 {
        1 + self.dice.below(PORTS)
    }

    fn action(&mut self) -> String {
        let choice = self.dice.below(52);
        match choice {
            0..=5 => format!("output:{}", self.port()),
            6 => "in_port".to_owned(),
            7 => format!("output(port={},max_len={})", self.port(), 64 + self.dice.below(100)),
            8 => "NORMAL".to_owned(),
            9..=12 => self.resubmit(),
            13 => format!("load:{:#x}->NXM_NX_REG{}[]", self.dice.below(3), self.dice.below(3)),
            14 => format!("load:{}->NXM_NX_REG1[0..3]", self.dice.below(3)),
            15 => "move:NXM_OF_IN_PORT[]->NXM_NX_REG2[0..15]".to_owned(),
            16 => "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]".to_owned(),
            17 => format!("set_field:{}->eth_src", self.dice.pick(&MACS)),
            18 => format!("set_field:{}/00:00:00:00:ff:ff->eth_dst", "00:00:00:00:12:34"),
            19 => {
                self.tags = self.tags.max(1);
                format!("mod_vlan_vid:{}", 1 + self.dice.below(3))
            }
            20 => self.vlan(),
            21..=24 => self.header(),
            25 => "push:NXM_NX_REG0[],pop:NXM_NX_REG3[]".to_owned(),
            26 => "output:NXM_NX_REG2[0..15]".to_owned(),
            27 => self.clone_of(),
            28 => format!("note:{:02x}.{:02x}", self.dice.below(256), self.dice.below(256)),
            29 => "set_tunnel:0x5".to_owned(),
            30 if self.groups > 0 && self.depth == 0 => format!("group:{}", 1 + self.dice.below(self.groups)),
            32 => self.choose_link(),
            33 if self.learns => self.learn(),
            34 => format!("set_queue:{},output:{},pop_queue", self.dice.below(2), self.port()),
            35 if self.class.ip() => self.ct(),
            36 if !self.learns && self.table < BIT => {
                format!("check_pkt_larger(100)->NXM_NX_REG4[0],resubmit(,{BIT})")
            }
            37 => self.mpls(),
            38 if self.class.ip() => "dec_ttl(1,2)".to_owned(),
            39 => "controller(max_len=100,id=3)".to_owned(),
            40.. => self.newer(choice - 40),
            _ => String::new(),
        }
    }

    /// Looks a later table up.
    fn resubmit(&mut self) -> String {
        if self.table == LEARNED {
            return format!("output:{}", self.port());
        }
        let to = self.table + 1 + self.dice.below(LEARNED - self.table);
        match self.dice.below(6) {
            0 | 1 => format!("resubmit({},{to})", self.port()),
            2..=4 if self.tracked && self.class.ip() => format!("resubmit(,{to},ct)"),
            _ => format!("resubmit(,{to})"),
        }
    }

    fn vlan(&mut self) -> String {
        match self.dice.below(4) {
            0 if self.tags < 2 => {
                self.tags += 1;
                format!("push_vlan:{}", self.dice.pick(&["0x8100", "0x88a8"]))
            }
            1 if self.tags > 0 => {
                self.tags -= 1;
                "pop_vlan".to_owned()
            }
            2 if self.tags > 0 => format!("set_field:{}->vlan_vid", 4097 + self.dice.below(3)),
            3 => {
                self.tags = self.tags.max(1);
                format!("mod_vlan_pcp:{}", self.dice.below(8))
            }
            _ if self.tags > 0 => {
                self.tags -= 1;
                "strip_vlan".to_owned()
            }
            _ => String::new(),
        }
    }

    /// Changes a header that the class has.
    fn header(&mut self) -> String {
        let d = &mut *self.dice;
        let choice = d.below(6);
        if self.class.v4() && choice < 3 {
            return match choice {
                0 => format!("mod_nw_src:{}", d.pick(&IPS)),
                1 => format!("set_field:{}->ip_dst", d.pick(&IPS)),
                _ => "move:NXM_OF_IP_SRC[0..15]->NXM_OF_IP_DST[0..15]".to_owned(),
            };
        }
        if self.class.v6() && choice < 3 {
            return match choice {
                0 => format!("set_field:{}->ipv6_src", d.pick(&IP6S)),
                1 => format!("set_field:{}->ipv6_dst", d.pick(&IP6S)),
                _ => "set_field:0x5->ipv6_label".to_owned(),
            };
        }
        if self.class.ip() && choice < 5 {
            return match (choice + d.below(3)) % 4 {
                0 => "dec_ttl".to_owned(),
                1 => format!("mod_nw_ttl:{}", d.pick(&[1, 9])),
                2 => "mod_nw_tos:184".to_owned(),
                _ => "set_field:2->nw_ecn".to_owned(),
            };
        }
        if let Some(l4) = self.class.l4() {
            let end = d.pick(&["src", "dst"]);
            return format!("set_field:{}->{l4}_{end}", d.pick(&L4));
        }
        match self.class {
            Arp if choice.is_multiple_of(2) => {
                "load:2->NXM_OF_ARP_OP[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]".to_owned()
            }
            Arp => format!("set_field:{}->arp_spa", d.pick(&IPS)),
            Nd => format!("set_field:{}->nd_target", d.pick(&IP6S)),
            Icmp => "set_field:0->icmp_type".to_owned(),
            _ => String::new(),
        }
    }

    fn clone_of(&mut self) -> String {
        if self.depth >= 2 {
            return String::new();
        }
        let (class, tags) = (self.class, self.tags);
        self.depth += 1;
        let most = 1 + self.dice.below(2);
        let list = self.actions(most);
        self.depth -= 1;
        (self.class, self.tags) = (class, tags);
        if list == "drop" { String::new() } else { format!("clone({list})") }
    }
}
