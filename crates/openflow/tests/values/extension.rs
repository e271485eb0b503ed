//! The larger actions, as versions read them back unchanged whatever a rule matches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use weft_flow::{
    Action, Bundle, BundleAlgorithm, ControllerAction, Ct, CtZone, Encap, Field, HashFields, Learn, LearnDst,
    LearnSpec, LearnSrc, Multipath, MultipathAlgorithm, Nat, NatSide, OfPort, OptionValue, Sample,
    SampleDirection, Subfield,
};
use weft_openflow::Version;
use weft_wire::EtherType;

const REG: Subfield = Subfield { field: Field::Reg7, start: 4, bits: 16 };

fn hash_fields() -> impl Strategy<Value = HashFields> {
    use HashFields::*;
    prop::sample::select(vec![
        EthSrc,
        SymmetricL4,
        SymmetricL3L4,
        SymmetricL3L4Udp,
        NwSrc,
        NwDst,
        SymmetricL3,
    ])
}

fn controller() -> impl Strategy<Value = Action> {
    let userdata = prop::collection::vec(any::<u8>(), 0..20);
    (any::<[u16; 2]>(), 0u8..3, userdata, any::<bool>(), prop::option::of(1u32..1000)).prop_map(
        |([max_len, id], reason, userdata, pause, meter)| {
            Action::Controller(Box::new(ControllerAction { max_len, id, reason, userdata, pause, meter }))
        },
    )
}

fn multipath() -> impl Strategy<Value = Action> {
    use MultipathAlgorithm::*;
    let algorithm = prop::sample::select(vec![ModuloN, HashThreshold, Hrw, IterHash]);
    (hash_fields(), any::<[u16; 2]>(), algorithm, any::<u32>()).prop_map(
        |(fields, [basis, max_link], algorithm, arg)| {
            Action::Multipath(Box::new(Multipath { fields, basis, algorithm, max_link, arg, dst: REG }))
        },
    )
}

fn bundle() -> impl Strategy<Value = Action> {
    let members = prop::collection::vec((1u32..0xff00).prop_map(OfPort), 0..6);
    let algorithm = prop::sample::select(vec![BundleAlgorithm::ActiveBackup, BundleAlgorithm::Hrw]);
    (hash_fields(), any::<u16>(), algorithm, members, any::<bool>()).prop_map(
        |(fields, basis, algorithm, members, load)| {
            Action::Bundle(Box::new(Bundle { fields, basis, algorithm, members, dst: load.then_some(REG) }))
        },
    )
}

fn learn_spec() -> impl Strategy<Value = LearnSpec> {
    let whole = |field: Field| Subfield { field, start: 0, bits: field.bits() };
    let eth = whole(Field::EthSrc);
    prop_oneof![
        any::<u32>().prop_map(|v| LearnSpec {
            src: LearnSrc::Value(u128::from(v) & 0xffff),
            dst: LearnDst::Load(REG)
        }),
        any::<u128>().prop_map(move |v| LearnSpec {
            src: LearnSrc::Value(v),
            dst: LearnDst::Match(whole(Field::Ipv6Dst))
        }),
        Just(LearnSpec { src: LearnSrc::Field(eth), dst: LearnDst::Match(whole(Field::EthDst)) }),
        Just(LearnSpec { src: LearnSrc::Field(whole(Field::InPort16)), dst: LearnDst::Output(16) }),
        Just(LearnSpec { src: LearnSrc::Field(REG), dst: LearnDst::Load(REG) }),
    ]
}

fn learn() -> impl Strategy<Value = Action> {
    let numbers = any::<[u16; 5]>();
    let specs = prop::collection::vec(learn_spec(), 0..6);
    (numbers, 0u8..255, any::<u64>(), any::<[bool; 3]>(), any::<u32>(), specs).prop_map(
        |([idle, hard, priority, fin_idle, fin_hard], table, cookie, [rem, del, write], limit, specs)| {
            Action::Learn(Box::new(Learn {
                idle_timeout: idle,
                hard_timeout: hard,
                priority,
                table,
                cookie,
                fin_timeout: (fin_idle, fin_hard),
                send_flow_rem: rem,
                delete_learned: del,
                limit,
                result: write.then_some(Subfield { field: Field::Reg3, start: 9, bits: 1 }),
                specs,
            }))
        },
    )
}

fn nat() -> impl Strategy<Value = Nat> {
    let side = prop::sample::select(vec![NatSide::Src, NatSide::Dst]);
    let v4 = (1u32..1 << 31, 0u32..9)
        .prop_map(|(a, n)| (IpAddr::from(Ipv4Addr::from(a)), IpAddr::from(Ipv4Addr::from(a + n))));
    let v6 = (1u128..1 << 127, 0u128..9)
        .prop_map(|(a, n)| (IpAddr::from(Ipv6Addr::from(a)), IpAddr::from(Ipv6Addr::from(a + n))));
    let addrs = prop::option::of(prop_oneof![v4, v6]);
    let ports = prop::option::of((1u16..60000, 0u16..3).prop_map(|(a, n)| (a, a + n)));
    (side, addrs, ports, any::<bool>(), 0u8..3).prop_map(|(side, addrs, ports, persistent, how)| Nat {
        side: Some(side),
        addrs,
        ports: ports.filter(|_| addrs.is_some()),
        persistent,
        hash: how == 1,
        random: how == 2,
    })
}

fn ct(version: Version) -> impl Strategy<Value = Action> {
    let zone = prop_oneof![any::<u16>().prop_map(CtZone::Number), Just(CtZone::Field(REG))];
    let load = version < Version::V15;
    let exec = prop_oneof![
        any::<u32>().prop_map(move |v| Action::SetField {
            field: Field::CtMark,
            value: v.into(),
            mask: u32::MAX.into(),
            load
        }),
        any::<u64>().prop_map(move |v| Action::SetField {
            field: Field::CtLabel,
            value: u128::from(v) << 8,
            mask: u128::from(u64::MAX) << 8,
            load
        }),
        Just(Action::Move { src: REG, dst: Subfield { field: Field::CtLabel, start: 70, bits: 16 } }),
    ];
    let exec = prop::collection::vec(exec, 0..3);
    let table = prop::option::of(0u8..255);
    (zone, table, any::<[bool; 3]>(), any::<u16>(), prop::option::of(nat()), exec).prop_map(
        |(zone, table, [commit, force, plain], alg, nat, exec)| {
            let nat = if commit { nat } else { plain.then(Nat::default) };
            let exec = if commit { exec } else { Vec::new() };
            Action::Ct(Box::new(Ct { commit, force: commit && force, zone, table, alg, nat, exec }))
        },
    )
}

fn sample() -> impl Strategy<Value = Action> {
    use SampleDirection::*;
    let direction = prop::sample::select(vec![Default, Ingress, Egress]);
    (1u16.., any::<[u32; 3]>(), 0u32..0xff00, direction).prop_map(|(probability, n, port, direction)| {
        Action::Sample(Box::new(Sample {
            probability,
            collector_set_id: n[0],
            obs_domain_id: n[1],
            obs_point_id: n[2],
            sampling_port: OfPort(port),
            direction,
        }))
    })
}

/// Tunnel options that are matched: each once, where matches are lists.
pub(crate) fn options(version: Version) -> impl Strategy<Value = Vec<OptionValue>> + Clone {
    let most = if version >= Version::V12 { 3 } else { 0 };
    prop::collection::vec(option_value(), 0..=most).prop_map(|mut list| {
        list.sort_by_key(|option| option.field);
        list.dedup_by_key(|option| option.field);
        // A switch has room for 256 bytes of them.
        let mut room = 256;
        list.retain(|option| {
            let fits = option.value.len().next_multiple_of(4) <= room;
            room -= if fits { option.value.len().next_multiple_of(4) } else { 0 };
            fits
        });
        list
    })
}

fn option() -> impl Strategy<Value = Action> {
    option_value().prop_map(|option| Action::SetOption(Box::new(option)))
}

fn option_value() -> impl Strategy<Value = OptionValue> + Clone {
    let part = (1usize..120).prop_flat_map(|n| prop::collection::vec(any::<(u8, u8)>(), n));
    let part = part.prop_map(|bytes| {
        let mut mask: Vec<u8> = bytes.iter().map(|b| b.1).collect();
        mask[0] |= 1;
        (bytes.iter().zip(&mask).map(|(b, m)| b.0 & m).collect(), mask)
    });
    let whole = prop::collection::vec(any::<u8>(), 124).prop_map(|value| (value, vec![0xff; 124]));
    (0usize..64, prop_oneof![part, whole]).prop_map(|(n, (value, mask))| {
        let field = Field::tun_metadata(n).unwrap();
        OptionValue { field, value, mask }
    })
}

fn encap() -> impl Strategy<Value = Action> {
    let tlv = (any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..20));
    prop_oneof![
        Just(Action::DecNshTtl),
        Just(Action::Encap(Encap::Ethernet)),
        Just(Action::Encap(Encap::Mpls(EtherType(0x8848)))),
        (1u8..3, prop::collection::vec(tlv, 0..3))
            .prop_map(|(md_type, tlvs)| Action::Encap(Encap::Nsh { md_type, tlvs })),
        prop::option::of(1u32..0xfffe).prop_map(Action::Decap),
    ]
}

/// One of them, if the version has it.
pub(crate) fn action(version: Version) -> BoxedStrategy<Action> {
    let mut list = vec![
        controller().boxed(),
        multipath().boxed(),
        bundle().boxed(),
        learn().boxed(),
        ct(version).boxed(),
        sample().boxed(),
        option().boxed(),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(Action::DecTtl).boxed(),
        any::<u32>().prop_map(Action::SetQueue).boxed(),
        any::<u32>().prop_map(Action::Group).boxed(),
        (0u8..255, any::<bool>())
            .prop_map(|(table, ct)| Action::Resubmit { port: None, table: Some(table), ct })
            .boxed(),
        any::<[u16; 2]>().prop_map(|[idle, hard]| Action::FinTimeout { idle, hard }).boxed(),
        any::<u16>()
            .prop_map(|len| Action::CheckPktLarger {
                len,
                dst: Subfield { field: Field::Xxreg1, start: 77, bits: 1 },
            })
            .boxed(),
        (0usize..64).prop_map(|n| Action::DeleteField(Field::tun_metadata(n).unwrap())).boxed(),
        any::<u16>().prop_map(|ty| Action::PopMpls(EtherType(ty))).boxed(),
        prop::sample::select(vec![
            Action::CtClear,
            Action::PopQueue,
            Action::DecMplsTtl,
            Action::PopVlan,
            Action::PushMpls(EtherType(0x8847)),
        ])
        .boxed(),
    ];
    if version < Version::V12 {
        // Later versions say which protocol's port it is, where the match tells.
        let set = |(dst, port)| Action::SetTpPort { dst, port };
        list.push((any::<bool>(), any::<u16>()).prop_map(set).boxed());
    }
    if version == Version::V10 {
        let enqueue = |(n, queue)| Action::Enqueue { port: OfPort(n), queue };
        list.push((1u32..0xff00, any::<u32>()).prop_map(enqueue).boxed());
    } else {
        list.push(prop::sample::select(vec![Action::CopyTtlOut, Action::CopyTtlIn]).boxed());
    }
    if version >= Version::V13 {
        list.push(encap().boxed());
    }
    if version >= Version::V15 {
        list.push((1u32..1000).prop_map(Action::Meter).boxed());
    }
    proptest::strategy::Union::new(list).boxed()
}
