//! How does each version write what a rule does?
//!
//! One list of type-length-value structures. OpenFlow 1.0 numbers its actions in its own way ([`of10`]), later
//! versions in another ([`of11`]); Nicira's actions ([`nicira`]) are the same in all. What changes one field is
//! written in four ways over the versions, which [`set`] chooses from. [`table`] says which version has what.

mod check;
mod choose;
mod ct;
mod encap;
mod header;
mod learn;
mod nicira;
mod of10;
mod of11;
mod regs;
mod send;
mod set;
mod table;
mod verify;

pub(crate) use check::check;
pub use header::ActionKind;
pub(crate) use header::Refusal;
pub(crate) use nicira::{goto_table, write_metadata};

use weft_flow::{Action, Field, Match, Nat, OfPort, Prereq, Subfield};

use crate::bytes::{Put, Reader};
use crate::error::{NICIRA, ONF};
use crate::matches::{Dialect, write_header};
use crate::{ErrorCode, Version};
use header::Header;
use table::Owner;
use verify::{Place, action_set, verify};

/// Type of actions of a vendor or experimenter.
const OFPAT_VENDOR: u16 = 0xffff;
/// How deep actions may nest (`clone`, `ct`).
const MAX_DEPTH: u8 = 16;
/// How many actions a list may have, nested ones included.
const MAX_ACTIONS: usize = 4096;

/// What decoding actions must know of what is around them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    version: Version,
    depth: u8,
    left: usize,
}

impl Scope {
    pub(crate) fn new(version: Version) -> Self {
        Scope { version, depth: 0, left: MAX_ACTIONS }
    }
}

/// One element of a list of actions.
#[derive(Debug)]
enum Item {
    Action(Action),
    /// Address translation, which only stands inside `ct`.
    Nat(Nat),
    /// Nicira's way to write metadata in OpenFlow 1.0, where there are no instructions.
    Metadata(u64, u64),
}

/// A list of actions, with the metadata instruction that only a flow-mod may hide in it.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) actions: Vec<Action>,
    pub(crate) metadata: Option<(u64, u64)>,
}

/// Reads a list of actions that fills `bytes`.
pub(crate) fn decode_actions(mut scope: Scope, bytes: &[u8]) -> Result<Vec<Action>, Refusal> {
    let items = decode_list(&mut scope, bytes)?;
    Ok(verify(items, Place::Actions)?.actions)
}

/// Reads the one action that fills `bytes`.
pub(crate) fn decode_one_action(version: Version, bytes: &[u8]) -> Result<Action, ErrorCode> {
    let mut actions = decode_actions(Scope::new(version), bytes)?.into_iter();
    match (actions.next(), actions.next()) {
        (Some(action), None) => Ok(action),
        _ => Err(ErrorCode::OFPBAC_BAD_LEN),
    }
}

/// As [`decode_actions`], allowing what stands for an instruction.
pub(crate) fn decode_flow_actions(mut scope: Scope, bytes: &[u8]) -> Result<Decoded, Refusal> {
    let items = decode_list(&mut scope, bytes)?;
    Ok(verify(items, Place::Instructions)?)
}

/// As [`decode_actions`], for an action set, in which not everything may stand.
pub(crate) fn decode_action_set(mut scope: Scope, bytes: &[u8]) -> Result<Vec<Action>, Refusal> {
    Ok(action_set(decode_list(&mut scope, bytes)?)?)
}

fn decode_list(scope: &mut Scope, bytes: &[u8]) -> Result<Vec<Item>, Refusal> {
    let mut rest = bytes;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let header = Header::read(scope.version, rest)?;
        scope.left = scope.left.checked_sub(1).ok_or(ErrorCode::OFPBAC_TOO_MANY)?;
        let (action, tail) = rest.split_at_checked(header.length).ok_or(ErrorCode::OFPBAC_BAD_LEN)?;
        let item = decode_one(scope, &header, action).map_err(|e| e.of(header.kind))?;
        out.push(item);
        rest = tail;
    }
    Ok(out)
}

fn decode_one(scope: &mut Scope, header: &Header, action: &[u8]) -> Result<Item, Refusal> {
    let mut r = Reader::new(action, ErrorCode::OFPBAC_BAD_LEN);
    r.skip(header.size)?;
    match header.owner {
        Owner::Standard if scope.version == Version::V10 => {
            Ok(Item::Action(of10::decode(header.number, &mut r)?))
        }
        Owner::Standard => Ok(Item::Action(of11::decode(scope.version, header.number, &mut r)?)),
        Owner::Nicira => nicira::decode(scope, header.number, &mut r),
        Owner::Onf => {
            r.skip(2)?;
            Ok(Item::Action(regs::decode_copy_field(&mut r)?))
        }
    }
}

/// Reads a list inside an action.
fn nested(scope: &mut Scope, place: Place, bytes: &[u8]) -> Result<Nested, Refusal> {
    if scope.depth >= MAX_DEPTH {
        return Err(ErrorCode::OFPBAC_TOO_MANY.into());
    }
    if !bytes.len().is_multiple_of(8) {
        return Err(ErrorCode::OFPBRC_BAD_LEN.into());
    }
    scope.depth += 1;
    let items = decode_list(scope, bytes)?;
    scope.depth -= 1;
    // The last one counts.
    let nat = items.iter().rev().find_map(|i| if let Item::Nat(nat) = i { Some(*nat) } else { None });
    Ok(Nested { nat, actions: verify(items, place)?.actions })
}

/// A list inside an action, and the last address translation in it.
struct Nested {
    nat: Option<Nat>,
    actions: Vec<Action>,
}

/// What encoding actions must remember from one to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Track {
    version: Version,
    /// Whether packets have a tag here, so that setting its parts need not push one.
    has_vlan: bool,
    /// What the transport ports of this rule's packets are, if it is known.
    ports: Option<(Field, Field)>,
}

impl Track {
    pub(crate) fn new(version: Version, m: &Match) -> Self {
        let known = [
            (Prereq::Tcp, Field::TcpSrc, Field::TcpDst),
            (Prereq::Udp, Field::UdpSrc, Field::UdpDst),
            (Prereq::Sctp, Field::SctpSrc, Field::SctpDst),
        ];
        let ports = known.into_iter().find(|(prereq, ..)| m.meets(*prereq)).map(|(_, src, dst)| (src, dst));
        Track { version, has_vlan: m.meets(Prereq::Vlan), ports }
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

/// Appends an action as a version says it, whatever is around it.
pub(crate) fn encode_one_action(version: Version, action: &Action, out: &mut Vec<u8>) {
    let mut track = Track { version, has_vlan: true, ports: None };
    encode_actions(&mut track, std::slice::from_ref(action), out);
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

/// Appends a Nicira action, padded and with its length filled in.
fn put_nicira(out: &mut Vec<u8>, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) {
    put(out, OFPAT_VENDOR, |out| {
        out.u32(NICIRA);
        out.u16(subtype);
        body(out);
    });
}

/// A port that an action may output to.
fn check_port(port: OfPort) -> Result<OfPort, ErrorCode> {
    let refused =
        port == OfPort::ANY || port == OfPort::UNSET || port.is_reserved() && port.reserved_name().is_none();
    if refused { Err(ErrorCode::OFPBAC_BAD_OUT_PORT) } else { Ok(port) }
}

/// A port in OpenFlow 1.0's 16 bits; one that has no place there becomes "none".
fn port16(port: OfPort) -> u16 {
    port.to_u16().unwrap_or(0xffff)
}

/// The run of bits, if the field has it.
fn subfield(field: Field, start: u16, bits: u16) -> Result<Subfield, ErrorCode> {
    let end = u32::from(start) + u32::from(bits);
    if bits == 0 || end > u32::from(field.bits()) {
        return Err(ErrorCode::OFPBAC_BAD_SET_LEN);
    }
    Ok(Subfield { field, start, bits })
}

/// The field, if actions may change it.
fn writable(field: Field) -> Result<Field, ErrorCode> {
    if field.writable() { Ok(field) } else { Err(ErrorCode::OFPBAC_BAD_SET_ARGUMENT) }
}

/// Whether nothing but zeros is left.
fn zeros(r: &Reader<'_>, otherwise: ErrorCode) -> Result<(), ErrorCode> {
    if r.rest().iter().all(|b| *b == 0) { Ok(()) } else { Err(otherwise) }
}

/// Appends the header that names a field as Nicira's actions do.
fn nxm_header(field: Field, out: &mut Vec<u8>) {
    if let Some(point) = field.nxm() {
        write_header(point, field.bytes(), false, out);
    }
}

/// Whether Nicira's header of a field takes 8 bytes.
fn long_header(field: Field) -> bool {
    field.nxm().is_some_and(|point| point.class == 0xffff)
}

/// Which numbers of a field a version uses.
fn dialect(version: Version) -> Dialect {
    if version >= Version::V12 { Dialect::Oxm(version) } else { Dialect::Nxm }
}

/// Vendor number of an owner; `None`: the standard.
fn owner_of(vendor: u32) -> Option<Owner> {
    match vendor {
        NICIRA => Some(Owner::Nicira),
        ONF => Some(Owner::Onf),
        _ => None,
    }
}
