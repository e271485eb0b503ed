//! Does OVN run on it? Two hosts with ovn-controller each, two logical switches, a router, access lists, DHCP and a
//! load balancer; pods on both hosts.
//!
//! The underlay's addresses are on the bridge `br-phys` of each host, so that tunnels end in the switch itself.
//! `WEFT_TEST_SWITCH_KIND=ovs` runs the same on Debian's Open vSwitch.

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use support::{Kind, Said, Switch};
use weft_host::netns::NetNs;

/// A pod: host (0 or 1), logical port, MAC address, IP address or "dhcp".
struct Pod {
    host: usize,
    port: &'static str,
    mac: &'static str,
    addr: &'static str,
    gateway: &'static str,
}

const PODS: [Pod; 4] = [
    Pod { host: 0, port: "a1", mac: "0a:00:00:00:01:01", addr: "10.10.1.11", gateway: "10.10.1.1" },
    Pod { host: 1, port: "a2", mac: "0a:00:00:00:01:02", addr: "10.10.1.12", gateway: "10.10.1.1" },
    Pod { host: 1, port: "b1", mac: "0a:00:00:00:02:01", addr: "10.10.2.11", gateway: "10.10.2.1" },
    Pod { host: 0, port: "d1", mac: "0a:00:00:00:01:0d", addr: "dhcp", gateway: "" },
];

struct Cloud {
    hosts: Vec<Switch>,
    spaces: Vec<String>,
}

impl Cloud {
    fn new() -> Cloud {
        let kind = match std::env::var("WEFT_TEST_SWITCH_KIND").as_deref() {
            Ok("ovs") => Kind::Ovs,
            _ => Kind::Weft,
        };
        let hosts = vec![Switch::start(kind), Switch::start(kind)];
        hosts[0].ok(&format!("ip link add under type veth peer name under netns {}", hosts[1].ns));
        let mut cloud = Cloud { hosts, spaces: Vec::new() };
        for (i, host) in cloud.hosts.iter_mut().enumerate() {
            let addr = format!("192.0.2.{}", i + 1);
            let datapath = if kind == Kind::Ovs { " -- set bridge br-phys datapath_type=netdev" } else { "" };
            host.ok(&format!("ovs-vsctl add-br br-phys{datapath} -- add-port br-phys under"));
            host.ok("ip link set under up");
            host.ok("ip link set br-phys up");
            host.ok(&format!("ip addr add {addr}/24 dev br-phys"));
        }
        cloud.hosts[0].wait_for("the underlay carries", |h| h.run("ping -c1 -W1 192.0.2.2").code == 0);
        cloud.central();
        for i in 0..2 {
            cloud.controller(i, kind);
        }
        cloud
    }

    /// The databases and northd, on host 0.
    fn central(&mut self) {
        let host = &mut self.hosts[0];
        for (name, schema, port) in [("nb", "ovn-nb", 6641), ("sb", "ovn-sb", 6642)] {
            let db = host.path(&format!("{name}.db")).display().to_string();
            host.ok(&format!("ovsdb-tool create {db} /usr/share/ovn/{schema}.ovsschema"));
            let socket = host.path(&format!("{name}.sock")).display().to_string();
            let control = host.path(&format!("{name}.ctl")).display().to_string();
            host.daemon(&[
                "ovsdb-server",
                &format!("--remote=punix:{socket}"),
                &format!("--remote=ptcp:{port}:0.0.0.0"),
                &format!("--unixctl={control}"),
                &db,
            ]);
        }
        host.wait_for("the databases serve", |h| h.path("nb.sock").exists() && h.path("sb.sock").exists());
        let (nb, sb) = (host.path("nb.sock"), host.path("sb.sock"));
        host.daemon(&[
            "ovn-northd",
            &format!("--ovnnb-db=unix:{}", nb.display()),
            &format!("--ovnsb-db=unix:{}", sb.display()),
            &format!("--unixctl={}", host.path("northd.ctl").display()),
        ]);
    }

    fn controller(&mut self, i: usize, kind: Kind) {
        let host = &mut self.hosts[i];
        let datapath = if kind == Kind::Ovs { " external_ids:ovn-bridge-datapath-type=netdev" } else { "" };
        host.ok(&format!(
            "ovs-vsctl set open . external_ids:system-id=host{i} external_ids:ovn-remote=tcp:192.0.2.1:6642 external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=192.0.2.{}{datapath}",
            i + 1
        ));
        let db = host.path("db.sock").display().to_string();
        host.daemon(&["ovn-controller", &format!("unix:{db}")]);
        host.wait_for("there is br-int", |h| h.run("ovs-vsctl br-exists br-int").code == 0);
    }

    fn nb(&self, line: &str) -> String {
        self.hosts[0].ok(&format!("ovn-nbctl --db=unix:{} {line}", self.hosts[0].path("nb.sock").display()))
    }

    /// Gives a pod a namespace and its port.
    fn plug(&mut self, pod: &Pod) {
        let host = &self.hosts[pod.host];
        let ns = format!("{}-{}", host.ns, pod.port);
        NetNs::create(&ns).expect("a namespace");
        self.spaces.push(ns.clone());
        host.ok(&format!("ip link add {0} type veth peer name eth0 netns {ns}", pod.port));
        host.ok(&format!("ip link set {} up", pod.port));
        let inside = |line: &str| host.ok(&format!("nsenter --net=/run/netns/{ns} {line}"));
        inside("ip link set lo up");
        inside(&format!("ip link set eth0 address {} up", pod.mac));
        inside("ip link set eth0 mtu 1400");
        inside("ethtool -K eth0 tx off");
        if pod.addr != "dhcp" {
            inside(&format!("ip addr add {}/24 dev eth0", pod.addr));
            inside(&format!("ip route add default via {}", pod.gateway));
        }
        host.ok(&format!(
            "ovs-vsctl add-port br-int {0} -- set interface {0} external_ids:iface-id={0}",
            pod.port
        ));
    }

    fn on(&self, port: &str, line: &str) -> Said {
        let pod = PODS.iter().find(|p| p.port == port).expect("a pod");
        let host = &self.hosts[pod.host];
        host.run(&format!("nsenter --net=/run/netns/{}-{port} {line}", host.ns))
    }

    fn pings(&self, from: &str, to: &str) -> bool {
        self.on(from, &format!("ping -c1 -W1 {to}")).code == 0
    }

    fn wait(&self, what: &str, done: impl Fn(&Cloud) -> bool) {
        let until = std::time::Instant::now() + Duration::from_secs(40);
        while !done(self) {
            if std::time::Instant::now() > until {
                for host in &self.hosts {
                    eprintln!("--- {}", host.logs());
                }
                panic!("{what}: not in 40 s");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn fetches(&self, from: &str, url: &str) -> bool {
        self.on(from, &format!("curl -sS -m 2 -o /dev/null {url}")).code == 0
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.hosts.iter_mut().for_each(Switch::kill);
        for ns in &self.spaces {
            let _ = NetNs::delete(ns);
        }
    }
}

#[test]
fn pods_of_two_logical_switches_talk() {
    let mut cloud = Cloud::new();
    for (switch, gateway, mac) in
        [("ls1", "10.10.1.1", "0a:00:00:00:01:ff"), ("ls2", "10.10.2.1", "0a:00:00:00:02:ff")]
    {
        cloud.nb(&format!("ls-add {switch}"));
        if switch == "ls1" {
            cloud.nb("lr-add lr");
        }
        cloud.nb(&format!("lrp-add lr lr-{switch} {mac} {gateway}/24"));
        cloud.nb(&format!("lsp-add {switch} {switch}-lr -- lsp-set-type {switch}-lr router -- lsp-set-addresses {switch}-lr router -- lsp-set-options {switch}-lr router-port=lr-{switch}"));
    }
    cloud.nb("set logical_switch ls1 other_config:subnet=10.10.1.0/24 other_config:exclude_ips=10.10.1.1..10.10.1.50");
    for pod in &PODS {
        let switch = if pod.addr.starts_with("10.10.2.") { "ls2" } else { "ls1" };
        let addr = if pod.addr == "dhcp" { "dynamic" } else { pod.addr };
        cloud.nb(&format!("lsp-add {switch} {0} -- lsp-set-addresses {0} '{1} {addr}'", pod.port, pod.mac));
    }
    cloud.nb("dhcp-options-create 10.10.1.0/24");
    let options = cloud.nb("--bare --columns=_uuid find dhcp_options cidr=10.10.1.0/24");
    cloud.nb(&format!("dhcp-options-set-options {options} server_id=10.10.1.1 server_mac=0a:00:00:00:01:fe lease_time=3600 router=10.10.1.1"));
    cloud.nb(&format!("lsp-set-dhcpv4-options d1 {options}"));
    for pod in &PODS {
        cloud.plug(pod);
    }
    // The same logical switch, over the tunnel; then through the router.
    cloud.wait("a1 pings a2", |c| c.pings("a1", "10.10.1.12"));
    cloud.wait("a1 pings its gateway", |c| c.pings("a1", "10.10.1.1"));
    cloud.wait("a1 pings b1", |c| c.pings("a1", "10.10.2.11"));

    // An address by DHCP, answered by ovn-controller from a packet-in.
    let script = cloud.hosts[0].path("udhcpc.sh");
    std::fs::write(&script, "#!/bin/sh\n[ \"$1\" = bound ] && ip addr add $ip/$mask dev $interface && ip route add default via $router\nexit 0\n").expect("a script");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, open).expect("executable");
    cloud.wait("d1 gets an address", |c| {
        c.on("d1", &format!("busybox udhcpc -i eth0 -n -q -t 3 -T 1 -s {}", script.display())).code == 0
    });
    cloud.wait("d1 pings b1", |c| c.pings("d1", "10.10.2.11"));

    // Access lists: web is allowed and remembered, everything else to b1 is not.
    let serve = |port: &str, number: u16| {
        let pod = PODS.iter().find(|p| p.port == port).expect("a pod");
        let host = &cloud.hosts[pod.host];
        let net = format!("--net=/run/netns/{}-{port}", host.ns);
        let number = number.to_string();
        host.inside(&["nsenter", &net, "python3", "-m", "http.server", &number])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("a server")
    };
    let mut servers = vec![serve("b1", 80), serve("b1", 81), serve("a2", 80)];
    cloud.wait("b1 serves", |c| {
        c.fetches("a1", "http://10.10.2.11:80/") && c.fetches("a1", "http://10.10.2.11:81/")
    });
    cloud.nb("acl-add ls2 to-lport 1001 'outport == \"b1\" && ip4 && tcp.dst == 80' allow-related");
    cloud.nb("acl-add ls2 to-lport 1000 'outport == \"b1\" && ip4 && tcp' drop");
    cloud.wait("port 81 is closed", |c| !c.fetches("a1", "http://10.10.2.11:81/"));
    assert!(cloud.fetches("a1", "http://10.10.2.11:80/"), "port 80 is open");

    // A load balancer in front of two pods.
    cloud.nb("lb-add web 10.10.9.9:80 10.10.1.12:80,10.10.2.11:80 tcp");
    cloud.nb("ls-lb-add ls1 web");
    cloud.wait("the load balancer answers", |c| (0..6).all(|_| c.fetches("a1", "http://10.10.9.9:80/")));
    for server in &mut servers {
        let _ = server.kill();
        let _ = server.wait();
    }
}
