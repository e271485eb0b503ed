//! Which commands are about the datapath: its ports and cached flows?

use std::fmt::Write as _;

use weft_datapath::FlowEntry;
use weft_flow::text::{Syntax, parse_match};
use weft_flow::text::{format_dp_actions, format_dp_flow, format_dp_flow_stats};
use weft_flow::{DpPort, Match, OfPort};

use super::bridge::find;
use super::{Answer, Command, SWITCH};
use crate::bridge::Iface;
use crate::control::Control;

/// Name of the only datapath, as the user-space one of Open vSwitch is called.
const NAME: &str = "ovs-netdev";
/// Datapath types under which it may be asked for.
const TYPES: [&str; 2] = ["netdev", "system"];

pub(super) const COMMANDS: &[Command] = &[
    Command { daemons: SWITCH, name: "dpctl/del-flows", usage: "[dp]", arguments: (0, 1), run: del_flows },
    Command { daemons: SWITCH, name: "dpctl/dump-dps", usage: "", arguments: (0, 0), run: dump_dps },
    Command {
        daemons: SWITCH,
        name: "dpctl/dump-flows",
        usage: "[-m] [--names] [dp] [filter=..] [type=..]",
        arguments: (0, 6),
        run: dump_flows,
    },
    Command {
        daemons: SWITCH,
        name: "dpctl/show",
        usage: "[-s] [dp...]",
        arguments: (0, usize::MAX),
        run: show,
    },
    Command { daemons: SWITCH, name: "dpif/dump-dps", usage: "", arguments: (0, 0), run: dump_dps },
    Command {
        daemons: SWITCH,
        name: "dpif/dump-flows",
        usage: "[-m] [--names | --no-names] bridge",
        arguments: (1, 4),
        run: dump_bridge_flows,
    },
    Command { daemons: SWITCH, name: "dpif/show", usage: "", arguments: (0, 0), run: dpif_show },
    Command {
        daemons: SWITCH,
        name: "dpif/show-dp-features",
        usage: "bridge",
        arguments: (1, 1),
        run: features,
    },
    Command { daemons: SWITCH, name: "revalidator/purge", usage: "", arguments: (0, 0), run: purge },
    Command { daemons: SWITCH, name: "revalidator/wait", usage: "", arguments: (0, 0), run: wait },
    Command { daemons: SWITCH, name: "upcall/show", usage: "", arguments: (0, 0), run: upcalls },
];

fn dump_dps(control: &mut Control, _: &[String]) -> Answer {
    if control.world.bridges.is_empty() { Ok(String::new()) } else { Ok(format!("{}\n", name(control))) }
}

/// `type@name`, with the type that bridges ask for.
fn name(control: &Control) -> String {
    let asked = control.world.bridges.values().map(|b| b.wanted.datapath_name()).next().unwrap_or("netdev");
    format!("{asked}@{NAME}")
}

/// Whether `text` names our datapath.
pub(super) fn is_ours(text: &str) -> bool {
    match text.split_once('@') {
        Some((kind, name)) => TYPES.contains(&kind) && name == NAME,
        None => text == NAME,
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    for name in names.filter(|n| !n.starts_with('-') && !n.contains('=')) {
        if !is_ours(name) {
            return Err("ovs-vswitchd: datapath not found (Invalid argument)\n".into());
        }
    }
    Ok(())
}

fn show(control: &mut Control, args: &[String]) -> Answer {
    check_names(args.iter())?;
    let with_stats = args.iter().any(|a| a == "-s" || a == "--statistics");
    let stats = control.datapath.stats();
    let mut out = format!("{}:\n", name(control));
    let _ = writeln!(out, "  lookups: hit:{} missed:{} lost:{}", stats.hits, stats.misses, stats.lost);
    let _ = writeln!(out, "  flows: {}", stats.flows);
    let per_lookup = stats.masks_looked_at as f64 / (stats.hits + stats.misses).max(1) as f64;
    let _ =
        writeln!(out, "  masks: hit:{} total:{} hit/pkt:{per_lookup:.2}", stats.masks_looked_at, stats.masks);
    for port in control.datapath.ports() {
        let kind = if port.kind == "system" { String::new() } else { format!(" ({})", port.kind) };
        let _ = writeln!(out, "  port {}: {}{kind}", port.number, port.name);
        if let (true, Ok(s)) = (with_stats, control.datapath.port_stats(port.number)) {
            let _ = writeln!(
                out,
                "    RX packets:{} errors:{} dropped:{} overruns:{} frame:?",
                s.rx_packets, s.rx_errors, s.rx_dropped, s.rx_missed
            );
            let _ = writeln!(
                out,
                "    TX packets:{} errors:{} dropped:{} aborted:? carrier:?",
                s.tx_packets, s.tx_errors, s.tx_dropped
            );
            let _ = writeln!(out, "    collisions:?");
            let _ = writeln!(out, "    RX bytes:{}  TX bytes:{}", s.rx_bytes, s.tx_bytes);
        }
    }
    Ok(out)
}

fn dpif_show(control: &mut Control, _: &[String]) -> Answer {
    let stats = control.datapath.stats();
    let mut out = format!("{}: hit:{} missed:{}\n", name(control), stats.hits, stats.misses);
    for bridge in control.world.bridges.values() {
        let _ = writeln!(out, "  {}:", bridge.name);
        let mut ifaces: Vec<&Iface> = bridge.ifaces.values().filter(|i| i.ofport.is_some()).collect();
        ifaces.sort_by(|a, b| a.wanted.name.cmp(&b.wanted.name));
        for iface in ifaces {
            let number = iface.ofport.and_then(|p| p.to_u16()).map_or("?".to_owned(), |n| n.to_string());
            let port = iface.dp_port.map_or("none".to_owned(), |p| p.to_string());
            let kind = &iface.wanted.type_name;
            let options = match iface.wanted.options.as_str() {
                "" => String::new(),
                text => format!(": {text}"),
            };
            let _ = writeln!(out, "    {} {number}/{port}: ({kind}{options})", iface.wanted.name);
        }
    }
    Ok(out)
}

fn dump_flows(control: &mut Control, args: &[String]) -> Answer {
    check_names(args.iter())?;
    let names = has(args, &["--names"]) || has(args, &["-m", "--more"]) && !has(args, &["--no-names"]);
    let filter = args.iter().find_map(|a| a.strip_prefix("filter=")).map(|f| Filter::parse(control, f));
    let filter = filter.transpose()?;
    for kind in args.iter().filter_map(|a| a.strip_prefix("type=")) {
        if !["ovs", "non-offloaded", "all"].contains(&kind) {
            // There is nothing to which flows are offloaded.
            return Ok(String::new());
        }
    }
    Ok(print_flows(control, names, |flow| filter.as_ref().is_none_or(|f| f.selects(flow))))
}

/// Flows that are wanted, in the words of `ovs-ofctl`; `in_port` is a port of the datapath.
struct Filter(Match);

impl Filter {
    fn parse(control: &Control, text: &str) -> Result<Filter, String> {
        let by_name = |name: &str| {
            let ports = control.datapath.ports();
            ports.into_iter().find(|p| p.name == name).map(|p| OfPort(p.number.0))
        };
        let parsed = parse_match(text, &Syntax::reading(&by_name));
        let mut matching = parsed.map_err(|e| format!("Failed to parse filter ({e})"))?;
        matching.key.packet.in_port = matching.key.pipeline.in_port;
        matching.mask.0.packet.in_port = matching.mask.0.pipeline.in_port;
        matching.key.pipeline.in_port = 0;
        matching.mask.0.pipeline.in_port = 0;
        Ok(Filter(matching))
    }

    fn selects(&self, flow: &FlowEntry) -> bool {
        let words = flow.matching.key.words().iter().zip(self.0.key.words());
        words.zip(self.0.mask.0.words()).all(|((have, want), mask)| (have ^ want) & mask == 0)
    }
}

fn dump_bridge_flows(control: &mut Control, args: &[String]) -> Answer {
    let bridge = args.iter().find(|a| !a.starts_with('-')).ok_or("a bridge is needed")?;
    let ports: Vec<DpPort> = find(control, bridge)?.ifaces.values().filter_map(|i| i.dp_port).collect();
    let names = has(args, &["--names"]) || has(args, &["-m", "--more"]) && !has(args, &["--no-names"]);
    Ok(print_flows(control, names, |flow| ports.contains(&DpPort(flow.matching.key.packet.in_port))))
}

fn has(args: &[String], any: &[&str]) -> bool {
    args.iter().any(|a| any.contains(&a.as_str()))
}

fn print_flows(control: &Control, names: bool, select: impl Fn(&FlowEntry) -> bool) -> String {
    let ports: std::collections::HashMap<DpPort, String> =
        control.datapath.ports().into_iter().map(|p| (p.number, p.name)).collect();
    let name = |port: DpPort| ports.get(&port).filter(|_| names).cloned();
    let flows = control.datapath.flows();
    let lines = flows.iter().filter(|f| select(f)).map(|flow| {
        let stats = format_dp_flow_stats(flow.packets, flow.bytes, flow.idle_ms, flow.tcp_flags);
        let matching = format_dp_flow(&flow.matching.key, &flow.matching.mask, &name);
        let actions = match flow.drop {
            Some(reason) if flow.actions.is_empty() => format!("drop (reason={reason})"),
            _ => format_dp_actions(&flow.actions, &flow.matching.key.packet, &name),
        };
        format!("{matching}, {stats}, actions:{actions}\n")
    });
    lines.collect()
}

fn del_flows(control: &mut Control, args: &[String]) -> Answer {
    check_names(args.iter())?;
    control.datapath.flush_flows();
    Ok(String::new())
}

fn purge(control: &mut Control, _: &[String]) -> Answer {
    control.datapath.flush_flows();
    Ok(String::new())
}

fn wait(control: &mut Control, _: &[String]) -> Answer {
    control.datapath.sync();
    control.datapath.refresh();
    Ok(String::new())
}

fn upcalls(control: &mut Control, _: &[String]) -> Answer {
    let stats = control.datapath.stats();
    let name = name(control);
    Ok(format!(
        "{name}:\n  flows         : (current {}) (masks {})\n  ufid enabled : false\n",
        stats.flows, stats.masks
    ))
}

fn features(control: &mut Control, args: &[String]) -> Answer {
    find(control, &args[0])?;
    let caps = control.datapath.capabilities();
    let word = |yes: bool| if yes { "Yes" } else { "No" };
    Ok(format!(
        "Masked set action: Yes
Tunnel push pop: {}
Ufid: No
Truncate action: {}
Clone action: {}
\
         Sample nesting: 10
Conntrack eventmask: No
Conntrack clear: Yes
Max dp_hash algorithm: 1
\
         Check pkt length action: Yes
Conntrack timeout policy: Yes
Explicit Drop action: No
\
         Optimized Balance TCP mode: No
Conntrack all-zero IP SNAT: Yes
MPLS Label add: Yes
\
         Max VLAN headers: {}
Max MPLS depth: 3
Recirc: Yes
CT state: Yes
CT zone: Yes
CT mark: Yes
\
         CT label: Yes
CT state NAT: Yes
CT orig tuple: Yes
CT orig tuple for IPv6: Yes
\
         IPv6 ND Extension: Yes
",
        word(caps.native_tunnels),
        word(caps.trunc),
        word(caps.clone_depth > 0),
        caps.max_vlan_headers
    ))
}
