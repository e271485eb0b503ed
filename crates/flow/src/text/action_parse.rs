//! What does `set_field:10.0.0.1->ip_dst,output:2` do?

use weft_wire::EtherType;

use super::controller::{parse_controller, parse_sample};
use super::ct::parse_ct;
use super::encap::{parse_decap, parse_encap};
use super::error::{ParseError, Result, bad};
use super::learn::parse_learn;
use super::lex::{Pair, pairs};
use super::links::{parse_bundle, parse_multipath};
use super::subfield::{arrow, fits, parse_bit, parse_subfield, parse_writable, same_width};
use super::value::{hex_bytes, int, number, number_of, parse_option, parse_value};
use super::{Style, Syntax};
use crate::{Action, ActionError, Field, Instructions, Match, OfPort, OptionValue, Prereq};

/// Most actions within actions (`clone(clone(...))`).
const MAX_DEPTH: usize = 16;
/// Most bits that `load` can set in a field that is wider than a number here.
const LOAD_BITS: u16 = 128;

/// Reads a list of actions, instructions such as `goto_table` not among them. `drop` and nothing mean no actions.
///
/// # Errors
/// The first action that is unknown or wrong.
pub fn parse_actions(text: &str, syntax: &Syntax<'_>) -> Result<Vec<Action>> {
    Parser { syntax, ports: None }.list(text, 0)
}

/// Reads what stands behind `actions=`: actions and instructions, in the order in which they execute. `m` is the
/// match they belong to, which may tell what protocol's ports `mod_tp_dst` changes.
///
/// # Errors
/// The first action that is unknown or wrong, or an instruction out of order.
pub fn parse_instructions(text: &str, m: &Match, syntax: &Syntax<'_>) -> Result<Instructions> {
    let known = [Prereq::Tcp, Prereq::Udp, Prereq::Sctp].iter().any(|p| m.meets(*p));
    let parser = Parser { syntax, ports: known.then(|| m.transport_ports()) };
    let mut out = Instructions::default();
    let mut last = None;
    let pairs = pairs(text)?;
    if pairs.iter().any(|p| p.key == "drop") {
        return if pairs.len() == 1 { Ok(out) } else { Err(ParseError::DropNotAlone) };
    }
    for pair in &pairs {
        let stage = Stage::of(pair.key);
        if let Some(last) = last {
            if stage < last {
                return Err(ParseError::Order { late: stage.name(), early: last.name() });
            }
            if stage == last && stage != Stage::Apply {
                return Err(ParseError::Twice(stage.name()));
            }
        }
        last = Some(stage);
        match stage {
            Stage::Meter => out.meter = Some(int(pair.key, pair.text())?),
            Stage::Apply => {
                parser.has_tag(pair, m, out.apply.iter())?;
                parser.action(pair, 0, &mut out.apply)?;
            }
            Stage::Clear => out.clear = true,
            Stage::Write => {
                out.write = parser.list(pair.text(), 0)?;
                for (i, pair) in list_pairs(pair.text())?.iter().enumerate() {
                    parser.has_tag(pair, m, out.apply.iter().chain(&out.write[..i]))?;
                }
            }
            Stage::Metadata => {
                let (value, mask) = parse_value(Field::Metadata, pair.text(), syntax)?;
                out.metadata = Some((value as u64, mask as u64));
            }
            Stage::Goto => out.goto = Some(int(pair.key, pair.text())?),
        }
    }
    Ok(out)
}

/// Whether packets that `m` matches have a VLAN tag after these actions.
fn is_tagged<'a>(m: &Match, actions: impl Iterator<Item = &'a Action>) -> bool {
    actions.fold(m.meets(Prereq::Vlan), |tagged, action| match action {
        Action::PushVlan(_) | Action::SetVlanVid(_) | Action::SetVlanPcp(_) => true,
        Action::PopVlan => false,
        _ => tagged,
    })
}

/// Instructions in the order of their execution.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Meter,
    Apply,
    Clear,
    Write,
    Metadata,
    Goto,
}

impl Stage {
    fn of(key: &str) -> Stage {
        match key {
            "meter" => Stage::Meter,
            "clear_actions" => Stage::Clear,
            "write_actions" => Stage::Write,
            "write_metadata" => Stage::Metadata,
            "goto_table" => Stage::Goto,
            _ => Stage::Apply,
        }
    }
    fn name(self) -> &'static str {
        match self {
            Stage::Meter => "meter",
            Stage::Apply => "apply_actions",
            Stage::Clear => "clear_actions",
            Stage::Write => "write_actions",
            Stage::Metadata => "write_metadata",
            Stage::Goto => "goto_table",
        }
    }
}

/// Reads lists of actions.
pub(super) struct Parser<'a> {
    pub(super) syntax: &'a Syntax<'a>,
    /// Fields of source and destination port, where the match says which they are.
    ports: Option<(Field, Field)>,
}

impl Parser<'_> {
    /// Reads a list that is this deep within others.
    pub(super) fn list(&self, text: &str, depth: usize) -> Result<Vec<Action>> {
        if depth > MAX_DEPTH {
            return Err(ParseError::TooDeep);
        }
        let mut out = Vec::new();
        for pair in &list_pairs(text)? {
            self.action(pair, depth, &mut out)?;
        }
        Ok(out)
    }

    /// Refuses to change a tag that packets may lack; OpenFlow 1.0 pushes one.
    fn has_tag<'a>(
        &self,
        pair: &Pair<'_>,
        m: &Match,
        before: impl Iterator<Item = &'a Action>,
    ) -> Result<()> {
        let changes = matches!(pair.key, "set_vlan_vid" | "set_vlan_pcp");
        if changes && self.syntax.style != Style::OpenFlow10 && !is_tagged(m, before) {
            return Err(ParseError::Action(ActionError::Prerequisite(Field::VlanVid)));
        }
        Ok(())
    }

    fn action(&self, pair: &Pair<'_>, depth: usize, out: &mut Vec<Action>) -> Result<()> {
        let text = pair.text();
        let action = match pair.key {
            "set_field" => self.set_field(text)?,
            "load" => load(text)?,
            "move" => parse_move(text)?,
            "push" => Action::StackPush(parse_subfield(text)?),
            "pop" => Action::StackPop(parse_writable(text)?),
            "delete_field" => Action::DeleteField(parse_subfield(text)?.field),
            "group" => Action::Group(int(pair.key, text)?),
            "meter" => Action::Meter(int(pair.key, text)?),
            "multipath" => parse_multipath(text)?,
            "bundle" => parse_bundle(text, false, self.syntax)?,
            "bundle_load" => parse_bundle(text, true, self.syntax)?,
            "learn" => parse_learn(text, self.syntax)?,
            "conjunction" => parse_conjunction(text)?,
            "fin_timeout" => parse_fin_timeout(text)?,
            "sample" => parse_sample(text, self.syntax)?,
            "ct" => parse_ct(text, self, depth)?,
            "ct_clear" => Action::CtClear,
            "check_pkt_larger" => parse_check_pkt_larger(pair)?,
            "encap" => parse_encap(text)?,
            "decap" => parse_decap(text)?,
            "resubmit" => self.resubmit(pair)?,
            "clone" => Action::Clone(self.list(text, depth + 1)?),
            "note" => Action::Note(note(text)?),
            "exit" => Action::Exit,
            "clear_actions" | "write_actions" | "write_metadata" | "goto_table" => {
                return Err(ParseError::Unsupported(format!("{} among actions", pair.key)));
            }
            "nat" => return Err(ParseError::Unsupported("nat outside of ct".to_owned())),
            "apply_actions" | "debug_recirc" | "debug_slow" | "unroll_xlate" => {
                return Err(ParseError::Unsupported(format!("action {}", pair.key)));
            }
            _ => match self.output(pair)? {
                Some(action) => action,
                None => match self.header(pair)? {
                    Some(action) => action,
                    None => return Err(ParseError::UnknownAction(pair.key.to_owned())),
                },
            },
        };
        out.push(action);
        Ok(())
    }

    /// Reads what sends somewhere, or chooses a queue. `None`: it is something else.
    fn output(&self, pair: &Pair<'_>) -> Result<Option<Action>> {
        let text = pair.text();
        Ok(Some(match pair.key {
            "output" if pair.parens => self.output_trunc(text)?,
            "output" => self.output_port(text)?,
            key if key.eq_ignore_ascii_case("controller") => parse_controller(pair)?,
            "enqueue" => {
                let separator = if pair.parens { ',' } else { ':' };
                let wrong = || bad("enqueue", text, "port:queue or (port,queue)");
                let (port, queue) = text.split_once(separator).ok_or_else(wrong)?;
                let port = port.trim();
                let unknown = || ParseError::UnknownPort(port.to_owned());
                let port = self.syntax.parse_port(port).ok_or_else(unknown)?;
                Action::Enqueue { port, queue: int(pair.key, queue.trim())? }
            }
            "set_queue" => Action::SetQueue(int(pair.key, text)?),
            "pop_queue" => Action::PopQueue,
            key => match self.syntax.parse_port(key) {
                Some(port) if pair.value.is_none() => plain_output(port),
                _ => return Ok(None),
            },
        }))
    }

    /// Reads what changes a header under a name of its own. `None`: it is something else.
    fn header(&self, pair: &Pair<'_>) -> Result<Option<Action>> {
        let (key, text) = (pair.key, pair.text());
        Ok(Some(match key {
            "push_vlan" => match int(key, text)? {
                tpid @ (0x8100 | 0x88a8) => Action::PushVlan(EtherType(tpid)),
                _ => return Err(bad(key, text, "0x8100 or 0x88a8")),
            },
            "pop_vlan" | "strip_vlan" => Action::PopVlan,
            "mod_vlan_vid" | "set_vlan_vid" => Action::SetVlanVid(number_of(key, text, 12)? as u16),
            "mod_vlan_pcp" | "set_vlan_pcp" => Action::SetVlanPcp(number_of(key, text, 3)? as u8),
            "push_mpls" => match int(key, text)? {
                ty @ (0x8847 | 0x8848) => Action::PushMpls(EtherType(ty)),
                _ => return Err(bad(key, text, "0x8847 or 0x8848")),
            },
            "pop_mpls" => Action::PopMpls(EtherType(int(key, text)?)),
            "set_mpls_label" => whole(Field::MplsLabel, number_of(key, text, 20)?),
            "set_mpls_tc" => whole(Field::MplsTc, number_of(key, text, 3)?),
            "set_mpls_ttl" => whole(Field::MplsTtl, number_of(key, text, 8)?),
            "dec_mpls_ttl" => Action::DecMplsTtl,
            "dec_nsh_ttl" => Action::DecNshTtl,
            "copy_ttl_out" => Action::CopyTtlOut,
            "copy_ttl_in" => Action::CopyTtlIn,
            "mod_dl_src" => self.set(Field::EthSrc, text)?,
            "mod_dl_dst" => self.set(Field::EthDst, text)?,
            "mod_nw_src" | "mod_nw_dst" if text.contains('/') => {
                return Err(bad(key, text, "an address without a mask"));
            }
            "mod_nw_src" => self.set(Field::IpSrc, text)?,
            "mod_nw_dst" => self.set(Field::IpDst, text)?,
            "mod_nw_tos" => match int::<u8>(key, text)? {
                tos if tos & 3 == 0 => whole(Field::IpDscp, (tos >> 2).into()),
                _ => return Err(bad(key, text, "a multiple of 4, up to 252")),
            },
            "mod_nw_ecn" => whole(Field::NwEcn, number_of(key, text, 2)?),
            "mod_nw_ttl" => self.set(Field::NwTtl, text)?,
            "mod_tp_src" | "mod_tp_dst" => {
                let (port, dst): (u16, _) = (int(key, text)?, key == "mod_tp_dst");
                match self.ports {
                    Some(fields) => whole(if dst { fields.1 } else { fields.0 }, port.into()),
                    None => Action::SetTpPort { dst, port },
                }
            }
            "set_tunnel" | "set_tunnel64" => self.set(Field::TunId, text)?,
            "dec_ttl" => {
                let ids = text.split([',', ' ']).filter(|id| !id.is_empty());
                Action::DecTtl(ids.map(|id| int(key, id)).collect::<Result<_>>()?)
            }
            _ => return Ok(None),
        }))
    }

    fn output_port(&self, text: &str) -> Result<Action> {
        if let Some(port) = self.syntax.parse_port(text) {
            return Ok(plain_output(port));
        }
        match parse_subfield(text) {
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
            (Some(port), Some(max_len @ 14..)) if port.may_truncate() => {
                Ok(Action::OutputTrunc { port, max_len })
            }
            (Some(_), Some(14..)) => Err(bad("port", text, "a port that one packet goes to")),
            (Some(_), Some(_)) => Err(bad("max_len", text, "at least 14 bytes")),
            (None, _) => Err(ParseError::MissingValue("port".into())),
            (_, None) => Err(ParseError::MissingValue("max_len".into())),
        }
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
        if !field.supported() {
            return Err(ParseError::Unsupported(field.name().to_owned()));
        }
        if !field.writable() {
            return Err(ActionError::ReadOnly(field).into());
        }
        if field.tun_metadata_index().is_some() {
            return Ok(Action::SetOption(Box::new(parse_option(field, value)?)));
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
        if port.is_none() && table.is_none() {
            return Err(bad("resubmit", text, "a port or a table"));
        }
        Ok(Action::Resubmit { port, table, ct })
    }
}

/// The actions of a list, one each; `drop` is none.
fn list_pairs(text: &str) -> Result<Vec<Pair<'_>>> {
    let pairs = pairs(text)?;
    if !pairs.iter().any(|p| p.key == "drop") {
        return Ok(pairs);
    }
    if pairs.len() == 1 { Ok(Vec::new()) } else { Err(ParseError::DropNotAlone) }
}

fn plain_output(port: OfPort) -> Action {
    Action::Output { port, max_len: if port == OfPort::CONTROLLER { u16::MAX } else { 0 } }
}

fn whole(field: Field, value: u128) -> Action {
    Action::set(field, value, field.value_mask())
}

fn parse_move(text: &str) -> Result<Action> {
    let (src, dst) = arrow(text)?;
    let (src, dst) = (parse_subfield(src)?, parse_writable(dst)?);
    same_width(text, &src, &dst)?;
    Ok(Action::Move { src, dst })
}

fn load(text: &str) -> Result<Action> {
    let (value, dst) = arrow(text)?;
    let dst = parse_writable(dst)?;
    let value = number(value).ok_or_else(|| bad("load", value, "a number"))?;
    fits(text, value, &dst)?;
    let ones = if dst.bits >= 128 { u128::MAX } else { (1 << dst.bits) - 1 };
    if dst.field.tun_metadata_index().is_some() {
        if dst.start.saturating_add(dst.bits.min(LOAD_BITS)) > LOAD_BITS {
            return Err(bad("load", text, "a subfield within the lowest 128 bits"));
        }
        let (value, mask) = ((value << dst.start).to_be_bytes(), (ones << dst.start).to_be_bytes());
        let option = OptionValue::masked(dst.field, &value, &mask);
        return Ok(Action::SetOption(Box::new(option)));
    }
    let mask = ones << dst.start & dst.field.value_mask();
    Ok(Action::load(dst.field, value << dst.start & mask, mask))
}

/// Reads `id,clause/clauses`, clauses being counted from 1.
fn parse_conjunction(text: &str) -> Result<Action> {
    let wrong = || bad("conjunction", text, "id,clause/clauses, of 2 to 64 clauses");
    let (id, clause) = text.split_once(',').ok_or_else(wrong)?;
    let (clause, clauses) = clause.split_once('/').ok_or_else(wrong)?;
    let (clause, clauses): (u8, u8) = (int("clause", clause.trim())?, int("clauses", clauses.trim())?);
    if !(2..=64).contains(&clauses) || !(1..=clauses).contains(&clause) {
        return Err(wrong());
    }
    Ok(Action::Conjunction { id: int("conjunction", id.trim())?, clause: clause - 1, clauses })
}

fn parse_fin_timeout(text: &str) -> Result<Action> {
    let (mut idle, mut hard) = (0, 0);
    for pair in pairs(text)? {
        match pair.key {
            "idle_timeout" => idle = int(pair.key, pair.text())?,
            "hard_timeout" => hard = int(pair.key, pair.text())?,
            key => return Err(ParseError::UnknownKeyword(key.to_owned())),
        }
    }
    Ok(Action::FinTimeout { idle, hard })
}

/// Reads `check_pkt_larger(1500)->reg0[0]`, with a colon in place of the parentheses too.
fn parse_check_pkt_larger(pair: &Pair<'_>) -> Result<Action> {
    let (len, dst) = match pair.target {
        Some(target) => (pair.text(), target),
        None => arrow(pair.text())?,
    };
    Ok(Action::CheckPktLarger { len: int(pair.key, len.trim())?, dst: parse_bit(dst)? })
}

/// Reads pairs of hexadecimal digits, with or without periods between them.
fn note(text: &str) -> Result<Vec<u8>> {
    hex_bytes(&text.replace('.', "")).ok_or_else(|| bad("note", text, "pairs of hexadecimal digits"))
}
