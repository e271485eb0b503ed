//! How does each version write the instructions of a rule?

use weft_flow::{Action, Field, Instructions, Match};

use crate::actions::{
    self, ActionKind, Refusal, Scope, Track, decode_action_set, decode_flow_actions, encode_actions,
};
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

/// Bytes of an instruction, header included; `None`: at least 8.
fn length(kind: u16) -> Option<usize> {
    match kind {
        OFPIT_GOTO_TABLE | OFPIT_CLEAR_ACTIONS | OFPIT_METER => Some(8),
        OFPIT_WRITE_METADATA => Some(24),
        _ => None,
    }
}

/// Finds the instructions, by type; each type stands once.
fn split(version: Version, bytes: &[u8]) -> Result<[Option<&[u8]>; 7], Refusal> {
    let mut found = [None; 7];
    let mut r = Reader::new(bytes, ErrorCode::OFPBIC_BAD_LEN);
    while !r.is_empty() {
        let (kind, len) = (r.u16()?, usize::from(r.u16()?));
        let fault = |code: ErrorCode| Refusal::from(code).of(ActionKind::Instruction(kind));
        let body = len.checked_sub(4).filter(|_| len.is_multiple_of(8));
        let body = r.take(body.ok_or(fault(ErrorCode::OFPBIC_BAD_LEN))?).map_err(fault)?;
        let own = (Version::V13..=Version::V14).contains(&version);
        match kind {
            OFPIT_GOTO_TABLE..=OFPIT_CLEAR_ACTIONS => {}
            OFPIT_METER if own => {}
            OFPIT15_STAT_TRIGGER if version >= Version::V15 => {
                return Err(fault(ErrorCode::OFPBIC_UNSUP_INST));
            }
            OFPIT_EXPERIMENTER => return Err(fault(ErrorCode::OFPBIC_BAD_EXPERIMENTER)),
            _ => return Err(fault(ErrorCode::OFPBIC_UNKNOWN_INST)),
        }
        if len < 8 || length(kind).is_some_and(|n| n != len) {
            return Err(fault(ErrorCode::OFPBIC_BAD_LEN));
        }
        let place = &mut found[usize::from(kind)];
        if place.replace(body).is_some() {
            return Err(fault(ErrorCode::OFPBIC_DUP_INST));
        }
    }
    Ok(found)
}

/// Reads the instructions of a rule, which fill `bytes`; in OpenFlow 1.0 they are actions.
pub(crate) fn decode_instructions(version: Version, bytes: &[u8]) -> Result<Instructions, Refusal> {
    let scope = Scope::new(version);
    if version == Version::V10 {
        let decoded = decode_flow_actions(scope, bytes)?;
        let metadata = decoded.metadata;
        return Ok(Instructions { apply: decoded.actions, metadata, ..Instructions::default() });
    }
    let found = split(version, bytes)?;
    let body = |kind: u16| found[usize::from(kind)].map(|b| Reader::new(b, ErrorCode::OFPBIC_BAD_LEN));
    let list = |kind: u16| found[usize::from(kind)].and_then(|b| b.get(4..));
    let mut out = Instructions { clear: body(OFPIT_CLEAR_ACTIONS).is_some(), ..Instructions::default() };
    if let Some(mut r) = body(OFPIT_METER) {
        out.meter = Some(r.u32()?);
    }
    if let Some(bytes) = list(OFPIT_APPLY_ACTIONS) {
        let decoded = decode_flow_actions(scope, bytes)?;
        (out.apply, out.metadata) = (decoded.actions, decoded.metadata);
    }
    if let Some(bytes) = list(OFPIT_WRITE_ACTIONS) {
        out.write = decode_action_set(scope, bytes)?;
    }
    // Metadata may be written by one of Nicira's actions, after which nothing but goto-table may come.
    let after = out.clear || body(OFPIT_WRITE_ACTIONS).is_some() || body(OFPIT_WRITE_METADATA).is_some();
    if out.metadata.is_some() && after {
        return Err(ErrorCode::OFPBAC_UNSUPPORTED_ORDER.into());
    }
    if let Some(mut r) = body(OFPIT_WRITE_METADATA) {
        r.skip(4)?;
        let (value, mask) = (r.u64()?, r.u64()?);
        out.metadata = Some((value & mask, mask));
    }
    if let Some(mut r) = body(OFPIT_GOTO_TABLE) {
        out.goto = Some(r.u8()?);
    }
    Ok(out)
}

/// Appends the instructions of a rule that matches `m`. OpenFlow 1.0 has no action set: what would change it is
/// left out there, and goto-table becomes a resubmission. A meter is an instruction in OpenFlow 1.3 and 1.4, the first
/// action in 1.5, and left out elsewhere.
pub(crate) fn encode_instructions(version: Version, m: &Match, i: &Instructions, out: &mut Vec<u8>) {
    let mut track = Track::new(version, m);
    if version == Version::V10 {
        encode_actions(&mut track, &i.apply, out);
        match (i.metadata, i.goto) {
            // What stands for the instruction must come last, so that it cannot be used before a resubmission.
            (Some((value, mask)), None) => actions::write_metadata(value, mask, out),
            (Some((value, mask)), Some(table)) => {
                let (value, mask) = (value.into(), mask.into());
                let set = Action::set(Field::Metadata, value, mask);
                encode_actions(&mut track, &[set], out);
                actions::goto_table(table, out);
            }
            (None, Some(table)) => actions::goto_table(table, out),
            (None, None) => {}
        }
        return;
    }
    let mut apply = i.apply.as_slice();
    let mut meter = i.meter;
    let metered;
    if version >= Version::V15 {
        if let Some(id) = meter.take() {
            metered = [&[Action::Meter(id)], apply].concat();
            apply = &metered;
        }
    } else if let ([Action::Meter(id), rest @ ..], None) = (apply, meter) {
        (meter, apply) = (Some(*id), rest);
    }
    if let Some(id) = meter.filter(|_| version >= Version::V13) {
        out.u16(OFPIT_METER);
        out.u16(8);
        out.u32(id);
    }
    let mut list = |kind: u16, actions: &[Action], out: &mut Vec<u8>| {
        if !actions.is_empty() {
            let start = out.len();
            out.u16(kind);
            out.u16(0);
            out.zeros(4);
            encode_actions(&mut track, actions, out);
            out.patch_u16(start + 2, out.len() - start);
        }
    };
    list(OFPIT_APPLY_ACTIONS, apply, out);
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
