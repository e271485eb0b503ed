//! What is wanted comes true on a node: addresses by DHCP, gateways, isolation; and stays true when things break.

use std::path::Path;
use std::sync::Arc;

use weft_agent::node::{Config, Node};
use weft_host::netns::NetNs;
use weft_model::{Kind, ObjectRef, Phase, Resource};
use weft_store::{Embedded, Expect, Op, Options, Store, Transaction};

use crate::hosts::Site;
use crate::pings::Pings;
use crate::support::Kind as Switch;

/// An agent in the switch's namespace, in threads of this process.
pub(crate) struct Agent {
    pub(crate) store: Arc<Embedded>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Agent {
    pub(crate) fn start(site: &Site, file: &Path) -> Agent {
        let ns = NetNs::open(&site.switch.ns).expect("the switch's namespace");
        let config = Config {
            node: "here".into(),
            rundir: site.switch.path(""),
            datapath: if site.switch.kind == Switch::Ovs { "netdev".into() } else { String::new() },
            underlay_mtu: 1500,
            settings: None,
        };
        let store = Arc::new(Embedded::open(file, &Options::default()).expect("a store"));
        let theirs = Arc::clone(&store);
        // Threads are of the namespace of the one that makes them.
        let runtime = ns.run(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.spawn(async move {
                let node = Node::new(theirs, config).await.expect("a node");
                node.run().await.expect("it works on");
            });
            runtime
        });
        Agent { store, runtime: Some(runtime.expect("the namespace")) }
    }

    pub(crate) fn apply(&self, yaml: &str) {
        let parsed = weft_model::parse(yaml).unwrap_or_else(|e| panic!("{e}"));
        let op = |resource: Resource| Op::Put { resource, expect: Expect::Any };
        let ops = parsed.into_iter().map(|p| op(p.resource)).collect();
        let runtime = self.runtime.as_ref().expect("it runs");
        runtime
            .block_on(self.store.commit(Transaction { ops, dry_run: false }))
            .unwrap_or_else(|e| panic!("{e}"));
    }

    pub(crate) fn delete(&self, kind: Kind, name: &str) {
        let runtime = self.runtime.as_ref().expect("it runs");
        let delete = Transaction::delete(ObjectRef::new(kind, name), Expect::Any);
        runtime.block_on(self.store.commit(delete)).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Stored leases: address, and what is kept of it.
    pub(crate) fn leases(&self) -> Vec<(String, serde_json::Value)> {
        let runtime = self.runtime.as_ref().expect("it runs");
        let all = runtime.block_on(self.store.leases(None)).expect("the store reads");
        let read =
            |l: weft_store::Lease| (l.address.to_string(), serde_json::from_slice(&l.value).expect("JSON"));
        all.into_iter().map(read).collect()
    }

    /// The state of the lease of an address; empty: there is none.
    pub(crate) fn lease_state(&self, address: &str) -> String {
        let all = self.leases();
        let found = all.iter().find(|(a, _)| a == address);
        found.and_then(|(_, lease)| lease["state"].as_str()).unwrap_or_default().to_owned()
    }

    pub(crate) fn port(&self, name: &str) -> weft_model::Port {
        self.store.with_catalog(|c| c.port(name).cloned()).expect("the port is there")
    }

    pub(crate) fn ready(&self, site: &Site, names: &[&str]) {
        for name in names {
            site.switch.wait_for(&format!("port {name} is ready: {:?}", self.port(name).status), |_| {
                self.port(name).status.phase == Phase::Ready
            });
        }
    }

    /// As `kill -9` would: nothing is said, nothing is cleaned up.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

const NETWORKS: &str = "
apiVersion: weft.dev/v1
kind: Network
metadata: {name: blue}
spec: {mode: nat, domain: {name: blue.example}}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue4}
spec: {network: blue, cidr: 10.1.0.0/24, dhcp: {leaseSeconds: 600}}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue6}
spec: {network: blue, cidr: 'fd00:1::/64'}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: red}
spec: {mode: isolated}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: red4}
spec: {network: red, cidr: 10.2.0.0/24}
";

fn port(name: &str, network: &str, n: usize) -> String {
    let mac = Site::mac(n);
    format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\n\
         spec: {{network: {network}, mac: '{mac}', attachment: {{ifaceId: vm-{n}}}}}\n---\n"
    )
}

/// A lease as a client of the field's most used kind asks for it; what it was told.
fn lease(site: &Site, n: usize) -> String {
    let script = site.switch.path(&format!("udhcpc.{n}"));
    let text = "#!/bin/sh\n[ \"$1\" = bound ] || [ \"$1\" = renew ] || exit 0\n\
                ip addr flush dev $interface scope global\nip addr add $ip/$mask dev $interface\n\
                [ -n \"$router\" ] && ip route replace default via $router\n\
                echo \"told: ip=$ip mask=$mask router=$router dns=$dns domain=$domain mtu=$mtu lease=$lease\"\n";
    std::fs::write(&script, text).expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("it can be run");
    site.on(n, &format!("busybox udhcpc -i eth0 -n -q -t 10 -T 1 -O mtu -s {}", script.display()))
}

fn check(kind: Switch) {
    let site = Site::unplugged(kind, 5);
    // Host 5 is the world outside: it knows the switch's host, and nothing of networks behind it.
    site.switch.ok("ip addr add 192.0.2.1/24 dev p5");
    site.on(5, "ip addr add 192.0.2.99/24 dev eth0");
    let file = site.switch.path("agent.redb");
    let mut agent = Agent::start(&site, &file);
    agent.apply(NETWORKS);
    for (n, network) in [(1, "blue"), (2, "blue"), (3, "red"), (4, "red")] {
        agent.apply(&port(&format!("p{n}"), network, n));
    }
    site.switch
        .wait_for("the integration bridge is there", |s| s.run("ovs-vsctl br-exists br-int").code == 0);
    assert_eq!(agent.port("p1").status.phase, Phase::Pending, "nothing is plugged in");
    for n in 1..=4 {
        // The words are libvirt's.
        site.switch.ok(&format!(
            "ovs-vsctl --timeout=5 -- --may-exist add-port br-int p{n} -- set Interface p{n} external-ids:attached-mac=\"{}\" \
             -- set Interface p{n} external-ids:iface-id=\"vm-{n}\" -- set Interface p{n} external-ids:iface-status=active",
            Site::mac(n)
        ));
    }
    agent.ready(&site, &["p1", "p2", "p3", "p4"]);

    // Addresses come by DHCP, and are those that the ports were given.
    for (n, router, domain) in
        [(1, "10.1.0.1", "blue.example"), (2, "10.1.0.1", "blue.example"), (3, "", ""), (4, "", "")]
    {
        let told = lease(&site, n);
        let status = agent.port(&format!("p{n}")).status;
        let v4 = status.addresses.iter().find(|a| a.is_ipv4()).expect("an IPv4 address");
        let mtu = if n < 3 { "mtu=1500" } else { "mtu=" };
        for part in
            [format!("ip={v4} "), format!("router={router} "), format!("domain={domain} "), mtu.into()]
        {
            assert!(told.contains(&part), "host {n} was to be told {part:?}: {told}");
        }
    }
    let address = |n: usize| {
        let status = agent.port(&format!("p{n}")).status;
        status.addresses.iter().find(|a| a.is_ipv4()).expect("an address").to_string()
    };
    let [one, two, three, four] = [1, 2, 3, 4].map(address);
    site.wait_ping(1, &two);
    site.wait_ping(3, &four);
    assert!(site.pings(1, "10.1.0.1"), "the gateway answers");
    // Networks are apart, both ways.
    assert!(!site.pings(1, &three) && !site.pings(3, &one));
    // The host takes part: its end has the gateway's address.
    site.switch.wait_for("the host pings", |s| s.run(&format!("ping -c1 -W1 {one}")).code == 0);

    // The world is reached with the host's address, and only by networks that may.
    site.wait_ping(1, "192.0.2.99");
    assert!(!site.pings(3, "192.0.2.99"), "an isolated network");
    site.on(5, "ip route add 10.1.0.0/24 via 192.0.2.1");
    assert!(!site.pings(5, &one), "nobody outside begins");
    // What others do to our table is undone.
    site.switch.ok("nft flush ruleset");
    site.switch.wait_for("the rules are back", |_| !site.pings(5, &one) && site.pings(1, "192.0.2.99"));

    // IPv6: a router is announced, an address comes by DHCPv6 or is the port's own.
    let announced = site.announced(1);
    assert!(
        announced.contains("fd00:1::/64") && announced.contains("Stateful address conf.    :          Yes"),
        "{announced}"
    );

    // Deleted addresses come back.
    site.switch.ok("ip addr flush dev wn-blue");
    site.switch.wait_for("the address is back", |s| s.ok("ip addr show dev wn-blue").contains("10.1.0.1/24"));

    // Without the agent packets pass; a new one knows what the old one gave.
    let pings = Pings::start(&site, 1, &two, 0.05);
    agent.stop();
    drop(agent);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let agent = Agent::start(&site, &file);
    agent.ready(&site, &["p1", "p2"]);
    pings.unbroken(&site, 60);
    assert!(lease(&site, 1).contains(&format!("ip={one} ")));

    // What is deleted is gone, and only that.
    agent.delete(Kind::Port, "p2");
    site.switch.wait_for("port 2 is cut off", |_| !site.pings(1, &two));
    assert!(site.pings(3, &four));
    agent.apply(&port("p2", "red", 2));
    agent.ready(&site, &["p2"]);
    let moved = lease(&site, 2);
    assert!(moved.contains("ip=10.2.0."), "the port is of the other network now: {moved}");
    site.wait_ping(2, &three);
}

#[test]
fn on_weft() {
    check(Switch::Weft);
}

#[test]
fn on_open_vswitch() {
    check(Switch::Ovs);
}
