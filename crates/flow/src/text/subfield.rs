//! What does `NXM_NX_REG0[8..15]` name?

use super::error::{ParseError, Result};
use super::value::int;
use crate::{ActionError, Field, Subfield};

/// Reads `NAME`, `NAME[]`, `NAME[bit]` or `NAME[first..last]`, where the name is a field's own or one of its names in
/// OXM and NXM.
pub fn parse_subfield(text: &str) -> Result<Subfield> {
    let fail = |problem: String| Err(ParseError::BadSubfield { text: text.to_owned(), problem });
    let (name, range) = match text.split_once('[') {
        Some((name, range)) => (name, range.strip_suffix(']')),
        None => (text, Some("")),
    };
    let Some(range) = range else { return fail("missing ] terminating bit range".into()) };
    let field = Field::by_point_name(name).map(|(field, _)| field).or_else(|| Field::by_name(name));
    let Some(field) = field else { return fail(format!("unknown field {name}")) };
    if !field.supported() {
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

/// Reads a subfield that actions may change.
pub(super) fn parse_writable(text: &str) -> Result<Subfield> {
    let subfield = parse_subfield(text)?;
    if subfield.field.writable() { Ok(subfield) } else { Err(ActionError::ReadOnly(subfield.field).into()) }
}

/// Reads a subfield of one bit that actions may change.
pub(super) fn parse_bit(text: &str) -> Result<Subfield> {
    let subfield = parse_writable(text)?;
    if subfield.bits == 1 {
        return Ok(subfield);
    }
    Err(ParseError::BadSubfield { text: text.to_owned(), problem: "only a single bit is allowed".into() })
}

/// Splits `source->destination`.
pub(super) fn arrow(text: &str) -> Result<(&str, &str)> {
    let missing = || super::error::bad("action", text, "value->field");
    text.split_once("->").map(|(a, b)| (a.trim(), b.trim())).ok_or_else(missing)
}

/// Refuses subfields of different widths.
pub(super) fn same_width(text: &str, src: &Subfield, dst: &Subfield) -> Result<()> {
    if src.bits == dst.bits {
        return Ok(());
    }
    let problem = format!("source field is {} bits wide but destination is {} bits wide", src.bits, dst.bits);
    Err(ParseError::BadSubfield { text: text.to_owned(), problem })
}

/// Refuses a value with more bits than the subfield.
pub(super) fn fits(text: &str, value: u128, dst: &Subfield) -> Result<()> {
    if dst.bits >= 128 || value >> dst.bits == 0 {
        return Ok(());
    }
    let problem = format!("value {value:#x} does not fit into {} bits", dst.bits);
    Err(ParseError::BadSubfield { text: text.to_owned(), problem })
}

/// Writes `NAME[]`, `NAME[bit]` or `NAME[first..last]`.
pub(super) fn format_subfield(s: &Subfield) -> String {
    let name = s.field.nxm().map_or(s.field.name(), |p| p.name);
    match s.bits {
        bits if s.start == 0 && bits == s.field.bits() => format!("{name}[]"),
        1 => format!("{name}[{}]", s.start),
        bits => format!("{name}[{}..{}]", s.start, s.start.saturating_add(bits.saturating_sub(1))),
    }
}
