//! Does Weft decide as Open vSwitch does? Generated tables in both, the same packets traced through both.
//!
//! `WEFT_ORACLE_SETS` sets how many table sets are compared (250, of 80 packets each), `WEFT_ORACLE_SEED` where to
//! begin. Tables and traces of what differs are printed.

mod compare;
mod packets;
mod rules;
#[path = "../support/mod.rs"]
mod support;

use compare::{decisions, megaflows};
use rules::{PORTS, Tables};
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
        "ovs-vsctl add-br br0 {bridge} -- set bridge br0 fail_mode=secure other_config:hwaddr=02:00:00:00:aa:01"
    );
    for n in 1..=PORTS {
        line.push_str(&format!(" -- add-port br0 p{n} -- set interface p{n} type={port} ofport_request={n}"));
    }
    switch.ok(&line);
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
    for command in ["del-flows", "del-groups", "del-meters"] {
        check(command, switch.run(&format!("ovs-ofctl -O OpenFlow15 {command} br0")))?;
    }
    for meter in &tables.meters {
        check(meter, switch.run_words(&["ovs-ofctl", "-O", "OpenFlow15", "add-meter", "br0", meter]))?;
    }
    if !tables.groups.is_empty() {
        let lines = tables.groups.join("\n");
        check(&lines, switch.ofctl_file("-O OpenFlow15 add-groups", "br0", &lines))?;
    }
    check("flows", switch.ofctl_file("-O OpenFlow15 --bundle add-flows", "br0", &tables.flows.join("\n")))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn same_tables_same_packets_same_datapath_actions() {
    let (sets, seed) = (number("WEFT_ORACLE_SETS", 250), number("WEFT_ORACLE_SEED", 1));
    let (mut weft, mut ovs) = (bridge(Kind::Weft), bridge(Kind::OvsDummy));
    let (mut compared, mut same_masks, mut differ) = (0u64, 0u64, Vec::new());
    for set in 0..sets {
        let mut dice = Dice((seed + set) << 32);
        let tables = rules::generate(&mut dice);
        let listing = || [&tables.meters[..], &tables.groups, &tables.flows].concat().join("\n");
        if let Err(e) = load(&ovs, &tables) {
            panic!("set {}: {e}\n{}", seed + set, listing());
        }
        if let Err(e) = load(&weft, &tables) {
            differ.push(format!("set {}: {e}\n{}", seed + set, listing()));
            continue;
        }
        for _ in 0..PACKETS {
            let packet = packets::generate(&mut dice);
            let (flow, hex) = (format!("in_port={}", packet.port), packet.hex());
            let params = ["--names", "br0", &flow, &hex];
            let theirs = ovs.unixctl("ofproto/trace", &params).unwrap_or_else(|e| e);
            let ours = weft.unixctl("ofproto/trace", &params).unwrap_or_else(|e| e);
            compared += 1;
            same_masks += u64::from(megaflows(&ours) == megaflows(&theirs));
            let (a, b) = (decisions(&theirs), decisions(&ours));
            if a != b || a.is_empty() {
                let head = format!("set {}: {flow} {hex}\nOVS:  {a:?}\nWeft: {b:?}", seed + set);
                differ.push(format!("{head}\n--- OVS\n{theirs}\n--- Weft\n{ours}"));
            }
        }
    }
    println!("{compared} packets compared, {} differ, masks alike for {same_masks}", differ.len());
    if !differ.is_empty() {
        let shown = number("WEFT_ORACLE_SHOW", 5) as usize;
        let text: Vec<&String> = differ.iter().take(shown).collect();
        panic!(
            "{} differences, the first of them:\n{}",
            differ.len(),
            text.iter().map(|t| t.as_str()).collect::<Vec<_>>().join("\n\n")
        );
    }
    assert!(compared >= sets * PACKETS as u64, "every packet was compared");
}
