//! How do controllers configure flow tables?

use std::collections::BTreeMap;

use weft_openflow::ErrorCode;
use weft_openflow::Version;
use weft_openflow::msg::table::{TableMod, Vacancy as WireVacancy, eviction_flags};
use weft_openflow::stats::table::TableDesc;
use weft_openflow::stats::table_features::TableFeatures;
use weft_pipeline::{ALL_TABLES, FlowModOutcome, Pipeline, TableMiss, TableSet, Vacancy};

use super::OpenFlow;
use super::changes::Done;
use crate::bridge::World;
use crate::wanted::FlowTable;

/// What a miss does (OpenFlow 1.1 and 1.2): two bits.
const MISS_MASK: u32 = 3;
/// Rules make room for others (OpenFlow 1.4).
const EVICTION: u32 = 1 << 2;
/// Controllers are told when a table fills up or empties (OpenFlow 1.4).
const VACANCY_EVENTS: u32 = 1 << 3;

/// Commands of a request for features (OpenFlow 1.5): the one that changes the tables it names, and the last.
const MODIFY: u8 = 1;
const LAST_COMMAND: u8 = 3;

impl OpenFlow {
    /// Has flow tables hold as many rules as the database says, and tells controllers of rules that go for it.
    pub(crate) fn configure_tables(&mut self, world: &World, pipeline: &Pipeline, now: u64) {
        let plain = FlowTable::default();
        for live in world.bridges.values() {
            let wanted = |number: u8| live.wanted.flow_tables.get(&number).unwrap_or(&plain);
            let different = |tables: &TableSet| {
                let all = 0..super::stats::TABLES;
                all.filter(|n| !wanted(*n).is_kept(tables.table_config(*n))).collect::<Vec<u8>>()
            };
            let numbers = pipeline.with_bridge(live.id, |b| different(&b.tables)).unwrap_or_default();
            if numbers.is_empty() {
                continue;
            }
            let outcome = pipeline.update(|snapshot| {
                let tables = snapshot.tables_mut(live.id).ok_or(())?;
                let mut outcome = FlowModOutcome::default();
                for number in numbers {
                    outcome.extend(tables.configure(number, |config| wanted(number).configure(config)));
                }
                Ok::<_, ()>(outcome)
            });
            if let Ok(outcome) = outcome {
                self.note_published();
                self.tell(&Done { bridge: live.id, outcome, by: None, message: None }, pipeline, now);
            }
        }
    }
}

/// Configures a table, or all.
///
/// # Errors
/// There is no such table.
pub(super) fn modify(
    tables: &mut TableSet,
    m: &TableMod,
    version: Version,
) -> Result<FlowModOutcome, ErrorCode> {
    let (table, config) = (m.table, m.config);
    let vacancy = m.vacancy.filter(|_| config & VACANCY_EVENTS != 0);
    match table {
        // The table that Open vSwitch keeps to itself.
        Some(super::stats::TABLES) => return Err(ErrorCode::OFPTMFC_EPERM),
        Some(table) if table > super::stats::TABLES => return Err(ErrorCode::OFPTMFC_BAD_TABLE),
        _ => {}
    }
    let miss = match config & MISS_MASK {
        0 => TableMiss::Controller,
        1 => TableMiss::Continue,
        _ => TableMiss::Drop,
    };
    Ok(tables.configure(table.unwrap_or(ALL_TABLES), |of| match version {
        Version::V11 | Version::V12 => of.miss = miss,
        Version::V14 | Version::V15 => {
            of.evict = config & EVICTION != 0;
            match vacancy {
                Some(v) => of.vacancy = Some(Vacancy { down: v.down, up: v.up }),
                None if config & VACANCY_EVENTS == 0 => of.vacancy = None,
                // They are wanted, and nothing new is said of when.
                None => {}
            }
        }
        Version::V10 | Version::V13 => {}
    }))
}

/// How many rules a table takes: what its row in `Flow_Table` says, or as many as any table.
pub(super) fn max_entries(tables: &TableSet, table: u8) -> u32 {
    u32::try_from(tables.table_config(table).max_rules).unwrap_or(u32::MAX)
}

/// Gives tables the names that a request for features has for them: nothing else of them can be changed, as on Open
/// vSwitch. OpenFlow 1.5 can change some of them; before, a request says what all tables are to be.
///
/// # Errors
/// It asks for anything else.
pub(super) fn rename(
    names: &mut BTreeMap<u8, String>,
    tables: &TableSet,
    list: &[TableFeatures],
    version: Version,
) -> Result<(), ErrorCode> {
    let mut new = names.clone();
    let replaces = |t: &TableFeatures| version < Version::V15 || t.command == 0;
    let some = list.len() < usize::from(super::stats::TABLES);
    for table in list {
        if version >= Version::V15 && table.command > LAST_COMMAND {
            return Err(ErrorCode::OFPTFFC_BAD_COMMAND);
        }
        let (missing, other) = (replaces(table) && some, !replaces(table) && table.command != MODIFY);
        let limits = table.max_entries != max_entries(tables, table.table_id);
        if missing || other || limits || table.table_id >= super::stats::TABLES {
            return Err(ErrorCode::OFPTFFC_EPERM);
        }
        if table.name.is_empty() {
            new.remove(&table.table_id);
        } else {
            new.insert(table.table_id, table.name.clone());
        }
    }
    *names = new;
    Ok(())
}

/// What a miss in a table does, as OpenFlow 1.1 and 1.2 number it.
pub(super) fn miss_bits(tables: &TableSet, table: u8) -> u32 {
    match tables.table_config(table).miss {
        TableMiss::Default | TableMiss::Controller => 0,
        TableMiss::Continue => 1,
        TableMiss::Drop => 2,
    }
}

/// A table, as an answer describes it.
pub(super) fn describe(tables: &TableSet, table_id: u8) -> TableDesc {
    let config = tables.table_config(table_id);
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    let bits = bit(config.evict, EVICTION) | bit(config.vacancy.is_some(), VACANCY_EVENTS);
    let now = tables.vacancy(table_id);
    TableDesc {
        table_id,
        config: bits,
        eviction: Some(eviction_flags::OTHER | eviction_flags::IMPORTANCE | eviction_flags::LIFETIME),
        vacancy: config.vacancy.map(|v| WireVacancy { down: v.down, up: v.up, now }),
    }
}
