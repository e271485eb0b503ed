//! How full are the flow tables, and how are they configured?

use crate::bytes::{Put, Reader};
use crate::msg::table::{Vacancy, decode_table_properties, encode_table_properties};
use crate::{ErrorCode, Version};

const NAME_LEN: usize = 32;

/// Counts of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Table.
    pub table_id: u8,
    /// Name, at most 31 bytes (up to OpenFlow 1.2).
    pub name: String,
    /// Most rules it takes (up to OpenFlow 1.2).
    pub max_entries: u32,
    /// Rules in it.
    pub active: u32,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that a rule matched.
    pub matched: u64,
}

/// Every wildcard of OpenFlow 1.0.
const WILDCARDS10: u32 = (1 << 22) - 1;
/// Every field, action and wildcard of the fixed structure of OpenFlow 1.1.
const FIELDS11: u32 = 0x3ff;
/// Actions of OpenFlow 1.1 and 1.2 that rules may use, a bit per number.
const ACTIONS: u32 = 0x03ff_ffff;
/// Fields of OpenFlow 1.2: numbers 0 to 35.
const FIELDS12: u64 = (1 << 36) - 1;
/// Instructions: goto, metadata, write, apply, clear.
const INSTRUCTIONS: u32 = 0b11_1110;

impl TableStats {
    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut t = TableStats { table_id: r.u8()?, ..TableStats::default() };
        let before_counts = match version {
            Version::V10 => {
                r.skip(3)?;
                t.name = r.text(NAME_LEN)?;
                4
            }
            Version::V11 => {
                r.skip(7)?;
                t.name = r.text(NAME_LEN)?;
                24
            }
            Version::V12 => {
                r.skip(7)?;
                t.name = r.text(NAME_LEN)?;
                64
            }
            _ => 3,
        };
        r.skip(before_counts)?;
        if version < Version::V13 {
            t.max_entries = r.u32()?;
        }
        (t.active, t.lookups, t.matched) = (r.u32()?, r.u64()?, r.u64()?);
        Ok(t)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.u8(self.table_id);
        match version {
            Version::V10 => {
                out.zeros(3);
                out.text(&self.name, NAME_LEN);
                out.u32(WILDCARDS10);
            }
            Version::V11 => {
                out.zeros(7);
                out.text(&self.name, NAME_LEN);
                [FIELDS11, FIELDS11, INSTRUCTIONS, ACTIONS, ACTIONS, 0].into_iter().for_each(|n| out.u32(n));
            }
            Version::V12 => {
                out.zeros(7);
                out.text(&self.name, NAME_LEN);
                out.u64(FIELDS12);
                out.u64(FIELDS12);
                out.u32(ACTIONS);
                out.u32(ACTIONS);
                [FIELDS12, FIELDS12, u64::MAX, u64::MAX].into_iter().for_each(|n| out.u64(n));
                out.u32(INSTRUCTIONS);
                out.u32(0);
            }
            _ => out.zeros(3),
        }
        if version < Version::V13 {
            out.u32(self.max_entries);
        }
        out.u32(self.active);
        out.u64(self.lookups);
        out.u64(self.matched);
    }
}

/// How a table is configured (OpenFlow 1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableDesc {
    /// Table.
    pub table_id: u8,
    /// [`table_config`](crate::msg::table::table_config) bits.
    pub config: u32,
    /// [`eviction_flags`](crate::msg::table::eviction_flags), if they are told.
    pub eviction: Option<u32>,
    /// When vacancy events are sent, if it is told.
    pub vacancy: Option<Vacancy>,
}

impl TableDesc {
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut r = super::entry(r)?;
        let table_id = r.u8()?;
        r.skip(1)?;
        let config = r.u32()?;
        let (eviction, vacancy) = decode_table_properties(&mut r)?;
        Ok(TableDesc { table_id, config, eviction, vacancy })
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.u16(0);
        out.u8(self.table_id);
        out.u8(0);
        out.u32(self.config);
        encode_table_properties(self.eviction, self.vacancy, out);
        out.patch_u16(start, out.len() - start);
    }
}
