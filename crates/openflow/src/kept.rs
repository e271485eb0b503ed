//! How is a rule, or a group, kept beside the message that adds it, so that it is the same when it is read again?
//!
//! No version of OpenFlow says all that another can: `mod_vlan_vid` and `enqueue` of 1.0 are several actions in 1.5, a
//! `load` is a `set_field` there, and a tag that 1.0 matches bit by bit is asked for in fewer bits. So each action is
//! written in the first version whose bytes say just this action:
//! ```text
//!   bits of what follows ─ goto ─ meter ─ metadata ─ tag matched ─ pieces of: version, list (apply or write), length, action
//! ```
//! Of a group it is the pieces of each bucket, behind their length. What is read was written here and checked when a controller said it. So it is not asked again whether actions fit the
//! packets that the rule matches, which not all versions ask alike.

use weft_flow::{Action, Field, Instructions, Match};

use crate::actions::{decode_one_action, encode_one_action};
use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version};

/// Instructions that are there, as bits of the first byte.
const CLEAR: u8 = 1;
const GOTO: u8 = 2;
const METER: u8 = 4;
const METADATA: u8 = 8;
const TAG: u8 = 16;
/// In which order versions are tried.
const VERSIONS: [Version; 4] = [Version::V15, Version::V10, Version::V14, Version::V11];

/// Appends what a rule does, and what of its match a message may not say.
pub fn encode(from: &Instructions, matching: &Match, out: &mut Vec<u8>) {
    let bit = |on: bool, bit: u8| if on { bit } else { 0 };
    let tag = matching.get(Field::VlanTci);
    out.u8(bit(from.clear, CLEAR)
        | bit(from.goto.is_some(), GOTO)
        | bit(from.meter.is_some(), METER)
        | bit(from.metadata.is_some(), METADATA)
        | bit(tag.is_some(), TAG));
    from.goto.into_iter().for_each(|table| out.u8(table));
    from.meter.into_iter().for_each(|meter| out.u32(meter));
    from.metadata.into_iter().for_each(|(value, mask)| {
        out.u64(value);
        out.u64(mask);
    });
    tag.into_iter().for_each(|(value, mask)| {
        out.u16(value as u16);
        out.u16(mask as u16);
    });
    let lists = [&from.apply, &from.write].into_iter().enumerate();
    for (list, action) in lists.flat_map(|(n, actions)| actions.iter().map(move |a| (n as u8, a))) {
        encode_action(list, action, out);
    }
}

/// Appends what the buckets of a group do.
pub fn encode_buckets<'a>(buckets: impl Iterator<Item = &'a [Action]>, out: &mut Vec<u8>) {
    for actions in buckets {
        let start = out.len();
        out.u32(0);
        actions.iter().for_each(|action| encode_action(0, action, out));
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn encode_action(list: u8, action: &Action, out: &mut Vec<u8>) {
    let start = out.len();
    // Where no version says just this, the newest comes closest.
    let says = |version: Version, out: &mut Vec<u8>| {
        out.truncate(start);
        out.u8(version.wire());
        out.u8(list);
        out.u32(0);
        let body = out.len();
        encode_one_action(version, action, out);
        decode_one_action(version, &out[body..]).is_ok_and(|read| read == *action)
    };
    if !VERSIONS.into_iter().any(|version| says(version, out)) {
        says(VERSIONS[0], out);
    }
    let length = (out.len() - start - 6) as u32;
    out[start + 2..start + 6].copy_from_slice(&length.to_be_bytes());
}

/// Reads what [`encode`] wrote, which fills `bytes`, and mends what a message made of the match.
///
/// # Errors
/// It is not such.
pub fn decode(bytes: &[u8], matching: &mut Match) -> Result<Instructions, ErrorCode> {
    let mut r = Reader::new(bytes, ErrorCode::OFPBIC_BAD_LEN);
    let bits = r.u8()?;
    let mut out = Instructions { clear: bits & CLEAR != 0, ..Instructions::default() };
    if bits & GOTO != 0 {
        out.goto = Some(r.u8()?);
    }
    if bits & METER != 0 {
        out.meter = Some(r.u32()?);
    }
    if bits & METADATA != 0 {
        out.metadata = Some((r.u64()?, r.u64()?));
    }
    if bits & TAG != 0 {
        matching.set_masked(Field::VlanTci, r.u16()?.into(), r.u16()?.into());
    }
    while !r.is_empty() {
        let (list, action) = decode_action(&mut r)?;
        if list == 0 { out.apply.push(action) } else { out.write.push(action) }
    }
    Ok(out)
}

/// Reads what [`encode_buckets`] wrote, which fills `bytes`: the actions of each bucket.
///
/// # Errors
/// It is not such.
pub fn decode_buckets(bytes: &[u8]) -> Result<Vec<Vec<Action>>, ErrorCode> {
    let mut r = Reader::new(bytes, ErrorCode::OFPBIC_BAD_LEN);
    let mut out = Vec::new();
    while !r.is_empty() {
        let length = r.u32()? as usize;
        let mut bucket = Reader::new(r.take(length)?, ErrorCode::OFPBIC_BAD_LEN);
        let mut actions = Vec::new();
        while !bucket.is_empty() {
            actions.push(decode_action(&mut bucket)?.1);
        }
        out.push(actions);
    }
    Ok(out)
}

/// An action, and the list that it is in.
fn decode_action(r: &mut Reader<'_>) -> Result<(u8, Action), ErrorCode> {
    let version = Version::from_wire(r.u8()?).ok_or(ErrorCode::OFPBRC_BAD_VERSION)?;
    let list = r.u8()?;
    let length = r.u32()? as usize;
    Ok((list, decode_one_action(version, r.take(length)?)?))
}
