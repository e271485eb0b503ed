//! How does each version write what a rule does?
//!
//! One list of type-length-value structures. OpenFlow 1.0 numbers its actions in its own way ([`of10`]), later
//! versions in another ([`of11`]); Nicira's actions ([`nicira`]) are the same in all. What changes one field is
//! written in four ways over the versions, which [`set`] chooses from.

mod check;
mod nicira;
mod nicira_encode;
mod of10;
mod of11;
mod set;

pub(crate) use check::check;
pub(crate) use nicira_encode::{goto_table, write_metadata};

use weft_flow::{Action, Field, Match, OfPort};

use crate::bytes::{Put, Reader};
use crate::error::{NICIRA, ONF};
use crate::matches::read_header;
use crate::{ErrorCode, Version};

/// Type of actions of a vendor or experimenter.
const OFPAT_VENDOR: u16 = 0xffff;
/// How deep actions may nest (`clone`).
const MAX_DEPTH: u8 = 16;
/// How many actions a list may have, nested ones included.
const MAX_ACTIONS: usize = 4096;

/// What decoding actions must know of the rule around them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    version: Version,
    /// What the transport ports of this rule's packets are.
    ports: (Field, Field),
    depth: u8,
    left: usize,
}

impl Scope {
    pub(crate) fn new(version: Version, m: &Match) -> Self {
        let ports = if m.meets(Field::UdpSrc.prereq()) {
            (Field::UdpSrc, Field::UdpDst)
        } else if m.meets(Field::SctpSrc.prereq()) {
            (Field::SctpSrc, Field::SctpDst)
        } else {
            (Field::TcpSrc, Field::TcpDst)
        };
        Scope { version, ports, depth: 0, left: MAX_ACTIONS }
    }
}

/// One element of a list of actions.
enum Item {
    Action(Action),
    /// Nicira's way to write metadata in OpenFlow 1.0, where there are no instructions.
    Metadata(u64, u64),
    /// Understood, and nothing to do.
    Nothing,
}

/// A list of actions, with the metadata instruction that only a flow-mod of OpenFlow 1.0 may hide in it.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) actions: Vec<Action>,
    pub(crate) metadata: Option<(u64, u64)>,
}

/// Reads a list of actions that fills `bytes`.
pub(crate) fn decode_actions(mut scope: Scope, bytes: &[u8]) -> Result<Vec<Action>, ErrorCode> {
    let decoded = decode_list(&mut scope, bytes)?;
    if decoded.metadata.is_some() { Err(ErrorCode::OFPBIC_UNSUP_INST) } else { Ok(decoded.actions) }
}

/// As [`decode_actions`], allowing what stands for instructions in OpenFlow 1.0.
pub(crate) fn decode_flow_actions(mut scope: Scope, bytes: &[u8]) -> Result<Decoded, ErrorCode> {
    decode_list(&mut scope, bytes)
}

fn decode_list(scope: &mut Scope, bytes: &[u8]) -> Result<Decoded, ErrorCode> {
    let mut r = Reader::new(bytes, ErrorCode::OFPBAC_BAD_LEN);
    let mut out = Decoded::default();
    while !r.is_empty() {
        let (kind, length) = (r.u16()?, usize::from(r.u16()?));
        if length < 8 || !length.is_multiple_of(8) {
            return Err(ErrorCode::OFPBAC_BAD_LEN);
        }
        scope.left = scope.left.checked_sub(1).ok_or(ErrorCode::OFPBAC_TOO_MANY)?;
        let mut body = r.sub(length - 4)?;
        let item = match kind {
            OFPAT_VENDOR => decode_vendor(scope, &mut body)?,
            _ if scope.version == Version::V10 => Item::Action(of10::decode(scope, kind, &mut body)?),
            _ => of11::decode(scope, kind, &mut body)?,
        };
        match item {
            // An instruction in the guise of an action comes after all actions.
            Item::Action(_) if out.metadata.is_some() => return Err(ErrorCode::OFPBAC_UNSUPPORTED_ORDER),
            Item::Action(action) => out.actions.push(action),
            Item::Metadata(value, mask) => out.metadata = Some((value, mask)),
            Item::Nothing => {}
        }
    }
    Ok(out)
}

fn decode_vendor(scope: &mut Scope, r: &mut Reader<'_>) -> Result<Item, ErrorCode> {
    match r.u32()? {
        NICIRA => nicira::decode(scope, r),
        ONF => match r.u16()? {
            ONFACT_COPY_FIELD => {
                r.skip(2)?;
                of11::decode_copy_field(r).map(Item::Action)
            }
            _ => Err(ErrorCode::OFPBAC_BAD_VENDOR_TYPE),
        },
        _ => Err(ErrorCode::OFPBAC_BAD_VENDOR),
    }
}

/// ONF's copy-field, the extension that became an action of OpenFlow 1.5.
const ONFACT_COPY_FIELD: u16 = 3200;

/// What encoding actions must remember from one to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Track {
    version: Version,
    /// Whether packets have a tag here, so that setting its parts need not push one.
    has_vlan: bool,
}

impl Track {
    pub(crate) fn new(version: Version, m: &Match) -> Self {
        Track { version, has_vlan: m.meets(weft_flow::Prereq::Vlan) }
    }
}

/// Appends actions. What the version cannot say is said with Nicira's actions.
pub(crate) fn encode_actions(track: &mut Track, actions: &[Action], out: &mut Vec<u8>) {
    for action in actions {
        match track.version {
            Version::V10 => of10::encode(track, action, out),
            _ => of11::encode(track, action, out),
        }
    }
}

/// Appends an action of type `kind`, padded and with its length filled in.
fn put(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.u16(kind);
    out.u16(0);
    body(out);
    out.align8(start);
    out.patch_u16(start + 2, out.len() - start);
}

/// A port that an action may output to.
fn check_port(port: OfPort) -> Result<OfPort, ErrorCode> {
    let refused =
        port == OfPort::ANY || port == OfPort::UNSET || port.is_reserved() && port.reserved_name().is_none();
    if refused { Err(ErrorCode::OFPBAC_BAD_OUT_PORT) } else { Ok(port) }
}

/// Reads the header that names a field, in an action that names the field's bits separately.
fn read_field(r: &mut Reader<'_>) -> Result<Field, ErrorCode> {
    let header = read_header(r).map_err(|_| ErrorCode::OFPBAC_BAD_LEN)?;
    let field = header.field().ok_or(ErrorCode::OFPBAC_BAD_SET_TYPE)?;
    if header.has_mask || header.body != usize::from(field.bytes()) {
        return Err(ErrorCode::OFPBAC_BAD_SET_LEN);
    }
    if field.bytes() > 16 { Err(ErrorCode::OFPBAC_BAD_SET_TYPE) } else { Ok(field) }
}

/// The run of bits, if the field has it.
fn subfield(field: Field, start: u16, bits: u16) -> Result<weft_flow::Subfield, ErrorCode> {
    let end = u32::from(start) + u32::from(bits);
    if bits == 0 || end > u32::from(field.bits()) {
        return Err(ErrorCode::OFPBAC_BAD_SET_LEN);
    }
    Ok(weft_flow::Subfield { field, start, bits })
}

/// The field, if actions may change it.
fn writable(field: Field) -> Result<Field, ErrorCode> {
    if field.writable() { Ok(field) } else { Err(ErrorCode::OFPBAC_BAD_SET_ARGUMENT) }
}
