//! Does Weft decide as Open vSwitch does? Generated tables in both, the same packets traced through both.
//!
//! `WEFT_ORACLE_SETS` sets how many table sets are compared (260, of 80 packets each), `WEFT_ORACLE_SEED` where to
//! begin. Tables and traces of what differs are printed.

mod actions;
mod compare;
mod masks;
mod packets;
mod pasted;
mod rules;
mod run;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use compare::decisions;
use rules::{METERS, PORTS, Tables};
use support::{Dice, Kind, Switch};

/// Packets traced through one set of tables.
const PACKETS: usize = 80;

/// A switch of either kind with the bridge that tables are put in.
fn bridge(kind: Kind) -> Switch {
    let switch = Switch::start(kind);
    let (bridge, port) = match kind {
        Kind::Weft => ("", "internal"),
        Kind::OvsDummy | Kind::Ovs => ("-- set bridge br0 datapath_type=dummy", "dummy"),
    };
    let mut line = format!(
        "ovs-vsctl set open_vswitch . other_config:vlan-limit=2 -- add-br br0 {bridge} -- set bridge br0 fail_mode=secure other_config:hwaddr=02:00:00:00:aa:01"
    );
    for n in 1..=PORTS {
        line.push_str(&format!(" -- add-port br0 p{n} -- set interface p{n} type={port} ofport_request={n}"));
    }
    switch.ok(&line);
    // The datapath's meters have numbers of their own, which are the same as long as none is deleted.
    for id in 1..=METERS {
        let meter = format!("meter={id},pktps,burst,bands=type=drop,rate=1000,burst_size=100");
        switch.ok(&format!("ovs-ofctl -O OpenFlow15 add-meter br0 {meter}"));
    }
    // Collectors that nobody is: samples are taken, and lost.
    switch.ok("ovs-vsctl -- --id=@b get bridge br0 -- --id=@i create ipfix targets=[\"127.0.0.1:9\"] \
         -- create flow_sample_collector_set id=1 bridge=@b ipfix=@i \
         -- create flow_sample_collector_set id=2 bridge=@b ipfix=@i");
    switch.ok("ovs-ofctl add-tlv-map br0 {class=0xffff,type=0,len=4}->tun_metadata0");
    if kind == Kind::Weft {
        // Dummies are always up.
        (1..=PORTS).for_each(|n| drop(switch.ok(&format!("ip link set p{n} up"))));
        switch.ok("ip link set br0 up");
    }
    switch
}

/// Puts tables in place of what was there. What either switch refuses is an error of the generator, or a difference.
fn load(switch: &Switch, tables: &Tables) -> Result<(), String> {
    let check = |what: &str, said: support::Said| match said.code {
        0 => Ok(()),
        _ => Err(format!("{:?} refused {what}: {}{}", switch.kind, said.out, said.err)),
    };
    for command in ["del-flows", "del-groups"] {
        check(command, switch.run(&format!("ovs-ofctl -O OpenFlow15 {command} br0")))?;
    }
    if !tables.groups.is_empty() {
        let lines = tables.groups.join("\n");
        check(&lines, switch.ofctl_file("-O OpenFlow15 add-groups", "br0", &lines))?;
    }
    check("flows", switch.ofctl_file("-O OpenFlow15 --bundle add-flows", "br0", &tables.flows.join("\n")))
}

/// The headers that a packet comes with.
fn headers(packet: &packets::Packet) -> run::Headers {
    let mut key = weft_flow::PacketKey::default();
    weft_flow::extract_packet(&packet.frame, packet.port as u32, &mut key).expect("packets are sound");
    run::Headers::of(&key)
}

/// Traces a packet with nothing learned before: traced packets teach addresses.
fn trace(switch: &mut Switch, packet: &packets::Packet) -> Result<String, String> {
    let (flow, hex) = (packet.flow(), packet.hex());
    switch.unixctl("fdb/flush", &["br0"])?;
    switch.unixctl("ofproto/trace", &["--names", "br0", &flow, &hex])
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    compared: u64,
    died: u64,
    refused: u64,
    explained: BTreeMap<compare::Rule, u64>,
    masks: BTreeMap<masks::Width, u64>,
    differ: Vec<String>,
}

/// A packet that is decided otherwise.
struct Other {
    packet: packets::Packet,
    theirs: String,
    ours: String,
    why: String,
}

impl Other {
    fn text(&self, set: u64) -> String {
        let Other { packet, theirs, ours, why } = self;
        let lists = format!("OVS:  {:?}\nWeft: {:?}", decisions(theirs), decisions(ours));
        format!(
            "set {set}: {} {}\n{why}\n{lists}\n--- OVS\n{theirs}\n--- Weft\n{ours}",
            packet.flow(),
            packet.hex()
        )
    }
}

/// Compares one set of tables.
fn compare_set(set: u64, weft: &mut Switch, ovs: &mut Switch, found: &mut Found) {
    let mut dice = Dice(set << 32);
    let tables = rules::generate(&mut dice);
    let listing = || [&tables.groups[..], &tables.flows].concat().join("\n");
    if let Err(e) = load(ovs, &tables) {
        // What one refuses the other refuses too.
        found.refused += 1;
        if load(weft, &tables).is_ok() {
            found.differ.push(format!("set {set}: Weft takes what is refused: {e}\n{}", listing()));
        }
        return;
    }
    if let Err(e) = load(weft, &tables) {
        return found.differ.push(format!("set {set}: {e}\n{}", listing()));
    }
    let mut others = Vec::new();
    for _ in 0..PACKETS {
        let packet = packets::generate(&mut dice);
        let ours = trace(weft, &packet).unwrap_or_else(|e| e);
        let theirs = match trace(ovs, &packet) {
            Err(e) if e == support::DIED => {
                // Some packets are too much for it; Weft survives them.
                found.died += 1;
                *ovs = bridge(Kind::OvsDummy);
                load(ovs, &tables).expect("the tables again");
                // Neither knows anymore what was learned.
                load(weft, &tables).expect("the tables again");
                continue;
            }
            theirs => theirs.unwrap_or_else(|e| e),
        };
        found.compared += 1;
        if let Some(width) = masks::compare(&theirs, &ours) {
            *found.masks.entry(width).or_default() += 1;
        }
        match compare::same(&theirs, &ours, &headers(&packet), packet.frame.len()) {
            Ok(rules) => rules.into_iter().for_each(|r| *found.explained.entry(r).or_default() += 1),
            Err(why) => others.push(Other { packet, theirs, ours, why }),
        }
    }
    let (asking, rest): (Vec<Other>, Vec<Other>) =
        others.into_iter().partition(|o| o.theirs.contains("check_pkt_larger("));
    found.differ.extend(rest.iter().map(|other| other.text(set)));
    with_length_known(set, &tables, asking, ovs, found);
}

/// Compares packets with what Open vSwitch says when it is told, in place of `check_pkt_larger`, that they are longer or
/// that they are not.
fn with_length_known(set: u64, tables: &Tables, mut others: Vec<Other>, ovs: &mut Switch, found: &mut Found) {
    for long in [true, false].into_iter().take(2 * others.len()) {
        let load_bit = |flow: &String| {
            let ask = "check_pkt_larger(100)->NXM_NX_REG4[0]";
            flow.replace(ask, &format!("load:{}->NXM_NX_REG4[0]", u8::from(long)))
        };
        let flows = tables.flows.iter().map(load_bit).collect();
        let known = Tables { flows, groups: tables.groups.clone() };
        load(ovs, &known).expect("tables without a check");
        others.retain_mut(|other| {
            let theirs = trace(ovs, &other.packet).unwrap_or_else(|e| e);
            let same = compare::same_extreme(&theirs, &other.ours, &headers(&other.packet), long);
            if let Err(why) = &same {
                other.why =
                    format!("{}; told that it is {}long: {why}", other.why, if long { "" } else { "not " });
                found.differ.push(other.text(set));
            }
            same.is_ok()
        });
    }
    *found.explained.entry(compare::Rule::LengthKnown).or_default() += others.len() as u64;
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn same_tables_same_packets_same_outcome() {
    let (sets, seed) = (number("WEFT_ORACLE_SETS", 260), number("WEFT_ORACLE_SEED", 1));
    let (mut weft, mut ovs) = (bridge(Kind::Weft), bridge(Kind::OvsDummy));
    let mut found = Found::default();
    (seed..seed + sets).for_each(|set| compare_set(set, &mut weft, &mut ovs, &mut found));
    let Found { compared, died, refused, explained, masks, differ } = &found;
    println!(
        "{compared} packets compared, {} differ; by rule {explained:?}; masks {masks:?}; {refused} sets refused, \
         Open vSwitch died of {died}",
        differ.len()
    );
    let shown = number("WEFT_ORACLE_SHOW", 5) as usize;
    let text: Vec<&str> = differ.iter().take(shown).map(String::as_str).collect();
    assert!(differ.is_empty(), "{} differences, the first:\n{}", differ.len(), text.join("\n\n"));
    assert_eq!(compared + died, (sets - refused) * PACKETS as u64, "not every packet was compared");
}
