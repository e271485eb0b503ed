//! What can a flow table do (OpenFlow 1.3 §7.3.5.5)?

use weft_flow::Field;

use crate::bytes::{Put, Reader};
use crate::matches::{read_header, write_header};
use crate::{ErrorCode, Version};

const NAME_LEN: usize = 32;

/// What a property lists; the number is that of the property for packets that hit, the one for misses is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FeatureKind {
    /// Instructions, by number.
    Instructions = 0,
    /// Tables that goto may name.
    NextTables = 2,
    /// Actions for the action set, by number.
    WriteActions = 4,
    /// Actions to apply, by number.
    ApplyActions = 6,
    /// Fields that may be matched.
    Match = 8,
    /// Fields that may be left out of a match.
    Wildcards = 10,
    /// Fields the action set may set.
    WriteSetfield = 12,
    /// Fields that may be set.
    ApplySetfield = 14,
}

/// A property of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableProperty {
    /// Numbers of instructions or actions, or tables.
    Numbers {
        /// What is listed.
        kind: FeatureKind,
        /// For packets that miss.
        miss: bool,
        /// The list.
        list: Vec<u16>,
    },
    /// Fields.
    Fields {
        /// What is listed.
        kind: FeatureKind,
        /// For packets that miss.
        miss: bool,
        /// The fields; whether each may be masked.
        list: Vec<(Field, bool)>,
    },
    /// A property that is not known, kept as it is.
    Other(u16, Vec<u8>),
}

/// What a table can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFeatures {
    /// Table.
    pub table_id: u8,
    /// What a request does with it (OpenFlow 1.5): 0 replace, 1 modify, 2 enable, 3 disable.
    pub command: u8,
    /// Name, at most 31 bytes.
    pub name: String,
    /// Bits of metadata that may be matched.
    pub metadata_match: u64,
    /// Bits of metadata that may be written.
    pub metadata_write: u64,
    /// Capabilities: eviction, vacancy events.
    pub config: u32,
    /// Most rules it takes.
    pub max_entries: u32,
    /// What it can do in detail.
    pub properties: Vec<TableProperty>,
}

/// Actions that rules may use in OpenFlow 1.3, by number: output, copying TTLs, MPLS, VLAN, queue, group, TTL, set-field.
const ACTIONS: [u16; 14] = [0, 11, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25];
/// Instructions: goto, metadata, write, apply, clear, meter.
const INSTRUCTIONS: [u16; 6] = [1, 2, 3, 4, 5, 6];

impl TableFeatures {
    /// A table that can do everything this crate can write, of `tables` tables.
    pub fn capable(version: Version, table_id: u8, tables: u8, name: String, max_entries: u32) -> Self {
        let numbers = |kind, list: &[u16]| TableProperty::Numbers { kind, miss: false, list: list.to_vec() };
        // Whether a field may be masked is said of matching only.
        let fields = |kind: FeatureKind, keep: &dyn Fn(Field) -> bool| {
            let masks = kind == FeatureKind::Match;
            let known = |f: &&Field| f.supported() && f.oxm(version.wire()).is_some() && f.bytes() <= 16;
            let list = Field::ALL.iter().filter(known).filter(|f| keep(**f));
            TableProperty::Fields {
                kind,
                miss: false,
                list: list.map(|f| (*f, masks && f.maskable())).collect(),
            }
        };
        let mut actions = ACTIONS.to_vec();
        if version >= Version::V15 {
            // Copy-field and meter.
            actions.extend([28, 29]);
        }
        let next: Vec<u16> = (u16::from(table_id) + 1..u16::from(tables)).collect();
        let properties = vec![
            numbers(FeatureKind::Instructions, &INSTRUCTIONS),
            numbers(FeatureKind::NextTables, &next),
            numbers(FeatureKind::WriteActions, &actions),
            numbers(FeatureKind::ApplyActions, &actions),
            fields(FeatureKind::Match, &|_| true),
            fields(FeatureKind::Wildcards, &|_| true),
            fields(FeatureKind::WriteSetfield, &Field::writable),
            fields(FeatureKind::ApplySetfield, &Field::writable),
        ];
        TableFeatures {
            table_id,
            command: 0,
            name,
            metadata_match: u64::MAX,
            metadata_write: u64::MAX,
            config: 0,
            max_entries,
            properties,
        }
    }

    pub(super) fn decode_all(version: Version, r: &mut Reader<'_>) -> Result<Vec<Self>, ErrorCode> {
        super::all(r, |r| Self::decode(version, r))
    }

    fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let length = usize::from(r.u16()?);
        let mut r = r.sub(length.checked_sub(2).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
        let mut t = TableFeatures { table_id: r.u8()?, ..TableFeatures::default() };
        let command = r.u8()?;
        t.command = if version >= Version::V15 { command } else { 0 };
        r.skip(4)?;
        t.name = r.text(NAME_LEN)?;
        (t.metadata_match, t.metadata_write) = (r.u64()?, r.u64()?);
        (t.config, t.max_entries) = (r.u32()?, r.u32()?);
        while !r.is_empty() {
            t.properties.push(TableProperty::decode(&mut r)?);
        }
        Ok(t)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        out.u16(0);
        out.u8(self.table_id);
        out.u8(if version >= Version::V15 { self.command } else { 0 });
        out.u32(if version >= Version::V15 { OFPTFF_ALL } else { 0 });
        out.text(&self.name, NAME_LEN);
        out.u64(self.metadata_match);
        out.u64(self.metadata_write);
        out.u32(self.config);
        out.u32(self.max_entries);
        self.properties.iter().for_each(|p| p.encode(version, out));
        out.patch_u16(start, out.len() - start);
    }
}

/// Feature flags of OpenFlow 1.5: none that this switch has.
const OFPTFF_ALL: u32 = 0;

const KINDS: [FeatureKind; 8] = [
    FeatureKind::Instructions,
    FeatureKind::NextTables,
    FeatureKind::WriteActions,
    FeatureKind::ApplyActions,
    FeatureKind::Match,
    FeatureKind::Wildcards,
    FeatureKind::WriteSetfield,
    FeatureKind::ApplySetfield,
];

impl FeatureKind {
    fn lists_fields(self) -> bool {
        self as u16 >= FeatureKind::Match as u16
    }
}

impl TableProperty {
    fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let (number, length) = (r.u16()?, usize::from(r.u16()?));
        let padded = length.next_multiple_of(8).checked_sub(4).ok_or(ErrorCode::OFPBPC_BAD_LEN)?;
        let mut r = r.sub(padded)?.sub(length.checked_sub(4).ok_or(ErrorCode::OFPBPC_BAD_LEN)?)?;
        // Matching has no property for misses of its own.
        let split = number < FeatureKind::Match as u16 || number > FeatureKind::Wildcards as u16;
        let miss = split && number & 1 != 0;
        let base = if miss { number - 1 } else { number };
        let Some(kind) = KINDS.into_iter().find(|k| *k as u16 == base) else {
            return Ok(TableProperty::Other(number, r.rest().to_vec()));
        };
        if kind.lists_fields() {
            let mut list = Vec::new();
            while !r.is_empty() {
                let header = read_header(&mut r)?;
                list.extend(header.field().map(|f| (f, header.has_mask)));
            }
            return Ok(TableProperty::Fields { kind, miss, list });
        }
        let mut list = Vec::new();
        while !r.is_empty() {
            list.push(match kind {
                FeatureKind::NextTables => r.u8()?.into(),
                _ => {
                    let (number, length) = (r.u16()?, usize::from(r.u16()?));
                    r.skip(length.saturating_sub(4))?;
                    number
                }
            });
        }
        Ok(TableProperty::Numbers { kind, miss, list })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        let number = match self {
            TableProperty::Numbers { kind, miss, .. } | TableProperty::Fields { kind, miss, .. } => {
                *kind as u16 + u16::from(*miss)
            }
            TableProperty::Other(number, _) => *number,
        };
        out.u16(number);
        out.u16(0);
        match self {
            TableProperty::Numbers { kind: FeatureKind::NextTables, list, .. } => {
                list.iter().for_each(|t| out.u8(*t as u8));
            }
            // An action or instruction is given by its header only.
            TableProperty::Numbers { list, .. } => list.iter().for_each(|n| {
                out.u16(*n);
                out.u16(4);
            }),
            TableProperty::Fields { list, .. } => {
                for (field, mask) in list {
                    if let Some(point) = field.oxm(version.wire()) {
                        write_header(point, field.bytes(), *mask, out);
                    }
                }
            }
            TableProperty::Other(_, bytes) => out.bytes(bytes),
        }
        out.patch_u16(start + 2, out.len() - start);
        out.align8(start);
    }
}
