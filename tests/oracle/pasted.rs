//! Does `ofproto/trace` take flows as the datapath prints them? Lines of Open vSwitch's `dpctl/dump-flows` in both.

use weft_flow::TlvTable;
use weft_flow::text::parse_dp_flow;

use crate::rules::{self, PORTS};
use crate::support::{Dice, Kind};
use crate::{bridge, compare, load, packets, run};

/// Sets of tables, and packets that are sent for each.
const SETS: u64 = 12;
const PACKETS: usize = 24;

#[test]
fn flows_that_were_dumped_are_traced_alike() {
    let (mut weft, mut ovs) = (bridge(Kind::Weft), bridge(Kind::OvsDummy));
    let mut pasted = 0;
    // Where the length decides, docs/oracle.md says what Open vSwitch does.
    let sets = (1..).map(|set: u64| (Dice(set << 32), set));
    let sets = sets.map(|(mut dice, set)| (rules::generate(&mut dice), dice, set));
    let sets = sets.filter(|(t, ..)| !t.flows.iter().any(|f| f.contains("check_pkt_larger")));
    for (mut tables, mut dice, set) in sets.take(SETS as usize) {
        // Without a packet Open vSwitch does not say what pauses.
        tables.flows.iter_mut().for_each(|f| *f = f.replace("controller(pause)", "controller(id=4)"));
        if load(&ovs, &tables).is_err() {
            continue;
        }
        for _ in 0..PACKETS {
            let packet = packets::generate(&mut dice);
            let port = format!("p{}", packet.port);
            ovs.unixctl("netdev-dummy/receive", &[&port, &packet.hex()]).expect("a packet comes in");
        }
        let dump = |ovs: &crate::support::Switch| ovs.ok("ovs-appctl dpctl/dump-flows -m --names");
        ovs.wait_for("packets are answered", |s| !dump(s).is_empty());
        let lines = dump(&ovs);
        // Packets taught it addresses and rules.
        load(&ovs, &tables).expect("the tables again");
        load(&weft, &tables).expect("the tables");
        ovs.unixctl("fdb/flush", &["br0"]).expect("forgets");
        // Of several labels Weft reads one.
        let fresh = |line: &&str| {
            let labels = line.matches("bos=").count();
            labels < 2
                && line.contains("recirc_id(0)")
                && (1..=PORTS).any(|n| line.contains(&format!("in_port(p{n})")))
        };
        for line in lines.lines().filter(fresh) {
            let (flow, _) = line.split_once(", packets:").expect("counters behind the flow");
            let (_, flow) = flow.split_once(", ").expect("a name before it");
            let trace = |s: &mut crate::support::Switch, words: &[&str]| s.unixctl("ofproto/trace", words);
            let theirs = trace(&mut ovs, &["--names", flow]).expect("Open vSwitch takes what it printed");
            // Nor is a packet-in sent of none.
            let theirs = theirs.replace("dont_send=1", "dont_send=0");
            let ours = trace(&mut weft, &["--names", flow]).unwrap_or_else(|e| panic!("{flow}: {e}"));
            // With the datapath's name, and the whole line.
            let named =
                trace(&mut weft, &["--names", "ovs-netdev", line]).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(named, ours, "{line}");
            let port = |name: &str| name.strip_prefix('p')?.parse().ok().map(weft_flow::DpPort);
            let (key, _) = parse_dp_flow(flow, &port, &TlvTable::new()).expect("a flow");
            let headers = run::Headers::of(&key.packet);
            if let Err(why) = compare::same(&theirs, &ours, &headers, 60) {
                panic!("set {set}: {flow}\n{why}\n--- OVS\n{theirs}\n--- Weft\n{ours}");
            }
            pasted += 1;
        }
    }
    println!("{pasted} flows pasted");
    assert!(pasted >= 100, "only {pasted} flows were compared");
}
