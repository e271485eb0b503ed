//! What is compiled reaches a switch through its public surfaces, and packets agree.

use tokio::sync::mpsc;
use tokio::time::timeout;
use weft_agent::south::{Database, Event, Flows, Outgoing, Punt, To, View, Views, Wanted, program, replace};
use weft_compile::{Change, Compiler, Cookie, Guard, Net, NetKey, Port, PortKey, Purpose, Subnet};
use weft_flow::OfPort;

use crate::hosts::Site;
use crate::pings::Pings;
use crate::support::{Kind, PATIENCE};

/// The agent's two connections to a switch.
struct South {
    database: Database,
    views: Views,
    view: View,
    flows: Flows,
    events: mpsc::Receiver<Event>,
    punts: mpsc::UnboundedReceiver<Punt>,
    wanted: Wanted,
}

impl South {
    /// Connects, and has the integration bridge made.
    async fn new(site: &Site) -> South {
        let (database, views) = Database::start(site.switch.path("db.sock"));
        let (packets, punts) = mpsc::unbounded_channel();
        let (flows, events) =
            Flows::start(site.switch.path("br-int.mgmt"), move |punt| drop(packets.send(punt)));
        let datapath = if site.switch.kind == Kind::Ovs { "netdev" } else { "" };
        let wanted = Wanted { datapath: datapath.into(), ..Wanted::default() };
        let mut south = South { database, views, view: View::default(), flows, events, punts, wanted };
        south.settle(|view| view.bridge.is_some()).await;
        south
    }

    /// Has what is wanted in the database, and waits for what follows from it.
    async fn settle(&mut self, done: impl Fn(&View) -> bool) {
        let wait = async {
            loop {
                if self.views.is_connected() {
                    self.views.take(&mut self.view);
                    self.database
                        .ensure(&self.wanted, None, &self.view)
                        .await
                        .expect("the database takes it");
                    if done(&self.view) {
                        return;
                    }
                }
                assert!(self.views.changed().await, "the task lives");
            }
        };
        timeout(PATIENCE, wait).await.expect("the database settles");
    }

    /// The number of a port.
    async fn ofport(&mut self, name: &str) -> OfPort {
        self.settle(|v| v.interfaces.get(name).is_some_and(|i| i.ofport.is_some())).await;
        OfPort(self.view.interfaces[name].ofport.expect("a number"))
    }

    /// The next event of a kind.
    async fn connected(&mut self) -> Vec<u32> {
        let wait = async {
            loop {
                if let Event::Connected(groups) = self.events.recv().await.expect("the task lives") {
                    return groups;
                }
            }
        };
        timeout(PATIENCE, wait).await.expect("the switch is connected")
    }

    async fn punt(&mut self, purpose: Purpose) -> Punt {
        let wait = async {
            loop {
                let punt = self.punts.recv().await.expect("the task lives");
                if Cookie::from_u64(punt.cookie).is_some_and(|c| c.purpose == purpose) {
                    return punt;
                }
            }
        };
        timeout(PATIENCE, wait).await.expect("a packet comes")
    }
}

fn net(n: u8) -> Net {
    let v4 = Subnet {
        address: format!("10.0.{n}.0").parse().unwrap(),
        prefix: 24,
        gateway: Some(format!("10.0.{n}.254").parse().unwrap()),
        dhcp: true,
        adverts: false,
    };
    let v6 = Subnet {
        address: format!("fd00:{n}::").parse().unwrap(),
        prefix: 64,
        gateway: Some(format!("fd00:{n}::fe").parse().unwrap()),
        dhcp: false,
        adverts: true,
    };
    Net {
        gateway_mac: format!("02:ee:00:00:00:{n:02x}").parse().unwrap(),
        subnets: vec![v4, v6],
        routed: vec![NetKey(3 - u32::from(n))],
        ..Net::default()
    }
}

/// Hosts 1 and 2 are of network 1, host 3 of network 2.
fn network_of(host: usize) -> u32 {
    if host < 3 { 1 } else { 2 }
}

fn address(host: usize) -> String {
    format!("10.0.{}.{host}", network_of(host))
}

fn check(kind: Kind) {
    let site = Site::unplugged(kind, 3);
    for n in 1..=3 {
        let net = network_of(n);
        site.on(n, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.accept_ra=0");
        site.on(n, &format!("ip addr add {}/24 dev eth0", address(n)));
        site.on(n, &format!("ip addr add fd00:{net}::{n}/64 dev eth0 nodad"));
        site.on(n, &format!("ip route add default via 10.0.{net}.254"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut south = South::new(&site).await;
        // As libvirt would.
        for n in 1..=3 {
            let ids = format!("external-ids:iface-id=port-{n}");
            site.switch.ok(&format!("ovs-vsctl add-port br-int p{n} -- set Interface p{n} {ids}"));
        }
        let groups = south.connected().await;
        assert_eq!(groups, Vec::<u32>::new());
        let (mut compiler, _) = Compiler::new();
        compiler.apply([1, 2].map(|n| Change::Net(NetKey(n.into()), Some(net(n)))));
        for n in 1..=3 {
            let port = Port {
                net: NetKey(network_of(n)),
                port: south.ofport(&format!("p{n}")).await,
                mac: Site::mac(n).parse().unwrap(),
                addresses: vec![
                    address(n).parse().unwrap(),
                    format!("fd00:{}::{n}", network_of(n)).parse().unwrap(),
                ],
                guard: Guard::On(Vec::new()),
                ..Port::default()
            };
            compiler.apply([Change::Port(PortKey(n as u32), Some(port))]);
        }
        south.flows.commit(replace(&compiler.whole(), &groups)).await.expect("the bridge takes everything");

        traffic(&site);
        services(&site, &mut south).await;

        // A port that goes, goes alone: nothing is flooded to it, the others talk.
        let delta = compiler.apply([Change::Port(PortKey(3), None)]);
        south.flows.commit(program(&delta)).await.expect("the bridge takes a change");
        assert!(!site.pings(1, &address(3)));
        assert!(site.pings(1, &address(2)));

        // An agent that begins again finds what it had, and puts it right without a lost packet.
        let mut again = South::new(&site).await;
        let mut groups = again.connected().await;
        groups.sort_unstable();
        assert_eq!(groups, [NetKey(1).group(), NetKey(2).group()]);
        let pings = Pings::start(&site, 1, &address(2), 0.01);
        for _ in 0..20 {
            again.flows.commit(replace(&compiler.whole(), &groups)).await.expect("the same again");
        }
        pings.unbroken(&site, 200);

        // What is refused is refused whole, and named.
        let mut wrong = replace(&compiler.whole(), &groups);
        let nowhere = weft_openflow::msg::flow::FlowMod {
            table: Some(0),
            instructions: weft_flow::Instructions::apply(vec![weft_flow::Action::Group(4711)]),
            ..Default::default()
        };
        wrong.insert(1, weft_openflow::Message::FlowMod(Box::new(nowhere)));
        let error = again.flows.commit(wrong).await.expect_err("there is no group 4711");
        assert!(error.to_string().contains("OFPBAC_BAD_OUT_GROUP"), "{error}");
        assert!(site.pings(1, &address(2)), "nothing of it was applied");
    });
}

fn traffic(site: &Site) {
    let dump = || site.switch.ok("ovs-ofctl -O OpenFlow15 dump-flows br-int");
    assert!(site.pings(1, &address(2)), "in a network\n{}", dump());
    assert!(site.pings(1, &address(3)), "routed to another network\n{}", dump());
    assert!(site.pings(1, "fd00:1::2"), "IPv6\n{}", dump());
    for gateway in ["10.0.1.254", "10.0.2.254"] {
        assert!(site.pings(1, gateway), "the gateway {gateway} answers\n{}", dump());
    }
    // A host that takes another's address is cut off; its own works again.
    site.on(1, "ip addr add 10.0.1.77/24 dev eth0");
    let spoofed = site.try_on(1, "ping -c1 -W1 -I 10.0.1.77 10.0.1.2");
    assert_ne!(spoofed.code, 0, "{}", spoofed.out);
    site.on(1, "ip addr del 10.0.1.77/24 dev eth0");
    let named = |purpose: Purpose| {
        let cookie = Cookie { kind: weft_compile::Kind::Port, purpose, key: 1 }.to_u64();
        let rules =
            site.switch.ok(&format!("ovs-ofctl -O OpenFlow15 dump-flows br-int cookie={cookie:#x}/-1"));
        rules.lines().filter(|l| l.contains("n_packets=") && !l.contains("n_packets=0,")).count()
    };
    let spoofs = named(Purpose::SpoofedIp) + named(Purpose::SpoofedNeighbour);
    assert!(spoofs > 0, "the flow that dropped it says why\n{}", dump());
}

async fn services(site: &Site, south: &mut South) {
    // What the agent answers comes to it whole, with its network.
    site.on(1, "ip route add 10.9.0.0/16 via 10.0.1.254");
    let lost = site.serve(1, "ping -c 3 -W1 10.9.9.9");
    let punt = south.punt(Purpose::NoRoute).await;
    assert_eq!((punt.metadata, punt.userdata.as_slice()), (1, &[Purpose::NoRoute as u8][..]));
    assert_eq!(punt.frame.len(), 98, "{punt:?}");
    assert_eq!(punt.in_port, south.ofport("p1").await);
    drop(lost);
    // Expired TTLs too.
    let probe = site.serve(1, &format!("ping -t 1 -c 3 -W1 {}", address(3)));
    let punt = south.punt(Purpose::Route).await;
    assert_eq!(punt.reason, 2, "{punt:?}");
    drop(probe);
    // What it sends goes out.
    let capture = site.serve(2, "timeout 10 tcpdump -c 1 -nn -e -i eth0 ether proto 0x88b5");
    site.switch.wait_for("tcpdump listens", |_| capture.log().contains("listening"));
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0xee, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.resize(60, 0);
    let to = south.ofport("p2").await;
    south.flows.send(vec![Outgoing { to: To::Ports(vec![to]), frame }]).await;
    site.switch.wait_for("the frame arrives", |_| capture.log().contains("0x88b5"));
}

on_both!(check);
