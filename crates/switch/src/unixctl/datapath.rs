//! Which commands are about the datapath: its ports, its features, the words for its flows?

use std::fmt::Write as _;

use weft_flow::text::{format_dp_actions, format_dp_flow, parse_dp_actions, parse_dp_flow};
use weft_flow::{PacketKey, TlvTable};

use super::bridge::find;
use super::{Answer, Command, command};
use crate::bridge::Iface;
use crate::control::Control;
use crate::process::paths::Daemon;

/// Name of the only datapath, as the user-space one of Open vSwitch is called.
const NAME: &str = "ovs-netdev";
/// Datapath types under which it may be asked for.
const TYPES: [&str; 2] = ["netdev", "system"];

pub(super) const COMMANDS: &[Command] = &[
    command("dpctl/cache-get-size", "[dp]", (0, 1), |c, a| no_arguments(c, a, |c| format!("{}:\n", name(c)))),
    command("dpctl/dump-dps", "", (0, 0), dump_dps),
    command("dpctl/list-commands", "", (0, 0), list_commands),
    command("dpctl/normalize-actions", "flow actions", (2, 2), normalize_actions),
    command("dpctl/parse-actions", "actions", (1, usize::MAX), parse_actions),
    command("dpctl/show", "[-s] [dp...]", (0, usize::MAX), show),
    command("dpif/dump-dps", "", (0, 0), dump_bridges),
    command("dpif/set-dp-features", "bridge [feature [value]]", (1, 3), set_features),
    command("dpif/show", "", (0, 0), dpif_show),
    command("dpif/show-dp-features", "bridge", (1, 1), show_features),
];

fn dump_dps(control: &mut Control, _: &[String]) -> Answer {
    if control.world.bridges.is_empty() { Ok(String::new()) } else { Ok(format!("{}\n", name(control))) }
}

/// Each bridge, as if it were a datapath of its own.
fn dump_bridges(control: &mut Control, _: &[String]) -> Answer {
    let lines = control.world.bridges.values().map(|b| format!("{}@{}\n", b.wanted.datapath_name(), b.name));
    Ok(lines.collect())
}

/// `type@name`, with the type that bridges ask for.
pub(super) fn name(control: &Control) -> String {
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

/// The arguments without the datapath's name.
pub(super) fn without_dp(args: &[String]) -> Result<&[String], String> {
    match args.first() {
        Some(first) if is_ours(first) => Ok(&args[1..]),
        Some(first) if first.contains('@') => {
            Err(format!("ovs-vswitchd: opening datapath {first} failed (No such device)"))
        }
        _ => Ok(args),
    }
}

/// Says something of the datapath, whose name may be given.
fn no_arguments(control: &Control, args: &[String], say: impl Fn(&Control) -> String) -> Answer {
    match without_dp(args)? {
        [] => Ok(say(control)),
        _ => Err("ovs-vswitchd: datapath not found (Invalid argument)".into()),
    }
}

/// The commands on the datapath.
fn list_commands(_: &mut Control, _: &[String]) -> Answer {
    let mut all: Vec<_> =
        super::commands(Daemon::Vswitchd).filter(|c| c.name.starts_with("dpctl/")).collect();
    all.sort_by_key(|c| c.name);
    let lines = all.iter().map(|c| format!("  {:<28}  {}\n", c.name, c.usage));
    Ok(format!("The available commands are:\n{}", lines.collect::<String>()))
}

/// Datapath actions, read and written again.
fn parse_actions(control: &mut Control, args: &[String]) -> Answer {
    let by_name =
        |name: &str| control.datapath.ports().into_iter().find(|p| p.name == name).map(|p| p.number);
    let mut out = String::new();
    for text in args {
        let parsed = parse_dp_actions(text, &by_name);
        let actions =
            parsed.map_err(|e| format!("ovs-vswitchd: odp_actions_from_string ({e}) (Invalid argument)"))?;
        let _ = writeln!(out, "{}", format_dp_actions(&actions, &PacketKey::default(), &|_| None));
    }
    Ok(out)
}

/// What actions do to packets of a flow; fields are named for its protocol.
fn normalize_actions(control: &mut Control, args: &[String]) -> Answer {
    let by_name =
        |name: &str| control.datapath.ports().into_iter().find(|p| p.name == name).map(|p| p.number);
    let (key, mask) = parse_dp_flow(&args[0], &by_name, &TlvTable::new())
        .map_err(|e| format!("ovs-vswitchd: odp_flow_key_from_string ({e}) (Invalid argument)"))?;
    let actions = parse_dp_actions(&args[1], &by_name)
        .map_err(|e| format!("ovs-vswitchd: odp_actions_from_string ({e}) (Invalid argument)"))?;
    let flow = format_dp_flow(&key, &mask, &|_| None);
    Ok(format!("input flow: {flow}\n{}\n", format_dp_actions(&actions, &key.packet, &|_| None)))
}

fn show(control: &mut Control, args: &[String]) -> Answer {
    if let Some(other) = args.iter().find(|a| !a.starts_with('-') && !is_ours(a)) {
        return Err(format!("ovs-vswitchd: opening datapath {other} failed (No such file or directory)"));
    }
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
                "    RX packets:{} errors:{} dropped:{} overruns:{} frame:0",
                s.rx_packets, s.rx_errors, s.rx_dropped, s.rx_missed
            );
            let _ = writeln!(
                out,
                "    TX packets:{} errors:{} dropped:{} aborted:0 carrier:0",
                s.tx_packets, s.tx_errors, s.tx_dropped
            );
            let _ = writeln!(out, "    collisions:0");
            let _ = writeln!(out, "    RX bytes:{}  TX bytes:{}", human(s.rx_bytes), human(s.tx_bytes));
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

/// A number of bytes, with the same in a larger unit where there is one.
fn human(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if bytes < 1024 { bytes.to_string() } else { format!("{bytes} ({value:.1} {})", units[unit]) }
}

/// What the datapath can do: key, description, value; numbers and truth as words of `dpif/set-dp-features`.
fn features(control: &Control) -> Vec<(&'static str, &'static str, String)> {
    let caps = control.datapath.capabilities();
    let yes = |name, text, is: bool| (name, text, is.to_string());
    vec![
        yes("masked_set_action", "Masked set action", true),
        yes("tnl_push_pop", "Tunnel push pop", caps.native_tunnels),
        yes("ufid", "Ufid", true),
        yes("trunc", "Truncate action", caps.trunc),
        yes("clone", "Clone action", caps.clone_depth > 0),
        ("sample_nesting", "Sample nesting", "10".into()),
        yes("ct_eventmask", "Conntrack eventmask", false),
        yes("ct_clear", "Conntrack clear", true),
        ("max_hash_alg", "Max dp_hash algorithm", "1".into()),
        yes("check_pkt_len", "Check pkt length action", true),
        yes("ct_timeout", "Conntrack timeout policy", true),
        yes("explicit_drop_action", "Explicit Drop action", false),
        yes("lb_output_action", "Optimized Balance TCP mode", false),
        yes("ct_zero_snat", "Conntrack all-zero IP SNAT", true),
        yes("add_mpls", "MPLS Label add", true),
        ("max_vlan_headers", "Max VLAN headers", caps.max_vlan_headers.to_string()),
        ("max_mpls_depth", "Max MPLS depth", "3".into()),
        yes("recirc", "Recirc", true),
        yes("ct_state", "CT state", true),
        yes("ct_zone", "CT zone", true),
        yes("ct_mark", "CT mark", true),
        yes("ct_label", "CT label", true),
        yes("ct_state_nat", "CT state NAT", true),
        yes("ct_orig_tuple", "CT orig tuple", true),
        yes("ct_orig_tuple6", "CT orig tuple for IPv6", true),
        yes("nd_ext", "IPv6 ND Extension", true),
    ]
}

fn show_features(control: &mut Control, args: &[String]) -> Answer {
    find(control, &args[0])?;
    let lines = features(control).into_iter().map(|(_, text, value)| match value.as_str() {
        "true" => format!("{text}: Yes\n"),
        "false" => format!("{text}: No\n"),
        number => format!("{text}: {number}\n"),
    });
    Ok(lines.collect())
}

/// Shows features. They cannot be changed: there is one datapath, and what it can do it always does.
fn set_features(control: &mut Control, args: &[String]) -> Answer {
    find(control, &args[0])?;
    let all = features(control);
    let line = |(name, text, value): &(&str, &str, String)| {
        format!("{name} ({text}) : [run time]:{value}, [boot time]:{value}\n")
    };
    let Some(asked) = args.get(1) else { return Ok(all.iter().map(line).collect()) };
    let Some(feature) = all.iter().find(|(name, ..)| name == asked) else {
        return Ok("Unexpected support field\n".into());
    };
    match args.get(2) {
        None => Ok(line(feature)),
        Some(value) if *value == feature.2 => Ok(String::new()),
        Some(_) => {
            Err(format!("{asked} is always {}: features of this datapath are not switched", feature.2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        let cases = [(0, "0"), (1023, "1023"), (1028, "1028 (1.0 KiB)"), (175_704, "175704 (171.6 KiB)")];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text);
        }
    }
}
