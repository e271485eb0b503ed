//! Actions of every kind, as text can say them.

use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;
use weft_flow::*;
use weft_wire::EtherType;

pub(crate) fn plain(field: Field) -> bool {
    field.supported() && field.tun_metadata_index().is_none()
}

/// A value and mask that a field can have.
pub(crate) fn value_of(field: Field, value: u128, mask: u128, whole: bool) -> (u128, u128) {
    let all = match field {
        Field::CtState => 0xff,
        Field::IpFrag => return [(0, 3), (1, 1), (1, 3), (3, 3), (0, 2)][value as usize % 5],
        Field::InPort | Field::ActsetOutput | Field::InPort16 => {
            let port = [1, 0xfeff, OfPort::LOCAL.0, OfPort::CONTROLLER.0][value as usize % 4];
            let bits = if field == Field::InPort16 { port & 0xffff } else { port };
            return (bits.into(), field.value_mask());
        }
        Field::PacketType => return (0, 0),
        Field::DlVlan => 0xfff,
        _ => field.value_mask(),
    };
    let mask = if whole || !field.maskable() { field.value_mask() } else { mask & all };
    (value & all & mask, mask)
}

pub(crate) fn subfields(writable: bool) -> impl Strategy<Value = Subfield> {
    let ok = move |f: &Field| plain(*f) && f.nxm().is_some() && (f.writable() || !writable);
    let fields: Vec<Field> = Field::ALL.iter().copied().filter(ok).collect();
    (select(fields), any::<u16>(), any::<u16>()).prop_map(|(field, a, b)| {
        let (a, b) = (a % field.bits(), b % field.bits());
        Subfield { field, start: a.min(b), bits: a.abs_diff(b) + 1 }
    })
}

/// A run of at least 16 bits of a register.
fn wide() -> impl Strategy<Value = Subfield> {
    (0..16u16, 16..17u16).prop_map(|(start, bits)| Subfield { field: Field::Reg3, start, bits })
}

fn bit() -> impl Strategy<Value = Subfield> {
    (0..128u16).prop_map(|start| Subfield { field: Field::Xxreg1, start, bits: 1 })
}

fn set_fields() -> impl Strategy<Value = Action> {
    let ok = |f: &Field| plain(*f) && f.writable() && f.nxm().is_some();
    let fields: Vec<Field> = Field::ALL.iter().copied().filter(ok).collect();
    (select(fields), any::<u128>(), any::<u128>(), any::<bool>()).prop_filter_map(
        "empty mask",
        |(field, value, mask, whole)| {
            let (value, mask) = value_of(field, value, mask, whole);
            let value = if field == Field::VlanVid { value | mask & 0x1000 } else { value };
            (mask != 0).then_some(Action::set(field, value, mask))
        },
    )
}

fn loads() -> impl Strategy<Value = Action> {
    (subfields(true), any::<u128>()).prop_filter_map("bits that nothing has", |(s, value)| {
        let ones = if s.bits >= 128 { u128::MAX } else { (1 << s.bits) - 1 };
        let mask = ones << s.start & s.field.value_mask();
        // The low bits of the TOS are not its own: the text of such a load names other bits.
        let run = (mask >> mask.trailing_zeros().min(127)).trailing_ones();
        let whole = mask == s.field.value_mask() || run == u32::from(s.bits);
        (mask != 0 && whole).then(|| Action::load(s.field, value & mask, mask))
    })
}

fn options() -> impl Strategy<Value = Action> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..130);
    let field = (0..64usize).prop_map(|n| Field::tun_metadata(n).unwrap());
    prop_oneof![
        (field.clone(), bytes()).prop_map(|(f, v)| OptionValue::whole(f, &v)),
        (field, bytes(), bytes()).prop_map(|(f, v, m)| OptionValue::masked(f, &v, &m)),
    ]
    .prop_map(|o| Action::SetOption(Box::new(o)))
}

fn ports() -> impl Strategy<Value = OfPort> {
    select(vec![OfPort(1), OfPort(0xfeff), OfPort::LOCAL, OfPort::NORMAL, OfPort::IN_PORT, OfPort::TABLE])
}

fn real_ports() -> impl Strategy<Value = OfPort> {
    select(vec![OfPort(1), OfPort(0xfeff), OfPort::LOCAL])
}

fn controllers() -> impl Strategy<Value = Action> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    (any::<u16>(), 1u16.., 0..9u8, bytes, any::<bool>(), of(any::<u32>())).prop_map(
        |(max_len, id, reason, userdata, pause, meter)| {
            Action::Controller(Box::new(ControllerAction { max_len, id, reason, userdata, pause, meter }))
        },
    )
}

fn hash_fields() -> impl Strategy<Value = HashFields> {
    use HashFields::*;
    select(vec![EthSrc, SymmetricL4, SymmetricL3L4, SymmetricL3L4Udp, NwSrc, NwDst, SymmetricL3])
}

fn multipaths() -> impl Strategy<Value = Action> {
    use MultipathAlgorithm::*;
    let algorithm = select(vec![ModuloN, HashThreshold, Hrw, IterHash]);
    (hash_fields(), any::<u16>(), algorithm, any::<u16>(), any::<u32>(), wide()).prop_map(
        |(fields, basis, algorithm, max_link, arg, dst)| {
            Action::Multipath(Box::new(Multipath { fields, basis, algorithm, max_link, arg, dst }))
        },
    )
}

fn bundles() -> impl Strategy<Value = Action> {
    let algorithm = select(vec![BundleAlgorithm::ActiveBackup, BundleAlgorithm::Hrw]);
    let members = prop::collection::vec(ports(), 0..5);
    (hash_fields(), any::<u16>(), algorithm, members, of(wide())).prop_map(
        |(fields, basis, algorithm, members, dst)| {
            Action::Bundle(Box::new(Bundle { fields, basis, algorithm, members, dst }))
        },
    )
}

fn learn_specs() -> impl Strategy<Value = LearnSpec> {
    let learnable = |s: &Subfield| s.field.nxm().is_some_and(|p| p.class != 0xffff);
    let number = |s: Subfield, value: u128| {
        if s.start == 0 && s.bits == s.field.bits() {
            return (s, LearnSrc::Value(value_of(s.field, value, 0, true).0));
        }
        let ones = if s.bits >= 128 { u128::MAX } else { (1 << s.bits) - 1 };
        (s, LearnSrc::Value(value & ones))
    };
    // Flags and fragments have no text that sets the whole field.
    let has_text = |s: &Subfield| !matches!(s.field.info().format, Format::Frag | Format::PacketType);
    let values = move || {
        (subfields(false), any::<u128>())
            .prop_filter("not learnable", move |(s, _)| learnable(s) && has_text(s))
            .prop_map(move |(s, value)| number(s, value))
    };
    prop_oneof![
        values().prop_map(|(s, src)| LearnSpec { src, dst: LearnDst::Match(s) }),
        values()
            .prop_filter("a load is a number", |(s, _)| s.field.writable())
            .prop_map(|(s, src)| LearnSpec { src, dst: LearnDst::Load(s) }),
        subfields(true).prop_map(|s| LearnSpec { src: LearnSrc::Field(s), dst: LearnDst::Load(s) }),
        subfields(false)
            .prop_filter("not learnable", learnable)
            .prop_map(|s| LearnSpec { src: LearnSrc::Field(s), dst: LearnDst::Match(s) }),
        subfields(false).prop_map(|s| LearnSpec { src: LearnSrc::Field(s), dst: LearnDst::Output(s.bits) }),
    ]
}

fn learns() -> impl Strategy<Value = Action> {
    let numbers = (any::<u16>(), any::<u16>(), any::<u16>(), 0..255u8, any::<u64>());
    let rest = (any::<(u16, u16)>(), any::<bool>(), any::<bool>(), any::<u32>(), of(bit()));
    let specs = prop::collection::vec(learn_specs(), 0..6);
    (numbers, rest, specs).prop_map(|(n, r, specs)| {
        Action::Learn(Box::new(Learn {
            idle_timeout: n.0,
            hard_timeout: n.1,
            priority: n.2,
            table: n.3,
            cookie: n.4,
            fin_timeout: r.0,
            send_flow_rem: r.1,
            delete_learned: r.2,
            limit: r.3,
            result: r.4,
            specs,
        }))
    })
}

fn nats() -> impl Strategy<Value = Nat> {
    let side = of(select(vec![NatSide::Src, NatSide::Dst]));
    let v4 = (1u32.., 1u32..).prop_map(|(a, b)| (IpAddr::V4(a.min(b).into()), IpAddr::V4(a.max(b).into())));
    let v6 = (1u128.., 1u128..).prop_map(|(a, b)| (IpAddr::V6(a.min(b).into()), IpAddr::V6(a.max(b).into())));
    let ports = of((1u16.., 1u16..).prop_map(|(a, b)| (a.min(b), a.max(b))));
    (side, of(prop_oneof![v4, v6]), ports, any::<bool>(), 0..3u8).prop_map(
        |(side, addrs, ports, persistent, choice)| match (side, addrs) {
            (None, _) => Nat::default(),
            (side, None) => Nat { side, ..Nat::default() },
            (side, addrs) => Nat { side, addrs, ports, persistent, hash: choice == 1, random: choice == 2 },
        },
    )
}

fn cts() -> impl Strategy<Value = Action> {
    let zone = prop_oneof![any::<u16>().prop_map(CtZone::Number), wide().prop_map(CtZone::Field)];
    let mark = any::<(u128, u128)>().prop_filter_map("empty mask", |(value, mask)| {
        (mask as u32 != 0).then(|| Action::set(Field::CtMark, value & mask & 0xffff_ffff, mask & 0xffff_ffff))
    });
    let label = Subfield { field: Field::CtLabel, start: 32, bits: 32 };
    let from = Subfield { field: Field::Reg1, start: 0, bits: 32 };
    let exec = prop_oneof![
        mark,
        any::<u128>().prop_map(|v| Action::load(Field::CtLabel, v, u128::MAX)),
        Just(Action::Move { src: from, dst: label }),
    ];
    let exec = prop::collection::vec(exec, 0..3);
    (any::<(bool, bool)>(), zone, of(0..255u8), select(vec![0, 21, 69]), of(nats()), exec).prop_map(
        |((commit, force), zone, table, alg, nat, exec)| {
            let force = force && commit;
            Action::Ct(Box::new(Ct { commit, force, zone, table, alg, nat, exec }))
        },
    )
}

fn samples() -> impl Strategy<Value = Action> {
    use SampleDirection::*;
    let port = prop_oneof![Just(OfPort::NONE), real_ports()];
    (1u16.., any::<(u32, u32, u32)>(), port, select(vec![Default, Ingress, Egress])).prop_map(
        |(probability, ids, sampling_port, direction)| {
            let (collector_set_id, obs_domain_id, obs_point_id) = ids;
            let sample = Sample {
                probability,
                collector_set_id,
                obs_domain_id,
                obs_point_id,
                sampling_port,
                direction,
            };
            Action::Sample(Box::new(sample))
        },
    )
}

fn encaps() -> impl Strategy<Value = Action> {
    let tlv = (any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 1..20));
    prop_oneof![
        select(vec![Encap::Ethernet, Encap::Mpls(EtherType::MPLS), Encap::Mpls(EtherType::MPLS_MC)]),
        (0..3u8, prop::collection::vec(tlv, 0..3)).prop_map(|(md_type, tlvs)| Encap::Nsh { md_type, tlvs }),
    ]
    .prop_map(Action::Encap)
}

fn small() -> impl Strategy<Value = Action> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    let clauses = (any::<u32>(), 2..=64u8, any::<u8>());
    prop_oneof![
        clauses.prop_map(|(id, clauses, n)| Action::Conjunction { id, clause: n % clauses, clauses }),
        any::<(u16, u16)>().prop_map(|(idle, hard)| Action::FinTimeout { idle, hard }),
        (any::<u16>(), bit()).prop_map(|(len, dst)| Action::CheckPktLarger { len, dst }),
        of(any::<u32>()).prop_map(Action::Decap),
        (real_ports(), any::<u32>()).prop_map(|(port, queue)| Action::Enqueue { port, queue }),
        any::<u32>().prop_map(Action::SetQueue),
        any::<u32>().prop_map(Action::Group),
        any::<u32>().prop_map(Action::Meter),
        any::<(bool, u16)>().prop_map(|(dst, port)| Action::SetTpPort { dst, port }),
        prop::collection::vec(any::<u16>(), 0..4).prop_map(Action::DecTtl),
        (0..64usize).prop_map(|n| Action::DeleteField(Field::tun_metadata(n).unwrap())),
        any::<u16>().prop_map(|ty| Action::PopMpls(EtherType(ty))),
        bytes.prop_map(Action::Note),
        select(vec![
            Action::PushMpls(EtherType::MPLS),
            Action::PushMpls(EtherType::MPLS_MC),
            Action::PushVlan(EtherType::VLAN),
            Action::PushVlan(EtherType::QINQ),
            Action::PopVlan,
            Action::DecMplsTtl,
            Action::CopyTtlOut,
            Action::CopyTtlIn,
            Action::PopQueue,
            Action::CtClear,
            Action::Exit,
        ]),
    ]
}

fn outputs() -> impl Strategy<Value = Action> {
    let cut = select(vec![OfPort(1), OfPort::LOCAL, OfPort::IN_PORT]);
    prop_oneof![
        ports().prop_map(|port| Action::Output { port, max_len: 0 }),
        any::<u16>().prop_map(|max_len| Action::Output { port: OfPort::CONTROLLER, max_len }),
        subfields(false).prop_map(|src| Action::OutputReg { src, max_len: u16::MAX }),
        (cut, 14..u32::MAX).prop_map(|(port, max_len)| Action::OutputTrunc { port, max_len }),
        controllers(),
        (of(real_ports()), of(0..255u8), any::<bool>())
            .prop_filter("nothing", |(port, table, _)| port.is_some() || table.is_some())
            .prop_map(|(port, table, ct)| Action::Resubmit { port, table, ct }),
    ]
}

fn fields() -> impl Strategy<Value = Action> {
    prop_oneof![
        set_fields(),
        loads(),
        options(),
        subfields(true).prop_map(|s| Action::Move { src: s, dst: s }),
        subfields(false).prop_map(Action::StackPush),
        subfields(true).prop_map(Action::StackPop),
        (0..4096u16).prop_map(Action::SetVlanVid),
        (0..8u8).prop_map(Action::SetVlanPcp),
    ]
}

pub(crate) fn actions() -> impl Strategy<Value = Action> {
    let large = prop_oneof![multipaths(), bundles(), learns(), cts(), samples(), encaps()];
    let leaf = prop_oneof![outputs(), fields(), small(), large];
    leaf.prop_recursive(3, 20, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Action::Clone))
}
