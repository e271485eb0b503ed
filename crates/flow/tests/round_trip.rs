//! Does every match and every action read back as it was written?

mod generate;

use proptest::prelude::*;
use proptest::sample::select;
use weft_flow::text::{
    ParseError, Style, Syntax, format_actions, format_dp_flow_options, format_match, parse_actions,
    parse_dp_flow, parse_flow, parse_key, parse_match,
};
use weft_flow::{Action, Field, Match, OfPort, Prereq, TlvMapping, TlvTable};

use generate::{actions, plain, subfields, value_of};

/// Kinds of packets: fields with values that other fields ask for.
const KINDS: &[&[(Field, u128)]] = &[
    &[],
    &[(Field::EthType, 0x1234)],
    &[(Field::EthType, 0x0806)],
    &[(Field::EthType, 0x8847)],
    &[(Field::EthType, 0x0800)],
    &[(Field::EthType, 0x86dd)],
    &[(Field::EthType, 0x0800), (Field::NwProto, 6)],
    &[(Field::EthType, 0x86dd), (Field::NwProto, 17)],
    &[(Field::EthType, 0x0800), (Field::NwProto, 132), (Field::DlVlan, 5)],
    &[(Field::EthType, 0x0800), (Field::NwProto, 1)],
    &[(Field::EthType, 0x86dd), (Field::NwProto, 58), (Field::Icmpv6Type, 135)],
    &[(Field::EthType, 0x86dd), (Field::NwProto, 58), (Field::Icmpv6Type, 136), (Field::CtState, 0x22)],
];

fn matches() -> impl Strategy<Value = Match> {
    let fields: Vec<Field> = Field::ALL.iter().copied().filter(|f| plain(*f)).collect();
    let one = (select(fields), any::<u128>(), any::<u128>(), any::<bool>());
    (select(KINDS), prop::collection::vec(one, 0..8)).prop_map(|(kind, more)| {
        let mut m = Match::any();
        for (field, value) in kind {
            m.set(*field, *value);
        }
        for (field, value, mask, whole) in more {
            // What the kind says must stay, so that prerequisites do.
            let fixed =
                matches!(field.name(), "eth_type" | "nw_proto" | "icmpv6_type" | "icmp_type" | "arp_op");
            let fixed = fixed || field.prereq() == Prereq::Vlan || field == Field::CtState;
            if m.meets(field.prereq()) && !fixed {
                let (value, mask) = value_of(field, value, mask, whole);
                m.set_masked(field, value, mask);
            }
        }
        m.normalize();
        m
    })
}

proptest! {
    #[test]
    fn matches_read_back(m in matches()) {
        let text = format_match(&m, &Syntax::default());
        prop_assert_eq!(parse_match(&text, &Syntax::default()), Ok(m), "{}", text);
        prop_assert_eq!(m.check_prereqs(), Ok(()), "{}", text);
    }

    #[test]
    fn actions_read_back(actions in prop::collection::vec(actions(), 0..6)) {
        let text = format_actions(&actions, &Syntax::default());
        prop_assert_eq!(parse_actions(&text, &Syntax::default()), Ok(actions), "{}", text);
    }

    #[test]
    fn subfields_read_back_in_openflow_1_0(subfield in subfields(true)) {
        let bits = subfield.bits.min(64);
        let mask = (u128::from(u64::MAX >> (64 - bits)) << subfield.start) & subfield.field.value_mask();
        prop_assume!(mask != 0);
        let action = Action::set(subfield.field, mask, mask);
        let old = Syntax { style: Style::OpenFlow10, ..Syntax::default() };
        let text = format_actions(std::slice::from_ref(&action), &old);
        // mod_tp_src does not say of which protocol.
        prop_assume!(!text.starts_with("mod_tp"));
        // A load is what set_field of such a field is called there.
        let load = Action::load(subfield.field, mask, mask);
        let expected = if text.starts_with("load:") { load } else { action };
        prop_assert_eq!(parse_actions(&text, &old), Ok(vec![expected]), "{}", text);
    }

    #[test]
    fn no_text_is_too_strange(text in "[-a-z0-9_=:,./()\\[\\]>+| \"é]{0,40}") {
        let syntax = Syntax::default();
        let _ = parse_flow(&text, &syntax);
        let _ = parse_key(&text, &syntax);
        let _ = parse_actions(&text, &syntax);
        let _ = parse_dp_flow(&text, &|_| None, syntax.tlv);
    }

    #[test]
    fn no_flow_is_too_strange(
        words in prop::collection::vec(select(vec![
            "ip", "tcp_flags=", "+syn", "-ack", "actions=", "set_field:", "->", "reg0", "[0..3]", "(", ")", ",", "clone",
            "output", "é", "load:", "1", "/", "ct_state=", "packet_type=", "resubmit", "\"", "note:", "a", "::", "nw_src=",
        ]), 0..14)
    ) {
        let _ = parse_flow(&words.concat(), &Syntax::default());
    }
}

#[test]
fn ports_have_names() {
    let by_name = |name: &str| (name == "s1-eth1").then_some(OfPort(2));
    let name = |port: OfPort| (port == OfPort(2)).then(|| "s1-eth1".to_owned());
    let syntax = Syntax { port_by_name: &by_name, port_name: &name, ..Syntax::default() };
    for text in [
        "in_port=s1-eth1 actions=output:s1-eth1",
        "in_port=\"s1-eth1\" actions=\"s1-eth1\"",
        "in_port=2 actions=2",
    ] {
        let flow = parse_flow(text, &syntax).unwrap();
        assert_eq!(flow.format(&syntax), "in_port=\"s1-eth1\" actions=output:\"s1-eth1\"", "{text}");
    }
    assert!(parse_flow("in_port=eth9", &syntax).is_err());
}

#[test]
fn packets_of_a_trace() {
    let syntax = Syntax::default();
    let key =
        parse_key("in_port=1,udp,dl_vlan=10,nw_dst=10.0.0.1,tp_dst=53,tun_id=5,reg3=7", &syntax).unwrap();
    assert_eq!((key.pipeline.in_port, key.packet.eth_type, key.packet.tp_dst), (1, 0x800, 53));
    assert_eq!((key.packet.vlan[0].tpid, key.packet.vlan[0].vid()), (0x8100, 10));
    assert_eq!((key.tunnel.id, key.pipeline.regs[3]), (5, 7));
    for bad in ["nw_src=1.2.3.4", "ip,nw_src=1.2.3.0/24", "in_port=foo", "tcp,actions=drop"] {
        assert!(parse_key(bad, &syntax).is_err(), "{bad}");
    }
}

#[test]
fn tunnel_options() {
    let line = |class, kind, len, index| TlvMapping { class, kind, len, index };
    let tlv = TlvTable::new().with(&[line(0xffff, 0x80, 4, 0), line(0, 1, 24, 7)]).unwrap();
    let syntax = Syntax { tlv: &tlv, ..Syntax::default() };
    let cases = [
        ("tun_metadata0", "geneve({class=0xffff,type=0x80,len=4,0/0})"),
        ("tun_metadata0=0", "geneve({class=0xffff,type=0x80,len=4,0})"),
        ("tun_metadata0=0x5/0xff", "geneve({class=0xffff,type=0x80,len=4,0x5/0xff})"),
        (
            "tun_metadata0=0x5,tun_metadata7=0x1234567890abcdef1234567890abcdef1234567890abcdef",
            "geneve({class=0xffff,type=0x80,len=4,0x5}\
             {class=0,type=0x1,len=24,0x1234567890abcdef1234567890abcdef1234567890abcdef})",
        ),
    ];
    for (text, dp) in cases {
        let m = parse_match(text, &syntax).unwrap();
        assert_eq!(format_match(&m, &syntax), text);
        let flow = format_dp_flow_options(&m.key, &m.mask, &tlv, &|_| None);
        assert!(flow.starts_with(&format!("tunnel({dp}),")), "{flow}");
    }
    assert_eq!(parse_match("tun_metadata1=5", &syntax), Err(ParseError::Unmapped(Field::TunMetadata1)));
}
