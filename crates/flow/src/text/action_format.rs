//! How are actions printed?

use std::fmt::Write;

use super::action_parse::REASONS;
use super::value::{format_value, hex};
use super::{Style, Syntax};
use crate::{Action, Field, Instructions, OfPort, Subfield};

/// Writes actions separated by commas; `drop` if there are none.
pub fn format_actions(actions: &[Action], syntax: &Syntax<'_>) -> String {
    let texts: Vec<String> = actions.iter().map(|a| format_action(a, syntax)).collect();
    if texts.is_empty() { "drop".to_owned() } else { texts.join(",") }
}

/// Writes what stands behind `actions=` in `ovs-ofctl dump-flows`.
pub fn format_instructions(instructions: &Instructions, syntax: &Syntax<'_>) -> String {
    let mut parts: Vec<String> = instructions.apply.iter().map(|a| format_action(a, syntax)).collect();
    if instructions.clear {
        parts.push("clear_actions".to_owned());
    }
    if !instructions.write.is_empty() {
        parts.push(format!("write_actions({})", format_actions(&instructions.write, syntax)));
    }
    if let Some((value, mask)) = instructions.metadata {
        let mut text = String::from("write_metadata:");
        format_value(&mut text, Field::Metadata, value.into(), mask.into(), syntax);
        parts.push(text);
    }
    if let Some(table) = instructions.goto {
        parts.push(format!("goto_table:{table}"));
    }
    if parts.is_empty() { "drop".to_owned() } else { parts.join(",") }
}

/// Writes one action.
pub fn format_action(action: &Action, syntax: &Syntax<'_>) -> String {
    match action {
        Action::Output { port: OfPort::CONTROLLER, max_len } => format!("CONTROLLER:{max_len}"),
        Action::Output { port, .. } if port.reserved_name().is_some() => syntax.port(*port),
        Action::Output { port, .. } => format!("output:{}", syntax.port(*port)),
        Action::OutputReg { src, .. } => format!("output:{}", subfield(src)),
        Action::OutputTrunc { port, max_len } => {
            format!("output(port={},max_len={max_len})", syntax.port(*port))
        }
        Action::Controller(to) => controller(to.max_len, to.id, to.reason),
        Action::SetField { field, value, mask, .. } => set_field(*field, *value, *mask, syntax),
        Action::Move { src, dst } => format!("move:{}->{}", subfield(src), subfield(dst)),
        Action::StackPush(src) => format!("push:{}", subfield(src)),
        Action::StackPop(dst) => format!("pop:{}", subfield(dst)),
        Action::PushVlan(tpid) => format!("push_vlan:0x{:04x}", tpid.0),
        Action::PopVlan if syntax.style == Style::OpenFlow10 => "strip_vlan".to_owned(),
        Action::PopVlan => "pop_vlan".to_owned(),
        Action::SetVlanVid(vid) => format!("mod_vlan_vid:{vid}"),
        Action::SetVlanPcp(pcp) => format!("mod_vlan_pcp:{pcp}"),
        Action::DecTtl(_) => "dec_ttl".to_owned(),
        Action::Resubmit { port: Some(port), table: None, .. } => format!("resubmit:{}", syntax.port(*port)),
        Action::Resubmit { port, table, ct } => {
            let port = port.map(|p| syntax.port(p)).unwrap_or_default();
            let table = table.map(|t| t.to_string()).unwrap_or_default();
            format!("resubmit({port},{table}{})", if *ct { ",ct" } else { "" })
        }
        Action::Clone(actions) => format!("clone({})", format_actions(actions, syntax)),
        Action::Note(bytes) => {
            let bytes: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("note:{}", bytes.join("."))
        }
        Action::Exit => "exit".to_owned(),
        other => format!("{other:?}"),
    }
}

fn controller(max_len: u16, id: u16, reason: u8) -> String {
    if id == 0 && reason == 1 {
        return format!("CONTROLLER:{max_len}");
    }
    let mut parts = Vec::new();
    if reason != 1 {
        let name = REASONS.get(usize::from(reason)).map_or_else(|| reason.to_string(), |r| (*r).to_owned());
        parts.push(format!("reason={name}"));
    }
    if max_len != u16::MAX {
        parts.push(format!("max_len={max_len}"));
    }
    if id != 0 {
        parts.push(format!("id={id}"));
    }
    format!("controller({})", parts.join(","))
}

/// Writes `NAME[]`, `NAME[bit]` or `NAME[first..last]`.
fn subfield(s: &Subfield) -> String {
    let name = s.field.nxm().map_or(s.field.name(), |p| p.name);
    match s.bits {
        bits if s.start == 0 && bits == s.field.bits() => format!("{name}[]"),
        1 => format!("{name}[{}]", s.start),
        bits => format!("{name}[{}..{}]", s.start, s.start + bits.saturating_sub(1)),
    }
}

fn set_field(field: Field, value: u128, mask: u128, syntax: &Syntax<'_>) -> String {
    let whole = mask == field.value_mask();
    if field == Field::NwTtl && whole && syntax.style == Style::OpenFlow15 {
        return format!("mod_nw_ttl:{value}");
    }
    if syntax.style == Style::OpenFlow10 {
        return set_openflow10(field, value, mask, whole, syntax);
    }
    let mut out = String::from("set_field:");
    format_value(&mut out, field, value, mask, syntax);
    let _ = write!(out, "->{}", field.name());
    out
}

fn set_openflow10(field: Field, value: u128, mask: u128, whole: bool, syntax: &Syntax<'_>) -> String {
    let word = match field {
        Field::EthSrc => "mod_dl_src",
        Field::EthDst => "mod_dl_dst",
        Field::IpSrc => "mod_nw_src",
        Field::IpDst => "mod_nw_dst",
        Field::IpDscp => "mod_nw_tos",
        Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => "mod_tp_src",
        Field::TcpDst | Field::UdpDst | Field::SctpDst => "mod_tp_dst",
        _ => "",
    };
    if whole && !word.is_empty() {
        if field == Field::IpDscp {
            return format!("{word}:{}", value << 2);
        }
        let mut out = format!("{word}:");
        format_value(&mut out, field, value, mask, syntax);
        return out;
    }
    let all = if field.bits() >= 128 { u128::MAX } else { (1 << field.bits()) - 1 };
    let loads: Vec<String> = runs(if whole { all } else { mask })
        .map(|(start, bits)| {
            let ones = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
            let mut out = String::from("load:");
            hex(&mut out, value >> start & ones);
            let _ = write!(out, "->{}", subfield(&Subfield { field, start, bits }));
            out
        })
        .collect();
    loads.join(",")
}

/// The runs of ones in a mask, lowest first, as start and length; none is longer than 64 bits, which is what a
/// register load of the Nicira extensions carries.
fn runs(mut mask: u128) -> impl Iterator<Item = (u16, u16)> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let start = mask.trailing_zeros();
        let bits = (mask >> start).trailing_ones().min(64);
        mask &= !(u128::from(u64::MAX >> (64 - bits)) << start);
        Some((start as u16, bits as u16))
    })
}
