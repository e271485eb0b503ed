//! How are `ct(...)` and the `nat(...)` in it written?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Syntax;
use super::action_format::format_actions;
use super::action_parse::Parser;
use super::error::{ParseError, Result, bad};
use super::lex::pairs;
use super::subfield::{format_subfield, parse_subfield};
use super::value::{hex, int, number, number_of};
use crate::{Action, ActionError, Ct, CtSpec, CtZone, Field, Nat, NatSide};

/// Application helpers by name and port.
const HELPERS: &[(&str, u16)] = &[("ftp", 21), ("tftp", 69)];

/// Reads what stands between the parentheses of `ct`.
pub(super) fn parse_ct(text: &str, parser: &Parser<'_>, depth: usize) -> Result<Action> {
    let mut ct = Ct {
        commit: false,
        force: false,
        zone: CtZone::Number(0),
        table: None,
        alg: 0,
        nat: None,
        exec: Vec::new(),
    };
    for pair in pairs(text)? {
        let text = pair.text();
        match pair.key {
            "commit" => ct.commit = true,
            "force" => ct.force = true,
            "table" => match int("table", text)? {
                255 => return Err(bad("table", text, "a table from 0 to 254")),
                table => ct.table = Some(table),
            },
            "zone" => {
                ct.zone = match number(text).and_then(|n| u16::try_from(n).ok()) {
                    Some(zone) => CtZone::Number(zone),
                    None => CtZone::Field(parse_subfield(text)?),
                }
            }
            "alg" => match HELPERS.iter().find(|(name, _)| *name == text) {
                Some((_, port)) => ct.alg = *port,
                None => return Err(bad("alg", text, "ftp or tftp")),
            },
            "nat" => ct.nat = Some(parse_nat(text)?),
            "exec" => ct.exec.extend(parser.list(text, depth + 1)?),
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        }
    }
    if let CtZone::Field(zone) = &ct.zone
        && zone.bits != 16
    {
        return Err(ActionError::BadZone(zone.field).into());
    }
    if ct.force && !ct.commit {
        return Err(bad("ct", text, "commit beside force"));
    }
    ct.exec.iter().try_for_each(exec_may)?;
    Ok(Action::Ct(Box::new(ct)))
}

/// Only the connection's mark and label may be changed.
fn exec_may(action: &Action) -> Result<()> {
    match action {
        Action::SetField { field, .. } | Action::Move { dst: crate::Subfield { field, .. }, .. } => {
            let ours = matches!(field, Field::CtMark | Field::CtLabel);
            if ours { Ok(()) } else { Err(ActionError::NotOfConnection(Some(*field)).into()) }
        }
        _ => Err(ActionError::NotOfConnection(None).into()),
    }
}

/// Reads what stands between the parentheses of `nat`, if anything.
fn parse_nat(text: &str) -> Result<Nat> {
    let mut nat = Nat::default();
    for pair in pairs(text)? {
        let side = match pair.key {
            "src" => NatSide::Src,
            "dst" => NatSide::Dst,
            "persistent" => {
                nat.persistent = true;
                continue;
            }
            "hash" => {
                nat.hash = true;
                continue;
            }
            "random" => {
                nat.random = true;
                continue;
            }
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        };
        if nat.side.is_some() {
            return Err(bad("nat", text, "one of src and dst"));
        }
        nat.side = Some(side);
        if let Some(range) = pair.value {
            let (addrs, ports) =
                parse_range(range).ok_or_else(|| bad("nat", range, "address[-address][:port[-port]]"))?;
            // The address 0.0.0.0 asks for none.
            if !addrs.0.is_unspecified() {
                (nat.addrs, nat.ports) = (Some(addrs), ports);
            }
        }
    }
    if nat.hash && nat.random {
        return Err(bad("nat", text, "one of hash and random"));
    }
    if nat.side.is_none() && (nat.persistent || nat.hash || nat.random) {
        return Err(bad("nat", text, "src or dst beside flags"));
    }
    if nat.addrs.is_none() {
        // How to choose says nothing where there is no choice.
        (nat.persistent, nat.hash, nat.random) = (false, false, false);
    }
    Ok(nat)
}

/// Addresses and ports, first and last each.
type Range = ((IpAddr, IpAddr), Option<(u16, u16)>);

/// Reads `10.0.0.1-10.0.0.9:1024-65535`; IPv6 addresses stand in brackets where ports follow.
fn parse_range(text: &str) -> Option<Range> {
    let (first, rest) = parse_addr(text)?;
    let (last, rest) = match rest.strip_prefix('-') {
        Some(rest) => parse_addr(rest)?,
        None => (first, rest),
    };
    if first.is_ipv4() != last.is_ipv4() || last < first {
        return None;
    }
    let port = |text: &str| number(text).and_then(|n| u16::try_from(n).ok());
    let ports = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        Some(ports) => match ports.split_once('-') {
            Some((low, high)) => Some((port(low)?, port(high)?)),
            None => Some((port(ports)?, port(ports)?)),
        },
    };
    match ports {
        Some((low, high)) if high < low => None,
        // Port 0 asks for none.
        ports => Some(((first, last), ports.filter(|(low, _)| *low != 0))),
    }
}

/// Reads an address; also returns what stands behind it.
fn parse_addr(text: &str) -> Option<(IpAddr, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (addr, rest) = rest.split_once(']')?;
        return Some((addr.parse::<Ipv6Addr>().ok()?.into(), rest));
    }
    let end = text.find('-').unwrap_or(text.len());
    if let Ok(addr) = text[..end].parse::<Ipv6Addr>() {
        return Some((addr.into(), &text[end..]));
    }
    let end = text.find(['-', ':']).unwrap_or(text.len());
    Some((text[..end].parse::<Ipv4Addr>().ok()?.into(), &text[end..]))
}

/// Writes a `ct` action.
pub(super) fn format_ct(ct: &Ct, syntax: &Syntax<'_>) -> String {
    let mut parts = Vec::new();
    if ct.commit {
        parts.push("commit".to_owned());
    }
    if ct.force {
        parts.push("force".to_owned());
    }
    if let Some(table) = ct.table {
        parts.push(format!("table={table}"));
    }
    match &ct.zone {
        CtZone::Number(0) => {}
        CtZone::Number(zone) => parts.push(format!("zone={zone}")),
        CtZone::Field(zone) => parts.push(format!("zone={}", format_subfield(zone))),
    }
    if let Some(nat) = &ct.nat {
        parts.push(format_nat(nat));
    }
    if !ct.exec.is_empty() {
        parts.push(format!("exec({})", format_actions(&ct.exec, syntax)));
    }
    if ct.alg != 0 {
        let name = HELPERS.iter().find(|(_, port)| *port == ct.alg);
        parts
            .push(format!("alg={}", name.map_or_else(|| ct.alg.to_string(), |(name, _)| (*name).to_owned())));
    }
    format!("ct({})", parts.join(","))
}

/// Writes a translation.
fn format_nat(nat: &Nat) -> String {
    match nat.side {
        None => "nat".to_owned(),
        Some(side) => {
            let side = if side == NatSide::Src { "src" } else { "dst" };
            let mut out = format!("nat({side}");
            nat_range(&mut out, nat);
            if nat.addrs.is_some() {
                nat_flags(&mut out, nat);
            }
            out.push(')');
            out
        }
    }
}

/// Writes `=first-last:low-high`, as far as they are given.
fn nat_range(out: &mut String, nat: &Nat) {
    let Some((first, last)) = nat.addrs else { return };
    let bracket = |addr: IpAddr| match addr {
        IpAddr::V6(addr) if nat.ports.is_some() => format!("[{addr}]"),
        addr => addr.to_string(),
    };
    out.push_str(&format!("={}", bracket(first)));
    if last != first {
        out.push_str(&format!("-{}", bracket(last)));
    }
    if let Some((low, high)) = nat.ports {
        out.push_str(&format!(":{low}"));
        if high != low {
            out.push_str(&format!("-{high}"));
        }
    }
}

/// Writes the flags, each behind a comma.
fn nat_flags(out: &mut String, nat: &Nat) {
    for (on, name) in [(nat.persistent, ",persistent"), (nat.hash, ",hash"), (nat.random, ",random")] {
        out.push_str(if on { name } else { "" });
    }
}

/// Reads what stands between the parentheses of `ct` in a list of datapath actions.
pub(super) fn parse_dp_ct(text: &str) -> Result<CtSpec> {
    let mut spec =
        CtSpec { zone: 0, commit: false, force: false, mark: None, label: None, nat: None, alg: 0 };
    for pair in pairs(text)? {
        let text = pair.text();
        let masked = |name: &str, bits: u16| -> Result<(u128, u128)> {
            match text.split_once('/') {
                Some((value, mask)) => Ok((number_of(name, value, bits)?, number_of(name, mask, bits)?)),
                None => Ok((number_of(name, text, bits)?, u128::MAX >> (128 - bits))),
            }
        };
        match pair.key {
            "commit" => spec.commit = true,
            "force_commit" => (spec.commit, spec.force) = (true, true),
            "zone" => spec.zone = int("zone", text)?,
            "mark" => spec.mark = Some(masked("mark", 32).map(|(v, m)| (v as u32, m as u32))?),
            "label" => spec.label = Some(masked("label", 128)?),
            "helper" => match HELPERS.iter().find(|(name, _)| *name == text) {
                Some((_, port)) => spec.alg = *port,
                None => return Err(bad("helper", text, "ftp or tftp")),
            },
            "nat" => spec.nat = Some(parse_nat(text)?),
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        }
    }
    Ok(spec)
}

/// Writes what a datapath does for a `ct` action.
pub(super) fn format_dp_ct(spec: &CtSpec) -> String {
    let mut parts = Vec::new();
    match (spec.commit, spec.force) {
        (true, true) => parts.push("force_commit".to_owned()),
        (true, false) => parts.push("commit".to_owned()),
        (false, _) => {}
    }
    if spec.zone != 0 {
        parts.push(format!("zone={}", spec.zone));
    }
    if let Some((value, mask)) = spec.mark {
        parts.push(format!("mark={value:#x}/{mask:#x}"));
    }
    if let Some((value, mask)) = spec.label {
        let mut part = String::from("label=");
        hex(&mut part, value);
        if mask != u128::MAX {
            part.push_str(&format!("/{mask:#x}"));
        }
        parts.push(part);
    }
    if let Some((name, _)) = HELPERS.iter().find(|(_, port)| *port == spec.alg) {
        parts.push(format!("helper={name}"));
    }
    if let Some(nat) = &spec.nat {
        parts.push(format_nat(nat));
    }
    if parts.is_empty() { "ct".to_owned() } else { format!("ct({})", parts.join(",")) }
}
