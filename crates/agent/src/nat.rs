//! How do networks reach the world, and the world them? Masquerading, port forwards and who may be forwarded to, by
//! nftables in a table of our own.
//!
//! The table is written whole, in one transaction, and read back: what others changed in it is put right. Nothing outside
//! of it is touched.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use weft_model::{Catalog, Forward, IpNet, Network, NetworkMode, Protocol};

use crate::heal::Ledger;
use crate::resolve::{has_host, host_device};

/// Our table.
const TABLE: &str = "inet weft";

/// The table's contents that the networks need; `None`: none.
pub fn rules(catalog: &Catalog) -> Option<String> {
    let networks: Vec<&Network> = catalog
        .networks()
        .filter(|n| has_host(&n.spec) && catalog.subnets_of(n.name()).next().is_some())
        .collect();
    if networks.is_empty() {
        return None;
    }
    let (mut source, mut target, mut forward) = (String::new(), String::new(), String::new());
    guard(&mut forward, &networks);
    for network in networks {
        masquerade(&mut source, catalog, network);
        for wanted in network.spec.nat.iter().flat_map(|n| &n.forwards) {
            redirect(&mut target, &mut source, catalog, network, wanted);
        }
    }
    let chain = |name: &str, kind: &str, hook: &str, priority: &str, rules: &str| {
        format!(
            "  chain {name} {{\n    type {kind} hook {hook} priority {priority}; policy accept;\n{rules}  }}\n"
        )
    };
    Some(format!(
        "table {TABLE} {{\n{}{}{}{}}}\n",
        chain("prerouting", "nat", "prerouting", "dstnat", &target),
        chain("output", "nat", "output", "-100", &target),
        chain("postrouting", "nat", "postrouting", "srcnat", &source),
        chain("forward", "filter", "forward", "filter", &forward),
    ))
}

/// The ports that forwards name: the rules hold their addresses.
pub fn named(catalog: &Catalog) -> BTreeSet<String> {
    let forwards = catalog.networks().flat_map(|n| n.spec.nat.iter()).flat_map(|nat| &nat.forwards);
    forwards.filter_map(|forward| forward.to.name.clone()).collect()
}

fn family(ip: bool) -> &'static str {
    if ip { "ip6" } else { "ip" }
}

/// What leaves a network gets the host's address, as libvirt has it: groups and broadcasts stay, ports are from a range.
fn masquerade(out: &mut String, catalog: &Catalog, network: &Network) {
    let nat = network.spec.nat.clone().unwrap_or_default();
    for subnet in catalog.subnets_of(network.name()) {
        let (cidr, v6) = (subnet.spec.cidr.trunc(), subnet.spec.is_ipv6());
        let hidden = match network.spec.mode {
            NetworkMode::Nat => !v6 || nat.ipv6,
            // Behind a router that says so, of both families.
            NetworkMode::Routed | NetworkMode::Open => catalog.routers_of(subnet).any(|r| r.spec.nat),
            NetworkMode::Isolated | NetworkMode::Bridged | NetworkMode::Private => false,
        };
        if !hidden {
            continue;
        }
        let ip = family(v6);
        if !v6 {
            let _ = writeln!(out, "    ip saddr {cidr} ip daddr {{ 224.0.0.0/24, 255.255.255.255 }} return");
        }
        let ports = format!("{}-{}", nat.port_range.start, nat.port_range.end);
        let range = nat.address_range.filter(|r| r.start.is_ipv6() == v6);
        let (with_ports, plain) = match range {
            Some(r) if v6 => (
                format!("snat ip6 to [{}]-[{}]:{ports}", r.start, r.end),
                format!("snat ip6 to {}-{}", r.start, r.end),
            ),
            Some(r) => (
                format!("snat ip to {}-{}:{ports}", r.start, r.end),
                format!("snat ip to {}-{}", r.start, r.end),
            ),
            None => (format!("masquerade to :{ports}"), "masquerade".to_owned()),
        };
        let _ = writeln!(
            out,
            "    {ip} saddr {cidr} {ip} daddr != {cidr} meta l4proto {{ tcp, udp }} {with_ports}"
        );
        let _ = writeln!(out, "    {ip} saddr {cidr} {ip} daddr != {cidr} {plain}");
    }
}

/// Where a forward leads: to an address of a machine for each family that it listens in.
///
/// # Errors
/// The field that leads nowhere, what is wrong with it, and the mend.
fn targets(
    catalog: &Catalog,
    network: &Network,
    wanted: &Forward,
) -> Result<Vec<IpAddr>, (&'static str, String)> {
    if let Some(address) = wanted.to.address {
        let mut subnets = catalog.subnets_of(network.name());
        let inside = subnets.any(|s| s.spec.cidr.contains(&address));
        let what = || format!("{address} is in no subnet of the network: use an address of one");
        return if inside { Ok(vec![address]) } else { Err(("to.address", what())) };
    }
    let name = wanted.to.name.as_deref().unwrap_or_default();
    let Some(port) = catalog.port(name).filter(|p| p.spec.network == network.name()) else {
        return Err((
            "to.name",
            format!("there is no Port {name} in the network: create it, or name another"),
        ));
    };
    let all = || port.spec.addresses.iter().chain(&port.status.addresses).copied();
    let listens = |v6| wanted.listen.address.is_none_or(|a| a.is_ipv6() == v6);
    let of = |v6| all().find(|a| a.is_ipv6() == v6);
    let found: Vec<IpAddr> = [false, true].into_iter().filter(|v6| listens(*v6)).filter_map(of).collect();
    let what =
        || format!("Port/{name} has no address of the family of `listen`: give it one, or name another");
    if found.is_empty() { Err(("to.name", what())) } else { Ok(found) }
}

/// The forwards of a network that have no effect: which, why, and the mend.
pub fn idle(catalog: &Catalog, network: &Network) -> Vec<String> {
    let forwards = network.spec.nat.iter().flat_map(|nat| &nat.forwards).enumerate();
    let why = forwards.filter_map(|(i, f)| Some((i, targets(catalog, network, f).err()?)));
    why.map(|(i, (field, what))| format!("nat.forwards[{i}].{field}: {what}")).collect()
}

/// Connections to the host go to a machine; also those of the host itself and of the machine's neighbours, whose packets
/// must come back by the host (hairpin).
fn redirect(
    target: &mut String,
    source: &mut String,
    catalog: &Catalog,
    network: &Network,
    wanted: &Forward,
) {
    let proto = match wanted.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    for to in targets(catalog, network, wanted).unwrap_or_default() {
        let (ip, kind) = (family(to.is_ipv6()), if to.is_ipv6() { "ipv6" } else { "ipv4" });
        let listen = wanted.listen.address.map_or_else(
            || format!("meta nfproto {kind} fib daddr type local"),
            |address| format!("{ip} daddr {address}"),
        );
        let port = wanted.to.port.unwrap_or(wanted.listen.port);
        let there = match to {
            IpAddr::V4(a) => format!("{a}:{port}"),
            IpAddr::V6(a) => format!("[{a}]:{port}"),
        };
        let _ = writeln!(target, "    {listen} {proto} dport {} dnat {ip} to {there}", wanted.listen.port);
        for subnet in catalog.subnets_of(network.name()) {
            let cidr: IpNet = subnet.spec.cidr.trunc();
            if cidr.contains(&to) {
                let _ = writeln!(
                    source,
                    "    {ip} saddr {cidr} {ip} daddr {to} {proto} dport {port} ct status dnat masquerade"
                );
            }
        }
    }
}

/// Who may be forwarded: nobody into or out of isolated networks; into those behind NAT only what belongs to connections
/// from there, and what was forwarded on purpose.
fn guard(out: &mut String, networks: &[&Network]) {
    let of = |mode| networks.iter().filter(move |n| n.spec.mode == mode).map(|n| host_device(n.name()));
    // First of all: what is accepted for one network must not reach another that is isolated.
    for device in of(NetworkMode::Isolated) {
        let _ = writeln!(out, "    iifname \"{device}\" drop");
        let _ = writeln!(out, "    oifname \"{device}\" drop");
    }
    for device in of(NetworkMode::Nat) {
        let _ = writeln!(out, "    oifname \"{device}\" ct state established,related accept");
        let _ = writeln!(out, "    oifname \"{device}\" ct status dnat accept");
        let _ = writeln!(out, "    oifname \"{device}\" reject with icmpx port-unreachable");
    }
}

/// What was put into the kernel, as the kernel lists it.
#[derive(Debug, Default)]
pub struct Installed {
    wanted: Option<String>,
    listed: Option<String>,
}

impl Installed {
    /// Makes the kernel hold these rules.
    pub fn ensure(&mut self, wanted: Option<String>, ledger: &mut Ledger) {
        let same = wanted == self.wanted;
        if wanted.is_none() && self.wanted.is_none() || same && list() == self.listed {
            return;
        }
        match self.write(wanted) {
            Ok(()) => ledger.told("nftables", same, &format!("table {TABLE}")),
            Err(why) => ledger.wrong(why),
        }
    }

    fn write(&mut self, wanted: Option<String>) -> Result<(), String> {
        // Made so that it can be deleted whether it was there or not; all in one transaction.
        let script =
            format!("table {TABLE}\ndelete table {TABLE}\n{}", wanted.as_deref().unwrap_or_default());
        nft(&["-f", "-"], &script)?;
        (self.wanted, self.listed) = (wanted, list());
        Ok(())
    }
}

/// Removes the table.
///
/// # Errors
/// What `nft` says.
pub fn cleanup() -> Result<(), String> {
    nft(&["-f", "-"], &format!("table {TABLE}\ndelete table {TABLE}\n")).map(drop)
}

fn list() -> Option<String> {
    nft(&["-n", "list", "table", "inet", "weft"], "").ok()
}

pub(crate) fn nft(arguments: &[&str], input: &str) -> Result<String, String> {
    let command = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = command.map_err(|e| format!("nft cannot be run: {e}; install nftables"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|e| format!("nft: {e}"))?;
    }
    let out = child.wait_with_output().map_err(|e| format!("nft: {e}"))?;
    if !out.status.success() {
        return Err(format!("nft: {}", String::from_utf8_lossy(&out.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(text: &str) -> Catalog {
        let mut catalog = Catalog::new();
        for parsed in weft_model::parse(text).unwrap() {
            catalog.insert(parsed.resource);
        }
        catalog
    }

    #[test]
    fn forwards_lead_to_every_family_or_are_told() {
        let text = |forwards: &str, more: &str| {
            format!(
                "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: n}}\nspec: {{mode: nat, nat: {{forwards: \
                 [{forwards}]}}}}\n---\napiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {{name: s}}\n\
                 spec: {{network: n, cidr: 10.0.0.0/24}}\n---\napiVersion: weft.dev/v1\nkind: Subnet\n\
                 metadata: {{name: t}}\nspec: {{network: n, cidr: 'fd00::/64'}}\n{more}"
            )
        };
        let port = |name: &str, addresses: &str| {
            format!(
                "---\napiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\n\
                 spec: {{network: n, addresses: [{addresses}]}}\n"
            )
        };
        let said = |text: &str| {
            let catalog = catalog(text);
            (rules(&catalog).unwrap(), idle(&catalog, catalog.network("n").unwrap()))
        };
        let both = port("web", "10.0.0.9, 'fd00::9'");
        let (rules, idle) = said(&text("{listen: {port: 80}, to: {name: web, port: 8080}}", &both));
        assert!(
            rules.contains("meta nfproto ipv4 fib daddr type local tcp dport 80 dnat ip to 10.0.0.9:8080"),
            "{rules}"
        );
        assert!(
            rules.contains("meta nfproto ipv6 fib daddr type local tcp dport 80 dnat ip6 to [fd00::9]:8080"),
            "{rules}"
        );
        assert_eq!(idle, Vec::<String>::new());
        let (rules, _) = said(&text("{listen: {address: 192.0.2.1, port: 80}, to: {name: web}}", &both));
        assert!(rules.contains("ip daddr 192.0.2.1 tcp dport 80 dnat ip to 10.0.0.9:80"), "{rules}");
        assert!(!rules.contains("fd00::9"), "{rules}");
        for (forward, more, told) in [
            ("{listen: {port: 80}, to: {name: none}}", "", "nat.forwards[0].to.name: there is no Port none"),
            (
                "{listen: {port: 80}, to: {address: 10.99.0.1}}",
                "",
                "nat.forwards[0].to.address: 10.99.0.1 is in no subnet",
            ),
            (
                "{listen: {address: '2001:db8::1', port: 80}, to: {name: four}}",
                &port("four", "10.0.0.4"),
                "nat.forwards[0].to.name: Port/four has no address of the family",
            ),
        ] {
            let (rules, idle) = said(&text(forward, more));
            assert!(idle.len() == 1 && idle[0].contains(told), "{idle:?}");
            assert!(!rules.contains("dnat ip"), "{rules}");
        }
    }

    #[test]
    fn rules_follow_the_mode() {
        let text = |mode: &str| {
            format!(
                "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: n}}\nspec: {{mode: {mode}}}\n---\n\
                 apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {{name: s}}\nspec: {{network: n, cidr: 10.0.0.0/24}}\n"
            )
        };
        let nat = rules(&catalog(&text("nat"))).unwrap();
        assert!(nat.contains("ip saddr 10.0.0.0/24 ip daddr != 10.0.0.0/24 masquerade"), "{nat}");
        assert!(nat.contains("masquerade to :1024-65535"), "{nat}");
        let isolated = rules(&catalog(&text("isolated"))).unwrap();
        assert!(isolated.contains("iifname \"wn-n\" drop") && !isolated.contains("masquerade"), "{isolated}");
        let both = format!(
            "{}---\n{}",
            text("nat"),
            text("isolated")
                .replace("name: n}", "name: i}")
                .replace("name: s}", "name: t}")
                .replace("network: n", "network: i")
                .replace("10.0.0", "10.0.1")
        );
        let both = rules(&catalog(&both)).unwrap();
        let at = |what: &str| both.find(what).unwrap_or_else(|| panic!("{what} is missing: {both}"));
        assert!(
            at("oifname \"wn-i\" drop") < at("oifname \"wn-n\" ct state"),
            "isolation comes first: {both}"
        );
        let open = rules(&catalog(&text("open"))).unwrap();
        assert!(!open.contains("masquerade") && !open.contains("drop"), "{open}");
        // Behind a router that hides them.
        let router = "---\napiVersion: weft.dev/v1\nkind: Router\nmetadata: {name: r}\nspec: {networks: [n], nat: true}\n";
        for (mode, hidden) in [("open", true), ("routed", true), ("isolated", false)] {
            let rules = rules(&catalog(&format!("{}{router}", text(mode)))).unwrap();
            let masquerades = rules.contains("ip saddr 10.0.0.0/24 ip daddr != 10.0.0.0/24 masquerade");
            assert_eq!(masquerades, hidden, "{mode}: {rules}");
        }
        assert_eq!(rules(&Catalog::new()), None);
    }
}
