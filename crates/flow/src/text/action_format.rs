//! How are actions printed?

use std::fmt::Write;

use super::controller::{dotted, format_controller, format_sample};
use super::ct::format_ct;
use super::encap::{format_decap, format_encap};
use super::learn::format_learn;
use super::links::{format_bundle, format_multipath};
use super::subfield::format_subfield;
use super::value::{format_option, format_value, hex};
use super::{Style, Syntax};
use crate::{Action, Field, Instructions, OfPort, Subfield};

/// Writes actions separated by commas; `drop` if there are none.
pub fn format_actions(actions: &[Action], syntax: &Syntax<'_>) -> String {
    let texts: Vec<String> = actions.iter().map(|a| format_action(a, syntax)).collect();
    if texts.is_empty() { "drop".to_owned() } else { texts.join(",") }
}

/// Writes what stands behind `actions=` in `ovs-ofctl dump-flows`.
pub fn format_instructions(instructions: &Instructions, syntax: &Syntax<'_>) -> String {
    let mut parts = Vec::new();
    if let Some(meter) = instructions.meter {
        parts.push(format!("meter:{meter}"));
    }
    parts.extend(instructions.apply.iter().map(|a| format_action(a, syntax)));
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
        Action::OutputReg { src, .. } => format!("output:{}", format_subfield(src)),
        Action::OutputTrunc { port, max_len } => {
            format!("output(port={},max_len={max_len})", syntax.port(*port))
        }
        Action::Controller(to) => format_controller(to),
        Action::SetField { field, value, mask, load } => set_field(*field, *value, *mask, *load, syntax),
        Action::SetOption(option) => {
            let mut out = String::from("set_field:");
            format_option(&mut out, option);
            let _ = write!(out, "->{}", option.field.name());
            out
        }
        Action::DeleteField(field) => format!("delete_field:{}", field.name()),
        Action::Move { src, dst } => format!("move:{}->{}", format_subfield(src), format_subfield(dst)),
        Action::StackPush(src) => format!("push:{}", format_subfield(src)),
        Action::StackPop(dst) => format!("pop:{}", format_subfield(dst)),
        Action::Group(id) => format!("group:{id}"),
        Action::Meter(id) => format!("meter:{id}"),
        Action::Multipath(multipath) => format_multipath(multipath),
        Action::Bundle(bundle) => format_bundle(bundle, syntax),
        Action::Learn(learn) => format_learn(learn, syntax),
        Action::Conjunction { id, clause, clauses } => {
            format!("conjunction({id},{}/{clauses})", u16::from(*clause) + 1)
        }
        Action::FinTimeout { idle, hard } => {
            let part = |name: &str, value: u16| (value != 0).then(|| format!("{name}={value}"));
            let parts: Vec<_> =
                part("idle_timeout", *idle).into_iter().chain(part("hard_timeout", *hard)).collect();
            format!("fin_timeout({})", parts.join(","))
        }
        Action::Sample(sample) => format_sample(sample, syntax),
        Action::Ct(ct) => format_ct(ct, syntax),
        Action::CtClear => "ct_clear".to_owned(),
        Action::CheckPktLarger { len, dst } => format!("check_pkt_larger({len})->{}", format_subfield(dst)),
        Action::Encap(encap) => format_encap(encap),
        Action::Decap(packet_type) => format_decap(*packet_type),
        Action::Enqueue { port, queue } => format!("enqueue:{}:{queue}", syntax.port(*port)),
        Action::SetQueue(queue) => format!("set_queue:{queue}"),
        Action::PopQueue => "pop_queue".to_owned(),
        Action::Resubmit { port: Some(port), table: None, ct: false } => {
            format!("resubmit:{}", syntax.port(*port))
        }
        Action::Resubmit { port, table, ct } => {
            let port = port.map(|p| syntax.port(p)).unwrap_or_default();
            let table = table.map(|t| t.to_string()).unwrap_or_default();
            format!("resubmit({port},{table}{})", if *ct { ",ct" } else { "" })
        }
        Action::Clone(actions) => format!("clone({})", format_actions(actions, syntax)),
        Action::Note(bytes) => format!("note:{}", dotted(bytes)),
        Action::Exit => "exit".to_owned(),
        Action::PushVlan(_)
        | Action::PopVlan
        | Action::SetVlanVid(_)
        | Action::SetVlanPcp(_)
        | Action::SetTpPort { .. }
        | Action::DecTtl(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::DecNshTtl
        | Action::CopyTtlOut
        | Action::CopyTtlIn => header(action, syntax),
    }
}

/// Writes what changes a header under a name of its own.
fn header(action: &Action, syntax: &Syntax<'_>) -> String {
    match action {
        Action::PushVlan(tpid) => format!("push_vlan:0x{:04x}", tpid.0),
        Action::PopVlan if syntax.style == Style::OpenFlow10 => "strip_vlan".to_owned(),
        Action::PopVlan => "pop_vlan".to_owned(),
        Action::SetVlanVid(vid) => format!("mod_vlan_vid:{vid}"),
        Action::SetVlanPcp(pcp) => format!("mod_vlan_pcp:{pcp}"),
        Action::SetTpPort { dst: false, port } => format!("mod_tp_src:{port}"),
        Action::SetTpPort { dst: true, port } => format!("mod_tp_dst:{port}"),
        Action::DecTtl(ids) if ids.is_empty() => "dec_ttl".to_owned(),
        Action::DecTtl(ids) => {
            let ids: Vec<String> = ids.iter().map(u16::to_string).collect();
            format!("dec_ttl({})", ids.join(","))
        }
        Action::PushMpls(ty) => format!("push_mpls:0x{:04x}", ty.0),
        Action::PopMpls(ty) => format!("pop_mpls:0x{:04x}", ty.0),
        Action::DecMplsTtl => "dec_mpls_ttl".to_owned(),
        Action::DecNshTtl => "dec_nsh_ttl".to_owned(),
        Action::CopyTtlOut => "copy_ttl_out".to_owned(),
        _ => "copy_ttl_in".to_owned(),
    }
}

fn set_field(field: Field, value: u128, mask: u128, load: bool, syntax: &Syntax<'_>) -> String {
    let whole = mask == field.value_mask();
    if field == Field::NwTtl && whole && !load && syntax.style == Style::OpenFlow15 {
        return format!("mod_nw_ttl:{value}");
    }
    if field == Field::MplsTtl && whole && !load {
        return format!("set_mpls_ttl({value})");
    }
    if syntax.style == Style::OpenFlow10 && !load {
        return set_openflow10(field, value, mask, whole, syntax);
    }
    // A load is of one run of bits; what is not was never given as one.
    if let Some(dst) = run_of(field, mask).filter(|_| load) {
        let mut out = String::from("load:");
        hex(&mut out, value >> dst.start);
        let _ = write!(out, "->{}", format_subfield(&dst));
        return out;
    }
    let mut out = String::from("set_field:");
    format_value(&mut out, field, value, mask, syntax);
    let _ = write!(out, "->{}", field.name());
    out
}

/// The bits of a mask as a subfield, if they are one run. The bits of `nw_tos`, `vlan_vid` and the like that a value
/// has beside the field's own count as the field's.
fn run_of(field: Field, mask: u128) -> Option<Subfield> {
    if mask == field.value_mask() && field.bits() <= 128 {
        return Some(Subfield { field, start: 0, bits: field.bits() });
    }
    let start = mask.trailing_zeros();
    let bits = mask.checked_shr(start)?.trailing_ones();
    let rest = mask.checked_shr(start + bits).unwrap_or(0);
    let inside = start + bits <= field.bits().into();
    (bits > 0 && rest == 0 && inside).then_some(Subfield { field, start: start as u16, bits: bits as u16 })
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
        Field::MplsLabel if whole => return format!("set_mpls_label({value})"),
        Field::MplsTc if whole => return format!("set_mpls_tc({value})"),
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
            let _ = write!(out, "->{}", format_subfield(&Subfield { field, start, bits }));
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
