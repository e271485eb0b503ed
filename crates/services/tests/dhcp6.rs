//! Does the DHCPv6 server answer as its cases say? (`tests/cases/dhcp6.yaml`) Replies are read by
//! `dhcproto`, not by the code under test.

mod support;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use dhcproto::v6::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable, Encodable};
use serde::Deserialize;
use support::bytes;
use weft_services::dhcp6::{Config, Host, HostId, Options, Server, Subnet};
use weft_services::frame::{Datagram, Envelope, Tags, link_local};
use weft_wire::Mac;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: ServerSpec,
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
    preference: u8,
    subnets: Vec<SubnetSpec>,
    dns: Vec<Ipv6Addr>,
    search: Vec<String>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct SubnetSpec {
    cidr: String,
    relayed: bool,
    ranges: Vec<(Ipv6Addr, Ipv6Addr)>,
    range_seconds: Vec<(Ipv6Addr, Ipv6Addr, u32)>,
    valid: Option<u32>,
    preferred: Option<u32>,
    known_only: bool,
    rapid_commit: bool,
    hosts: Vec<HostSpec>,
    domain: Option<String>,
    dns: Vec<Ipv6Addr>,
    ntp: Vec<Ipv6Addr>,
    boot_url: Option<String>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct HostSpec {
    mac: Option<String>,
    duid: Option<String>,
    address: Option<Ipv6Addr>,
    name: Option<String>,
    lease: Option<u32>,
    #[serde(default)]
    dns: Vec<Ipv6Addr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    at: u64,
    send: Send,
    #[serde(default)]
    expect: Expect,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Send {
    kind: u8,
    client: u8,
    /// Last byte of the frame's source, when it is not the client's.
    from: Option<u8>,
    /// Without a client identifier.
    anonymous: bool,
    /// Names the server: `this` or hex digits.
    server: Option<String>,
    /// iaid → addresses
    ia: BTreeMap<u32, Vec<Ipv6Addr>>,
    options: BTreeMap<u16, String>,
    unicast: bool,
    /// Relays from the client outwards: (link address, interface).
    relays: Vec<(Ipv6Addr, String)>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    silent: Option<String>,
    kind: u8,
    status: Option<u16>,
    /// iaid → `address preferred valid` …, or `status N`
    ia: BTreeMap<u32, Vec<String>>,
    /// Every given address lies in this range.
    within: Option<(Ipv6Addr, Ipv6Addr)>,
    same_as_step: Option<usize>,
    not_as_step: Option<usize>,
    t1_t2: Option<(u32, u32)>,
    options: BTreeMap<u16, String>,
    absent: Vec<u16>,
    changes: Option<Vec<String>>,
    /// Interfaces of the relays around the reply, outermost first.
    relays: Vec<String>,
}

const SERVER: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn server(spec: &ServerSpec) -> Server {
    let host = |h: &HostSpec| Host {
        id: match (&h.mac, &h.duid) {
            (Some(mac), _) => HostId::Mac(mac.parse().unwrap()),
            (None, Some(duid)) => HostId::Duid(bytes(duid)),
            (None, None) => HostId::Name(h.name.clone().expect("mac, duid or name")),
        },
        address: h.address,
        name: h.name.clone(),
        lease_seconds: h.lease,
        options: Options { dns: h.dns.clone(), ..Options::default() },
    };
    let subnet = |s: &SubnetSpec| {
        let (network, len) = s.cidr.split_once('/').expect("cidr");
        let plain = Subnet::new(network.parse().unwrap(), len.parse().unwrap());
        Subnet {
            relayed: s.relayed,
            ranges: s.ranges.clone(),
            range_seconds: s.range_seconds.clone(),
            valid_seconds: s.valid.unwrap_or(plain.valid_seconds),
            preferred_seconds: s.preferred.unwrap_or(plain.preferred_seconds),
            known_only: s.known_only,
            rapid_commit: s.rapid_commit,
            hosts: s.hosts.iter().map(host).collect(),
            options: Options {
                domain: s.domain.clone(),
                dns: s.dns.clone(),
                ntp: s.ntp.clone(),
                boot_url: s.boot_url.clone(),
                ..Options::default()
            },
            ..plain
        }
    };
    Server::new(Config {
        preference: spec.preference,
        subnets: spec.subnets.iter().map(subnet).collect(),
        options: Options { dns: spec.dns.clone(), search: spec.search.clone(), ..Options::default() },
        ..Config::new(SERVER)
    })
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn request(send: &Send) -> Vec<u8> {
    let mut b = vec![send.kind, 1, 2, 3];
    if !send.anonymous {
        b.extend(option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, send.client]));
    }
    match send.server.as_deref() {
        Some("this") => b.extend(option(2, &Config::new(SERVER).duid)),
        Some(other) => b.extend(option(2, &bytes(other))),
        None => {}
    }
    for (iaid, addresses) in &send.ia {
        let mut body = [&iaid.to_be_bytes()[..], &[0; 8]].concat();
        for address in addresses {
            body.extend(option(5, &[&address.octets()[..], &[0; 8]].concat()));
        }
        b.extend(option(3, &body));
    }
    for (code, value) in &send.options {
        b.extend(option(*code, &bytes(value)));
    }
    for (hops, (link, interface)) in send.relays.iter().enumerate() {
        let peer = link_local(mac(send.client)).octets();
        let mut outer = [&[12, hops as u8][..], &link.octets(), &peer].concat();
        outer.extend(option(18, interface.as_bytes()));
        outer.extend(option(9, &b));
        b = outer;
    }
    let envelope = Envelope {
        mac_src: mac(send.from.unwrap_or(send.client)),
        mac_dst: SERVER,
        tags: Tags::new(),
        src: link_local(mac(send.client)).into(),
        dst: if send.unicast { link_local(SERVER) } else { "ff02::1:2".parse().unwrap() }.into(),
        src_port: 546,
        dst_port: 547,
    };
    envelope.seal(&b).unwrap()
}

/// Takes the relays off; returns their interfaces and the message inside.
fn unwrap(bytes: &[u8]) -> (Vec<String>, v6::Message) {
    if bytes[0] != 13 {
        return (Vec::new(), v6::Message::from_bytes(bytes).unwrap());
    }
    // By hand: what `dhcproto` 0.15 writes of a decoded inner message lacked its association.
    let (mut interface, mut inner, mut rest) = (String::new(), &[][..], &bytes[34..]);
    while let [a, b, c, d, tail @ ..] = rest {
        let (value, next) = tail.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        match u16::from_be_bytes([*a, *b]) {
            18 => interface = String::from_utf8_lossy(value).into_owned(),
            9 => inner = value,
            code => panic!("option {code} of a relay"),
        }
        rest = next;
    }
    let (mut interfaces, message) = unwrap(inner);
    interfaces.insert(0, interface);
    (interfaces, message)
}

fn check(server: &mut Server, step: &Step, seen: &[Option<Ipv6Addr>], what: &str) -> Option<Ipv6Addr> {
    let expect = &step.expect;
    let outcome = server.handle_frame(&request(&step.send), step.at);
    let event = format!("{:?}", outcome.event);
    if let Some(states) = &expect.changes {
        let got: Vec<_> =
            outcome.changes.iter().map(|c| format!("{:?}", c.after.as_ref().unwrap().state)).collect();
        assert_eq!(&got, states, "{what}");
    }
    if let Some(why) = &expect.silent {
        assert!(outcome.reply.is_none() && event.contains(why.as_str()), "{what}: {event}");
        return None;
    }
    let frame = outcome.reply.unwrap_or_else(|| panic!("{what}: silent, {event}"));
    let datagram = Datagram::parse(&frame).unwrap();
    assert_eq!(datagram.dst_port, if expect.relays.is_empty() { 546 } else { 547 }, "{what}");
    let (interfaces, reply) = unwrap(datagram.payload);
    assert_eq!(interfaces, expect.relays, "{what}");
    assert_eq!((u8::from(reply.msg_type()), reply.xid()), (expect.kind, [1, 2, 3]), "{what}");
    let status = |options: &v6::DhcpOptions| match options.get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(status)) => Some(u16::from(status.status)),
        _ => None,
    };
    assert_eq!(status(reply.opts()), expect.status, "{what}: status");
    let mut first = None;
    let mut ias = BTreeMap::new();
    for ia in reply.opts().get_all(OptionCode::IANA).unwrap_or_default() {
        let DhcpOption::IANA(ia) = ia else { continue };
        let mut lines = Vec::new();
        for option in ia.opts.get_all(OptionCode::IAAddr).unwrap_or_default() {
            let DhcpOption::IAAddr(a) = option else { continue };
            if a.valid_life > 0 {
                first = first.or(Some(a.addr));
                assert!(
                    expect.within.is_none_or(|(low, high)| (low..=high).contains(&a.addr)),
                    "{what}: {}",
                    a.addr
                );
            }
            lines.push(format!("{} {} {}", a.addr, a.preferred_life, a.valid_life));
        }
        lines.extend(status(&ia.opts).map(|s| format!("status {s}")));
        if let Some(times) = expect.t1_t2 {
            assert_eq!((ia.t1, ia.t2), times, "{what}");
        }
        ias.insert(ia.id, lines);
    }
    for (iaid, lines) in &expect.ia {
        assert_eq!(ias.get(iaid), Some(lines), "{what}: association {iaid} of {reply:?}");
    }
    if let Some(at) = expect.same_as_step {
        assert_eq!(first, seen[at], "{what}");
    }
    if let Some(at) = expect.not_as_step {
        assert!(first.is_some() && first != seen[at], "{what}");
    }
    let options: BTreeMap<u16, Vec<u8>> = reply
        .opts()
        .iter()
        .map(|o| {
            let bytes = o.to_vec().unwrap();
            (u16::from_be_bytes([bytes[0], bytes[1]]), bytes[4..].to_vec())
        })
        .collect();
    for (code, value) in &expect.options {
        assert_eq!(options.get(code), Some(&bytes(value)), "{what}: option {code}");
    }
    for code in &expect.absent {
        assert!(!options.contains_key(code), "{what}: option {code} is there");
    }
    first
}

#[test]
fn cases() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/dhcp6.yaml");
    let file: File = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(file.cases.len() > 10);
    for case in &file.cases {
        let mut server = server(case.server.as_ref().unwrap_or(&file.server));
        let mut seen = Vec::new();
        for (i, step) in case.steps.iter().enumerate() {
            let given = check(&mut server, step, &seen, &format!("{}, step {i}", case.name));
            seen.push(given);
        }
    }
}
