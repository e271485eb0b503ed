//! Does the name server answer as its cases say? (`tests/cases/dns.yaml`)

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use serde::Deserialize;
use weft_services::dns::tcp::{Frames, frame};
use weft_services::dns::{Ask, Config, Data, Entry, Forward, Server, Step, Transport};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Spec,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    server: Option<Spec>,
    /// Networks that the asker can reach besides.
    #[serde(default)]
    others: Vec<Spec>,
    steps: Vec<Act>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
struct Spec {
    domain: Option<String>,
    local_only: bool,
    subnets: Vec<(IpAddr, u8)>,
    addresses: Vec<IpAddr>,
    /// `NAME address IP`, `NAME txt TEXT…`, `NAME srv PRIORITY WEIGHT PORT TARGET`, `NAME alias TARGET`
    records: Vec<String>,
    /// `NAME IP`
    leases: Vec<String>,
    forwarders: Vec<SocketAddr>,
    domains: Vec<(String, Vec<SocketAddr>)>,
    forward_plain_names: bool,
    allow: Vec<(IpAddr, u8)>,
    pending: Option<(usize, usize)>,
    cache: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Act {
    at: u64,
    /// `NAME TYPE` and any of `norecurse`, `tcp`, `edns=N`, `dnssec`, `from=IP`
    ask: Option<String>,
    /// What a forwarder says to the last question: `NAME TTL a IP`, `NAME TTL alias TARGET`, or
    /// `soa NAME TTL MINIMUM`.
    upstream: Option<Vec<String>>,
    /// With it: rcode, and any of `truncated`, `case`, `id`, `from` (each makes it wrong), `tcp`.
    upstream_is: String,
    /// Time passes; forwarders are silent.
    poll: bool,
    /// Add or remove the name of a lease: `+NAME IP`, `-NAME IP`
    lease: Option<String>,
    expect: Expect,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    /// `noerror`, `nxdomain`, `servfail`, `refused`, …
    code: Option<String>,
    /// `NAME TTL TYPE DATA`
    answers: Option<Vec<String>>,
    authority: Option<Vec<String>>,
    authoritative: Option<bool>,
    truncated: Option<bool>,
    /// Address of the forwarder to ask, and `tcp` behind it.
    asks: Option<String>,
    /// Debug form of why nothing is done.
    ignored: Option<String>,
    /// Number of answers that go out.
    count: Option<usize>,
    most_bytes: Option<usize>,
}

fn server(spec: &Spec) -> Server<u32> {
    let plain = Config::default();
    let entry = |line: &String| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap().to_owned();
        let kind = words.next().unwrap();
        let rest: Vec<String> = words.map(str::to_owned).collect();
        let number = |at: usize| rest[at].parse().unwrap();
        let data = match kind {
            "address" => Data::Address(rest[0].parse().unwrap()),
            "txt" => Data::Txt(vec![rest.join(" ")]),
            "srv" => {
                Data::Srv { priority: number(0), weight: number(1), port: number(2), target: rest[3].clone() }
            }
            "alias" => Data::Alias(rest[0].clone()),
            "long" => Data::Txt(vec!["x".repeat(250); rest[0].parse().unwrap()]),
            other => panic!("record {other}"),
        };
        Entry { name, data }
    };
    let mut server = Server::new(Config {
        domain: spec.domain.clone(),
        local_only: spec.local_only,
        subnets: spec.subnets.clone(),
        addresses: spec.addresses.clone(),
        records: spec.records.iter().map(entry).collect(),
        forwarders: spec.forwarders.clone(),
        domains: spec
            .domains
            .iter()
            .map(|(d, s)| Forward { domain: d.clone(), servers: s.clone() })
            .collect(),
        forward_plain_names: spec.forward_plain_names,
        allow: spec.allow.clone(),
        pending: spec.pending.unwrap_or(plain.pending),
        cache_entries: spec.cache.unwrap_or(plain.cache_entries),
        ..plain
    });
    for line in &spec.leases {
        let (name, address) = line.split_once(' ').unwrap();
        server.zone_mut().set_lease(name, address.parse().unwrap());
    }
    server
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

struct Run {
    server: Server<u32>,
    others: Vec<Server<u32>>,
    seed: u64,
    asked: Option<Ask>,
    next: u32,
}

impl Run {
    fn query(&mut self, line: &str, now: u64) -> Vec<Step<u32>> {
        let mut words = line.split_whitespace();
        let who = name(words.next().unwrap());
        let kind = RecordType::from_str(&words.next().unwrap().to_uppercase()).unwrap();
        let mut message = Message::new(99, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.queries.push(Query::query(who, kind));
        let (mut transport, mut client) = (Transport::Udp, IpAddr::from([10, 0, 0, 9]));
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("norecurse", _) => message.metadata.recursion_desired = false,
                ("tcp", _) => transport = Transport::Tcp,
                ("edns", size) => {
                    let mut edns = Edns::new();
                    edns.set_max_payload(size.parse().unwrap()).set_version(0);
                    message.edns = Some(edns);
                }
                ("from", address) => client = address.parse().unwrap(),
                other => panic!("{other:?}"),
            }
        }
        self.next += 1;
        let mut random = random(&mut self.seed);
        let others: Vec<_> = self.others.iter().map(Server::zone).collect();
        vec![self.server.handle_query_among(
            &others,
            client,
            self.next,
            transport,
            &message.to_vec().unwrap(),
            now,
            &mut random,
        )]
    }

    fn respond(&mut self, records: &[String], how: &str, now: u64) -> Vec<Step<u32>> {
        let ask = self.asked.clone().expect("a question was asked upstream");
        let mut message = Message::from_bytes(&ask.message).unwrap();
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        let mut from = ask.server;
        for word in how.split_whitespace() {
            match word {
                "nxdomain" => message.metadata.response_code = ResponseCode::NXDomain,
                "servfail" => message.metadata.response_code = ResponseCode::ServFail,
                "truncated" => message.metadata.truncation = true,
                "id" => message.metadata.id ^= 1,
                "from" => from.set_port(54),
                "case" => {
                    let plain = message.queries[0].name().to_lowercase();
                    message.queries[0].set_name(plain);
                }
                "question" => drop(message.queries[0].set_name(name("other.example"))),
                other => panic!("{other}"),
            }
        }
        let asked = message.queries[0].name().clone();
        for line in records {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse().unwrap();
            if words[0] == "soa" {
                let soa = SOA::new(name("ns.x"), name("m.x"), 1, 2, 3, 4, number(3));
                message.authorities.push(Record::from_rdata(name(words[1]), number(2), RData::SOA(soa)));
                continue;
            }
            // As servers do: the letters of the question.
            let owner = if name(words[0]) == asked { asked.clone() } else { name(words[0]) };
            let data = match words[2] {
                "a" => RData::A(A(words[3].parse().unwrap())),
                "alias" => RData::CNAME(CNAME(name(words[3]))),
                other => panic!("{other}"),
            };
            message.answers.push(Record::from_rdata(owner, number(1), data));
        }
        let mut random = random(&mut self.seed);
        let bytes = message.to_vec().unwrap();
        self.server.handle_response(ask.token, from, ask.transport, &bytes, now, &mut random).into_vec()
    }
}

/// A simple generator: the same every time.
fn random(seed: &mut u64) -> impl FnMut() -> u64 + '_ {
    move || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed ^ (*seed >> 29)
    }
}

fn show(records: &[Record]) -> Vec<String> {
    let line = |r: &Record| match &r.data {
        RData::SOA(soa) => format!("{} {} SOA {}", r.name, r.ttl, soa.minimum),
        RData::HINFO(_) => format!("{} HINFO", r.name),
        RData::TXT(txt) => {
            let text: Vec<_> = txt.txt_data.iter().map(|s| String::from_utf8_lossy(s)).collect();
            format!("{} {} TXT {}", r.name, r.ttl, text.join("|"))
        }
        data => format!("{} {} {} {}", r.name, r.ttl, r.record_type(), data),
    };
    records.iter().map(line).collect()
}

fn check(run: &mut Run, steps: &[Step<u32>], asked: Option<&str>, expect: &Expect, what: &str) {
    let answers: Vec<&Vec<u8>> = steps
        .iter()
        .filter_map(|s| if let Step::Answer(_, bytes) = s { Some(bytes) } else { None })
        .collect();
    for step in steps {
        match step {
            Step::Ask(ask) => {
                assert!(ask.port >= 1024, "{what}");
                let by = if ask.transport == Transport::Tcp { " tcp" } else { "" };
                assert_eq!(Some(&format!("{}{by}", ask.server)), expect.asks.as_ref(), "{what}");
                run.asked = Some(ask.clone());
            }
            Step::Ignore(why) => {
                assert_eq!(Some(&format!("{why:?}")), expect.ignored.as_ref(), "{what}");
            }
            Step::Answer(..) => {
                assert!(expect.asks.is_none() && expect.ignored.is_none(), "{what}: answered")
            }
        }
    }
    if let Some(count) = expect.count {
        assert_eq!(answers.len(), count, "{what}: number of answers");
    }
    let Some(code) = &expect.code else { return };
    let bytes = answers.first().unwrap_or_else(|| panic!("{what}: no answer, {steps:?}"));
    let message = Message::from_bytes(bytes).unwrap();
    let meta = message.metadata;
    assert!(meta.id == 99 && meta.message_type == MessageType::Response, "{what}");
    assert_eq!(&format!("{:?}", meta.response_code).to_lowercase(), code, "{what}");
    if let Some(line) = asked {
        let sent = name(line.split_whitespace().next().unwrap());
        assert!(message.queries[0].name().eq_case(&sent), "{what}: the question came back changed");
    }
    if let Some(want) = &expect.answers {
        assert_eq!(&show(&message.answers), want, "{what}: answers");
    }
    if let Some(want) = &expect.authority {
        assert_eq!(&show(&message.authorities), want, "{what}: authority");
    }
    if let Some(want) = expect.authoritative {
        assert_eq!(meta.authoritative, want, "{what}: authoritative");
    }
    if let Some(want) = expect.truncated {
        assert_eq!(meta.truncation, want, "{what}: truncated");
    }
    if let Some(most) = expect.most_bytes {
        assert!(bytes.len() <= most, "{what}: {} bytes", bytes.len());
    }
}

#[test]
fn cases() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/dns.yaml");
    let file: File = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(file.cases.len() > 20);
    for case in &file.cases {
        let server = self::server(case.server.as_ref().unwrap_or(&file.server));
        let others = case.others.iter().map(self::server).collect();
        let mut run = Run { server, others, seed: 7, asked: None, next: 0 };
        for (i, act) in case.steps.iter().enumerate() {
            let what = format!("{}, step {i}", case.name);
            if let Some(line) = &act.lease {
                let (who, address) = line[1..].split_once(' ').unwrap();
                let (zone, address) = (run.server.zone_mut(), address.parse().unwrap());
                if line.starts_with('+') {
                    assert!(zone.set_lease(who, address), "{what}");
                } else {
                    zone.remove_lease(who, address)
                }
                continue;
            }
            let steps = match (&act.ask, &act.upstream) {
                (Some(line), _) => run.query(line, act.at),
                (None, Some(records)) => run.respond(records, &act.upstream_is, act.at),
                (None, None) if act.poll => run.server.poll(act.at, &mut random(&mut run.seed)),
                (None, None) => panic!("{what}: nothing to do"),
            };
            check(&mut run, &steps, act.ask.as_deref(), &act.expect, &what);
        }
    }
}

#[test]
fn leases_survive_another_configuration() {
    let spec = Spec { domain: Some("lab.test".into()), ..Spec::default() };
    let mut run = Run { server: server(&spec), others: Vec::new(), seed: 1, asked: None, next: 0 };
    assert!(run.server.zone_mut().set_lease("web", [10, 0, 0, 7].into()));
    run.server.configure(Config { domain: Some("new.test".into()), ..Config::default() });
    let steps = run.query("web.new.test a", 0);
    let answers = Some(vec!["web.new.test. 60 A 10.0.0.7".to_owned()]);
    let expect = Expect { code: Some("noerror".into()), answers, ..Expect::default() };
    check(&mut run, &steps, None, &expect, "after configure");
}

#[test]
fn names_that_clients_cannot_claim() {
    let spec = Spec {
        domain: Some("lab.test".into()),
        records: vec!["db address 10.0.0.5".into()],
        ..Spec::default()
    };
    let mut server = server(&spec);
    for taken in ["wpad", "db", "DB", "localhost", "ns", "a..b", "", &"x".repeat(64)] {
        assert!(!server.zone_mut().set_lease(taken, [10, 0, 0, 9].into()), "{taken}");
    }
}

#[test]
fn a_stream_is_cut_into_messages() {
    let (one, two) = (vec![1; 20], vec![2; 300]);
    let stream = [frame(&one).unwrap(), frame(&two).unwrap()].concat();
    let mut frames = Frames::default();
    let mut got = Vec::new();
    for piece in stream.chunks(7) {
        assert_eq!(frames.push(piece), piece.len());
        while let Some(message) = frames.next().unwrap() {
            got.push(message);
        }
    }
    assert_eq!(got, [one, two]);
    frames.push(&[0, 11]);
    assert!(frames.next().is_err());
    assert!(frame(&vec![0; 65_536]).is_none());
    assert_eq!(Frames::default().push(&vec![0xff; 70_000]), 65_537, "what is kept is bounded");
}
