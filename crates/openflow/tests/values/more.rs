//! Messages about groups, meters, tables, queues, monitors, roles and what Nicira adds.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use weft_flow::{Band, BandKind, Field, Instructions, OfPort};
use weft_openflow::msg::control::Role;
use weft_openflow::msg::ct_flush::{CtFlush, CtTuple};
use weft_openflow::msg::flow::GROUP_ANY;
use weft_openflow::msg::group::{
    BUCKET_ALL, BUCKET_LAST, Bucket, GroupCommand, GroupKind, GroupMod, Selection, SelectionMethod,
};
use weft_openflow::msg::meter::{MeterCommand, MeterMod, meter_flags};
use weft_openflow::msg::monitor::{
    FlowEvent, FlowUpdate, MonitorCommand, MonitorRequest, MonitorUpdate, monitor_flags,
};
use weft_openflow::msg::notify::{ControllerStatus, RoleStatus};
use weft_openflow::msg::packet_in::PacketIn;
use weft_openflow::msg::packet_in2::{Continuation, PausedActions};
use weft_openflow::msg::queue::{QueueConfig, QueueDesc};
use weft_openflow::msg::table::{TableMod, TableReason, TableStatus, Vacancy, table_config};
use weft_openflow::msg::tlv::{TlvCommand, TlvMap, TlvTableMod, TlvTableReply};
use weft_openflow::stats::flow::FlowStats;
use weft_openflow::stats::group::{BucketStats, GroupDesc, GroupFeatures, GroupStats};
use weft_openflow::stats::meter::{MeterConfig, MeterFeatures, MeterStats};
use weft_openflow::stats::misc::{BundleFeatures, IpfixStats};
use weft_openflow::stats::table::TableDesc;
use weft_openflow::stats::{MultipartReply, MultipartRequest, StatsReply, StatsRequest};
use weft_openflow::{Codec, Message, Version};

use super::{matching, packet_in, stable_action};

type Messages = Vec<BoxedStrategy<Message>>;

fn numbered(version: Version) -> bool {
    matches!(version, Version::V10 | Version::V15)
}

fn buckets(version: Version, kind: GroupKind) -> impl Strategy<Value = Vec<Bucket>> {
    let actions = prop::collection::vec(stable_action(version), 0..3);
    let bucket = (actions, 1u16..100, any::<bool>());
    let count = if kind == GroupKind::Indirect { 1..2 } else { 0..4 };
    prop::collection::vec(bucket, count).prop_map(move |list| {
        let watching = kind == GroupKind::FastFailover;
        let make = |(i, (actions, weight, port)): (usize, (Vec<_>, u16, bool))| Bucket {
            id: if numbered(version) { 7 * i as u32 + 1 } else { i as u32 },
            weight: if kind == GroupKind::Select { weight } else { 0 },
            watch_port: if watching && port { OfPort(4) } else { OfPort::ANY },
            watch_group: if watching && !port { 9 } else { GROUP_ANY },
            actions,
        };
        list.into_iter().enumerate().map(make).collect()
    })
}

fn kind() -> impl Strategy<Value = GroupKind> {
    use GroupKind::*;
    prop::sample::select(vec![All, Select, Indirect, FastFailover])
}

fn selection(version: Version, kind: GroupKind, n: u64) -> Selection {
    if kind != GroupKind::Select || !numbered(version) {
        return Selection::default();
    }
    match n % 3 {
        0 => Selection::default(),
        1 => Selection { method: SelectionMethod::DpHash, param: n, fields: Vec::new() },
        _ => Selection {
            method: SelectionMethod::Hash,
            param: n,
            fields: vec![(Field::IpDst, 0xffff_ff00), (Field::NwProto, 0xff)],
        },
    }
}

fn group_mod(version: Version) -> impl Strategy<Value = Message> {
    let filled = (kind(), any::<u64>()).prop_flat_map(move |(kind, n)| {
        buckets(version, kind).prop_map(move |buckets| {
            let commands = [GroupCommand::Add, GroupCommand::Modify, GroupCommand::AddOrModify];
            let (command, command_bucket) = match n % 4 {
                3 if numbered(version) => (GroupCommand::InsertBucket, BUCKET_LAST),
                i => (commands[i as usize % 3], BUCKET_ALL),
            };
            let chooses = command != GroupCommand::InsertBucket;
            let selection = if chooses { selection(version, kind, n) } else { Selection::default() };
            GroupMod { command, kind, group_id: n as u32 >> 8, command_bucket, buckets, selection }
        })
    });
    filled.prop_map(|m| Message::GroupMod(Box::new(m)))
}

fn band() -> impl Strategy<Value = Band> + Clone {
    (any::<u32>(), any::<u32>(), prop::option::of(any::<u8>())).prop_map(|(rate, burst, level)| Band {
        kind: level.map_or(BandKind::Drop, BandKind::DscpRemark),
        rate,
        burst,
    })
}

fn nicira(version: Version) -> Messages {
    let map = (any::<[u16; 2]>(), 1u8..31, 0u16..64).prop_map(|([class, kind], words, index)| TlvMap {
        class,
        kind: kind as u8,
        len: words * 4,
        index,
    });
    let maps = prop::collection::vec(map, 0..4);
    let lists = prop::collection::vec(prop::collection::vec(stable_action(version), 0..3), 0..3);
    let resume = (packet_in(version), lists, any::<u64>()).prop_map(move |(packet, lists, n)| {
        let part = |actions| PausedActions { table_id: n as u8, cookie: n, actions };
        let continuation = Continuation {
            bridge: [n as u8; 16],
            stack: vec![vec![1, 2, 3], vec![n as u8; 16]],
            mirrors: n as u32,
            conntracked: n & 1 != 0,
            action_set: lists.first().cloned().unwrap_or_default(),
            actions: lists.into_iter().map(part).collect(),
            odp_port: (n & 2 != 0).then_some(7),
        };
        let data = vec![9; 60];
        let total_len = 60;
        let continuation = Some(Box::new(continuation));
        // Version 1.0 writes no table and no cookie elsewhere; here it does.
        Message::Resume(Box::new(PacketIn { data, total_len, buffer_id: None, continuation, ..packet }))
    });
    let tuple = |v4: bool| {
        let host: IpAddr = if v4 { [10, 0, 0, 1].into() } else { [7u16; 8].into() };
        CtTuple { src: Some(host), dst_port: 80, ..CtTuple::default() }
    };
    let flush = (any::<bool>(), any::<u16>(), any::<u32>()).prop_map(move |(v4, zone, n)| {
        Message::CtFlush(Box::new(CtFlush {
            zone: (n & 1 != 0).then_some(zone),
            ip_proto: 6,
            orig: tuple(v4),
            reply: if n & 2 != 0 { tuple(v4) } else { CtTuple::default() },
            mark: (n & 4 != 0).then_some((n & 0xff00, 0xff00)),
            label: (n & 8 != 0).then_some((5, u128::MAX)),
        }))
    });
    let table_mod = |maps| Message::TlvTableMod(TlvTableMod { command: TlvCommand::Add, maps });
    let reply = |maps| Message::TlvTableReply(TlvTableReply { max_space: 256, max_fields: 64, maps });
    vec![
        resume.boxed(),
        flush.boxed(),
        maps.clone().prop_map(table_mod).boxed(),
        maps.prop_map(reply).boxed(),
        any::<u16>().prop_map(Message::CtFlushZone).boxed(),
        Just(Message::TlvTableRequest).boxed(),
        Just(Message::FlowAge).boxed(),
    ]
}

fn ask(body: StatsRequest) -> Message {
    Message::MultipartRequest(MultipartRequest { more: false, nicira: false, body })
}
fn answer(body: StatsReply) -> Message {
    Message::MultipartReply(MultipartReply { more: false, nicira: false, body })
}

fn monitors(version: Version) -> Messages {
    let request = (matching(), 0u32..9, 0u16..64, any::<bool>()).prop_map(move |(m, id, n, gone)| {
        let new = version >= Version::V14;
        ask(StatsRequest::FlowMonitor(vec![MonitorRequest {
            id,
            command: if new && gone { MonitorCommand::Delete } else { MonitorCommand::Add },
            // Open vSwitch has the one flag in place of the other.
            flags: n & 0x1f | monitor_flags::ADD | if new { n << 1 & 0x40 } else { n & 0x20 },
            table: (n & 1 != 0).then_some(3),
            out_port: if n & 2 != 0 { OfPort(5) } else { OfPort::ANY },
            out_group: if new { 8 } else { GROUP_ANY },
            matching: m,
            options: Vec::new(),
        }]))
    });
    let apply = prop::collection::vec(stable_action(version), 0..3);
    let update = (matching(), apply, any::<u16>()).prop_map(move |(matching, apply, n)| {
        let rule = FlowUpdate {
            event: [FlowEvent::Added, FlowEvent::Removed, FlowEvent::Modified][usize::from(n % 3)],
            reason: (n % 4) as u8,
            table_id: 9,
            priority: n,
            idle_timeout: 3,
            hard_timeout: 4,
            cookie: 77,
            matching,
            options: Vec::new(),
            instructions: Instructions::apply(apply),
        };
        let mut list = vec![MonitorUpdate::Full(Box::new(rule)), MonitorUpdate::Abbrev(n.into())];
        if version >= Version::V14 {
            list.push(MonitorUpdate::Paused);
        }
        answer(StatsReply::FlowMonitor(list))
    });
    vec![request.boxed(), update.boxed()]
}

fn groups(version: Version) -> Messages {
    let desc = (kind(), any::<u64>()).prop_flat_map(move |(kind, n)| {
        buckets(version, kind).prop_map(move |buckets| {
            let selection = selection(version, kind, n);
            answer(StatsReply::GroupDesc(vec![GroupDesc { group_id: n as u32, kind, buckets, selection }]))
        })
    });
    let stats = any::<[u32; 6]>().prop_map(move |n| {
        let duration = if version >= Version::V13 || version == Version::V10 {
            Duration::new(n[4].into(), 5)
        } else {
            Duration::default()
        };
        answer(StatsReply::Group(vec![GroupStats {
            group_id: n[0],
            ref_count: n[1],
            packets: n[2].into(),
            bytes: n[3].into(),
            duration,
            buckets: vec![BucketStats { packets: n[5].into(), bytes: 1 }; 3],
        }]))
    });
    let features = any::<[u32; 4]>().prop_map(|n| {
        answer(StatsReply::GroupFeatures(GroupFeatures {
            kinds: 15,
            capabilities: 7,
            max_groups: n,
            actions: n,
        }))
    });
    vec![
        group_mod(version).boxed(),
        desc.boxed(),
        stats.boxed(),
        any::<u32>().prop_map(|n| ask(StatsRequest::Group(n))).boxed(),
        if version == Version::V11 { ask_all_groups() } else { features.boxed() },
    ]
}

fn ask_all_groups() -> BoxedStrategy<Message> {
    Just(ask(StatsRequest::GroupDesc(weft_openflow::msg::group::GROUP_ALL))).boxed()
}

fn meters() -> Messages {
    let bands = prop::collection::vec(band(), 0..4);
    let change = (bands.clone(), any::<u32>()).prop_map(|(bands, meter_id)| {
        let flags = meter_flags::KBPS | meter_flags::BURST;
        Message::MeterMod(Box::new(MeterMod { command: MeterCommand::Modify, meter_id, flags, bands }))
    });
    let config = bands.prop_map(|bands| {
        answer(StatsReply::MeterConfig(vec![MeterConfig { meter_id: 5, flags: 1, bands }]))
    });
    let stats = any::<[u32; 5]>().prop_map(|n| {
        answer(StatsReply::Meter(vec![MeterStats {
            meter_id: n[0],
            flow_count: n[1],
            packets: n[2].into(),
            bytes: n[3].into(),
            duration: Duration::new(n[4].into(), 7),
            bands: vec![weft_flow::MeterStats { packets: 1, bytes: 2 }; 2],
        }]))
    });
    let features =
        MeterFeatures { max_meters: 9, band_types: 6, capabilities: 15, max_bands: 3, max_color: 0 };
    vec![
        change.boxed(),
        config.boxed(),
        stats.boxed(),
        any::<u32>().prop_map(|n| ask(StatsRequest::MeterConfig(n))).boxed(),
        Just(answer(StatsReply::MeterFeatures(features))).boxed(),
    ]
}

fn queues() -> impl Strategy<Value = Vec<QueueDesc>> {
    let queue = (0u32..8, prop::option::of(0u16..1000), prop::option::of(0u16..1000));
    let make =
        |(queue_id, min_rate, max_rate)| QueueDesc { port_no: OfPort(3), queue_id, min_rate, max_rate };
    prop::collection::vec(queue.prop_map(make), 0..4)
}

fn tables() -> Messages {
    let vacancy = (1u8..50, 50u8..100).prop_map(|(down, up)| Vacancy { down, up, now: 0 });
    let change = (vacancy, 0u32..8).prop_map(|(vacancy, flags)| {
        let config = table_config::VACANCY_EVENTS | table_config::EVICTION;
        let (eviction, vacancy) = (Some(flags), Some(vacancy));
        Message::TableMod(TableMod { table: Some(3), config, eviction, vacancy })
    });
    let status = (0u8..100).prop_map(|now| {
        let vacancy = Some(Vacancy { down: 20, up: 60, now });
        let table = TableDesc { table_id: 4, config: table_config::VACANCY_EVENTS, eviction: None, vacancy };
        Message::TableStatus(TableStatus { reason: TableReason::VacancyDown, table })
    });
    vec![change.boxed(), status.boxed()]
}

fn newest() -> Messages {
    let controller = (any::<u16>(), "[a-z:]{0,20}").prop_map(|(short_id, uri)| ControllerStatus {
        short_id,
        role: Role::Primary,
        reason: 2,
        connected: true,
        uri,
    });
    let counts = matching().prop_map(|matching| {
        answer(StatsReply::FlowCounts(vec![FlowStats {
            table_id: 3,
            priority: 4,
            matching,
            packets: 5,
            bytes: 6,
            ..FlowStats::default()
        }]))
    });
    vec![
        controller.clone().prop_map(Message::ControllerStatus).boxed(),
        controller.prop_map(|c| answer(StatsReply::ControllerStatus(vec![c]))).boxed(),
        counts.boxed(),
        Just(ask(StatsRequest::BundleFeatures)).boxed(),
        Just(answer(StatsReply::BundleFeatures(BundleFeatures { capabilities: 3 }))).boxed(),
        Just(ask(StatsRequest::FlowCounts(Box::default()))).boxed(),
    ]
}

/// Messages beyond those of flows and ports.
pub(super) fn messages(version: Version) -> Messages {
    let mut list = nicira(version);
    list.extend(groups(version));
    if version != Version::V11 && version != Version::V12 {
        list.extend(monitors(version));
    }
    if version >= Version::V13 {
        list.extend(meters());
        let role = |generation_id| {
            Message::RoleStatus(RoleStatus { role: Role::Secondary, reason: 1, generation_id })
        };
        list.push(any::<u64>().prop_map(role).boxed());
    }
    if version >= Version::V14 {
        list.extend(tables());
        list.push(queues().prop_map(|q| answer(StatsReply::QueueDesc(q))).boxed());
    } else {
        list.push(any::<u32>().prop_map(Message::FlowMonitorCancel).boxed());
        list.push(Just(Message::FlowMonitorPaused).boxed());
        list.push(Just(Message::FlowMonitorResumed).boxed());
        let config = |queues| Message::QueueGetConfigReply(QueueConfig { port_no: OfPort(3), queues });
        list.push(queues().prop_map(config).boxed());
        list.push((1u32..9).prop_map(|p| Message::QueueGetConfigRequest(OfPort(p))).boxed());
    }
    if version == Version::V15 {
        list.extend(newest());
    }
    let forward = group_mod(version).prop_map(move |m| {
        let mut inner = Vec::new();
        Codec::new(version).encode(3, &m, &mut inner).unwrap();
        Message::RequestForward(inner)
    });
    list.push(forward.boxed());
    let counts = IpfixStats { counts: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], collector_set_id: 4 };
    list.push(Just(answer(StatsReply::IpfixFlow(vec![counts; 2]))).boxed());
    list
}
