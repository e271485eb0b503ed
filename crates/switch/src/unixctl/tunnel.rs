//! Which commands are about tunnels: where they end, which way they take, whom they meet there?

use std::fmt::Write as _;
use std::net::IpAddr;

use weft_flow::OfPort;
use weft_pipeline::{Route, TunnelAddr, TunnelByte, TunnelConfig, TunnelId};
use weft_wire::Mac;

use super::{Answer, Command, command};
use crate::bridge::Iface;
use crate::clock::now_ms;
use crate::control::Control;
use crate::wanted::IfaceKind;

pub(super) const COMMANDS: &[Command] = &[
    command("ofproto/list-tunnels", "", (0, 0), list),
    command("ovs/route/add", "ip_addr/prefix_len out_br_name [gw]", (2, 4), route_add),
    command("ovs/route/del", "ip_addr/prefix_len", (1, 2), route_del),
    command("ovs/route/lookup", "ip_addr", (1, 2), route_lookup),
    command("ovs/route/show", "", (0, 0), route_show),
    command("tnl/arp/aging", "[SECS]", (0, 1), aging),
    command("tnl/arp/flush", "", (0, 0), flush),
    command("tnl/arp/set", "BRIDGE IP MAC", (3, 3), set),
    command("tnl/arp/show", "", (0, 0), show),
    command("tnl/egress_port_range", "min max", (0, 2), egress_ports),
    command("tnl/neigh/aging", "[SECS]", (0, 1), aging),
    command("tnl/neigh/flush", "", (0, 0), flush),
    command("tnl/neigh/set", "BRIDGE IP MAC", (3, 3), set),
    command("tnl/neigh/show", "", (0, 0), show),
    command("tnl/ports/show", "-v", (0, 1), ports),
];

/// The table of the host's own addresses (RT_TABLE_LOCAL of rtnetlink(7)).
const RT_TABLE_LOCAL: u32 = 255;

/// Tunnels with the port of the datapath each has, by that.
fn tunnels(control: &Control) -> Vec<(&Iface, u32, &TunnelConfig)> {
    let tunnels = control.world.ifaces().filter_map(|(_, i)| match &i.wanted.kind {
        Ok(IfaceKind::Tunnel { config, .. }) => Some((i, i.dp_port?.0, config)),
        _ => None,
    });
    let mut all: Vec<_> = tunnels.collect();
    all.sort_by_key(|(_, port, _)| *port);
    all
}

fn list(control: &mut Control, _: &[String]) -> Answer {
    let mut out = String::new();
    for (iface, port, config) in tunnels(control) {
        let (name, kind) = (&iface.wanted.name, &iface.wanted.type_name);
        let (local, remote) = (end(config.local), end(config.remote));
        let mut options = match config.in_key == config.out_key {
            true => key("key", config.in_key),
            false => format!("{}, {}", key("in_key", config.in_key), key("out_key", config.out_key)),
        };
        options.push_str(", legacy_l2");
        let _ = write!(out, "port {port}: {name} ({kind}: {local}->{remote}, {options}, dp port={port}");
        match config.tos {
            TunnelByte::Inherit => out.push_str(", tos=inherit"),
            TunnelByte::Value(0) => {}
            TunnelByte::Value(tos) => {
                let _ = write!(out, ", tos={tos:#x}");
            }
        }
        match config.ttl {
            TunnelByte::Inherit => out.push_str(", ttl=inherit"),
            TunnelByte::Value(ttl) => {
                let _ = write!(out, ", ttl={ttl}");
            }
        }
        for (on, word) in [(!config.df, ", df=false"), (config.csum, ", csum=true")] {
            out.push_str(if on { word } else { "" });
        }
        out.push_str(")\n");
    }
    Ok(out)
}

fn end(end: TunnelAddr) -> String {
    match end {
        TunnelAddr::Any => "::".to_owned(),
        TunnelAddr::Flow => "flow".to_owned(),
        TunnelAddr::Addr(addr) => addr.to_string(),
    }
}

fn key(name: &str, key: TunnelId) -> String {
    match key {
        TunnelId::None | TunnelId::Key(0) => format!("{name}=0"),
        TunnelId::Flow => format!("{name}=flow"),
        TunnelId::Key(id) => format!("{name}={id:#x}"),
    }
}

/// The sockets on which tunnels listen, with the ports that share each.
fn ports(control: &mut Control, _: &[String]) -> Answer {
    let mut out = String::from("Listening ports:\n");
    let all = tunnels(control);
    for (n, (iface, port, config)) in all.iter().enumerate() {
        let same = |other: &&(&Iface, u32, &TunnelConfig)| {
            (other.2.kind, other.2.dst_port) == (config.kind, config.dst_port)
        };
        if all[..n].iter().any(|other| same(&other)) {
            continue;
        }
        let kind = &iface.wanted.type_name;
        let count = all.iter().filter(same).count();
        let _ = writeln!(out, "{kind}_sys_{} ({port}) ref_cnt={count}", config.dst_port);
    }
    Ok(out)
}

fn bridge_name(control: &Control, id: u32) -> &str {
    control.world.by_id(id).map_or("?", |b| &b.name)
}

fn show(control: &mut Control, _: &[String]) -> Answer {
    let mut out = String::from("IP                                            MAC                 Bridge\n");
    let _ = writeln!(out, "{}", "=".repeat(74));
    let snapshot = control.pipeline.snapshot();
    let mut all: Vec<_> = snapshot.underlay().neighbours().collect();
    all.sort_by_key(|n| (n.addr.is_ipv6(), n.addr, n.bridge));
    for n in all {
        let _ = writeln!(
            out,
            "{:<45} {:<19} {}",
            n.addr.to_string(),
            n.mac.to_string(),
            bridge_name(control, n.bridge)
        );
    }
    Ok(out)
}

fn set(control: &mut Control, args: &[String]) -> Answer {
    let addr: IpAddr = args[1].parse().map_err(|_| "bad IP address")?;
    let mac: Mac = args[2].parse().map_err(|_| "bad MAC address")?;
    let bridge = control.world.bridges.get(&args[0]).ok_or("no such bridge")?.id;
    control.pipeline.set_neighbour(bridge, addr, Some(mac));
    control.unixctl.tools.neighbours.insert((bridge, addr), now_ms());
    Ok("OK\n".into())
}

/// Everything known is asked for anew when it is needed.
fn flush(control: &mut Control, _: &[String]) -> Answer {
    let all: Vec<_> = control.pipeline.snapshot().underlay().neighbours().collect();
    for n in all {
        control.pipeline.set_neighbour(n.bridge, n.addr, None);
    }
    control.unixctl.tools.neighbours.clear();
    Ok("OK\n".into())
}

/// How long entries live that were set by hand. The kernel looks after the others.
fn aging(control: &mut Control, args: &[String]) -> Answer {
    let Some(text) = args.first() else {
        return Ok(format!("{}\n", control.unixctl.tools.neighbour_seconds));
    };
    let seconds = text.parse().ok().filter(|s| (1..=3600).contains(s)).ok_or("bad aging value")?;
    control.unixctl.tools.neighbour_seconds = seconds;
    Ok("OK\n".into())
}

/// The source ports of tunnels over UDP.
fn egress_ports(control: &mut Control, args: &[String]) -> Answer {
    let mut tuning = control.datapath.tuning();
    let [min, max] = args else {
        return Ok(match tuning.egress_ports {
            Some((first, last)) => format!("Tunnel UDP source port range: {first}-{last}\n"),
            None => format!(
                "Tunnel UDP source port range: {}\n(49152-65535 for tunnels through the switch's own bridges)\n",
                host_ports()
            ),
        });
    };
    let read = |text: &String, what: &str| {
        text.parse::<u16>().ok().filter(|n| *n > 0).ok_or_else(|| format!("Invalid {what}."))
    };
    let (min, max) = (read(min, "min")?, read(max, "max")?);
    tuning.egress_ports = Some((min.min(max), min.max(max)));
    control.datapath.tune(tuning);
    Ok("OK\n".into())
}

/// Ports that the host gives to sockets which ask for none.
fn host_ports() -> String {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join("-")
}

/// `address/length`, or an address alone; bits behind the length are zero.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, plen) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let addr: IpAddr = addr.parse().ok()?;
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    let plen = plen.map_or(Some(bits), |p| p.parse().ok()).filter(|p| *p <= bits)?;
    let cut = match addr {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(plen)).unwrap_or(0);
            IpAddr::V4((a.to_bits() & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(plen)).unwrap_or(0);
            IpAddr::V6((a.to_bits() & mask).into())
        }
    };
    Some((cut, plen))
}

fn route_add(control: &mut Control, args: &[String]) -> Answer {
    let (prefix, plen) = network(&args[0]).ok_or("Invalid parameters")?;
    let mut gateway = None;
    for arg in &args[2..] {
        if arg.starts_with("pkt_mark=") {
            return Err("routes by mark are not offered: leave pkt_mark out".into());
        }
        let addr: IpAddr = arg.parse().map_err(|_| "Invalid pkt_mark or gateway")?;
        gateway = Some(addr).filter(|a| a.is_ipv4() == prefix.is_ipv4());
        gateway.ok_or("Invalid pkt_mark or gateway")?;
    }
    let refused = "Error while inserting route.";
    let bridge = control.world.bridges.get(&args[1]).ok_or(refused)?;
    let index = bridge.local().map_or(0, |local| local.state.ifindex);
    let hop = gateway.unwrap_or(prefix);
    // The address that the kernel would use for the next hop, or any of the device.
    let known = control.links.netlink().route_to(hop, None).ok();
    let known = known.filter(|r| r.hops.first().is_some_and(|h| h.ifindex == index)).and_then(|r| r.source);
    let fits = |a: &&IpAddr| a.is_ipv4() == prefix.is_ipv4();
    let src = known.or_else(|| control.links.addresses(index).iter().find(fits).copied()).ok_or(refused)?;
    let route = Route { prefix, plen, bridge: bridge.id, port: OfPort::LOCAL, gateway, src };
    let routes = &mut control.native.by_hand;
    routes.retain(|r| (r.prefix, r.plen) != (prefix, plen));
    routes.push(route);
    control.changed_by_hand();
    Ok("OK\n".into())
}

fn route_del(control: &mut Control, args: &[String]) -> Answer {
    let network = network(&args[0]).ok_or("Invalid parameters")?;
    let routes = &mut control.native.by_hand;
    let before = routes.len();
    routes.retain(|r| (r.prefix, r.plen) != network);
    if routes.len() == before {
        return Err("Not found".into());
    }
    control.changed_by_hand();
    Ok("OK\n".into())
}

/// One route, whoever made it.
struct Shown {
    by_hand: bool,
    prefix: IpAddr,
    plen: u8,
    device: String,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    local: bool,
}

/// Every route of the host and of those added by hand, longest prefix first.
fn routes(control: &mut Control) -> Result<Vec<Shown>, String> {
    let kernel = control.links.netlink().routes().map_err(|e| e.to_string())?;
    let mut all: Vec<Shown> = Vec::new();
    for r in &control.native.by_hand {
        all.push(Shown {
            by_hand: true,
            prefix: r.prefix,
            plen: r.plen,
            device: bridge_name(control, r.bridge).to_owned(),
            gateway: r.gateway,
            source: Some(r.src),
            local: false,
        });
    }
    for r in kernel {
        let Some(hop) = r.hops.first() else { continue };
        let Some(device) = control.links.by_index(hop.ifindex).map(|l| l.name.clone()) else { continue };
        // Broadcasts stand in the table of local addresses.
        if r.dst.is_multicast() || r.table == RT_TABLE_LOCAL && !r.local {
            continue;
        }
        let fits = |a: &&IpAddr| a.is_ipv4() == r.dst.is_ipv4();
        let source = r.source.or_else(|| control.links.addresses(hop.ifindex).iter().find(fits).copied());
        all.push(Shown {
            by_hand: false,
            prefix: r.dst,
            plen: r.prefix,
            device,
            gateway: hop.gateway,
            source,
            local: r.local,
        });
    }
    let length = |r: &Shown| u16::from(r.plen) + if r.prefix.is_ipv4() { 96 } else { 0 };
    all.sort_by_key(|r| (std::cmp::Reverse((length(r), r.by_hand)), r.prefix));
    Ok(all)
}

fn route_show(control: &mut Control, _: &[String]) -> Answer {
    let mut out = String::from("Route Table:\n");
    for r in routes(control)? {
        let kind = if r.by_hand { "User" } else { "Cached" };
        let _ = write!(out, "{kind}: {}/{} dev {}", r.prefix, r.plen, r.device);
        if let Some(gateway) = r.gateway {
            let _ = write!(out, " GW {gateway}");
        }
        if let Some(source) = r.source {
            let _ = write!(out, " SRC {source}");
        }
        out.push_str(if r.local { " local\n" } else { "\n" });
    }
    Ok(out)
}

fn route_lookup(control: &mut Control, args: &[String]) -> Answer {
    let addr: IpAddr = args[0].parse().map_err(|_| "Invalid parameters")?;
    let covers = |r: &&Shown| {
        r.prefix.is_ipv4() == addr.is_ipv4()
            && network(&format!("{addr}/{}", r.plen)).is_some_and(|(cut, _)| cut == r.prefix)
    };
    let all = routes(control)?;
    let found = all.iter().find(covers).ok_or("Not found")?;
    let none = || "::".to_owned();
    Ok(format!(
        "src {}\ngateway {}\ndev {}\n",
        found.source.map_or_else(none, |a| a.to_string()),
        found.gateway.map_or_else(none, |a| a.to_string()),
        found.device
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_cut_at_their_length() {
        let cases = [
            ("10.1.2.3/16", Some(("10.1.0.0", 16))),
            ("10.1.2.3", Some(("10.1.2.3", 32))),
            ("0.0.0.0/0", Some(("0.0.0.0", 0))),
            ("fc00::1/64", Some(("fc00::", 64))),
            ("::/0", Some(("::", 0))),
            ("10.1.2.3/33", None),
            ("bad", None),
            ("10.1.2.3/x", None),
        ];
        for (text, want) in cases {
            let want = want.map(|(addr, plen): (&str, u8)| (addr.parse().expect("an address"), plen));
            assert_eq!(network(text), want, "{text}");
        }
    }
}
