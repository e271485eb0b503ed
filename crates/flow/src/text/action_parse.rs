//! What does `set_field:10.0.0.1->ip_dst,output:2` do?

use weft_wire::EtherType;

use super::Syntax;
use super::error::{ParseError, Result, bad};
use super::lex::{Pair, pairs};
use super::value::{int, number, number_of, parse_value};
use crate::{Action, ActionError, Field, Instructions, Match, OfPort, Subfield};

/// Most actions within actions (`clone(clone(...))`).
const MAX_DEPTH: usize = 16;

/// Words for packet-in reasons (`OFPR_*`), by number.
pub(super) const REASONS: &[&str] =
    &["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];

/// Reads a list of actions, instructions such as `goto_table` not among them. `drop` and nothing mean no actions.
///
/// `mod_tp_src` and `mod_tp_dst` mean TCP; [`parse_instructions`] knows better.
///
/// # Errors
/// The first action that is unknown or wrong.
pub fn parse_actions(text: &str, syntax: &Syntax<'_>) -> Result<Vec<Action>> {
    Parser { syntax, ports: (Field::TcpSrc, Field::TcpDst) }.list(text, 0)
}

/// Reads what stands behind `actions=`: actions and instructions, in the order in which they execute. `m` is the
/// match they belong to, which tells what protocol's ports `mod_tp_dst` changes.
///
/// # Errors
/// The first action that is unknown or wrong, or an instruction out of order.
pub fn parse_instructions(text: &str, m: &Match, syntax: &Syntax<'_>) -> Result<Instructions> {
    let parser = Parser { syntax, ports: m.transport_ports() };
    let mut out = Instructions::default();
    let mut last = Stage::Apply;
    let pairs = pairs(text)?;
    if pairs.iter().any(|p| p.key == "drop") {
        return if pairs.len() == 1 { Ok(out) } else { Err(ParseError::DropNotAlone) };
    }
    for pair in &pairs {
        let stage = Stage::of(pair.key);
        if stage < last {
            return Err(ParseError::Order { late: stage.name(), early: last.name() });
        }
        last = stage;
        match stage {
            Stage::Apply => parser.action(pair, 0, &mut out.apply)?,
            Stage::Clear => out.clear = true,
            Stage::Write => out.write = parser.list(pair.text(), 0)?,
            Stage::Metadata => {
                let (value, mask) = parse_value(Field::Metadata, pair.text(), syntax)?;
                out.metadata = Some((value as u64, mask as u64));
            }
            Stage::Goto => out.goto = Some(int(pair.key, pair.text())?),
        }
    }
    Ok(out)
}

/// Instructions in the order of their execution.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Apply,
    Clear,
    Write,
    Metadata,
    Goto,
}

impl Stage {
    fn of(key: &str) -> Stage {
        match key {
            "clear_actions" => Stage::Clear,
            "write_actions" => Stage::Write,
            "write_metadata" => Stage::Metadata,
            "goto_table" => Stage::Goto,
            _ => Stage::Apply,
        }
    }
    fn name(self) -> &'static str {
        match self {
            Stage::Apply => "apply_actions",
            Stage::Clear => "clear_actions",
            Stage::Write => "write_actions",
            Stage::Metadata => "write_metadata",
            Stage::Goto => "goto_table",
        }
    }
}

struct Parser<'a> {
    syntax: &'a Syntax<'a>,
    /// Fields of source and destination port.
    ports: (Field, Field),
}

impl Parser<'_> {
    fn list(&self, text: &str, depth: usize) -> Result<Vec<Action>> {
        if depth > MAX_DEPTH {
            return Err(ParseError::TooDeep);
        }
        let pairs = pairs(text)?;
        if pairs.iter().any(|p| p.key == "drop") {
            return if pairs.len() == 1 { Ok(Vec::new()) } else { Err(ParseError::DropNotAlone) };
        }
        let mut out = Vec::new();
        for pair in &pairs {
            self.action(pair, depth, &mut out)?;
        }
        Ok(out)
    }

    fn action(&self, pair: &Pair<'_>, depth: usize, out: &mut Vec<Action>) -> Result<()> {
        let text = pair.text();
        let action = match pair.key {
            "output" if pair.parens => self.output_trunc(text)?,
            "output" => self.output(text)?,
            key if key.eq_ignore_ascii_case("controller") => self.controller(pair)?,
            "set_field" => self.set_field(text)?,
            "load" => load(text)?,
            "move" => {
                let (src, dst) = arrow(text)?;
                let (src, dst) = (subfield(src)?, writable(subfield(dst)?)?);
                if src.bits != dst.bits {
                    let problem = format!(
                        "source field is {} bits wide but destination is {} bits wide",
                        src.bits, dst.bits
                    );
                    return Err(ParseError::BadSubfield { text: text.to_owned(), problem });
                }
                Action::Move { src, dst }
            }
            "push" => Action::StackPush(subfield(text)?),
            "pop" => Action::StackPop(writable(subfield(text)?)?),
            "push_vlan" => match int(pair.key, text)? {
                tpid @ (0x8100 | 0x88a8) => Action::PushVlan(EtherType(tpid)),
                _ => return Err(bad(pair.key, text, "0x8100 or 0x88a8")),
            },
            "pop_vlan" | "strip_vlan" => Action::PopVlan,
            "mod_vlan_vid" | "set_vlan_vid" => Action::SetVlanVid(number_of(pair.key, text, 12)? as u16),
            "mod_vlan_pcp" | "set_vlan_pcp" => Action::SetVlanPcp(number_of(pair.key, text, 3)? as u8),
            "mod_dl_src" => self.set(Field::EthSrc, text)?,
            "mod_dl_dst" => self.set(Field::EthDst, text)?,
            "mod_nw_src" => self.set(Field::IpSrc, text)?,
            "mod_nw_dst" => self.set(Field::IpDst, text)?,
            "mod_nw_tos" => match int::<u8>(pair.key, text)? {
                tos if tos & 3 == 0 => whole(Field::IpDscp, (tos >> 2).into()),
                _ => return Err(bad(pair.key, text, "a multiple of 4, up to 252")),
            },
            "mod_nw_ecn" => whole(Field::NwEcn, number_of(pair.key, text, 2)?),
            "mod_nw_ttl" => self.set(Field::NwTtl, text)?,
            "mod_tp_src" => self.set(self.ports.0, text)?,
            "mod_tp_dst" => self.set(self.ports.1, text)?,
            "set_tunnel" | "set_tunnel64" => self.set(Field::TunId, text)?,
            "dec_ttl" => match pair.value {
                None | Some("" | "0") => Action::DecTtl(Vec::new()),
                Some(_) => return Err(ParseError::Unsupported("dec_ttl with controller identifiers".into())),
            },
            "resubmit" => self.resubmit(pair)?,
            "clone" => Action::Clone(self.list(text, depth + 1)?),
            "note" => Action::Note(note(text)?),
            "exit" => Action::Exit,
            "clear_actions" | "write_actions" | "write_metadata" | "goto_table" => {
                return Err(ParseError::Unsupported(format!("{} among actions", pair.key)));
            }
            key if OTHERS.contains(&key) => return Err(ParseError::Unsupported(format!("action {key}"))),
            key => match self.syntax.parse_port(key) {
                Some(port) => output(port),
                None => return Err(ParseError::UnknownAction(key.to_owned())),
            },
        };
        out.push(action);
        Ok(())
    }

    fn output(&self, text: &str) -> Result<Action> {
        if let Some(port) = self.syntax.parse_port(text) {
            return Ok(output(port));
        }
        match subfield(text) {
            Ok(src) => Ok(Action::OutputReg { src, max_len: u16::MAX }),
            Err(e) if text.contains('[') => Err(e),
            Err(_) => Err(ParseError::UnknownPort(text.to_owned())),
        }
    }

    fn output_trunc(&self, text: &str) -> Result<Action> {
        let (mut port, mut max_len) = (None, None);
        for pair in pairs(text)? {
            let unknown = || ParseError::UnknownPort(pair.text().to_owned());
            match pair.key {
                "port" => port = Some(self.syntax.parse_port(pair.text()).ok_or_else(unknown)?),
                "max_len" => max_len = Some(int::<u32>("max_len", pair.text())?),
                key => return Err(ParseError::UnknownKeyword(key.to_owned())),
            }
        }
        match (port, max_len) {
            (Some(port), Some(max_len @ 14..)) => Ok(Action::OutputTrunc { port, max_len }),
            (Some(_), Some(_)) => Err(bad("max_len", text, "at least 14 bytes")),
            (None, _) => Err(ParseError::MissingValue("port".into())),
            (_, None) => Err(ParseError::MissingValue("max_len".into())),
        }
    }

    fn controller(&self, pair: &Pair<'_>) -> Result<Action> {
        let text = pair.text();
        if !pair.parens {
            let max_len = if text.is_empty() { u16::MAX } else { int("controller", text)? };
            return Ok(Action::Output { port: OfPort::CONTROLLER, max_len });
        }
        let (mut max_len, mut id, mut reason) = (u16::MAX, 0, 1);
        for pair in pairs(text)? {
            match pair.key {
                "max_len" => max_len = int("max_len", pair.text())?,
                "id" => id = int("id", pair.text())?,
                "reason" => match REASONS.iter().position(|r| *r == pair.text()) {
                    Some(n) => reason = n as u8,
                    None => reason = int("reason", pair.text())?,
                },
                "userdata" | "pause" | "meter_id" => {
                    return Err(ParseError::Unsupported(format!("controller({})", pair.key)));
                }
                key => return Err(ParseError::UnknownKeyword(key.to_owned())),
            }
        }
        if id == 0 && reason == 1 {
            return Ok(Action::Output { port: OfPort::CONTROLLER, max_len });
        }
        Ok(Action::controller(max_len, id, reason))
    }

    fn set(&self, field: Field, text: &str) -> Result<Action> {
        let (value, mask) = parse_value(field, text, self.syntax)?;
        Ok(Action::set(field, value, mask))
    }

    fn set_field(&self, text: &str) -> Result<Action> {
        let (value, name) = arrow(text)?;
        let field = Field::by_name(name)
            .or_else(|| Field::by_point_name(name).map(|(field, _)| field))
            .ok_or_else(|| ParseError::UnknownKeyword(name.to_owned()))?;
        if !field.supported() || field.tun_metadata_index().is_some() {
            return Err(ParseError::Unsupported(field.name().to_owned()));
        }
        if !field.writable() {
            return Err(ActionError::ReadOnly(field).into());
        }
        let action = self.set(field, value)?;
        match action {
            Action::SetField { field: Field::VlanVid, value: v, mask, .. }
                if mask & 0x1000 != 0 && v & 0x1000 == 0 =>
            {
                Err(bad("vlan_vid", value, "a VID plus 4096, which says that there is a tag"))
            }
            action => Ok(action),
        }
    }

    fn resubmit(&self, pair: &Pair<'_>) -> Result<Action> {
        let text = pair.text();
        let (port, table) = if pair.parens { text.split_once(',').unwrap_or((text, "")) } else { (text, "") };
        let (table, ct) = match table.split_once(',') {
            Some((table, flag)) if flag.trim() == "ct" => (table, true),
            _ => (table, false),
        };
        let (port, table) = (port.trim(), table.trim());
        let port = match port {
            "" => None,
            _ => match self.syntax.parse_port(port) {
                Some(OfPort::IN_PORT) => None,
                Some(port) => Some(port),
                None => return Err(ParseError::UnknownPort(port.to_owned())),
            },
        };
        let table = match table {
            "" => None,
            _ => Some(int::<u8>("resubmit", table)?).filter(|t| *t != 255),
        };
        Ok(Action::Resubmit { port, table, ct })
    }
}

/// Actions of Open vSwitch that are not carried out here.
const OTHERS: &[&str] = &[
    "group",
    "meter",
    "enqueue",
    "set_queue",
    "pop_queue",
    "bundle",
    "bundle_load",
    "multipath",
    "push_mpls",
    "pop_mpls",
    "set_mpls_label",
    "set_mpls_tc",
    "set_mpls_ttl",
    "dec_mpls_ttl",
    "encap",
    "decap",
    "dec_nsh_ttl",
    "check_pkt_larger",
    "delete_field",
    "ct",
    "ct_clear",
    "learn",
    "fin_timeout",
    "conjunction",
    "sample",
];

fn output(port: OfPort) -> Action {
    Action::Output { port, max_len: if port == OfPort::CONTROLLER { u16::MAX } else { 0 } }
}

fn whole(field: Field, value: u128) -> Action {
    Action::set(field, value, field.value_mask())
}

fn arrow(text: &str) -> Result<(&str, &str)> {
    let missing = || bad("action", text, "value->field");
    text.split_once("->").map(|(a, b)| (a.trim(), b.trim())).ok_or_else(missing)
}

fn load(text: &str) -> Result<Action> {
    let (value, dst) = arrow(text)?;
    let dst = writable(subfield(dst)?)?;
    let value = number(value).ok_or_else(|| bad("load", value, "a number"))?;
    if dst.bits < 128 && value >> dst.bits != 0 {
        let problem = format!("value {value:#x} does not fit into {} bits", dst.bits);
        return Err(ParseError::BadSubfield { text: text.to_owned(), problem });
    }
    let ones = if dst.bits >= 128 { u128::MAX } else { (1 << dst.bits) - 1 };
    let mask = ones << dst.start & dst.field.value_mask();
    Ok(Action::load(dst.field, value << dst.start & mask, mask))
}

fn writable(subfield: Subfield) -> Result<Subfield> {
    if subfield.field.writable() { Ok(subfield) } else { Err(ActionError::ReadOnly(subfield.field).into()) }
}

/// Reads `NAME`, `NAME[]`, `NAME[bit]` or `NAME[first..last]`.
fn subfield(text: &str) -> Result<Subfield> {
    let fail = |problem: String| Err(ParseError::BadSubfield { text: text.to_owned(), problem });
    let (name, range) = match text.split_once('[') {
        Some((name, range)) => (name, range.strip_suffix(']')),
        None => (text, Some("")),
    };
    let Some(range) = range else { return fail("missing ] terminating bit range".into()) };
    let field = Field::by_point_name(name).map(|(field, _)| field).or_else(|| Field::by_name(name));
    let Some(field) = field else { return fail(format!("unknown field {name}")) };
    if !field.supported() || field.tun_metadata_index().is_some() {
        return Err(ParseError::Unsupported(field.name().to_owned()));
    }
    let width = field.bits();
    let (first, last) = match range.split_once("..") {
        _ if range.is_empty() => (0, width - 1),
        Some((first, last)) => (int::<u16>(name, first)?, int::<u16>(name, last)?),
        None => {
            let bit = int::<u16>(name, range)?;
            (bit, bit)
        }
    };
    if first > last {
        return fail(format!("starting bit {first} is after ending bit {last}"));
    }
    if last >= width {
        return fail(format!("ending bit {last} is not valid because field is only {width} bits wide"));
    }
    Ok(Subfield { field, start: first, bits: last - first + 1 })
}

/// Reads pairs of hexadecimal digits, with or without periods between them.
fn note(text: &str) -> Result<Vec<u8>> {
    let want = "pairs of hexadecimal digits";
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'.').collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2 && !p.starts_with('+'))?;
        u8::from_str_radix(pair, 16).ok()
    };
    digits.chunks(2).map(|pair| byte(pair).ok_or_else(|| bad("note", text, want))).collect()
}
