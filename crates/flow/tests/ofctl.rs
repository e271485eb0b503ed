//! Are flows read and written as `ovs-ofctl` does? The data files hold what Open vSwitch 3.1 prints; where it is
//! installed, it is asked again.

use std::process::Command;

use weft_flow::text::{FlowText, ParseError, Style, Syntax, parse_addition, parse_flow};
use weft_flow::{Action, ActionError};

const MODERN: &[&str] = &[
    include_str!("data/flows-openflow15.txt"),
    include_str!("data/actions-openflow15.txt"),
    include_str!("data/nsh-openflow15.txt"),
    include_str!("data/fields-openflow15.txt"),
];
const OLD: &[&str] =
    &[include_str!("data/flows-openflow10.txt"), include_str!("data/actions-openflow10.txt")];
const ERRORS: &str = include_str!("data/action-errors.txt");
const BAD: &str = include_str!("data/flows-bad.txt");
const BAD_FIELDS: &str = include_str!("data/fields-bad.txt");

fn lines(data: &str) -> impl Iterator<Item = &str> {
    data.lines().filter(|l| !l.is_empty() && !l.starts_with('#'))
}

fn cases<'a>(data: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    data.iter().flat_map(|d| lines(d)).map(|l| l.split_once(" => ").expect("two columns")).collect()
}

/// From OpenFlow 1.5 on `load` goes over the wire as `set_field`, which is then what it is called.
fn over_the_wire(flow: FlowText) -> FlowText {
    fn forget(actions: &mut [Action]) {
        for action in actions {
            match action {
                Action::SetField { load, .. } => *load = false,
                Action::Clone(inner) => forget(inner),
                Action::Ct(ct) => forget(&mut ct.exec),
                _ => {}
            }
        }
    }
    let mut flow = flow;
    if let Some(instructions) = &mut flow.instructions {
        forget(&mut instructions.apply);
        forget(&mut instructions.write);
    }
    flow
}

/// Options as `ovs-ofctl` prints them, and in flow syntax.
const OPTIONS: &[(&str, &str)] = &[
    ("table:", "table="),
    ("cookie:", "cookie="),
    ("idle:", "idle_timeout="),
    ("hard:", "hard_timeout="),
    ("importance:", "importance="),
    ("send_flow_rem", "send_flow_rem"),
    ("check_overlap", "check_overlap"),
    ("reset_counts", "reset_counts"),
    ("no_packet_counts", "no_packet_counts"),
    ("no_byte_counts", "no_byte_counts"),
];

/// What `ovs-ofctl` prints, in the words of flow syntax and the order in which we print: options first.
fn as_flow(printed: &str) -> String {
    let (head, actions) = printed.rsplit_once("actions=").expect("actions");
    let (mut options, mut matching) = (Vec::new(), String::new());
    for token in head.split_whitespace() {
        match OPTIONS.iter().find(|(printed, _)| token.starts_with(printed)) {
            Some((from, to)) => options.push(token.replacen(from, to, 1)),
            None => matching.push_str(token),
        }
    }
    options.sort_by_key(|o| if o.starts_with("cookie") { 0 } else { 1 });
    options.extend(Some(matching).filter(|m| !m.is_empty()));
    let space = if options.is_empty() { "" } else { " " };
    format!("{}{space}actions={actions}", options.join(","))
}

/// Each flow must be written as `ovs-ofctl` writes it, and both texts must be read as the same flow.
fn check(data: &[&str], style: Style) {
    let syntax = Syntax { style, ..Syntax::default() };
    let mut wrong = Vec::new();
    for (text, printed) in cases(data) {
        let ours = match parse_addition(text, &syntax) {
            Ok(flow) => {
                let flow = FlowText { has_priority: flow.priority != 32768, ignored: Vec::new(), ..flow };
                if style == Style::OpenFlow15 { over_the_wire(flow) } else { flow }
            }
            Err(e) => {
                wrong.push(format!("{text}: {e}"));
                continue;
            }
        };
        let (formatted, wanted) = (ours.format(&syntax), as_flow(printed));
        if formatted != wanted {
            wrong.push(format!("{text}\n  ours  {formatted}\n  wants {wanted}"));
        }
        // In OpenFlow 1.0 a wide value takes two actions.
        let same = |other: &FlowText| {
            *other == ours || style == Style::OpenFlow10 && other.matching == ours.matching
        };
        match parse_addition(&formatted, &syntax) {
            Ok(again) if same(&again) => {}
            other => wrong.push(format!("{formatted}: does not read back: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn openflow_1_5() {
    assert!(cases(MODERN).len() >= 500);
    check(MODERN, Style::OpenFlow15);
}

#[test]
fn openflow_1_0() {
    check(OLD, Style::OpenFlow10);
}

#[test]
fn what_open_vswitch_refuses_of_a_field_is_refused() {
    let taken = |text: &&str| parse_addition(text, &Syntax::default()).is_ok();
    let taken: Vec<&str> = lines(BAD_FIELDS).filter(taken).collect();
    assert!(taken.is_empty(), "{} taken:\n{}", taken.len(), taken.join("\n"));
}

#[test]
fn wrong_flows_are_refused() {
    for line in lines(BAD) {
        let text = line.trim_start_matches('!');
        let result = parse_addition(text, &Syntax::default());
        assert!(result.is_err(), "{text} gives {result:?}");
    }
}

#[test]
fn a_tag_is_set_where_there_is_one() {
    for text in [
        "actions=push_vlan:0x8100,set_vlan_vid:5",
        "dl_vlan_pcp=5,actions=set_vlan_pcp:2",
        "actions=mod_vlan_pcp:1,set_vlan_vid:5",
        "actions=mod_vlan_vid:5",
        "actions=write_actions(mod_vlan_vid:5,set_vlan_pcp:1)",
        "dl_vlan=3,actions=write_actions(set_vlan_pcp:1)",
        "actions=push_vlan:0x8100,write_actions(set_vlan_vid:1)",
    ] {
        assert!(parse_addition(text, &Syntax::default()).is_ok(), "{text}");
    }
    // OpenFlow 1.0 pushes one.
    let old = Syntax { style: Style::OpenFlow10, ..Syntax::default() };
    assert!(parse_addition("actions=set_vlan_vid:5", &old).is_ok());
}

#[test]
fn cookies() {
    let added = |text: &str| parse_addition(text, &Syntax::default()).map(|flow| flow.cookie);
    assert_eq!(added("cookie=-1,actions=drop"), Ok(u64::MAX));
    assert!(
        added("cookie=-2,actions=drop").is_err() && added("cookie=0x10000000000000000,actions=drop").is_err()
    );
    let selected = |text: &str| parse_flow(text, &Syntax::default()).map(|flow| flow.cookie_match);
    assert_eq!(selected("cookie=0x57/-1"), Ok(Some((0x57, u64::MAX))));
    assert_eq!(selected("cookie=-1/0xff,out_port=2,out_group=3"), Ok(Some((0xff, 0xff))));
}

/// OpenFlow's name for an error.
fn code(error: ActionError) -> &'static str {
    match error {
        ActionError::Prerequisite(_) => "OFPBAC_MATCH_INCONSISTENT",
        ActionError::BadSubfield(_) | ActionError::BadZone(_) => "OFPBAC_BAD_SET_LEN",
        ActionError::ReadOnly(_)
        | ActionError::VlanNotPresent
        | ActionError::BadValue(_)
        | ActionError::OutsideCt(_) => "OFPBAC_BAD_SET_ARGUMENT",
        ActionError::NotOfConnection(_) | ActionError::BadArgument(_) => "OFPBAC_BAD_ARGUMENT",
        ActionError::BadPort(_) => "OFPBAC_BAD_OUT_PORT",
        ActionError::TooManyTags => "OFPBAC_BAD_TAG",
        ActionError::BadConjunction => "NXBAC_BAD_CONJUNCTION",
        ActionError::BadTable(_) => "OFPBIC_BAD_TABLE_ID",
        ActionError::BadMeter(_) => "OFPMMFC_INVALID_METER",
        ActionError::NotInActionSet => "OFPBAC_BAD_TYPE",
    }
}

#[test]
fn errors_of_actions() {
    let old = Syntax { style: Style::OpenFlow10, ..Syntax::default() };
    for (text, wanted) in cases(&[ERRORS]) {
        match parse_addition(text, &Syntax::default()) {
            Err(ParseError::Action(error)) => assert_eq!(code(error), wanted, "{text}"),
            other => panic!("{text} gives {other:?}"),
        }
    }
    // What OpenFlow 1.0 does not mind.
    for text in [
        "actions=mod_nw_src:1.2.3.4",
        "actions=dec_ttl,pop_vlan",
        "ip actions=set_mpls_label:5",
        "ip actions=mod_tp_dst:80",
    ] {
        assert!(parse_addition(text, &old).is_ok(), "{text}");
    }
    for text in ["actions=load:1->NXM_OF_IP_SRC[]", "actions=ct(commit)", "actions=push:nw_src"] {
        assert!(parse_addition(text, &old).is_err(), "{text}");
    }
}

/// `ovs-ofctl` on one flow; `None` where it is not installed.
fn ovs_ofctl(version: &str, flow: &str) -> Option<Result<String, String>> {
    let out = Command::new("ovs-ofctl").args(["-O", version, "parse-flow", flow]).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let printed = text.lines().find_map(|l| l.split_once("ADD ")).map(|(_, flow)| flow.to_owned());
    Some(printed.ok_or_else(|| String::from_utf8_lossy(&out.stderr).into_owned()))
}

#[test]
fn data_is_what_open_vswitch_says() {
    for (version, data) in [("OpenFlow15", MODERN), ("OpenFlow10", OLD)] {
        for (text, printed) in cases(data) {
            let Some(theirs) = ovs_ofctl(version, text) else {
                println!("ovs-ofctl is not installed: nothing to compare with");
                return;
            };
            assert_eq!(theirs.as_deref(), Ok(printed), "{version}: {text}");
        }
    }
    for line in lines(BAD).filter(|l| !l.starts_with('!')) {
        let theirs = ovs_ofctl("OpenFlow15", line);
        assert!(matches!(theirs, None | Some(Err(_))), "{line} gives {theirs:?}");
    }
}
