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
    /// What a miss does (OpenFlow 1.1 and 1.2): 0 to the controller, 1 on to the next table, 2 dropped.
    pub config: u32,
    /// Rules in it.
    pub active: u32,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that a rule matched.
    pub matched: u64,
}

/// Every wildcard of OpenFlow 1.0.
const WILDCARDS10: u32 = (1 << 22) - 1;
/// Fields of OpenFlow 1.1 (`OFPFMF_*`): all but the type of service with its low bits.
const FIELDS11: u32 = 0xfbff;
/// Actions of OpenFlow 1.1 that rules may use, a bit per number: all but copying TTLs.
const ACTIONS11: u32 = 0x01ff_e7ff;
/// Actions of OpenFlow 1.2: output, copying TTLs, MPLS, VLAN, queue, group, TTLs, set-field.
const ACTIONS12: u32 = 0x03ff_9801;
/// Fields of OpenFlow 1.2: numbers 0 to 35 but the physical port.
const FIELDS12: u64 = ((1 << 36) - 1) & !(1 << 1);
/// Fields that rules may set: not those that say what a packet is.
const SET_FIELDS12: u64 = FIELDS12 & !(1 << 5 | 1 << 10);
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
                r.skip(20)?;
                t.config = r.u32()?;
                0
            }
            Version::V12 => {
                r.skip(7)?;
                t.name = r.text(NAME_LEN)?;
                r.skip(60)?;
                t.config = r.u32()?;
                0
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
                let lists = [FIELDS11, FIELDS11, INSTRUCTIONS, ACTIONS11, ACTIONS11, self.config];
                lists.into_iter().for_each(|n| out.u32(n));
            }
            Version::V12 => {
                out.zeros(7);
                out.text(&self.name, NAME_LEN);
                out.u64(FIELDS12);
                out.u64(FIELDS12);
                out.u32(ACTIONS12);
                out.u32(ACTIONS12);
                [SET_FIELDS12, SET_FIELDS12, u64::MAX, u64::MAX].into_iter().for_each(|n| out.u64(n));
                out.u32(INSTRUCTIONS);
                out.u32(self.config);
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
