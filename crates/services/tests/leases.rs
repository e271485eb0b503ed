//! Do two clients ever hold one address, and is what was made durable all there is to know after
//! a crash?

mod support;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use proptest::prelude::*;
use support::Reply4;
use weft_services::Lease;
use weft_services::dhcp4::{Config, Event, Host, Outcome, Server, Subnet};
use weft_services::frame::{Datagram, Envelope, Tags};
use weft_wire::Mac;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn server() -> Server {
    let mut subnet = Subnet::new(ip(0), 24, ip(1));
    subnet.ranges = vec![(ip(10), ip(15))];
    subnet.lease_seconds = 300;
    subnet.hosts = vec![Host::fixed(mac(1), ip(50)), Host::fixed(mac(2), ip(12))];
    Server::new(Config { subnets: vec![subnet], decline_seconds: 200, ..Config::new(mac(0xfe)) })
}

/// What a client may do.
#[derive(Debug, Clone)]
enum Op {
    /// Kind of message, client, address it names (the one it holds for 0), seconds before it.
    Say { kind: u8, client: u8, address: u8, wait: u64, with_id: bool },
    /// The store failed: the change is taken back, and the reply is not sent.
    Fail { client: u8, address: u8 },
    /// The process dies and comes back with what was stored.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let say = (
        prop::sample::select(vec![1u8, 3, 3, 3, 4, 7]),
        1..9u8,
        prop_oneof![Just(0), 10..16u8, Just(50)],
        0..200u64,
        any::<bool>(),
    );
    prop_oneof![
        12 => say.prop_map(|(kind, client, address, wait, with_id)| Op::Say { kind, client, address, wait, with_id }),
        1 => (1..9u8, 10..16u8).prop_map(|(client, address)| Op::Fail { client, address }),
        1 => Just(Op::Crash),
    ]
}

fn send(server: &mut Server, kind: u8, client: u8, address: Ipv4Addr, with_id: bool, now: u64) -> Outcome {
    let mut b = vec![1, 1, 6, 0, 0, 0, 0, 7, 0, 0, 0, 0];
    // RELEASE names the address in `ciaddr`.
    b.extend(if kind == 7 { address.octets() } else { [0; 4] });
    b.resize(28, 0);
    b.extend(mac(client).0);
    b.resize(236, 0);
    b.extend([99, 130, 83, 99, 53, 1, kind]);
    if kind != 7 {
        b.extend([50, 4]);
        b.extend(address.octets());
    }
    if with_id {
        b.extend([61, 3, 0, 9, client]);
    }
    b.push(255);
    let envelope = Envelope {
        mac_src: mac(client),
        mac_dst: Mac::BROADCAST,
        tags: Tags::new(),
        src: Ipv4Addr::UNSPECIFIED.into(),
        dst: Ipv4Addr::BROADCAST.into(),
        src_port: 68,
        dst_port: 67,
    };
    server.handle_frame(&envelope.seal(&b).unwrap(), now)
}

type Stored = BTreeMap<Ipv4Addr, Lease<Ipv4Addr>>;

fn store(stored: &mut Stored, outcome: &Outcome) {
    for change in &outcome.changes {
        assert_eq!(stored.get(&change.address), change.before.as_ref(), "the change knows what was stored");
        match &change.after {
            Some(lease) => drop(stored.insert(change.address, lease.clone())),
            None => drop(stored.remove(&change.address)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn one_address_one_holder_through_crashes(ops in prop::collection::vec(op(), 1..80)) {
        let (mut server, mut stored, mut now) = (server(), Stored::new(), 0);
        // What clients believe: address and end, from the last ACK they saw.
        let mut believes: HashMap<u8, (Ipv4Addr, u64)> = HashMap::new();
        for op in ops {
            match op {
                Op::Say { kind, client, address, wait, with_id } => {
                    now += wait;
                    believes.retain(|_, (_, end)| *end > now);
                    let held = believes.get(&client).map(|(address, _)| *address);
                    let address = match (address, held) {
                        (0, None) => continue,
                        (0, Some(held)) => held,
                        (last, _) => ip(last),
                    };
                    if matches!(kind, 4 | 7) && held != Some(address) {
                        continue;
                    }
                    let outcome = send(&mut server, kind, client, address, with_id, now);
                    store(&mut stored, &outcome);
                    match outcome.event {
                        Event::Acked(given) => {
                            let frame = outcome.reply.unwrap();
                            let reply = Reply4::read(Datagram::parse(&frame).unwrap().payload);
                            let seconds = u32::from_be_bytes(reply.options[&51][..].try_into().unwrap());
                            prop_assert_eq!(reply.yiaddr, given);
                            for (other, (address, _)) in &believes {
                                prop_assert!(*other == client || *address != given, "{given} for {other} and {client}");
                            }
                            believes.insert(client, (given, now + u64::from(seconds)));
                        }
                        Event::Declined(_) | Event::Released(_) => drop(believes.remove(&client)),
                        Event::Nak(_) if held == Some(address) => drop(believes.remove(&client)),
                        _ => {}
                    }
                    // Offers say nothing that must be stored.
                    prop_assert!(kind != 1 || outcome.changes.is_empty());
                }
                Op::Fail { client, address } => {
                    let outcome = send(&mut server, 3, client, ip(address), false, now);
                    for change in outcome.changes.iter().rev() {
                        server.book_mut().revert(change);
                    }
                }
                Op::Crash => {
                    let mut fresh = self::server();
                    for lease in stored.values() {
                        prop_assert!(fresh.book_mut().load(lease.clone()));
                    }
                    server = fresh;
                }
            }
            let durable: Stored = server
                .book()
                .stored()
                .map(|lease| (lease.address, lease.clone()))
                .collect();
            prop_assert_eq!(&durable, &stored, "what is stored is what the book says");
        }
    }
}
