//! Who talks through the switch? Hosts, each a network namespace with one device on a port.
//!
//! `WEFT_TEST_SWITCH_KIND=ovs` puts Debian's Open vSwitch in the switch's place, to see whether a test asks the right
//! thing.
#![allow(dead_code, reason = "each test target uses a part")]

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use weft_host::netns::NetNs;

use crate::support::{Kind, Said, Switch};

/// A bridge `br0` with hosts on its ports; each host is a namespace `NS-hN` whose `eth0` is port `pN`.
pub(crate) struct Site {
    pub(crate) switch: Switch,
    hosts: Vec<String>,
}

impl Site {
    /// A switch with this many hosts. Addresses are for the caller to give.
    pub(crate) fn new(hosts: usize) -> Site {
        let kind = match std::env::var("WEFT_TEST_SWITCH_KIND").as_deref() {
            Ok("ovs") => Kind::Ovs,
            _ => Kind::Weft,
        };
        let site = Site::unplugged(kind, hosts);
        let datapath = if kind == Kind::Ovs { " datapath_type=netdev" } else { "" };
        site.switch.ok(&format!("ovs-vsctl add-br br0 -- set bridge br0 fail_mode=secure{datapath}"));
        for n in 1..=hosts {
            site.switch.ok(&format!("ovs-vsctl add-port br0 p{n} -- set interface p{n} ofport_request={n}"));
        }
        site
    }

    /// A switch without a bridge, and hosts whose cables are on no port yet: `pN` is the switch's end of host `n`'s.
    pub(crate) fn unplugged(kind: Kind, hosts: usize) -> Site {
        let mut site = Site { switch: Switch::start(kind), hosts: Vec::new() };
        for n in 1..=hosts {
            let ns = format!("{}-h{n}", site.switch.ns);
            NetNs::create(&ns).expect("a namespace");
            site.hosts.push(ns.clone());
            site.switch.ok(&format!("ip link add p{n} type veth peer name eth0 netns {ns}"));
            site.switch.ok(&format!("ip link set p{n} up"));
            site.on(n, &format!("ip link set eth0 address {} up", Site::mac(n)));
            site.on(n, "ip link set lo up");
            // Checksums are computed before frames leave: the controllers see whole packets.
            site.on(n, "ethtool -K eth0 tx off");
        }
        site
    }

    /// One more host, whose only device is one of the switch's namespace, moved.
    pub(crate) fn add_host_with_device(&mut self, device: &str) {
        let ns = format!("{}-h{}", self.switch.ns, self.hosts.len() + 1);
        NetNs::create(&ns).expect("a namespace");
        self.switch.ok(&format!("ip link set {device} netns {ns}"));
        self.hosts.push(ns);
        self.on(self.hosts.len(), "ip link set lo up");
    }

    /// The MAC address of host `n`.
    pub(crate) fn mac(n: usize) -> String {
        format!("02:00:00:00:01:{n:02x}")
    }

    /// Runs a command on host `n`; it must succeed.
    pub(crate) fn on(&self, n: usize, line: &str) -> String {
        self.switch.ok(&format!("nsenter --net=/run/netns/{} {line}", self.hosts[n - 1]))
    }

    /// Runs a command on host `n` and tells how it went.
    pub(crate) fn try_on(&self, n: usize, line: &str) -> Said {
        self.switch.run(&format!("nsenter --net=/run/netns/{} {line}", self.hosts[n - 1]))
    }

    /// Starts a command on host `n`; it ends when dropped.
    pub(crate) fn serve(&self, n: usize, line: &str) -> Service {
        self.serve_in(&self.hosts[n - 1], line)
    }

    /// Starts a command in a namespace; it ends when dropped.
    pub(crate) fn serve_in(&self, ns: &str, line: &str) -> Service {
        let net = format!("--net=/run/netns/{ns}");
        let words = crate::support::split(line);
        let mut all = vec!["nsenter", &net];
        all.extend(words.iter().map(String::as_str));
        Service::start(&self.switch, &all)
    }

    /// Puts these rules in place of all others.
    pub(crate) fn rules(&self, rules: &str) {
        let said = self.switch.ofctl_file("-O OpenFlow13 --bundle replace-flows", "br0", rules);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    }

    /// Whether host `n` gets an answer to a ping.
    pub(crate) fn pings(&self, n: usize, address: &str) -> bool {
        let ns = &self.hosts[n - 1];
        self.switch.run(&format!("nsenter --net=/run/netns/{ns} ping -c1 -W1 {address}")).code == 0
    }

    /// What the router of host `n` announces, once the host's own address may be used (duplicate address detection).
    pub(crate) fn announced(&self, n: usize) -> String {
        let mut said = String::new();
        self.switch.wait_for("a router is announced", |_| {
            let answer = self.try_on(n, "rdisc6 -1 -w 3000 eth0");
            said = answer.out;
            answer.code == 0
        });
        said
    }

    /// Waits until host `n` gets an answer to a ping.
    pub(crate) fn wait_ping(&self, n: usize, address: &str) {
        self.switch.wait_for(&format!("host {n} pings {address}"), |_| self.pings(n, address));
    }
}

/// A server that runs on a host; it ends when dropped.
pub(crate) struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    fn start(switch: &Switch, words: &[&str]) -> Service {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let log = switch.path(&format!("service.{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let file = std::fs::File::create(&log).expect("a log");
        let mut command = switch.inside(words);
        command.stdout(file.try_clone().expect("a log")).stderr(file).stdin(Stdio::null());
        Service { child: command.spawn().expect("start the service"), log }
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Service {
    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let words = [format!("-{name}"), self.child.id().to_string()];
        let _ = std::process::Command::new("kill").args(words).status();
    }

    /// Ends it as its administrator would, and waits until it has ended.
    pub(crate) fn end(&mut self) {
        self.signal("TERM");
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.switch.kill();
        for ns in &self.hosts {
            let _ = NetNs::delete(ns);
        }
    }
}
