//! How is `learn(...)` written?

use std::fmt::Write;

use super::Syntax;
use super::error::{ParseError, Result, bad};
use super::lex::{Pair, pairs};
use super::subfield::{arrow, fits, format_subfield, parse_bit, parse_subfield, same_width};
use super::value::{format_value, hex, int, number, number_of, parse_value};
use crate::{Action, Field, Learn, LearnDst, LearnSpec, LearnSrc, Subfield};

/// Priority of learned rules unless given.
const DEFAULT_PRIORITY: u16 = 0x8000;

/// Reads what stands between the parentheses of `learn`.
pub(super) fn parse_learn(text: &str, syntax: &Syntax<'_>) -> Result<Action> {
    let mut learn = Learn {
        idle_timeout: 0,
        hard_timeout: 0,
        priority: DEFAULT_PRIORITY,
        table: 1,
        cookie: 0,
        fin_timeout: (0, 0),
        send_flow_rem: false,
        delete_learned: false,
        limit: 0,
        result: None,
        specs: Vec::new(),
    };
    for pair in pairs(text)? {
        let text = pair.text();
        match pair.key {
            "table" => match int("table", text)? {
                255 => return Err(bad("table", text, "a table from 0 to 254")),
                table => learn.table = table,
            },
            "priority" => learn.priority = int(pair.key, text)?,
            "idle_timeout" => learn.idle_timeout = int(pair.key, text)?,
            "hard_timeout" => learn.hard_timeout = int(pair.key, text)?,
            "fin_idle_timeout" => learn.fin_timeout.0 = int(pair.key, text)?,
            "fin_hard_timeout" => learn.fin_timeout.1 = int(pair.key, text)?,
            "cookie" => learn.cookie = number_of(pair.key, text, 64)? as u64,
            "send_flow_rem" => learn.send_flow_rem = true,
            "delete_learned" => learn.delete_learned = true,
            "limit" => learn.limit = int(pair.key, text)?,
            "result_dst" => learn.result = Some(parse_bit(text)?),
            _ => learn.specs.push(parse_spec(&pair, syntax)?),
        }
    }
    Ok(Action::Learn(Box::new(learn)))
}

fn parse_spec(pair: &Pair<'_>, syntax: &Syntax<'_>) -> Result<LearnSpec> {
    let text = pair.text();
    match pair.key {
        "output" => {
            let src = parse_subfield(text)?;
            Ok(LearnSpec { src: LearnSrc::Field(src), dst: LearnDst::Output(src.bits) })
        }
        "load" => {
            let (value, dst) = arrow(text)?;
            let dst = parse_subfield(dst)?;
            let src = match number(value) {
                Some(value) => {
                    fits(text, value, &dst)?;
                    LearnSrc::Value(value)
                }
                None => {
                    let src = parse_subfield(value)?;
                    same_width(text, &src, &dst)?;
                    LearnSrc::Field(src)
                }
            };
            Ok(LearnSpec { src, dst: LearnDst::Load(dst) })
        }
        name => {
            let known =
                name.contains('[') || Field::by_name(name).is_some() || Field::by_point_name(name).is_some();
            if !known {
                return Err(ParseError::UnknownKeyword(name.to_owned()));
            }
            parse_match_spec(name, pair.value, syntax)
        }
    }
}

/// Reads `field=value`, `field=field`, or `field` alone, which is matched as the packet has it.
fn parse_match_spec(name: &str, value: Option<&str>, syntax: &Syntax<'_>) -> Result<LearnSpec> {
    let dst = parse_subfield(name)?;
    let field = dst.field;
    if field.nxm().is_none_or(|p| p.class == 0xffff) {
        return Err(ParseError::Unsupported(format!("{name} in learn")));
    }
    let text = value.unwrap_or("");
    let src = if text.is_empty() {
        LearnSrc::Field(dst)
    } else if let Ok(src) = parse_subfield(text) {
        same_width(text, &src, &dst)?;
        LearnSrc::Field(src)
    } else if is_whole(&dst) {
        let (value, mask) = parse_value(field, text, syntax)?;
        if mask != field.value_mask() {
            return Err(ParseError::BadMask { field, text: text.to_owned() });
        }
        LearnSrc::Value(value)
    } else {
        let value = number(text).ok_or_else(|| bad(name, text, "a number"))?;
        fits(text, value, &dst)?;
        LearnSrc::Value(value)
    };
    Ok(LearnSpec { src, dst: LearnDst::Match(dst) })
}

fn is_whole(s: &Subfield) -> bool {
    s.start == 0 && s.bits == s.field.bits()
}

/// Writes a `learn` action.
pub(super) fn format_learn(learn: &Learn, syntax: &Syntax<'_>) -> String {
    let mut out = format!("learn(table={}", learn.table);
    let numbers = [
        ("idle_timeout", learn.idle_timeout, 0),
        ("hard_timeout", learn.hard_timeout, 0),
        ("fin_idle_timeout", learn.fin_timeout.0, 0),
        ("fin_hard_timeout", learn.fin_timeout.1, 0),
        ("priority", learn.priority, DEFAULT_PRIORITY),
    ];
    for (name, value, default) in numbers {
        if value != default {
            let _ = write!(out, ",{name}={value}");
        }
    }
    for (on, name) in [(learn.send_flow_rem, ",send_flow_rem"), (learn.delete_learned, ",delete_learned")] {
        out.push_str(if on { name } else { "" });
    }
    if learn.cookie != 0 {
        let _ = write!(out, ",cookie={:#x}", learn.cookie);
    }
    if learn.limit != 0 {
        let _ = write!(out, ",limit={}", learn.limit);
    }
    if let Some(result) = &learn.result {
        let _ = write!(out, ",result_dst={}", format_subfield(result));
    }
    for spec in &learn.specs {
        out.push(',');
        format_spec(&mut out, spec, syntax);
    }
    out.push(')');
    out
}

fn format_spec(out: &mut String, spec: &LearnSpec, syntax: &Syntax<'_>) {
    let value = |value: u128| {
        let mut text = String::new();
        hex(&mut text, value);
        text
    };
    let src = match &spec.src {
        LearnSrc::Field(src) => format_subfield(src),
        LearnSrc::Value(n) => value(*n),
    };
    match (&spec.dst, &spec.src) {
        (LearnDst::Output(_), _) => {
            let _ = write!(out, "output:{src}");
        }
        (LearnDst::Load(dst), _) => {
            let _ = write!(out, "load:{src}->{}", format_subfield(dst));
        }
        (LearnDst::Match(dst), LearnSrc::Field(src)) if src == dst => out.push_str(&format_subfield(dst)),
        (LearnDst::Match(dst), LearnSrc::Value(n)) if is_whole(dst) && dst.field.bits() <= 128 => {
            let _ = write!(out, "{}=", dst.field.name());
            format_value(out, dst.field, *n, dst.field.value_mask(), syntax);
        }
        (LearnDst::Match(dst), _) if is_whole(dst) && matches!(spec.src, LearnSrc::Value(_)) => {
            let _ = write!(out, "{}={src}", dst.field.name());
        }
        (LearnDst::Match(dst), _) => {
            let _ = write!(out, "{}={src}", format_subfield(dst));
        }
    }
}
