//! Are our masks as wide as those of Open vSwitch? What its `ofproto/trace` said of the same tables, beside ours.
//!
//! `data/megaflows.txt` was written by Open vSwitch 3.1: sets of rules (`# name`, `flow`), and for each `packet` the
//! megaflow (`ovs`). Where ours looks at a bit that its does not, the case has to be among [`NARROWER`], with a reason.

mod common;

use common::{bridge, device, flows, packet, pipeline};
use weft_flow::text::{Syntax, parse_match};
use weft_flow::{CACHED_WORDS, FlowMask, Match};

/// Set, packet and bits that only we look at.
const NARROWER: &[(&str, &str, u32)] = &[
    // That there is no tag is in the EtherType of Open vSwitch's keys; ours have the innermost one.
    ("by port and tag", "in_port=1,tcp,tcp_dst=80", 16),
];
/// Sets in which Open vSwitch looks at bits that we leave open, in at least one packet.
const WIDER: &[&str] = &["routes of IPv6", "what is overwritten"];

struct Case {
    set: String,
    rules: String,
    packet: String,
    ovs: String,
}

fn cases() -> Vec<Case> {
    let (mut all, mut set, mut rules) = (Vec::new(), String::new(), String::new());
    let mut last = String::new();
    for line in include_str!("data/megaflows.txt").lines() {
        let (kind, rest) = line.split_once(' ').unwrap();
        match kind {
            "#" => (set, rules) = (rest.to_owned(), String::new()),
            "flow" => rules += &format!("{rest}\n"),
            "packet" => last = rest.to_owned(),
            "ovs" => {
                let (set, rules) = (set.clone(), rules.clone());
                all.push(Case { set, rules, packet: last.clone(), ovs: rest.to_owned() });
            }
            other => panic!("{other}"),
        }
    }
    all
}

/// Bits of one mask that another does not have. What every megaflow has, and the port's two numbers, aside.
fn beyond(a: &FlowMask, b: &FlowMask) -> u32 {
    let mut own = *a;
    let p = &mut own.0.packet;
    (p.in_port, p.recirc_id, p.extras, p.eth_type, p.ip_frag) = Default::default();
    let words = own.words().iter().zip(b.words()).take(CACHED_WORDS);
    words.map(|(a, b)| (a & !b).count_ones()).sum()
}

#[test]
fn masks_are_as_wide_as_those_of_open_vswitch() {
    let (mut failed, mut wider) = (Vec::new(), Vec::new());
    for case in cases() {
        let pipeline = pipeline(vec![bridge(1, (1..5).map(|n| device(1, n)).collect())]);
        flows(&pipeline, 1, &case.rules);
        let text = case.packet.replace("tcp_src", "tp_src").replace("tcp_dst", "tp_dst");
        let text = text.replace("udp_src", "tp_src").replace("udp_dst", "tp_dst");
        let text = text.replace("sctp_src", "tp_src").replace("sctp_dst", "tp_dst");
        let key = packet(1, &text);
        let ours = pipeline.walk(&key, 0).mask;
        let ovs = case.ovs.trim_start_matches("recirc_id=0,eth,");
        let theirs = parse_match(ovs, &Syntax::default()).unwrap_or_else(|e| panic!("{ovs}: {e}"));
        let more = beyond(&ours, &theirs.mask);
        let expected =
            NARROWER.iter().find(|(s, p, _)| *s == case.set && *p == case.packet).map_or(0, |n| n.2);
        if more != expected {
            let ours = weft_flow::text::format_match(&Match::new(&key, *ours), &Syntax::default());
            failed.push(format!(
                "{}: {}: {more} bits more\n  ours {ours}\n  ovs  {ovs}",
                case.set, case.packet
            ));
        }
        if beyond(&theirs.mask, &ours) > 0 && !wider.contains(&case.set) {
            wider.push(case.set);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(wider, WIDER);
}
