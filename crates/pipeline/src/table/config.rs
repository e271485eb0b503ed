//! How is a table configured, and what do controllers learn of how full it is?

use std::sync::Arc;

use weft_flow::Subfield;

use super::flow_mod::FlowModOutcome;
use super::{ALL_TABLES, TABLES, TableSet};

/// Most rules that a table holds, unless it is configured to hold fewer.
pub const MAX_RULES: usize = 1 << 24;

/// What happens to packets that no rule of a table matches (`OFPTC11_TABLE_MISS_*`, OpenFlow 1.1 and 1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableMiss {
    /// What the bridge does with misses.
    #[default]
    Default,
    /// To the controllers.
    Controller,
    /// On to the next table; in the last table as [`TableMiss::Controller`].
    Continue,
    /// Dropped.
    Drop,
}

/// Limits of vacancy, in percent of a table's limit that is free (OpenFlow 1.4 §7.3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vacancy {
    /// Tell when less than this is free.
    pub down: u8,
    /// Tell when, after that, more than this is free.
    pub up: u8,
}

/// Configuration of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// Misses.
    pub miss: TableMiss,
    /// Most rules.
    pub max_rules: usize,
    /// A full table gives up a rule: asked for by a controller (`OFPTC_EVICTION`).
    pub evict: bool,
    /// The same, asked for by the configuration (`overflow_policy=evict`).
    pub overflow_evict: bool,
    /// Rules that agree in these fields are a group: the largest one gives up a rule.
    pub groups: Vec<Subfield>,
    /// Tell controllers of vacancy.
    pub vacancy: Option<Vacancy>,
}

impl Default for TableConfig {
    fn default() -> Self {
        TableConfig {
            miss: TableMiss::Default,
            max_rules: MAX_RULES,
            evict: false,
            overflow_evict: false,
            groups: Vec::new(),
            vacancy: None,
        }
    }
}

impl TableConfig {
    /// Whether a full table gives up a rule for a new one.
    pub(super) fn evicts(&self) -> bool {
        self.evict || self.overflow_evict
    }
}

/// Something to tell controllers of a table (`OFPT_TABLE_STATUS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEvent {
    /// Table.
    pub table: u8,
    /// `OFPTR_VACANCY_DOWN` rather than `OFPTR_VACANCY_UP`.
    pub down: bool,
    /// Percent that is free.
    pub vacancy: u8,
}

impl TableSet {
    /// Configuration of a table.
    pub fn table_config(&self, table: u8) -> &TableConfig {
        self.table(table).map_or(&self.config, |t| &t.config)
    }

    /// What happens to packets that no rule of a table matches.
    pub fn miss(&self, table: u8) -> TableMiss {
        self.table_config(table).miss
    }

    /// Percent of a table's limit that is free.
    pub fn vacancy(&self, table: u8) -> u8 {
        let (max, len) = (self.table_config(table).max_rules, self.len_of(table));
        let free = max.saturating_sub(len);
        free.saturating_mul(100).checked_div(max).unwrap_or(0).min(100) as u8
    }

    /// Changes the configuration of a table, or of [`ALL_TABLES`]. A table that then holds more than it may gives up
    /// rules, as far as it may evict them.
    pub fn configure(&mut self, table: u8, change: impl Fn(&mut TableConfig)) -> FlowModOutcome {
        let mut outcome = FlowModOutcome::default();
        if table == ALL_TABLES {
            // Tables that are not there miss, too.
            self.changed = super::everything();
            change(Arc::make_mut(&mut self.config));
        }
        for number in 0..TABLES {
            let wanted = table == number || table == ALL_TABLES && self.table(number).is_some();
            if !wanted {
                continue;
            }
            let old = self.table_config(number).clone();
            let mut config = old.clone();
            change(&mut config);
            if config == old {
                continue;
            }
            if config.miss != old.miss {
                self.changed = super::everything();
            }
            let table = self.table_mut(number);
            if !config.evicts() || config.groups != old.groups {
                table.evictable = None;
            }
            table.config = Arc::new(config);
            while self.len_of(number) > self.table_config(number).max_rules
                && self.table_config(number).evicts()
            {
                let Some(victim) = self.victim(number) else { break };
                outcome.extend(self.evict(victim));
            }
            self.note_vacancy(number, &mut outcome);
        }
        outcome
    }

    /// Most rules each table may hold.
    pub fn set_limit(&mut self, rules: usize) {
        self.configure(ALL_TABLES, |config| config.max_rules = rules);
    }

    /// Notes an event when a table's vacancy has passed a threshold.
    pub(super) fn note_vacancy(&mut self, table: u8, outcome: &mut FlowModOutcome) {
        let Some(Vacancy { down, up }) = self.table_config(table).vacancy else { return };
        let vacancy = self.vacancy(table);
        let is_down = self.table(table).is_some_and(|t| t.vacancy_down);
        let now_down = if is_down { vacancy <= up } else { vacancy < down };
        if now_down != is_down {
            self.table_mut(table).vacancy_down = now_down;
            outcome.events.push(TableEvent { table, down: now_down, vacancy });
        }
    }
}
