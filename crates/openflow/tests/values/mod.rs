//! Values for property tests: matches, actions and messages that a version can say.

mod extension;
mod more;
mod stats;

use std::time::Duration;

use proptest::prelude::*;
use weft_flow::{Action, Field, Instructions, Match, OfPort, Prereq, Subfield, VLAN_PRESENT};
use weft_openflow::msg::bundle::{BundleAdd, BundleControl, BundleStep};
use weft_openflow::msg::control::{AsyncConfig, FlowFormat, Role, RoleMessage};
use weft_openflow::msg::flow::{FlowCommand, FlowMod, GROUP_ANY};
use weft_openflow::msg::flow_removed::FlowRemoved;
use weft_openflow::msg::handshake::{Features, SwitchConfig};
use weft_openflow::msg::packet_in::{PacketIn, PacketInFormat};
use weft_openflow::msg::packet_out::PacketOut;
use weft_openflow::msg::port::{PortDesc, PortMod, PortReason, PortStatus};
use weft_openflow::msg::table::TableMod;
use weft_openflow::{ErrorCode, ErrorMessage, Message, Version};
use weft_wire::{EtherType, Mac};

pub(crate) fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(Version::ALL.to_vec())
}

fn add(m: &mut Match, field: Field, value: u128, mask: u128) {
    field.set(&mut m.key, value & mask);
    field.mask_add(&mut m.mask, mask);
}

/// What a packet is, as far as prerequisites ask: EtherType, protocol, ICMPv6 type.
const KINDS: &[(u16, u8, u8)] = &[
    (0, 0, 0),
    (0x0806, 0, 0),
    (0x8847, 0, 0),
    (0x0800, 0, 0),
    (0x86dd, 0, 0),
    (0x0800, 6, 0),
    (0x0800, 17, 0),
    (0x86dd, 132, 0),
    (0x0800, 1, 0),
    (0x86dd, 58, 135),
    (0x86dd, 58, 136),
    (0x1234, 0, 0),
];

/// Fields that other generators set, or that a version writes under another name.
fn free(field: Field) -> bool {
    let set = [
        Field::EthType,
        Field::NwProto,
        Field::Icmpv6Type,
        Field::InPort,
        Field::InPort16,
        Field::VlanVid,
        Field::VlanPcp,
        Field::VlanTci,
        Field::DlVlan,
        Field::DlVlanPcp,
        Field::IpDscp,
        Field::PacketType,
        Field::CtState,
        Field::IpFrag,
        Field::ArpOp,
        // Not every number is a port.
        Field::ActsetOutput,
        // A solicitation has code 0.
        Field::Icmpv6Code,
    ];
    !set.contains(&field) && field.supported() && field.bytes() <= 16 && field.nxm().is_some()
}

/// A match, said canonically.
pub(crate) fn matching() -> impl Strategy<Value = Match> + Clone {
    let kind = prop::sample::select(KINDS.to_vec());
    let vlan = prop::sample::select(vec![
        (0, 0),
        (0, VLAN_PRESENT),
        (VLAN_PRESENT, VLAN_PRESENT),
        (VLAN_PRESENT | 7, 0x1fff),
        (VLAN_PRESENT | 7 | 3 << 13, 0xffff),
    ]);
    let fields =
        prop::collection::vec((0..Field::ALL.len(), any::<u128>(), any::<u128>(), any::<bool>()), 0..12);
    let port = prop::option::of(prop_oneof![1u32..0xff00, Just(OfPort::LOCAL.0)]);
    (kind, vlan, fields, port, any::<bool>()).prop_map(move |(kind, vlan, fields, port, tracked)| {
        let mut m = Match::any();
        if kind.0 != 0 {
            add(&mut m, Field::EthType, kind.0.into(), 0xffff);
        }
        if kind.1 != 0 {
            add(&mut m, Field::NwProto, kind.1.into(), 0xff);
        }
        if kind.2 != 0 {
            add(&mut m, Field::Icmpv6Type, kind.2.into(), 0xff);
        }
        if let Some(port) = port {
            add(&mut m, Field::InPort, port.into(), u128::MAX);
        }
        if tracked {
            add(&mut m, Field::CtState, 0x22, 0x26);
        }
        (m.key.packet.vlan[0].tci, m.mask.0.packet.vlan[0].tci) = vlan;
        for (i, value, mask, exact) in fields {
            let field = Field::ALL[i];
            if !free(field) {
                continue;
            }
            if field.mask_of(&m.mask) != 0 || !m.meets(field.prereq()) {
                continue;
            }
            // Addresses of a connection are of the packet's IP version.
            let version_of = match field {
                Field::CtNwSrc | Field::CtNwDst => 0x0800,
                Field::CtIpv6Src | Field::CtIpv6Dst => 0x86dd,
                _ => kind.0,
            };
            if kind.0 != version_of {
                continue;
            }
            let mask = if exact || !field.maskable() { u128::MAX } else { mask };
            add(&mut m, field, value, mask & field.value_mask());
        }
        m
    })
}

fn subfield() -> impl Strategy<Value = Subfield> {
    let fields =
        vec![Field::Reg0, Field::Reg7, Field::TunId, Field::Metadata, Field::EthSrc, Field::TunErspanIdx];
    (prop::sample::select(fields), any::<u16>(), any::<u16>()).prop_map(|(field, start, bits)| {
        let width = field.bits();
        let start = start % width;
        Subfield { field, start, bits: 1 + bits % (width - start).min(64) }
    })
}

fn port() -> impl Strategy<Value = OfPort> {
    prop_oneof![
        (1u32..0xff00).prop_map(OfPort),
        prop::sample::select(vec![
            OfPort::IN_PORT,
            OfPort::NORMAL,
            OfPort::FLOOD,
            OfPort::CONTROLLER,
            OfPort::LOCAL
        ]),
    ]
}

/// An action that a version writes so that it reads back the same.
pub(crate) fn stable_action(version: Version) -> BoxedStrategy<Action> {
    let partial = (subfield(), any::<u64>()).prop_map(move |(s, value)| {
        // One bit less than the field has, so that versions agree that it is a part.
        let bits = s.bits.min(s.field.bits() - 1 - s.start.min(s.field.bits() - 1)).max(1);
        let mask = ((1u128 << bits) - 1) << s.start;
        let value = u128::from(value) << s.start & mask;
        // OpenFlow 1.5 has one way to set bits, and fields that an experimenter numbers have one in every version.
        let load = version < Version::V15 && s.field != Field::TunErspanIdx;
        Action::SetField { field: s.field, value, mask, load }
    });
    let simple = prop_oneof![
        (port(), any::<u16>()).prop_map(|(port, max_len)| Action::Output { port, max_len }),
        (subfield(), any::<u16>()).prop_map(|(src, max_len)| Action::OutputReg { src, max_len }),
        (1u32..0xff00, 14u32..).prop_map(|(n, max_len)| Action::OutputTrunc { port: OfPort(n), max_len }),
        (0u16..33, 0u16..16, 0u16..16).prop_map(|(bits, a, b)| Action::Move {
            src: Subfield { field: Field::Reg1, start: a, bits: bits.clamp(1, 16) },
            dst: Subfield { field: Field::Reg2, start: b, bits: bits.clamp(1, 16) },
        }),
        subfield().prop_map(Action::StackPush),
        subfield().prop_map(Action::StackPop),
        (prop::option::of((1u32..0xff00).prop_map(OfPort)), prop::option::of(0u8..255), Just(false))
            .prop_map(|(port, table, ct)| Action::Resubmit { port, table, ct }),
        prop::collection::vec(any::<u8>(), 6).prop_map(Action::Note),
        Just(Action::Exit),
        partial,
    ];
    nested(simple)
}

/// As [`stable_action`], also of those that ask something of what the rule matches.
pub(crate) fn wild_action(version: Version) -> BoxedStrategy<Action> {
    nested(prop_oneof![stable_action(version), extension::action(version)])
}

fn nested(simple: impl Strategy<Value = Action> + 'static) -> BoxedStrategy<Action> {
    simple
        .prop_recursive(3, 12, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Action::Clone))
        .boxed()
}

/// Any action that fits a match of anything, also those that versions write in different ways.
pub(crate) fn action(version: Version) -> BoxedStrategy<Action> {
    let fields =
        vec![Field::Reg3, Field::EthDst, Field::TunId, Field::Xreg2, Field::Xxreg1, Field::TunIpv6Dst];
    let set =
        (prop::sample::select(fields), any::<u128>(), any::<u128>()).prop_map(|(field, value, mask)| {
            let mask = mask & field.value_mask();
            Action::set(field, value & mask, mask)
        });
    let whole = (0usize..64, any::<u128>()).prop_filter_map("writable", |(i, value)| {
        let list: Vec<Field> = Field::ALL
            .iter()
            .copied()
            .filter(|f| f.writable() && f.supported() && f.bytes() <= 16 && f.prereq() == Prereq::None)
            .filter(|f| ![Field::InPort, Field::InPort16, Field::CtMark, Field::CtLabel].contains(f))
            .collect();
        let field = *list.get(i)?;
        Some(Action::set(field, value & field.value_mask(), field.value_mask()))
    });
    prop_oneof![
        wild_action(version),
        (0u16..4096).prop_map(Action::SetVlanVid),
        (0u8..8).prop_map(Action::SetVlanPcp),
        Just(Action::PushVlan(EtherType::QINQ)),
        set,
        whole,
    ]
    .boxed()
}

pub(crate) fn flow_mod(version: Version) -> impl Strategy<Value = FlowMod> {
    let commands = vec![
        FlowCommand::Add,
        FlowCommand::Modify,
        FlowCommand::ModifyStrict,
        FlowCommand::Delete,
        FlowCommand::DeleteStrict,
    ];
    let numbers = any::<[u16; 4]>();
    let parts =
        (matching(), prop::collection::vec(stable_action(version), 0..6), prop::sample::select(commands));
    let options = extension::options(version);
    (parts, any::<[u64; 3]>(), numbers, prop::option::of(0u8..200), any::<bool>(), options).prop_map(
        move |((matching, apply, command), [cookie, mask, new], n, table, full, options)| {
            let adds = command == FlowCommand::Add;
            let modifies = matches!(command, FlowCommand::Modify | FlowCommand::ModifyStrict);
            let mask = if adds || full { 0 } else { mask };
            let sets = adds || modifies && (version == Version::V10 || version == Version::V11 && mask == 0);
            let later = version > Version::V10;
            FlowMod {
                command,
                table: if (adds || modifies) && later { Some(table.unwrap_or(0)) } else { table },
                cookie: cookie & mask,
                cookie_mask: mask,
                new_cookie: sets.then_some(new >> 1),
                idle_timeout: n[0],
                hard_timeout: n[1],
                priority: n[2],
                buffer_id: None,
                out_port: OfPort::ANY,
                out_group: GROUP_ANY,
                flags: n[3] & if version >= Version::V13 { 0x1f } else { 3 },
                importance: if version >= Version::V14 { n[0] ^ n[1] } else { 0 },
                matching,
                options,
                instructions: Instructions {
                    apply,
                    metadata: (later && !full).then_some((cookie & mask, mask)),
                    clear: later && full,
                    goto: later.then_some(250),
                    write: Vec::new(),
                    meter: None,
                },
            }
        },
    )
}

/// A message of every kind that the version has.
pub(crate) fn message(version: Version) -> BoxedStrategy<Message> {
    let bytes = prop::collection::vec(any::<u8>(), 0..80);
    let config =
        (0u16..4, any::<u16>()).prop_map(|(flags, miss_send_len)| SwitchConfig { flags, miss_send_len });
    let async_config = any::<[u32; 6]>().prop_map(|m| AsyncConfig {
        packet_in: (m[0] & 0x3f, m[1] & 0x3f),
        port_status: (m[2] & 7, m[3] & 7),
        flow_removed: (m[4] & 0x3f, m[5] & 0x3f),
        ..AsyncConfig::default()
    });
    let mut list: Vec<BoxedStrategy<Message>> = vec![
        bytes.clone().prop_map(Message::EchoRequest).boxed(),
        bytes.clone().prop_map(Message::EchoReply).boxed(),
        Just(Message::FeaturesRequest).boxed(),
        features(version).prop_map(Message::FeaturesReply).boxed(),
        Just(Message::GetConfigRequest).boxed(),
        config.clone().prop_map(Message::GetConfigReply).boxed(),
        config.prop_map(Message::SetConfig).boxed(),
        packet_in(version).prop_map(|p| Message::PacketIn(Box::new(p))).boxed(),
        flow_removed(version).prop_map(|f| Message::FlowRemoved(Box::new(f))).boxed(),
        port_desc(version)
            .prop_map(|port| Message::PortStatus(Box::new(PortStatus { reason: PortReason::Delete, port })))
            .boxed(),
        packet_out(version).prop_map(|p| Message::PacketOut(Box::new(p))).boxed(),
        flow_mod(version).prop_map(|f| Message::FlowMod(Box::new(f))).boxed(),
        port_mod(version).prop_map(Message::PortMod).boxed(),
        stats::request(version).prop_map(Message::MultipartRequest).boxed(),
        stats::reply(version).prop_map(Message::MultipartReply).boxed(),
        Just(Message::BarrierRequest).boxed(),
        Just(Message::BarrierReply).boxed(),
        Just(Message::RoleRequest(RoleMessage { role: Role::Primary, generation_id: None })).boxed(),
        (any::<bool>(), 0u16..4).prop_map(|(reply, flags)| bundle_control(reply, flags)).boxed(),
        bytes.prop_map(move |b| bundle_add(version, b)).boxed(),
        prop::sample::select(vec![PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2])
            .prop_map(Message::SetPacketInFormat)
            .boxed(),
        any::<u16>().prop_map(Message::SetControllerId).boxed(),
        async_config.clone().prop_map(Message::SetAsync).boxed(),
        Just(Message::Error(ErrorMessage::new(ErrorCode::OFPBAC_BAD_TYPE, b"12345678"))).boxed(),
    ];
    if version == Version::V10 {
        list.push(Just(Message::SetFlowFormat(FlowFormat::Nxm)).boxed());
        list.push(any::<bool>().prop_map(Message::FlowModTableId).boxed());
    } else {
        list.push(
            (0u32..3)
                .prop_map(|config| {
                    Message::TableMod(TableMod { table: Some(3), config, ..TableMod::default() })
                })
                .boxed(),
        );
    }
    if version >= Version::V12 {
        let role = any::<u64>().prop_map(|g| RoleMessage { role: Role::Secondary, generation_id: Some(g) });
        list.push(role.prop_map(Message::RoleReply).boxed());
    }
    if version >= Version::V13 {
        list.push(Just(Message::GetAsyncRequest).boxed());
        list.push(async_config.prop_map(Message::GetAsyncReply).boxed());
    }
    list.extend(more::messages(version));
    proptest::strategy::Union::new(list).boxed()
}

fn bundle_control(reply: bool, flags: u16) -> Message {
    let step = if reply { BundleStep::CommitReply } else { BundleStep::OpenRequest };
    Message::BundleControl(BundleControl { id: 9, step, flags })
}

fn bundle_add(version: Version, data: Vec<u8>) -> Message {
    let mut message = vec![version.wire(), 2, 0, 8 + data.len() as u8, 0, 0, 0, 1];
    message.extend(data);
    Message::BundleAdd(BundleAdd { id: 1, flags: 3, message })
}

fn wide(version: Version, n: u32) -> u32 {
    if version == Version::V10 { 0 } else { n }
}

pub(crate) fn port_desc(version: Version) -> impl Strategy<Value = PortDesc> {
    (1u32..0xff00, any::<[u8; 6]>(), "[a-z]{0,15}", any::<[u32; 8]>()).prop_map(move |(n, mac, name, w)| {
        PortDesc {
            port_no: OfPort(n),
            hw_addr: Mac(mac),
            name,
            config: w[0] & if version == Version::V10 { 0x7f } else { 0x65 },
            state: w[1] & if version == Version::V10 { 1 } else { 7 },
            curr: w[2] & 0xf87f,
            advertised: w[3] & 0xf87f,
            supported: w[4] & 0xf87f,
            peer: w[5] & 0xf87f,
            curr_speed: wide(version, w[6]),
            max_speed: wide(version, w[7]),
        }
    })
}

fn port_mod(version: Version) -> impl Strategy<Value = PortMod> {
    (1u32..0xff00, any::<[u8; 6]>(), any::<[u32; 3]>()).prop_map(move |(n, mac, w)| {
        let bits = if version == Version::V10 { 0x7f } else { 0x65 };
        PortMod {
            port_no: OfPort(n),
            hw_addr: Mac(mac),
            config: w[0] & bits,
            mask: w[1] & bits,
            advertise: w[2] & 0xf87f,
        }
    })
}

fn features(version: Version) -> impl Strategy<Value = Features> {
    let ports = prop::collection::vec(port_desc(version), 0..5);
    (any::<u64>(), any::<u32>(), any::<u8>(), any::<u32>(), ports).prop_map(
        move |(id, n, tables, actions, ports)| Features {
            datapath_id: id,
            n_buffers: n,
            n_tables: tables,
            auxiliary_id: 0,
            capabilities: n & 7,
            actions: if version == Version::V10 { actions } else { 0 },
            ports: if version < Version::V13 { ports } else { Vec::new() },
        },
    )
}

fn only_port(n: u32) -> Match {
    let mut m = Match::any();
    add(&mut m, Field::InPort, n.into(), u128::MAX);
    m
}

fn packet_in(version: Version) -> impl Strategy<Value = PacketIn> {
    let data = prop::collection::vec(any::<u8>(), 0..100);
    (1u32..0xff00, any::<u32>(), any::<u64>(), 0u8..3, data).prop_map(
        move |(port, reg, cookie, reason, data)| {
            let mut metadata = only_port(port);
            if version >= Version::V12 && reg != 0 {
                add(&mut metadata, Field::Reg5, reg.into(), u128::MAX);
                add(&mut metadata, Field::TunId, cookie.into(), u128::MAX);
            }
            if version == Version::V15 {
                // Registers go in pairs there.
                add(&mut metadata, Field::Reg4, 0, u128::MAX);
            }
            if version == Version::V15 && reg == 0 {
                add(&mut metadata, Field::Reg5, 0, u128::MAX);
            }
            PacketIn {
                buffer_id: (reg != u32::MAX).then_some(reg),
                total_len: 1500,
                reason,
                table_id: if version == Version::V10 { 0 } else { 5 },
                cookie: if version >= Version::V13 { cookie } else { u64::MAX },
                metadata: Box::new(metadata),
                data,
                ..PacketIn::default()
            }
        },
    )
}

fn packet_out(version: Version) -> impl Strategy<Value = PacketOut> {
    let actions = prop::collection::vec(wild_action(version), 0..5);
    (1u32..0xff00, actions, prop::collection::vec(any::<u8>(), 0..100))
        .prop_map(|(n, actions, data)| PacketOut::new(OfPort(n), actions, data))
}

fn flow_removed(version: Version) -> impl Strategy<Value = FlowRemoved> {
    (matching(), any::<[u64; 3]>(), any::<[u16; 3]>(), any::<u32>(), 0u8..3)
        .prop_filter("1.0 has twelve fields", move |(m, ..)| version != Version::V10 || narrow(m))
        .prop_map(move |(matching, w, n, sec, reason)| FlowRemoved {
            options: Vec::new(),
            matching,
            cookie: w[0],
            priority: n[0],
            reason,
            table_id: if version == Version::V10 { 0 } else { 7 },
            duration: Duration::new(sec.into(), 999_999_999),
            idle_timeout: n[1],
            hard_timeout: if version >= Version::V12 { n[2] } else { 0 },
            packets: w[1],
            bytes: w[2],
        })
}

/// Whether OpenFlow 1.0's structure has room for it; by what the generator makes, that is nothing but the input port.
fn narrow(m: &Match) -> bool {
    *m == Match::any() || *m == only_port(m.key.pipeline.in_port)
}
