//! Which commands are about tracked connections?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use weft_conntrack::{Conntrack, Filter};

use super::datapath::is_ours;
use super::{Answer, Command, SWITCH};
use crate::clock::now_ms;
use crate::control::Control;

/// A command for the switch.
const fn command(
    name: &'static str,
    usage: &'static str,
    arguments: (usize, usize),
    run: fn(&mut Control, &[String]) -> Answer,
) -> Command {
    Command { daemons: SWITCH, name, usage, arguments, run }
}

pub(super) const COMMANDS: &[Command] = &[
    command("dpctl/ct-bkts", "[dp] [gt=N]", (0, 2), buckets),
    command("dpctl/ct-del-limits", "[dp] zone=N[,N]...", (1, 2), del_limits),
    command("dpctl/ct-disable-tcp-seq-chk", "[dp]", (0, 1), |c, a| check_seq(c, a, false)),
    command("dpctl/ct-enable-tcp-seq-chk", "[dp]", (0, 1), |c, a| check_seq(c, a, true)),
    command("dpctl/ct-get-limits", "[dp] [zone=N[,N]...]", (0, 2), get_limits),
    command("dpctl/ct-get-maxconns", "[dp]", (0, 1), |c, a| number(c, a, |t| t.limits().connections)),
    command("dpctl/ct-get-nconns", "[dp]", (0, 1), |c, a| number(c, a, Conntrack::count)),
    command("dpctl/ct-get-tcp-seq-chk", "[dp]", (0, 1), get_check_seq),
    command("dpctl/ct-ipf-get-status", "[-m] [dp]", (0, 2), fragments),
    command("dpctl/ct-set-limits", "[dp] [default=N] [zone=N,limit=N]...", (1, usize::MAX), set_limits),
    command("dpctl/ct-set-maxconns", "[dp] maxconns", (1, 2), set_max),
    command("dpctl/ct-stats-show", "[-m] [dp] [zone=N]", (0, 4), stats),
    command("dpctl/dump-conntrack", "[-m] [-s] [dp] [zone=N]", (0, 4), dump),
    command("dpctl/flush-conntrack", "[dp] [zone=N] [ct-orig-tuple [ct-reply-tuple]]", (0, 4), flush),
];

/// The arguments without the datapath's name.
fn without_dp(args: &[String]) -> Result<&[String], String> {
    match args.first() {
        Some(first) if is_ours(first) => Ok(&args[1..]),
        Some(first) if first.contains('@') => Err(format!("{first}: datapath not found")),
        _ => Ok(args),
    }
}

fn zone(text: &str) -> Result<Option<u16>, String> {
    match text.strip_prefix("zone=") {
        Some(zone) => zone.parse().map(Some).map_err(|_| format!("{text}: zone must be 0 to 65535")),
        None => Ok(None),
    }
}

fn dump(control: &mut Control, args: &[String]) -> Answer {
    let more = args.iter().any(|a| matches!(a.as_str(), "-m" | "-s" | "--more"));
    let args: Vec<String> = args.iter().filter(|a| !a.starts_with('-')).cloned().collect();
    let mut filter = Filter::default();
    for arg in without_dp(&args)? {
        filter.zone = zone(arg)?;
        if filter.zone.is_none() {
            return Err(format!("{arg}: datapath not found"));
        }
    }
    let mut out = String::new();
    control.datapath.conntrack().each(&filter, now_ms(), |entry| {
        let _ = match more {
            true => writeln!(out, "{entry},timeout={}", entry.timeout),
            false => writeln!(out, "{entry}"),
        };
        true
    });
    Ok(out)
}

fn flush(control: &mut Control, args: &[String]) -> Answer {
    let mut filter = Filter::default();
    let mut tuples = 0;
    for arg in without_dp(args)? {
        if let Some(zone) = zone(arg)? {
            filter.zone = Some(zone);
            continue;
        }
        let tuple = Tuple::parse(arg)?;
        match tuples {
            0 => (filter.orig, filter.orig_ports) = (tuple.addrs, tuple.ports),
            1 => (filter.reply, filter.reply_ports) = (tuple.addrs, tuple.ports),
            _ => return Err(format!("{arg}: two tuples at most")),
        }
        tuples += 1;
        filter.proto = tuple.proto.or(filter.proto);
        filter.v6 = tuple.addrs.0.or(tuple.addrs.1).map(|a| a.is_ipv6()).or(filter.v6);
    }
    control.datapath.conntrack().flush(&filter);
    Ok(String::new())
}

/// One direction, as `ct_nw_src=…,ct_nw_proto=…,ct_tp_dst=…` tells it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tuple {
    addrs: (Option<IpAddr>, Option<IpAddr>),
    ports: (Option<u16>, Option<u16>),
    proto: Option<u8>,
}

impl Tuple {
    fn parse(text: &str) -> Result<Tuple, String> {
        let mut tuple = Tuple::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let wrong = || format!("{part}: not a part of a connection's tuple");
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let addr = || value.parse::<IpAddr>().map(Some).map_err(|_| wrong());
            let port = || value.parse::<u16>().map(Some).map_err(|_| wrong());
            match name {
                "ct_nw_src" | "ct_ipv6_src" => tuple.addrs.0 = addr()?,
                "ct_nw_dst" | "ct_ipv6_dst" => tuple.addrs.1 = addr()?,
                "ct_nw_proto" => tuple.proto = Some(value.parse().map_err(|_| wrong())?),
                "ct_tp_src" | "icmp_id" => tuple.ports.0 = port()?,
                "ct_tp_dst" => tuple.ports.1 = port()?,
                // Types and codes do not tell connections apart.
                "icmp_type" | "icmp_code" => {}
                _ => return Err(wrong()),
            }
        }
        Ok(tuple)
    }
}

fn stats(control: &mut Control, args: &[String]) -> Answer {
    let more = args.iter().any(|a| matches!(a.as_str(), "-m" | "--more" | "verbose"));
    let stats = control.datapath.conntrack().stats(None, now_ms());
    let mut out = format!("Connections Stats:\n    Total: {}\n", stats.total());
    for (protocol, n) in &stats.protocols {
        let _ = writeln!(out, "\t{}: {n}", protocol.to_uppercase());
        if protocol == "tcp" && more {
            let _ = writeln!(out, "\t  Conn per TCP states:");
            for (state, n) in &stats.tcp {
                let _ = writeln!(out, "\t    {state:>12}: {n}");
            }
        }
    }
    Ok(out)
}

fn buckets(control: &mut Control, args: &[String]) -> Answer {
    let mut least = 0;
    for arg in without_dp(args)? {
        let number = arg.strip_prefix("gt=").and_then(|n| n.parse().ok());
        least = number.ok_or_else(|| format!("{arg}: unknown argument"))?;
    }
    let buckets = control.datapath.conntrack().buckets();
    let mut out = format!(
        "Total Buckets: {}\nCurrent Connections: {}\n\n",
        buckets.len(),
        buckets.iter().sum::<usize>()
    );
    out.push_str("+-----------+-----------------------------------------+\n");
    out.push_str("|  Buckets  |         Connections per Buckets         |\n");
    out.push_str("+-----------+-----------------------------------------+");
    for (row, line) in buckets.chunks(8).enumerate() {
        let _ = write!(out, "\n {:>4}..{:>4}  |", row * 8, row * 8 + line.len() - 1);
        for n in line {
            let _ = match *n > least || least == 0 {
                true => write!(out, " {n:>4}"),
                false => write!(out, "     "),
            };
        }
    }
    out.push('\n');
    Ok(out)
}

fn set_limits(control: &mut Control, args: &[String]) -> Answer {
    let mut default = None;
    let mut zones = BTreeMap::new();
    for arg in without_dp(args)? {
        if let Some(limit) = arg.strip_prefix("default=") {
            default = Some(limit.parse::<u32>().map_err(|_| format!("{arg}: invalid default limit"))?);
            continue;
        }
        let (zone, limit) = arg.split_once(',').ok_or_else(|| format!("{arg}: zone=N,limit=N is needed"))?;
        let number = zone.strip_prefix("zone=").and_then(|z| z.parse::<u16>().ok());
        let number = number.ok_or_else(|| format!("{zone}: invalid zone"))?;
        let limit = limit.strip_prefix("limit=").and_then(|l| l.parse::<u32>().ok());
        zones.insert(number, limit.ok_or_else(|| format!("{arg}: invalid limit"))?);
    }
    control.datapath.conntrack().set_limits(|limits| {
        if let Some(default) = default {
            limits.default_zone = Some(default);
        }
        limits.zones.extend(zones.iter().map(|(zone, limit)| (*zone, *limit)));
    });
    Ok(String::new())
}

/// The zones of `zone=N[,N]…`.
fn zone_list(args: &[String]) -> Result<Vec<u16>, String> {
    let mut zones = Vec::new();
    for arg in args {
        let list = arg.strip_prefix("zone=").ok_or_else(|| format!("{arg}: zone=N[,N]... is needed"))?;
        for zone in list.split(',') {
            zones.push(zone.parse().map_err(|_| format!("{zone}: invalid zone"))?);
        }
    }
    Ok(zones)
}

fn del_limits(control: &mut Control, args: &[String]) -> Answer {
    let zones = zone_list(without_dp(args)?)?;
    control.datapath.conntrack().set_limits(|limits| limits.zones.retain(|zone, _| !zones.contains(zone)));
    Ok(String::new())
}

fn get_limits(control: &mut Control, args: &[String]) -> Answer {
    let tracker = control.datapath.conntrack();
    let limits = tracker.limits();
    let mut zones = zone_list(without_dp(args)?)?;
    if zones.is_empty() {
        zones = limits.zones.keys().copied().collect();
        zones.sort_unstable();
    }
    let mut out = format!("default limit={}\n", limits.default_zone.unwrap_or(0));
    for zone in zones {
        let limit = limits.zone(zone).unwrap_or(0);
        let _ = writeln!(out, "zone={zone},limit={limit},count={}", tracker.zone_count(zone));
    }
    Ok(out)
}

fn number(control: &mut Control, args: &[String], read: fn(&Conntrack) -> usize) -> Answer {
    match without_dp(args)? {
        [] => Ok(format!("{}\n", read(control.datapath.conntrack()))),
        [other, ..] => Err(format!("{other}: datapath not found")),
    }
}

fn set_max(control: &mut Control, args: &[String]) -> Answer {
    let [text] = without_dp(args)? else { return Err("maxconns missing or malformed".into()) };
    let max: u32 = text.parse().map_err(|_| "maxconns missing or malformed")?;
    control.datapath.conntrack().set_limits(|limits| limits.connections = max as usize);
    Ok("setting maxconns successful\n".into())
}

fn check_seq(control: &mut Control, args: &[String], on: bool) -> Answer {
    without_dp(args)?;
    control.datapath.conntrack().set_limits(|limits| limits.check_seq = on);
    Ok(format!("{} TCP sequence checking successful\n", if on { "enabling" } else { "disabling" }))
}

fn get_check_seq(control: &mut Control, args: &[String]) -> Answer {
    without_dp(args)?;
    let on = control.datapath.conntrack().limits().check_seq;
    Ok(format!("TCP sequence checking: {}\n", if on { "enabled" } else { "disabled" }))
}

/// Fragments are always reassembled, within limits of their own.
fn fragments(_: &mut Control, _: &[String]) -> Answer {
    Ok("    Fragmentation Module Status\n    ---------------------------\n    v4 enabled: 1\n    v6 enabled: 1\n".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples() {
        let tuple =
            Tuple::parse("ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=6,ct_tp_src=1,ct_tp_dst=80");
        let tuple = tuple.expect("a tuple");
        assert_eq!((tuple.proto, tuple.ports), (Some(6), (Some(1), Some(80))));
        for wrong in ["ct_nw_src", "ct_nw_src=10.0.0", "ct_tp_dst=65536", "nw_src=10.0.0.1"] {
            assert!(Tuple::parse(wrong).is_err(), "{wrong}");
        }
    }
}
