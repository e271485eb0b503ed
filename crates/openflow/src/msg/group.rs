//! A controller changes groups: `OFPT_GROUP_MOD`, and Nicira's `NXT_GROUP_MOD` for OpenFlow 1.0.
//!
//! OpenFlow 1.5 numbers buckets and gives them and groups properties; Nicira's form for 1.0 is the same. Versions 1.1 to
//! 1.4 know neither: their buckets are numbered here in their order.

use weft_flow::{Action, Field, Match, OfPort};

use super::port::port;
use super::prop::{NETRONOME, PropertyKind, experimenter, next_property, property};
use crate::actions::{Scope, Track, decode_actions, encode_actions};
use crate::bytes::{Put, Reader};
use crate::matches::{read_header, write_header};
use crate::{ErrorCode, Version};

/// The highest number of a group.
pub const GROUP_MAX: u32 = 0xffff_ff00;
/// In a deletion: all groups.
pub const GROUP_ALL: u32 = 0xffff_fffc;
/// The highest number of a bucket.
pub const BUCKET_MAX: u32 = 0xffff_ff00;
/// Before, or at, the first bucket.
pub const BUCKET_FIRST: u32 = 0xffff_fffd;
/// After, or at, the last bucket.
pub const BUCKET_LAST: u32 = 0xffff_fffe;
/// All buckets; also what commands say that are not about single buckets.
pub const BUCKET_ALL: u32 = 0xffff_ffff;

/// What to do with a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupCommand {
    /// Add it; there must be none of its number.
    #[default]
    Add,
    /// Change it; there must be one.
    Modify,
    /// Delete it and the rules that use it.
    Delete,
    /// Put buckets in (OpenFlow 1.5).
    InsertBucket,
    /// Take buckets out (OpenFlow 1.5).
    RemoveBucket,
    /// Add it or change it (Open vSwitch).
    AddOrModify,
}

/// Commands and their numbers.
const COMMANDS: [(GroupCommand, u16); 6] = [
    (GroupCommand::Add, 0),
    (GroupCommand::Modify, 1),
    (GroupCommand::Delete, 2),
    (GroupCommand::InsertBucket, 3),
    (GroupCommand::RemoveBucket, 5),
    (GroupCommand::AddOrModify, 0x8000),
];

/// Which buckets a packet passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum GroupKind {
    /// All of them, each with a copy.
    #[default]
    All,
    /// One, chosen by a hash and by weight.
    Select,
    /// The only one.
    Indirect,
    /// The first that is live.
    FastFailover,
}

impl GroupKind {
    pub(crate) fn from_wire(n: u8) -> Option<Self> {
        [GroupKind::All, GroupKind::Select, GroupKind::Indirect, GroupKind::FastFailover]
            .into_iter()
            .find(|k| *k as u8 == n)
    }
}

/// What a packet may pass in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Number in its group.
    pub id: u32,
    /// Share of the traffic, in select groups only; 0 elsewhere.
    pub weight: u16,
    /// Live when this port is; [`OfPort::ANY`]: no port.
    pub watch_port: OfPort,
    /// Live when this group has a live bucket; [`super::flow::GROUP_ANY`]: no group.
    pub watch_group: u32,
    /// What happens to the packet, as an action set.
    pub actions: Vec<Action>,
}

impl Default for Bucket {
    fn default() -> Self {
        Bucket {
            id: 0,
            weight: 0,
            watch_port: OfPort::ANY,
            watch_group: super::flow::GROUP_ANY,
            actions: Vec::new(),
        }
    }
}

/// How a select group chooses (Netronome's property, `ovs-ofctl(8)`, "Group Syntax").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelectionMethod {
    /// As the switch likes.
    #[default]
    Default,
    /// By a hash over fields.
    Hash,
    /// By a hash that the datapath makes.
    DpHash,
}

/// How a select group chooses, in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Method.
    pub method: SelectionMethod,
    /// Argument of the method.
    pub param: u64,
    /// Fields to hash and the bits of each; with [`SelectionMethod::Hash`] only.
    pub fields: Vec<(Field, u128)>,
}

/// A change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupCommand,
    /// Which buckets a packet passes.
    pub kind: GroupKind,
    /// Group, or [`GROUP_ALL`] in a deletion.
    pub group_id: u32,
    /// Where buckets go in, or which go out; [`BUCKET_ALL`] for other commands.
    pub command_bucket: u32,
    /// Buckets.
    pub buckets: Vec<Bucket>,
    /// How a select group chooses.
    pub selection: Selection,
}

impl Default for GroupMod {
    fn default() -> Self {
        GroupMod {
            command: GroupCommand::Add,
            kind: GroupKind::All,
            group_id: 0,
            command_bucket: BUCKET_ALL,
            buckets: Vec::new(),
            selection: Selection::default(),
        }
    }
}

impl GroupMod {
    /// Reads the form of OpenFlow 1.1 to 1.4.
    pub(crate) fn decode11(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let (command, kind) = (r.u16()?, r.u8()?);
        r.skip(1)?;
        let mut m = GroupMod { group_id: r.u32()?, ..GroupMod::default() };
        m.buckets = decode_buckets11(version, &mut r)?;
        if version >= Version::V13 && command == 2 && !m.buckets.is_empty() {
            return Err(ErrorCode::OFPGMFC_INVALID_GROUP);
        }
        m.checked(command, kind)
    }

    /// Reads the form of OpenFlow 1.5, and Nicira's of 1.0.
    pub(crate) fn decode15(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let (command, kind) = (r.u16()?, r.u8()?);
        r.skip(1)?;
        let mut m = GroupMod { group_id: r.u32()?, ..GroupMod::default() };
        let buckets = usize::from(r.u16()?);
        r.skip(2)?;
        m.command_bucket = r.u32()?;
        let one = m.command_bucket <= BUCKET_MAX || [BUCKET_FIRST, BUCKET_LAST].contains(&m.command_bucket);
        let placed = match COMMANDS.iter().find(|c| c.1 == command).map(|c| c.0) {
            Some(GroupCommand::InsertBucket) => one,
            Some(GroupCommand::RemoveBucket) => one || m.command_bucket == BUCKET_ALL,
            _ => m.command_bucket == BUCKET_ALL,
        };
        if !placed {
            return Err(ErrorCode::OFPGMFC_BAD_BUCKET);
        }
        let mut list = r.sub(buckets)?;
        m.buckets = decode_buckets15(version, kind, &mut list)?;
        m.selection = decode_properties(&mut r)?;
        let m = m.checked(command, kind)?;
        let chooses =
            matches!(m.command, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify);
        if m.selection != Selection::default() && (m.kind != GroupKind::Select || !chooses) {
            return Err(ErrorCode::OFPBPC_BAD_VALUE);
        }
        Ok(m)
    }

    /// The checks that need the whole message (OpenFlow 1.3.5 §6.5, §7.4.3).
    fn checked(mut self, command: u16, kind: u8) -> Result<Self, ErrorCode> {
        self.kind = GroupKind::from_wire(kind).ok_or(ErrorCode::OFPGMFC_BAD_TYPE)?;
        if self.kind == GroupKind::Indirect && command != 2 && self.buckets.len() != 1 {
            return Err(ErrorCode::OFPGMFC_INVALID_GROUP);
        }
        let command = COMMANDS.iter().find(|c| c.1 == command).ok_or(ErrorCode::OFPGMFC_BAD_COMMAND)?;
        self.command = command.0;
        if self.command == GroupCommand::RemoveBucket && !self.buckets.is_empty() {
            return Err(ErrorCode::OFPGMFC_BAD_BUCKET);
        }
        for bucket in &self.buckets {
            if bucket.weight != 0 && self.kind != GroupKind::Select {
                return Err(ErrorCode::OFPGMFC_INVALID_GROUP);
            }
            let watches = bucket.watch_port != OfPort::ANY || bucket.watch_group != super::flow::GROUP_ANY;
            match self.kind {
                GroupKind::All | GroupKind::Indirect if watches => {
                    return Err(ErrorCode::OFPGMFC_WATCH_UNSUPPORTED);
                }
                GroupKind::FastFailover if !watches => return Err(ErrorCode::OFPGMFC_INVALID_GROUP),
                _ => {}
            }
        }
        Ok(self)
    }

    /// Whether a version can say it: 1.1 to 1.4 have no commands about single buckets and no selection.
    pub(crate) fn fits11(&self) -> bool {
        !matches!(self.command, GroupCommand::InsertBucket | GroupCommand::RemoveBucket)
            && self.selection == Selection::default()
    }

    /// Appends the version's own form, or Nicira's in OpenFlow 1.0.
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.u16(COMMANDS.iter().find(|c| c.0 == self.command).map_or(0, |c| c.1));
        out.u8(self.kind as u8);
        out.u8(0);
        out.u32(self.group_id);
        if has_bucket_ids(version) {
            let at = out.len();
            out.zeros(4);
            out.u32(self.command_bucket);
            let start = out.len();
            self.buckets.iter().for_each(|b| b.encode15(version, self.kind, out));
            out.patch_u16(at, out.len() - start);
            self.selection.encode(version, out);
        } else {
            self.buckets.iter().for_each(|b| b.encode11(version, out));
        }
    }
}

/// Whether buckets are numbered and groups have properties.
pub(crate) fn has_bucket_ids(version: Version) -> bool {
    matches!(version, Version::V10 | Version::V15)
}

fn bad_bucket(_: ErrorCode) -> ErrorCode {
    ErrorCode::OFPGMFC_BAD_BUCKET
}

/// A port to watch: any, or a real one.
fn watch_port(wire: u32) -> Result<OfPort, ErrorCode> {
    let port = port(wire).map_err(|_| ErrorCode::OFPGMFC_BAD_WATCH)?;
    let known = port == OfPort::ANY || !port.is_reserved() || port.reserved_name().is_some();
    if known { Ok(port) } else { Err(ErrorCode::OFPGMFC_BAD_WATCH) }
}

pub(crate) fn decode_buckets11(version: Version, r: &mut Reader<'_>) -> Result<Vec<Bucket>, ErrorCode> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let length = usize::from(r.u16().map_err(bad_bucket)?);
        let body = length.checked_sub(2).ok_or(ErrorCode::OFPGMFC_BAD_BUCKET)?;
        let mut r = r.sub(body).map_err(bad_bucket)?;
        let (weight, port) = (r.u16().map_err(bad_bucket)?, r.u32().map_err(bad_bucket)?);
        let watch_group = r.u32().map_err(bad_bucket)?;
        r.skip(4).map_err(bad_bucket)?;
        let actions = decode_actions(Scope::new(version), r.rest())?;
        out.push(Bucket {
            id: out.len() as u32,
            weight,
            watch_port: watch_port(port)?,
            watch_group,
            actions,
        });
    }
    Ok(out)
}

const OFPGBPT_WEIGHT: u16 = 0;
const OFPGBPT_WATCH_PORT: u16 = 1;
const OFPGBPT_WATCH_GROUP: u16 = 2;

pub(crate) fn decode_buckets15(
    version: Version,
    kind: u8,
    r: &mut Reader<'_>,
) -> Result<Vec<Bucket>, ErrorCode> {
    let mut out: Vec<Bucket> = Vec::new();
    while !r.is_empty() {
        let length = usize::from(r.u16().map_err(bad_bucket)?);
        let body = length.checked_sub(2).ok_or(ErrorCode::OFPGMFC_BAD_BUCKET)?;
        let mut r = r.sub(body).map_err(bad_bucket)?;
        let actions_len = usize::from(r.u16().map_err(bad_bucket)?);
        let mut bucket = Bucket { id: r.u32().map_err(bad_bucket)?, ..Bucket::default() };
        bucket.weight = u16::from(kind == GroupKind::Select as u8);
        let list = r.take(actions_len).map_err(bad_bucket)?;
        bucket.actions = decode_actions(Scope::new(version), list)?;
        while !r.is_empty() {
            let mut p = next_property(&mut r)?;
            match p.kind {
                PropertyKind::Standard(OFPGBPT_WEIGHT) => bucket.weight = p.body.u16()?,
                PropertyKind::Standard(OFPGBPT_WATCH_PORT) => bucket.watch_port = watch_port(p.body.u32()?)?,
                PropertyKind::Standard(OFPGBPT_WATCH_GROUP) => bucket.watch_group = p.body.u32()?,
                other => return Err(other.unknown()),
            }
        }
        if bucket.id > BUCKET_MAX {
            return Err(ErrorCode::OFPGMFC_BAD_BUCKET);
        }
        out.push(bucket);
    }
    let mut ids: Vec<u32> = out.iter().map(|b| b.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() == out.len() { Ok(out) } else { Err(ErrorCode::OFPGMFC_BAD_BUCKET) }
}

impl Bucket {
    pub(crate) fn encode11(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        out.u16(0);
        out.u16(self.weight);
        out.u32(self.watch_port.0);
        out.u32(self.watch_group);
        out.zeros(4);
        encode_actions(&mut Track::new(version, &Match::any()), &self.actions, out);
        out.patch_u16(start, out.len() - start);
    }

    pub(crate) fn encode15(&self, version: Version, kind: GroupKind, out: &mut Vec<u8>) {
        let start = out.len();
        out.u32(0);
        out.u32(self.id);
        encode_actions(&mut Track::new(version, &Match::any()), &self.actions, out);
        out.patch_u16(start + 2, out.len() - start - 8);
        if kind == GroupKind::Select {
            property(out, OFPGBPT_WEIGHT, |out| {
                out.u16(self.weight);
                out.zeros(2);
            });
        }
        if self.watch_port != OfPort::ANY {
            property(out, OFPGBPT_WATCH_PORT, |out| out.u32(self.watch_port.0));
        }
        if self.watch_group != super::flow::GROUP_ANY {
            property(out, OFPGBPT_WATCH_GROUP, |out| out.u32(self.watch_group));
        }
        out.patch_u16(start, out.len() - start);
    }
}

/// Netronome's property with the selection method.
const NTRT_SELECTION_METHOD: u32 = 1;
const METHOD_LEN: usize = 16;

/// Reads the properties of a group to the end.
pub(crate) fn decode_properties(r: &mut Reader<'_>) -> Result<Selection, ErrorCode> {
    let mut out = Selection::default();
    while !r.is_empty() {
        let p = next_property(r)?;
        match p.kind {
            PropertyKind::Experimenter(vendor, NTRT_SELECTION_METHOD) if NETRONOME.contains(&vendor) => {
                out = Selection::decode(p.body)?;
            }
            other => return Err(other.unknown()),
        }
    }
    Ok(out)
}

impl Selection {
    fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        r.skip(4)?;
        let name = r.take(METHOD_LEN)?;
        let end = name.iter().position(|b| *b == 0).ok_or(ErrorCode::OFPBPC_BAD_VALUE)?;
        let method = match &name[..end] {
            b"hash" => SelectionMethod::Hash,
            b"dp_hash" => SelectionMethod::DpHash,
            _ => return Err(ErrorCode::OFPBPC_BAD_VALUE),
        };
        let mut out = Selection { method, param: r.u64()?, fields: Vec::new() };
        if method != SelectionMethod::Hash && !r.is_empty() {
            return Err(ErrorCode::OFPBPC_BAD_VALUE);
        }
        while !r.is_empty() {
            out.fields.push(hashed_field(&mut r)?);
        }
        Ok(out)
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let name = match self.method {
            SelectionMethod::Default => return,
            SelectionMethod::Hash => "hash",
            SelectionMethod::DpHash => "dp_hash",
        };
        experimenter(out, NETRONOME[0], NTRT_SELECTION_METHOD, |out| {
            out.zeros(4);
            out.text(name, METHOD_LEN);
            out.u64(self.param);
            for (field, mask) in &self.fields {
                let point = match version {
                    Version::V10 => field.nxm(),
                    _ => field.oxm(version.wire()),
                };
                if let Some(point) = point {
                    write_header(point, field.bytes(), false, out);
                    out.number(*mask, usize::from(field.bytes()));
                }
            }
        });
    }
}

/// A field to hash: it stands there without a mask, and its value says which bits count.
fn hashed_field(r: &mut Reader<'_>) -> Result<(Field, u128), ErrorCode> {
    let header = read_header(r).map_err(|_| ErrorCode::OFPBPC_BAD_LEN)?;
    let mut body = r.sub(header.body)?;
    let field = header.field().ok_or(ErrorCode::OFPBMC_BAD_FIELD)?;
    let bytes = usize::from(field.bytes());
    if header.has_mask || bytes > 16 || header.body != bytes {
        return Err(ErrorCode::OFPBPC_BAD_VALUE);
    }
    let mask = body.number(bytes)?;
    let full = field.value_mask();
    if mask & full == 0 || mask & full != full && !field.maskable() {
        return Err(ErrorCode::OFPBMC_BAD_MASK);
    }
    Ok((field, mask & full))
}
