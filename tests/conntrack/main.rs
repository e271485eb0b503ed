//! Does connection tracking hold with real clients and servers? Firewall, translation, helpers, fragments, limits.

mod firewall;
mod helpers;
#[path = "../support/hosts.rs"]
mod hosts;
mod nat;
#[path = "../support/mod.rs"]
mod support;

use hosts::Site;

/// Two families: name, address of host `n`, prefix length, name in rules, a URL's host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) v6: bool,
}

/// Both families.
pub(crate) const FAMILIES: [Family; 2] = [Family { v6: false }, Family { v6: true }];

impl Family {
    /// Address ending in `n`.
    pub(crate) fn addr(self, n: u32) -> String {
        if self.v6 { format!("fd00::{n:x}") } else { format!("10.0.0.{n}") }
    }
    /// The same as URLs, and rules with ports, have it.
    pub(crate) fn bracketed(self, n: u32) -> String {
        if self.v6 { format!("[{}]", self.addr(n)) } else { self.addr(n) }
    }
    /// What rules call the protocol.
    pub(crate) fn ip(self) -> &'static str {
        if self.v6 { "ipv6" } else { "ip" }
    }
}

/// What must pass whatever the rules for connections say: ARP and neighbour discovery.
pub(crate) const NEIGHBOURS: &str = "table=0,priority=100,arp,actions=normal
table=0,priority=100,icmp6,icmp_type=135,actions=normal
table=0,priority=100,icmp6,icmp_type=136,actions=normal
";

/// Two hosts with an address of each family, which know each other's and the extra addresses' link-layer addresses.
pub(crate) fn site(hosts: usize) -> Site {
    let site = Site::new(hosts);
    for n in 1..=hosts {
        site.on(n, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0");
        site.on(n, &format!("ip addr add 10.0.0.{n}/24 dev eth0"));
        site.on(n, &format!("ip addr add fd00::{n}/64 dev eth0 nodad"));
    }
    site
}

/// Lets host `n` find `addr` at the link-layer address of host `at`.
pub(crate) fn neighbour(site: &Site, n: usize, addr: &str, at: usize) {
    site.on(n, &format!("ip neigh replace {addr} lladdr 02:00:00:00:01:{at:02x} dev eth0 nud permanent"));
}

/// Whether host `n` gets a page within two seconds.
pub(crate) fn fetches(site: &Site, n: usize, url: &str) -> bool {
    site.try_on(n, &format!("curl -gsS -m 2 -o /dev/null {url}")).code == 0
}

/// Waits until a datagram from host 1 to a port of host 2 where nobody listens is refused: host 2's kernel says so by
/// ICMP, and only a connection's own socket hears it.
pub(crate) fn told_of_refusal(site: &Site, family: Family) {
    let script = format!(
        "import socket; s = socket.socket(socket.{}, socket.SOCK_DGRAM); s.settimeout(2); s.connect((\"{}\", 9)); s.send(b\"x\"); s.recv(9)",
        if family.v6 { "AF_INET6" } else { "AF_INET" },
        family.addr(2)
    );
    site.switch.wait_for("the socket is told", |_| {
        site.try_on(1, &format!("python3 -c '{script}'")).err.contains("ConnectionRefusedError")
    });
}

/// A web server on host `n`, of both families, that answers.
pub(crate) fn web(site: &Site, n: usize, port: u16) -> hosts::Service {
    let service = site.serve(n, &format!("python3 -u -m http.server {port} --bind ::"));
    site.switch
        .wait_for("the web server answers", |_| fetches(site, n, &format!("http://127.0.0.1:{port}/")));
    service
}
