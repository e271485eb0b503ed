//! Do exporters keep their promises: records as their templates say, in time, within bounds?

use std::sync::Arc;

use proptest::prelude::*;
use weft_datapath::Sampled;
use weft_flow::{PacketKey, SampleDirection, SampleTo, Sampler, TunnelKey, TunnelKind, Vlan};
use weft_wire::ipfix::Element;

use super::counts::{Counts, End};
use super::exporter::{Exporter, Moment};
use super::record::{self, Interface};
use crate::wanted::Ipfix;

fn config(active_timeout_s: u32, max_flows: usize) -> Ipfix {
    Ipfix {
        targets: Default::default(),
        active_timeout_s,
        max_flows,
        tunnels: true,
        virtual_obs_id: String::new(),
        flow_totals: false,
        sampling: 1,
        domain: 7,
        point: 8,
        input: true,
        output: true,
    }
}

fn sampled(key: PacketKey, domain: Option<u32>, lengths: &[u64]) -> Sampled {
    let rule = |obs_domain_id| Sampler::Rule {
        probability: 1,
        collector_set_id: 1,
        obs_domain_id,
        obs_point_id: 0,
        direction: SampleDirection::Default,
    };
    let to = SampleTo {
        bridge: 1,
        sampler: domain.map_or(Sampler::Bridge, rule),
        output: None,
        tunnel: None,
        tunnels: true,
    };
    let (least, most) = (lengths.iter().min().copied(), lengths.iter().max().copied());
    let squares = lengths.iter().map(|n| n * n).sum();
    Sampled {
        to: Arc::new(to),
        key,
        tunnel: None,
        packets: lengths.len() as u32,
        lengths: [least.unwrap_or(0), most.unwrap_or(0), lengths.iter().sum(), squares],
        dropped: false,
    }
}

fn udp(port: u16) -> PacketKey {
    PacketKey { eth_type: 0x800, ip_proto: 17, tp_src: port, ..PacketKey::default() }
}

fn at(seconds: u64) -> Moment {
    Moment { steady: seconds * 1_000_000, unix: (1_000 + seconds) * 1_000_000 }
}

fn word(message: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(message[at..at + 4].try_into().unwrap())
}

/// Identifiers of the sets in a message.
fn sets(message: &[u8]) -> Vec<u16> {
    let mut out = Vec::new();
    let mut rest = &message[16..];
    while !rest.is_empty() {
        out.push(u16::from_be_bytes([rest[0], rest[1]]));
        rest = &rest[usize::from(u16::from_be_bytes([rest[2], rest[3]]))..];
    }
    out
}

/// Bytes that a record of these elements has at the beginning of `bytes`.
fn length(elements: &[Element], bytes: &[u8]) -> usize {
    elements.iter().fold(0, |at, element| match element.len {
        Element::VARIABLE => at + 1 + usize::from(bytes[at]),
        len => at + usize::from(len),
    })
}

proptest! {
    /// The template says what the record has, whatever the packet was.
    #[test]
    fn records_are_as_templates_say(
        eth_type in prop::sample::select(vec![0x800u16, 0x86dd, 0x806, 0x88cc]),
        ip_proto in prop::sample::select(vec![1u8, 6, 17, 58, 132, 89]),
        ip_frag in 0u8..4, tagged: bool, tunnel: bool, output: bool, observed: bool, lengths in prop::collection::vec(14u64..9000, 1..5),
    ) {
        let mut key = PacketKey { eth_type, ip_proto, ip_frag, ..PacketKey::default() };
        if tagged {
            key.vlan[0] = Vlan { tpid: 0x8100, tci: 0x1005 };
        }
        let mut sampled = sampled(key, None, &lengths);
        sampled.tunnel = tunnel.then(TunnelKey::default);
        let port = Interface { name: "p1".into(), tunnel: Some(TunnelKind::Gre), ..Interface::default() };
        let observed = if observed { "somewhere" } else { "" };
        let flow = record::flow(&sampled, (7, 8), observed, &port, output.then_some(&port));
        let counts = Counts::of(&sampled, flow.shape, 0);
        let mut record = flow.fields.to_vec();
        counts.put(&counts, flow.shape, 0, End::Forced, &mut record);
        prop_assert_eq!(length(&flow.shape.elements(), &record), record.len());
        prop_assert!((256..512).contains(&flow.shape.template()));
        if eth_type == 0x800 {
            let head = if tagged { 18 } else { 14 };
            let ip = |n: &u64| n.saturating_sub(head);
            prop_assert_eq!(counts.octets, lengths.iter().sum::<u64>().saturating_sub(head * lengths.len() as u64));
            if lengths.iter().all(|n| *n >= head) {
                prop_assert_eq!(counts.squares, lengths.iter().map(|n| ip(n) * ip(n)).sum::<u64>());
            }
        }
    }
}

#[test]
fn templates_come_first_and_again() {
    let mut exporter = Exporter::new(config(0, 0));
    let port = Interface::default();
    let mut sequence = 0;
    for (seconds, taught) in [(0, true), (1, false), (599, false), (600, true), (601, false)] {
        exporter.take(&sampled(udp(1), None, &[60]), &port, None, at(seconds));
        exporter.finish();
        let messages = std::mem::take(&mut exporter.messages);
        let [message] = &messages[..] else { panic!("{} messages", messages.len()) };
        assert_eq!(sets(message).contains(&2), taught, "after {seconds} s");
        assert_eq!(
            (word(message, 4), word(message, 8), word(message, 12)),
            (1_000 + seconds as u32, sequence, 7)
        );
        sequence += if taught { 2 } else { 1 };
    }
}

#[test]
fn flows_wait_for_their_time() {
    let mut exporter = Exporter::new(config(10, 3));
    let port = Interface::default();
    let take = |exporter: &mut Exporter, seconds, source| {
        exporter.take(&sampled(udp(source), None, &[60, 70]), &port, None, at(seconds));
        exporter.finish();
        exporter
            .messages
            .drain(..)
            .map(|m| sets(&m).iter().filter(|s| **s >= 256 && **s < 512).count())
            .sum::<usize>()
    };
    assert_eq!((take(&mut exporter, 0, 1), take(&mut exporter, 3, 2), take(&mut exporter, 4, 1)), (0, 0, 0));
    assert_eq!((exporter.waiting(), exporter.due()), (2, Some(10_000_000)));
    assert_eq!(take(&mut exporter, 10, 3), 1, "the first one's time has come");
    assert_eq!((exporter.waiting(), exporter.due()), (2, Some(13_000_000)));
    assert_eq!(take(&mut exporter, 11, 4), 0);
    assert_eq!(take(&mut exporter, 11, 5), 1, "one too many");
    exporter.export_all(at(12));
    assert_eq!((exporter.waiting(), exporter.due(), exporter.messages.len()), (0, None, 1));
    assert_eq!((exporter.tally.flows, exporter.tally.sampled, exporter.tally.ipv4), (5, 12, 12));
}

#[test]
fn messages_fit_and_memory_is_bounded() {
    let mut exporter = Exporter::new(Ipfix { virtual_obs_id: "x".repeat(254), ..config(0, 0) });
    let port = Interface { name: "a".repeat(5000), ..Interface::default() };
    for n in 0..5_000 {
        exporter.take(&sampled(udp(n as u16), Some(n), &[60]), &port, Some(&port), at(0));
        exporter.take(&sampled(udp(n as u16), Some(1), &[60]), &port, Some(&port), at(0));
    }
    exporter.finish();
    assert!(exporter.messages.iter().all(|m| m.len() <= 1400 && m.len() > 16));
    let records = exporter.messages.iter().flat_map(|m| sets(m)).filter(|s| *s >= 256).count();
    assert!(records >= 10_000 / 5, "{records}");
    assert_eq!(exporter.tally.sampled, 10_000);
}
