//! How does each version write the instructions of a rule?

use weft_flow::{Field, Instructions, Match};

use crate::actions::{self, Scope, Track, decode_actions, decode_flow_actions, encode_actions};
use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version};

const OFPIT_GOTO_TABLE: u16 = 1;
const OFPIT_WRITE_METADATA: u16 = 2;
const OFPIT_WRITE_ACTIONS: u16 = 3;
const OFPIT_APPLY_ACTIONS: u16 = 4;
const OFPIT_CLEAR_ACTIONS: u16 = 5;
const OFPIT_METER: u16 = 6;
const OFPIT15_STAT_TRIGGER: u16 = 7;
const OFPIT_EXPERIMENTER: u16 = 0xffff;

/// Reads the instructions of a rule that matches `m`, which fill `bytes`; in OpenFlow 1.0 they are actions.
pub(crate) fn decode_instructions(
    version: Version,
    m: &Match,
    bytes: &[u8],
) -> Result<Instructions, ErrorCode> {
    let scope = Scope::new(version, m);
    if version == Version::V10 {
        let decoded = decode_flow_actions(scope, bytes)?;
        let metadata = decoded.metadata;
        return Ok(Instructions { apply: decoded.actions, metadata, ..Instructions::default() });
    }
    let mut out = Instructions::default();
    let mut seen = 0u32;
    let mut r = Reader::new(bytes, ErrorCode::OFPBIC_BAD_LEN);
    while !r.is_empty() {
        let (kind, length) = (r.u16()?, usize::from(r.u16()?));
        if length < 8 || !length.is_multiple_of(8) {
            return Err(ErrorCode::OFPBIC_BAD_LEN);
        }
        let mut body = r.sub(length - 4)?;
        let wanted = match kind {
            OFPIT_GOTO_TABLE | OFPIT_CLEAR_ACTIONS => Some(4),
            OFPIT_WRITE_METADATA => Some(20),
            _ => None,
        };
        if wanted.is_some_and(|n| n != body.len()) {
            return Err(ErrorCode::OFPBIC_BAD_LEN);
        }
        match kind {
            OFPIT_GOTO_TABLE => out.goto = Some(body.u8()?),
            OFPIT_WRITE_METADATA => {
                body.skip(4)?;
                let (value, mask) = (body.u64()?, body.u64()?);
                out.metadata = Some((value & mask, mask));
            }
            OFPIT_WRITE_ACTIONS | OFPIT_APPLY_ACTIONS => {
                body.skip(4)?;
                let list = decode_actions(scope, body.rest())?;
                *if kind == OFPIT_APPLY_ACTIONS { &mut out.apply } else { &mut out.write } = list;
            }
            OFPIT_CLEAR_ACTIONS => out.clear = true,
            // No meter exists that could be named, and statistics never trigger.
            OFPIT_METER if version >= Version::V13 => return Err(ErrorCode::OFPMMFC_INVALID_METER),
            OFPIT15_STAT_TRIGGER if version >= Version::V15 => return Err(ErrorCode::OFPBIC_UNSUP_INST),
            OFPIT_EXPERIMENTER => return Err(ErrorCode::OFPBIC_BAD_EXPERIMENTER),
            _ => return Err(ErrorCode::OFPBIC_UNKNOWN_INST),
        }
        if seen & 1 << kind != 0 {
            return Err(ErrorCode::OFPBIC_DUP_INST);
        }
        seen |= 1 << kind;
    }
    Ok(out)
}

/// Appends the instructions of a rule that matches `m`. OpenFlow 1.0 has no action set: what would change it is
/// left out there, and goto-table becomes a resubmission.
pub(crate) fn encode_instructions(version: Version, m: &Match, i: &Instructions, out: &mut Vec<u8>) {
    let mut track = Track::new(version, m);
    if version == Version::V10 {
        encode_actions(&mut track, &i.apply, out);
        match (i.metadata, i.goto) {
            // What stands for the instruction must come last, so that it cannot be used before a resubmission.
            (Some((value, mask)), None) => actions::write_metadata(value, mask, out),
            (Some((value, mask)), Some(table)) => {
                let (value, mask) = (value.into(), mask.into());
                let set = weft_flow::Action::set(Field::Metadata, value, mask);
                encode_actions(&mut track, &[set], out);
                actions::goto_table(table, out);
            }
            (None, Some(table)) => actions::goto_table(table, out),
            (None, None) => {}
        }
        return;
    }
    let mut list = |kind: u16, actions: &[weft_flow::Action], out: &mut Vec<u8>| {
        if !actions.is_empty() {
            let start = out.len();
            out.u16(kind);
            out.u16(0);
            out.zeros(4);
            encode_actions(&mut track, actions, out);
            out.patch_u16(start + 2, out.len() - start);
        }
    };
    list(OFPIT_APPLY_ACTIONS, &i.apply, out);
    if i.clear {
        out.u16(OFPIT_CLEAR_ACTIONS);
        out.u16(8);
        out.zeros(4);
    }
    list(OFPIT_WRITE_ACTIONS, &i.write, out);
    if let Some((value, mask)) = i.metadata {
        out.u16(OFPIT_WRITE_METADATA);
        out.u16(24);
        out.zeros(4);
        out.u64(value);
        out.u64(mask);
    }
    if let Some(table) = i.goto {
        out.u16(OFPIT_GOTO_TABLE);
        out.u16(8);
        out.u8(table);
        out.zeros(3);
    }
}
