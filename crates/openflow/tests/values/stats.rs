//! Questions with long answers, and their answers.

use std::time::Duration;

use proptest::prelude::*;
use weft_flow::{Instructions, OfPort};
use weft_openflow::Version;
use weft_openflow::msg::flow::GROUP_ANY;
use weft_openflow::stats::flow::{AggregateStats, FlowStats, FlowStatsRequest};
use weft_openflow::stats::port::{PortStats, QueueStats};
use weft_openflow::stats::table::{TableDesc, TableStats};
use weft_openflow::stats::table_features::TableFeatures;
use weft_openflow::stats::{MultipartReply, MultipartRequest, StatsReply, StatsRequest, SwitchDesc};

use super::extension::options;
use super::{matching, port_desc, wild_action};

pub(crate) fn request(version: Version) -> impl Strategy<Value = MultipartRequest> {
    let flow = (matching(), prop::option::of(0u8..255), any::<[u64; 2]>(), options(version)).prop_map(
        move |(m, table, w, options)| {
            let masked = version != Version::V10;
            Box::new(FlowStatsRequest {
                table,
                out_port: OfPort(7),
                out_group: GROUP_ANY,
                cookie: if masked { w[0] & w[1] } else { 0 },
                cookie_mask: if masked { w[1] } else { 0 },
                matching: m,
                options,
            })
        },
    );
    // OpenFlow 1.0 asks in Nicira's form for what its own has no room for.
    let nicira = version == Version::V10;
    let body = prop_oneof![
        Just((StatsRequest::Desc, false)),
        flow.clone().prop_map(move |f| (StatsRequest::Flow(f), nicira)),
        flow.prop_map(move |f| (StatsRequest::Aggregate(f), nicira)),
        Just((StatsRequest::Table, false)),
        Just((StatsRequest::Port(OfPort(3)), false)),
        Just((StatsRequest::PortDesc(OfPort::ANY), false)),
        Just((StatsRequest::Queue { port: OfPort::ANY, queue: 4 }, false)),
    ];
    body.prop_map(|(body, nicira)| MultipartRequest { more: false, nicira, body })
}

fn flow_stats(version: Version) -> impl Strategy<Value = FlowStats> {
    let actions = prop::collection::vec(wild_action(version), 0..4);
    (matching(), actions, any::<[u64; 3]>(), any::<[u16; 4]>(), any::<u32>(), options(version)).prop_map(
        move |(matching, apply, w, n, sec, options)| FlowStats {
            table_id: 9,
            priority: n[0],
            duration: Duration::new(sec.into(), 1),
            idle_timeout: n[1],
            hard_timeout: n[2],
            flags: if version >= Version::V13 { n[3] } else { 0 },
            importance: if version >= Version::V14 { n[3] } else { 0 },
            cookie: w[0],
            packets: w[1],
            bytes: w[2],
            idle_age: matches!(version, Version::V10 | Version::V15).then_some(5),
            hard_age: (version == Version::V10).then_some(6),
            matching,
            options,
            instructions: Instructions::apply(apply),
        },
    )
}

pub(crate) fn reply(version: Version) -> impl Strategy<Value = MultipartReply> {
    let text = "[a-z]{0,30}";
    let desc = (text, text).prop_map(|(a, b)| SwitchDesc {
        manufacturer: a.clone(),
        hardware: b.clone(),
        software: a.clone(),
        serial: b,
        datapath: a,
    });
    let ports = prop::collection::vec(port_desc(version), 0..5);
    let named = version < Version::V13;
    let timed = version >= Version::V13;
    let table = (any::<u32>(), any::<u64>()).prop_map(move |(n, w)| TableStats {
        table_id: 3,
        name: if named { "three".into() } else { String::new() },
        max_entries: if named { 77 } else { 0 },
        config: if named && version != Version::V10 { 2 } else { 0 },
        active: n,
        lookups: w,
        matched: w / 2,
    });
    let port_stats = any::<[u64; 12]>().prop_map(move |w| PortStats {
        port_no: OfPort(4),
        rx_packets: w[0],
        tx_packets: w[1],
        rx_bytes: w[2],
        tx_bytes: w[3],
        rx_dropped: w[4],
        tx_dropped: w[5],
        rx_errors: w[6],
        tx_errors: w[7],
        rx_frame_err: w[8],
        rx_over_err: w[9],
        rx_crc_err: w[10],
        collisions: w[11],
        duration: timed.then_some(Duration::new(5, 6)),
    });
    let queue = QueueStats {
        port_no: OfPort(1),
        queue_id: 2,
        tx_bytes: 3,
        tx_packets: 4,
        tx_errors: 5,
        duration: None,
    };
    let aggregate = AggregateStats { packets: 1, bytes: 2, flows: 3 };
    let mut list = vec![
        desc.prop_map(|d| (StatsReply::Desc(d), false)).boxed(),
        prop::collection::vec(flow_stats(version), 0..5)
            .prop_map(move |f| (StatsReply::Flow(f), version == Version::V10))
            .boxed(),
        Just((StatsReply::Aggregate(aggregate), version == Version::V10)).boxed(),
        prop::collection::vec(table, 0..5).prop_map(|t| (StatsReply::Table(t), false)).boxed(),
        prop::collection::vec(port_stats, 0..5).prop_map(|p| (StatsReply::Port(p), false)).boxed(),
        ports.prop_map(|p| (StatsReply::PortDesc(p), false)).boxed(),
        Just((StatsReply::Queue(vec![queue, queue]), false)).boxed(),
    ];
    if timed {
        let capable = |n| TableFeatures::capable(version, n, 5, format!("t{n}"), 100);
        list.push(Just((StatsReply::TableFeatures(vec![capable(0), capable(4)]), false)).boxed());
    }
    if version >= Version::V14 {
        list.push(
            Just((
                StatsReply::TableDesc(vec![TableDesc { table_id: 1, config: 8, ..TableDesc::default() }]),
                false,
            ))
            .boxed(),
        );
    }
    let body = proptest::strategy::Union::new(list);
    (body, any::<bool>()).prop_map(|((body, nicira), more)| MultipartReply { more, nicira, body })
}
