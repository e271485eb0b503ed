//! How is a flow table configured? What a miss does in it, eviction, vacancy events.

use super::prop::{PropertyKind, next_property, property};
use crate::bytes::{Put, Reader};
use crate::stats::table::TableDesc;
use crate::{ErrorCode, Version};

/// Bits of [`TableMod::config`] and [`TableDesc::config`].
pub mod table_config {
    /// A packet that no rule matches goes to the controller (OpenFlow 1.1 and 1.2; no bit of the mask set).
    pub const MISS_CONTROLLER: u32 = 0;
    /// It goes on to the next table (OpenFlow 1.1 and 1.2).
    pub const MISS_CONTINUE: u32 = 1;
    /// It is dropped (OpenFlow 1.1 and 1.2).
    pub const MISS_DROP: u32 = 2;
    /// The bits that say what becomes of it.
    pub const MISS_MASK: u32 = 3;
    /// Rules make room for others (OpenFlow 1.4).
    pub const EVICTION: u32 = 1 << 2;
    /// Tell when the table fills up or empties (OpenFlow 1.4).
    pub const VACANCY_EVENTS: u32 = 1 << 3;
}

/// Bits that say which rules are evicted first (OpenFlow 1.4).
pub mod eviction_flags {
    /// In another way.
    pub const OTHER: u32 = 1 << 0;
    /// Those of lower importance.
    pub const IMPORTANCE: u32 = 1 << 1;
    /// Those with less time left.
    pub const LIFETIME: u32 = 1 << 2;
}

/// When a table is said to be full or empty again: free places in percent (OpenFlow 1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vacancy {
    /// Fewer are an event.
    pub down: u8,
    /// More are an event.
    pub up: u8,
    /// How many there are, in answers only.
    pub now: u8,
}

/// `OFPT_TABLE_MOD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableMod {
    /// Table; `None`: all.
    pub table: Option<u8>,
    /// [`table_config`] bits.
    pub config: u32,
    /// [`eviction_flags`], if given.
    pub eviction: Option<u32>,
    /// When to tell, if given.
    pub vacancy: Option<Vacancy>,
}

const OFPTMPT_EVICTION: u16 = 2;
const OFPTMPT_VACANCY: u16 = 3;

/// Reads properties to the end.
pub(crate) fn decode_table_properties(
    r: &mut Reader<'_>,
) -> Result<(Option<u32>, Option<Vacancy>), ErrorCode> {
    let (mut eviction, mut vacancy) = (None, None);
    while !r.is_empty() {
        let mut p = next_property(r)?;
        match p.kind {
            PropertyKind::Standard(OFPTMPT_EVICTION) => eviction = Some(p.body.u32()?),
            PropertyKind::Standard(OFPTMPT_VACANCY) => {
                let v = Vacancy { down: p.body.u8()?, up: p.body.u8()?, now: p.body.u8()? };
                vacancy = Some(v);
            }
            other => return Err(other.unknown()),
        }
    }
    Ok((eviction, vacancy))
}

pub(crate) fn encode_table_properties(eviction: Option<u32>, vacancy: Option<Vacancy>, out: &mut Vec<u8>) {
    if let Some(flags) = eviction {
        property(out, OFPTMPT_EVICTION, |out| out.u32(flags));
    }
    if let Some(v) = vacancy {
        property(out, OFPTMPT_VACANCY, |out| out.bytes(&[v.down, v.up, v.now, 0]));
    }
}

impl TableMod {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let mut m = TableMod { table: super::flow::table(r.u8()?), ..TableMod::default() };
        r.skip(3)?;
        m.config = r.u32()?;
        let known = match version {
            Version::V10 | Version::V11 | Version::V12 => table_config::MISS_MASK,
            // OpenFlow 1.3 has no bits left that mean something; Open vSwitch takes the old ones and ignores them.
            Version::V13 => table_config::MISS_MASK,
            _ => table_config::MISS_MASK | table_config::EVICTION | table_config::VACANCY_EVENTS,
        };
        let miss = m.config & table_config::MISS_MASK == table_config::MISS_MASK;
        if m.config & !known != 0 || miss && version < Version::V13 {
            return Err(ErrorCode::OFPTMFC_BAD_CONFIG);
        }
        if version >= Version::V14 {
            (m.eviction, m.vacancy) = decode_table_properties(&mut r)?;
            let wrong = |v: Vacancy| v.now != 0 || v.down >= v.up || v.up > 100;
            if m.vacancy.is_some_and(wrong) {
                return Err(ErrorCode::OFPBPC_BAD_VALUE);
            }
        }
        Ok(m)
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.u8(self.table.unwrap_or(0xff));
        out.zeros(3);
        out.u32(self.config);
        if version >= Version::V14 {
            encode_table_properties(self.eviction, self.vacancy, out);
        }
    }
}

/// Why a [`TableStatus`] is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TableReason {
    /// Fewer places are free than the lower threshold.
    VacancyDown = 3,
    /// More places are free than the upper threshold.
    VacancyUp = 4,
}

/// `OFPT_TABLE_STATUS` (OpenFlow 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableStatus {
    /// What happened.
    pub reason: TableReason,
    /// The table as it is now.
    pub table: TableDesc,
}

impl TableStatus {
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let reason = match r.u8()? {
            3 => TableReason::VacancyDown,
            4 => TableReason::VacancyUp,
            _ => return Err(ErrorCode::OFPBPC_BAD_VALUE),
        };
        r.skip(7)?;
        Ok(TableStatus { reason, table: TableDesc::decode(&mut r)? })
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u8(self.reason as u8);
        out.zeros(7);
        self.table.encode(out);
    }
}
