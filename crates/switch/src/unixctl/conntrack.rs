//! Which commands are about tracked connections?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use weft_conntrack::{Conntrack, Filter};

use super::datapath::without_dp;
use super::{Answer, Command, command};
use crate::clock::now_ms;
use crate::control::Control;

/// Fewest bytes that may be demanded of fragments.
const LEAST_FRAGMENT: u16 = 400;
/// Most fragments that may be allowed to wait.
const MOST_FRAGMENTS: usize = 5_000;

pub(super) const COMMANDS: &[Command] = &[
    command("dpctl/ct-bkts", "[dp] [gt=N]", (0, 2), buckets),
    command("dpctl/ct-del-limits", "[dp] zone=N[,N]...", (1, 2), del_limits),
    command("dpctl/ct-disable-tcp-seq-chk", "[dp]", (0, 1), |c, a| check_seq(c, a, false)),
    command("dpctl/ct-enable-tcp-seq-chk", "[dp]", (0, 1), |c, a| check_seq(c, a, true)),
    command("dpctl/ct-get-limits", "[dp] [zone=N[,N]...]", (0, 2), get_limits),
    command("dpctl/ct-get-maxconns", "[dp]", (0, 1), |c, a| number(c, a, |t| t.limits().connections)),
    command("dpctl/ct-get-nconns", "[dp]", (0, 1), |c, a| number(c, a, Conntrack::count)),
    command("dpctl/ct-get-tcp-seq-chk", "[dp]", (0, 1), get_check_seq),
    command("dpctl/ct-set-limits", "[dp] [default=N] [zone=N,limit=N]...", (1, usize::MAX), set_limits),
    command("dpctl/ct-set-maxconns", "[dp] maxconns", (1, 2), set_max),
    command("dpctl/ct-stats-show", "[dp] [zone=N] [verbose]", (0, 4), stats),
    command("dpctl/dump-conntrack", "[-m] [-s] [dp] [zone=N]", (0, 4), dump),
    command("dpctl/flush-conntrack", "[dp] [zone=N] [ct-orig-tuple] [ct-reply-tuple]", (0, 4), flush),
    command("dpctl/ipf-get-status", "[dp]", (0, 2), fragments),
    command("dpctl/ipf-set-disabled", "[dp] v4|v6", (1, 2), |c, a| reassemble(c, a, false)),
    command("dpctl/ipf-set-enabled", "[dp] v4|v6", (1, 2), |c, a| reassemble(c, a, true)),
    command("dpctl/ipf-set-max-nfrags", "[dp] maxfrags", (1, 2), most_fragments),
    command("dpctl/ipf-set-min-frag", "[dp] v4|v6 minfragment", (2, 3), least_fragment),
];

const NO_DATAPATH: &str = "ovs-vswitchd: datapath not found (Invalid argument)";

/// The zone that an argument names, if it is one.
fn zone(text: &str) -> Result<Option<u16>, String> {
    match text.strip_prefix("zone=") {
        Some(zone) => zone.parse().map(Some).map_err(|_| NO_DATAPATH.to_owned()),
        None => Ok(None),
    }
}

/// Options apart from the rest.
fn split(args: &[String]) -> (Vec<&str>, Vec<String>) {
    let (options, rest): (Vec<&String>, Vec<&String>) = args.iter().partition(|a| a.starts_with('-'));
    (options.into_iter().map(String::as_str).collect(), rest.into_iter().cloned().collect())
}

fn dump(control: &mut Control, args: &[String]) -> Answer {
    let (options, args) = split(args);
    let has = |short: &str, long: &str| options.iter().any(|o| *o == short || *o == long);
    let (more, times) = (has("-m", "--more"), has("-s", "--statistics"));
    let mut filter = Filter::default();
    for arg in without_dp(&args)? {
        filter.zone = zone(arg)?;
        filter.zone.ok_or(NO_DATAPATH)?;
    }
    let mut out = String::new();
    control.datapath.conntrack().each(&filter, now_ms(), |entry| {
        let _ = writeln!(out, "{}", entry.detailed(more, times));
        true
    });
    Ok(out)
}

fn flush(control: &mut Control, args: &[String]) -> Answer {
    let mut filter = Filter::default();
    let mut tuples = 0;
    for arg in without_dp(args)? {
        if arg.starts_with("zone=") {
            filter.zone = zone(arg).map_err(|_| "ovs-vswitchd: failed to parse zone (Invalid argument)")?;
            continue;
        }
        let tuple = Tuple::parse(arg).map_err(|e| format!("ovs-vswitchd: {e} (Invalid argument)"))?;
        match tuples {
            0 => (filter.orig, filter.orig_ports) = (tuple.addrs, tuple.ports),
            1 => (filter.reply, filter.reply_ports) = (tuple.addrs, tuple.ports),
            _ => return Err(NO_DATAPATH.into()),
        }
        tuples += 1;
        filter.proto = tuple.proto.or(filter.proto);
        filter.v6 = tuple.addrs.0.or(tuple.addrs.1).map(|a| a.is_ipv6()).or(filter.v6);
    }
    if tuples > 0 {
        // A tuple names connections of one zone.
        filter.zone = filter.zone.or(Some(0));
    }
    let flushed = control.datapath.conntrack().flush(&filter);
    // Who names one connection is told when it is not there.
    let named = filter.orig_ports.0.is_some() && filter.orig.0.is_some() && filter.orig.1.is_some();
    if named && flushed == 0 {
        return Err("ovs-vswitchd: failed to flush conntrack (No such file or directory)".into());
    }
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
            let (name, value) = part.split_once('=').ok_or_else(|| format!("field {part} missing value"))?;
            let wrong = || format!("failed to parse field {name}");
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
                _ => return Err(format!("invalid conntrack tuple field: {name}")),
            }
        }
        if let (Some(a), Some(b)) = tuple.addrs
            && a.is_ipv4() != b.is_ipv4()
        {
            return Err(format!("the L3 protocol does not match {b}"));
        }
        Ok(tuple)
    }
}

fn stats(control: &mut Control, args: &[String]) -> Answer {
    let (options, mut args) = split(args);
    let before = args.len();
    args.retain(|a| a != "verbose");
    let more = args.len() < before || options.iter().any(|o| matches!(*o, "-m" | "--more"));
    let mut wanted = None;
    for arg in without_dp(&args)? {
        wanted = zone(arg)?;
        wanted.ok_or(NO_DATAPATH)?;
    }
    let stats = control.datapath.conntrack().stats(wanted, now_ms());
    let mut out = format!("Connections Stats:\n    Total: {}\n", stats.total());
    for (protocol, n) in &stats.protocols {
        let _ = writeln!(out, "  {}: {n}", protocol.to_uppercase());
        if protocol == "tcp" && more {
            let _ = writeln!(out, "    Conn per TCP states:");
            for (state, n) in &stats.tcp {
                let _ = writeln!(out, "\t  [{state}]={n}");
            }
        }
    }
    Ok(out)
}

fn buckets(control: &mut Control, args: &[String]) -> Answer {
    let mut least = 0;
    for arg in without_dp(args)? {
        least = arg.strip_prefix("gt=").and_then(|n| n.parse().ok()).ok_or(NO_DATAPATH)?;
    }
    let buckets = control.datapath.conntrack().buckets();
    let mut out = format!(
        "Total Buckets: {}\nCurrent Connections: {}\n\n",
        buckets.len(),
        buckets.iter().sum::<usize>()
    );
    if buckets.iter().all(|n| *n == 0) {
        return Ok(out);
    }
    out.push_str("+-----------+-----------------------------------------+\n");
    out.push_str("|  Buckets  |         Connections per Buckets         |\n");
    out.push_str("+-----------+-----------------------------------------+");
    for (row, line) in buckets.chunks(8).enumerate() {
        let _ = write!(out, "\n {:>3}..{:>3}   | ", row * 8, row * 8 + 7);
        for n in line {
            let _ = match *n > least {
                true => write!(out, "{n:>5}"),
                false => write!(out, "{:>5}", "."),
            };
        }
    }
    out.push_str("\n\n");
    Ok(out)
}

fn set_limits(control: &mut Control, args: &[String]) -> Answer {
    let mut default = None;
    let mut zones = BTreeMap::new();
    for arg in without_dp(args)? {
        if let Some(limit) = arg.strip_prefix("default=") {
            let limit = limit.parse::<u32>();
            default =
                Some(limit.map_err(|_| "ovs-vswitchd: invalid default limit (Invalid argument)".to_owned())?);
            continue;
        }
        let (zone, limit) = zone_limit(arg).map_err(|e| format!("ovs-vswitchd: {e} (Invalid argument)"))?;
        zones.insert(zone, limit);
    }
    control.datapath.conntrack().set_limits(|limits| {
        if let Some(default) = default {
            limits.default_zone = Some(default);
        }
        limits.zones.extend(zones.iter().map(|(zone, limit)| (*zone, *limit)));
    });
    Ok(String::new())
}

/// The zone and the limit of `zone=N,limit=N`.
fn zone_limit(text: &str) -> Result<(u16, u32), String> {
    let (mut zone, mut limit) = (None, None);
    for field in text.split(',') {
        let (name, value) = field.split_once('=').ok_or_else(|| format!("field {field} missing value"))?;
        let wrong = || format!("failed to parse field {name}");
        match name {
            "zone" => zone = Some(value.parse().map_err(|_| wrong())?),
            "limit" => limit = Some(value.parse().map_err(|_| wrong())?),
            _ => return Err(format!("invalid zone limit field: {name}")),
        }
    }
    zone.zip(limit).ok_or_else(|| "failed to parse zone limit".to_owned())
}

/// The zones of `zone=N[,N]…`.
fn zone_list(args: &[String]) -> Result<Vec<u16>, String> {
    let mut zones = Vec::new();
    for arg in args {
        let list = arg.strip_prefix("zone=");
        let list = list.ok_or_else(|| format!("ovs-vswitchd: invalid argument {arg} (Invalid argument)"))?;
        for zone in list.split(',') {
            zones.push(zone.parse().map_err(|_| "ovs-vswitchd: invalid zone (Invalid argument)".to_owned())?);
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
        _ => Err(NO_DATAPATH.into()),
    }
}

fn set_max(control: &mut Control, args: &[String]) -> Answer {
    let malformed = "ovs-vswitchd: maxconns missing or malformed (Invalid argument)";
    let [text] = without_dp(args)? else { return Err(malformed.into()) };
    let max: u32 = text.parse().map_err(|_| malformed)?;
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

/// Numbers of the IP versions that fragments are counted for.
fn family(text: &str) -> Result<usize, String> {
    match text {
        "v4" => Ok(0),
        "v6" => Ok(1),
        _ => Err("ovs-vswitchd: parameter missing: 'v4' for IPv4 or 'v6' for IPv6 (Invalid argument)".into()),
    }
}

fn reassemble(control: &mut Control, args: &[String], on: bool) -> Answer {
    let [which] = without_dp(args)? else { return Err(NO_DATAPATH.into()) };
    let which = family(which)?;
    control.datapath.conntrack().set_fragment_rules(|rules| rules.enabled[which] = on);
    Ok(format!("{} fragmentation reassembly successful\n", if on { "enabling" } else { "disabling" }))
}

fn least_fragment(control: &mut Control, args: &[String]) -> Answer {
    let [which, least] = without_dp(args)? else { return Err(NO_DATAPATH.into()) };
    let which = family(which)?;
    let least: u16 = least
        .parse()
        .map_err(|_| "ovs-vswitchd: parameter missing for minimum fragment size (Invalid argument)")?;
    if least < LEAST_FRAGMENT {
        return Err("ovs-vswitchd: requested minimum fragment size too small; see documentation \
                    (Operation not permitted)"
            .into());
    }
    control.datapath.conntrack().set_fragment_rules(|rules| rules.least[which] = least);
    Ok("setting minimum fragment size successful\n".into())
}

fn most_fragments(control: &mut Control, args: &[String]) -> Answer {
    let [most] = without_dp(args)? else { return Err(NO_DATAPATH.into()) };
    let most: usize = most
        .parse()
        .map_err(|_| "ovs-vswitchd: parameter missing for maximum fragments (Invalid argument)")?;
    if most > MOST_FRAGMENTS {
        return Err("ovs-vswitchd: setting maximum fragments failed (Operation not permitted)".into());
    }
    control.datapath.conntrack().set_fragment_rules(|rules| rules.most = most);
    Ok("setting maximum fragments successful\n".into())
}

fn fragments(control: &mut Control, args: &[String]) -> Answer {
    let (options, args) = split(args);
    if !without_dp(&args)?.is_empty() {
        return Err(NO_DATAPATH.into());
    }
    let status = control.datapath.conntrack().fragments();
    let rules = &status.rules;
    let mut lines = vec!["Fragmentation Module Status".to_owned(), "-".repeat(27)];
    for (version, on) in ["v4", "v6"].iter().zip(rules.enabled) {
        lines.push(format!("{version} enabled: {}", u8::from(on)));
    }
    lines.push(format!("max num frags (v4/v6): {}", rules.most));
    lines.push(format!("num frag: {}", status.waiting));
    for (n, version) in ["v4", "v6"].iter().enumerate() {
        let c = &status.counts[n];
        lines.push(format!("min {version} frag size: {}", rules.least[n]));
        let counts = [
            ("accepted", c.accepted),
            ("completed", c.completed),
            ("expired", c.expired),
            ("too small", c.small),
            ("overlapped", c.overlapped),
            ("purged", c.purged),
        ];
        lines.extend(counts.iter().map(|(what, n)| format!("{version} frags {what}: {n}")));
    }
    let mut out: String = lines.iter().map(|line| format!("        {line}\n")).collect();
    if options.iter().any(|o| matches!(*o, "-m" | "--more")) {
        out.push_str("\n        Fragment Lists:\n\n");
        for l in &status.lists {
            let _ = writeln!(
                out,
                "(src={},dst={},id={:#x},zone={},proto={},num frags={})",
                l.src, l.dst, l.id, l.zone, l.proto, l.fragments
            );
        }
    }
    Ok(out)
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
