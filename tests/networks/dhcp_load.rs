//! Is a promise kept when many are given, when the agent is killed meanwhile, and when the disk is full?

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use weft_api::{Client, ListQuery};
use weft_model::{Kind as Resources, Resource};

use crate::hosts::Site;
use crate::pings::Pings;
use crate::support::{Dice, Kind};

const NETWORKS: &str = "apiVersion: weft.dev/v1
kind: Network
metadata: {name: blue}
spec: {mode: isolated}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue4}
spec: {network: blue, cidr: 10.8.0.0/16}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: load}
spec: {mode: isolated, spoofGuard: false}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: load4}
spec: {network: load, cidr: 10.64.0.0/16, dhcp: {ranges: [{start: 10.64.1.0, end: 10.64.99.255}]}}
---
";

/// A switch and the agent's process beside it.
struct Node {
    site: Site,
    agent: Option<Child>,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn new(hosts: usize) -> Node {
        let site = Site::unplugged(Kind::Weft, hosts);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut node = Node { site, agent: None, runtime };
        node.start(&[]);
        node.answers();
        node
    }

    /// Starts the agent, by these words before its own.
    fn start(&mut self, before: &[&str]) {
        let dir = self.site.switch.path("").display().to_string();
        let log = std::fs::File::options().create(true).append(true).open(self.site.switch.path("agent.log"));
        let (rundir, socket) = (format!("--rundir={dir}"), format!("--socket={dir}/api.sock"));
        let store = format!("--store={dir}/store/agent.redb");
        let words = [before, &[env!("CARGO_BIN_EXE_weft"), "agent", &rundir, &socket, &store]].concat();
        let mut command = self.site.switch.inside(&words);
        let child = command.stdout(Stdio::null()).stderr(log.expect("a log")).spawn();
        self.agent = Some(child.expect("start the agent"));
    }

    fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().expect("kill it");
            agent.wait().expect("it is dead");
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.site.switch.path("agent.log")).unwrap_or_default()
    }

    fn client(&self) -> Client {
        Client::unix(self.site.switch.path("api.sock"))
    }

    fn answers(&self) {
        let health = || self.runtime.block_on(self.client().health()).is_ok();
        self.site.switch.wait_for("the agent answers", |_| health());
    }

    fn apply(&self, text: &str) -> bool {
        self.runtime.block_on(self.client().apply(text.to_owned(), false, false)).is_ok()
    }

    fn plug(&self, n: usize, network: &str) {
        let port = format!(
            "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: p{n}}}\n\
             spec: {{network: {network}, mac: '{}', attachment: {{ifaceId: p{n}}}}}\n",
            Site::mac(n)
        );
        assert!(self.apply(&port), "{}", self.log());
        self.site.switch.wait_for("the bridge is there", |s| s.run("ovs-vsctl br-exists br-int").code == 0);
        let plug = format!("add-port br-int p{n} -- set Interface p{n} external-ids:iface-id=p{n}");
        self.site.switch.ok(&format!("ovs-vsctl {plug}"));
        let ready = || self.ports().get(&format!("p{n}")).is_some_and(|p| p.status.interface.is_some());
        self.site.switch.wait_for(&format!("port {n} is ready"), |_| ready());
        let address = self.ports()[&format!("p{n}")].status.addresses[0];
        self.site.on(n, &format!("ip addr add {address}/16 dev eth0"));
    }

    fn ports(&self) -> BTreeMap<String, weft_model::Port> {
        let list = self.runtime.block_on(self.client().list(Some(Resources::Port), &ListQuery::default()));
        let items = list.map(|l| l.items).unwrap_or_default();
        let port =
            |r: Resource| if let Resource::Port(p) = r { Some((p.name().to_owned(), p)) } else { None };
        items.into_iter().filter_map(port).collect()
    }

    /// Leases that are bound: address and MAC address.
    fn leases(&self) -> Vec<(String, String)> {
        let all = self.runtime.block_on(self.client().leases(Some("load"))).expect("the agent answers");
        let bound = all.into_iter().filter(|l| l.state == "bound");
        bound.map(|l| (l.address.to_string(), l.mac.map(|m| m.to_string()).unwrap_or_default())).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn script() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/networks/dhcp_client.py")
}

/// A load client that operators use, with ten thousand MAC addresses.
#[test]
fn ten_thousand_clients_get_an_address_each() {
    let node = Node::new(1);
    assert!(node.apply(NETWORKS));
    node.plug(1, "load");
    let own = node.ports()["p1"].status.addresses[0];
    // What is lost on a busy machine is asked for again.
    let run = |seed: u32| {
        let said = node.site.try_on(
            1,
            &format!("perfdhcp -4 -l {own} -L 67 -R 10000 -n 10000 -r 1000 -s {seed} -W 1000000 10.64.0.1"),
        );
        let got = |l: &&str| l.starts_with("received packets:");
        assert!(said.out.lines().any(|l| got(&l)), "{said:?}");
    };
    run(1);
    let leases = node.leases();
    let addresses: BTreeSet<&String> = leases.iter().map(|(a, _)| a).collect();
    let macs: BTreeSet<&String> = leases.iter().map(|(_, m)| m).collect();
    assert_eq!((addresses.len(), macs.len()), (leases.len(), leases.len()), "each address and client once");
    assert!(leases.len() > 9_000, "{} of 10000; {}", leases.len(), node.log());
}

/// Killed at moments that nobody chose, the agent keeps what it acknowledged, and packets pass meanwhile.
#[test]
fn killing_the_agent_loses_nothing_that_was_acknowledged() {
    const PORTS: usize = 1_000;
    const LEASES: usize = 10_000;
    let mut node = Node::new(3);
    assert!(node.apply(NETWORKS));
    for (n, network) in [(1, "blue"), (2, "blue"), (3, "load")] {
        node.plug(n, network);
    }
    let two = node.ports()["p2"].status.addresses[0];
    node.site.wait_ping(1, &two.to_string());
    let pings = Pings::start(&node.site, 1, &two.to_string(), 0.05);
    let own = node.ports()["p3"].status.addresses[0];
    let clients = node.site.serve(3, &format!("python3 {} eth0 {LEASES} {own}", script()));

    let mut dice = Dice(0x1ea5e);
    let (mut acknowledged, mut kills) = (BTreeSet::new(), 0);
    // By leases told, not by the clock: a fast node is killed as often.
    let mut next = 300 + dice.below(1_000);
    let until = Instant::now() + Duration::from_secs(300);
    while acknowledged.len() < PORTS || !clients.log().contains("over") {
        assert!(
            Instant::now() < until,
            "{} applied, {} leased: {}",
            acknowledged.len(),
            clients.log().lines().count(),
            node.log()
        );
        let told = clients.log().lines().count() as u64;
        if kills < 6 && told >= next {
            node.kill();
            kills += 1;
            node.start(&[]);
            next = told + 300 + dice.below(1_000);
        }
        let name = format!("n{}", acknowledged.len());
        let port = format!(
            "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\nspec: {{network: blue}}\n"
        );
        if acknowledged.len() < PORTS && node.apply(&port) {
            acknowledged.insert(name);
        } else {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    node.kill();
    node.start(&[]);
    node.answers();
    assert!(kills >= 3, "it was over too soon");
    // Resources: all there, with an address each.
    node.site.switch.wait_for("all ports have an address", |_| {
        node.ports().values().all(|p| !p.status.addresses.is_empty())
    });
    let ports = node.ports();
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !ports.contains_key(*name)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let addresses: BTreeSet<_> = ports.values().flat_map(|p| &p.status.addresses).collect();
    assert_eq!(addresses.len(), PORTS + 3, "each address once");
    // Leases: those that were acknowledged, each address and each client once.
    let leases = node.leases();
    let by_mac: BTreeMap<&str, &str> = leases.iter().map(|(a, m)| (m.as_str(), a.as_str())).collect();
    let by_address: BTreeSet<&str> = leases.iter().map(|(a, _)| a.as_str()).collect();
    assert_eq!((by_mac.len(), by_address.len()), (leases.len(), leases.len()), "each once");
    let log = clients.log();
    let told: Vec<(&str, &str)> = log.lines().filter_map(|l| l.split_once(' ')).collect();
    assert_eq!(told.len(), LEASES);
    let wrong: Vec<_> =
        told.iter().filter(|(mac, address)| by_mac.get(mac) != Some(address)).take(5).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    // Packets: not one is missing.
    pings.unbroken(&node.site, 1);
}

/// When the disk is full no lease can be kept: the agent says so and ends, and the switch forwards on.
#[test]
fn a_full_disk_ends_the_agent_and_not_the_traffic() {
    let mut node = Node::new(3);
    assert!(node.apply(NETWORKS));
    for (n, network) in [(1, "blue"), (2, "blue"), (3, "load")] {
        node.plug(n, network);
    }
    let two = node.ports()["p2"].status.addresses[0].to_string();
    let own = node.ports()["p3"].status.addresses[0];
    node.kill();
    // Its own mount of a disk that holds what is there and little more.
    let store = node.site.switch.path("store").display().to_string();
    let small = format!(
        "cp {store}/agent.redb {store}.copy && size=$(($(stat -c %s {store}.copy) + 400000)) && \
         mount -t tmpfs -o size=$size none {store} && cp {store}.copy {store}/agent.redb && exec \"$@\""
    );
    node.start(&["unshare", "-m", "sh", "-c", &small, "sh"]);
    node.answers();
    let clients = node.site.serve(3, &format!("python3 {} eth0 10000 {own}", script()));
    let mut ended = None;
    node.site.switch.wait_for("the agent ends", |_| {
        ended = node.agent.as_mut().and_then(|a| a.try_wait().expect("its status"));
        ended.is_some()
    });
    assert!(!ended.expect("it ended").success());
    let log = node.log();
    assert!(log.contains("no lease can be kept, so none is given") && log.contains("No space left"), "{log}");
    drop(clients);
    assert!(node.site.pings(1, &two), "packets pass");
}
