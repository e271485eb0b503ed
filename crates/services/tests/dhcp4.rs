//! Does the DHCPv4 server answer as its cases say? (`tests/cases/dhcp4/*.yaml`)

mod support;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Deserialize;
use support::{Reply4, bytes};
use weft_services::dhcp4::message::Message;
use weft_services::dhcp4::option::Route;
use weft_services::dhcp4::{Boot, Config, Host, HostId, Options, Outcome, Server, Subnet};
use weft_services::frame::{Datagram, Envelope, Tags};
use weft_wire::Mac;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Server that cases of this file use unless they have their own.
    server: Option<ServerSpec>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    server: Option<ServerSpec>,
    steps: Vec<Step>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct ServerSpec {
    not_authoritative: bool,
    per_mac: Option<usize>,
    subnets: Vec<SubnetSpec>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct SubnetSpec {
    cidr: String,
    server: String,
    relayed: bool,
    probe: bool,
    ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    range_seconds: Vec<(Ipv4Addr, Ipv4Addr, u32)>,
    lease: Option<u32>,
    renew: Option<u32>,
    rebind: Option<u32>,
    known_only: bool,
    ignore_client_id: bool,
    rapid_commit: bool,
    hosts: Vec<HostSpec>,
    options: OptionsSpec,
    boot: Vec<BootSpec>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct HostSpec {
    mac: Option<String>,
    client_id: Option<String>,
    address: Option<Ipv4Addr>,
    name: Option<String>,
    lease: Option<u32>,
    options: OptionsSpec,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct OptionsSpec {
    routers: Vec<Ipv4Addr>,
    dns: Vec<Ipv4Addr>,
    domain: Option<String>,
    search: Vec<String>,
    mtu: Option<u16>,
    ntp: Vec<Ipv4Addr>,
    /// (network, prefix length, router)
    routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    raw: BTreeMap<u8, String>,
    force: Vec<u8>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct BootSpec {
    architectures: Vec<u16>,
    ipxe: Option<bool>,
    vendor_class: Option<String>,
    file: String,
    next_server: Option<Ipv4Addr>,
    server_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    at: u64,
    send: Option<Send>,
    /// Instead of a message: the probe of this address was answered.
    conflict: Option<Ipv4Addr>,
    #[serde(default)]
    expect: Expect,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Send {
    kind: String,
    mac: u8,
    broadcast: bool,
    hops: u8,
    /// Last byte of the frame's source, when it is not the client's.
    from: Option<u8>,
    ciaddr: Option<Ipv4Addr>,
    giaddr: Option<Ipv4Addr>,
    src: Option<Ipv4Addr>,
    dst: Option<Ipv4Addr>,
    options: BTreeMap<u8, String>,
    /// Put the options into `file` (1), `sname` (2) or both instead of the options field.
    overload: u8,
    /// The whole UDP payload instead of all that.
    raw: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    /// Nothing is sent; the text is part of the event's debug form.
    silent: Option<String>,
    kind: Option<String>,
    yiaddr: Option<Ipv4Addr>,
    /// `last` of 10.0.0.last: same address as that client got in the step of this number.
    same_as_step: Option<usize>,
    not_as_step: Option<usize>,
    ciaddr: Option<Ipv4Addr>,
    siaddr: Option<Ipv4Addr>,
    giaddr: Option<Ipv4Addr>,
    sname: Option<String>,
    file: Option<String>,
    broadcast: Option<bool>,
    /// `IP:PORT MAC`
    to: Option<String>,
    options: BTreeMap<u8, String>,
    absent: Vec<u8>,
    order: Option<Vec<u8>>,
    event: Option<String>,
    probe: Option<bool>,
    /// States of changed leases, in order.
    changes: Option<Vec<String>>,
    /// Most bytes of the UDP payload.
    at_most: Option<usize>,
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn options(spec: &OptionsSpec) -> Options {
    Options {
        routers: spec.routers.clone(),
        dns: spec.dns.clone(),
        domain: spec.domain.clone(),
        search: spec.search.clone(),
        mtu: spec.mtu,
        ntp: spec.ntp.clone(),
        routes: spec
            .routes
            .iter()
            .map(|(network, prefix_len, via)| Route { network: *network, prefix_len: *prefix_len, via: *via })
            .collect(),
        raw: spec.raw.iter().map(|(code, value)| (*code, bytes(value))).collect(),
        force: spec.force.clone(),
        ..Options::default()
    }
}

fn subnet(spec: &SubnetSpec) -> Subnet {
    let (network, len) = spec.cidr.split_once('/').expect("cidr");
    let plain = Subnet::new(network.parse().unwrap(), len.parse().unwrap(), spec.server.parse().unwrap());
    let host = |h: &HostSpec| Host {
        id: match (&h.mac, &h.client_id) {
            (Some(mac), _) => HostId::Mac(mac.parse().unwrap()),
            (None, Some(id)) => HostId::ClientId(bytes(id)),
            (None, None) => HostId::Name(h.name.clone().expect("mac, client_id or name")),
        },
        address: h.address,
        name: h.name.clone(),
        lease_seconds: h.lease,
        options: options(&h.options),
        boot: Vec::new(),
    };
    let boot = |b: &BootSpec| Boot {
        architectures: b.architectures.clone(),
        ipxe: b.ipxe,
        vendor_class: b.vendor_class.clone(),
        file: b.file.clone(),
        next_server: b.next_server,
        server_name: b.server_name.clone(),
    };
    Subnet {
        relayed: spec.relayed,
        probe: spec.probe,
        ranges: spec.ranges.clone(),
        range_seconds: spec.range_seconds.clone(),
        lease_seconds: spec.lease.unwrap_or(plain.lease_seconds),
        renew_seconds: spec.renew,
        rebind_seconds: spec.rebind,
        known_only: spec.known_only,
        ignore_client_id: spec.ignore_client_id,
        rapid_commit: spec.rapid_commit,
        hosts: spec.hosts.iter().map(host).collect(),
        options: options(&spec.options),
        boot: spec.boot.iter().map(boot).collect(),
        ..plain
    }
}

fn server(spec: &ServerSpec) -> Server {
    Server::new(Config {
        authoritative: !spec.not_authoritative,
        subnets: spec.subnets.iter().map(subnet).collect(),
        per_mac: spec.per_mac.unwrap_or(16),
        ..Config::new(mac(0xfe))
    })
}

fn request(send: &Send) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let payload = send.raw.as_deref().map(bytes).unwrap_or_else(|| {
        let kinds = ["discover", "offer", "request", "decline", "ack", "nak", "release", "inform"];
        let kind = kinds.iter().position(|k| *k == send.kind).expect("kind") as u8 + 1;
        let mut b = vec![1, 1, 6, send.hops, 0, 0, 0, 7, 0, 0, if send.broadcast { 0x80 } else { 0 }, 0];
        for address in [send.ciaddr.unwrap_or(none), none, none, send.giaddr.unwrap_or(none)] {
            b.extend(address.octets());
        }
        b.extend(mac(send.mac).0);
        b.resize(236, 0);
        b.extend([99, 130, 83, 99, 53, 1, kind]);
        let mut opts = Vec::new();
        for (code, value) in &send.options {
            for part in bytes(value).chunks(255) {
                opts.extend([*code, part.len() as u8]);
                opts.extend(part);
            }
            if bytes(value).is_empty() {
                opts.extend([*code, 0]);
            }
        }
        opts.push(255);
        if send.overload == 0 {
            b.extend(opts);
        } else {
            let at = if send.overload & 1 != 0 { 108 } else { 44 };
            b[at..at + opts.len()].copy_from_slice(&opts);
            b.extend([52, 1, send.overload, 255]);
        }
        b
    });
    let envelope = Envelope {
        mac_src: mac(send.from.unwrap_or(if send.giaddr.is_some() { 0xaa } else { send.mac })),
        mac_dst: Mac::BROADCAST,
        tags: Tags::new(),
        src: send.src.or(send.ciaddr).unwrap_or(none).into(),
        dst: send.dst.unwrap_or(Ipv4Addr::BROADCAST).into(),
        src_port: 68,
        dst_port: 67,
    };
    envelope.seal(&payload).unwrap()
}

/// Holds an outcome against what is expected; returns the address it was about.
fn check(outcome: &Outcome, expect: &Expect, seen: &[Option<Ipv4Addr>], what: &str) -> Option<Ipv4Addr> {
    let event = format!("{:?}", outcome.event);
    if let Some(states) = &expect.changes {
        let got: Vec<_> =
            outcome.changes.iter().map(|c| format!("{:?}", c.after.as_ref().unwrap().state)).collect();
        assert_eq!(&got, states, "{what}: changes");
    }
    if let Some(probe) = expect.probe {
        assert_eq!(outcome.probe.is_some(), probe, "{what}: probe");
    }
    if let Some(want) = &expect.event {
        assert!(event.contains(want.as_str()), "{what}: {event} is not {want}");
    }
    if let Some(why) = &expect.silent {
        assert!(outcome.reply.is_none(), "{what}: answered, {event}");
        assert!(event.contains(why.as_str()), "{what}: {event} is not {why}");
        return None;
    }
    let Some(want_kind) = &expect.kind else { return None };
    let frame = outcome.reply.as_ref().unwrap_or_else(|| panic!("{what}: silent, {event}"));
    let datagram = Datagram::parse(frame).unwrap();
    let reply = Reply4::read(datagram.payload);
    let kinds = ["", "discover", "offer", "request", "decline", "ack", "nak"];
    assert_eq!(kinds[usize::from(reply.options[&53][0])], want_kind, "{what}: {event}");
    assert!(reply.op == 2 && datagram.src_port == 67 && datagram.mac_src == mac(0xfe), "{what}");
    let eq = |name: &str, want: &Option<Ipv4Addr>, got: Ipv4Addr| {
        assert!(want.is_none_or(|want| want == got), "{what}: {name} is {got}, {event}");
    };
    eq("yiaddr", &expect.yiaddr, reply.yiaddr);
    eq("ciaddr", &expect.ciaddr, reply.ciaddr);
    eq("siaddr", &expect.siaddr, reply.siaddr);
    eq("giaddr", &expect.giaddr, reply.giaddr);
    if let Some(step) = expect.same_as_step {
        assert_eq!(Some(reply.yiaddr), seen[step], "{what}");
    }
    if let Some(step) = expect.not_as_step {
        assert_ne!(Some(reply.yiaddr), seen[step], "{what}");
    }
    if let Some(want) = &expect.to {
        let got = format!("{}:{} {}", datagram.dst, datagram.dst_port, datagram.mac_dst);
        assert_eq!(&got, want, "{what}: destination");
    }
    for (name, want, got) in [("sname", &expect.sname, &reply.sname), ("file", &expect.file, &reply.file)] {
        assert!(want.as_ref().is_none_or(|want| want == got), "{what}: {name} is {got:?}");
    }
    if let Some(broadcast) = expect.broadcast {
        assert_eq!(reply.flags & 0x8000 != 0, broadcast, "{what}: broadcast flag");
    }
    for (code, value) in &expect.options {
        assert_eq!(reply.options.get(code), Some(&bytes(value)), "{what}: option {code}");
    }
    for code in &expect.absent {
        assert!(!reply.options.contains_key(code), "{what}: option {code} is there");
    }
    if let Some(order) = &expect.order {
        assert_eq!(&reply.order, order, "{what}: order");
    }
    if let Some(most) = expect.at_most {
        assert!(datagram.payload.len() <= most, "{what}: {} bytes", datagram.payload.len());
    }
    Some(reply.yiaddr)
}

#[test]
fn cases() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/dhcp4");
    let mut run = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let file: File = serde_yaml_ng::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for case in &file.cases {
            let spec = case.server.as_ref().or(file.server.as_ref()).expect("a server");
            let mut server = server(spec);
            let mut seen = Vec::new();
            for (i, step) in case.steps.iter().enumerate() {
                let what = format!("{}, step {i}", case.name);
                if let Some(address) = step.conflict {
                    let _ = server.conflict(address, mac(0xcc), step.at);
                    seen.push(None);
                    continue;
                }
                let frame = request(step.send.as_ref().expect("send or conflict"));
                let outcome = server.handle_frame(&frame, step.at);
                seen.push(check(&outcome, &step.expect, &seen, &what));
            }
            run += 1;
        }
    }
    assert!(run >= 30, "only {run} cases were found");
}

#[test]
fn a_message_reads_what_was_written() {
    let send = Send { kind: "request".into(), mac: 5, hops: 3, broadcast: true, ..Send::default() };
    let frame = request(&send);
    let datagram = Datagram::parse(&frame).unwrap();
    let message = Message::parse(datagram.payload).unwrap();
    assert_eq!((message.xid, message.hops, message.flags, message.mac()), (7, 3, 0x8000, Some(mac(5))));
}
